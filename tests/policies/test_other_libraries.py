"""rsl_rl, skrl and Stable-Baselines3 train every task through thin faces."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass

pytest.importorskip("rsl_rl")
pytest.importorskip("skrl")

from robot_rl.policies.rsl_rl_env import RslRlEnv
from robot_rl.policies.skrl_env import SkrlEnv
from robot_rl.registry import names
from robot_rl.sim.task_spec import make_env


def rsl_rl_settings(steps: int) -> dict:
    network = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu", "obs_normalization": True}
    distribution = {"class_name": "GaussianDistribution", "init_std": 0.5}
    return {
        "num_steps_per_env": steps,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
        "actor": network | {"distribution_cfg": distribution},
        "critic": dict(network),
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 5, "num_mini_batches": 4},
    }


def test_rsl_rl_learns(capsys):
    from rsl_rl.runners import OnPolicyRunner

    torch.manual_seed(2)
    env = RslRlEnv(PointMass(32), seed=0)
    rewards = recorded(env.env)
    runner = OnPolicyRunner(env, rsl_rl_settings(16), log_dir=None, device="cpu")
    runner.learn(1, init_at_random_ep_len=True)
    assert len(set(env.env.episode_step.tolist())) > 8, "it could spread the first resets"
    runner.learn(19)
    capsys.readouterr()
    assert len(rewards) == 320 and sum(rewards[-64:]) > sum(rewards[:64]) + 1.0


def recorded(env: PointMass) -> list[float]:
    """Mean reward of every step from now on."""
    rewards, step = [], env.step

    def recording(action):
        result = step(action)
        rewards.append(result.reward.mean().item())
        return result

    env.step = recording
    return rewards


def test_rsl_rl_is_told_time_outs_from_failures():
    env = RslRlEnv(PointMass(8, max_episode_steps=20), seed=5)
    assert (env.get_observations()["policy"] == PointMass(8).reset(5)["policy"]).all()
    kinds: set[bool] = set()
    for i in range(60):
        obs, reward, dones, extras = env.step(torch.full((8, 1), 5.0 if i < 30 else 0.0))
        assert set(obs.keys()) == {"policy", "critic"} and reward.shape == dones.shape == (8,)
        assert not (extras["time_outs"] & ~dones.bool()).any()
        kinds |= set(extras["time_outs"][dones.bool()].tolist())
    assert kinds == {True, False}


def network(inputs: int, outputs: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(inputs, 16), torch.nn.ELU(), torch.nn.Linear(16, outputs))


def skrl_agent(env: SkrlEnv):
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model

    places = {"observation_space": env.observation_space, "state_space": env.state_space}
    places |= {"action_space": env.action_space, "device": env.device}

    class Actor(GaussianMixin, Model):
        def __init__(self):
            Model.__init__(self, **places)
            GaussianMixin.__init__(self)
            self.net = network(env.observation_space.shape[0], env.action_space.shape[0])
            self.log_std = torch.nn.Parameter(torch.full(env.action_space.shape, -0.7))

        def compute(self, inputs, role=""):
            return self.net(inputs["observations"]), {"log_std": self.log_std}

    class Critic(DeterministicMixin, Model):
        def __init__(self):
            Model.__init__(self, **places)
            DeterministicMixin.__init__(self)
            self.net = network(env.state_space.shape[0], 1)

        def compute(self, inputs, role=""):
            return self.net(inputs["states"]), {}

    config = PPO_CFG(rollouts=16, learning_epochs=5, mini_batches=4, learning_rate=3e-3)
    config.experiment.write_interval = config.experiment.checkpoint_interval = 0
    memory = RandomMemory(memory_size=16, num_envs=env.num_envs, device=env.device)
    models = {"policy": Actor(), "value": Critic()}
    return PPO(models=models, memory=memory, cfg=config, **places)


def test_skrl_learns(tmp_path, monkeypatch, capsys):
    from skrl.trainers.torch import SequentialTrainer

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    env = SkrlEnv(PointMass(32), seed=0)
    rewards = recorded(env.batch)
    trainer = SequentialTrainer(
        env=env,
        agents=skrl_agent(env),
        cfg={"timesteps": 16 * 20, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
    )
    trainer.train()
    capsys.readouterr()
    assert len(rewards) == 320 and sum(rewards[-64:]) > sum(rewards[:64]) + 1.0


def test_skrl_sees_both_groups():
    env = SkrlEnv(PointMass(4), seed=1)
    obs, _ = env.reset()
    assert obs.shape == (4, 3) and env.state().shape == (4, 2) and env.state_space.shape == (2,)
    obs, reward, terminated, truncated, _ = env.step(torch.zeros(4, 1))
    assert reward.shape == terminated.shape == truncated.shape == (4, 1)
    assert torch.equal(env.reset()[0], obs), "environments reset themselves: the trainer's reset changes nothing"


@pytest.mark.parametrize("task", names("task"))
def test_each_library_trains_every_task(task, tmp_path, monkeypatch, capsys):
    """Two updates each: networks of the task's sizes change and stay finite."""
    pytest.importorskip("stable_baselines3")
    from rsl_rl.runners import OnPolicyRunner
    from skrl.trainers.torch import SequentialTrainer
    from stable_baselines3 import PPO

    from robot_rl.policies.sb3_vec_env import BatchedVecEnv

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runner = OnPolicyRunner(RslRlEnv(make_env(task, 4, 0), 0), rsl_rl_settings(8), log_dir=None, device="cpu")
    agent = skrl_agent(face := SkrlEnv(make_env(task, 4, 0), 0))
    trainer = SequentialTrainer(
        env=face,
        agents=agent,
        cfg={"timesteps": 32, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
    )
    other = PPO("MlpPolicy", BatchedVecEnv(make_env(task, 4, 0), 0), n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    for weights, train in (
        (runner.alg.actor.parameters, lambda: runner.learn(2)),
        (agent.policy.parameters, trainer.train),
        (other.policy.parameters, lambda: other.learn(64)),
    ):
        before = [w.detach().clone() for w in weights()]
        train()
        after = list(weights())
        assert all(torch.isfinite(w).all() for w in after)
        assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    capsys.readouterr()
