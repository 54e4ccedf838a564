"""Pictures show goals and fixtures where each simulation has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.scene import GOAL
from robot_rl.sim.articulated.shapes import BodyPoses
from robot_rl.sim.manipulation.scenes import FIXTURE
from robot_rl.sim.task_spec import make_env


def test_a_fixture_is_drawn_where_it_stands_and_cannot_be_moved_by_its_goal() -> None:
    env: Any = make_env("panda-insert", 3, 0)
    number = env.model.body(FIXTURE).id
    nominal = env.model.body_pos[number].copy()
    for i in range(3):
        placed = {name: pose[i].numpy() for name, pose in env.placed().items()}
        pos, _ = BodyPoses(env.model).at(env.physics.qpos[i].numpy(), placed)
        assert torch.allclose(torch.as_tensor(pos[number]).float(), env.fixture_pos[i], atol=1e-6)
    assert (env.fixture_pos[0] != env.fixture_pos[1]).any()
    assert (env.model.body_pos[number] == nominal).all(), "the environment's own model stays as it is"
    with pytest.raises(ConfigError, match="no goal that could be moved"):
        env.set_goal_pose(env.goal_pose()[0])


@pytest.mark.parametrize("task", ["panda-reach", "panda-push", "panda-pick"])
def test_a_goal_of_the_arm_can_be_seen_and_moved(task: str) -> None:
    env: Any = make_env(task, 2, 0)
    pose = torch.tensor([0.5, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])
    env.set_goal_pose(pose)
    assert torch.equal(env.placed()[GOAL], pose.repeat(2, 1))
    env.step(torch.zeros(2, env.action_dim))
    assert torch.equal(env.true_signals()["target_pos_w"], pose[:3].repeat(2, 1))
