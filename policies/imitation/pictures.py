"""Eyes of a cloned policy: a small convolutional network that says where in a picture something is.

Levine et al.: End-to-End Training of Deep Visuomotor Policies (2016), for the spatial softmax; Yarats et al.: Image
Augmentation Is All You Need (DrQ, 2021), for the random shift.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST = 16
"""Pixels: smaller pictures are refused; the network halves them twice."""


class Eyes(nn.Module):
    """Pictures of C cameras, (N, C, H, W, 3) from 0 to 255, to (N, C·(2K)): K places in each, from −1 to 1.

    Every camera has a network of its own. A place is the mean position under the softmax of a feature map: x to the
    right, y down, so what is learnt from few pictures is where things are and not what the background looks like.

    Args:
        cameras: C. keypoints: K.
    """

    def __init__(self, cameras: int, keypoints: int) -> None:
        super().__init__()
        self.size = 2 * cameras * keypoints
        self.each = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(32, keypoints, 3, padding=1),
            )
            for _ in range(cameras)
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class; uint8 or float32."""
        bright = pictures.float() / 127.5 - 1.0
        places = [_places(eye(bright[:, k].permute(0, 3, 1, 2))) for k, eye in enumerate(self.each)]
        return torch.cat(places, 1)


def _places(maps: Tensor) -> Tensor:
    """Feature maps (N, K, H, W) → mean x, then mean y of each, (N, 2K)."""
    height, width = maps.shape[2:]
    share = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
    across = torch.linspace(-1.0, 1.0, width, device=maps.device)
    down = torch.linspace(-1.0, 1.0, height, device=maps.device)
    return torch.cat([(share.sum(2) * across).sum(-1), (share.sum(3) * down).sum(-1)], 1)


def shifted(pictures: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Pictures (N, C, H, W, 3), each moved by up to `most` pixels both ways; the border is repeated."""
    if most == 0:
        return pictures
    n, cameras, height, width, _ = pictures.shape
    flat = pictures.flatten(0, 1)
    by = torch.randint(-most, most + 1, (2, len(flat)), generator=generator).to(pictures.device)
    rows = (torch.arange(height, device=pictures.device) + by[0][:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=pictures.device) + by[1][:, None]).clamp(0, width - 1)
    which = torch.arange(len(flat), device=pictures.device)
    moved = flat[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.unflatten(0, (n, cameras))


class Perception(nn.Module):
    """What is observed → features (N, F): the normalised state, and behind it what the eyes say.

    Args:
        norm: of the state (N, n). size: n.
        eyes: None without pictures. shape: (C, H, W, 3) of the pictures, ones of equal size.
    """

    def __init__(self, norm: nn.Module, size: int, eyes: Eyes | None = None, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.norm, self.size, self.eyes, self.shape = norm, size, eyes, shape

    @property
    def features(self) -> int:
        """F."""
        return self.size + (0 if self.eyes is None else self.eyes.size)

    def forward(self, obs: Tensor) -> Tensor:
        """The deployed form: obs (N, n), with pictures (N, n + C·H·W·3), flat and one camera after the other."""
        if self.eyes is None:
            return self.norm(obs)
        return torch.cat([self.norm(obs[:, : self.size]), self.eyes(obs[:, self.size :].unflatten(1, self.shape))], 1)

    def learnt(
        self, state: Tensor, pictures: Tensor | None, noise: float, shift: int, generator: torch.Generator
    ) -> Tensor:
        """The same for rows to learn from, with noise on the normalised state and shifted pictures."""
        features = self.norm(state)
        if noise > 0.0:
            features = features + noise * torch.randn(features.shape, generator=generator).to(features)
        if self.eyes is None or pictures is None:
            return features
        return torch.cat([features, self.eyes(shifted(pictures, shift, generator))], 1)
