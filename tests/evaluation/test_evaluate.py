"""Closed-loop evaluation: bad policies fail, seeds decide everything, any kind of target flies."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_policy_file import write_linear_policy

from robot_rl.contract import Rate
from robot_rl.errors import ConfigError, ContractMismatch, UnknownName
from robot_rl.evaluation.evaluate import compare, evaluate, evaluate_table
from robot_rl.evaluation.plant import integration_step, plant, reference, starts
from robot_rl.evaluation.scenarios import GROUPS, SCENARIOS, Scenario, scenario, selected, vehicle_params
from robot_rl.evaluation.targets import FileTarget, _check_flies, as_target
from robot_rl.policies.base.pid import PidController
from robot_rl.policy import Policy

SHORT = scenario("nominal").but(duration=2.0)


class OneAtATime:
    """A runtime for one vehicle, as the emulated chip is: `reset`, `act(signals, time_step)`."""

    def __init__(self) -> None:
        self.inner = PidController()
        self.resets, self.steps = 0, set()

    def reset(self, env_ids: Any = None) -> None:
        self.inner.reset(1)
        self.resets += 1

    def act(self, signals: Mapping[str, Any], time_step: float | None = None) -> dict[str, Any]:
        self.steps.add(time_step)
        return {"rotor_speed_target": self.inner.act(signals)["rotor_speed_target"][0]}


def test_a_policy_that_does_nothing_never_survives(tmp_path: Path) -> None:
    result = evaluate(write_linear_policy(tmp_path / "off.onnx", 0.0), "nominal", episodes=40)
    assert result.summary is not None and result.episodes is not None
    assert result.summary.survival.value == 0.0 and result.summary.wide_survival.value == 0.0
    assert np.isinf(result.episodes.steady_error).all()


def test_constant_hover_speed_does_not_survive_either(tmp_path: Path) -> None:
    result = evaluate(write_linear_policy(tmp_path / "hover.onnx", 1515.8), "nominal", episodes=40)
    assert result.summary is not None
    assert result.summary.survival.value <= 0.05


def test_undisturbed_rest_with_constant_hover_speed_stays(tmp_path: Path) -> None:
    """The same file on a plant that asks nothing of it: so failure above is the policy's, not the plant's."""
    calm = scenario("nominal").but(start="rest", noise=0.0, disturbance=0.0, duration=2.0)
    hover = float(vehicle_params(calm).hover_rotor * 2272.6282)
    result = evaluate(write_linear_policy(tmp_path / "hover.onnx", hover), calm, episodes=2)
    assert result.summary is not None
    assert result.summary.survival.value == 1.0 and result.summary.steady_error.value < 1e-3


def test_the_seed_determines_everything() -> None:
    first, again, other = (evaluate("base:pid", SHORT, 12, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.distance, again.distance)
    assert first.episodes is not None and again.episodes is not None
    np.testing.assert_array_equal(first.episodes.effort, again.episodes.effort)
    assert not np.array_equal(first.distance, other.distance)


def test_two_policies_meet_the_same_episodes() -> None:
    a, b = (evaluate(f"base:{name}", SHORT, 8, seed=3) for name in ("pid", "lee"))
    np.testing.assert_allclose(a.distance[0], b.distance[0], atol=1e-4)  # 10 ms after the same starts
    assert not np.allclose(a.distance[-1], b.distance[-1], atol=1e-4)
    (row,) = compare([a], [b])
    assert (row.first, row.second, row.scenario) == ("pid", "lee", "nominal")
    assert row.error.lower <= row.error.value <= row.error.upper


def test_results_of_different_episodes_are_not_compared() -> None:
    a, b = (evaluate("base:pid", SHORT, 3, seed) for seed in (3, 4))
    with pytest.raises(ConfigError, match="same episodes"):
        compare([a], [b])


def test_a_policy_for_one_vehicle_flies_episode_after_episode() -> None:
    target = OneAtATime()
    result = evaluate(target, SHORT.but(control_dt=0.02), episodes=3)
    assert result.batch == 1 and target.resets == 3 and target.steps == {0.02}
    assert result.summary is not None and result.summary.survival.value == 1.0
    assert result.sample is not None and result.sample.position.shape[1] == 3


def test_a_loaded_policy_serves_its_own_batch(tmp_path: Path) -> None:
    policy = Policy.load(write_linear_policy(tmp_path / "p.onnx", 100.0), num_envs=4)
    result = evaluate(policy, SHORT, episodes=6)
    assert result.batch == 4
    assert result.episodes is not None and len(result.episodes) == 6 and result.distance.shape == (200, 6)


def test_a_file_for_one_vehicle_is_flown_one_by_one(tmp_path: Path) -> None:
    assert as_target(write_linear_policy(tmp_path / "one.onnx", batch=1)).batch == 1
    assert as_target(write_linear_policy(tmp_path / "any.onnx")).batch is None


def test_a_scenario_at_another_rate_is_skipped_with_the_reason(tmp_path: Path) -> None:
    path = write_linear_policy(tmp_path / "fixed.onnx", rate=Rate(0.01, 0.01, 0.01))
    slow, fast = evaluate_table([path], [SHORT, scenario("500hz")], episodes=2)
    assert slow.skipped is None
    assert fast.summary is None and fast.skipped is not None and "calls every 2 ms" in fast.skipped
    assert compare([fast], [fast]) == []


def test_what_cannot_be_flown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot fly"):
        as_target(42)
    with pytest.raises(UnknownName, match="lqr"):
        as_target("base:mellinger")
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate("base:pid", SHORT, episodes=0)
    with pytest.raises(UnknownName, match="nominal"):
        evaluate("base:pid", "nominel")


def test_a_policy_of_another_robot_is_refused(tmp_path: Path) -> None:
    contract = FileTarget(write_linear_policy(tmp_path / "p.onnx")).contract
    joint = dataclasses.replace(contract.commands[0], name="joint")
    arm = dataclasses.replace(contract, robot="panda", commands=(joint,))
    with pytest.raises(ContractMismatch, match=r"joint.*panda"):
        _check_flies(arm, "arm.onnx")


def test_starts_follow_learning_to_fly() -> None:
    begin = starts(scenario("nominal"), 20_000, np.random.default_rng(0))
    angle = 2 * np.arccos(np.clip(np.abs(begin.quat_wxyz[:, 0]), 0, 1))
    guided = (begin.position == 0).all(axis=1)
    assert guided.mean() == pytest.approx(0.1, abs=0.01)
    assert angle.max() <= np.pi / 2 + 1e-9 and np.all(angle[guided] == 0)
    # Uniform on SO(3) up to 90°: P(angle < a) = (a − sin a) / (π/2 − 1).
    assert (angle[~guided] < 1.0).mean() == pytest.approx((1 - np.sin(1)) / (np.pi / 2 - 1), abs=0.015)
    assert np.abs(begin.position).max() <= 0.2 and np.abs(begin.velocity).max() <= 1.0
    assert begin.force.std() == pytest.approx(0.027 * 9.81 / 20, rel=0.02)
    assert begin.torque.std() == pytest.approx(0.027 * 9.81 / 10_000, rel=0.02)
    assert begin.velocity[guided].std() > 0.5  # guided starts move too


def test_copies_meet_equal_starts() -> None:
    sim, begin = plant(scenario("nominal"), 6, seed=0, copies=2)
    np.testing.assert_array_equal(begin.position[:3], begin.position[3:])
    np.testing.assert_allclose(sim.state[:, :3], sim.state[:, 3:])


@pytest.mark.parametrize("chosen", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_every_scenario_flies(chosen: Scenario) -> None:
    short = chosen.but(duration=1.5, turns=1 if chosen.tracking else 2, start="rest")
    sim, _ = plant(short, 3, seed=0)
    for _ in range(5):
        sim.advance(np.full((3, 4), 1500.0), short.control_dt)
    assert np.isfinite(sim.state).all()
    assert all(len(v) == 3 for v in sim.signals().values())
    path = reference(short)
    assert path.times[1] == pytest.approx(short.control_dt)
    assert np.isfinite(path.acceleration).all()


def test_figure_eight_velocity_is_the_derivative_of_position() -> None:
    path = reference(scenario("eight-3.5s"))
    numeric = np.gradient(path.position, path.times, axis=0)
    np.testing.assert_allclose(numeric[1:-1], path.velocity[1:-1], atol=0.02)
    assert path.position[:, 0].max() == pytest.approx(1.0, abs=1e-3)
    assert path.position[:, 1].max() == pytest.approx(0.5, abs=1e-3)
    assert path.times[-1] == pytest.approx(2.0 + 2 * 3.5)


def test_scenarios_change_what_they_say() -> None:
    nominal, heavy = vehicle_params(scenario("nominal")), vehicle_params(scenario("mass-1.2"))
    assert heavy.mass == pytest.approx(1.2 * nominal.mass)
    slow = vehicle_params(scenario("inertia"))
    assert slow.inertia[0] == pytest.approx(3.6 * nominal.inertia[0]) and slow.tau_rise == slow.tau_fall == 0.06
    assert vehicle_params(scenario("thrust-0.9")).thrust[2] == pytest.approx(0.9 * nominal.thrust[2])
    assert vehicle_params(scenario("wind")).drag_xy > 0 == nominal.drag_xy
    assert integration_step(scenario("nominal")) == pytest.approx(0.01)
    assert integration_step(scenario("delay-8ms")) == pytest.approx(0.002)


def test_delay_reaches_the_vehicle() -> None:
    """The same steps of one command, with and without 20 ms: the delayed vehicle is 20 ms behind."""
    calm = scenario("nominal").but(start="rest", noise=0.0, disturbance=0.0)
    prompt, _ = plant(calm, 1, 0)
    late, _ = plant(calm.but(delay=0.02), 1, 0)
    for k in range(30):
        prompt.advance(np.full((1, 4), 2000.0), 0.01)
        if k < 28:
            late.advance(np.full((1, 4), 2000.0), 0.01)
    late.advance(np.full((1, 4), 2000.0), 0.04)
    np.testing.assert_allclose(late.state[13:17], prompt.state[13:17], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"delay": 0.0031}, "multiples"), ({"duration": 0.5}, "duration"), ({"task": "loop"}, "figure-eight"),
     ({"start": "easy"}, "gentle")],
)  # fmt: skip
def test_impossible_scenarios_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=words):
        SHORT.but(**changes)


def test_selection_of_scenarios() -> None:
    assert [s.name for s in selected("eight-5.5s, quick")] == ["eight-5.5s", "nominal", "delay-20ms"]
    assert [s.name for s in selected("all")] == list(SCENARIOS)
    assert set(GROUPS["recovery"]) | set(GROUPS["tracking"]) == set(SCENARIOS)
    with pytest.raises(UnknownName, match="Did you mean 'targets'"):
        selected("target")


def test_the_emulated_chip_flies_what_the_file_flies(tmp_path: Path) -> None:
    """Generated C on an emulated Cortex-M4 against onnxruntime, on the same two episodes."""
    for tool in ("qemu-system-arm", "arm-none-eabi-gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    from robot_rl.firmware_export.in_the_loop import EmulatedPolicy

    path = write_linear_policy(tmp_path / "hover.onnx", 1515.8)
    short = SHORT.but(start="gentle", duration=1.5)
    with EmulatedPolicy(path) as chip:
        mine = evaluate(chip, short, episodes=2, name="chip")
    host = evaluate(Policy.load(path), short, episodes=2, name="host")
    assert mine.policy == "chip" and mine.batch == 1
    np.testing.assert_allclose(mine.distance, host.distance, atol=1e-5)
