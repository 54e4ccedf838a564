"""Mirror images: permutations and signs are checked, and they make a policy symmetric."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from fakes import PointMass

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.algorithms.ppo import Ppo, PpoConfig
from robot_rl.policies.symmetry import Symmetry

CPU = torch.device("cpu")


class Mirrored(PointMass):
    """Left and right are alike."""

    symmetry: ClassVar = {"policy": ([0, 1, 2], [-1, -1, -1]), "critic": ([0, 1], [-1, -1]), "action": ([0], [-1])}


def learner(symmetry: str, env_class: type = Mirrored, **changes) -> tuple[Ppo, PointMass]:
    small = {"num_envs": 32, "steps_per_env": 16, "actor_hidden": (32,), "critic_hidden": (32,)} | changes
    env = env_class(32)
    return Ppo(env, PpoConfig(symmetry=symmetry, **small), 0), env


def asymmetry(learned: Ppo) -> float:
    obs = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    policy = learned.policy()
    return (policy(obs) + policy(-obs)).abs().mean().item()


@pytest.mark.parametrize("mode", ["augment", "loss", "both"])
def test_the_policy_becomes_symmetric(mode):
    results = {}
    for symmetry in ("none", mode):
        learned, env = learner(symmetry)
        for _ in range(12):
            metrics = learned.step(env)
        results[symmetry] = asymmetry(learned)
    assert results[mode] < 0.6 * results["none"]
    assert (metrics["loss/mirror"] > 0.0) == (mode != "augment")
    assert metrics["episode/return"] > 30.0


def test_normalisers_see_the_images_too():
    learned, env = learner("augment")
    learned.step(env)
    assert learned.actor_norm.mean.abs().max() < 1e-6 and learned.critic_norm.mean.abs().max() < 1e-6
    plain, env = learner("none")
    plain.step(env)
    assert plain.actor_norm.mean.abs().max() > 1e-4


def test_images_swap_and_change_sign():
    legs = Symmetry({"joints": ([2, 3, 0, 1], [-1, 1, -1, 1])}, {"joints": 4}, CPU)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert legs.mirror("joints", x).tolist() == [[-3.0, 4.0, -1.0, 2.0]]
    both = legs.with_images({"obs": x, "reward": torch.tensor([5.0])}, {"obs": "joints"})
    assert both["obs"].tolist() == [[1.0, 2.0, 3.0, 4.0], [-3.0, 4.0, -1.0, 2.0]]
    assert both["reward"].tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    "mirrors, message",
    [
        ({}, "has no mirror of 'a'"),
        ({"a": ([0, 1], [1.0, 1.0])}, r"permutation of 0…2 and 3 signs"),
        ({"a": ([0, 0, 1], [1.0, 1.0, 1.0])}, "permutation"),
        ({"a": ([1, 2, 0], [1.0, 1.0, 1.0])}, r"applied twice is not the identity at elements \[0, 1, 2\]"),
        ({"a": ([1, 0, 2], [1.0, -1.0, 1.0])}, r"at elements \[0, 1\]"),
        ({"a": ([0, 1, 2], [1.0, 0.5, 1.0])}, r"at elements \[1\]"),
    ],
)
def test_wrong_mirrors_are_refused(mirrors, message):
    with pytest.raises(ConfigError, match=message):
        Symmetry(mirrors, {"a": 3}, CPU)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"symmetry = 'augment', but PointMass has no attribute 'symmetry'"):
        learner("augment", PointMass)
    with pytest.raises(UnknownName, match="unknown symmetry mode 'flip'"):
        learner("flip")
    with pytest.raises(ConfigError, match="needs gru = 0"):
        learner("augment", gru=4)
