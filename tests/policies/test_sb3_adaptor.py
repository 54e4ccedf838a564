"""Stable-Baselines3 classes train a BatchedEnv and hand back a plain actor."""

from __future__ import annotations

import sys

import pytest
import torch
from fakes import PointMass
from point_mass_run import run
from torch import nn

from robot_rl.errors import ConfigError, MissingDependency, UnknownName
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.run_folder import read_checkpoint, write_checkpoint
from robot_rl.policies.runner import load_policy, random_state, set_random_state
from robot_rl.policies.sb3_vec_env import BatchedVecEnv

ON_POLICY = {"PPO": {"n_steps": 16, "batch_size": 32}, "A2C": {"n_steps": 8}}
OFF_POLICY = {"SAC": {}, "TD3": {}, "DDPG": {}}
OFF = {"learning_starts": 40, "policy_kwargs": {"net_arch": [16, 16]}, "batch_size": 16}


def make(name: str, **changes):
    arguments = ON_POLICY[name] if name in ON_POLICY else OFF | OFF_POLICY[name]
    spec = load_algorithm(f"sb3:{name}")
    config = spec.config_class(
        **({"num_envs": 4, "total_steps": 160, "steps_per_iteration": 40, "arguments": arguments} | changes)
    )
    env = PointMass(4)
    return spec.create(env, config, 0), env


@pytest.mark.parametrize("name", [*ON_POLICY, *OFF_POLICY])
def test_a_class_trains_and_its_actor_is_plain_layers_with_the_same_actions(name):
    learner, env = make(name)
    initial = learner.policy()
    while learner.progress[0] < learner.progress[1]:
        metrics = learner.step(env)
    assert learner.env_steps >= 160 and any("loss" in key for key in metrics)
    actor, obs = learner.policy(), torch.randn(100, 3) * 3
    expected = learner.model.predict(obs.numpy(), deterministic=True)[0]
    assert torch.allclose(actor(obs), torch.as_tensor(expected), atol=1e-5) and actor(obs).abs().max() <= 1.0
    assert not torch.equal(actor(obs), initial(obs)), "training changed the policy"
    kinds = {type(module) for module in actor.network.modules()}
    assert kinds <= {nn.Sequential, nn.Linear, nn.Tanh, nn.ReLU, nn.Flatten, *sb3_extractors()}


def sb3_extractors() -> set[type]:
    from stable_baselines3.common.torch_layers import FlattenExtractor

    return {FlattenExtractor}


@pytest.mark.parametrize("name", ["PPO", "SAC", "TD3"])
def test_state_round_trip_goes_on_bit_for_bit(tmp_path, name):
    """As the runner does it: algorithm, environment and global random state."""
    learner, env = make(name)
    learner.step(env)
    learner.step(env)
    write_checkpoint(tmp_path / "a.pt", learner.state_dict())
    state, env_state, rng = read_checkpoint(tmp_path / "a.pt"), env.state_dict(), random_state()
    learner.step(env)
    again, again_env = make(name)
    again.load_state_dict(state)
    again_env.load_state_dict(env_state)
    set_random_state(rng)
    again.step(again_env)
    for ours, theirs in zip(learner.model.policy.parameters(), again.model.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert learner.env_steps == again.env_steps == (192 if name == "PPO" else 120)


def test_a_run_leaves_a_policy_that_loads(tmp_path):
    result = run("sb3:PPO", tmp_path / "run", changes={"total_steps": 128})
    obs = torch.randn(9, 3)
    assert torch.equal(load_policy(tmp_path / "run", PointMass(4))(obs), result.algorithm.policy()(obs))


def test_schedules_see_the_whole_training():
    learner, env = make(
        "PPO", total_steps=256, arguments={"n_steps": 16, "batch_size": 32, "learning_rate": lambda p: p}
    )
    rates = [learner.step(env)["train/learning_rate"] for _ in range(4)]
    assert rates == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_the_vec_env_tells_time_outs_from_failures_and_hands_over_the_last_state():
    env = PointMass(8, max_episode_steps=20)
    vec = BatchedVecEnv(env, seed=5)
    first = vec.reset()
    assert first.shape == (8, 3) and (first == PointMass(8).reset(5)["policy"].numpy()).all()
    kinds: set[bool] = set()
    for i in range(60):
        obs, reward, done, infos = vec.step(torch.full((8, 1), 1.0 if i < 30 else 0.0).numpy())
        assert obs.dtype == reward.dtype == "float32" and done.dtype == bool
        for ended, info, now in zip(done, infos, obs, strict=True):
            assert ended == ("terminal_observation" in info)
            if ended:
                kinds.add(info["TimeLimit.truncated"])
                assert (abs(info["terminal_observation"][0]) > 1.99) != info["TimeLimit.truncated"]
                assert not (info["terminal_observation"] == now).all()
    assert kinds == {True, False}


def test_wrong_class_wrong_arguments_and_discrete_only_classes_are_refused():
    with pytest.raises(UnknownName, match=r"unknown Stable-Baselines3 class 'PPOO'. Did you mean 'PPO'\?.*SAC, TD3"):
        load_algorithm("sb3:PPOO")
    with pytest.raises(ConfigError, match=r"PPO refuses these settings: .*'foo'"):
        make("PPO", arguments={"foo": 1})
    spec = load_algorithm("sb3:DQN")
    with pytest.raises(ConfigError, match=r"DQN refuses these settings: .*Discrete"):
        spec.create(PointMass(8), spec.config_class(), 0)


def test_without_the_package_the_command_to_install_it_is_given(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "stable_baselines3"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(MissingDependency, match=r"pip install 'robot-rl\[train\]'"):
        load_algorithm("sb3:PPO")
