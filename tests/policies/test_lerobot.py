"""Policies of LeRobot as base policies, against a small package of the same interface."""

from __future__ import annotations

import lerobot_like
import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.evaluation.jointed.rollout import Player
from robot_rl.observer import ActionMap, Observer
from robot_rl.policies.base_policy import load_base
from robot_rl.policies.lerobot import LeRobotBase, LeRobotPlans
from robot_rl.registry import load
from robot_rl.signals import Signal


class State(Observer):
    signals, obs_dim = (Signal("joint_pos", (4,), "rad"),), 4

    def forward(self, signals, memory):
        return signals["joint_pos"], memory


class Told(ActionMap):
    """One command, the action itself."""

    action_dim = 2

    def forward(self, action):
        return {"joint_pos_target": action}


@pytest.fixture
def installed(monkeypatch):
    lerobot_like.install(monkeypatch)


def expected(state: np.ndarray, k: int, action_dim: int = 2) -> np.ndarray:
    """Action k of the chunk that is planned at `state` (n,), in the data's units."""
    weight = np.linspace(-0.3, 0.3, len(state) * action_dim).reshape(len(state), action_dim)
    return 0.5 * (((state - lerobot_like.MEAN) / lerobot_like.STD) @ weight + k / 10.0)


def states(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def test_it_plans_in_each_environment_by_itself(installed, tmp_path):
    plans = LeRobotPlans(lerobot_like.write(tmp_path / "a", 4, 2))
    assert (plans.horizon, plans.execute, plans.state_size, plans.pictures) == (6, 3, 4, ())
    base = LeRobotBase(plans, State(), Told())
    base.reset(2)
    begun = {0: 0, 1: 0}
    seen = [states(2, t) for t in range(7)]
    for t, state in enumerate(seen):
        if t == 2:
            base.forget([1])
        begun = {e: t if (t == 2 and e == 1) or t - begun[e] == 3 else begun[e] for e in begun}
        action = base.act({"joint_pos": state})["joint_pos_target"]
        for e in (0, 1):
            np.testing.assert_allclose(action[e], expected(seen[begun[e]][e], t - begun[e]), atol=1e-5)
    np.testing.assert_array_equal(base.action({}), action)


def test_one_that_looks_back_uses_its_own_queues(installed, tmp_path):
    base = LeRobotBase(LeRobotPlans(lerobot_like.write(tmp_path / "a", 4, 2, n_obs_steps=2)), State(), Told())
    base.reset(2)
    first, second = states(2, 0), states(2, 1)
    np.testing.assert_allclose(base.act({"joint_pos": first})["joint_pos_target"][0], expected(first[0], 0), atol=1e-5)
    base.act({"joint_pos": second})
    with pytest.raises(ConfigError, match="all environments together"):
        base.forget([0])
    base.forget([0, 1])
    action = base.act({"joint_pos": second})["joint_pos_target"]
    np.testing.assert_allclose(action[1], expected(second[1], 0), atol=1e-5)


def test_pictures_are_handed_over_as_lerobot_wants_them(installed, tmp_path):
    plans = LeRobotPlans(lerobot_like.write(tmp_path / "a", 4, 2, picture=16))
    assert plans.pictures == (Signal("image_front", (16, 16, 3)),)
    base = LeRobotBase(plans, State(), Told())
    picture = np.full((1, 16, 16, 3), 255, np.uint8)  # lerobot_like checks shape, type and range
    assert base.act({"joint_pos": states(1, 0), "image_front": picture})["joint_pos_target"].shape == (1, 2)


def test_what_does_not_fit_is_refused(installed, tmp_path):
    plans = LeRobotPlans(lerobot_like.write(tmp_path / "a", 5, 2))
    with pytest.raises(ConfigError, match=r"observation\.state of 5 numbers, this task's observation has 4"):
        LeRobotBase(plans, State(), Told())
    wrong = {"input_features": {"observation.environment_state": {"type": "ENV", "shape": [7]}}}
    with pytest.raises(ConfigError, match=r"'observation\.environment_state' \(7,\)"):
        LeRobotPlans(lerobot_like.write(tmp_path / "b", 4, 2, **wrong))
    base = LeRobotBase(LeRobotPlans(lerobot_like.write(tmp_path / "c", 4, 3)), State(), Told())
    with pytest.raises(ConfigError, match="actions of 3 numbers, this task takes 2"):
        base.act({"joint_pos": states(1, 0)})


def test_without_lerobot_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lerobot", None)
    with pytest.raises(MissingDependency, match=r"LeRobot is not installed.*pip install 'lerobot>=0\.4'"):
        load_base("lerobot:some/folder")


def test_it_plays_in_its_task_by_name(installed, tmp_path):
    task = load("task", "panda-reach").overridden({"threads": 1})
    size, action_dim = task.make(1, 0).obs_dims["policy"], 3
    path = lerobot_like.write(tmp_path / "a", size, action_dim)
    player = Player(f"base:lerobot:{path}", task, 2, 0)
    player.reset(0)
    for _ in range(4):
        step = player.step()
    assert torch.isfinite(step.reward).all()
