"""Gymnasium and Stable-Baselines3 accept the tasks, without warnings."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from robot_rl.errors import ConfigError, NumericalError
from robot_rl.registry import names
from robot_rl.sim.gym_env import gym_id, register_all

HOVER = "robot_rl/QuadrotorHover-v0"


@pytest.mark.parametrize("task", names("task"))
def test_check_env_of_gymnasium_and_stable_baselines(task: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(gym_id(task)).unwrapped
        check_env(env, skip_render_check=True)
        sb3.check_env(env)


def test_ids_are_those_of_the_manual_and_registration_can_be_repeated() -> None:
    register_all()
    assert {HOVER, "robot_rl/QuadrotorTrack-v0"} <= set(gymnasium.registry)


def test_registration_alone_loads_no_torch() -> None:
    code = (
        "import sys; from robot_rl.sim.gym_registration import register_all;"
        "register_all(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("gymnasium, robot_rl", HOVER),
        ("gymnasium", f"robot_rl:{HOVER}"),
        ("robot_rl, gymnasium", f"robot_rl.sim.gym_env:{HOVER}"),
    ],
)
def test_gymnasium_finds_the_task_in_this_order_of_imports(imports: str, name: str) -> None:
    code = f"import {imports}; gymnasium.spec({name!r}) if ':' not in {name!r} else gymnasium.make({name!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused(bad: float) -> None:
    one, many = gymnasium.make(HOVER).unwrapped, gymnasium.make_vec(HOVER, num_envs=2)
    one.reset(seed=0)
    many.reset(seed=0)
    with pytest.raises(NumericalError, match="action"):
        one.step(np.array([0, bad, 0, 0], np.float32))
    with pytest.raises(NumericalError, match="action"):
        many.step(np.array([[0, 0, 0, 0], [0, 0, bad, 0]], np.float32))


def test_episode_ends_and_starts_again() -> None:
    env = gymnasium.make(HOVER, options={"episode_s": 0.2, "reset.guidance": 1.0, "reset.velocity": 0.0})
    env.reset(seed=1)
    truncated, steps = False, 0
    while not truncated:
        obs, reward, terminated, truncated, info = env.step(np.full(4, 0.334, np.float32))
        steps += 1
        assert not terminated and reward > 1.5 and obs.dtype == np.float32 and info["cost/box"] == 0.0
    assert steps == 20
    first, _ = env.reset()
    second, _ = env.reset()
    assert not np.array_equal(first, second)


def test_vector_environment_resets_in_the_same_step() -> None:
    envs = gymnasium.make_vec(
        HOVER, num_envs=6, options={"episode_s": 0.2, "reset.guidance": 1.0, "reset.velocity": 0.0}
    )
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    a, _ = envs.reset(seed=4)
    b, _ = envs.reset(seed=4)
    assert np.array_equal(a, b) and envs.observation_space.contains(a)
    for k in range(20):
        obs, reward, terminated, truncated, info = envs.step(np.full((6, 4), 0.334, np.float32))
        assert obs.shape == a.shape and reward.shape == (6,)
        assert ("final_obs" in info) == (k == 19)
    assert truncated.all() and not terminated.any() and info["_final_obs"].all()
    assert info["final_obs"][0].shape == a.shape[1:] and not np.array_equal(info["final_obs"][0], obs[0])


def test_rendered_picture_and_refused_mode() -> None:
    pytest.importorskip("cv2", reason="opencv is not installed")
    env = gymnasium.make(HOVER, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray) and picture.shape == (480, 640, 3) and picture.std() > 5
    with pytest.raises(ConfigError, match="rgb_array"):
        gymnasium.make(HOVER, render_mode="ansi", disable_env_checker=True)
