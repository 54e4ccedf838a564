"""The one place where the name of a torch device is checked."""

from __future__ import annotations

import torch

from robot_rl.errors import ConfigError


def torch_device(device: str | torch.device) -> torch.device:
    """Raises ConfigError for a device that torch does not have."""
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{device}' cannot be used: {reason}. Use 'cpu', or 'cuda' on a GPU") from error
    return chosen
