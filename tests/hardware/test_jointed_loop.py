"""The control loop with the simulated Go1 and real policy files, on virtual time: up, led, down, and what breaks."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from stance_policy import (
    REST_POSE,
    STAND,
    build_contract,
    build_model,
    write_holding_policy,
    write_stance_policy,
)

from robot_rl.contract import Safety
from robot_rl.errors import ContractMismatch, UnknownName
from robot_rl.hardware.clock import VirtualClock
from robot_rl.hardware.control_loop import ControlLoop
from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.hardware.missions import WALKS
from robot_rl.hardware.run import run_without_ros
from robot_rl.hardware.supervisor_config import RobotState, SupervisorConfig
from robot_rl.policy import Policy
from robot_rl.registry import load, names
from robot_rl.sim.articulated.jointed_robot import JointedRobot

CONFIG = SupervisorConfig()
JOINTED = [n for n in names("robot") if isinstance(load("robot", n).parameters(), JointedRobot)]


class _Recorded(SimDriver):
    """The simulated robot with a look at what it is told: joint targets, or None where it is damped."""

    def __init__(self, options, clock) -> None:
        super().__init__(options, clock, "go1")
        self.told: list[np.ndarray | None] = []

    def write(self, command):
        sent = super().write(command)
        self.told.append(sent["joint_pos_target"].copy())
        return sent

    def damp(self) -> None:
        super().damp()
        self.told.append(None)


class _Wrapped:
    """A real policy that misbehaves when told to."""

    def __init__(self, policy: Policy) -> None:
        self.contract, self._policy, self.trouble = policy.contract, policy, None

    def reset(self) -> None:
        self._policy.reset()

    def act(self, signals, time_step=None):
        answer = self._policy.act(signals, time_step)
        return answer if self.trouble is None else self.trouble(answer)


class _Bench:
    """A loop whose time passes only when told to."""

    def __init__(self, policy, config: SupervisorConfig | None = None, **options) -> None:
        self.clock = VirtualClock()
        self.driver = _Recorded(options, self.clock)
        self.loop = ControlLoop(self.driver, policy, supervisor=config, clock=self.clock)
        self.loop.connect()
        self.pilot = self.loop.pilot

    def let(self, seconds: float, meanwhile=lambda: None) -> RobotState:
        end = self.clock.now() + seconds
        while self.clock.now() < end - 1e-9:
            meanwhile()
            self.loop.tick()
            self.clock.advance(self.loop.control_dt)
        return self.loop.snapshot.state

    def running(self) -> _Bench:
        self.let(0.1)
        assert self.pilot.arm().accepted
        assert self.pilot.stand_up().accepted
        assert self.let(CONFIG.stand_time + 0.5) is RobotState.RUNNING, self.loop.snapshot.cause
        return self

    @property
    def height(self) -> float:
        return float(self.loop.snapshot.signals["base_pos_w"][2])

    def away(self, pose: np.ndarray) -> float:
        return float(np.abs(self.loop.snapshot.signals["joint_pos"] - pose).max())


@pytest.fixture(scope="module")
def policy(stance_policy) -> Policy:
    return Policy.load(stance_policy)


def test_it_stands_up_in_small_steps_and_lies_down_in_small_steps(policy):
    bench = _Bench(policy, noise=False)
    bench.let(0.5)
    assert bench.height < 0.1
    bench.running()
    assert bench.height > 0.22
    assert bench.away(STAND) < 0.3
    assert bench.pilot.lie_down().accepted
    assert bench.let(CONFIG.settle_time + CONFIG.gather_time + CONFIG.lie_time - 0.5) is RobotState.LYING_DOWN
    assert bench.let(1.0) is RobotState.DISARMED
    assert bench.height < 0.1
    assert bench.away(REST_POSE) < 0.3
    told = [t for t in bench.driver.told if t is not None]
    most = CONFIG.max_joint_rate * bench.loop.control_dt
    assert max(float(np.abs(b - a).max()) for a, b in pairwise(told)) <= most + 1e-6
    assert bench.driver.told[0] is None and bench.driver.told[-1] is None
    states = [t.after.value for t in bench.pilot.new_transitions()]
    assert states == ["armed", "standing_up", "running", "lying_down", "disarmed"]


def test_its_first_target_is_where_its_joints_are(policy):
    bench = _Bench(policy, noise=False)
    bench.let(0.2)
    bench.pilot.arm()
    bench.let(0.1)
    before = bench.loop.snapshot.signals["joint_pos"]
    bench.pilot.stand_up()
    bench.let(0.02)
    first = bench.driver.told[-1]
    assert first is not None
    assert np.abs(first - before).max() < CONFIG.max_joint_rate * bench.loop.control_dt


def test_the_policy_gets_the_velocity_gently_and_zero_when_nobody_repeats_it(policy):
    bench = _Bench(policy, noise=False).running()
    assert "velocit" in bench.pilot.go_to((1.0, 0.0, 0.0)).message
    assert not bench.pilot.take_off().accepted
    lean = []
    bench.let(1.0, lambda: bench.pilot.walk(0.8))
    told = bench.driver.told[-1]
    assert told is not None
    np.testing.assert_allclose(told - STAND, np.array([0, 0.16, 0] * 4), atol=1e-5)
    for _ in range(60):
        bench.let(0.02)
        lean.append(float(bench.loop.snapshot.setpoint.lin_vel_b[0]))
    assert max(abs(b - a) for a, b in pairwise(lean)) <= 2.0 * 0.02 + 1e-6
    assert lean[20] == pytest.approx(0.8) and lean[-1] == 0.0
    assert "limits" in bench.pilot.walk(9.0).message
    assert not bench.pilot.walk(float("nan")).accepted


def test_a_lost_link_makes_it_stand_and_lie_down(policy):
    bench = _Bench(policy).running()
    bench.let(1.0, bench.pilot.heartbeat)
    assert bench.loop.snapshot.state is RobotState.RUNNING
    assert bench.let(CONFIG.command_timeout + 0.1) is RobotState.LYING_DOWN
    assert "command_link" in bench.loop.snapshot.cause
    assert bench.let(8.0) is RobotState.DISARMED
    assert bench.height < 0.1
    assert bench.driver.told[-1] is None


@pytest.mark.parametrize("fault", ["stale", "nan", "read_error"])
def test_a_fault_damps_the_joints_in_the_tick_that_sees_it_and_for_good(policy, fault):
    bench = _Bench(policy).running()
    bench.driver.inject(fault)
    while bench.loop.snapshot.state is not RobotState.FAULT:
        assert bench.clock.now() < 20.0
        bench.let(0.02)
    assert bench.driver.told[-1] is None
    count = len(bench.driver.told)
    bench.driver.inject("none")
    bench.let(2.0)
    assert all(t is None for t in bench.driver.told[count:])
    assert bench.height < 0.12
    assert not bench.pilot.stand_up().accepted
    assert bench.pilot.disarm().accepted
    assert bench.pilot.arm().accepted, bench.pilot.arm().message


def test_an_emergency_stop_damps_in_the_next_tick_and_the_robot_sinks_slower_than_it_would_fall(policy):
    bench = _Bench(policy, noise=False).running()
    before = bench.height
    bench.pilot.emergency_stop()
    bench.let(0.02)
    assert bench.driver.told[-1] is None
    bench.let(0.1)
    fallen = 0.5 * 9.81 * 0.1**2
    assert before - bench.height < 0.8 * fallen
    assert bench.let(2.0) is RobotState.FAULT
    assert bench.height < 0.12


def test_a_policy_that_breaks_is_held_and_then_the_joints_are_damped(policy):
    wrapped = _Wrapped(policy)
    bench = _Bench(wrapped).running()
    wrapped.trouble = lambda answer: {"joint_pos_target": np.full(12, np.nan, np.float32)}
    bench.let(0.06)
    held = bench.driver.told[-1]
    assert held is not None and np.all(np.isfinite(held))
    assert bench.let(0.3) is RobotState.FAULT
    assert "policy_lost" in bench.loop.snapshot.cause
    assert bench.driver.told[-1] is None


def test_a_wild_policy_stays_within_the_limits_and_cannot_bypass_a_fault(policy):
    wrapped = _Wrapped(policy)
    bench = _Bench(wrapped).running()
    wrapped.trouble = lambda answer: {"joint_pos_target": np.full(12, 1e9, np.float32)}
    bench.let(0.04)
    told, (command,) = bench.driver.told[-1], bench.driver.commands
    assert told is not None
    np.testing.assert_allclose(told, command.upper, atol=1e-6)
    assert bench.let(5.0) in (RobotState.FAULT, RobotState.DISARMED)
    assert bench.driver.told[-1] is None


def test_an_upside_down_robot_is_armed_only_if_policy_and_operator_allow_it(policy):
    free = dataclasses.replace(CONFIG, max_tilt=3.2, arm_tilt=3.2, max_body_rate=30.0)
    recovers = _Wrapped(policy)
    recovers.contract = build_contract(build_model(), safety=Safety(max_tilt=3.15))
    for who, config, allowed in ((policy, None, False), (policy, free, False), (recovers, free, True)):
        bench = _Bench(who, config, start="upside_down")
        bench.let(0.3)
        answer = bench.pilot.arm()
        assert answer.accepted is allowed
        assert allowed or "tilt" in answer.message


def test_a_robot_in_a_far_pose_is_not_armed(policy):
    bench = _Bench(policy, dataclasses.replace(CONFIG, arm_distance=0.3))
    bench.let(0.1)
    assert "calf_joint" in bench.pilot.arm().message


def test_a_dead_drive_while_standing_up_is_noticed(policy):
    bench = _Bench(policy)
    bench.let(0.1)
    bench.pilot.arm()
    bench.pilot.stand_up()
    bench.driver.inject("motor")
    bench.let(CONFIG.take_off_time + 9.0)
    causes = [t.cause for t in bench.pilot.new_transitions()]
    assert any(word in cause for cause in causes for word in ("pose", "tilt", "take_off_timeout")), causes
    assert bench.driver.told[-1] is None


def test_a_policy_trained_with_other_gains_is_refused_with_both_numbers(tmp_path, stance_policy):
    other = {"stiffness": (35.0,) * 11 + (20.0,), "damping": (0.5,) * 12}
    path = write_stance_policy(tmp_path / "soft.onnx", gains=other)
    with pytest.raises(ContractMismatch, match="RL_calf_joint: policy 20, robot 35"):
        run_without_ros(path, real_time=False)
    with pytest.raises(ContractMismatch, match="policy 35, robot 20"):
        run_without_ros(stance_policy, real_time=False, driver_options={"vehicle": "walk_these_ways"})


def test_a_driver_of_joints_must_be_able_to_damp_them(policy):
    class Limp:
        name, robot = "limp", "go1"
        signals, commands = SimDriver(robot="go1").signals, SimDriver(robot="go1").commands

        def connect(self): ...
        def read(self): ...
        def write(self, command): ...
        def stop(self): ...

    with pytest.raises(ContractMismatch, match="lacks gains, rest_pose, damp"):
        ControlLoop(Limp(), policy)


@pytest.mark.parametrize("mission", sorted(WALKS))
def test_each_mission_is_done(stance_policy, mission):
    result = run_without_ros(stance_policy, mission=mission, seconds=4.0, velocity=(0.3, 0.0, 0.0), real_time=False)
    assert result.success, result.outcome
    assert result.outcome == "mission done, lying"
    assert result.joint_pos.shape == (len(result.time), 12)
    assert json.loads(json.dumps(result.summary()))["rmse_m"] is None
    asked = np.nanmax(np.abs(result.target_velocity), axis=0)
    wanted = {"walk": (0.5, 0.3, 0.8), "velocity": (0.3, 0.0, 0.0), "stand": (0.0, 0.0, 0.0)}[mission]
    np.testing.assert_allclose(asked, wanted, atol=1e-6)


@pytest.mark.parametrize("name", JOINTED)
def test_every_robot_with_joints_gets_up_is_led_and_comes_down(tmp_path, name):
    path = write_holding_policy(tmp_path / "hold.onnx", load("robot", name))
    result = run_without_ros(path, mission="stand", seconds=1.0, real_time=False)
    assert result.success, result.outcome
    assert result.joint_pos.shape[1] == len(load("robot", name).commands[0].elements)
    assert result.state[-1] is RobotState.DISARMED


def test_a_policy_file_without_gains_is_run_with_a_warning(tmp_path, caplog):
    path = write_stance_policy(tmp_path / "old.onnx", gains={})
    assert run_without_ros(path, mission="stand", seconds=0.5, real_time=False).success
    assert "which gains" in caplog.text and "35.0" in caplog.text


def test_a_mission_for_the_other_kind_of_robot_is_refused(stance_policy, pd_policy):
    with pytest.raises(UnknownName, match="walk"):
        run_without_ros(stance_policy, mission="hover", real_time=False)
    with pytest.raises(UnknownName, match="hover"):
        run_without_ros(pd_policy, mission="walk", real_time=False)


def test_a_fault_ends_the_mission_with_its_cause(stance_policy):
    options = {"fault": "stale", "fault_after": 3.0}
    result = run_without_ros(stance_policy, seconds=10.0, driver_options=options, real_time=False)
    assert not result.success
    assert "lost_signal" in result.outcome or "stale_signal" in result.outcome
    assert result.state[-1] is RobotState.FAULT
    assert np.isnan(result.command[-1]).all()
