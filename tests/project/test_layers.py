"""Who may import whom (docs/architecture.md, "Who may import whom"): read from the syntax trees, nothing is run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from source_tree import LINKED, PACKAGES, module_name, python_files, tree

ROS = {
    "rclpy", "ament_index_python", "builtin_interfaces", "rcl_interfaces", "diagnostic_msgs", "geometry_msgs",
    "lifecycle_msgs", "nav_msgs", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
    "visualization_msgs",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What a folder may import: `always` anywhere, `inside` only within functions, `folders` of robot_rl."""

    always: set[str]
    inside: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


CORE = Layer(always={"numpy"}, inside={"onnx", "onnxruntime", "google", "jsonschema", "yaml"})
LAYERS = {
    "robot_rl": CORE,
    "sim": Layer(
        always={"numpy", "torch", "gymnasium"},
        inside={"mujoco", "warp", "stable_baselines3", "matplotlib", "cv2", "imageio_ffmpeg"},
    ),
    "policies": Layer(
        always={"numpy", "torch", "onnx", "rich"},
        inside={"onnxscript", "stable_baselines3", "gymnasium", "scipy", "yaml", "tensorboard"},
    ),
    "hardware": Layer(always={"numpy"}, inside={"yaml"}),
    "firmware_export": Layer(
        always={"numpy", "onnx", "google"}, inside={"onnxruntime", "unicorn"}
    ),  # google.protobuf reads onnx
}
# Base classes of observers are torch modules; the file is in the core so that sim and policies share them.
# The command line and the evaluation of policy files bring the folders together, always within functions.
COMPOSING = Layer(
    always={"numpy"},
    inside={"torch", "rich", "matplotlib", "imageio", "imageio_ffmpeg", "cv2", "yaml", "onnx", "onnxruntime", "viser"},
    folders=set(LINKED),
)
EXCEPTIONS: dict[str, Layer] = {
    # Tells a Gymnasium that is already loaded which tasks there are.
    "robot_rl": Layer(always={"numpy"}, folders={"sim"}),
    "robot_rl.observer": Layer(always={"numpy", "torch"}),
    # A face for one library, imported by whoever asks for that library.
    "robot_rl.policies.sb3_vec_env": Layer(always={"numpy", "torch", "gymnasium", "stable_baselines3"}),
    "robot_rl.policies.rsl_rl_env": Layer(always={"torch", "rsl_rl", "tensordict"}),
    "robot_rl.policies.skrl_env": Layer(always={"numpy", "torch", "gymnasium", "skrl"}),
    # Contact simulators: each backend is loaded only by its name, with the library it stands for.
    **{
        f"robot_rl.sim.physics.{name}": Layer(always={"numpy", "torch", "mujoco", *libraries})
        for name, libraries in {
            "mujoco": (),
            "warp": ("mujoco_warp", "warp"),
            "_warp_kernels": ("warp",),
            "pybullet": ("pybullet", "pybullet_utils"),
            "_bullet_build": (),
            "_bullet_sensors": (),
            "_bullet_surfaces": ("scipy",),
            "_bullet_world": (),
        }.items()
    },
    # Suites of other projects: each imported for a task that is asked for by its name, in the worker's interpreter.
    "robot_rl.sim.foreign.worker.suites": Layer(always={"numpy"}, inside={"gymnasium", "metaworld", "robosuite"}),
    "robot_rl.sim.foreign.worker.pool": Layer(always={"numpy"}, inside={"envpool"}),
    # The simulated robot is a driver like any other: it may reach into its "vendor library", which is sim, on connect.
    "robot_rl.hardware.drivers.sim": Layer(always={"numpy"}, folders={"sim"}),
}


@dataclass(frozen=True)
class Import:
    """One imported name: `robot_rl.sim.env`, where it stands, and how."""

    target: str
    line: int
    inside_function: bool
    typing_only: bool


def imports(path: Path) -> list[Import]:
    return list(_visit(tree(path), module_name(path), path.name == "__init__.py", False, False))


def _visit(node: ast.AST, module: str, is_package: bool, inside: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(a.name, child.lineno, inside, typing) for a in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module, is_package)
            yield from (Import(f"{base}.{a.name}", child.lineno, inside, typing) for a in child.names)
        elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(("import_module", "__import__")):
            if child.args and isinstance(child.args[0], ast.Constant):
                yield Import(str(child.args[0].value), child.lineno, inside, typing)
            yield from _visit(child, module, is_package, inside, typing)
        else:
            in_function = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            yield from _visit(child, module, is_package, in_function, for_types)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    up = node.level - 1 if is_package else node.level
    parts = module.split(".")
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def folder_of(target: str) -> str:
    """`robot_rl.sim.env` → `sim`; anything directly in robot_rl → `robot_rl`."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LINKED else "robot_rl"


def is_ros_shell(path: Path) -> bool:
    """The few files of hardware/ that may speak ROS; logic lives in plain classes beside them."""
    return path.parts[0] == "hardware" and (
        path.stem.endswith("_node") or path.stem.startswith("ros_") or path.stem == "mission"
    )


def composes(module: str) -> bool:
    return module.startswith(("robot_rl.cli", "robot_rl.commands", "robot_rl.evaluation"))


def violations(path: Path) -> list[str]:
    module, folder = module_name(path), path.parts[0]
    layer = COMPOSING if composes(module) else EXCEPTIONS.get(module, LAYERS[folder])
    wrong = []
    for found in imports(path):
        top = found.target.split(".")[0]
        if top == "robot_rl":
            allowed = folder_of(found.target) in {"robot_rl", folder, *layer.folders}
            lazily = folder_of(found.target) in {"robot_rl", folder} or found.inside_function or found.typing_only
            bad = not (allowed and lazily)
        elif top in sys.stdlib_module_names or found.typing_only or top in layer.always:
            bad = False
        elif top in ROS:
            bad = not (is_ros_shell(path) or (composes(module) and found.inside_function))
        else:
            bad = not (top in layer.inside and found.inside_function)
        if bad:
            where = "inside a function" if found.inside_function else "at import time"
            wrong.append(f"{path}:{found.line} imports {found.target} {where}")
    return wrong


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_folder_imports_only_what_its_layer_may(folder: str) -> None:
    paths = python_files(folder)
    assert paths, f"no Python files in {folder}/"
    assert not (wrong := [line for p in paths for line in violations(p)]), "\n".join(wrong)


def test_nothing_imports_a_folder_by_its_bare_name() -> None:
    """`import sim` would work from the repository's root and nowhere else."""
    bare = {*LINKED, "config", "tests", "benchmarks"}
    wrong = [f"{p}:{i.line} {i.target}" for p in python_files() for i in imports(p) if i.target.split(".")[0] in bare]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("path", "line", "wrong"),
    [
        ("sim/probe.py", "import robot_rl.policies.networks", True),
        ("sim/probe.py", "from robot_rl import policies", True),
        ("sim/probe.py", "def f():\n    from robot_rl.policies import networks", True),
        ("sim/probe.py", "from ..policies import networks", True),
        ("sim/probe.py", "from .quadrotor import params", False),
        ("policies/probe.py", "import importlib\nimportlib.import_module('robot_rl.sim.env')", True),
        ("hardware/probe.py", "def f():\n    import torch", True),
        ("hardware/probe.py", "import rclpy", True),
        ("hardware/probe_node.py", "import rclpy", False),
        ("hardware/drivers/sim.py", "from robot_rl.sim.quadrotor import numpy_sim", True),
        ("hardware/drivers/sim.py", "def f():\n    from robot_rl.sim.quadrotor import numpy_sim", False),
        ("policies/probe.py", "if TYPE_CHECKING:\n    from robot_rl.sim import env", True),
        ("firmware_export/probe.py", "from robot_rl.errors import ExportError\nimport onnx", False),
        ("robot_rl/probe.py", "import onnxruntime", True),
        ("robot_rl/probe.py", "def f():\n    import onnxruntime", False),
    ],
)
def test_the_check_itself_sees_what_it_must(path: str, line: str, wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda _: ast.parse(line))
    assert bool(violations(Path(path))) is wrong
