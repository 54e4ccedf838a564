"""Everything that `robot-rl list` shows can be loaded and is of the right shape."""

from __future__ import annotations

import pytest

from robot_rl import registry
from robot_rl.errors import UnknownName
from robot_rl.protocols import Driver

LISTED = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_there_is_one_of_each_kind(kind: str) -> None:
    assert registry.names(kind)


@pytest.mark.parametrize(("kind", "name"), LISTED)
def test_it_loads(kind: str, name: str) -> None:
    assert registry.load(kind, name) is not None


@pytest.mark.parametrize("name", registry.names("driver"))
def test_a_driver_describes_itself_without_hardware(name: str) -> None:
    driver = registry.load("driver", name)
    driver = driver() if isinstance(driver, type) else driver
    assert isinstance(driver, Driver)
    assert driver.signals and driver.commands
    driver.stop()
    driver.stop()


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(UnknownName, match=r"quadrotor-hovver.*Did you mean 'quadrotor-hover'.*quadrotor-track"):
        registry.load("task", "quadrotor-hovver")
