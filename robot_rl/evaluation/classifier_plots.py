"""Reliability and ROC of a success classifier, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.evaluation.plots import COLOURS, INK, styled_figure

if TYPE_CHECKING:
    from robot_rl.policies.classifier.report import ClassifierReport


def save_plots(said: Any, true: Any, report: ClassifierReport, folder: Path) -> Path:
    """Draw `classifier.png` from probabilities (F,) and labels (F,); returns the file."""
    from robot_rl.policies.classifier.calibration import roc

    folder.mkdir(parents=True, exist_ok=True)
    rows, path = report.reliability, folder / "classifier.png"
    with styled_figure(1, 2, (8.0, 3.8)) as (figure, (left, right)):
        left.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
        sizes = [15.0 + 60.0 * row.count / report.frames for row in rows]
        left.scatter([row.said for row in rows], [row.true for row in rows], s=sizes, color=COLOURS[0])
        left.set(xlabel="probability said", ylabel="share that is positive")
        left.set_title(f"reliability, ECE {report.calibration_error:.4f}")
        false, found = roc(said, true)
        right.plot(false, found, color=COLOURS[0])
        c = report.confusion
        at = c.false_positive / max(c.false_positive + c.true_negative, 1), c.true_positive / max(report.positives, 1)
        right.plot(*at, "o", color=COLOURS[1], label=f"threshold {report.threshold:.3f}")
        right.set(xlabel="false positive rate of frames", ylabel="true positive rate of frames")
        right.set_title(f"ROC, AUC {report.auc:.4f}")
        right.legend()
        figure.savefig(path)
    return path
