"""What an environment with joints and contacts asks of a simulator, as types only.

One compiled `mujoco.MjModel` describes the scene for every backend; names, orders, addresses and sensors are the
model's. N = num_envs simulations of it run side by side, and every one may have its own friction, masses and so on.
A physics step is the unit here; actuator models, control steps and everything random belong to the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import mujoco
    import torch
    from torch import Tensor


class Physics(Protocol):
    """N simulations of one model. Tensors are float32 on `device`, quaternions wxyz, layout as in `mujoco.MjData`.

    Attributes:
        name: as in `robot-rl list physics`.
        model: the nominal model; nobody writes to it.
        dt: seconds of a physics step, `model.opt.timestep`.
        fields: names of the `MjModel` fields that may differ between simulations on this backend.
    """

    name: str
    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    dt: float
    fields: frozenset[str]

    @property
    def qpos(self) -> Tensor:
        """(N, nq), after the last step. Valid until the next call; not to be written to."""
        ...

    @property
    def qvel(self) -> Tensor:
        """(N, nv), likewise."""
        ...

    @property
    def sensordata(self) -> Tensor:
        """(N, nsensordata): positions and velocities of this state; forces and accelerations of the last step."""
        ...

    @property
    def raw_sensordata(self) -> Tensor:
        """(N, nsensordata) as the last step left it, at no cost: forces and accelerations as in `sensordata`, positions
        and velocities of the state before that step.
        """
        ...

    @property
    def unstable(self) -> Tensor:
        """(N,) bool: the simulation has diverged or raised an error since its last `set_state`; its values are finite
        but mean nothing.
        """
        ...

    def step(self, ctrl: Tensor) -> None:
        """One physics step with ctrl (N, nu): torques of `motor`s (N m), targets of position actuators (rad or m)."""
        ...

    def run(self, ctrls: Tensor, columns: Tensor) -> Tensor:
        """A physics step for each of ctrls (K, N, nu) → (K, N, k): these columns of `raw_sensordata` after each."""
        ...

    def set_state(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put simulations `ids` (k,) into states (k, nq), (k, nv), at rest in every other respect.

        Applied forces, activations and the solver's warm start are cleared and the derived values refreshed; readings
        of forces and accelerations are 0 until the next step. `ids` name no simulation twice.
        """
        ...

    def set_field(self, ids: Tensor, name: str, values: Tensor) -> None:
        """Give simulations `ids` (k,) their own values (k, *shape of the field) of an `MjModel` field.

        Constants that follow from masses and inertias are brought up to date at the latest at the next `set_state` of
        these simulations.

        Raises:
            UnknownName: the backend cannot vary this field; the message lists those it can.
        """
        ...

    def apply(self, body: int, force: Tensor, torque: Tensor) -> None:
        """External force (N, 3) in N and torque (N, 3) in N m on one body's centre of mass, world frame.

        It acts in every step until it is set again.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened, fields included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class PhysicsFactory(Protocol):
    """What a backend's file defines as PHYSICS."""

    def __call__(self, model: mujoco.MjModel, num_envs: int, device: str = "cpu", threads: int = 0) -> Physics:
        """N simulations of `model`; `threads` 0: the backend's own choice, one per core.

        Raises:
            MissingDependency: the simulator is not installed; the message has the command.
            ConfigError: the model has something that this simulator cannot do, or the device does not exist.
        """
        ...
