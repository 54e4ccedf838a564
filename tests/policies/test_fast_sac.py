"""What is FastSAC's own: the squashed Gaussian, the entropy in the target, the temperature."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from robot_rl.policies.algorithms.fast_sac import FastSac, FastSacConfig
from robot_rl.policies.off_policy.actors import squashed_gaussian


def small(**changes) -> FastSac:
    settings = {"num_envs": 8, "batch_size": 64, "actor_hidden": (16,), "critic_hidden": (16,), "precision": "float32"}
    return FastSac(PointMass(8), FastSacConfig(**(settings | changes)), seed=0)


def test_density_and_samples_are_those_of_a_squashed_gaussian():
    torch.manual_seed(0)
    outputs, noise = torch.randn(200, 6), torch.randn(200, 3)
    action, log_density = squashed_gaussian(outputs, noise, (-3.0, 0.5))
    sigma = (-3.0 + 1.75 * (torch.tanh(outputs[:, 3:]) + 1.0)).exp()
    reference = TransformedDistribution(Normal(outputs[:, :3].double(), sigma.double()), TanhTransform())
    u = outputs[:, :3].double() + sigma.double() * noise.double()
    assert torch.allclose(action.double(), torch.tanh(u), atol=1e-6)
    assert torch.allclose(log_density.double(), reference.log_prob(torch.tanh(u)).sum(1), atol=1e-3)


def test_the_target_holds_the_entropy_of_the_next_action():
    sac = small(temperature=0.5)
    obs, noise = torch.randn(64, 3), torch.randn(64, 1)
    with torch.no_grad():
        action, bonus = sac._next_action(obs, noise)
        same, log_density = sac._sample(obs, noise)
    assert torch.equal(action, same) and torch.allclose(bonus, -0.5 * log_density)


@pytest.mark.parametrize(("target", "rises"), [(0.6, True), (-3.0, False)])
def test_the_temperature_rises_while_the_entropy_is_too_small(target, rises):
    env = PointMass(8)
    sac = small(entropy_per_dim=target, steps_per_iteration=30, temperature=0.1, warmup_steps=80)
    sac.step(env)
    assert (sac.log_alpha.exp().item() > 0.1) is rises
