"""Base policies that propose chunks: every environment has its own plan, and none outlives its episode."""

from __future__ import annotations

import numpy as np
import pytest
import small_policy
import torch

from robot_rl.contract import Command
from robot_rl.errors import ConfigError, NonFiniteSignal, SignalError
from robot_rl.observer import ActionMap, initial_memory
from robot_rl.policies.chunk_adapter import ChunkAdapter, proposals_of_file
from robot_rl.policies.chunks import ChunkedActor
from robot_rl.policy import Policy


class Counting:
    """Action k of the plan made at x is x + k, twice; remembers for how many it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def __call__(self, signals, instruction):
        x = signals["x"]
        self.asked.append(x[:, 0].tolist())
        return x[:, :, None] + np.arange(6.0)[None, :, None] * np.ones((1, 1, 2))


def x_of(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array(values, np.float32)[:, None]}


def test_each_environment_plans_when_its_own_plan_is_played():
    told = Counting()
    adapter = ChunkAdapter(told, horizon=4, execute=3)
    adapter.reset(2)
    seen = []
    for t in range(6):
        if t == 2:
            adapter.forget([1])  # a new episode for the second only
        seen.append(adapter.action(x_of(100.0 * t, 1000.0 + 100.0 * t))[:, 0].tolist())
    assert [row[0] for row in seen] == [0, 1, 2, 300, 301, 302]
    assert [row[1] for row in seen] == [1000, 1001, 1200, 1201, 1202, 1500], "nothing stale of the plan before"
    assert told.asked == [[0, 1000], [1200], [300], [1500]], "only those that need a plan are asked for"


def test_a_mask_forgets_and_an_ensemble_is_that_of_exported_policies():
    adapter = ChunkAdapter(Counting(), horizon=4, ensemble=0.3)
    adapter.reset(3)

    class Told(torch.nn.Module):
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return (obs + torch.arange(4.0)).repeat_interleave(2, 1)

    actor = ChunkedActor(Told(), None, 4, 2, execute=1, ensemble=0.3)
    memory = initial_memory(actor.memory, 3)
    for t in range(7):
        x = x_of(-0.1 * t - 3.0, -0.2 * t - 3.0, -0.05 * t - 3.0)
        if t == 3:
            adapter.forget(np.array([False, True, False]))
            memory = {n: torch.where(torch.tensor([[0], [1], [0]]) > 0, 0.0, v) for n, v in memory.items()}
        mine = adapter.action({"x": 0.1 * x["x"]})
        with torch.no_grad():
            action, memory = actor.playback.step(Told()(torch.from_numpy(0.1 * x["x"])), memory)
        np.testing.assert_allclose(mine, action.numpy(), atol=1e-5)


def test_commands_come_from_the_action_and_the_present_signals():
    adapter = ChunkAdapter(Counting(), 2, 2, to_commands=lambda a, s: {"joint_pos_target": a + s["x"]})
    assert adapter.act(x_of(5.0))["joint_pos_target"].tolist() == [[10.0, 10.0]]
    assert adapter.act(x_of(7.0))["joint_pos_target"].tolist() == [[13.0, 13.0]]
    assert ChunkAdapter(Counting(), 2).act(x_of(5.0))["action"].tolist() == [[5.0, 5.0]]


def test_a_refused_proposal_leaves_the_plans_as_they_were():
    bad = {"on": False}

    def propose(signals, instruction):
        return np.full((len(signals["x"]), 2, 1), np.nan if bad["on"] else 1.0)

    adapter = ChunkAdapter(propose, 2, execute=1)
    adapter.action(x_of(0.0))
    bad["on"] = True
    with pytest.raises(NonFiniteSignal, match="chunk"):
        adapter.action(x_of(0.0))
    bad["on"] = False
    assert adapter.action(x_of(0.0)).tolist() == [[1.0]]


def test_what_does_not_fit_is_refused():
    for arguments, message in (((0,), "horizon = 0"), ((4, 5), "execute = 5"), ((4, 0, -2.0), "ensemble = -2")):
        with pytest.raises(ConfigError, match=message):
            ChunkAdapter(Counting(), *arguments)
    adapter = ChunkAdapter(Counting(), 7)
    with pytest.raises(SignalError, match=r"shape \(1, 6, 2\); expected \(1, 7 or more, A\)"):
        adapter.action(x_of(0.0))
    with pytest.raises(SignalError, match="num_envs = 1"):
        adapter.action(x_of(0.0, 1.0))
    with pytest.raises(SignalError, match="environments 0 to 0"):
        adapter.forget([1])
    with pytest.raises(SignalError, match="mask"):
        adapter.forget(np.array([True, False]))
    with pytest.raises(SignalError, match="at least 1"):
        adapter.reset(0)


class Plans(ActionMap):
    """A chunk of 3 actions of 4 rotors as one command."""

    commands = (
        Command("rotor_speed_target", "rotor_speed", "rad/s", tuple(f"r{k}" for k in range(12)), (-1.0,) * 12,
                (1.0,) * 12, (0.0,) * 12),
    )  # fmt: skip

    def forward(self, action):
        return {"rotor_speed_target": action.clamp(-1, 1)}


class Stateless(small_policy.History):
    memory = ()

    def forward(self, signals, memory):
        return torch.cat([signals["base_pos_w"], signals["base_quat_wxyz"]], -1), memory

    def record(self, memory, action):
        return memory

    obs_dim = 7
    signals = tuple(s for s in small_policy.SIGNALS if s.name in ("base_pos_w", "base_quat_wxyz"))


def test_a_policy_file_with_a_chunk_as_its_command(tmp_path):
    from robot_rl.contract import Rate

    torch.manual_seed(0)
    path = small_policy.export(
        tmp_path / "a.onnx", observer=Stateless(), actor=torch.nn.Linear(7, 12), action_map=Plans(),
        rate=Rate(0.01, 0.01, 0.01),
    )  # fmt: skip
    adapter, rows = ChunkAdapter(proposals_of_file(path, 3), 3, execute=3), small_policy.rollout(2)
    adapter.reset(2)
    signals = {n: np.stack([r[n] for r in rows]).astype(np.float32) for n in ("base_pos_w", "base_quat_wxyz")}
    whole, _ = Policy.load(path).step_from(signals, {})
    for k in range(3):
        np.testing.assert_array_equal(adapter.action(signals), whole["rotor_speed_target"][:, 4 * k : 4 * k + 4])
    with pytest.raises(ConfigError, match="one command of 5 times A"):
        proposals_of_file(path, 5)
    with pytest.raises(ConfigError, match="remembers history"):
        proposals_of_file(small_policy.export(tmp_path / "b.onnx"), 2)
