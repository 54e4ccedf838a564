"""PPO: it learns, and its estimates equal definitions written out by hand."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass
from torch.distributions import Normal, kl_divergence

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithms import ppo
from robot_rl.policies.algorithms.ppo import Ppo, PpoConfig, gae

SMALL = {"num_envs": 32, "steps_per_env": 16, "actor_hidden": (32,), "critic_hidden": (32,)}


def learner(seed: int = 0, **changes) -> tuple[Ppo, PointMass]:
    config = PpoConfig(**(SMALL | changes))
    env = PointMass(config.num_envs)
    return Ppo(env, config, seed), env


def score(policy) -> float:
    env = PointMass(200)
    obs, total = env.reset(seed=99), torch.zeros(200)
    for _ in range(50):
        step = env.step(policy(obs["policy"]))
        total, obs = total + step.reward, step.obs
    return total.mean().item()


@pytest.mark.parametrize(
    "changes", [{}, {"normalise_obs": False, "clip_value": False, "desired_kl": 0.0, "learning_rate": 3e-3}]
)
def test_it_learns_the_dummy_task(changes):
    learned, env = learner(**changes)
    before = score(learned.policy())
    for _ in range(40):
        learned.step(env)
    assert score(learned.policy()) > max(before + 5.0, 43.0)


def test_gae_equals_the_sum_of_its_definition():
    """A_t = Σ_l (γλ)^l δ_{t+l} up to the end of the episode, δ from V of the true next state."""
    torch.manual_seed(0)
    gamma, lam, T, N = 0.9, 0.8, 12, 5
    reward, value, next_value = torch.randn(3, T, N)
    terminated, truncated = torch.rand(2, T, N) < 0.15
    done = terminated | truncated
    advantage, returns = gae(reward, value, next_value, terminated, done, gamma, lam)
    for n in range(N):
        for t in range(T):
            expected, weight = 0.0, 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, n] else gamma * next_value[k, n]
                expected += weight * (reward[k, n] + bootstrap - value[k, n])
                weight *= gamma * lam
                if done[k, n]:
                    break
            assert advantage[t, n] == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(returns, advantage + value)


def test_with_lambda_one_the_return_of_an_episode_cut_by_time_is_its_rewards_and_the_value_of_its_last_state():
    reward, value = torch.ones(3, 1), torch.zeros(3, 1)
    next_value = torch.tensor([[0.0], [0.0], [10.0]])
    cut = torch.tensor([[False], [False], [True]])
    none = torch.zeros(3, 1, dtype=torch.bool)
    _, returns = gae(reward, value, next_value, none, cut, gamma=0.5, lam=1.0)
    assert returns.flatten().tolist() == [1 + 0.5 + 0.25 + 0.125 * 10, 1 + 0.5 + 0.25 * 10, 1 + 0.5 * 10]
    _, returns = gae(reward, value, next_value, cut, cut, gamma=0.5, lam=1.0)
    assert returns.flatten().tolist() == [1.75, 1.5, 1.0]


def test_next_values_are_those_of_the_true_last_states_not_of_the_resets():
    learned, env = learner(num_envs=6, steps_per_env=30)
    finals, step = [], env.step

    def recorded(action):
        result = step(action)
        finals.append((result.final_obs["critic"].clone(), result.truncated & ~result.terminated))
        return result

    env.step = recorded
    learned._begin(env)
    learned._collect(env)
    learned._evaluate()
    cuts = 0
    for t, (final, cut) in enumerate(finals):
        alive = ~learned.rollout.terminated[t]
        expected = learned._value(final, torch.zeros(6, 0))[0].detach()
        assert torch.allclose(learned.rollout.next_value[t][alive], expected[alive], atol=1e-5)
        if t + 1 < 30 and cut.any():
            cuts += int(cut.sum())
            after_reset = learned.rollout.value[t + 1][cut]
            assert not torch.allclose(learned.rollout.next_value[t][cut], after_reset, atol=1e-4)
    assert cuts > 0


def test_likelihood_and_divergence_equal_torchs_distributions():
    torch.manual_seed(0)
    mean0, mean1, action = torch.randn(3, 7, 4)
    log_std0, log_std1 = torch.randn(2, 4)
    p0, p1 = Normal(mean0, log_std0.exp()), Normal(mean1, log_std1.exp())
    assert torch.allclose(ppo._log_prob(action, mean0, log_std0), p0.log_prob(action).sum(-1), atol=1e-4)
    expected = kl_divergence(p0, p1).sum(-1)
    assert torch.allclose(ppo._gaussian_kl(mean0, log_std0, mean1, log_std1), expected, rtol=1e-4)


def test_clipped_value_loss_takes_the_worse_of_the_two_errors():
    value, old, returns = torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([1.0, 1.0])
    assert ppo._value_loss(value, old, returns, 0.2).item() == pytest.approx((0.8**2 + 0.9**2) / 2)
    assert ppo._value_loss(value, old, returns, None).item() == pytest.approx((0.0 + 0.9**2) / 2)


def test_the_learning_rate_follows_the_divergence_within_its_bounds():
    learned, _ = learner(learning_rate=1e-3, desired_kl=0.01)
    for kl, expected in ((0.03, 1e-3 / 1.5), (0.012, 1e-3 / 1.5), (0.001, 1e-3)):
        learned._adapt_learning_rate(torch.tensor(kl))
        assert learned.optimizer.param_groups[0]["lr"].item() == pytest.approx(expected)
    for kl, bound in ((1.0, 1e-5), (0.0, 1e-2)):
        for _ in range(50):
            learned._adapt_learning_rate(torch.tensor(kl))
        assert learned.learning_rate.item() == pytest.approx(bound)


@pytest.mark.parametrize(("iteration", "fall"), [(0, 1.0), (12, 1.0), (16, 0.55), (20, 0.1)])
def test_the_learning_rate_falls_along_half_a_cosine(iteration, fall):
    """Over the last eight of twenty iterations; where divergence leads it, the desired one falls with the square."""
    changes = {"iterations": 20, "learning_rate_end": 0.1, "learning_rate_fall": 0.4, "learning_rate": 1e-3}
    fixed, _ = learner(desired_kl=0.0, **changes)
    led, _ = learner(desired_kl=0.01, **changes)
    fixed.iteration = led.iteration = iteration
    fixed._adapt_learning_rate(torch.tensor(0.0))
    assert fixed.learning_rate.item() == pytest.approx(1e-3 * fall)
    for share, factor in ((1.9, 1.0), (2.1, 1 / 1.5), (0.4, 1.0)):
        led._adapt_learning_rate(torch.tensor(share * 0.01 * fall**2))
        assert led.learning_rate.item() == pytest.approx(1e-3 * factor)


def test_the_first_minibatch_starts_from_ratio_one():
    """Collected and recomputed likelihoods agree, normaliser included; so nothing is clipped and the KL is 0."""
    learned, env = learner(epochs=1, minibatches=1, desired_kl=0.0)
    for _ in range(3):
        metrics = learned.step(env)
        assert metrics["policy/kl"] == pytest.approx(0.0, abs=1e-6) and metrics["policy/clipped"] == 0.0


def test_first_episodes_get_random_ages():
    learned, env = learner(num_envs=32)
    learned._begin(env)
    assert len(set(env.episode_step.tolist())) > 10 and env.episode_step.max() < 50
    learned, env = learner(desynchronise=False)
    learned._begin(env)
    assert env.episode_step.max() == 0


def test_the_environment_gets_clipped_actions_and_the_likelihood_the_drawn_ones():
    learned, env = learner(init_std=5.0, desynchronise=False)
    seen, step = [], env.step
    env.step = lambda action: seen.append(action.clone()) or step(action)
    learned._begin(env)
    learned._collect(env)
    assert torch.stack(seen).abs().max() == 1.0 and learned.rollout.action.abs().max() > 1.0
    expected = Normal(learned.rollout.mean, 5.0).log_prob(learned.rollout.action).sum(-1)
    assert torch.allclose(learned.rollout.logp, expected, atol=1e-4)


def test_settings_out_of_range_are_refused():
    for changes, message in (
        ({"gamma": 1.2}, "gamma"),
        ({"minibatches": 500}, "minibatches"),
        ({"init_std": 0.0}, "init"),
    ):
        with pytest.raises(ConfigError, match=message):
            learner(**changes)
