"""The TD3 of Learning to Fly in Seconds: it learns, and each detail of the recipe is there."""

from __future__ import annotations

import copy

import pytest
import torch
from fakes import PointMass

from robot_rl.errors import ConfigError
from robot_rl.policies.algorithms.td3_l2f import ALGORITHM, Td3L2f, Td3L2fConfig

SMALL = {"batch_size": 64, "hidden": (32, 32), "critic_warmup": 400, "actor_warmup": 800, "steps_per_iteration": 200}
CURRICULUM = (("position", 1.2, 0.55), ("velocity", 1.4, 1.0))


def learner(env: PointMass | None = None, seed: int = 0, **changes) -> tuple[Td3L2f, PointMass]:
    settings = SMALL | {"curriculum_steps": (1000, 2000), "curriculum": CURRICULUM, "total_steps": 4000} | changes
    env = env or PointMass(settings.get("num_envs", 1))
    return Td3L2f(env, Td3L2fConfig(**settings), seed), env


def advance(td3: Td3L2f, env: PointMass, steps: int) -> None:
    while td3.env_steps < steps:
        td3.step(env)


def score(policy) -> float:
    """Mean return of 200 episodes; 50 is the bound, the untrained policy has about 30."""
    env = PointMass(200)
    obs, total = env.reset(seed=99), torch.zeros(200)
    for _ in range(50):
        step = env.step(policy(obs["policy"]))
        total, obs = total + step.reward, step.obs
    return total.mean().item()


def test_it_learns_the_dummy_task():
    rates = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "polyak": 0.02}
    td3, env = learner(num_envs=8, critic_interval=8, actor_interval=8, total_steps=4500, batch_size=32, **rates)
    before = score(td3.policy())
    advance(td3, env, 4500)
    assert score(td3.policy()) > max(before + 5.0, 43.0)


def test_the_published_numbers_are_the_defaults():
    c = ALGORITHM.config_class()
    assert (c.total_steps, c.num_envs, c.gamma, c.polyak, c.batch_size) == (300_001, 1, 0.99, 0.005, 256)
    assert (c.critic_interval, c.actor_interval, c.critic_warmup, c.actor_warmup) == (10, 20, 15_000, 30_000)
    assert (c.actor_learning_rate, c.critic_learning_rate, c.weight_decay) == (1e-3, 1e-3, 1e-4)
    assert (c.exploration_noise, c.target_noise, c.target_noise_clip) == (0.1, 0.2, 0.5)
    weights = {"position": 5.0, "linear_velocity": 0.01, "action": 0.01}
    for _ in c.curriculum_steps:
        weights = {name: min(weights[name] * factor, bound) for name, factor, bound in c.curriculum}
    assert weights == pytest.approx({"position": 7.2, "linear_velocity": 0.0196, "action": 0.0196})


@pytest.mark.parametrize("num_envs", [1, 3])
def test_updates_come_at_their_intervals_after_the_warm_up(num_envs, monkeypatch):
    td3, env = learner(PointMass(num_envs), num_envs=num_envs, critic_interval=10, actor_interval=20)
    counts = {"critic": [], "actor": []}
    monkeypatch.setattr(td3, "_update_critics", lambda: counts["critic"].append(td3.steps) or {})
    monkeypatch.setattr(td3, "_update_actor", lambda: counts["actor"].append(td3.steps) or {})
    advance(td3, env, 1200)
    assert counts["critic"][0] in (400, 402) and counts["actor"][0] in (800, 801)
    assert len(counts["critic"]) == 81 and len(counts["actor"]) == 21


def test_all_stored_rewards_are_recalculated_when_the_weights_change():
    td3, env = learner(critic_warmup=10**6, actor_warmup=10**6)
    advance(td3, env, 800)
    old = td3.replay.reward[:800].clone()
    advance(td3, env, 2400)
    assert td3.weights == pytest.approx({"position": 0.55, "velocity": 0.1 * 1.4**2}), "0.5·1.2² is capped at 0.55"
    assert env.reward_weights == td3.weights
    rows = slice(0, 2400)
    obs, action = td3.replay.obs["critic"][rows], td3.replay.action[rows]
    expected = env.recalculate_reward(obs, action, td3.replay.terminated[rows] > 0, td3.weights)
    assert torch.allclose(td3.replay.reward[rows], expected, atol=1e-6)
    assert (td3.replay.terminated[rows] > 0).any() and not torch.allclose(old, expected[:800])


def test_the_recalculation_reproduces_the_rewards_of_the_steps_themselves():
    td3, env = learner(curriculum_steps=(10**6,))
    advance(td3, env, 600)
    r = td3.replay
    again = env.recalculate_reward(r.obs["critic"][:600], r.action[:600], r.terminated[:600] > 0, td3.weights)
    assert torch.allclose(again, r.reward[:600], atol=1e-6)


def test_the_target_bootstraps_after_a_time_out_and_not_after_a_failure():
    """Zero reward and a constant target value of 1: y is γ where the episode went on or ran out of time, else 0."""
    td3, env = learner(batch_size=32, weight_decay=0.0, critic_warmup=10**6, curriculum_steps=())
    advance(td3, env, 2400)
    td3.replay.reward.zero_()
    for network in (td3.q, td3.q_target):
        for parameter in network.parameters():
            parameter.data.zero_()
    td3.q_target.biases[-1].data.fill_(1.0)
    rows = td3.replay.newest(2400)[:2400]
    cut, failed = td3.replay.final_index[rows] >= 0, td3.replay.terminated[rows] > 0
    assert cut.any() and failed.any()
    for which, expected in ((cut, 0.99), (failed, 0.0), (~cut & ~failed, 0.99)):
        chosen = rows[which]
        td3.replay.sample_rows = lambda count, _, chosen=chosen: chosen[torch.arange(count) % len(chosen)]
        td3.q.biases[-1].data.zero_()
        td3.q_target.biases[-1].data.fill_(1.0)
        assert td3._update_critics()["loss/critic"] == pytest.approx(expected**2, abs=1e-6)


def test_each_network_gets_a_batch_of_its_own(monkeypatch):
    td3, env = learner(critic_warmup=10**6, actor_warmup=10**6)
    advance(td3, env, 400)
    drawn: list[torch.Tensor] = []
    sample = td3.replay.sample_rows
    monkeypatch.setattr(td3.replay, "sample_rows", lambda *a: drawn.append(sample(*a)) or drawn[-1])
    td3._update_critics()
    td3._update_actor()
    first, second, actor = drawn[0][:64], drawn[0][64:], drawn[1]
    assert len(second) == len(actor) == 64
    assert not torch.equal(first, second) and not torch.equal(first, actor)


def test_the_critic_update_follows_the_equations():
    """One update against a plain TD3 written with autograd and separate networks."""
    td3, env = learner(weight_decay=0.0, critic_warmup=10**6, actor_warmup=10**6)
    advance(td3, env, 400)
    td3.q_target.load_state_dict({k: v + 0.1 * torch.randn_like(v) for k, v in td3.q_target.state_dict().items()})
    generator = torch.Generator()
    generator.set_state(td3.generator.get_state())
    rows = td3.replay.sample_rows(128, generator)
    noise = (torch.randn(128, 1, generator=generator) * 0.2).clamp(-0.5, 0.5)
    reference = copy.deepcopy(td3.q)
    r = td3.replay
    with torch.no_grad():
        action = (td3.pi_target(r.gather_next("policy", rows)) + noise).clamp(-1, 1)
        value = td3.q_target(torch.cat((r.gather_next("critic", rows), action), 1)).min(0).values[:, 0]
        y = r.reward[rows] + 0.99 * (1 - r.terminated[rows]) * value
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3)
    x = torch.cat((r.gather("critic", rows), r.action[rows]), 1)
    losses = [((reference(x[i * 64 : i * 64 + 64])[i, :, 0] - y[i * 64 : i * 64 + 64]) ** 2).mean() for i in (0, 1)]
    sum(losses).backward()
    adam.step()
    target = 0.995 * td3.flat["q_target"].vector.detach()
    metrics = td3._update_critics()
    assert metrics["loss/critic"] == pytest.approx(0.5 * sum(losses).item(), rel=1e-5)
    for ours, theirs in zip(td3.q.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(td3.flat["q_target"].vector, target + 0.005 * td3.flat["q"].vector, atol=1e-6)


def test_the_actor_climbs_the_first_critic():
    td3, env = learner(critic_warmup=10**6, actor_warmup=10**6)
    advance(td3, env, 400)
    before = td3._update_actor()["loss/actor"]
    frozen = td3.flat["q"].vector.detach().clone()
    for _ in range(100):
        after = td3._update_actor()["loss/actor"]
    assert after < before and torch.equal(td3.flat["q"].vector, frozen)


def test_the_actor_sees_the_policys_observation_and_the_critics_their_own():
    td3, _ = learner()
    assert td3.pi[0].in_features == 3 and td3.q.weights[0].shape == (2, 2 + 1, 32)


def test_an_environment_without_a_recalculation_is_refused_unless_there_is_no_curriculum():
    class Bare(PointMass):
        recalculate_reward = property()

    with pytest.raises(ConfigError, match=r"this one has no recalculate_reward"):
        learner(Bare())
    with pytest.raises(ConfigError, match=r"no reward weight speed \(it has position, velocity\)"):
        learner(curriculum=(("speed", 2.0, 1.0),))
    with pytest.raises(ConfigError, match=r"polyak = 1.5 is outside"):
        learner(polyak=1.5)
    bare = PointMass()
    del bare.reward_weights
    assert learner(bare, curriculum_steps=())[0].weights == {}
