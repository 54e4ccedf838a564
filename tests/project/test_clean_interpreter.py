"""What an import pulls in, seen from a fresh interpreter: a robot computer has neither torch nor a simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT, module_name, package_modules, python_files
from test_layers import is_ros_shell

HEAVY = {"torch", "mujoco", "rclpy", "gymnasium", "scipy", "matplotlib", "stable_baselines3", "cv2"}
# Makes `import torch` fail as it does where torch is not installed.
WITHOUT_TORCH = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "mujoco", "gymnasium", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_clean(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, away from the repository."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


def modules_after(code: str, cwd: Path) -> set[str]:
    """Top-level modules that are loaded once `code` has run."""
    ended = run_clean(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))", cwd)
    assert ended.returncode == 0, ended.stderr
    return {name.split(".")[0] for name in json.loads(ended.stdout.splitlines()[-1])}


def plain_modules(folder: str) -> list[str]:
    """Modules of a folder without the ROS shells, and without the one torch module of the core."""
    names = [module_name(p) for p in python_files(folder) if not is_ros_shell(p)]
    return [name for name in names if name != "robot_rl.observer"]


@pytest.mark.parametrize("folder", ["robot_rl", "hardware", "firmware_export"])
def test_importing_a_deployment_folder_loads_nothing_heavy(folder: str, tmp_path: Path) -> None:
    loaded = modules_after("\n".join(f"import {name}" for name in plain_modules(folder)), tmp_path)
    assert "robot_rl" in loaded
    assert not loaded & HEAVY


def test_the_core_loads_without_any_onnx_library(tmp_path: Path) -> None:
    loaded = modules_after("\n".join(f"import {name}" for name in plain_modules("robot_rl")), tmp_path)
    assert not loaded & {"onnx", "onnxruntime", "jsonschema", "yaml"}


def test_the_simulated_robot_works_without_torch(tmp_path: Path) -> None:
    """Connect the driver `sim`, read it and command it where torch, SciPy and Gymnasium cannot be imported."""
    code = f"""{WITHOUT_TORCH}
import numpy as np
from robot_rl import registry
driver = registry.load("driver", "sim")
driver = driver() if isinstance(driver, type) else driver
driver.connect()
try:
    reading = driver.read()
    assert {{s.name for s in driver.signals}} <= set(reading.signals) | {{"time_step"}}, sorted(reading.signals)
    assert all(np.isfinite(v).all() for v in reading.signals.values())
    sent = driver.write({{c.name: np.asarray(c.idle, np.float32) for c in driver.commands}})
    assert set(sent) == {{c.name for c in driver.commands}}
finally:
    driver.stop()
"""
    ended = run_clean(code, tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_gymnasium_finds_a_task_by_module_and_name(tmp_path: Path) -> None:
    """Gymnasium 1.0 dropped its entry point group; the module before the colon is what it imports instead."""
    code = """
import gymnasium
env = gymnasium.make("robot_rl.sim.gym_env:robot_rl/QuadrotorHover-v0")
obs, _ = env.reset(seed=0)
assert env.observation_space.contains(obs)
"""
    ended = run_clean(code, tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_help_is_light(tmp_path: Path) -> None:
    code = """
import sys
from robot_rl.cli import main
sys.argv = ["robot-rl", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
    loaded = modules_after(code, tmp_path)
    assert not loaded & (HEAVY | {"onnx", "onnxruntime", "numpy"})


def test_listing_imports_nothing_that_it_lists(tmp_path: Path) -> None:
    code = "from robot_rl import registry\nassert all(registry.names(kind) for kind in registry.KINDS)"
    assert not modules_after(code, tmp_path) & HEAVY


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    """No module depends on another having been imported before it, and none is dead."""
    names = [n for n in package_modules("robot_rl", "sim", "policies", "firmware_export", "hardware")]
    code = f"""
import importlib, sys, traceback
failed = False
for name in {names!r}:
    try:
        importlib.import_module(name)
    except Exception:
        failed = True
        traceback.print_exc()
sys.exit(failed)
"""
    ended = run_clean(code, tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_the_checkout_is_what_is_tested(tmp_path: Path) -> None:
    ended = run_clean("import robot_rl; print(robot_rl.__file__)", tmp_path)
    assert Path(ended.stdout.strip()).resolve() == ROOT / "robot_rl" / "__init__.py"
