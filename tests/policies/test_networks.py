"""Networks and their fast forms against torch's own; the weight decay of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from robot_rl.errors import UnknownName
from robot_rl.policies.networks import (
    DecoupledAdam,
    DeterministicActor,
    FlatParameters,
    NumpyMlp,
    StackedMlp,
    activation,
    fast_tanh,
    forward_no_grad,
    mlp,
    orthogonal_init,
    uniform_fan_in_init,
)
from robot_rl.policies.normalizer import RunningNormalizer


def test_fast_tanh_is_the_published_function_and_its_gradient_is_right():
    x = torch.linspace(-5, 5, 401, dtype=torch.float64)
    inside = x.clamp(-3, 3)
    published = inside * (27 + inside**2) / (27 + 9 * inside**2)
    assert torch.allclose(fast_tanh(x), published, atol=1e-12)
    assert (fast_tanh(x) - x.tanh()).abs().max() < 0.024
    with_grad = x.clone().requires_grad_()
    assert torch.allclose(fast_tanh(with_grad), published, atol=1e-12)
    assert torch.autograd.gradcheck(fast_tanh, (with_grad,))


def test_unknown_activation_lists_the_known_ones():
    with pytest.raises(UnknownName, match=r"unknown activation 'rely'. Did you mean 'relu'\?.*fast_tanh"):
        activation("rely")


def test_numpy_and_in_place_forms_give_the_same_actions_and_follow_the_parameters():
    network = mlp((146, 64, 64, 4), "fast_tanh", "fast_tanh")
    flat, fast = FlatParameters(network), NumpyMlp(network)
    obs = torch.randn(3, 146)
    for _ in range(2):
        with torch.no_grad():
            expected = network(obs)
        assert np.allclose(fast(obs.numpy()), expected.numpy(), atol=1e-6)
        assert torch.allclose(forward_no_grad(network, obs), expected, atol=1e-6)
        network.load_state_dict({k: torch.randn_like(v) / 8 for k, v in network.state_dict().items()})
        assert torch.equal(flat.vector[:2], network[0].weight.reshape(-1)[:2])


def test_stacked_networks_equal_separate_ones_with_gradients():
    stacked = StackedMlp(2, (5, 8, 8, 1), torch.Generator().manual_seed(0))
    x = torch.randn(2, 7, 5, requires_grad=True)
    out = stacked(x)
    for i in range(2):
        h = x[i]
        for j, (w, b) in enumerate(zip(stacked.weights, stacked.biases, strict=True)):
            h = h @ w[i] + b[i]
            h = fast_tanh(h) if j < 2 else h
        assert torch.allclose(out[i], h, atol=1e-6)
    assert torch.allclose(stacked.first(x[0]), out[0], atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(stacked(x), out, atol=1e-6), "the in-place form without gradients"
        assert torch.equal(stacked(x[0].clone())[0], stacked(x[0].clone().expand(2, -1, -1).clone())[0])
    stacked.first(x[0]).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in stacked.parameters()), "critics stay constant"


def test_initial_weights_lie_within_one_over_the_root_of_fan_in():
    network = mlp((146, 64, 4), "fast_tanh", "fast_tanh")
    uniform_fan_in_init(network, torch.Generator().manual_seed(0))
    for layer in (network[0], network[2]):
        bound = 1 / math.sqrt(layer.in_features)
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= bound
        assert layer.weight.abs().max() > 0.98 * bound and layer.weight.std().item() == pytest.approx(
            bound / 3**0.5, rel=0.1
        )


def test_orthogonal_init_has_the_gains_asked_for():
    network = mlp((20, 10, 5), "elu")
    orthogonal_init(network, 2.0, 0.01, torch.Generator().manual_seed(0))
    w0, w1 = network[0].weight.detach(), network[2].weight.detach()
    assert torch.allclose(w0 @ w0.T, 4.0 * torch.eye(10), atol=1e-5)
    assert torch.allclose(w1 @ w1.T, 1e-4 * torch.eye(5), atol=1e-8)
    assert network[0].bias.abs().max() == 0


def test_weight_decay_shrinks_weights_by_half_of_it_whatever_the_learning_rate_and_leaves_biases():
    network = mlp((4, 8, 2), "fast_tanh")
    nn.init.constant_(network[0].bias, 0.5)
    flat = FlatParameters(network)
    optimizer = DecoupledAdam(flat, lr=1e-3, decay=1e-4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer.zero_grad()
    for _ in range(100):
        optimizer.step()
    for name, value in network.state_dict().items():
        factor = 1.0 if "bias" in name else (1 - 5e-5) ** 100
        assert torch.allclose(value, before[name] * factor, rtol=1e-5)


def test_the_flat_optimiser_equals_adam_on_separate_parameters_with_the_decay_written_out():
    network, reference = (mlp((4, 8, 2), "fast_tanh") for _ in range(2))
    reference.load_state_dict(network.state_dict())
    optimizer = DecoupledAdam(FlatParameters(network), lr=1e-2, decay=1e-3)
    adam = torch.optim.Adam(reference.parameters(), lr=1e-2)
    x = torch.randn(16, 4)
    for _ in range(20):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
        adam.zero_grad()
        reference(x).square().mean().backward()
        decayed = [5e-4 * p.detach().clone() if p.dim() == 2 else 0.0 for p in reference.parameters()]
        adam.step()
        with torch.no_grad():
            for parameter, part in zip(reference.parameters(), decayed, strict=True):
                parameter -= part
    for name, value in network.state_dict().items():
        assert torch.allclose(value, reference.state_dict()[name], atol=1e-6)


def test_polyak_average_moves_by_the_rate():
    online, target = (FlatParameters(mlp((2, 3), "elu")) for _ in range(2))
    expected = 0.995 * target.vector.detach() + 0.005 * online.vector.detach()
    target.average_towards(online, 0.005)
    assert torch.allclose(target.vector, expected, atol=1e-7)


def test_running_normaliser_equals_the_statistics_of_all_data():
    data = torch.randn(1000, 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -2.0])
    normalizer = RunningNormalizer(3, clip=2.0)
    for part in data.float().split([1, 9, 490, 500]):
        normalizer.update(part.reshape(len(part), 1, 3))
    assert torch.allclose(normalizer.mean.double(), data.mean(0), rtol=1e-4, atol=1e-4)
    assert torch.allclose(normalizer.var.double(), data.var(0, unbiased=False), rtol=1e-3)
    out = normalizer(data.float())
    assert out.abs().max() == 2.0 and out.mean(0).abs().max() < 0.05


def test_the_deployed_actor_is_a_frozen_copy_with_the_normaliser_and_stays_within_bounds():
    network, normalizer = mlp((3, 8, 2), "elu"), RunningNormalizer(3)
    normalizer.update(torch.randn(100, 3) * 4 + 1)
    actor = DeterministicActor(network, normalizer)
    obs = torch.randn(50, 3) * 100
    expected = network(normalizer(obs)).clamp(-1, 1).detach()
    nn.init.zeros_(network[0].weight)
    normalizer.mean.zero_()
    assert torch.equal(actor(obs), expected) and not actor.training
    assert all(not p.requires_grad for p in actor.parameters())
