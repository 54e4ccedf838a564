"""Configuration: differences to frozen dataclasses are typed and ranged, or refused with the full path."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.config import from_yaml, leaves, overlay, parse_set, to_dict
from robot_rl.errors import ConfigError, UnknownName


@dataclass(frozen=True)
class Network:
    """Sizes."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    scale: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class Optimiser:
    """Steps."""

    rate: float = field(default=1e-3, metadata={"min": 0.0, "max": 1.0})
    clip: float | None = None
    warm: int | float = 3


@dataclass(frozen=True)
class Train:
    """Everything."""

    seed: int = field(default=0, metadata={"min": 0})
    name: str = "run"
    fast: bool = False
    out: Path | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    network: Network = field(default_factory=Network)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        if self.fast and self.seed == 13:
            raise ValueError("seed 13 is not fast")


BASE = Train()


@pytest.mark.parametrize(
    ("key", "given_value", "expected"),
    [
        ("seed", 3, 3),
        ("seed", 3.0, 3),
        ("optimiser.rate", 1, 1.0),
        ("optimiser.rate", 0.25, 0.25),
        ("optimiser.clip", 2, 2.0),
        ("optimiser.clip", None, None),
        ("optimiser.warm", 4, 4),
        ("optimiser.warm", 0.5, 0.5),
        ("network.hidden", [32], (32,)),
        ("network.hidden", [], ()),
        ("network.scale", [1, 2], (1.0, 2.0)),
        ("network.activation", "relu", "relu"),
        ("name", "other", "other"),
        ("fast", True, True),
        ("out", "runs/a", Path("runs/a")),
        ("weights", {"a": 1}, {"a": 1.0}),
    ],
)
def test_a_value_is_replaced_and_typed(key: str, given_value: Any, expected: Any) -> None:
    result = overlay(BASE, {key: given_value})
    found = leaves(result)[key].value
    assert found == expected
    assert type(found) is type(expected)
    unchanged = {k: leaf.value for k, leaf in leaves(result).items() if k != key}
    assert unchanged == {k: leaf.value for k, leaf in leaves(BASE).items() if k != key}
    assert Train() == BASE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "3", "seed is '3' (str); it must be an integer"),
        ("seed", 3.5, "it must be an integer"),
        ("seed", True, "it must be an integer"),
        ("seed", None, "it must be an integer"),
        ("seed", -1, "seed is -1; allowed is 0 … ∞"),
        ("optimiser.rate", "fast", "optimiser.rate is 'fast' (str); it must be a number"),
        ("optimiser.rate", True, "it must be a number"),
        ("optimiser.rate", 1.5, "optimiser.rate is 1.5; allowed is 0.0 … 1.0"),
        ("optimiser.rate", math.nan, "finite"),
        ("optimiser.rate", math.inf, "finite"),
        ("optimiser.rate", 10**400, "finite"),
        ("optimiser.clip", "x", "optimiser.clip is 'x'"),
        ("network.hidden", 64, "network.hidden is 64 (int); it must be tuple[int, ...]"),
        ("network.hidden", [64, "a"], "network.hidden[1] is 'a'"),
        ("network.hidden", "ab", "it must be tuple"),
        ("network.scale", [1.0], "network.scale has 1 entries; it needs 2"),
        ("network.activation", "gelu", "network.activation is 'gelu'; allowed: tanh, relu"),
        ("name", 3, "it must be a text"),
        ("fast", 1, "it must be true or false"),
        ("fast", "true", "it must be true or false"),
        ("weights", {"a": "b"}, "weights.a is 'b'"),
        ("network", 3, "network is 3; it is a section: set one of network."),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overlay(BASE, {key: value})
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["sed", "network.size", "network.hidden.size", "seed.x", "", ".", "network.", "x.y.z"])
def test_an_unknown_key_lists_the_valid_ones_with_their_paths(key: str) -> None:
    with pytest.raises(UnknownName) as caught:
        overlay(BASE, {key: 1})
    assert f"'{key}'" in str(caught.value)
    for valid in leaves(BASE):
        assert valid in str(caught.value)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'optimiser\.rate'"):
        overlay(BASE, {"optimiser.rat": 1})


def test_nested_and_dotted_forms_mix_and_the_later_wins() -> None:
    result = overlay(BASE, {"network": {"hidden": [8], "activation": "relu"}, "network.hidden": [16], "seed": 4})
    assert result == Train(seed=4, network=Network(hidden=(16,), activation="relu"))


def test_the_dataclass_has_the_last_word() -> None:
    with pytest.raises(ConfigError, match="seed 13 is not fast"):
        overlay(BASE, {"fast": True, "seed": 13})
    assert overlay(overlay(BASE, {"fast": True}), {"seed": 12}).seed == 12


def test_set_arguments_are_yaml() -> None:
    found = parse_set(
        [
            "a.b=1e-3",
            "n=1e6",
            "i=012",
            "s=off",
            "t=true",
            "l=[64, 64]",
            "d={x: 1}",
            "e=",
            "q=a=b",
            "z='1'",
            "p=-.5",
            "m=~",
        ]
    )
    assert found == {
        "a.b": 0.001, "n": 1e6, "i": 12.0, "s": "off", "t": True, "l": [64, 64], "d": {"x": 1}, "e": None, "q": "a=b",
        "z": "1", "p": -0.5, "m": None,
    }  # fmt: skip
    assert overlay(BASE, parse_set(["optimiser.rate=1e-2", "network.hidden=[8]"])).optimiser.rate == 0.01


@pytest.mark.parametrize("item", ["seed", "=3", " =3", "seed=[1", "seed={a: 1, a: 2}", "x=!!python/name:os.system"])
def test_set_arguments_that_are_none(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_set([item])


def test_yaml_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: 5\noptimiser:\n  rate: 5e-4\n  clip: null\nnetwork: {activation: relu}\n")
    assert overlay(BASE, from_yaml(path)) == Train(5, network=Network(activation="relu"), optimiser=Optimiser(5e-4))
    path.write_text("# nothing\n")
    assert from_yaml(path) == {}
    for text, message in (
        ("- 1\n", "not list"), ("a: [\n", "YAML"), ("seed: 1\nseed: 2\n", "stands twice"), ("3: 4\n", "must hold"),
        ("a: !!python/name:os.system\n", "YAML"), ("[" * 1500, "YAML"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as caught:
            from_yaml(path)
        assert "a.yaml" in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    for bad in (path, tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            from_yaml(bad)


def test_to_dict_comes_back() -> None:
    config = overlay(BASE, {"network.hidden": [1, 2], "out": "x/y", "optimiser.clip": 3.5, "weights": {"k": 2.0}})
    plain = to_dict(config)
    assert overlay(BASE, json.loads(json.dumps(plain))) == config
    assert plain["out"] == "x/y"
    assert plain["network"]["hidden"] == [1, 2]


def test_leaves_carry_types_and_ranges() -> None:
    leaf = leaves(BASE)["optimiser.rate"]
    assert (leaf.value, leaf.type, dict(leaf.metadata)) == (1e-3, float, {"min": 0.0, "max": 1.0})
    assert list(leaves(BASE))[:2] == ["seed", "name"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*leaves(BASE), "network", "optimiser", "x"]) | st.text(max_size=5), VALUES))
def test_anything_is_taken_or_refused_cleanly(changes: dict[str, Any]) -> None:
    try:
        result = overlay(BASE, changes)
    except (ConfigError, UnknownName):
        return
    assert overlay(BASE, to_dict(result)) == result


@given(st.lists(st.text(max_size=12), max_size=3))
def test_any_set_argument_is_parsed_or_refused_cleanly(items: list[str]) -> None:
    try:
        assert isinstance(parse_set(items), dict)
    except ConfigError as error:
        assert "--set" in str(error)
