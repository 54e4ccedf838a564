"""Arms and hands on the robot's side: goals as poses, the simulated robot among its task's objects, on virtual time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_rl.contract import Contract, Golden
from robot_rl.errors import ConfigError
from robot_rl.hardware.clock import VirtualClock
from robot_rl.hardware.control_loop import ControlLoop
from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.hardware.missions import mission_named
from robot_rl.hardware.pose_reference import PoseReference
from robot_rl.hardware.recording import Recorder
from robot_rl.hardware.run import Run
from robot_rl.registry import load


def _contract(task_name: str, **changes) -> Contract:
    task = load("task", task_name)
    fields = {
        "task": task.name, "robot": task.robot, "signals": task.signals, "commands": task.commands, "memory": (),
        "rate": task.rate, "graph_sha256": "0" * 64, "golden": Golden(1e-5, ()), "gains": task.gains(),
    }  # fmt: skip
    return Contract(**{**fields, **changes})


class _Expert:
    """The task's scripted expert as the loop calls a policy."""

    def __init__(self, task: str) -> None:
        self.contract, self._expert = _contract(task), load("base", task)()

    def reset(self) -> None:
        self._expert.reset(1)

    def act(self, signals, time_step=None):
        del time_step
        given = {s.name: np.asarray(signals[s.name])[None] for s in self.contract.signals}
        return {name: value[0] for name, value in self._expert.act(given).items()}


class _Hold:
    """Answers with the idle commands."""

    def __init__(self, task: str) -> None:
        self.contract = _contract(task)

    def reset(self) -> None:
        pass

    def act(self, signals, time_step=None):
        del signals, time_step
        return {c.name: np.asarray(c.idle, np.float32) for c in self.contract.commands}


def _flown(policy, seconds: float, mission: str = "", options=None, goals=()):
    clock = VirtualClock()
    driver = SimDriver(options, clock, policy.contract.robot, policy.contract.task)
    recorder = Recorder(None)
    loop = ControlLoop(driver, policy, clock=clock, on_tick=recorder.add)
    run = Run(loop, recorder, clock, mission_named(mission, loop.pilot), seconds, goals=goals)
    loop.connect()
    loop.run(until=run.over)
    return recorder.result(run.success, run.outcome, loop.pilot.new_transitions(), loop.take_stats().summary())


@pytest.mark.parametrize(("task", "seconds", "most"), [
    ("panda-reach", 8.0, 0.01), ("panda-push", 24.0, 0.03), ("panda-pick", 24.0, 0.02),
])  # fmt: skip
def test_scripted_experts_bring_gripper_and_cube_to_goals_behind_the_supervisor(task, seconds, most):
    result = _flown(_Expert(task), seconds)
    assert result.success, result.outcome
    left = [goal["m"] for goal in result.goals]
    assert len(left) == 4
    assert sorted(left)[-2] < most  # one may be lost: experts are no better than that
    assert all(set(goal) == {"m"} for goal in result.goals)
    assert np.isnan(result.errors).all()
    assert np.ptp(result.target_pos_w[:, 0]) > 0.08


def test_goals_of_the_users_own():
    result = _flown(_Expert("panda-pick"), 12.0, goals=((0.45, 0.1, 0.2), (0.55, -0.05, 0.25)))
    assert [goal["m"] < 0.02 for goal in result.goals] == [True, True]
    np.testing.assert_allclose(result.pos_w[result.measured][-1], (0.55, -0.05, 0.25), atol=0.02)


def test_a_hand_keeps_its_cube_while_it_gets_up_and_is_asked_for_attitudes():
    result = _flown(_Hold("leap-reorient"), 8.0, options={"noise": False})
    assert result.success, result.outcome
    turned = [goal["rad"] for goal in result.goals]
    np.testing.assert_allclose(turned, [math.pi / 2, math.pi, math.pi / 2, 0.0], atol=0.2)
    assert all(set(goal) == {"rad"} for goal in result.goals)
    assert result.pos_w[-1, 2] > 0.2  # m: in the palm, not on the floor


def test_goals_are_checked_and_kept_in_the_box():
    reference = PoseReference(("object_pos_w", "target_pos_w"))
    assert reference.about == "object"
    assert reference.reads == {"target_pos_w"}
    pos = np.array([0.5, 0.1, 0.02], np.float32)
    assert reference.rest({"object_pos_w": pos}).pos_w == pytest.approx(pos)
    np.testing.assert_array_equal(reference.aim(np.array([9.0, 0.0, -1.0])), [2.0, 0.0, 0.0])
    before = reference.current
    for pos_w, quat in (([math.nan, 0, 0], None), ([0, 0], None), ([0, 0, 0], [2, 0, 0, 0]), ([0, 0, 0], [0, 0, 0, 0])):
        with pytest.raises(ConfigError, match="unit quaternion"):
            reference.aim(np.array(pos_w, float), None if quat is None else np.array(quat, float))
    assert reference.current is before
    assert PoseReference(("ee_pos_w", "target_pos_w")).about == "ee"


def test_requests_that_do_not_fit_the_policy_are_refused_with_what_it_follows():
    policy = _Expert("panda-reach")
    loop = ControlLoop(SimDriver(None, VirtualClock(), "panda", "panda-reach"), policy, clock=VirtualClock())
    assert "follows poses" in loop.pilot.walk(0.1).message
    assert "follows poses" in loop.pilot.stream((0, 0, 1), (0, 0, 0), (0, 0, 0)).message
    assert "follows requests only" in loop.pilot.aim((0.5, 0.0, 0.3)).message  # not running yet
    assert "follows requests only" in loop.pilot.go_to((0.5, 0.0, 0.3)).message


def test_objects_stand_around_the_robot_only_where_the_task_is_known():
    assert "object_pos_w" in {s.name for s in SimDriver(None, robot="panda", task="panda-push").signals}
    for task in ("somebodys-task", "leap-reorient", ""):
        assert "object_pos_w" not in {s.name for s in SimDriver(None, robot="panda", task=task).signals}
    assert "object_pos_w" in {s.name for s in SimDriver({"task": "panda-pick"}, robot="panda").signals}
    with pytest.raises(ConfigError, match="leap"):
        _ = SimDriver({"task": "leap-reorient"}, robot="panda").signals
