"""The supervisor of a robot with joints: its own conditions, its transitions, and that nothing gets past it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.contract import Command
from robot_rl.hardware.jointed import Jointed
from robot_rl.hardware.monitors import Observation
from robot_rl.hardware.pose_motion import PoseMotion
from robot_rl.hardware.supervisor import Supervisor
from robot_rl.hardware.supervisor_config import Reaction, RobotState, SupervisorConfig

JOINTS = Command("joint_pos_target", "joint_pos", "rad", ("hip", "knee"), (-1.0, -2.0), (1.0, 0.0), (0.1, -1.0))
GRIP = Command("gripper_width_target", "gripper_width", "m", ("width",), (0.0,), (0.08,), (0.08,))
REST = (0.5, -1.9)
DT = 0.02
CONFIG = SupervisorConfig()
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


def _obs(pos=REST, vel=(0.0, 0.0), quat=UPRIGHT, **changes) -> Observation:
    values = {"joint_pos": pos, "joint_vel": vel, "base_quat_wxyz": quat, "base_ang_vel_b": (0.0, 0.0, 0.0)}
    ages = dict.fromkeys(values, 0.0)
    fields = {
        "signals": {name: np.asarray(value, np.float32) for name, value in values.items()},
        "ages": ages,
        "max_ages": dict.fromkeys(ages, 0.1),
        "needed": tuple(values),
    }
    return Observation(**{**fields, **changes})


class _Robot:
    """A supervisor with a clock, and joints that follow their targets at once unless `stuck` says where they are."""

    def __init__(self, config: SupervisorConfig = CONFIG) -> None:
        commands = (JOINTS, GRIP)
        self.supervisor = Supervisor(commands, config, Jointed(commands, config, REST))
        self.now, self.pos, self.proposal = 0.0, np.array(REST), {"joint_pos_target": [0.1, -1.0]}
        self.proposal["gripper_width_target"] = [0.03]
        self.sent: list[dict | None] = []

    def let(self, seconds: float = DT, stuck=None, **changes) -> RobotState:
        for _ in range(max(1, round(seconds / DT))):
            self.now += DT
            self.supervisor.watch(_obs(self.pos if stuck is None else stuck, **changes), self.now)
            leads = self.supervisor.policy_leads
            decision = self.supervisor.command(self.proposal if leads else None, DT)
            self.sent.append(decision.command)
            if decision.command is not None:
                self.pos = decision.command["joint_pos_target"].astype(np.float64)
        return self.supervisor.state

    def in_state(self, state: RobotState) -> _Robot:
        self.let()
        if state is RobotState.DISARMED:
            return self
        assert self.supervisor.arm(self.now).accepted
        if state is RobotState.FAULT:
            self.supervisor.emergency_stop(self.now)
        elif state is not RobotState.ARMED:
            assert self.supervisor.rise(self.now).accepted
            if state is not RobotState.STANDING_UP:
                assert self.let(CONFIG.stand_time + 0.1) is RobotState.RUNNING
            if state is RobotState.LYING_DOWN:
                assert self.supervisor.descend(self.now).accepted
        assert self.supervisor.state is state
        return self


STATES = [s for s in RobotState if s not in (RobotState.TAKING_OFF, RobotState.FLYING, RobotState.LANDING)]
TILTED = (math.cos(0.7), math.sin(0.7), 0.0, 0.0)
# Condition → what is measured, and for how long it must last.
CONDITIONS: dict[str, tuple[dict, float]] = {
    "tilt": ({"quat": TILTED}, 0.2),
    "joint_limit": ({"stuck": (0.1, 0.2)}, 0.2),
    "joint_speed": ({"vel": (0.0, -30.0)}, 0.2),
    "stale_signal": ({"ages": {"joint_pos": 0.15}}, DT),
    "lost_signal": ({"ages": {"joint_pos": 0.31}}, DT),
    "bad_signal": ({"bad": ("joint_vel",)}, DT),
    "missed_ticks": ({"missed_fraction": 0.6}, DT),
    "command_link": ({"link_age": 1.5}, DT),
    "driver_failure": ({"driver_error": "no answer"}, 0.1),
    "policy_lost": ({"policy_error": "NaN"}, 0.2),
}
EXPECTED = {
    Reaction.WARN: RobotState.RUNNING,
    Reaction.LAND: RobotState.LYING_DOWN,
    Reaction.IDLE: RobotState.FAULT,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_has_its_default_reaction_while_running(condition):
    robot = _Robot().in_state(RobotState.RUNNING)
    changes, seconds = CONDITIONS[condition]
    reaction = CONFIG.reaction.of(condition)
    assert robot.let(seconds, **{k: v for k, v in changes.items()}) is EXPECTED[reaction]
    if reaction is Reaction.IDLE:
        assert robot.sent[-1] is None  # damped in the tick of the fault
        assert condition in robot.supervisor.cause


def test_a_leg_that_is_held_while_standing_up_ends_in_damping():
    robot = _Robot().in_state(RobotState.STANDING_UP)
    assert robot.let(CONFIG.stand_time + 0.5, stuck=REST) is RobotState.FAULT
    assert "pose" in robot.supervisor.cause and "knee" in robot.supervisor.cause
    assert robot.sent[-1] is None


def test_a_robot_that_does_not_get_up_lies_down_again():
    config = dataclasses.replace(CONFIG, stand_tolerance=0.1)
    robot = _Robot(config).in_state(RobotState.STANDING_UP)
    assert robot.let(CONFIG.stand_time, stuck=None) is not RobotState.FAULT
    near = _Robot(config).in_state(RobotState.STANDING_UP)
    for _ in range(round((CONFIG.take_off_time + 0.5) / DT)):
        target = near.sent[-1]["joint_pos_target"] if near.sent[-1] else np.array(REST)
        near.let(stuck=target - 0.2 * (target - np.array(REST)))  # sags by a fifth of the way
    assert near.supervisor.state is RobotState.LYING_DOWN
    assert "take_off_timeout" in near.supervisor.cause
    assert near.let(CONFIG.lie_time + 0.1) is RobotState.DISARMED


def test_lying_down_lets_the_policy_stand_then_goes_to_both_poses():
    robot = _Robot().in_state(RobotState.RUNNING)
    robot.proposal["joint_pos_target"] = [0.3, -0.8]
    robot.let(0.1)
    robot.supervisor.descend(robot.now)
    robot.let(CONFIG.settle_time - DT)
    np.testing.assert_allclose(robot.sent[-1]["joint_pos_target"], [0.3, -0.8], atol=1e-6)
    assert robot.sent[-1]["gripper_width_target"][0] == pytest.approx(0.03)
    robot.let(CONFIG.gather_time + DT)
    np.testing.assert_allclose(robot.sent[-1]["joint_pos_target"], JOINTS.idle, atol=0.01)
    assert robot.sent[-1]["gripper_width_target"][0] == pytest.approx(0.08)
    assert robot.let(CONFIG.lie_time + 2 * DT) is RobotState.DISARMED
    assert robot.sent[-1] is None
    last = next(c for c in reversed(robot.sent) if c is not None)
    np.testing.assert_allclose(last["joint_pos_target"], REST, atol=0.01)


@pytest.mark.parametrize("state", STATES)
def test_only_a_moving_robot_is_stiff(state):
    robot = _Robot().in_state(state)
    decision = robot.supervisor.command({"joint_pos_target": [0.2, -0.5], "gripper_width_target": [0.0]}, DT)
    assert (decision.command is not None) is state.moving
    proposed = decision.command is not None and float(decision.command["joint_pos_target"][1]) == -0.5
    assert proposed is (state in (RobotState.RUNNING, RobotState.LYING_DOWN))


def test_arming_is_refused_in_a_far_pose_tilted_or_beyond_a_limit():
    for changes, word in (
        ({"stuck": (0.1, -1.0 - CONFIG.arm_distance - 0.1), "seconds": DT}, "knee"),
        ({"quat": (math.cos(0.25), math.sin(0.25), 0.0, 0.0)}, "upright"),
        ({"stuck": (0.1, 0.2), "seconds": 0.2}, "joint_limit"),
    ):
        robot = _Robot()
        robot.let(**changes)
        answer = robot.supervisor.arm(robot.now)
        assert not answer.accepted and word in answer.message


def test_a_robot_that_is_bolted_down_needs_no_attitude():
    supervisor = Supervisor((JOINTS,), CONFIG, Jointed((JOINTS,), CONFIG, REST, attitude=False))
    obs = _obs(needed=("joint_pos", "joint_vel"))
    bare = dataclasses.replace(obs, signals={n: obs.signals[n] for n in obs.needed})
    supervisor.watch(bare, 0.1)
    supervisor.command(None, DT)
    assert supervisor.arm(0.1).accepted


NUMBER = st.floats(width=32, allow_nan=True, allow_infinity=True)
PROPOSAL = st.one_of(
    st.none(),
    st.tuples(st.lists(NUMBER, max_size=3), st.lists(NUMBER, max_size=2)).map(
        lambda v: {"joint_pos_target": np.array(v[0], np.float32), "gripper_width_target": np.array(v[1], np.float32)}
    ),
    st.sampled_from(["stand", 7, {"joint_pos_target": [0.0, 0.0]}]),
)
SEEN = st.builds(
    lambda pos, vel, quat, age: _obs(pos, vel, quat, ages={"joint_pos": age}),
    st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2),
    st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2),
    st.sampled_from([UPRIGHT, TILTED]),
    st.floats(0.0, 1.0),
)
EVENT = st.one_of(
    st.tuples(st.just("watch"), st.one_of(st.just(_obs()), SEEN)),
    st.tuples(st.just("command"), PROPOSAL),
    st.tuples(st.sampled_from(["arm", "disarm", "rise", "descend", "emergency_stop"]), st.none()),
)


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(STATES), events=st.lists(EVENT, max_size=25), dt=st.floats(0.0, 0.1))
def test_whatever_happens_joints_are_damped_or_told_something_finite_within_limits_and_steps(start, events, dt):
    robot = _Robot().in_state(start)
    supervisor, before = robot.supervisor, robot.sent[-1]
    for kind, value in events:
        robot.now += DT
        if kind == "watch":
            supervisor.watch(value, robot.now)
        elif kind != "command":
            before = None
            getattr(supervisor, kind)(robot.now)
        else:
            leads = supervisor.policy_leads
            sent = supervisor.command(value, dt).command
            assert (sent is None) or supervisor.state.moving
            if sent is not None:
                numbers = sent["joint_pos_target"]
                assert np.all(numbers >= np.array(JOINTS.lower, np.float32) - 1e-6)
                assert np.all(numbers <= np.array(JOINTS.upper, np.float32) + 1e-6)
                if before is not None and not leads:
                    step = np.abs(numbers - before["joint_pos_target"]).max()
                    assert step <= CONFIG.max_joint_rate * dt + 1e-5
            before = sent


@settings(deadline=None)
@given(
    stops=st.lists(st.tuples(st.floats(-3.0, 3.0), st.floats(0.5, 5.0)), min_size=1, max_size=4),
    dt=st.floats(0.001, 0.2),
)
def test_a_motion_reaches_its_poses_in_time_and_never_jumps(stops, dt):
    motion = PoseMotion(np.zeros(1), [(np.array([pose]), seconds) for pose, seconds in stops])
    fastest = max(1.5 * abs(b - a) / s for (a, _), (b, s) in zip([(0.0, 0.0), *stops], stops, strict=False))
    now = motion.step(0.0)
    for _ in range(math.ceil(sum(s for _, s in stops) / dt) + 1):
        after = motion.step(dt)
        assert abs(after - now)[0] <= fastest * dt + 1e-9
        now = after
    assert motion.done
    assert now[0] == pytest.approx(stops[-1][0])
