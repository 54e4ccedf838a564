"""Every registered task on every simulator that can run it: shapes, finite numbers, seeds, and batches of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from robot_rl.config import leaves
from robot_rl.errors import ConfigError
from robot_rl.registry import load, names
from robot_rl.sim.articulated.variants import NOMINAL
from robot_rl.sim.task_spec import make_env

N, STEPS = 4, 6
CALM = {"noise.scale": 0.0, "disturbance.force": 0.0, "disturbance.torque": 0.0, "reference.kind": "figure-eight"}
QUIET = {**NOMINAL, **CALM}  # nothing random after the reset
REFUSED = {("go1-velocity-rough", "pybullet")}  # has no height fields
SLOW = {"warp"}  # compiles kernels for the CPU


def _simulators() -> list[Any]:
    """(task, option that names the simulator, name of one)."""
    cases: list[Any] = []
    for task in names("task"):
        jointed = "physics" in leaves(load("task", task).options)
        kinds = names("physics") if jointed else ("eager", "native")
        for kind in kinds:
            marks = [pytest.mark.slow] if kind in SLOW else []
            cases.append(
                pytest.param(task, "physics" if jointed else "backend", kind, marks=marks, id=f"{task}-{kind}")
            )
    return cases


def _make(task: str, option: str, kind: str, num_envs: int = N, seed: int = 0, **changes: Any) -> Any:
    pytest.importorskip({"warp": "mujoco_warp"}.get(kind, "mujoco" if option == "physics" else "torch"))
    if kind == "pybullet":
        pytest.importorskip("pybullet", reason="pybullet is not installed")
    have = leaves(load("task", task).options)
    changes = {option: kind, **{k: v for k, v in changes.items() if k in have}}
    return make_env(task, num_envs, seed, "cpu", changes)


def _actions(env: Any, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.6 * torch.rand(STEPS, env.num_envs, env.action_dim, generator=generator) - 0.3


def _row(value: Any, i: int, last: bool) -> Any:
    """Environment i's part of a saved state of N environments; `last`: N is the last axis wherever it can be."""
    if isinstance(value, Mapping):
        return {k: _row(v, i, last or k == "ring") for k, v in value.items()}
    if not isinstance(value, torch.Tensor) or N not in value.shape:
        return value
    if last and value.shape[-1] == N:
        return value[..., i : i + 1].clone()
    return value[i : i + 1].clone() if value.shape[0] == N else value


@pytest.mark.parametrize(("task", "option", "kind"), _simulators())
def test_it_resets_steps_and_is_decided_by_its_seed(task: str, option: str, kind: str) -> None:
    if (task, kind) in REFUSED:
        with pytest.raises(ConfigError, match="height fields"):
            _make(task, option, kind)
        return
    first, again, other = (_make(task, option, kind, seed=seed) for seed in (3, 3, 4))
    assert first.task.name == task
    for action in _actions(first):
        step, same, differs = (env.step(action) for env in (first, again, other))
        for group, size in first.obs_dims.items():
            for seen in (step.obs[group], step.final_obs[group]):
                assert seen.shape == (N, size) and seen.dtype == torch.float32 and torch.isfinite(seen).all()
            assert torch.equal(step.obs[group], same.obs[group]), group
        for array in (step.reward, step.terminated, step.truncated, *step.cost.values()):
            assert array.shape == (N,) and torch.isfinite(array.float()).all()
        assert all((c >= 0).all() for c in step.cost.values())
        assert all(v.ndim == 0 for v in step.log.values())
        assert torch.equal(step.reward, same.reward)
    assert not torch.equal(step.obs["policy"], differs.obs["policy"])


@pytest.mark.parametrize(("task", "option", "kind"), _simulators())
def test_a_batch_of_four_is_four_times_one(task: str, option: str, kind: str) -> None:
    if (task, kind) in REFUSED:
        return
    batch = _make(task, option, kind, **QUIET)
    singles = [_make(task, option, kind, num_envs=1, **QUIET) for _ in range(N)]
    state = batch.state_dict()
    for i, single in enumerate(singles):
        single.load_state_dict({**_row(state, i, last=option == "backend"), "num_envs": 1})
    for action in _actions(batch):
        step = batch.step(action)
        for i, single in enumerate(singles):
            alone = single.step(action[i : i + 1])
            for group in batch.obs_dims:
                torch.testing.assert_close(alone.obs[group][0], step.obs[group][i], atol=2e-4, rtol=2e-3)
            torch.testing.assert_close(alone.reward[0], step.reward[i], atol=2e-4, rtol=2e-3)
            assert bool(alone.terminated[0]) == bool(step.terminated[i])
