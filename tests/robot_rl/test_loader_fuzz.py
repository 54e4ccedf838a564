"""Damaged and hostile policy files: only the project's own errors come out, and nothing changed is ever accepted."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_builder import build_contract, build_model, write_policy

from robot_rl.contract import CONTRACT_KEY
from robot_rl.errors import RobotRlError
from robot_rl.policy import Policy
from robot_rl.policy_file import CONTRACT_SHA256_KEY, PolicyFile, graph_sha256, read_policy_file

MODEL = build_model()
CONTRACT_DATA = json.loads(build_contract(MODEL).to_json())
in_a_loop = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, PolicyFile]:
    path = write_policy(tmp_path_factory.mktemp("original") / "policy.onnx")
    return path.read_bytes(), read_policy_file(path)


def refused_or_unchanged(path: Path, data: bytes, genuine: PolicyFile) -> bool:
    """Whether reading refused it; accepted is only what is the same graph with the same contract."""
    path.write_bytes(data)
    try:
        found = read_policy_file(path)
    except RobotRlError as error:
        assert len(str(error)) < 4000
        return True
    assert found == genuine
    return False


def test_every_cut_is_refused(tmp_path: Path, original: tuple[bytes, PolicyFile]) -> None:
    data, genuine = original
    for end in range(0, len(data), 7):
        assert refused_or_unchanged(tmp_path / "cut.onnx", data[:end], genuine)


def test_one_flipped_bit_in_any_byte_is_refused_or_means_the_same(
    tmp_path: Path, original: tuple[bytes, PolicyFile]
) -> None:
    data, genuine = original
    draw = random.Random(0)
    accepted = 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        accepted += not refused_or_unchanged(tmp_path / "flip.onnx", bytes(damaged), genuine)
    assert accepted <= len(data) // 100


@in_a_loop
@given(st.data())
def test_random_damage(tmp_path: Path, original: tuple[bytes, PolicyFile], data: st.DataObject) -> None:
    content, genuine = bytearray(original[0]), original[1]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 64))
        content[start : start + length] = data.draw(st.binary(max_size=64))
    refused_or_unchanged(tmp_path / "damage.onnx", bytes(content), genuine)


@in_a_loop
@given(st.binary(max_size=300))
def test_random_bytes(tmp_path: Path, original: tuple[bytes, PolicyFile], content: bytes) -> None:
    assert refused_or_unchanged(tmp_path / "random.onnx", content, original[1])


def signed(model: onnx.ModelProto, data: dict[str, Any]) -> bytes:
    """A file whose two sums are right, as somebody who knows the format can write it."""
    data["graph_sha256"] = graph_sha256(model)
    text = json.dumps(data)
    complete = copy.deepcopy(model)
    complete.metadata_props.add(key=CONTRACT_KEY, value=text)
    complete.metadata_props.add(key=CONTRACT_SHA256_KEY, value=hashlib.sha256(text.encode("utf-8")).hexdigest())
    return complete.SerializeToString()


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        policy = Policy.load(path)
    except RobotRlError as error:
        assert str(error)
        return
    assert policy.verify().passed


def fields(message: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every scalar field in a protobuf message, as a path."""
    found: list[tuple[Any, ...]] = []
    for descriptor, value in message.ListFields():
        items = list(enumerate(value)) if descriptor.is_repeated else [(None, value)]
        for index, item in items:
            path = (*prefix, (descriptor.name, index))
            found += fields(item, path) if descriptor.message_type else [path]
    return found


def mutate(message: Any, path: tuple[Any, ...], data: st.DataObject) -> None:
    for name, index in path[:-1]:
        message = getattr(message, name) if index is None else getattr(message, name)[index]
    name, index = path[-1]
    old = getattr(message, name) if index is None else getattr(message, name)[index]
    new = {
        int: st.integers(-2, 2**31 - 1) | st.integers(0, 30),
        float: st.floats(width=32),
        bytes: st.binary(max_size=40),
        str: st.sampled_from(["", "w", "obs", "batch", "Tanh", "Gemm", "Loop", "If", "Reshape", "Gather", "time_step"]),
        bool: st.booleans(),
    }[type(old)]
    try:
        if index is None:
            setattr(message, name, data.draw(new))
        else:
            getattr(message, name)[index] = data.draw(new)
    except ValueError:
        message.ClearField(name)  # an enum or a range that protobuf itself refuses


@settings(in_a_loop, max_examples=300)
@given(st.data())
def test_hostile_graphs_with_right_sums(tmp_path: Path, data: st.DataObject) -> None:
    """Any field of the graph changed and both sums recomputed: refused, or the golden vectors still hold."""
    model = copy.deepcopy(MODEL)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(model, data.draw(st.sampled_from(fields(model))), data)
    if data.draw(st.booleans()) and model.graph.node:
        del model.graph.node[data.draw(st.integers(0, len(model.graph.node) - 1))]
    load_or_refuse(tmp_path / "hostile.onnx", signed(model, copy.deepcopy(CONTRACT_DATA)))


def places(node: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place but the root in the JSON data."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [p for key, value in items for p in ((*prefix, key), *places(value, (*prefix, key)))]


SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.floats(), max_size=3)
)


@settings(in_a_loop, max_examples=200)
@given(st.sampled_from(places(CONTRACT_DATA)), SIMPLE)
def test_hostile_contracts_with_right_sums(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(CONTRACT_DATA)
    node = data
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    load_or_refuse(tmp_path / "hostile.onnx", signed(MODEL, data))
