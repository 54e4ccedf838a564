"""Analytic policy gradient: it learns, is determined by its seed, resumes exactly, and its exported parts fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from robot_rl.errors import CheckpointError, ConfigError, NumericalError
from robot_rl.policies.algorithms.apg import ALGORITHM, Apg, ApgConfig
from robot_rl.policies.run_folder import read_checkpoint, write_checkpoint
from robot_rl.policies.runner import RunInfo, RunnerConfig, load_policy, train
from robot_rl.sim.quadrotor.analytic import AnalyticConfig, AnalyticFlight
from robot_rl.sim.robots.crazyflie import ROBOT

SMALL = ApgConfig(num_envs=64, hidden=(32, 32), updates=40, lr=4e-3, updates_per_iteration=5)
TASK = AnalyticConfig(horizon=24, delay_max=0.0, randomised=0.0, moving=0.0, smoothness=0.3)


def flight() -> AnalyticFlight:
    return AnalyticFlight(ROBOT.parameters(), SMALL.num_envs, TASK)


def learnt(seed: int, iterations: int = 8) -> tuple[Apg, list[float]]:
    task = flight()
    algorithm = Apg(task, SMALL, seed)
    losses = [algorithm.step(task)["loss/flight"] for _ in range(iterations)]
    return algorithm, losses


def test_flies_better_than_untrained() -> None:
    """Vehicles drift from their starts, so the comparison is with the same windows under the initial network."""
    task, frozen, longer = flight(), flight(), dataclasses.replace(SMALL, updates=100)
    learner, initial = Apg(task, longer, 0), Apg(frozen, dataclasses.replace(longer, lr=1e-8), 0)
    for _ in range(20):
        learnt_loss, initial_loss = learner.step(task)["loss/flight"], initial.step(frozen)["loss/flight"]
    assert learnt_loss < 0.4 * initial_loss


def test_seed_determines_everything() -> None:
    first, again, other = learnt(3)[0].theta, learnt(3)[0].theta, learnt(4)[0].theta
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_resumed_run_equals_uninterrupted_one(tmp_path: Path) -> None:
    info, runner = RunInfo(task="t", command="c"), RunnerConfig(checkpoint_every=3, tensorboard=False)
    whole = train(ALGORITHM, flight(), tmp_path / "whole", SMALL, seed=1, info=info, runner=runner)

    class Interrupted(Exception):
        pass

    class Fragile(AnalyticFlight):
        calls = 0

        def metrics(self) -> dict[str, float]:
            Fragile.calls += 1
            if Fragile.calls == 5:
                raise Interrupted
            return super().metrics()

    with pytest.raises(Interrupted):
        train(
            ALGORITHM, Fragile(ROBOT.parameters(), 64, TASK), tmp_path / "cut", SMALL, seed=1, info=info, runner=runner
        )
    rest = train(ALGORITHM, flight(), tmp_path / "cut", SMALL, seed=1, info=info, runner=runner, resume=True)
    assert torch.equal(whole.algorithm.theta, rest.algorithm.theta)  # type: ignore[attr-defined]


def test_policy_is_the_network_that_was_flown() -> None:
    algorithm, _ = learnt(0, 2)
    obs = torch.randn(7, AnalyticFlight.obs_dim, generator=torch.Generator().manual_seed(0))
    w1, b1, w2, b2, w3, b3 = algorithm.layers()
    expected = torch.tanh(torch.tanh(torch.tanh(obs @ w1.T + b1) @ w2.T + b2) @ w3.T + b3)
    torch.testing.assert_close(algorithm.policy()(obs), expected)


def test_untrained_policy_hovers_in_thrust() -> None:
    """Zero observation gives each rotor its hover speed, whatever the mixing."""
    algorithm = Apg(flight(), SMALL, 0)
    action = algorithm.policy()(torch.zeros(1, AnalyticFlight.obs_dim))
    torch.testing.assert_close(
        0.5 + 0.5 * action, torch.full((1, 4), ROBOT.parameters().hover_rotor), rtol=1e-5, atol=1e-5
    )


def test_nan_is_named() -> None:
    task = flight()
    algorithm = Apg(task, SMALL, 0)
    algorithm.step(task)
    algorithm.theta[3] = float("nan")
    with pytest.raises(NumericalError, match="gradient"):
        algorithm.step(task)


@pytest.mark.parametrize(("field", "value"), [("updates", 0), ("lr", -1.0), ("max_gradient", 0.0)])
def test_wrong_hyper_parameters_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        ApgConfig(**{field: value})  # type: ignore[arg-type]


def test_a_run_of_a_version_with_another_observer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """As policies of earlier versions are, whose networks saw less."""
    run = dataclasses.replace(SMALL, updates=5)
    train(ALGORITHM, flight(), tmp_path / "run", run, info=RunInfo("hover"))
    path = next((tmp_path / "run/checkpoints").iterdir())
    state = read_checkpoint(path)
    for name in ("theta", "mean", "square"):
        state["algorithm"][name] = state["algorithm"][name][:-96]
    write_checkpoint(path, state)
    with pytest.raises(
        CheckpointError, match=r"network has \d+ parameters, here it has \d+; use the version that wrote"
    ):
        load_policy(tmp_path / "run", flight())
