"""The four ways to install, done for real: pip, pip editable, colcon, colcon with symbolic links."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from source_tree import PACKAGES, ROOT, files

BIN = Path(sys.executable).parent
EXECUTABLES = ("robot-rl", "robot_node", "mission")
SCRIPT_SEES = "import robot_rl, robot_rl.sim, robot_rl.policies, robot_rl.hardware, robot_rl.firmware_export"


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Run to the end; the test fails with the whole output when the command does."""
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH"}}
    ended = subprocess.run(
        command, cwd=cwd, env={**clean, "PYTHONDONTWRITEBYTECODE": "1", **environment}, capture_output=True, text=True
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def packaged() -> set[str]:
    """Files that must come along, as seen below the package: `sim/robots/crazyflie.py`, `contract.schema.json`, …"""
    found = [p for p in files() if p.parts[0] in PACKAGES and p.suffix != ".md"]
    return {"/".join(p.parts[1:] if p.parts[0] == "robot_rl" else p.parts) for p in found}


def shared() -> set[str]:
    """Files that must lie in share/robot_rl."""
    data = [p for p in files() if p.parts[0] in {"launch", "config"} and p.suffix in {".py", ".yaml", ".rviz"}]
    return {"package.xml", *(p.as_posix() for p in data)}


def below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def copied(workspace: Path) -> Path:
    """A copy of what git would hand out, symbolic links and all, so that nothing is built in the checkout."""
    folder = workspace / "robot_rl"
    for path in files():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    for name in PACKAGES[1:]:
        (folder / "robot_rl" / name).symlink_to(Path("..") / name)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copied(tmp_path / "source")


@pytest.fixture(scope="module")
def colcon(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The workspace that `colcon build` has built from a copy, with symbolic links or without; built once."""

    @functools.cache
    def build(links: bool) -> Path:
        workspace = tmp_path_factory.mktemp("colcon")
        copied(workspace)
        run([str(BIN / "colcon"), "--log-base", "log", "build", *(["--symlink-install"] if links else [])], workspace)
        return workspace

    return build


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A new environment that holds setuptools and numpy (linked from this one) and no robot_rl."""
    environment = tmp_path / "fresh"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], tmp_path)
    site = next(environment.glob("lib/python*/site-packages"))
    installed = Path(sysconfig.get_paths()["purelib"])
    for pattern in ("setuptools*", "_distutils_hack", "pkg_resources", "wheel*", "numpy*"):
        for found in installed.glob(pattern):
            (site / found.name).symlink_to(found)
    return environment


def pip_install(environment: Path, source: Path, *arguments: str) -> None:
    python = str(environment / "bin" / "python")
    flags = ["--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *flags, *arguments], source)


def test_the_links_are_committed_as_relative_links() -> None:
    for name in PACKAGES[1:]:
        assert os.readlink(ROOT / "robot_rl" / name) == f"../{name}"


def test_pip_install(source: Path, fresh: Path, tmp_path: Path) -> None:
    pip_install(fresh, source, ".")
    shutil.rmtree(source)  # what is installed must not lean on what it was installed from
    site = next(fresh.glob("lib/python*/site-packages"))
    assert sorted(packaged() - below(site / "robot_rl")) == []
    assert sorted(shared() - below(fresh / "share" / "robot_rl")) == []
    assert (fresh / "share/ament_index/resource_index/packages/robot_rl").exists()
    assert all((fresh / "bin" / name).exists() for name in EXECUTABLES)
    run([str(fresh / "bin" / "python"), "-c", SCRIPT_SEES], tmp_path)
    assert not (site / "sim").exists() and not (site / "tests").exists()


def test_pip_install_editable(source: Path, fresh: Path, tmp_path: Path) -> None:
    pip_install(fresh, source, "-e", ".")
    seen = run([str(fresh / "bin" / "python"), "-c", f"{SCRIPT_SEES}; print(robot_rl.sim.__file__)"], tmp_path)
    assert Path(seen.strip()).resolve() == (source / "sim" / "__init__.py").resolve()
    assert all((fresh / "bin" / name).exists() for name in EXECUTABLES)


@pytest.mark.parametrize("links", [False, True], ids=["copy", "symlink-install"])
def test_colcon_build(links: bool, colcon: Callable[[bool], Path], tmp_path: Path) -> None:
    workspace = colcon(links)
    prefix = workspace / "install" / "robot_rl"
    assert sorted(shared() - below(prefix / "share" / "robot_rl")) == []
    assert (prefix / "share/ament_index/resource_index/packages/robot_rl").exists()
    assert all(os.access(prefix / "lib" / "robot_rl" / name, os.X_OK) for name in EXECUTABLES)
    where = f"{SCRIPT_SEES}; import pathlib; print(pathlib.Path(robot_rl.__file__).parent)"
    shell = f"source install/setup.bash && cd '{tmp_path}' && '{sys.executable}' -c '{where}'"
    package = Path(run(["bash", "-c", shell], workspace).strip())
    if links:
        assert package.resolve() == (workspace / "robot_rl" / "robot_rl").resolve()
    else:
        assert workspace / "install" in package.parents
        assert sorted(packaged() - below(package)) == []


def test_an_installed_executable_starts(colcon: Callable[[bool], Path], tmp_path: Path) -> None:
    """`ros2 run robot_rl robot-rl` starts exactly this file."""
    workspace = colcon(False)
    shell = (
        f"source install/setup.bash && cd '{tmp_path}' && '{workspace}/install/robot_rl/lib/robot_rl/robot-rl' --help"
    )
    assert "usage" in run(["bash", "-c", shell], workspace).lower()
