"""Evaluation results as tables for the console, as complete JSON and as one CSV row per episode."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.evaluation.evaluate import Comparison, EvalResult
from robot_rl.evaluation.margins import Margin
from robot_rl.evaluation.metrics import Episodes
from robot_rl.evaluation.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1


@dataclass(frozen=True)
class EvalReport:
    """Everything one `robot-rl eval` found.

    Attributes:
        policy: name of the evaluated policy; results of other names are baselines.
        results: scenario by scenario, each with every policy. margins: by policy name.
        facts: command line, versions, contract digest, …
    """

    policy: str
    results: Sequence[EvalResult]
    comparisons: Sequence[Comparison] = ()
    margins: Mapping[str, Sequence[Margin]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, policy: str) -> list[EvalResult]:
        """Results of one policy in the order of the scenarios."""
        return [r for r in self.results if r.policy == policy]

    @property
    def policies(self) -> list[str]:
        """Names in order of appearance."""
        return list(dict.fromkeys(r.policy for r in self.results))


def to_json(report: EvalReport) -> str:
    """Complete results, per episode too. Infinite and undefined numbers (failed episodes) are null."""
    data = {
        "format": FORMAT,
        "policy": report.policy,
        "facts": dict(report.facts),
        "results": [_result(r) for r in report.results],
        "comparisons": [asdict(c) for c in report.comparisons],
        "margins": {name: [asdict(m) for m in found] for name, found in report.margins.items()},
    }
    return json.dumps(finite(data), indent=1, allow_nan=False)


def write_csv(report: EvalReport, path: Path) -> None:
    """One row per episode: policy, scenario, number, every metric; `inf` and `nan` as such."""
    names = [f.name for f in fields(Episodes)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["policy", "scenario", "seed", "episode", *names])
        for result in report.results:
            if result.episodes is None:
                continue
            columns = [getattr(result.episodes, name).tolist() for name in names]
            for i, row in enumerate(zip(*columns, strict=True)):
                writer.writerow([result.policy, result.scenario.name, result.seed, i, *(_cell(v) for v in row)])


def recovery_table(report: EvalReport) -> Table:
    """Hover scenarios: survival with interval, steady error, effort and the early warning."""
    table = _table("Recovery and hover")
    for heading in ("in 0.6 m", "in 1 m", "error median", "p95", "effort u²", "Δu", "|ω| rms", "call"):
        table.add_column(heading, justify="right")
    for result in (r for r in report.results if not r.scenario.tracking):
        s = result.summary
        if s is None:
            table.add_row(result.scenario.title, result.policy, f"not flown: {result.skipped}")
            continue
        table.add_row(
            result.scenario.title,
            result.policy,
            share(s.survival),
            share(s.wide_survival),
            centimetres(s.steady_error.value),
            centimetres(s.steady_error_p95),
            f"{s.effort:.3f}",
            f"{s.command_change:.4f}",
            body_rate(s.body_rate),
            f"{s.call_microseconds / s.batch:.1f} µs",
        )
    return table


def tracking_table(report: EvalReport) -> Table:
    """Figure-eights and way points: completed, RMSE with interval, worst error."""
    table = _table("Tracking (figure-eights are 2 m × 1 m)")
    for heading in ("completed", "RMSE", "95 % interval", "largest error", "effort u²", "Δu", "|ω| rms"):
        table.add_column(heading, justify="right")
    for result in (r for r in report.results if r.scenario.tracking):
        s = result.summary
        if s is None or result.episodes is None:
            table.add_row(result.scenario.title, result.policy, f"not flown: {result.skipped}")
            continue
        table.add_row(
            result.scenario.title,
            result.policy,
            share(s.survival),
            centimetres(s.rmse.value),
            f"{centimetres(s.rmse.lower)} to {centimetres(s.rmse.upper)}",
            centimetres(float(result.episodes.max_error.max())),
            f"{s.effort:.3f}",
            f"{s.command_change:.4f}",
            body_rate(s.body_rate),
        )
    return table


def comparison_table(report: EvalReport) -> Table:
    """Paired differences to the baselines."""
    from rich.table import Table

    table = Table(title="Paired comparison on the same episodes (first − second)", title_justify="left")
    for heading in ("scenario", "first", "second"):
        table.add_column(heading)
    for heading in ("success, points", "95 % interval", "p (McNemar, Holm)", "error", "95 % interval"):
        table.add_column(heading, justify="right")
    for c in report.comparisons:
        table.add_row(
            c.scenario,
            c.first,
            c.second,
            f"{100 * c.survival.value:+.1f}",
            f"{100 * c.survival.lower:+.1f} to {100 * c.survival.upper:+.1f}",
            f"{c.p_value_holm:.2g}",
            _signed(c.error.value),
            f"{_signed(c.error.lower)} to {_signed(c.error.upper)}",
        )
    return table


def margin_table(report: EvalReport) -> Table:
    """How far each parameter may be off."""
    from rich.table import Table

    table = Table(title="Stability margins: furthest value with at least 95 % success", title_justify="left")
    table.add_column("parameter")
    for name in report.margins:
        table.add_column(name, justify="right")
    columns = list(report.margins.values())
    for row in zip(*columns, strict=True):
        table.add_row(row[0].axis.title, *(margin_text(m) for m in row))
    return table


def tables(report: EvalReport) -> list[Table]:
    """Those tables that have something to say, in reading order; the command line prints them."""
    shown = []
    if any(not r.scenario.tracking for r in report.results):
        shown.append(recovery_table(report))
    if any(r.scenario.tracking for r in report.results):
        shown.append(tracking_table(report))
    if report.comparisons:
        shown.append(comparison_table(report))
    if report.margins:
        shown.append(margin_table(report))
    return shown


def margin_text(margin: Margin) -> str:
    """A margin in words: `×1.42`, `≥ 60 ms`, `fails nominally`."""
    if margin.value is None:
        return "fails nominally"
    bound = ("≥ " if margin.axis.limit > margin.axis.nominal else "≤ ") if margin.at_limit else ""
    text = f"{1e3 * margin.value:.0f} ms" if margin.axis.unit == "s" else f"×{margin.value:.2f}"
    return bound + text


def share(interval: Interval) -> str:
    """`98.4 % (97.4–99.0)`."""
    return f"{100 * interval.value:.1f} % ({100 * interval.lower:.1f}–{100 * interval.upper:.1f})"


def centimetres(metres: float) -> str:
    """`1.23 cm`; `crash` where infinite, `–` where undefined."""
    if math.isnan(metres):
        return "–"
    return "crash" if math.isinf(metres) else f"{100 * metres:.2f} cm"


def body_rate(rate: float) -> str:
    """`0.018 rad/s`; `–` where every vehicle was lost."""
    return "–" if math.isnan(rate) else f"{rate:.3f} rad/s"


def _table(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("scenario", min_width=18)
    table.add_column("policy")
    return table


def _signed(metres: float) -> str:
    if math.isnan(metres):
        return "–"
    return f"{'+' if metres > 0 else '−'}∞" if math.isinf(metres) else f"{100 * metres:+.2f} cm"


def _result(result: EvalResult) -> dict[str, Any]:
    per_episode = None
    if result.episodes is not None:
        per_episode = {f.name: getattr(result.episodes, f.name).tolist() for f in fields(Episodes)}
    return {
        "policy": result.policy,
        "scenario": asdict(result.scenario),
        "seed": result.seed,
        "batch": result.batch,
        "skipped": result.skipped,
        "summary": None if result.summary is None else asdict(result.summary),
        "episodes": per_episode,
    }


def finite(value: Any) -> Any:
    """The same with infinite and undefined floats as None."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else f"{value:.6g}"
