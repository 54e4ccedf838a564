"""The registry: files are found by name, a user's own by module, and everything wrong says what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl import registry
from robot_rl.errors import ConfigError, UnknownName


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a user's package in it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_for_registry.py").write_text("ROBOT = 'my robot'\n")
    (tmp_path / "broken_for_registry.py").write_text("import no_such_package_anywhere\n")
    return tmp_path


def test_every_kind_has_names_that_load() -> None:
    assert "crazyflie" in registry.names("robot")
    for kind in registry.KINDS:
        for name in registry.names(kind):
            assert name == name.lower()
            assert "_" not in name
    assert registry.load("robot", "crazyflie").name == "crazyflie"


def test_unknown_names_and_kinds_list_what_there_is() -> None:
    with pytest.raises(UnknownName, match=r"unknown robot 'crazyfly'\. Did you mean 'crazyflie'\? Available: "):
        registry.load("robot", "crazyfly")
    with pytest.raises(UnknownName, match=r"unknown kind 'robots'.*algorithm, base, board, driver,.* robot, task"):
        registry.names("robots")
    with pytest.raises(UnknownName, match="unknown kind"):
        registry.load("robots", "package:NAME")


@pytest.mark.parametrize("name", ["", "../crazyflie", "__init__", "crazyflie.py", "os", "."])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(UnknownName):
        registry.load("robot", name)


def test_a_users_own(own: Path) -> None:
    assert registry.load("robot", "mine_for_registry:ROBOT") == "my robot"
    with pytest.raises(ConfigError, match="does not define 'TASK'"):
        registry.load("task", "mine_for_registry:TASK")
    for name in ("no_such_module:ROBOT", "mine_for_registry.inner:ROBOT", ":ROBOT", "mine_for_registry:"):
        with pytest.raises(ConfigError):
            registry.load("robot", name)


def test_an_error_inside_a_users_module_is_shown_as_it_is(own: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        registry.load("robot", "broken_for_registry:ROBOT")


WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
from robot_rl import registry
from robot_rl.errors import MissingDependency
try:
    registry.load("algorithm", "ppo")
except MissingDependency as error:
    sys.exit(str(error))
"""


def test_a_missing_extra_says_how_to_install_it() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "'torch' is not installed; it is needed for algorithm 'ppo'" in ended.stderr
    assert "pip install 'robot-rl[sim]'" in ended.stderr
