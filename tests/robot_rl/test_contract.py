"""The contract: what round trips, and that each broken rule is refused with a message that names the place."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_builder import build_contract, build_model

from robot_rl.contract import Contract
from robot_rl.errors import ContractError, RobotRlError

CONTRACT = build_contract(build_model())
DATA = json.loads(CONTRACT.to_json())


def changed(path: str, value: Any) -> str:
    """The contract's JSON with the value at `a.0.b` replaced (or the key removed, for value ...)."""
    data = copy.deepcopy(DATA)
    *parents, last = path.split(".")
    node = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is ...:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(data)


def test_round_trip_is_lossless() -> None:
    text = CONTRACT.to_json()
    again = Contract.from_json(text)
    assert again == CONTRACT
    assert again.to_json() == text


def test_the_schema_itself_is_valid_and_is_shipped() -> None:
    schema = json.loads(resources.files("robot_rl").joinpath("contract.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(DATA)) == []


WRONG = [
    ("task", ..., "'task' is a required property"),
    ("extra", 1, "'extra' was unexpected"),
    ("task", "", "task"),
    ("robot", 3, "robot: 3 is not of type 'string'"),
    ("signals", [], "signals"),
    ("signals.0.name", "Base Pos", "signals[0].name"),
    ("signals.0.name", "target_yaw", "'target_yaw' is used more than once"),
    ("signals.0.name", "rotor_speed_target", "also the name of a signal"),
    ("signals.0.shape", [0], "signals[0].shape[0]"),
    ("signals.0.shape", [65536, 65536], "at most 16777216"),
    ("signals.0.shape", [], "signals[0].shape"),
    ("signals.0.frame", "moon", "signals[0].frame"),
    ("signals.0.max_age", -1, "signals[0].max_age"),
    ("signals.2.shape", [2], "signals.time_step"),
    ("commands", [], "commands"),
    ("commands.0.lower", [0.0], "commands.rotor_speed_target.lower: 1 numbers for 2 elements"),
    ("commands.0.upper", [0.0, 1000.0], "must be below its upper limit"),
    ("commands.0.upper", [-1.0, 1000.0], "element 'left' has lower limit 0.0"),
    ("commands.0.idle", [0.0, 1000.5], "element 'right' has idle value 1000.5"),
    ("commands.0.max_rate", [1.0], "max_rate: 1 numbers for 2 elements"),
    ("commands.0.max_rate", [1.0, 0.0], "commands[0].max_rate"),
    ("commands.0.elements", ["a", "a"], "commands[0].elements"),
    ("memory.0.initial", [1.0], "needs 2 initial values, found 1"),
    ("memory.0.initial", [1.0, "x"], "memory[0].initial"),
    ("rate.min_dt", 0.02, "min_dt 0.02 ≤ control_dt 0.01"),
    ("rate.control_dt", 0, "rate.control_dt"),
    ("rate.max_dt", True, "rate.max_dt"),
    ("graph_sha256", "ABC", "graph_sha256"),
    ("golden.tolerance", 0, "golden.tolerance"),
    ("golden.tolerance", 1.0, "golden.tolerance"),
    ("golden.steps", [], "golden.steps"),
    ("golden.steps.1.signals.target_yaw", [0.0, 0.0], "golden.steps[1].signals.target_yaw: 2 values"),
    ("golden.steps.1.signals.target_yaw", ..., "golden.steps[1].signals: names"),
    ("golden.steps.0.memory_out.other", [0.0], "golden.steps[0].memory_out: names"),
    ("golden.steps.0.commands.rotor_speed_target", [0.0], "golden.steps[0].commands.rotor_speed_target"),
    ("safety.max_tilt", -0.1, "safety.max_tilt"),
    ("gains.stiffness", 3.0, "gains.stiffness"),
    ("gains.9bad", [1.0], "gains"),
    ("composition.kind", "stacked", "composition.kind"),
    ("composition.kind", "residual", "'residual' needs an over_sha256"),
    ("composition.over_sha256", "0" * 64, "'direct' takes no over_sha256"),
    ("provenance", [], "provenance"),
    ("provenance.deep", json.loads("[" * 70 + "]" * 70), "nested deeper"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={str(v)[:20]}" for p, v, _ in WRONG])
def test_a_broken_rule_is_refused_and_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_json(changed(path, value))
    assert message in str(caught.value)


def test_steps_may_only_vary_with_a_time_step_signal() -> None:
    data = json.loads(CONTRACT.to_json())
    data["signals"] = data["signals"][:2]
    for step in data["golden"]["steps"]:
        del step["signals"]["time_step"]
    with pytest.raises(ContractError, match="no signal 'time_step'"):
        Contract.from_json(json.dumps(data))
    data["rate"] = {"control_dt": 0.01, "min_dt": 0.01, "max_dt": 0.01}
    assert len(Contract.from_json(json.dumps(data)).signals) == 2


@pytest.mark.parametrize("version", [0, -3, 2, 99])
def test_another_schema_version_says_which_and_what_to_do(version: int) -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_json(changed("schema_version", version))
    text = str(caught.value)
    assert f"version {version};" in text
    assert "reads version 1" in text
    assert "export the policy again" in text
    assert ("update robot_rl" in text) == (version > 1)


@pytest.mark.parametrize("version", [..., "1", 1.0, True, None])
def test_a_version_that_is_no_number_is_refused(version: Any) -> None:
    with pytest.raises(ContractError, match="schema_version"):
        Contract.from_json(changed("schema_version", version))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e39", "1e999", "-1e999", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("path", ["rate.control_dt", "commands.0.upper.0", "provenance.seed"])
def test_numbers_that_float32_cannot_hold_are_refused(path: str, number: str) -> None:
    text = changed(path, "HERE").replace('"HERE"', number)
    with pytest.raises(ContractError, match="JSON"):
        Contract.from_json(text)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", "{", "[" * 100_000, '{"a": 1, "a": 2}', "\x00", '{"schema_version']
)
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        Contract.from_json(text)


def test_a_long_value_does_not_flood_the_message() -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_json(changed("task", "x" * 100_000))
    assert len(str(caught.value)) < 1000


def test_what_json_cannot_hold_is_refused_when_writing() -> None:
    for bad in (float("nan"), float("inf"), object(), {1, 2}):
        with pytest.raises(ContractError, match="JSON"):
            build_contract(build_model(), provenance={"value": bad}).to_json()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(node: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the JSON data."""
    if not isinstance(node, (dict, list)):
        return [prefix]
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return [prefix, *(path for key, value in items for path in paths(value, (*prefix, key)))]


@given(st.sampled_from([p for p in paths(DATA) if p]), JSON_VALUES)
def test_any_value_anywhere_is_taken_or_refused_cleanly(path: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(DATA)
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    try:
        contract = Contract.from_json(json.dumps(data))
    except RobotRlError as error:
        assert str(error)
    else:
        assert Contract.from_json(contract.to_json()) == contract


@given(st.text() | JSON_VALUES.map(json.dumps))
def test_any_text_is_refused_cleanly(text: str) -> None:
    with pytest.raises(ContractError):
        Contract.from_json(text)
