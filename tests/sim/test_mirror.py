"""Left–right symmetry of robots with legs: what happens to the mirrored robot is the mirror image of what happens."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.policies.symmetry import Symmetry
from robot_rl.sim.articulated.variants import NOMINAL
from robot_rl.sim.locomotion.mirror import JOINTS, mirrors
from robot_rl.sim.robots.go1 import OWN
from robot_rl.sim.task_spec import make_env

TASKS = ("go1-velocity-flat", "go2-velocity-flat", "go1-velocity-rough", "go1-recover")


def _symmetry(env: Any) -> Symmetry:
    return Symmetry(env.symmetry, {**env.obs_dims, "action": env.action_dim}, torch.device("cpu"))


@pytest.mark.parametrize("task", TASKS)
def test_every_group_has_a_mirror_of_its_length(task: str) -> None:
    env = make_env(task, 2, 0)
    assert _symmetry(env).mirrors.keys() == {*env.obs_dims, "action"}


@pytest.mark.parametrize("task", ["go1-velocity-flat", "go2-velocity-flat"])
def test_mirrored_state_and_actions_give_mirrored_observations(task: str) -> None:
    """Both robots stand on the same ground with nothing random; what is left are the models' small asymmetries."""
    env: Any = make_env(task, 2, 0, "cpu", {**NOMINAL, "noise.scale": 0.0})
    symmetry, joints = _symmetry(env), mirrors(env.robot)[JOINTS]
    polar, axial = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([-1.0, 1.0, -1.0])
    qpos, qvel = env.physics.qpos[:1].clone(), env.physics.qvel[:1].clone()
    at, signs = torch.tensor(joints[0]), torch.tensor(joints[1])
    image = torch.cat([qpos[:, :3] * polar, qpos[:, 3:4], qpos[:, 4:7] * axial, qpos[:, 7:][:, at] * signs], dim=1)
    turned = torch.cat([qvel[:, :3] * polar, qvel[:, 3:6] * axial, qvel[:, 6:][:, at] * signs], dim=1)
    env.physics.set_state(torch.arange(2), torch.cat([qpos, image]), torch.cat([qvel, turned]))
    env.command = torch.tensor([[0.6, 0.3, -0.5], [0.6, -0.3, 0.5]])
    generator = torch.Generator().manual_seed(1)
    for k in range(9):
        action = 0.4 * torch.rand(1, env.action_dim, generator=generator) - 0.2
        step = env.step(torch.cat([action, symmetry.mirror("action", action)]))
        if k + 1 < env.options.history:
            continue  # frames from before the states were set
        for group in ("policy", "critic"):
            own, other = step.obs[group]
            error = (symmetry.mirror(group, own) - other).abs().max()
            assert error < 0.08, f"{group} differs by {error} after {k + 1} steps"
    assert (own - other).abs().max() > 0.3, "the two do something different"
    assert not step.terminated.any()


def test_the_ground_in_the_scan_is_mirrored() -> None:
    env: Any = make_env("go1-velocity-rough", 1, 0)
    env.terrain = type("Slope", (), {"height": staticmethod(lambda xy: 0.5 * xy[..., 1])})()
    qpos = env.physics.qpos.clone()
    qpos[:, 3:7] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    qpos[:, 1] = 0.0
    scan = env._scanned(qpos) + qpos[:, 2:3]
    index, _ = mirrors(env.robot)["scan"]
    torch.testing.assert_close(scan[:, list(index)], -scan)


def test_a_lopsided_pose_is_refused() -> None:
    pose = (0.2, *OWN.default_pose[1:])
    with pytest.raises(ConfigError, match="not its own mirror image"):
        mirrors(dataclasses.replace(OWN, default_pose=pose))
    with pytest.raises(ConfigError, match="0 mirror images"):
        mirrors(dataclasses.replace(OWN, feet=OWN.feet[:1]))
