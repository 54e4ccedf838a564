"""Gains: ranges, files, defaults; and the search that tunes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.base.flight.gains import (
    check_gains,
    from_unit,
    gain,
    gains_file,
    ranges,
    read_gains,
    to_unit,
    write_gains,
)
from robot_rl.policies.base.flight.tuning import tune
from robot_rl.policies.base.lee import LeeConfig
from robot_rl.policies.base.lqr import LqrConfig
from robot_rl.policies.base.pid import PidConfig
from robot_rl.registry import load

CONFIGS = {"lee": LeeConfig, "pid": PidConfig, "lqr": LqrConfig}


@dataclass(frozen=True)
class Bowl:
    """Three gains whose best values are 1, 10 and 0.1."""

    a: float = gain(5.0, 0.1, 100.0)
    b: float = gain(1.0, 0.1, 100.0)
    c: float = gain(1.0, 0.01, 10.0)

    def __post_init__(self) -> None:
        check_gains(self)


def bowl(configs: Sequence[Bowl]) -> list[float]:
    return [math.log(c.a) ** 2 + 3 * math.log(c.b / 10) ** 2 + math.log(c.c / 0.1 * c.a) ** 2 for c in configs]


def test_search_finds_the_best_gains() -> None:
    result = tune(Bowl(), bowl, budget=300, seed=0)
    assert result.score < 1e-3 < result.start_score
    assert result.config.a == pytest.approx(1.0, rel=0.05)
    assert result.config.b == pytest.approx(10.0, rel=0.05)
    assert len(result.history) <= 300
    assert list(result.history) == sorted(result.history, reverse=True)


def test_search_is_determined_by_its_seed() -> None:
    first, again, other = (tune(Bowl(), bowl, 60, seed) for seed in (3, 3, 4))
    assert first == again
    assert first.history != other.history


def test_useless_configurations_do_not_stop_the_search() -> None:
    def holes(configs: Sequence[Bowl]) -> list[float]:
        scores = zip(configs, bowl(configs), strict=True)
        return [math.nan if c.a > 20 else math.inf if c.b < 0.5 else s for c, s in scores]

    assert tune(Bowl(), holes, 200, 0).score < 0.1


def test_budget_too_small() -> None:
    with pytest.raises(ConfigError, match="at least 8 evaluations, got 5"):
        tune(Bowl(), bowl, 5, 0)


@pytest.mark.parametrize("config", CONFIGS.values())
def test_unit_coordinates_invert(config: type) -> None:
    unit = np.random.default_rng(0).uniform(0, 1, len(ranges(config)))
    np.testing.assert_allclose(to_unit(from_unit(config(), unit)), unit, atol=1e-9)


@pytest.mark.parametrize("config", CONFIGS.values())
@pytest.mark.parametrize("value", [0.0, -1.0, 1e9, math.nan, math.inf, "high", True])
def test_impossible_gains_are_refused(config: type, value: object) -> None:
    name = next(iter(ranges(config)))
    with pytest.raises(ConfigError, match=name):
        config(**{name: value})


def test_gains_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lee.yaml"
    config = LeeConfig(position=7.125, lead=3.5)
    write_gains(config, path, {"seed": 3})
    assert read_gains(LeeConfig(), path) == config
    assert "seed: 3" in path.read_text()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("gains: {postion: 3.0}", UnknownName, "Did you mean 'position'"),
        ("gains: {position: 1e6}", ConfigError, "position"),
        ("position: 3", ConfigError, "key 'gains'"),
        ("gains: [", ConfigError, "cannot read"),
    ],
)
def test_bad_gain_files_are_refused(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "lee.yaml"
    path.write_text(text)
    with pytest.raises(error, match=words):
        read_gains(LeeConfig(), path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_controller_flies_with_the_tuned_gains(name: str) -> None:
    path = gains_file(name)
    assert path is not None
    flown = load("base", name)().config
    assert flown == read_gains(CONFIGS[name](), path) != CONFIGS[name]()
