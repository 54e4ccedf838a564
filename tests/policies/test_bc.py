"""Cloning from recorded episodes: what is learnt, how chunks are played out, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import small_policy
import torch
from fakes import PointMass

from robot_rl.data.episode import DataError, DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.observer import initial_memory
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.algorithms.bc import Bc, BcConfig
from robot_rl.policies.chunks import LEFT, PLAN, ChunkedActor
from robot_rl.policies.demonstrations import load_demonstrations
from robot_rl.policies.runner import RunInfo, load_policy, train
from robot_rl.policy import Policy

SMALL = {"hidden": (32, 32), "updates": 600, "updates_per_iteration": 100, "learning_rate": 3e-3}


def controller(obs: torch.Tensor) -> torch.Tensor:
    return -(2.0 * obs[:, :1] + 2.0 * obs[:, 1:2]).clamp(-1.0, 1.0)


def record(path, episodes: int = 12, good: int = 12) -> str:
    """Episodes of 50 steps of the controller; only the first `good` are said to have succeeded."""
    env = PointMass(episodes)
    obs, seen, done = env.reset(3), [], []
    for _ in range(50):
        action = controller(obs["policy"])
        seen.append(obs["policy"])
        done.append(action)
        step = env.step(action)
        obs = step.obs
    arrays = torch.stack([*seen, step.final_obs["policy"]]).numpy(), torch.stack(done).numpy()
    spec = DataSpec(0.1, {"obs/policy": Feature(shape=(3,)), "action": Feature(shape=(1,))})
    with EpisodeStore.create(path, spec) as store:
        for i in range(episodes):
            store.append(Episode({"obs/policy": arrays[0][:, i], "action": arrays[1][:, i]}, False, True, i < good))
    return str(path)


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> str:
    return record(tmp_path_factory.mktemp("demos") / "a.rrl")


def trained(demos: str, **changes) -> tuple[Bc, list[dict[str, float]]]:
    env, config = PointMass(1), BcConfig(demos=demos, **(SMALL | changes))
    learned, rows = Bc(env, config, 0), []
    while learned.progress[0] < learned.progress[1]:
        rows.append(learned.step(env))
    return learned, rows


def played(policy) -> float:
    """Mean return of 200 episodes; the controller has about 46.5, doing nothing 30."""
    env = PointMass(200)
    obs, total = env.reset(seed=99), torch.zeros(200)
    memory = initial_memory(getattr(policy, "memory", ()), 200)
    for _ in range(50):
        action, memory = policy(obs["policy"], memory) if memory else (policy(obs["policy"]), memory)
        step = env.step(action)
        total, obs = total + step.reward, step.obs
    return total.mean().item()


@pytest.mark.parametrize(
    "changes", [{}, {"horizon": 4, "execute": 2}, {"horizon": 4, "ensemble": 0.1}, {"loss": "l2", "obs_noise": 0.01}]
)
def test_the_clone_does_what_was_shown(demos, changes):
    learned, rows = trained(demos, **changes)
    assert rows[-1]["loss/imitation"] < 0.3 * rows[0]["loss/imitation"]
    assert rows[-1]["loss/validation"] < 0.1
    assert played(learned.policy()) > 45.0


def test_a_resumed_clone_is_the_same(demos):
    whole, _ = trained(demos, obs_noise=0.1)
    env, config = PointMass(1), BcConfig(demos=demos, obs_noise=0.1, **SMALL)
    first = Bc(env, config, 0)
    first.step(env)
    second = Bc(env, config, 0)
    second.load_state_dict(first.state_dict())
    while second.progress[0] < second.progress[1]:
        second.step(env)
    for a, b in zip(whole.parameters, second.parameters, strict=True):
        assert torch.equal(a, b)


class Told(torch.nn.Module):
    """Plans that can be read off: actions k of the plan made at obs x are (x + k) / 100."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return (obs[:, :1] + torch.arange(4.0)) / 100.0


def test_a_plan_is_played_before_the_next_one_is_made():
    actor = ChunkedActor(Told(), None, 4, 1, execute=3)
    memory, seen = initial_memory(actor.memory, 2), []
    for t in range(7):
        obs = torch.tensor([[10.0 * t], [20.0 * t]])
        action, memory = actor(obs, memory)
        seen.append((100 * action[:, 0]).tolist())
        assert {name: value.shape for name, value in memory.items()} == {PLAN: (2, 4), LEFT: (2, 1)}
    np.testing.assert_allclose(seen, [[0, 0], [1, 1], [2, 2], [30, 60], [31, 61], [32, 62], [60, 120 - 20]], atol=1e-4)


@pytest.mark.parametrize("m", [0.0, 0.5])
def test_the_ensemble_is_the_weighted_mean_of_all_plans_for_this_step(m):
    actor, memory = ChunkedActor(Told(), None, 4, 1, execute=1, ensemble=m), None
    memory = initial_memory(actor.memory, 1)
    for t in range(9):
        action, memory = actor(torch.tensor([[5.0 * t]]), memory)
        said = [min(5.0 * made + (t - made), 100.0) / 100.0 for made in range(max(0, t - 3), t + 1)]  # oldest first
        weights = [math.exp(-m * i) for i in range(len(said))]
        assert action.item() == pytest.approx(np.average(said, weights=weights), abs=1e-6)


def test_a_chunked_clone_runs_from_its_file(tmp_path):
    class Plans(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(small_policy.History.obs_dim, 12)

        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return self.layer(obs)

    path = small_policy.export(tmp_path / "a.onnx", actor=ChunkedActor(Plans(), None, 3, 4, execute=2))
    assert {PLAN, LEFT} <= {m.name for m in Policy.load(path).contract.memory}  # loading replays its golden vectors


def test_chunks_end_with_their_episode(demos):
    read = load_demonstrations(demos, {"policy": 3}, 1, episodes=2)
    assert read.episodes == 2 and len(read) == 100
    action, within = read.chunks(torch.tensor([47, 97]), 5)
    assert within.tolist() == [[True] * 3 + [False] * 2] * 2
    assert torch.equal(action[0, 2:], read.action[49].expand(3, 1))


def test_demonstrations_that_do_not_fit_are_refused(tmp_path, demos):
    with pytest.raises(ConfigError, match=r"robot-rl demos.*--set demos=FILE"):
        Bc(PointMass(1), BcConfig(), 0).step(PointMass(1))
    with pytest.raises(ConfigError, match=r"'obs/critic' is missing.*holds obs/policy, action"):
        load_demonstrations(demos, {"critic": 2}, 1)
    with pytest.raises(ConfigError, match=r"'action' has rows of shape \(1,\), this task needs \(2,\)"):
        load_demonstrations(demos, {"policy": 3}, 2)
    failed = record(tmp_path / "failed.rrl", episodes=2, good=0)
    with pytest.raises(ConfigError, match=r"no successful episode.*which=all"):
        load_demonstrations(failed, {"policy": 3}, 1)
    assert load_demonstrations(failed, {"policy": 3}, 1, which="all").episodes == 2
    spec = DataSpec(0.1, {"obs/policy": Feature(shape=(3,)), "action": Feature(shape=(1,))})
    with EpisodeStore.create(tmp_path / "far.rrl", spec) as store:
        arrays = {"obs/policy": np.zeros((3, 3), np.float32), "action": np.full((2, 1), 1.5, np.float32)}
        store.append(Episode(arrays, True, False, True))
    with pytest.raises(ConfigError, match=r"'action' reaches 1\.5; actions lie in \[-1, 1\]"):
        load_demonstrations(str(tmp_path / "far.rrl"), {"policy": 3}, 1)


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, demos):
    spec, info = load_algorithm("bc"), RunInfo(task="point-mass")
    with pytest.raises(DataError, match=r"none\.rrl"):
        train(spec, PointMass(1), tmp_path / "run", BcConfig(demos=str(tmp_path / "none.rrl")), info=info)
    assert not (tmp_path / "run").exists()
    config = BcConfig(demos=demos, horizon=4, **(SMALL | {"updates": 200}))
    assert train(spec, PointMass(1), tmp_path / "run", config, info=info).completed
    assert load_policy(tmp_path / "run", PointMass(1)).memory[0].name == PLAN


def test_hyper_parameters_out_of_range_are_named():
    for changes, message in (({"execute": 3, "horizon": 2}, "execute = 3"), ({"loss": "l3"}, "loss = 'l3'; allowed")):
        with pytest.raises(ConfigError, match=message):
            BcConfig(**changes)
