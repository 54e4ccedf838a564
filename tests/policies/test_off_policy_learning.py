"""Both learners on small tasks with known answers, and what a resumed, broken or exported one does."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from fakes import PointMass
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.guards import NonFinite
from robot_rl.protocols import Step

SMALL = {
    "num_envs": 16, "total_steps": 10**6, "replay_steps": 200, "n_step": 1, "polyak": 0.1,
    "batch_size": 128, "updates_per_step": 2,
    "actor_hidden": (32, 32), "critic_hidden": (32, 32), "actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3,
    "steps_per_iteration": 20, "atoms": 41, "precision": "float32",
}  # fmt: skip


def learner(name: str, env=None, seed: int = 0, **changes):
    spec = load_algorithm(name)
    settings = SMALL | changes
    env = env or PointMass(settings["num_envs"])
    return spec.create(env, spec.config_class(**settings), seed), env


def score(policy) -> float:
    """Mean return of 200 episodes; 50 is the bound, the untrained policy has about 30."""
    env = PointMass(200)
    obs, total = env.reset(seed=99), torch.zeros(200)
    for _ in range(50):
        step = env.step(policy(obs["policy"]))
        total, obs = total + step.reward, step.obs
    return total.mean().item()


@pytest.mark.parametrize(
    ("name", "iterations", "changes"),
    [
        ("fast-td3", 9, {"n_step": 3}),
        ("fast-td3", 16, {"value_head": "hl-gauss"}),
        ("fast-td3", 11, {"value_head": "scalar", "heads": 3, "target_subset": 2, "actor_value": "first"}),
        ("fast-sac", 11, {}),
    ],
)
def test_it_learns_to_bring_a_point_to_rest(name, iterations, changes):
    algorithm, env = learner(name, **changes)
    before = score(algorithm.policy())
    for _ in range(iterations):
        algorithm.step(env)
    assert score(algorithm.policy()) > max(before + 5.0, 43.0)


class Constant:
    """Reward 1 whatever happens; episodes of 10 steps end by time or, with `failing`, by failure. Nothing to see."""

    control_dt, action_dim, max_episode_steps, device = 0.1, 1, 10, torch.device("cpu")

    def __init__(self, num_envs: int, failing: bool) -> None:
        self.num_envs, self.failing, self.obs_dims = num_envs, failing, {"policy": 1, "critic": 1}
        self.episode_step = torch.zeros(num_envs, dtype=torch.long)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        self.episode_step.zero_()
        return self._obs()

    def _obs(self) -> dict[str, Tensor]:
        return {name: torch.zeros(self.num_envs, 1) for name in self.obs_dims}

    def step(self, action: Tensor) -> Step:
        self.episode_step += 1
        done = self.episode_step >= 10
        self.episode_step[done] = 0
        never = torch.zeros_like(done)
        terminated, truncated = (done, never) if self.failing else (never, done)
        log = {"ended": done.float().mean()}
        return Step(self._obs(), torch.ones(self.num_envs), {}, terminated, truncated, self._obs(), log)

    def state_dict(self) -> dict[str, Tensor]:
        return {"episode_step": self.episode_step.clone()}

    def load_state_dict(self, state) -> None:
        self.episode_step = state["episode_step"].clone()


@pytest.mark.parametrize("head", ["c51", "scalar"])
@pytest.mark.parametrize("n_step", [1, 4])
@pytest.mark.parametrize("failing", [False, True])
def test_time_outs_bootstrap_and_failures_do_not(head, n_step, failing):
    """The value is r/(1 − γ) = 10 with time-outs; with failures what `mean_value` says, about half of it.

    The observation tells nothing, so what is bootstrapped is the value of an average age.
    """
    gamma = 0.9
    algorithm, env = learner(
        "fast-td3", Constant(16, failing), gamma=gamma, n_step=n_step, value_head=head, v_min=0.0, v_max=20.0,
        reward_scale=1.0, polyak=0.2, batch_size=64, policy_delay=1000, critic_hidden=(16,), actor_hidden=(4,),
        weight_decay=0.0, critic_learning_rate=1e-2,
    )  # fmt: skip
    for _ in range(12):
        metrics = algorithm.step(env)
    expected = mean_value(gamma, n_step) if failing else 1.0 / (1.0 - gamma)
    assert metrics["value/mean"] == pytest.approx(expected, rel=0.05)
    assert metrics["env/ended"] == pytest.approx(0.1)  # what the environment logs, averaged over the iteration


def mean_value(gamma: float, n_step: int, episode: int = 10) -> float:
    """Fixed point of V = mean over ages of (Σ rewards of the window + γ^steps · V, or nothing after a failure)."""
    constant = slope = 0.0
    for left in range(1, episode + 1):
        steps = min(n_step, left)
        constant += (1.0 - gamma**steps) / (1.0 - gamma) / episode
        slope += gamma**steps / episode if left > n_step else 0.0
    return constant / (1.0 - slope)


@pytest.mark.parametrize("name", ["fast-td3", "fast-sac"])
def test_a_resumed_learner_goes_on_bit_for_bit(name):
    first, env = learner(name, n_step=2, replay_steps=30, precision="auto")
    for _ in range(3):
        first.step(env)
    second, other = learner(name, n_step=2, replay_steps=30, precision="auto")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    for _ in range(2):
        assert first.step(env) == second.step(other)
    for key in ("q", "q_target", "actor"):
        assert torch.equal(first.flat[key].vector, second.flat[key].vector)
    assert first.env_steps == second.env_steps == 5 * 20 * 16


@pytest.mark.parametrize(("end", "expected"), [(1.0, [3e-3] * 4), (0.1, [3e-3, 2.604594e-3, 1.65e-3, 6.954058e-4])])
def test_learning_rates_fall_along_half_a_cosine(end, expected):
    """Over four iterations: before each, both rates belong to the share of the steps that are done."""
    algorithm, env = learner("fast-sac", total_steps=4 * 20 * 16, learning_rate_end=end, updates_per_step=1)
    seen = []
    for _ in range(4):
        algorithm.step(env)
        rates = {algorithm.optimizers[name].param_groups[0]["lr"] for name in ("actor", "q")}
        assert len(rates) == 1
        seen += rates
    assert seen == pytest.approx(expected)


def test_a_replay_too_large_for_checkpoints_is_collected_anew():
    first, env = learner("fast-td3", checkpoint_replay_mb=0, warmup_steps=640)
    for _ in range(4):
        first.step(env)
    state = first.state_dict()
    assert state["replay"] is None
    second, _ = learner("fast-td3", checkpoint_replay_mb=0, warmup_steps=640)
    second.load_state_dict(state)
    updates = second.updates
    second.step(env)
    assert second.updates == updates and len(second.replay) == 320
    second.step(env)
    assert second.updates == updates + 2, "640 transitions are there with the last step"


def test_the_exported_actor_is_the_one_that_acts():
    for name in ("fast-td3", "fast-sac"):
        algorithm, env = learner(name)
        algorithm.step(env)
        obs = torch.randn(50, 3)
        outputs = algorithm.actor(algorithm.normalizers["policy"](obs))[:, :1]
        policy = algorithm.policy()
        assert torch.allclose(policy(obs), torch.tanh(outputs), atol=1e-6)
        before = policy(obs)
        algorithm.step(env)
        assert torch.equal(policy(obs), before), "a copy, not a view"


@pytest.mark.parametrize("name", ["fast-td3", "fast-sac"])
def test_a_number_that_is_not_finite_is_named(name):
    algorithm, env = learner(name)
    algorithm.step(env)
    env.reward_weights = {"position": math.inf, "velocity": 0.1}
    with pytest.raises(NonFinite, match=r"^reward is not finite"):
        algorithm.step(env)
    algorithm, env = learner(name)
    algorithm.step(env)
    algorithm.q.weights[0].data[0, 0, 0] = math.nan
    with pytest.raises(NonFinite, match=r"^loss/critic is not finite"):
        algorithm.step(env)


def test_critics_and_actor_see_their_own_groups_normalised():
    algorithm, env = learner("fast-td3")
    algorithm.step(env)
    assert algorithm.q.weights[0].shape == (2, 2 + 1, 32) and algorithm.actor[0].in_features == 3
    stored = algorithm.replay.obs["critic"][: 21 * 16]
    assert torch.allclose(algorithm.normalizers["critic"].mean, stored.mean(0), atol=0.02)
    assert torch.allclose(algorithm.normalizers["critic"].var, stored.var(0), rtol=0.05)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"value_head = 'c52'; allowed: c51, hl-gauss, scalar"):
        learner("fast-td3", value_head="c52")
    with pytest.raises(ConfigError, match=r"target_subset = 3 is outside \[0, 2\]"):
        learner("fast-td3", target_subset=3)
    with pytest.raises(ConfigError, match=r"noise_min = 0.5 is outside"):
        learner("fast-td3", noise_min=0.5)
    with pytest.raises(ConfigError, match=r"entropy_per_dim = 1 is outside"):
        learner("fast-sac", entropy_per_dim=1)
