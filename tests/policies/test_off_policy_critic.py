"""Value heads against naive loops and the ensemble against separate networks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from robot_rl.policies.off_policy.ensemble import CriticEnsemble
from robot_rl.policies.off_policy.value_heads import C51, HlGauss, Scalar

CPU = torch.device("cpu")


def naive_projection(support: list[float], reward: float, discount: float, probabilities: list[float]) -> list[float]:
    """Algorithm 1 of Bellemare et al. (2017), atom by atom."""
    low, high = support[0], support[-1]
    spacing = (high - low) / (len(support) - 1)
    out = [0.0] * len(support)
    for atom, p in zip(support, probabilities, strict=True):
        b = (min(max(reward + discount * atom, low), high) - low) / spacing
        lower, upper = math.floor(b + 1e-9), math.ceil(b - 1e-9)
        if lower == upper:
            out[lower] += p
        else:
            out[lower] += p * (upper - b)
            out[upper] += p * (b - lower)
    return out


def test_the_projection_equals_the_naive_loop():
    torch.manual_seed(0)
    head = C51(21, -2.0, 3.0, CPU)
    reward, discount = torch.randn(64), torch.rand(64)
    discount[:8] = 0.0
    reward[8:10], discount[8:10] = 0.5, 1.0  # atoms on atoms
    reward[10], reward[11] = 50.0, -50.0  # everything beyond an end
    probabilities = torch.softmax(3.0 * torch.randn(64, 21), 1)
    got = head.project(reward, discount, probabilities)
    for i in range(64):
        atoms, p = head.support.tolist(), probabilities[i].tolist()
        expected = naive_projection(atoms, reward[i].item(), discount[i].item(), p)
        assert got[i].tolist() == pytest.approx(expected, abs=1e-5)
    assert got[10, -1].item() == pytest.approx(1.0) and got[11, 0].item() == pytest.approx(1.0)


def test_the_projection_keeps_the_expectation_inside_the_support():
    torch.manual_seed(0)
    head = C51(101, -10.0, 10.0, CPU)
    p = torch.softmax(torch.randn(100, 101) - 0.05 * head.support.square(), 1)
    reward, discount = 0.2 * torch.randn(100), torch.full((100,), 0.9)
    moved = head.project(reward, discount, p) @ head.support
    assert torch.allclose(moved, reward + discount * (p @ head.support), atol=1e-4)


@pytest.mark.parametrize("kind", [C51, HlGauss, Scalar])
@pytest.mark.parametrize("pessimistic", [True, False])
def test_the_target_is_the_smallest_or_the_average_head_sample_by_sample(kind, pessimistic):
    torch.manual_seed(0)
    head = kind(101, -10.0, 10.0, CPU)
    following = 2.0 * torch.randn(3, 50, head.outputs)
    if kind is not Scalar:
        following -= 0.2 * head.support.square()  # no mass near the ends
    reward, discount = torch.randn(50), torch.full((50,), 0.9)
    values = head.value(following)
    expected = reward + 0.9 * (values.min(0).values if pessimistic else values.mean(0))
    target = head.target(reward, discount, following, pessimistic)
    assert values.argmin(0).unique().numel() == 3, "every head is the smallest somewhere"
    got = target[:, 0] if kind is Scalar else target @ head.support
    assert torch.allclose(got, expected, atol=1e-3)


def test_hl_gauss_is_the_histogram_of_a_gaussian_around_the_value():
    head = HlGauss(51, -5.0, 5.0, CPU)
    value = torch.tensor([0.0, 1.234, -3.3])
    got = head.histogram(value)
    sigma = 0.75 * 0.2
    draws = value[:, None] + sigma * torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0))
    counts = torch.stack([torch.histc(d, 51, -5.1, 5.1) for d in draws]) / 200_000
    assert torch.allclose(got, counts, atol=5e-3)
    assert torch.allclose(got @ head.support, value, atol=1e-3)
    assert torch.allclose(got.sum(1), torch.ones(3))


def test_the_loss_is_the_cross_entropy_of_each_head_summed_over_heads():
    torch.manual_seed(0)
    head = C51(11, -1.0, 1.0, CPU)
    outputs, target = torch.randn(2, 7, 11), torch.softmax(torch.randn(7, 11), 1)
    expected = sum(F.cross_entropy(outputs[k], target) for k in range(2))
    assert head.loss(outputs, target).item() == pytest.approx(float(expected), rel=1e-5)
    scalar = Scalar(1, 0.0, 1.0, CPU)
    outputs, target = torch.randn(2, 7, 1), torch.randn(7, 1)
    expected = sum(F.mse_loss(outputs[k], target) for k in range(2))
    assert scalar.loss(outputs, target).item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("outputs", [1, 11])
def test_the_ensemble_equals_separate_networks_with_their_gradients(layer_norm, outputs):
    generator = torch.Generator().manual_seed(0)
    ensemble = CriticEnsemble(3, (5, 16, 8, outputs), "elu", layer_norm, generator)
    for parameter in (*ensemble.norm_weights, *ensemble.norm_biases):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(20, 5, generator=generator)
    got = ensemble(x)
    got.square().sum().backward()
    for k in range(3):
        layers: list[torch.nn.Module] = []
        for i, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            linear = torch.nn.Linear(weight.shape[1], weight.shape[2])
            linear.load_state_dict({"weight": weight.data[k].T, "bias": bias.data[k, 0]})
            layers.append(linear)
            if i < 2 and layer_norm:
                norm = torch.nn.LayerNorm(weight.shape[2])
                scale, shift = ensemble.norm_weights[i].data[k, 0], ensemble.norm_biases[i].data[k, 0]
                norm.load_state_dict({"weight": scale, "bias": shift})
                layers.append(norm)
            layers += [torch.nn.ELU()] if i < 2 else []
        network = torch.nn.Sequential(*layers)
        single = network(x)
        single.square().sum().backward()
        assert torch.allclose(got[k], single, atol=1e-5)
        linears = [m for m in network if isinstance(m, torch.nn.Linear)]
        for weight, linear in zip(ensemble.weights, linears, strict=True):
            assert torch.allclose(weight.grad[k], linear.weight.grad.T, rtol=1e-4, atol=1e-4)


def test_a_frozen_ensemble_passes_gradients_to_its_input_only():
    ensemble = CriticEnsemble(2, (4, 8, 1), "relu", True, torch.Generator().manual_seed(0))
    x = torch.randn(6, 4, requires_grad=True)
    frozen = ensemble(x, frozen=True)
    (gradient,) = torch.autograd.grad(ensemble(x).sum(), x)
    frozen.sum().backward()
    assert torch.allclose(x.grad, gradient) and all(p.grad is None for p in ensemble.parameters())
    assert torch.equal(ensemble(x, slice(1, 2)), ensemble(x)[1:])
