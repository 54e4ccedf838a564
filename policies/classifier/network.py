"""The classifier: what is seen at one moment → the probability that the task is solved; learning and calibrating it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.contract import Command
from robot_rl.observer import ActionMap
from robot_rl.policies.classifier.calibration import Floats, best_temperature
from robot_rl.policies.classifier.frames import Frames
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.policies.imitation.pictures import Eyes, Perception
from robot_rl.policies.networks import activation
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.signals import Signal

OUTPUT = "success_probability"
_AT_ONCE = 4096  # frames


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is learnt.

    Attributes:
        images: cameras that it sees; (): none. hidden: units. keypoints: places in each picture.
        updates, batch_size, learning_rate, weight_decay: of AdamW. shift: pixels by which pictures are moved.
        noise: on the normalised observation while learning.
        last, margin: see `frames.read_frames`.
        false_positives: share of held-out episodes that may raise a false alarm; it decides the threshold.
    """

    images: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (64, 64)
    keypoints: int = 16
    updates: int = 2_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    shift: int = 4
    noise: float = 0.02
    last: int = 3
    margin: int = 5
    false_positives: float = 0.05

    def __post_init__(self) -> None:
        for name in ("keypoints", "updates", "last"):
            require_range(name, getattr(self, name), 1, 10**7)
        require_range("batch_size", self.batch_size, 2, 10**6)
        for name in ("learning_rate", "weight_decay", "noise", "false_positives"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("shift", "margin"):
            require_range(name, getattr(self, name), 0, 1000)


class SuccessNetwork(nn.Module):
    """(N, n), with pictures flat behind it, → probability (N, 1); `logits` is the same before calibration.

    Attributes:
        pictures: signals of the pictures, for export. prior: logarithm of the odds of a positive frame: the head learns
            from as many positive as negative ones, so it says what a frame adds to them.
    """

    temperature: Tensor
    prior: Tensor

    def __init__(self, size: int, pictures: tuple[Signal, ...], config: ClassifierConfig, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            eyes = Eyes(len(pictures), config.keypoints) if pictures else None
            shape = (len(pictures), *pictures[0].shape) if pictures else ()
            self.perception = Perception(RunningNormalizer(size), size, eyes, shape)
            sizes, layers = (self.perception.features, *config.hidden), list[nn.Module]()
            for fan_in, fan_out in pairwise(sizes):
                layers += [nn.Linear(fan_in, fan_out), activation("relu")]
            self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        self.pictures = pictures
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("prior", torch.zeros(()))

    def forward(self, obs: Tensor) -> Tensor:
        return torch.sigmoid((self.head(self.perception(obs)) + self.prior) / self.temperature)

    @torch.no_grad()
    def logits(self, frames: Frames) -> Floats:
        """(F,) before calibration."""
        same = torch.Generator()
        parts = []
        for start in range(0, len(frames.obs), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            pictures = None if frames.pictures is None else frames.pictures[rows]
            parts.append(self.head(self.perception.learnt(frames.obs[rows], pictures, 0.0, 0, same))[:, 0])
        return (torch.cat(parts) + self.prior).double().numpy()


class Probability(ActionMap):
    """The network's answer as the one command of the exported file."""

    commands = (Command(OUTPUT, "probability", "", ("success",), (0.0,), (1.0,), (0.0,)),)

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {OUTPUT: action}


def learn(frames: Frames, pictures: tuple[Signal, ...], config: ClassifierConfig, seed: int) -> SuccessNetwork:
    """A network fitted to the clear frames, of which both kinds must be there; half of each batch is positive.

    Raises:
        NonFinite: a loss is not finite.
    """
    network = SuccessNetwork(frames.obs.shape[1], pictures, config, seed)
    norm = network.perception.norm
    assert isinstance(norm, RunningNormalizer)
    norm.update(frames.obs)
    generator = torch.Generator().manual_seed(seed)
    kinds = [torch.from_numpy(np.nonzero(frames.clear & (frames.label == kind))[0]) for kind in (True, False)]
    network.prior.fill_(float(np.log(len(kinds[0]) / len(kinds[1]))))
    label, half = torch.from_numpy(frames.label).float(), config.batch_size // 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for _ in range(config.updates):
        index = torch.cat([rows[torch.randint(len(rows), (half,), generator=generator)] for rows in kinds])
        seen = None if frames.pictures is None else frames.pictures[index]
        features = network.perception.learnt(frames.obs[index], seen, config.noise, config.shift, generator)
        loss = F.binary_cross_entropy_with_logits(network.head(features)[:, 0], label[index])
        require_finite("loss/classifier", loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def calibrate(network: SuccessNetwork, frames: Frames) -> float:
    """Set the temperature by the clear frames of episodes that were not learnt from; returns it."""
    temperature = best_temperature(network.logits(frames)[frames.clear], frames.label[frames.clear])
    network.temperature.fill_(temperature)
    return temperature
