"""Left–right symmetry of a robot: mirrored observations and actions, for augmented data and for a mirror loss.

Mittal et al.: Symmetry Considerations for Learning Task Symmetric Robot Policies (2024).

An environment offers it as an attribute `symmetry`: name of an observation group, or "action" → (indices, signs), with
mirrored[i] = signs[i] · x[indices[i]]. Mirroring twice must give back the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, UnknownName

MODES = ("none", "augment", "loss", "both")
ACTION = "action"


class Symmetry:
    """Mirror images by name: observation groups and "action"."""

    def __init__(
        self,
        mirrors: Mapping[str, tuple[Sequence[int], Sequence[float]]],
        sizes: Mapping[str, int],
        device: torch.device,
    ) -> None:
        """Check and keep the mirrors of the names in `sizes` (name → length).

        Raises:
            ConfigError: a mirror is missing, of the wrong length, or not its own inverse.
        """
        self.mirrors: dict[str, tuple[Tensor, Tensor]] = {}
        for name, size in sizes.items():
            if name not in mirrors:
                raise ConfigError(f"env.symmetry has no mirror of '{name}'; it has {sorted(mirrors)}")
            indices, signs = list(mirrors[name][0]), list(mirrors[name][1])
            if sorted(indices) != list(range(size)) or len(signs) != size:
                raise ConfigError(
                    f"env.symmetry['{name}'] needs a permutation of 0…{size - 1} and {size} signs, "
                    f"got {len(indices)} indices and {len(signs)} signs"
                )
            wrong = [i for i in range(size) if indices[indices[i]] != i or signs[i] * signs[indices[i]] != 1.0]
            if wrong:
                raise ConfigError(f"env.symmetry['{name}'] applied twice is not the identity at elements {wrong}")
            self.mirrors[name] = (torch.tensor(indices, device=device), torch.tensor(signs, device=device).float())

    def mirror(self, name: str, x: Tensor) -> Tensor:
        """The mirror image of x (…, size of `name`)."""
        indices, signs = self.mirrors[name]
        return x.index_select(-1, indices) * signs

    def with_images(self, batch: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
        """The batch's rows (B, …) followed by their mirror images, (2B, …).

        Args:
            batch: field → rows; those that are not in `names` (advantages, …) are the same for the image.
            names: field → what it is: an observation group or "action".
        """
        return {
            field: torch.cat((rows, self.mirror(names[field], rows) if field in names else rows))
            for field, rows in batch.items()
        }


def symmetry_of(env: object, sizes: Mapping[str, int], device: torch.device, mode: str) -> Symmetry | None:
    """The symmetry of an environment, or None in the mode "none".

    Raises:
        ConfigError: the environment offers none, or a wrong one.
        UnknownName: no such mode.
    """
    if mode not in MODES:
        raise UnknownName("symmetry mode", mode, MODES)
    if mode == "none":
        return None
    mirrors = getattr(env, "symmetry", None)
    if mirrors is None:
        raise ConfigError(
            f"symmetry = '{mode}', but {type(env).__name__} has no attribute 'symmetry' (name of an observation group "
            f"or 'action' → indices, signs); add it to the environment or train with --set symmetry=none"
        )
    return Symmetry(mirrors, sizes, device)
