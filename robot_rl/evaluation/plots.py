"""Pictures of evaluation results, drawn with matplotlib without a screen; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.errors import MissingDependency
from robot_rl.evaluation.evaluate import EvalResult
from robot_rl.evaluation.margins import Margin
from robot_rl.evaluation.metrics import BOX
from robot_rl.evaluation.report import EvalReport, centimetres, margin_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; the evaluated policy comes first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GRID = "#222222", "#DDDDDD"
_STYLE: Any = {
    "figure.dpi": 130, "savefig.dpi": 130, "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


def save_plots(report: EvalReport, folder: Path) -> list[Path]:
    """Draw everything the report has data for into `folder`; returns the files written.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    mine = [r for r in report.of(report.policy) if r.summary is not None]
    hover = next((r for r in mine if not r.scenario.tracking), None)
    if hover is not None:
        written.append(plot_trajectories(hover, folder / f"trajectories_{hover.scenario.name}.png"))
        same = [r for r in report.results if r.scenario.name == hover.scenario.name and r.summary is not None]
        written.append(plot_errors(same, folder / f"error_{hover.scenario.name}.png"))
    for path in (r for r in mine if r.scenario.task == "waypoints"):
        same = [r for r in report.results if r.scenario.name == path.scenario.name and r.summary is not None]
        written.append(plot_waypoints(same, folder / f"{path.scenario.name}.png"))
    for eight in (r for r in mine if r.scenario.name in ("eight-5.5s", "eight-3.5s")):
        same = [r for r in report.results if r.scenario.name == eight.scenario.name and r.summary is not None]
        written.append(plot_figure_eight(same, folder / f"{eight.scenario.name}.png"))
    if len(mine) > 1:
        written.append(plot_scenarios(report, folder / "scenarios.png"))
    if report.margins:
        written.append(plot_margins(report.margins, folder / "margins.png"))
    return written


def plot_trajectories(result: EvalResult, path: Path) -> Path:
    """Top and side view of the first flights around the target, with the box that counts as survival."""
    assert result.sample is not None and result.episodes is not None
    error = result.sample.error  # (T, n, 3)
    failed = ~result.episodes.in_box[: error.shape[1]]
    with styled_figure(1, 2, (9, 4.4)) as (figure, axes):
        for ax, (i, j), labels in zip(axes, ((0, 1), (0, 2)), (("x", "y"), ("x", "z")), strict=True):
            for k in range(error.shape[1]):
                colour = COLOURS[1] if failed[k] else COLOURS[0]
                ax.plot(error[:, k, i], error[:, k, j], color=colour, linewidth=0.8, alpha=0.55)
                ax.plot(error[0, k, i], error[0, k, j], "o", color=colour, markersize=2.5)
            ax.add_patch(_box())
            ax.plot(0, 0, "+", color=INK, markersize=12, markeredgewidth=1.5)
            ax.set(xlim=(-1, 1), ylim=(-1, 1), xlabel=f"{labels[0]} [m]", ylabel=f"{labels[1]} [m]", aspect="equal")
        axes[0].set_title("from above")
        axes[1].set_title("from the side")
        left = f"{int(failed.sum())} of {error.shape[1]} flights left the ±{BOX} m box"
        figure.suptitle(f"{result.policy}: {result.scenario.title}; {left}")
        figure.savefig(path)
    return path


def plot_errors(results: Sequence[EvalResult], path: Path) -> Path:
    """Distance to the target over time: median, band to the 95th percentile, and the share still in the box."""
    with styled_figure(1, 2, (9, 3.8)) as (figure, axes):
        for colour, result in zip(COLOURS, results, strict=False):
            cm = 100 * result.distance
            median, high = np.percentile(cm, (50, 95), axis=1, method="nearest")
            low = np.percentile(cm, 5, axis=1, method="nearest")
            axes[0].plot(result.times, np.minimum(median, 1e3), color=colour, label=result.policy)
            axes[0].fill_between(result.times, low, np.minimum(high, 1e3), color=colour, alpha=0.15, linewidth=0)
            assert result.episodes is not None
            inside = [(result.episodes.exit_time > t).mean() for t in result.times]
            axes[1].plot(result.times, 100 * np.array(inside), color=colour, label=result.policy)
        axes[0].set(yscale="log", ylim=(0.2, 200), xlabel="time [s]", ylabel="distance to target [cm]")
        axes[0].set_title("median and 5th to 95th percentile")
        axes[1].set(xlabel="time [s]", ylabel=f"still inside ±{BOX} m [%]")
        axes[1].set_title("survival")
        axes[1].set_ylim(min(90.0, axes[1].get_ylim()[0]), 100.5)
        axes[0].legend()
        figure.suptitle(f"{results[0].scenario.title}, {results[0].distance.shape[1]} episodes")
        figure.savefig(path)
    return path


def plot_figure_eight(results: Sequence[EvalResult], path: Path) -> Path:
    """Flown path from above against the reference, and the error over time."""
    with styled_figure(1, 2, (10, 3.9)) as (figure, axes):
        for colour, result in zip(COLOURS, results, strict=False):
            assert result.sample is not None and result.summary is not None
            position = result.sample.position
            for k in range(min(5, position.shape[1])):
                axes[0].plot(position[:, k, 0], position[:, k, 1], color=colour, linewidth=0.9, alpha=0.6)
            cm = np.minimum(100 * result.distance, 1e4)
            low, median, high = np.percentile(cm, (5, 50, 95), axis=1)
            rmse = f"{100 * result.summary.rmse.value:.2f} cm" if np.isfinite(result.summary.rmse.value) else "crash"
            axes[1].plot(result.times, median, color=colour, label=f"{result.policy}, RMSE {rmse}")
            axes[1].fill_between(result.times, low, high, color=colour, alpha=0.15, linewidth=0)
        reference = results[0].sample.reference  # type: ignore[union-attr]
        axes[0].plot(reference[:, 0], reference[:, 1], "--", color=INK, linewidth=1.2, label="reference", zorder=5)
        axes[0].set(xlim=(-1.35, 1.35), ylim=(-1.0, 1.0), xlabel="x [m]", ylabel="y [m]", aspect="equal")
        axes[0].set_title("from above")
        axes[0].legend(loc="upper center")
        axes[1].axvspan(0, 2.0, color=GRID, alpha=0.5, linewidth=0)
        top = max(5.0, *(float(np.percentile(np.minimum(100 * r.distance, 300), 98)) for r in results))
        axes[1].set(xlabel="time [s] (shaded: getting up to speed)", ylabel="distance to reference [cm]")
        axes[1].set_ylim(0, 1.3 * top)
        axes[1].set_title("median and 5th to 95th percentile")
        axes[1].legend()
        figure.suptitle(results[0].scenario.title)
        figure.savefig(path)
    return path


def plot_waypoints(results: Sequence[EvalResult], path: Path) -> Path:
    """Flown path from above and from the side against the way points, and the error over time."""
    with styled_figure(1, 3, (13, 4.2)) as (figure, axes):
        views = tuple(zip(axes, ((0, 1), (0, 2)), (("x", "y"), ("x", "z")), strict=False))
        for colour, result in zip(COLOURS, results, strict=False):
            assert result.sample is not None and result.summary is not None
            position = result.sample.position
            for ax, (i, j), _ in views:
                for k in range(min(5, position.shape[1])):
                    ax.plot(position[:, k, i], position[:, k, j], color=colour, linewidth=0.9, alpha=0.6)
            low, median, high = np.percentile(np.minimum(100 * result.distance, 1e4), (5, 50, 95), axis=1)
            label = f"{result.policy}, RMSE {centimetres(result.summary.rmse.value)}"
            axes[2].plot(result.times, median, color=colour, label=label)
            axes[2].fill_between(result.times, low, high, color=colour, alpha=0.15, linewidth=0)
        scenario, points = results[0].scenario, np.asarray(results[0].scenario.waypoints)
        reference = results[0].sample.reference  # type: ignore[union-attr]
        margin = 0.1 * max(1.0, float(np.ptp(reference, axis=0).max()))
        for ax, (i, j), labels in views:
            ax.plot(reference[:, i], reference[:, j], "--", color=INK, linewidth=1.2, zorder=5)
            ax.plot(points[:, i], points[:, j], "o", color=INK, markersize=4, zorder=6)
            limits = [(reference[:, k].min() - margin, reference[:, k].max() + margin) for k in (i, j)]
            ax.set(xlabel=f"{labels[0]} [m]", ylabel=f"{labels[1]} [m]", xlim=limits[0], ylim=limits[1])
            ax.set_aspect("equal")
        for ax, title in zip(axes, ("from above", "from the side", "median and 5th to 95th percentile"), strict=True):
            ax.set_title(title)
        top = max(5.0, *(float(np.percentile(np.minimum(100 * r.distance, 300), 98)) for r in results))
        axes[2].set(xlabel="time [s]", ylabel="distance to reference [cm]", ylim=(0, 1.3 * top))
        axes[2].legend()
        figure.suptitle(scenario.title)
        figure.savefig(path)
    return path


def plot_scenarios(report: EvalReport, path: Path) -> Path:
    """Success with its 95 % interval for every scenario and policy: the stress table as a picture."""
    scenarios = list(dict.fromkeys(r.scenario.title for r in report.results))
    with styled_figure(1, 1, (8, 1.2 + 0.32 * len(scenarios))) as (figure, axes):
        ax = axes[0]
        for k, policy in enumerate(report.policies):
            shift = 0.16 * (k - (len(report.policies) - 1) / 2)
            for result in report.of(policy):
                if result.summary is None:
                    continue
                s, y = result.summary.survival, scenarios.index(result.scenario.title) + shift
                ax.plot([100 * s.lower, 100 * s.upper], [y, y], color=COLOURS[k % len(COLOURS)], linewidth=1.4)
                ax.plot(100 * s.value, y, "o", color=COLOURS[k % len(COLOURS)], markersize=4)
            ax.plot([], [], "o-", color=COLOURS[k % len(COLOURS)], label=policy)
        ax.set_yticks(range(len(scenarios)), scenarios)
        ax.invert_yaxis()
        ax.axvline(95, color=INK, linewidth=0.8, linestyle=":")
        ax.set(xlim=(-2, 102), xlabel="success [%]: inside ±0.6 m, or path completed; bars are 95 % intervals")
        figure.legend(loc="outside upper center", ncols=4)
        figure.savefig(path)
    return path


def plot_margins(margins: Mapping[str, Sequence[Margin]], path: Path) -> Path:
    """Spider chart: how far from nominal (centre) towards the searched limit (rim) each parameter may go."""
    axes_of = [m.axis for m in next(iter(margins.values()))]
    angles = 2 * np.pi * np.arange(len(axes_of)) / len(axes_of)
    with styled_figure(1, 1, (7.2, 6.4), polar=True) as (figure, axes):
        ax: Any = axes[0]
        ax.set_theta_zero_location("N")
        ax.set_theta_direction(-1)
        for k, (policy, found) in enumerate(margins.items()):
            share = np.array([m.share for m in found])
            colour = COLOURS[k % len(COLOURS)]
            ring = np.append(angles, angles[0]), np.append(share, share[0])
            ax.plot(*ring, "o-", color=colour, markersize=4, label=policy)
            ax.fill(angles, share, color=colour, alpha=0.12)
        first = next(iter(margins.values()))
        labels = [f"{m.axis.title}\n{margin_text(m)}\n(rim {_rim(m)})" for m in first]
        ax.set_xticks(angles, labels, fontsize=8)
        ax.set_yticks([0.25, 0.5, 0.75, 1.0], [""] * 4)
        ax.set_ylim(0, 1)
        ax.tick_params(axis="x", pad=16)
        ax.spines["polar"].set_visible(False)
        figure.suptitle(f"Stability margins at 95 % success; values of {next(iter(margins))}")
        figure.legend(loc="lower right", fontsize=8)
        figure.savefig(path)
    return path


@contextmanager
def styled_figure(
    rows: int, columns: int, size: tuple[float, float], polar: bool = False
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A styled figure on the Agg canvas, whatever the user's matplotlib is set to; never touches pyplot's state."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependency("matplotlib", "drawing plots", "pip install matplotlib") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "polar"} if polar else None)
        yield figure, list(axes.ravel())


def _box() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((-BOX, -BOX), 2 * BOX, 2 * BOX, fill=False, edgecolor=INK, linestyle="--", linewidth=1)


def _rim(margin: Margin) -> str:
    axis = margin.axis
    return f"{1e3 * axis.limit:.0f} ms" if axis.unit == "s" else f"×{axis.limit:g}"
