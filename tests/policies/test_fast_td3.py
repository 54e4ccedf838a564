"""What is FastTD3's own: exploration per environment, target smoothing, the actor's loss, sizes by device."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass

from robot_rl.policies.algorithms.fast_td3 import ALGORITHM, FastTd3, FastTd3Config
from robot_rl.policies.off_policy.actors import ExplorationNoise
from robot_rl.policies.off_policy.config import DEVICE_SIZES, computes_in_bfloat16, for_device
from robot_rl.policies.off_policy.reward_scale import HEADROOM, RewardScale

CPU = torch.device("cpu")


def small(**changes) -> FastTd3:
    settings = {"num_envs": 8, "batch_size": 64, "actor_hidden": (16,), "critic_hidden": (16,), "precision": "float32"}
    return FastTd3(PointMass(8), FastTd3Config(**(settings | changes)), seed=0)


def test_every_environment_explores_with_its_own_level_until_its_episode_ends():
    noise = ExplorationNoise(4000, 0.1, 0.5, torch.Generator().manual_seed(0))
    sigma = noise.sigma.clone()
    assert 0.1 <= sigma.min() < 0.11 and 0.49 < sigma.max() <= 0.5
    assert sigma.mean().item() == pytest.approx(0.3, abs=0.01)
    drawn = torch.stack([noise.sample(3) for _ in range(100)]).std((0, 2))
    assert torch.corrcoef(torch.stack((drawn, sigma[:, 0])))[0, 1] > 0.98
    done = torch.arange(4000) < 2000
    noise.renew(done)
    assert torch.equal(noise.sigma[2000:], sigma[2000:]) and (noise.sigma[:2000] != sigma[:2000]).float().mean() > 0.99


def test_target_smoothing_is_clipped_and_stays_within_the_actions():
    td3 = small(target_noise=0.2, target_noise_clip=0.5, init_scale=1.0)
    obs = torch.randn(1000, 3)
    plain, _ = td3._next_action(obs, torch.zeros(1000, 1))
    noise = 4.0 * torch.randn(1000, 1)
    action, bonus = td3._next_action(obs, noise)
    assert torch.allclose(action, (plain + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1.0, 1.0), atol=1e-6)
    assert torch.equal(bonus, torch.zeros(1000))


def test_a_saturated_actor_comes_back_only_with_the_cost_of_saturation():
    """In a corner tanh has no gradient left; there the critics' wish cannot be heard."""
    distances = {}
    for cost in (0.0, 0.1):
        td3 = small(saturation_cost=cost, actor_learning_rate=1e-2, weight_decay=0.0)
        td3.actor[-1].bias.data.fill_(30.0)
        obs = torch.randn(64, 3)
        for _ in range(400):
            loss, _ = td3._actor_loss(obs, torch.randn(64, 2), torch.zeros(64, 1))
            td3._descend("actor", "loss/actor", loss)
        distances[cost] = td3.actor(obs).abs().max().item()
    assert distances[0.0] > 25.0 and distances[0.1] < 28.0


def test_zero_means_the_value_for_the_device():
    config = for_device(FastTd3Config(num_envs=100, total_steps=50_000, precision="float32"), CPU)
    assert config.batch_size == DEVICE_SIZES["cpu"]["batch_size"] and config.replay_steps == 500
    assert config.warmup_steps == 1000 and config.precision == "float32"
    gpu = for_device(FastTd3Config(batch_size=4096, precision="float32"), torch.device("cuda"))
    assert gpu.batch_size == 4096 and gpu.critic_hidden == (1024, 512, 256) and gpu.polyak == 0.1
    auto = for_device(FastTd3Config(), CPU).precision
    assert auto == ("bfloat16" if computes_in_bfloat16(CPU) else "float32")


def test_returns_seen_fit_the_support_and_only_failures_restart_them():
    scale = RewardScale(2, 0.9, 10.0, 0.0, CPU)
    failed = torch.tensor([False, True])
    for _ in range(200):
        scale.update(torch.tensor([1.0, 5.0]), failed)
    largest = max(1.0 / (1.0 - 0.9), 5.0)
    assert scale.factor.item() * largest == pytest.approx(HEADROOM * 10.0, rel=1e-3)
    assert RewardScale(2, 0.9, 10.0, 0.25, CPU).factor.item() == 0.25


def test_bfloat16_gives_nearly_the_same_losses():
    losses = {}
    for precision in ("float32", "bfloat16"):
        td3 = small(precision=precision)
        torch.manual_seed(0)
        x, obs = torch.randn(64, 3), torch.randn(64, 3)
        args = (x, obs, torch.randn(64, 2), torch.randn(64), torch.full((64,), 0.9), torch.zeros(64, 1), None)
        losses[precision] = td3._critic_loss(*args)[0].item()
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_the_name_and_the_progress():
    td3, env = small(total_steps=200, steps_per_iteration=10), PointMass(8)
    assert ALGORITHM.name == "fast-td3" and td3.progress == (0, 200)
    for _ in range(3):
        td3.step(env)
    assert td3.progress == (200, 200) and td3.env_steps == 200 and td3.state_dict()["replay"] is None
