"""Scripted experts for the Panda: what they do in their tasks, and that their commands are what their actions mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.policies.base.panda import arm
from robot_rl.policies.base.panda.expert import LOWEST, STEP_SIZE, TURN_SIZE
from robot_rl.registry import load, names
from robot_rl.sim.articulated.kinematics import KinematicChain
from robot_rl.sim.manipulation.env import ManipulationEnv
from robot_rl.sim.manipulation.options import ManipulationOptions
from robot_rl.sim.robots import panda
from robot_rl.sim.task_spec import make_env

EXPERTS = [name for name in names("base") if name.startswith("panda-")]
NOMINAL = {
    "threads": 1, "noise.scale": 0.0, "latency.max": 0.0, "latency.jitter": 0.0, "randomize.friction": (0.0, 0.0),
    "randomize.object_mass": (1.0, 1.0), "randomize.link_mass": (1.0, 1.0), "randomize.stiffness": (1.0, 1.0),
    "randomize.damping": (1.0, 1.0),
}  # fmt: skip


def seen(env: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in env.signals().items()}


def test_there_is_one_for_every_task() -> None:
    assert set(EXPERTS) == {name for name in names("task") if name.startswith("panda-")}


@pytest.mark.parametrize("task", EXPERTS)
def test_solves_its_task(task: str) -> None:
    """20 episodes without randomised physics; with a sparse reward, so that an episode ends where it is solved."""
    env, expert = make_env(task, 20, 7, overrides={**NOMINAL, "reward_kind": "sparse"}), load("base", task)()
    expert.reset(20)
    solved, over = torch.zeros(20, dtype=torch.bool), torch.zeros(20, dtype=torch.bool)
    for _ in range(env.max_episode_steps):
        step = env.step(torch.from_numpy(expert.action(seen(env))))
        solved |= (step.reward > 0.5) & ~over
        over |= step.terminated | step.truncated
        if over.all():
            break
    assert solved.sum() >= 19, f"{int(solved.sum())} of 20"


@pytest.mark.parametrize("task", EXPERTS)
def test_commands_are_what_the_actions_mean(task: str) -> None:
    """The expert's own kinematics in NumPy against the action map that is exported with policies."""
    env: Any = make_env(task, 3, 2, overrides={"threads": 1})
    expert = load("base", task)()
    for _ in range(25):
        signals = seen(env)
        action = torch.from_numpy(expert.action(signals))
        assert action.shape == (3, env.action_dim) and action.abs().max() <= 1.0
        wanted = env.action_map.commands_for(action, env.signals())
        given = expert.act(signals)
        for name, value in wanted.items():
            np.testing.assert_allclose(given[name], value.numpy(), atol=3e-5)
        env.step_command({name: torch.from_numpy(value) for name, value in given.items()})


def test_kinematics_and_constants_are_those_of_the_simulated_arm() -> None:
    chain = KinematicChain(panda.OWN.spec().compile(), "ee")
    rng = np.random.default_rng(0)
    q = rng.uniform(panda.LOWER, panda.UPPER, (50, 7))
    pos, rot, jacobian = arm.forward(q)
    theirs = chain.jacobian(torch.tensor(q, dtype=torch.float32))
    for mine, other in zip((pos, rot, jacobian), theirs, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), atol=1e-5)
    np.testing.assert_allclose(arm.LOWER, panda.LOWER)
    np.testing.assert_allclose(arm.UPPER, panda.UPPER)
    np.testing.assert_allclose(arm.REST, panda.READY)
    options = ManipulationOptions()
    assert (panda.WIDTH, options.step_size, options.turn_size) == (arm.WIDTH, STEP_SIZE, TURN_SIZE)
    assert ManipulationEnv.lower[2] == LOWEST
