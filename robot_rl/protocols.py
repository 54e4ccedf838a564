"""The seams between the folders, as types only: nothing here runs and nothing heavy is imported.

`sim` implements `BatchedEnv` and `FusedRollout`, `policies` consumes them; `hardware` implements `Driver`. Batched is
the only case: arrays have a leading dimension num_envs, and torch tensors live on the environment's device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robot_rl.contract import Command
    from robot_rl.signals import Signal

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass
class Step:
    """What one control step gives back. N = num_envs.

    Attributes:
        obs: groups `policy` (N, n) and `critic` (N, m), after automatic reset where an episode ended.
        reward: (N,).
        cost: name → (N,), what safe RL bounds.
        terminated: (N,) bool, the task failed or ended: no bootstrap.
        truncated: (N,) bool, time ran out: bootstrap from `final_obs`.
        final_obs: the same groups before the reset (equal to `obs` where nothing ended).
        log: name → scalar tensor, for the logger only.
    """

    obs: dict[str, Tensor]
    reward: Tensor
    cost: dict[str, Tensor]
    terminated: Tensor
    truncated: Tensor
    final_obs: dict[str, Tensor]
    log: dict[str, Tensor] = field(default_factory=dict)


class BatchedEnv(Protocol):
    """A batch of the same task; ended episodes reset themselves in the same step."""

    num_envs: int
    obs_dims: Mapping[str, int]
    action_dim: int
    control_dt: float
    max_episode_steps: int
    device: torch.device

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        """Reset every environment; with a seed everything that follows is determined by it."""
        ...

    def step(self, action: Tensor) -> Step:
        """One control step with action (N, action_dim) in [−1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened, random state included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class DifferentiableTask(Protocol):
    """A batch of environments that differentiates its own loss: what training by analytic gradients needs."""

    num_envs: int
    obs_dim: int
    action_dim: int
    action_mix: Tensor
    action_bias: Tensor
    config: Any

    def reset(self, seed: int | None = None) -> Any: ...

    def loss_and_gradient(self, layers: list[Tensor]) -> tuple[float, list[Tensor]]:
        """Fly one window with the tanh network W1, b1, W2, b2, …; mean loss per step and its gradient by layer."""
        ...

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class Driver(Protocol):
    """A robot, real or simulated. `robot`, `signals` and `commands` can be read without hardware.

    `robot` is the name policies are made for, `name` is the driver's own.
    """

    name: str
    robot: str
    signals: tuple[Signal, ...]
    commands: tuple[Command, ...]

    def connect(self) -> None:
        """Open the connection; raises DriverError with what to check."""
        ...

    def read(self) -> Reading:
        """The newest sample of each signal, without waiting."""
        ...

    def write(self, command: Mapping[str, Array]) -> dict[str, Array]:
        """Send; returns what was really sent after the driver's own limits."""
        ...

    def stop(self) -> None:
        """Idle command, then release. Idempotent, works in any state, never raises."""
        ...


@runtime_checkable
class JointDriver(Driver, Protocol):
    """The driver of a robot whose joints follow position targets with stiffness and damping of their own.

    Attributes:
        gains: `stiffness`, `damping`: (J,) that the low level uses, N m/rad and N m s/rad; compared with the policy's.
        rest_pose: (J,) rad, where the robot can do without stiffness: lying on its belly, for one that walks.
    """

    gains: Mapping[str, tuple[float, ...]]
    rest_pose: tuple[float, ...]

    def damp(self) -> None:
        """Joints without stiffness but with damping, until the next `write`: the robot sinks, it does not drop.

        `stop` must leave the joints like this as well, and so must the low level when nobody writes any more.
        """
        ...


@dataclass(frozen=True)
class Reading:
    """Signals by name (SI units), each with the monotonic time in seconds at which it was measured."""

    signals: Mapping[str, Array]
    stamps: Mapping[str, float]


class BasePolicy(Protocol):
    """Anything that proposes commands and may be refined: a controller, a cloned or a remote policy."""

    def reset(self, num_envs: int = 1) -> None: ...

    def act(self, signals: Mapping[str, Array], instruction: str | None = None) -> dict[str, Array]:
        """Signals (N, …) in SI units → command name → (N, …)."""
        ...


class Takeover(NamedTuple):
    """Who acts in a control step: `rows` (N,) bool, the human; there `action` (N, A) in [−1, 1] counts."""

    rows: Bools
    action: Array


class Human(Protocol):
    """Whoever watches environments and may act instead of the policy: a person at a device, or a script."""

    def reset(self, rows: NDArray[np.int64]) -> None:
        """New episodes in `rows` (k,)."""
        ...

    def act(self, seen: Mapping[str, Array], proposed: Array, asked: Bools) -> Takeover:
        """Asked at every control step, before anything is executed.

        Args:
            seen: signals by name and observations as `obs/<group>`, (N, …), of this step.
            proposed: (N, A) in [−1, 1], what the policy would do.
            asked: (N,) bool, where the policy wants to be taken over: there a human acts, or holds still.
        """
        ...

    def close(self) -> None:
        """Release the device; idempotent."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a script needs to go on as if nothing had happened; a person's is empty."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
