"""Launch and parameter files: what they name exists; where launch is installed, they are run for real."""

from __future__ import annotations

import ast
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from robot_rl.hardware.node_settings import NodeSettings
from robot_rl.hardware.parameters import settings_of, with_values

ROOT = Path(__file__).parents[2]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
CALLS = {
    path.name: [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)] for path in LAUNCH_FILES
}


def _calls(name: str, function: str) -> list[ast.Call]:
    return [c for c in CALLS[name] if isinstance(c.func, ast.Name) and c.func.id == function]


def _keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in call.keywords if k.arg}


def _text(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant)
    return str(node.value)


def test_there_are_launch_files_for_simulation_and_robot():
    assert {p.name for p in LAUNCH_FILES} == {"robot.launch.py", "simulation.launch.py"}


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_is_described(name):
    arguments = _calls(name, "DeclareLaunchArgument")
    assert arguments
    for call in arguments:
        assert len(_text(_keywords(call)["description"])) > 5, _text(call.args[0])


def test_the_robots_launch_file_has_the_documented_arguments():
    declared = {_text(c.args[0]) for c in _calls("robot.launch.py", "DeclareLaunchArgument")}
    assert declared >= {"driver", "policy", "params_file", "use_sim_time", "autostart", "log_level", "namespace"}


@pytest.mark.parametrize("name", CALLS)
def test_every_executable_and_package_exists(name):
    scripts = {e.name for e in entry_points(group="console_scripts")}
    nodes = _calls(name, "LifecycleNode")
    assert nodes or name == "simulation.launch.py"
    for call in nodes:
        words = _keywords(call)
        assert _text(words["package"]) == "robot_rl"
        assert _text(words["executable"]) in scripts


@pytest.mark.parametrize("name", CALLS)
def test_every_file_in_the_share_folder_exists(name):
    paths = _calls(name, "PathJoinSubstitution")
    assert paths
    for call in paths:
        (parts,) = call.args
        assert isinstance(parts, ast.List)
        assert isinstance(parts.elts[0], ast.Call)  # FindPackageShare
        assert _text(parts.elts[0].args[0]) == "robot_rl"
        assert ROOT.joinpath(*(_text(p) for p in parts.elts[1:])).is_file()


@pytest.mark.parametrize("name", CALLS)
def test_no_launch_file_is_for_one_kind_of_robot_only(name):
    text = (ROOT / "launch" / name).read_text().lower()
    assert not [w for w in ("crazyflie", "quadrotor", "flight", "fly", "land", "leg", "walk") if f" {w}" in text]


def test_every_parameter_a_launch_file_sets_is_declared_by_the_node():
    known = {s.name for s in settings_of(NodeSettings)} | {"use_sim_time"}
    tables = [n for c in _calls("robot.launch.py", "LifecycleNode") for n in ast.walk(c) if isinstance(n, ast.Dict)]
    names = {_text(key) for table in tables for key in table.keys if key is not None}
    assert {"policy", "driver"} <= names <= known


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("robot_node*.yaml")), ids=lambda p: p.name)
def test_a_parameter_file_holds_legal_values_of_the_right_type(path):
    (parameters,) = (v["ros__parameters"] for v in yaml.safe_load(path.read_text()).values())
    flat = _flat(parameters)
    assert flat
    defaults = {s.name: s.default for s in settings_of(NodeSettings)}
    with_values(NodeSettings(), flat)
    for name, value in flat.items():
        # rclpy tells 1 from 1.0 and refuses the wrong one.
        kinds = {type(v) for v in value} if isinstance(value, list) else {type(value)}
        wanted = defaults[name][0] if isinstance(defaults[name], tuple) else defaults[name]
        assert kinds == {type(wanted)}, name


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None or not os.environ.get("AMENT_PREFIX_PATH"),
    reason="launch_ros is not installed (not on PyPI; it comes with ROS 2), or the workspace is not sourced",
)
def test_the_simulation_launches_activates_and_ends_with_its_node(pd_policy):
    code = (
        "import sys\nfrom launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "service = LaunchService()\n"
        "source = PythonLaunchDescriptionSource(sys.argv[1])\n"
        "include = IncludeLaunchDescription(source, launch_arguments=[('policy', sys.argv[2])])\n"
        "service.include_launch_description(LaunchDescription([include]))\nsys.exit(service.run())\n"
    )
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    command = [sys.executable, "-c", code, str(ROOT / "launch" / "simulation.launch.py"), str(pd_policy)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        lines, deadline = [], time.monotonic() + 60.0
        for line in run.stdout:
            lines.append(line)
            if "golden vectors are reproduced" in line:
                time.sleep(2.0)
                run.send_signal(signal.SIGINT)
            assert time.monotonic() < deadline
        assert run.wait(30.0) == 0
    text = "".join(lines)
    assert "golden vectors are reproduced" in text
    assert "process has finished cleanly" in text
