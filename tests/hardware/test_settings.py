"""Settings tables: every default is legal, every range is enforced, every text option is typed."""

from __future__ import annotations

import math

import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.hardware.drivers.sim import SimOptions
from robot_rl.hardware.node_settings import NodeSettings, parse_driver_options
from robot_rl.hardware.parameters import settings_of, with_values

ALL = {s.name: s for s in settings_of(NodeSettings)}
BOUNDED = [s for s in ALL.values() if s.low is not None]


def test_every_setting_has_a_description_a_range_and_a_legal_default():
    assert len(ALL) > 50
    for item in ALL.values():
        assert len(item.description) > 5
        if isinstance(item.default, (float, tuple)) or type(item.default) is int:
            assert item.low is not None and item.high is not None, item.name
        assert item.checked(item.default) == item.default


@pytest.mark.parametrize("item", BOUNDED, ids=lambda s: s.name)
def test_every_range_is_enforced_at_both_ends(item):
    size = len(item.default) if isinstance(item.default, tuple) else 0
    for value in (item.low - 1.0, item.high + 1.0, math.nan, math.inf):
        outside = (value,) * size if size else value
        with pytest.raises(ConfigError, match=item.name.replace(".", r"\.")):
            item.checked(outside)


def test_values_are_set_by_dotted_name_and_the_rest_stays():
    settings = with_values(NodeSettings(), {"supervisor.reaction.tilt": "land", "loop.rate_hz": 200})
    assert settings.supervisor.reaction.tilt == "land"
    assert settings.loop.rate_hz == 200.0
    assert settings.reference == NodeSettings().reference
    with pytest.raises(UnknownName, match=r"supervisor\.max_tilt"):
        with_values(NodeSettings(), {"supervisor.max_titl": 1.0})


@pytest.mark.parametrize("value", [True, "1.0", None, [1.0]])
def test_a_number_must_be_a_number(value):
    with pytest.raises(ConfigError):
        ALL["supervisor.max_tilt"].checked(value)


def test_values_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="critical_voltage"):
        with_values(NodeSettings(), {"supervisor.critical_voltage": 3.5})
    with pytest.raises(ConfigError, match="fence"):
        with_values(NodeSettings(), {"supervisor.fence_lower": (5.0, 0.0, 0.0)})


def test_driver_options_are_typed_by_the_drivers_own_table():
    text = "vehicle=pybullet, noise=false, seed=7, start_pos=1 2 0.5, fault_after=2"
    assert parse_driver_options(text, SimOptions) == {
        "vehicle": "pybullet",
        "noise": False,
        "seed": 7,
        "start_pos": (1.0, 2.0, 0.5),
        "fault_after": 2.0,
    }
    assert parse_driver_options("", SimOptions) == {}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("noise", ConfigError, "name=value"),
        ("nois=true", UnknownName, "noise"),
        ("noise=maybe", ConfigError, "bool"),
        ("seed=x", ConfigError, "int"),
        ("start_pos=1 2", ConfigError, "3 numbers"),
        ("physics_dt=5", ConfigError, "in \\["),
    ],
)
def test_wrong_driver_options_say_what_is_allowed(text, error, words):
    with pytest.raises(error, match=words):
        parse_driver_options(text, SimOptions)
