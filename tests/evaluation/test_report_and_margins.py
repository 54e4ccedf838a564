"""Reports hold everything, pictures are drawn, margins find a known edge, tuning prefers what flies better."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.evaluation.evaluate import compare, evaluate_table
from robot_rl.evaluation.margins import AXES, Axis, _bisected, margins
from robot_rl.evaluation.plots import save_plots
from robot_rl.evaluation.report import EvalReport, body_rate, centimetres, margin_text, tables, to_json, write_csv
from robot_rl.evaluation.scenarios import scenario
from robot_rl.evaluation.tune import OBJECTIVE, Objective, tune_controller
from robot_rl.policies.base.pid import PidConfig, PidController

EPISODES = 10


@pytest.fixture(scope="module")
def report() -> EvalReport:
    chosen = [scenario("nominal").but(duration=2.0), scenario("eight-5.5s").but(turns=1)]
    results = evaluate_table(["base:pid", "base:lee"], chosen, EPISODES, tracking_episodes=3)
    mine, other = ([r for r in results if r.policy == name] for name in ("pid", "lee"))
    found = margins("base:pid", axes=AXES[5:6], episodes=8, halvings=1, start=chosen[0])
    return EvalReport("pid", results, compare(mine, other), {"pid": found}, {"seed": 0})


def test_json_is_complete_and_strict(report: EvalReport) -> None:
    data = json.loads(to_json(report), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert [(r["policy"], r["scenario"]["name"]) for r in data["results"]] == [
        ("pid", "nominal"), ("lee", "nominal"), ("pid", "eight-5.5s"), ("lee", "eight-5.5s"),
    ]  # fmt: skip
    first = data["results"][0]
    assert len(first["episodes"]["steady_error"]) == EPISODES
    assert first["episodes"]["exit_time"][0] is None  # never left the box
    assert set(first["summary"]["survival"]) == {"value", "lower", "upper"}
    assert data["margins"]["pid"][0]["axis"]["name"] == "delay" and len(data["comparisons"]) == 2


def test_csv_has_one_row_per_episode(report: EvalReport, tmp_path: Path) -> None:
    write_csv(report, tmp_path / "e.csv")
    with (tmp_path / "e.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * EPISODES + 2 * 3
    episodes = report.results[0].episodes
    assert episodes is not None
    assert float(rows[3]["max_error"]) == pytest.approx(episodes.max_error[3], rel=1e-4)
    assert {row["in_box"] for row in rows} <= {"0", "1"}


def test_tables_name_every_policy_and_unit(report: EvalReport) -> None:
    from rich.console import Console

    console = Console(width=220, record=True, file=io.StringIO())
    for table in tables(report):
        console.print(table)
    text = console.export_text()
    for word in ("Nominal", "Figure-eight", "pid", "lee", "cm", "rad/s", "McNemar", "command delay"):
        assert word in text, word


def test_pictures_are_drawn(report: EvalReport, tmp_path: Path) -> None:
    from matplotlib.image import imread

    paths = save_plots(report, tmp_path / "plots")
    assert {p.stem for p in paths} == {
        "trajectories_nominal", "error_nominal", "eight-5.5s", "scenarios", "margins",
    }  # fmt: skip
    for path in paths:
        image = imread(path)
        assert min(image.shape[:2]) > 200
        grey = (255 * image[..., :3].mean(axis=2)).astype(int)
        assert len(np.unique(grey)) > 50, f"{path.name} is empty"


def test_numbers_are_shown_for_people() -> None:
    assert [centimetres(v) for v in (0.01234, np.inf, np.nan)] == ["1.23 cm", "crash", "–"]


@pytest.mark.parametrize("edge", [0.13, 0.5, 0.9])
def test_bisection_finds_the_edge(edge: float) -> None:
    axis = Axis("mass", "mass", "mass", 1.0, 2.0)
    got = _bisected(axis, lambda share: 1.0 if share <= edge else 0.5, nominal=1.0, required=0.95, halvings=8)
    assert edge - 1 / 256 <= got.share <= edge and not got.at_limit
    assert got.value == pytest.approx(2.0**got.share)


def test_bisection_at_the_ends() -> None:
    axis = next(a for a in AXES if a.name == "delay")
    never = _bisected(axis, lambda share: 0.0, nominal=0.97, required=0.95, halvings=6)
    assert never.value == 0.0 and never.share == 0.0 and never.success == 0.97
    always = _bisected(axis, lambda share: 1.0, nominal=1.0, required=0.95, halvings=6)
    assert always.value == axis.limit and always.at_limit and always.flown == 1
    assert margin_text(always) == "≥ 60 ms"


def test_axes_start_at_nominal_and_end_at_the_limit() -> None:
    for axis in AXES:
        assert (axis.value(0.0), axis.value(1.0)) == pytest.approx((axis.nominal, axis.limit))
        assert hasattr(scenario("nominal"), axis.field)


def test_margin_of_a_policy_that_fails_nominally_and_of_one_that_does_not() -> None:
    start = scenario("nominal").but(start="gentle", duration=1.5)
    weak = dataclasses.replace(start, mass=2.4)  # heavier than full thrust
    assert margins("base:pid", axes=AXES[:1], episodes=4, start=weak)[0].value is None
    (mass,) = margins("base:pid", axes=AXES[:1], episodes=6, halvings=2, start=start)
    assert mass.value is not None and 1.0 < mass.value <= 2.0
    with pytest.raises(ConfigError, match=r"0\.6 and 1\.0"):
        margins("base:pid", box=0.8)


def test_objective_prefers_what_flies_better_and_is_repeatable() -> None:
    tasks = (dataclasses.replace(OBJECTIVE[0], scenario=scenario("nominal").but(duration=2.0), episodes=12),)
    objective = Objective(PidController, tasks, seed=1)
    good, weak = PidConfig(), PidConfig(rate=3.0, attitude=2.0, lead=1.0)
    together = objective([good, weak])
    assert together[0] < together[1] - 1.0
    assert objective([good, weak]) == together


def test_tuning_refuses_what_it_cannot_tune() -> None:
    with pytest.raises(UnknownName, match="lqr"):
        tune_controller("mellinger")
    with pytest.raises(ConfigError, match="at least 13 evaluations, got 3"):
        tune_controller("pid", budget=3)


def test_body_rate_of_vehicles_that_were_all_lost_is_a_dash() -> None:
    assert body_rate(float("nan")) == "–" and body_rate(0.5) == "0.500 rad/s"
