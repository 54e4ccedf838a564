"""Results on robots with joints as a table for the console, as complete JSON, and as one CSV row per episode."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.evaluation.jointed.evaluate import VariantResult
from robot_rl.evaluation.report import finite, share
from robot_rl.evaluation.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1


@dataclass(frozen=True)
class JointedReport:
    """Everything one evaluation found. `facts`: episodes, seed, options, versions."""

    policy: str
    task: str
    results: Sequence[VariantResult]
    facts: Mapping[str, Any] = field(default_factory=dict)


def tables(report: JointedReport) -> list[Table]:
    """Success and metrics, then the constraints, then what was skipped."""
    played = [r for r in report.results if r.summary is not None]
    shown = [_main_table(report, played)] if played else []
    if any(r.summary and r.summary.violations for r in played):
        shown.append(_cost_table(played))
    skipped = [r for r in report.results if r.skipped is not None]
    return [*shown, _skipped_table(skipped)] if skipped else shown


def to_json(report: JointedReport) -> str:
    """Complete results, per episode too, with seeds and options. Undefined numbers are null."""
    data = {
        "format": FORMAT,
        "policy": report.policy,
        "task": report.task,
        "facts": dict(report.facts),
        "results": [_plain(r) for r in report.results],
    }
    return json.dumps(finite(data), indent=1, allow_nan=False)


def write_csv(report: JointedReport, path: Path) -> Path:
    """One row per episode: variant, seed, number, and everything that was measured."""
    played = [(r, r.episodes.columns()) for r in report.results if r.episodes is not None]
    names = list(dict.fromkeys(name for _, columns in played for name in columns))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["variant", "seed", "episode", *names])
        for result, columns in played:
            for i in range(len(next(iter(columns.values())))):
                cells = [f"{float(columns[n][i]):.6g}" if n in columns else "" for n in names]
                writer.writerow([result.name, result.seed, i, *cells])
    return path


def within(interval: Interval) -> str:
    """`0.912 (0.905–0.918)`."""
    return f"{interval.value:.3g} ({interval.lower:.3g}–{interval.upper:.3g})"


def _plain(result: VariantResult) -> dict[str, Any]:
    table = None if result.episodes is None else {k: v.tolist() for k, v in result.episodes.columns().items()}
    return {
        "variant": result.name, "title": result.title, "changes": result.changes, "seed": result.seed,
        "batch": result.batch, "wall_seconds": result.wall_seconds, "skipped": result.skipped,
        "summary": None if result.summary is None else asdict(result.summary), "episodes": table,
    }  # fmt: skip


def _main_table(report: JointedReport, played: Sequence[VariantResult]) -> Table:
    from rich.table import Table

    table = Table(title=f"{report.policy} on {report.task}", title_justify="left")
    table.add_column("variant", min_width=12)
    names = list(dict.fromkeys(n for r in played if r.summary for n in r.summary.metrics))
    for heading in (
        "episodes",
        "success",
        "failures / 1000 s",
        *(n.replace("_", " ") for n in names),
        "length",
        "reward",
    ):
        table.add_column(heading, justify="right")
    for r in played:
        s, episodes = r.summary, r.episodes
        assert s is not None and episodes is not None
        success = "–" if math.isnan(s.success.value) else share(s.success)
        metrics = [within(s.metrics[n]) if n in s.metrics else "–" for n in names]
        table.add_row(r.title, str(len(episodes)), success, within(s.failure_rate), *metrics,
                      f"{s.seconds.value:.1f} s", f"{s.reward.value:.1f}")  # fmt: skip
    return table


def _cost_table(played: Sequence[VariantResult]) -> Table:
    from rich.table import Table

    table = Table(title="Steps per episode that violate a constraint, and the worst violation", title_justify="left")
    table.add_column("variant", min_width=12)
    names = list(dict.fromkeys(n for r in played if r.summary for n in r.summary.violations))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for r in played:
        s = r.summary
        assert s is not None
        cells = [f"{within(s.violations[n])}, {s.worst[n]:.3g}" if n in s.violations else "–" for n in names]
        table.add_row(r.title, *cells)
    return table


def _skipped_table(skipped: Sequence[VariantResult]) -> Table:
    from rich.table import Table

    table = Table(title="Not played", title_justify="left")
    table.add_column("variant", min_width=12)
    table.add_column("why")
    for r in skipped:
        table.add_row(r.title, r.skipped or "")
    return table
