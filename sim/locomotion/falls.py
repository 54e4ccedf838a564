"""Robots lying where they fell: states from which getting up begins."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.registry import load
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.rotations import random_quat
from robot_rl.sim.articulated.scene import compile_scene, flat_scene
from robot_rl.sim.locomotion.options import Falls

CLEARANCE = 0.02  # m between the lowest foot and the ground when the drop begins
AT_REST = 0.1  # rad/s of the fastest joint and m/s, rad/s of the base


@functools.lru_cache(maxsize=4)
def settled(robot: JointedRobot, options: Falls, physics_dt: float, seed: int) -> Tensor:
    """States qpos (count, nq) of fallen robots at rest on a flat floor, determined by the arguments.

    Dropped from `options.height` in a uniformly random orientation, joints anywhere within their limits, drives idle.
    Those that still move after `options.settle` are replaced by others. Always simulated by MuJoCo on the CPU, so that
    every backend begins with the same states.

    Raises:
        ConfigError: none has come to rest.
    """
    model = compile_scene(flat_scene(robot), physics_dt)
    physics = load("physics", "mujoco")(model, options.count, "cpu", 1)
    g, n = torch.Generator().manual_seed(seed), options.count
    limits = torch.tensor([list(model.joint(name).range) for name in robot.joints], dtype=torch.float32)
    joints = torch.tensor([model.joint(name).qposadr[0] for name in robot.joints])
    everyone, rest = torch.arange(n), torch.zeros(n, model.nv)
    qpos = torch.zeros(n, model.nq)
    qpos[:, 2], qpos[:, 3:7] = options.height, random_quat((n,), g)
    qpos[:, joints] = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * torch.rand(n, len(joints), generator=g)
    physics.set_state(everyone, qpos, rest)
    feet: Callable[[str], int] = lambda foot: int(model.sensor_adr[model.sensor(f"{foot}_pos").id]) + 2  # noqa: E731
    lowest = physics.sensordata[:, [feet(foot) for foot in robot.feet]].amin(1)
    qpos[:, 2] += torch.clamp(CLEARANCE - lowest, min=0.0)
    physics.set_state(everyone, qpos, rest)
    idle = torch.zeros(n, model.nu)
    for _ in range(round(options.settle / physics_dt)):
        physics.step(idle)
    calm = (physics.qvel.abs().amax(1) < AT_REST) & ~physics.unstable
    good = calm.nonzero()[:, 0]
    if len(good) == 0:
        raise ConfigError(f"no robot is at rest {options.settle} s after its fall; choose a greater falls.settle")
    return physics.qpos[good[everyone % len(good)]].clone()
