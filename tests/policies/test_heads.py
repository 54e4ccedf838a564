"""Heads of cloned policies: what they fit, that samplers keep both ways and others do not, and how they export."""

from __future__ import annotations

import numpy as np
import pytest
import small_policy
import torch

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.observer import initial_memory
from robot_rl.policies.chunks import NUMBER, ChunkedActor
from robot_rl.policies.imitation.config import BcConfig
from robot_rl.policies.imitation.diffusion import squared_cosine
from robot_rl.policies.imitation.head import HEADS, Planner, StartingNoise, make_head
from robot_rl.policy import Policy

SMALL = {"token": 16, "layers": 1, "width": 64, "blocks": 2, "hidden": (32, 32), "horizon": 4}
SAMPLING = ("flow", "diffusion")
H, A = 4, 2


def head_for(name: str, features: int = 3, action_dim: int = A, seed: int = 0, **changes):
    return make_head(BcConfig(head=name, **(SMALL | changes)), features, action_dim, seed)


def descended(head, features: torch.Tensor, chunk: torch.Tensor, updates: int = 500, lr: float = 3e-3) -> list[float]:
    """The losses."""
    generator, losses = torch.Generator().manual_seed(1), []
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    within = torch.ones(chunk.shape[:2], dtype=torch.bool)
    for _ in range(updates):
        rows = torch.randint(len(features), (128,), generator=generator)
        loss = head.loss(features[rows], chunk[rows], within[rows], generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def two_ways(rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """The same observation, and whole plans that go left (−0.8) or right (+0.8), half of each."""
    side = torch.where(torch.arange(rows) % 2 == 0, 0.8, -0.8)
    return torch.zeros(rows, 3), side[:, None, None].expand(rows, H, A).contiguous()


@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns_a_plan_that_depends_on_what_is_observed(name):
    features = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    steps = torch.linspace(0.2, 1.0, H)
    chunk = torch.stack([steps * features[:, :1], steps * features[:, 1:2].abs() - 0.5], 2)
    head = head_for(name)
    before = (head.plan(features) - chunk).abs().mean().item()
    descended(head, features, chunk)
    off = (head.plan(features) - chunk).abs().mean().item()
    assert off < 0.08 and off < 0.3 * before


@pytest.mark.parametrize("name", SAMPLING)
def test_a_sampling_head_keeps_both_ways(name):
    head, (features, chunk) = head_for(name), two_ways()
    descended(head, features, chunk)
    start = torch.randn(400, H * A, generator=torch.Generator().manual_seed(2))
    plans = head.plan(features, start).detach()
    assert (plans.abs() - 0.8).abs().mean() < 0.1, "plans lie on one of the two ways"
    right = (plans > 0).flatten(1).float().mean(1)
    assert ((right < 0.05) | (right > 0.95)).float().mean() > 0.95, "a plan goes one way with all its actions"
    assert 0.3 < right.mean() < 0.7
    deployed = head.plan(features[:1]).detach()  # from the fixed noise of the file
    assert (deployed.abs() - 0.8).abs().max() < 0.2


def test_a_perceptron_takes_the_middle():
    head, (features, chunk) = head_for("mlp", loss="l2"), two_ways()
    descended(head, features, chunk)
    assert head.plan(features[:1]).abs().max() < 0.1


def test_the_style_of_act_explains_what_differs():
    """With a style the way can be told in training; without one nothing is better than the middle."""
    features, chunk = two_ways()
    with_style = descended(head_for("act", kl_weight=0.01), features, chunk)
    without = descended(head_for("act", kl_weight=0.0), features, chunk)
    assert np.mean(with_style[-50:]) < 0.25 < 0.7 < np.mean(without[-50:])
    assert head_for("act", kl_weight=0.0).style is None


@pytest.mark.parametrize("name", HEADS)
def test_actions_behind_the_end_of_an_episode_do_not_count(name):
    head, generator = head_for(name), torch.Generator()
    features, chunk = torch.randn(8, 3), torch.rand(8, H, A)
    within = (torch.arange(H) < 2).expand(8, H)
    loss = head.loss(features, chunk, within, generator.manual_seed(0))
    loss.backward()
    if name in SAMPLING:  # they see the rest of the plan, noisy, but need not get it right
        wrong = head_for(name)
        error = wrong.network.out[1].bias.grad
        assert error is None and head.network.out[1].bias.grad.view(H, A)[2:].abs().max() == 0.0
        return
    chunk[:, 2:] = 0.5
    assert head.loss(features, chunk, within, generator.manual_seed(0)).item() == pytest.approx(loss.item(), abs=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_head_whatever_was_drawn_before(name):
    first = head_for(name)
    torch.randn(7)
    before = torch.get_rng_state()
    second = head_for(name)
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left as it was"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    features = torch.randn(2, 3)
    assert torch.equal(first.plan(features), second.plan(features))


def test_plans_go_through_the_table_of_noise_and_begin_again():
    noise = StartingNoise(3, H * A, torch.Generator().manual_seed(0))

    class Start(torch.nn.Module):
        def forward(self, obs: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
            return 0.1 * noise(obs, number)

    actor, memory, seen = ChunkedActor(Start(), None, H, A, execute=2, numbered=3), None, []
    memory = initial_memory(actor.memory, 2)
    for t in range(10):
        if t == 5:
            memory = {name: torch.cat([value[:1], 0.0 * value[1:]]) for name, value in memory.items()}  # one reset
        action, memory = actor(torch.zeros(2, 3), memory)
        seen.append(action)
    rows = [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    expected = torch.stack([0.1 * noise.table[r].view(H, A)[t % 2] for t, r in enumerate(rows)])
    assert torch.equal(torch.stack(seen)[:, 0], expected)
    assert torch.equal(torch.stack(seen)[5:, 1], expected[:5]), "the other one began anew"


@pytest.mark.parametrize(("name", "rows"), [("act", 1), ("flow", 1), ("flow", 4), ("diffusion", 4)])
def test_every_head_runs_from_its_file(tmp_path, name, rows):
    head = head_for(name, small_policy.History.obs_dim, 4, noise_rows=rows)
    with torch.no_grad():  # or a fresh sampler would hardly look
        for parameter in head.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    numbered = 0 if rows == 1 else rows
    actor = ChunkedActor(Planner(head), None, H, 4, execute=1, numbered=numbered)
    path = small_policy.export(tmp_path / "a.onnx", actor=actor, tolerance=head.tolerance)
    loaded = Policy.load(path)  # replays its golden vectors
    assert (NUMBER in {m.name for m in loaded.contract.memory}) == (rows > 1)


def test_the_noise_schedule_keeps_all_at_first_and_nothing_at_last():
    kept = squared_cosine(100)
    assert kept[0] > 0.99 and 0.0 < kept[-1] < 1e-4 and bool((kept[1:] < kept[:-1]).all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "transformer"}, "head = 'transformer'; allowed: mlp, act, flow, diffusion"),
        ({"token": 30, "attention_heads": 4}, "token = 30 is not a multiple of attention_heads = 4"),
        ({"sampling_steps": 0}, "sampling_steps = 0"),
        ({"head": "diffusion", "sampling_steps": 20, "diffusion_levels": 10}, "no more than that to visit"),
        ({"kl_weight": -1.0}, "kl_weight = -1"),
        ({"noise_rows": 0}, "noise_rows = 0"),
        ({"images": ("front", "front")}, "a camera is named twice"),
        ({"shift": 100}, "shift = 100"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises((ConfigError, UnknownName), match=message):
        BcConfig(**changes)
