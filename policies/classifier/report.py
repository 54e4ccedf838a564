"""What a classifier is worth on episodes that it has not seen: by frame, by episode, and as a table to print."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_rl.policies.classifier.calibration import (
    Bools,
    Confusion,
    Floats,
    ReliabilityRow,
    auc,
    calibration_error,
    confusion,
    largest_by_episode,
    log_loss,
    probability,
    reliability,
)
from robot_rl.policies.classifier.frames import Frames


@dataclass(frozen=True)
class ClassifierReport:
    """Figures over the clear frames of some episodes.

    Attributes:
        threshold: above it a frame counts as success. temperature: of the probabilities.
        frames, positives: how many. auc: area under the ROC curve. log_loss, calibration_error (ECE): of the
            probabilities, and `…_before` of those before temperature scaling.
        reliability, confusion: see `calibration`.
        alarms: episodes with a false alarm, of `episodes`; found: successful ones that were noticed, of `successes`.
    """

    threshold: float
    temperature: float
    frames: int
    positives: int
    auc: float
    log_loss: float
    log_loss_before: float
    calibration_error: float
    calibration_error_before: float
    reliability: list[ReliabilityRow]
    confusion: Confusion
    episodes: int
    alarms: int
    successes: int
    found: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def report_on(logit: Floats, frames: Frames, threshold: float, temperature: float) -> ClassifierReport:
    """The figures for logits (F,) of these frames."""
    p = probability(logit, temperature)
    clear, label = p[frames.clear], frames.label[frames.clear]
    raw = probability(logit)[frames.clear]
    alarms = largest_by_episode(p, frames.episode, frames.clear & ~frames.label)
    found = largest_by_episode(p, frames.episode, frames.label) if label.any() else np.zeros(0)
    return ClassifierReport(
        threshold, temperature, len(label), int(label.sum()), auc(clear, label),
        log_loss(logit[frames.clear], label, temperature), log_loss(logit[frames.clear], label),
        calibration_error(clear, label), calibration_error(raw, label), reliability(clear, label),
        confusion(clear, label, threshold), len(alarms), int((alarms > threshold).sum()), len(found),
        int((found > threshold).sum()),
    )  # fmt: skip


def said_and_true(logit: Floats, frames: Frames, temperature: float) -> tuple[Floats, Bools]:
    """Probabilities and labels of the clear frames, for curves."""
    return probability(logit, temperature)[frames.clear], frames.label[frames.clear]
