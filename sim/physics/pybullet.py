"""PyBullet, a second engine to check the first with: contacts and joint limits are Bullet's, the rest is the model's.

The MJCF model is rebuilt as Bullet multibodies (see `_bullet_build`); motors, position actuators, springs and damping
act as joint torques that MuJoCo's own actuator functions compute. Bullet's joints know neither armature nor implicit
damping, so each is geared to a rotor of that inertia, on which dry friction acts. Sensors are MuJoCo's, fed with
Bullet's motion and contact forces. Simulations run one after another in a Python loop, about a thousand steps a second
in all: for tests, not for training.

Contacts have MuJoCo's stiffness, damping and friction (see `_bullet_surfaces`). What differs: their stiffness does not
grow with depth, they have no inertia and so stop what hits them sooner, a box that slides over a plane has one or two
contact points where MuJoCo has up to four, Bullet combines coefficients of single shapes where MuJoCo has one for each
pair, shapes of one body share theirs, and friction against sliding, spinning and rolling neither creeps nor shares one
cone. Resuming from `state_dict` is exact in the air only: Bullet's contact cache cannot be written.
"""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.sim.physics._bullet_build import check_supported
from robot_rl.sim.physics._bullet_sensors import check_sensors
from robot_rl.sim.physics._bullet_world import BulletWorld
from robot_rl.sim.physics._model import check_batch, check_field, cpu_only, nominal, run_each, varying_fields
from robot_rl.sim.physics._silence import silenced

with silenced():  # it tells when it was built
    import pybullet
    from pybullet_utils.bullet_client import BulletClient

MOST = 1000
"""Simulations at a time; Bullet has 1024 connections per process."""
FASTEST = 1e5
"""rad/s or m/s beyond which a simulation counts as diverged; Bullet itself stops at 10⁶."""


class PybulletPhysics:
    """Implements `Physics`; `threads` has no meaning here."""

    name = "pybullet"

    def __init__(self, model: mujoco.MjModel, num_envs: int, device: str = "cpu", threads: int = 0) -> None:
        check_batch(num_envs, threads)
        if num_envs > MOST:
            raise ConfigError(f"num_envs = {num_envs}: physics 'pybullet' runs at most {MOST} simulations")
        self.device = cpu_only(self.name, device)
        check_supported(model)
        check_sensors(model)
        self.model, self.num_envs, self.dt = model, num_envs, float(model.opt.timestep)
        self.fields = varying_fields(model, [n for n in dir(model) if not n.startswith("_")]) | {"opt.gravity"}
        with silenced():
            clients = [BulletClient(pybullet.DIRECT) for _ in range(num_envs)]
        self.worlds = [BulletWorld(client, copy.copy(model)) for client in clients]
        self._changed: dict[str, np.ndarray] = {}
        self._outdated: set[int] = set()
        self._diverged = np.zeros(num_envs, dtype=bool)

    @property
    def qpos(self) -> Tensor:
        return _stack([w.data.qpos for w in self.worlds])

    @property
    def qvel(self) -> Tensor:
        return _stack([w.data.qvel for w in self.worlds])

    @property
    def sensordata(self) -> Tensor:
        return _stack([w.data.sensordata for w in self.worlds])

    @property
    def raw_sensordata(self) -> Tensor:
        """Here as new as `sensordata`."""
        return self.sensordata

    @property
    def unstable(self) -> Tensor:
        return torch.from_numpy(self._diverged.copy())

    def step(self, ctrl: Tensor) -> None:
        if ctrl.shape != (self.num_envs, self.model.nu):
            raise ConfigError(f"ctrl has shape {tuple(ctrl.shape)}, expected {(self.num_envs, self.model.nu)}")
        self._renew()
        for i, (world, row) in enumerate(zip(self.worlds, ctrl.detach().cpu().numpy(), strict=True)):
            world.step(row)
            if not (np.isfinite(world.data.qpos).all() and (np.abs(world.data.qvel) < FASTEST).all()):
                self._diverged[i] = True
                world.put(self.model.qpos0, np.zeros(self.model.nv))

    def run(self, ctrls: Tensor, columns: Tensor) -> Tensor:
        return run_each(self, ctrls, columns)

    def set_state(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        self._renew()
        for i, q, v in zip(ids.tolist(), qpos.detach().cpu().numpy(), qvel.detach().cpu().numpy(), strict=True):
            self._diverged[i] = False
            self.worlds[i].applied[:], self.worlds[i].data.ctrl[:] = 0.0, 0.0
            self.worlds[i].put(q, v)

    def set_field(self, ids: Tensor, name: str, values: Tensor) -> None:
        check_field(self.model, self.fields, name, values, len(ids))
        for i, value in zip(ids.tolist(), values.detach().cpu().numpy(), strict=True):
            nominal(self.worlds[i].model, name)[...] = value
            self._outdated.add(i)
        self._changed[name] = np.stack([nominal(w.model, name) for w in self.worlds])

    def apply(self, body: int, force: Tensor, torque: Tensor) -> None:
        for world, f, t in zip(self.worlds, force.detach().cpu().numpy(), torque.detach().cpu().numpy(), strict=True):
            world.applied[body, :3], world.applied[body, 3:] = f, t

    def state_dict(self) -> dict[str, Any]:
        rows = {name: [getattr(w.data, name) for w in self.worlds] for name in ("qpos", "qvel", "ctrl", "sensordata")}
        rows |= {"qacc": [w.data.qacc for w in self.worlds], "wrench": [w.data.xfrc_applied for w in self.worlds]}
        rows["applied"] = [w.applied for w in self.worlds]
        return {
            "rows": {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()},
            "fields": {name: torch.from_numpy(values.copy()) for name, values in self._changed.items()},
            "diverged": torch.from_numpy(self._diverged.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError where the state belongs to another model or number of simulations."""
        rows = {name: values.numpy() for name, values in state["rows"].items()}
        expected = (self.num_envs, self.model.nq)
        if rows["qpos"].shape != expected:
            raise ConfigError(
                f"qpos of the state is {rows['qpos'].shape}, of this physics {expected}; "
                "was it saved with another model or num_envs?"
            )
        fields = {name: values.numpy() for name, values in state["fields"].items()}
        for name in set(self._changed) | set(fields):
            usual = np.broadcast_to(nominal(self.model, name), (self.num_envs, *nominal(self.model, name).shape))
            self.set_field(torch.arange(self.num_envs), name, torch.from_numpy(fields.get(name, usual).copy()))
        self._renew()
        self._diverged = state["diverged"].numpy().copy()
        for i, world in enumerate(self.worlds):
            world.put(rows["qpos"][i], rows["qvel"][i])
            world.applied[:], world.data.ctrl[:] = rows["applied"][i], rows["ctrl"][i]
            world.data.qacc[:], world.data.xfrc_applied[:] = rows["qacc"][i], rows["wrench"][i]
            world.data.sensordata[:] = rows["sensordata"][i]

    def _renew(self) -> None:
        for i in self._outdated:
            self.worlds[i].rebuild()
        self._outdated.clear()


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))


PHYSICS = PybulletPhysics
