"""A user's own driver: made with its options, or refused with words that name it."""

from __future__ import annotations

import pytest
import users_driver

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.hardware.control_loop import ControlLoop
from robot_rl.hardware.driver_choice import make_driver
from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.policy import Policy


def test_options_come_as_text_from_a_parameter_or_by_name_from_python():
    assert make_driver("users_driver:Unplugged", "port=/dev/ttyACM1").port == "/dev/ttyACM1"
    assert make_driver("users_driver:Unplugged", {"port": "/dev/ttyACM2"}).port == "/dev/ttyACM2"
    sim = make_driver("sim", "noise=false")
    assert isinstance(sim, SimDriver) and sim.options.noise is False


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("users_driver:WithoutWrite", "", ConfigError, "lacks connect, read, write, stop"),
        ("users_driver:WithoutWrite", "port=1", ConfigError, "has no options"),
        ("users_driver:Raises", "", ConfigError, "'users_driver:Raises' cannot be made: KeyError: 'serial number'"),
        ("users_driver:Unplugged", "prot=1", UnknownName, "Did you mean 'port'"),
        ("users_driver:Nothing", "", ConfigError, "does not define 'Nothing'"),
        ("json:dumps", "", ConfigError, "cannot be made"),
        ("nowhere:DRIVER", "", ConfigError, "PYTHONPATH"),
    ],
)
def test_what_is_no_driver_is_refused_by_name(name, options, kind, words):
    with pytest.raises(kind, match=words):
        make_driver(name, options)


def test_a_driver_whose_import_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "needs_vendor.py").write_text("import vendor_sdk_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"vendor_sdk_that_is_not_there.*inside connect"):
        make_driver("needs_vendor:DRIVER")


def test_a_connection_that_fails_half_way_is_released(pd_policy):
    driver = make_driver("users_driver:Unplugged")
    assert isinstance(driver, users_driver.Unplugged)
    loop = ControlLoop(driver, Policy.load(pd_policy))
    with pytest.raises(OSError, match="ttyUSB0"):
        loop.start()
    assert driver.stopped
