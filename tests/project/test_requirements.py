"""What is asked of pip: a small core, everything pinned, and metadata files that agree with each other."""

from __future__ import annotations

import ast
import configparser
import re
import xml.etree.ElementTree as ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_tree import ROOT, files, module_name, python_files, tree

import robot_rl

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = {name: text.split() for name, text in SETUP["options.extras_require"].items()}
CORE = SETUP["options"]["install_requires"].split()
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]


def requirement_names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def console_scripts() -> dict[str, str]:
    lines = SETUP["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}


def test_the_extras_are_those_of_the_documentation() -> None:
    assert set(EXTRAS) == {"sim", "gpu", "train", "view", "data", "ros", "hardware", "dev", "peers"}


@pytest.mark.parametrize("extra", ["", "ros", "hardware"])
def test_a_robot_computer_installs_no_training_stack(extra: str) -> None:
    wanted = requirement_names(EXTRAS[extra] if extra else CORE)
    assert not wanted & {"torch", "mujoco", "gymnasium", "stable-baselines3", "robot-rl", "onnxscript"}


def test_everything_that_is_asked_for_is_pinned() -> None:
    pinned = requirement_names(PINS)
    wanted = requirement_names(CORE + [line for extra in EXTRAS.values() for line in extra]) - {"robot-rl"}
    assert not wanted - pinned


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_a_pin_is_one_exact_version_for_each_python(version: str) -> None:
    seen: dict[str, str] = {}
    for line in PINS:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"python_version": version}):
            continue
        name = canonicalize_name(requirement.name)
        assert name not in seen, f"{name} is pinned twice for Python {version}"
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier)), line
        seen[name] = str(requirement.specifier)
    assert requirement_names(CORE) <= set(seen)


def test_no_pin_names_a_place() -> None:
    """No address of a registry, no local path, no hash: the same file serves every mirror."""
    assert not re.search(r"https?:|file:|@|--|/", "\n".join(PINS))


def test_package_xml_agrees_with_the_package() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("name") == "robot_rl"
    assert package.findtext("version") == robot_rl.__version__
    assert package.findtext("license") == SETUP["metadata"]["license"] == "Apache-2.0"
    assert package.findtext("description") == SETUP["metadata"]["description"] == robot_rl.__doc__
    assert package.findtext("export/build_type") == "ament_python"


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    from test_layers import ROS, imports

    declared = {e.text for e in ElementTree.parse(ROOT / "package.xml").getroot().iter("exec_depend")}
    used = {i.target.split(".")[0] for p in python_files("hardware") for i in imports(p)} & ROS
    assert not used - declared
    wheels = {name.removeprefix("ros-kilted-").replace("-", "_") for name in requirement_names(EXTRAS["ros"])}
    assert not used - wheels - {"builtin_interfaces", "rcl_interfaces", "ament_index_python"}  # come with rclpy


@pytest.mark.parametrize(("name", "target"), console_scripts().items())
def test_an_executable_has_a_function_behind_it(name: str, target: str) -> None:
    module, function = target.split(":")
    paths = [p for p in python_files() if module_name(p) == module]
    assert paths, f"{name}: there is no {module}"
    assert function in {node.name for node in tree(paths[0]).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("folder", ["launch", "config"])
def test_launch_and_config_are_data(folder: str) -> None:
    """No package (one named launch would hide ROS 2's own), only launch files and YAML, and setup.cfg installs each."""
    found = [p for p in files() if p.parts[0] == folder]
    assert found, f"{folder}/ is empty"
    assert not [p for p in found if p.name == "__init__.py"]
    patterns = [line for text in SETUP["options.data_files"].values() for line in text.replace(",", "\n").split()]
    missed = [p.as_posix() for p in found if not any(p.match(pattern) for pattern in patterns)]
    assert not missed, f"not installed by setup.cfg: {missed}"


def test_a_launch_file_names_only_what_exists() -> None:
    """Checked without ROS: each executable is installed, each file that is looked up in share/robot_rl is there."""
    launch_files = [p for p in files() if p.name.endswith(".launch.py")]
    assert launch_files
    known = {p.name for p in files() if p.parts[0] in {"launch", "config"}}
    for path in launch_files:
        strings = [n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.keyword) and n.arg == "executable"]
        executables = {c.value.value for c in calls if isinstance(c.value, ast.Constant)}
        assert executables <= set(console_scripts()), f"{path}: {executables - set(console_scripts())}"
        named = {s.rsplit("/", 1)[-1] for s in strings if re.fullmatch(r"[\w./-]+\.(yaml|launch\.py)", s)}
        assert named <= known, f"{path}: {named - known} not in launch/ or config/"
