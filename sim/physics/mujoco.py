"""MuJoCo on the CPU: all simulations advance in one call on a pool of threads (`mujoco.batch`, MuJoCo ≥ 4.0).

A simulation is one row of float64 state; its `MjData` is a scratch area of the thread that happens to run it. So a
simulation of a quadruped takes 2 kB and stays in the cache. Sensors of position and velocity would be one step old
after a step; they are brought up to date when they are read, once per control step instead of once per physics step.
With four physics steps to a control step, 1024 quadrupeds ran at 40.6k steps per CPU-second this way; a batch that
keeps an `MjData` per simulation (`persistent`) and computes the sensors every time ran at 30.1k, with 0.23 MB each.
"""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

try:
    from mujoco import batch as mujoco_batch
except ImportError as _error:
    from robot_rl.errors import MissingDependency

    raise MissingDependency("MuJoCo ≥ 4.0", "physics 'mujoco'", "pip install 'robot-rl[sim]'") from _error

from robot_rl.errors import ConfigError
from robot_rl.sim.physics._model import (
    check_batch,
    check_field,
    cpu_only,
    force_columns,
    needs_forces,
    nominal,
    varying_fields,
)

_CURRENT = int(mujoco.mjtStage.mjSTAGE_VEL)
_NOTHING = int(mujoco.mjtStage.mjSTAGE_NONE)
_OFF = mujoco.mjtDisableBit
_NO_FORCES = sum(
    int(flag)
    for flag in (
        _OFF.mjDSBL_CONTACT,
        _OFF.mjDSBL_CONSTRAINT,
        _OFF.mjDSBL_SPRING,
        _OFF.mjDSBL_DAMPER,
        _OFF.mjDSBL_GRAVITY,
    )
)
_WARNING = mujoco.mjtWarning
_DIVERGED = [int(w) for w in (_WARNING.mjWARN_BADQPOS, _WARNING.mjWARN_BADQVEL, _WARNING.mjWARN_BADQACC)]


class MujocoPhysics:
    """Implements `Physics` for the CPU. Results do not depend on the number of threads, to the last bit."""

    name = "mujoco"

    def __init__(self, model: mujoco.MjModel, num_envs: int, device: str = "cpu", threads: int = 0) -> None:
        check_batch(num_envs, threads)
        self.device = cpu_only(self.name, device)
        self.model, self.num_envs, self.dt = model, num_envs, float(model.opt.timestep)
        threads = min(threads or len(os.sched_getaffinity(0)), num_envs)
        try:
            self.batch = mujoco_batch.Batch(model, num_envs, threads)
        except ValueError as error:
            raise ConfigError(f"physics 'mujoco' cannot run this model: {error}") from error
        self.fields = varying_fields(model, mujoco_batch.MODEL_FIELDS)
        b = self.batch
        self._state = {name: b.bind(name) for name in ("qpos", "qvel", "ctrl", "xfrc_applied", "sensordata")}
        self._late = force_columns(model)
        self._blind = _NO_FORCES * (not needs_forces(model))
        self._outdated = np.zeros(num_envs, dtype=bool)  # constants that follow from fields are
        self._failed = np.zeros(num_envs, dtype=bool)
        self._qpos: Tensor | None = None
        self._qvel: Tensor | None = None
        self._sensors: Tensor | None = None
        self._call(lambda: b.reset(stage=_CURRENT))

    @property
    def qpos(self) -> Tensor:
        if self._qpos is None:
            self._qpos = _float32(self._state["qpos"])
        return self._qpos

    @property
    def qvel(self) -> Tensor:
        if self._qvel is None:
            self._qvel = _float32(self._state["qvel"])
        return self._qvel

    @property
    def sensordata(self) -> Tensor:
        if self._sensors is None:
            readings = self._state["sensordata"].astype(np.float32)
            if not self._late.all():
                self._call(self._look)
                np.copyto(readings, self._state["sensordata"], where=~self._late, casting="same_kind")
            self._sensors = torch.from_numpy(readings)
        return self._sensors

    @property
    def raw_sensordata(self) -> Tensor:
        return _float32(self._state["sensordata"]) if self._sensors is None else self._sensors

    @property
    def unstable(self) -> Tensor:
        return torch.from_numpy(self.batch.warning[:, _DIVERGED, 1].any(axis=1) | self._failed)

    def step(self, ctrl: Tensor) -> None:
        if ctrl.shape != (self.num_envs, self.model.nu):
            raise ConfigError(f"ctrl has shape {tuple(ctrl.shape)}, expected {(self.num_envs, self.model.nu)}")
        self._state["ctrl"][:] = ctrl.detach().cpu().numpy()
        self._call(self.batch.step)
        self._qpos = self._qvel = self._sensors = None

    def run(self, ctrls: Tensor, columns: Tensor) -> Tensor:
        """As `step` does it, in numpy alone: between two physics steps nothing of torch is left in the cache."""
        if ctrls.shape[1:] != (self.num_envs, self.model.nu):
            raise ConfigError(f"ctrls have shape {tuple(ctrls.shape)}, expected (K, {self.num_envs}, {self.model.nu})")
        rows, picked = ctrls.detach().cpu().numpy(), columns.cpu().numpy()
        felt = np.empty((len(rows), self.num_envs, len(picked)), dtype=np.float32)
        self._qpos = self._qvel = self._sensors = None
        for ctrl, reading in zip(rows, felt, strict=True):
            self._state["ctrl"][:] = ctrl
            self._call(self.batch.step)
            reading[:] = self._state["sensordata"][:, picked]
        return torch.from_numpy(felt)

    def set_state(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        rows, order = _sorted(ids)
        if len(rows) == 0:
            return
        before = self.sensordata.numpy()
        self._failed[rows] = False
        outdated = rows[self._outdated[rows]]
        if len(outdated) > 0:
            self._call(lambda: self.batch.set_const(outdated))
            self._outdated[outdated] = False
        self._call(lambda: self.batch.reset(rows, stage=_NOTHING))
        self._state["qpos"][rows] = qpos.detach().cpu().numpy()[order]
        self._state["qvel"][rows] = qvel.detach().cpu().numpy()[order]
        self._call(lambda: self.batch.forward(rows, stage=_CURRENT))
        readings = before.copy()
        readings[rows] = np.where(self._late, 0.0, self._state["sensordata"][rows])
        self._qpos, self._qvel, self._sensors = None, None, torch.from_numpy(readings)

    def set_field(self, ids: Tensor, name: str, values: Tensor) -> None:
        check_field(self.model, self.fields, name, values, len(ids))
        rows = ids.cpu().numpy()
        self.batch.expand(name)[rows] = values.detach().cpu().numpy()
        if name in mujoco.MjModel._setconst_inputs:
            self._outdated[rows] = True

    def apply(self, body: int, force: Tensor, torque: Tensor) -> None:
        wrench = self._state["xfrc_applied"][:, body]
        wrench[:, :3], wrench[:, 3:] = force.detach().cpu().numpy(), torque.detach().cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        fields = {name: self.batch.expanded(name) for name in sorted(mujoco_batch.MODEL_FIELDS)}
        return {
            "state": torch.from_numpy(self.batch.state.copy()),
            "fields": {name: torch.from_numpy(np.array(rows)) for name, rows in fields.items() if rows is not None},
            "outdated": torch.from_numpy(self._outdated.copy()),
            "sensordata": self.sensordata.clone(),
            "failed": torch.from_numpy(self._failed.copy()),
            "warning": torch.from_numpy(self.batch.warning.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError where the state belongs to another model or number of simulations."""
        if tuple(state["state"].shape) != self.batch.state.shape:
            raise ConfigError(
                f"the state is {tuple(state['state'].shape)} (simulations, numbers each), "
                f"this physics has {self.batch.state.shape}; was it saved with another model or num_envs?"
            )
        self.batch.state[:] = state["state"].numpy()
        for name in mujoco_batch.MODEL_FIELDS:
            if name in state["fields"]:
                self.batch.expand(name)[:] = state["fields"][name].numpy()
            elif self.batch.expanded(name) is not None:
                self.batch.expand(name)[:] = nominal(self.model, name)
        self.batch.warning[:] = state["warning"].numpy()
        self._failed, self._outdated = state["failed"].numpy().copy(), state["outdated"].numpy().copy()
        self._qpos, self._qvel, self._sensors = None, None, state["sensordata"].clone()

    def _look(self) -> None:
        """Sensors of position and velocity of this state; without contacts and forces if none of these sees them."""
        if not self._blind:
            self.batch.forward(stage=_CURRENT)
            return
        flags = self.batch.expand("opt.disableflags")
        before = flags.copy()
        flags |= self._blind
        try:
            self.batch.forward(stage=_CURRENT)
        finally:
            flags[:] = before

    def _call(self, call: Callable[[], None]) -> None:
        """Simulations in which MuJoCo raises keep their state and become `unstable`; the others go on."""
        try:
            call()
        except mujoco_batch.SimulationError as error:
            self._failed[error.ids] = True


def _float32(values: np.ndarray) -> Tensor:
    """A copy, so that what an environment holds does not change under it."""
    return torch.from_numpy(values.astype(np.float32))


def _sorted(ids: Tensor) -> tuple[np.ndarray, np.ndarray | slice]:
    """Ascending ids as the batch wants them, and where their values stand in the caller's order."""
    rows = ids.cpu().numpy()
    if (rows[1:] > rows[:-1]).all():
        return rows, slice(None)
    order = np.argsort(rows, kind="stable")
    if (np.diff(rows[order]) == 0).any():
        raise ConfigError(f"ids name a simulation twice: {rows.tolist()}")
    return rows[order], order


PHYSICS = MujocoPhysics
