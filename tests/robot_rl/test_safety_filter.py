"""The safety filter: the shared vectors, and that no proposal whatsoever gets an unsafe command through."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.contract import Command
from robot_rl.errors import ConfigError
from robot_rl.safety import SafetyFilter, filter_command, initial_state

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "safety_filter.json").read_text(encoding="utf-8"))["cases"]


def command_of(data: dict[str, Any]) -> Command:
    """A Command from the vectors, which leave out what does not matter here."""
    rate = data["max_rate"]
    numbers = {key: tuple(float(v) for v in data[key]) for key in ("lower", "upper", "idle")}
    elements = tuple(f"e{i}" for i in range(len(data["lower"])))
    return Command(data["name"], "joint_pos", "rad", elements, max_rate=rate and tuple(map(float, rate)), **numbers)


def numbers_of(proposed: dict[str, list[Any]] | None) -> dict[str, list[float]] | None:
    return None if proposed is None else {k: [float(v) for v in values] for k, values in proposed.items()}


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_vectors(case: dict[str, Any]) -> None:
    commands = tuple(command_of(c) for c in case["commands"])
    safety = SafetyFilter(commands, case["hold_time"])
    for step in case["steps"]:
        found = safety.apply(numbers_of(step["proposed"]), float(step["dt"]))
        assert found.events == tuple(step["events"])
        assert set(found.command) == {c.name for c in commands}
        for command in commands:
            span = max(np.subtract(command.upper, command.lower))
            values = found.command[command.name]
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, step["command"][command.name], atol=1e-6 * span)


JOINT = Command("joint", "joint_pos", "rad", ("a", "b"), (-1.0, 0.0), (1.0, 3.0), (0.0, 1.0), (10.0, 20.0))
ROTOR = Command("rotor", "rotor_speed", "rad/s", ("r",), (0.0,), (2000.0,), (0.0,))
ANYTHING = st.none() | st.floats() | st.text(max_size=2) | st.lists(st.floats() | st.none(), max_size=3)
PROPOSALS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "joint": st.lists(st.floats(), min_size=2, max_size=2) | ANYTHING,
        "rotor": st.lists(st.floats(), min_size=1, max_size=1) | ANYTHING,
        "other": ANYTHING,
    },
)


@given(st.lists(st.tuples(PROPOSALS, st.floats(0, 0.2) | st.floats()), max_size=12), st.sampled_from([0.0, 0.05]))
def test_whatever_is_proposed_the_command_is_finite_limited_and_slow(
    steps: list[tuple[dict[str, Any] | None, float]], hold_time: float
) -> None:
    safety = SafetyFilter((JOINT, ROTOR), hold_time)
    last, unusable = {c.name: np.asarray(c.idle, np.float32) for c in (JOINT, ROTOR)}, 0.0
    for proposed, dt in steps:
        found = safety.apply(proposed, dt)
        time = dt if math.isfinite(dt) and dt >= 0 else 0.0
        for command in (JOINT, ROTOR):
            values = found.command[command.name]
            assert values.shape == (len(command.elements),)
            assert np.isfinite(values).all()
            assert (values >= np.float32(command.lower)).all()
            assert (values <= np.float32(command.upper)).all()
        step = np.abs(found.command["joint"].astype(float) - last["joint"])
        assert (step <= np.array([10.0, 20.0]) * min(time, 1e6) * (1 + 1e-6) + 1e-6).all()
        rejected = any(e.startswith("rejected") for e in found.events)
        assert rejected == ("hold" in found.events or "idle" in found.events)
        unusable = unusable + time if rejected else 0.0
        if rejected and unusable > hold_time * (1 + 1e-9):
            assert "idle" in found.events
            assert found.command["rotor"] == ROTOR.idle
        last = found.command


@given(PROPOSALS, st.floats(0, 1))
def test_the_filter_is_pure(proposed: dict[str, Any] | None, dt: float) -> None:
    state = initial_state((JOINT, ROTOR))
    results = [filter_command((JOINT, ROTOR), 0.1, state, proposed, dt) for _ in range(2)]
    for name in ("joint", "rotor"):
        assert np.array_equal(results[0][1].command[name], results[1][1].command[name])
        assert np.array_equal(results[0][0].sent[name], results[1][0].sent[name])
        assert np.array_equal(state.sent[name], np.asarray({"joint": JOINT, "rotor": ROTOR}[name].idle, np.float32))
    assert results[0][1].events == results[1][1].events


def test_what_is_given_out_may_be_written_to() -> None:
    safety = SafetyFilter((ROTOR,))
    safety.apply({"rotor": [50.0]}, 0.01).command["rotor"][:] = 1e9
    assert safety.apply(None, 0.01).command["rotor"] == 50.0


def test_what_was_proposed_is_not_changed() -> None:
    proposed = {"rotor": np.array([1e9], np.float32)}
    assert SafetyFilter((ROTOR,)).apply(proposed, 0.01).command["rotor"] == 2000.0
    assert proposed["rotor"] == np.float32(1e9)


def test_reset_starts_from_idle_or_from_what_the_robot_follows() -> None:
    safety = SafetyFilter((JOINT,))
    safety.reset({"joint": np.array([0.5, 2.0])})
    np.testing.assert_allclose(safety.apply({"joint": [1.0, 2.0]}, 0.01).command["joint"], [0.6, 2.0], rtol=1e-6)
    safety.reset()
    np.testing.assert_allclose(safety.apply({"joint": [1.0, 1.0]}, 0.01).command["joint"], [0.1, 1.0], rtol=1e-6)
    for bad in ({}, {"joint": [0.0]}, {"joint": [np.nan, 0.0]}):
        with pytest.raises(ConfigError, match="rejected"):
            safety.reset(bad)


@pytest.mark.parametrize("hold_time", [-0.1, math.nan, math.inf])
def test_hold_time_must_make_sense(hold_time: float) -> None:
    with pytest.raises(ConfigError, match="hold_time"):
        SafetyFilter((ROTOR,), hold_time)


@pytest.mark.parametrize("dt", [None, "0.1", math.nan, -1.0, math.inf, np.array([0.1, 0.2])])
def test_a_step_that_is_no_number_of_seconds_lets_nothing_move(dt: Any) -> None:
    found = SafetyFilter((JOINT,)).apply({"joint": [0.5, 2.0]}, dt)
    assert found.events[0] == "bad_dt"
    assert np.array_equal(found.command["joint"], JOINT.idle)


@pytest.mark.parametrize("proposed", [5, "joint", [0.5, 2.0]])
def test_a_proposal_of_another_kind_is_rejected(proposed: Any) -> None:
    assert SafetyFilter((JOINT,)).apply(proposed, 0.1).events == ("rejected:missing", "hold")


def test_a_tensor_with_a_gradient_is_rejected() -> None:
    torch = pytest.importorskip("torch")
    found = SafetyFilter((JOINT,)).apply({"joint": torch.zeros(2, requires_grad=True)}, 0.1)
    assert found.events[0] == "rejected:kind:joint"
