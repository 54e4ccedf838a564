"""Options of the off-policy core: residual networks, a Gaussian value, priorities, resets, dormant units."""

from __future__ import annotations

import copy

import pytest
import torch
from fakes import PointMass
from test_off_policy_learning import learner, score
from test_off_policy_replay import CPU, DIMS, fill
from torch import nn

from robot_rl.errors import ConfigError
from robot_rl.policies.off_policy.actors import actor_network, first_outputs
from robot_rl.policies.off_policy.architecture import ResidualBlock, architecture, sequential
from robot_rl.policies.off_policy.dormant import activations_of, dormant_ratio
from robot_rl.policies.off_policy.ensemble import CriticEnsemble
from robot_rl.policies.off_policy.priorities import Priorities
from robot_rl.policies.off_policy.replay import RingReplay
from robot_rl.policies.off_policy.value_heads import Gaussian

EVERYTHING = {
    "critic_network": "simba", "actor_network": "bro", "value_head": "gaussian", "prioritised": True,
    "dormant_ratio": True, "resets": (30,), "n_step": 3,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["simba", "bro"])
@pytest.mark.parametrize("outputs", [1, 2, 11])
def test_a_residual_ensemble_equals_separate_networks(kind, outputs):
    generator = torch.Generator().manual_seed(0)
    sizes = (5, 8, 8, outputs)
    ensemble = CriticEnsemble(3, sizes, "elu", False, generator, kind)
    for parameter in (*ensemble.norm_weights, *ensemble.norm_biases):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(20, 5, generator=generator)
    got = ensemble(x)
    got.square().sum().backward()
    for k in range(3):
        network = sequential(architecture(kind, sizes, False), "elu")
        linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
        norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
        for linear, weight, bias in zip(linears, ensemble.weights, ensemble.biases, strict=True):
            linear.load_state_dict({"weight": weight.data[k].T, "bias": bias.data[k, 0]})
        for norm, weight, bias in zip(norms, ensemble.norm_weights, ensemble.norm_biases, strict=True):
            norm.load_state_dict({"weight": weight.data[k, 0], "bias": bias.data[k, 0]})
        network(x).square().sum().backward()
        assert torch.allclose(got[k], network(x), atol=1e-5)
        for linear, weight in zip(linears, ensemble.weights, strict=True):
            assert torch.allclose(weight.grad[k], linear.weight.grad.T, rtol=1e-3, atol=1e-4)
        assert torch.allclose(ensemble.norm_weights[0].grad[k, 0], norms[0].weight.grad, rtol=1e-3, atol=1e-4)


def test_simba_normalises_before_its_blocks_and_bro_inside():
    simba, bro = (sequential(architecture(kind, (5, 8, 8, 2), False), "relu") for kind in ("simba", "bro"))
    assert [type(m) for m in simba] == [nn.Linear, ResidualBlock, ResidualBlock, nn.LayerNorm, nn.Linear]
    assert [type(m) for m in simba[1].inside] == [nn.LayerNorm, nn.Linear, nn.ReLU, nn.Linear]
    assert simba[1].inside[1].out_features == 4 * 8
    assert [type(m) for m in bro[:3]] == [nn.Linear, nn.LayerNorm, nn.ReLU]
    assert [type(m) for m in bro[3].inside] == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear, nn.LayerNorm]
    with pytest.raises(ConfigError, match="one width"):
        architecture("bro", (5, 8, 16, 2), False)


@pytest.mark.parametrize("kind", ["mlp", "simba", "bro"])
def test_residual_actors_start_small_and_are_deployed_as_they_act(kind):
    actor = actor_network((4, 8, 8, 6), "relu", False, 0.01, torch.Generator().manual_seed(1), kind)
    same = actor_network((4, 8, 8, 6), "relu", False, 0.01, torch.Generator().manual_seed(1), kind)
    x = torch.randn(50, 4)
    assert torch.equal(actor(x), same(x)) and actor(x).abs().max() < 0.1
    assert torch.allclose(first_outputs(actor, 3)(x), torch.tanh(actor(x)[:, :3]), atol=1e-7)


def test_dormant_units_are_counted_layer_by_layer():
    network = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 1))
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.zero_()
            layer.bias.fill_(1.0)
        network[0].bias[:4] = -1.0  # never active
        network[2].bias[:3] = 0.02  # active, but hardly: 0.02 of 0.92 on average
        network[2].bias[3] = 0.03
    seen = activations_of(network, nn.ReLU, torch.randn(7, 3))
    assert [tuple(a.shape) for a in seen] == [(7, 10), (7, 40)]
    assert dormant_ratio(seen).item() == pytest.approx(7 / 50)
    stacked = torch.stack((torch.ones(7, 8), torch.zeros(7, 8)))
    stacked[1, :, 0] = 1.0
    assert dormant_ratio([stacked]).item() == pytest.approx(7 / 16), "each critic has a mean of its own"
    assert not network[1]._forward_hooks


def test_rows_are_drawn_by_their_priority_and_weighted_against_it():
    priorities = Priorities(10, 0.5, 0.01, 1.0, CPU)
    priorities.enter(slice(0, 6), slice(6, 7))
    priorities.update(torch.arange(4), torch.tensor([1.0, 4.0, 9.0, 0.0]))
    expected = torch.tensor([1.0, 2.0, 3.0, 0.1, 0.1, 0.1])  # the last two as they came in; of the fourth the floor
    generator = torch.Generator().manual_seed(0)
    draws = [priorities.draw(64, generator) for _ in range(400)]
    rows, counts = torch.cat([row for row, _ in draws]).unique(return_counts=True)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.allclose(counts / counts.sum(), expected / expected.sum(), atol=2e-3)
    row, weight = draws[0]
    assert torch.allclose(weight, expected[row].min() / expected[row], rtol=1e-5)
    priorities.enter(slice(6, 7), slice(7, 8))
    assert priorities.value[6].item() == pytest.approx(3.0), "as likely as any has been"


def test_prioritised_windows_are_those_of_their_rows_and_never_beyond_what_is_stored():
    replay, plain = RingReplay(8, 3, DIMS, 1, CPU, (0.6, 0.01, 0.4)), RingReplay(8, 3, DIMS, 1, CPU)
    generator = torch.Generator().manual_seed(0)
    for steps in (3, 7, 21):  # not full, full, gone round
        for ring in (replay, plain):
            fill(ring, steps)
        seen = set()
        for _ in range(20):
            batch = replay.sample(32, 3, 0.9, generator)
            index = (batch.row - (replay.head - replay.filled) * 3) % len(replay.reward)
            assert int(index.max()) < len(replay)
            same = replay.windows(index, 3, 0.9)
            assert torch.equal(batch.reward, same.reward) and torch.equal(batch.discount, same.discount)
            assert all(torch.equal(batch.next_obs[name], same.next_obs[name]) for name in DIMS)
            seen |= set(index.tolist())
            replay.priorities.update(batch.row, torch.rand(32, generator=generator))
        assert seen == set(range(len(replay))), "all can be drawn"
        replay, plain = RingReplay(8, 3, DIMS, 1, CPU, (0.6, 0.01, 0.4)), RingReplay(8, 3, DIMS, 1, CPU)


def test_the_gaussian_head_finds_mean_and_deviation_of_returns():
    head = Gaussian(1, 0.0, 1.0, CPU)
    head.generator = torch.Generator().manual_seed(0)
    outputs = nn.Parameter(torch.tensor([[0.0, 2.0], [5.0, -2.0]]))
    optimizer = torch.optim.Adam([outputs], lr=0.03)
    for _ in range(500):
        reward = 2.0 + 0.7 * torch.randn(256, generator=head.generator)
        target = head.target(reward, torch.zeros(256), torch.zeros(2, 256, 2), True)
        optimizer.zero_grad()
        head.loss(outputs[:, None].expand(-1, 256, -1), target).backward()
        optimizer.step()
    sigma = torch.nn.functional.softplus(outputs[:, 1])
    assert torch.allclose(outputs[:, 0], torch.full((2,), 2.0), atol=0.1)
    assert torch.allclose(sigma, torch.full((2,), 0.7), atol=0.07)


def test_the_gaussian_target_is_that_of_the_critic_with_the_smaller_mean():
    head = Gaussian(1, 0.0, 1.0, CPU)
    head.generator = torch.Generator().manual_seed(0)
    following = torch.zeros(2, 4000, 2)
    following[0, :, 0], following[1, :, 0] = 1.0, 3.0
    following[0, :, 1], following[1, :, 1] = -1.0, 9.0
    following[:, 2000:] = following[:, 2000:].flip(0)
    target = head.target(torch.ones(4000), torch.full((4000,), 0.5), following, True)
    assert torch.allclose(target[:, 0], torch.full((4000,), 1.5))
    spread = (target[:, 1] - target[:, 0]).std().item()
    assert spread == pytest.approx(0.5 * 0.3133, rel=0.05)  # softplus(−1) = 0.3133
    average = head.target(torch.ones(4000), torch.full((4000,), 0.5), following, False)
    assert torch.allclose(average[:, 0], torch.full((4000,), 2.0))


@pytest.mark.parametrize(
    ("name", "iterations", "changes"),
    [
        ("fast-td3", 12, {"critic_network": "simba", "actor_network": "simba"}),
        ("fast-sac", 12, {"critic_network": "bro", "value_head": "gaussian", "actor_network": "bro"}),
        ("fast-td3", 12, {"prioritised": True, "n_step": 3}),
    ],
)
def test_it_learns_to_bring_a_point_to_rest(name, iterations, changes):
    algorithm, env = learner(name, **changes)
    before = score(algorithm.policy())
    for _ in range(iterations):
        algorithm.step(env)
    assert score(algorithm.policy()) > max(before + 5.0, 43.0)


@pytest.mark.parametrize("name", ["fast-td3", "fast-sac"])
def test_a_resumed_learner_with_every_option_goes_on_bit_for_bit(name):
    first, env = learner(name, replay_steps=50, **EVERYTHING)
    for _ in range(2):
        first.step(env)
    second, other = learner(name, replay_steps=50, **EVERYTHING)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    for _ in range(2):
        one, two = first.step(env), second.step(other)
        assert one == two and 0.0 <= one["dormant/critics"] <= 1.0 and "dormant/actor" in one
    for key in ("q", "q_target", "actor"):
        assert torch.equal(first.flat[key].vector, second.flat[key].vector)
    assert torch.equal(first.head.deviation, second.head.deviation) and first.head.deviation.min() > 0.0
    assert torch.equal(first.replay.priorities.value, second.replay.priorities.value)


@pytest.mark.parametrize("changes", [{"resets": (30,)}, {"reset_every": 30}])
def test_a_reset_forgets_the_networks_and_keeps_the_replay(changes):
    algorithm, env = learner("fast-sac", **changes)
    beginning = algorithm.flat["actor"].vector.clone()
    algorithm.step(env)
    assert 0 < algorithm.updates < 30 and algorithm.optimizers["q"].state
    while algorithm.updates < 30:
        algorithm._update()
    assert torch.equal(algorithm.flat["q"].vector, algorithm.flat["q_target"].vector)
    assert all(not optimizer.state for optimizer in algorithm.optimizers.values())
    assert algorithm.log_alpha.exp().item() == pytest.approx(algorithm.config.temperature)
    assert len(algorithm.replay) == 20 * 16, "kept"
    actor = algorithm.flat["actor"].vector
    assert actor.std().item() == pytest.approx(beginning.std().item(), rel=0.1)
    assert not torch.equal(actor, beginning), "other numbers than the first"
    algorithm._update()
    assert not torch.equal(actor, beginning) and algorithm.optimizers["q"].state


def test_options_are_checked():
    for changes, text in (
        ({"critic_network": "cnn"}, "critic_network = 'cnn'; allowed: mlp, simba, bro"),
        ({"resets": (0,)}, "resets = 0"),
        ({"priority_exponent": 2.0}, "priority_exponent = 2"),
        ({"critic_network": "simba", "critic_hidden": (32, 64)}, "one width"),
    ):
        with pytest.raises(ConfigError, match=text):
            learner("fast-td3", env=PointMass(16), **changes)
