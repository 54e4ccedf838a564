"""Several processes that train one policy, as torchrun starts them: each with its own environments and random numbers.

    torchrun --nproc-per-node 2 -m robot_rl.cli train go1-velocity-flat --algorithm ppo --device cuda

Gradients, statistics and metrics are averaged, so all processes hold the same networks. Rank 0 alone writes the run
folder; its checkpoints hold the state of every process (`shared_run_folder.py`).
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from robot_rl.errors import ConfigError

_SEED_STRIDE = 1_000_003  # so that neighbouring seeds of users do not meet


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone, every operation leaves things as they are.

    Attributes:
        rank: 0 … count − 1. count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def seed(self, seed: int) -> int:
        """The seed of this process's environments and noise; rank 0 uses `seed` itself."""
        return seed + _SEED_STRIDE * self.rank

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device and type by their means over the processes, in one message."""
        if self.count > 1:
            flat = torch.cat([t.reshape(-1) for t in tensors])
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def moments(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        """Number of rows, mean and variance (biased) of samples x (R, n) over all processes, which have R each."""
        mean, variance = x.mean(0), x.var(0, unbiased=False)
        if self.count > 1:
            own = mean.clone()
            self.average([mean])
            variance += (own - mean).square()
            self.average([variance])
        return float(len(x) * self.count), mean, variance

    def gather(self, value: Any) -> list[Any] | None:
        """Values of all processes in the order of their ranks, on rank 0; None on the others."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.rank == 0 else None
        dist.gather_object(value, values, dst=0)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def stop(self, event: threading.Event) -> SharedStop:
        """A stop request that reaches all processes in the same iteration."""
        return SharedStop(event, self)


class SharedStop:
    """Set for everyone as soon as it is set for anyone."""

    def __init__(self, event: threading.Event, ranks: Ranks) -> None:
        self.event, self.ranks = event, ranks

    def is_set(self) -> bool:
        """Asks all processes; each must call it equally often."""
        if self.ranks.count == 1:
            return self.event.is_set()
        flag = torch.tensor(float(self.event.is_set()))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)


def current_ranks() -> Ranks:
    """This process's place; alone unless within `joined`."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the other processes that torchrun started (none: at once), and part afterwards."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or current_ranks().count > 1:
        yield current_ranks()
        return
    # Imported within the group (torch's compiler does so), this module keeps the group alive as default argument of its
    # functions: the group's threads would outlive the interpreter and, now and then, abort the process.
    importlib.import_module("torch.distributed.nn")

    # gloo moves what is on the CPU (states, stop requests), nccl what is on GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield current_ranks()
        dist.barrier()  # nobody leaves while another may still be sending: its threads would be torn down under it
    finally:
        dist.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process may talk and write: alone, or rank 0 of torchrun; also before they have met."""
    return os.environ.get("RANK", "0") == "0"


def local_device(device: str) -> str:
    """`cuda` becomes the GPU of this process; everything else stays.

    Raises:
        ConfigError: there are more processes than GPUs on this machine.
    """
    if device != "cuda" or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"process {index} has no GPU of its own: this machine has {torch.cuda.device_count()}; "
            f"start at most as many with torchrun --nproc-per-node"
        )
    torch.cuda.set_device(index)
    return f"cuda:{index}"
