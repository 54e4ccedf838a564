"""Missions flown by one call, in virtual and in real time, and how they end when something breaks."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest
from pd_policy import write_pd_policy

from robot_rl.errors import ConfigError, ContractError, ContractMismatch, UnknownName
from robot_rl.hardware.missions import FLIGHTS
from robot_rl.hardware.run import run_without_ros
from robot_rl.hardware.supervisor_config import RobotState


@pytest.mark.parametrize("mission", sorted(FLIGHTS))
def test_each_mission_is_flown_and_landed(pd_policy, mission):
    result = run_without_ros(pd_policy, mission=mission, seconds=5.0, real_time=False)
    assert result.success, result.outcome
    assert result.state[-1] is RobotState.DISARMED
    assert len(result.errors) > 200
    limit = 0.6 if mission.endswith("fast") else 0.2  # this controller is not made for the fast one
    assert result.summary()["rmse_m"] < limit
    assert result.pos_w.shape == result.target_pos_w.shape == (len(result.time), 3)
    assert result.command.shape == (len(result.time), 4)
    assert np.all(result.command[-1] == 0.0)
    assert json.loads(json.dumps(result.summary()))["success"] is True


def test_virtual_time_gives_the_same_flight_twice(pd_policy):
    flights = [run_without_ros(pd_policy, seconds=1.0, real_time=False) for _ in range(2)]
    np.testing.assert_array_equal(flights[0].pos_w, flights[1].pos_w)
    np.testing.assert_array_equal(flights[0].command, flights[1].command)


def test_real_time_is_the_wall_clock(pd_policy):
    seen = []
    settings = {"supervisor.take_off_height": 0.2, "supervisor.reaction.missed_ticks": "warn", "loop.stall_limit": 20.0}
    result = run_without_ros(pd_policy, seconds=1.0, settings=settings, on_progress=seen.append)
    assert result.success, result.outcome
    assert len(seen) == result.stats["ticks"]
    assert result.stats["policy_mean_ms"] > 0.0


@pytest.mark.parametrize(
    ("fault", "words"),
    [("motor", "body_rate"), ("battery", "battery_critical"), ("stale", "lost_signal"), ("write_error", "driver")],
)
def test_a_fault_in_flight_ends_the_mission_with_its_cause(pd_policy, fault, words):
    options = {"fault": fault, "fault_after": 3.0}
    result = run_without_ros(pd_policy, seconds=10.0, driver_options=options, real_time=False)
    assert not result.success
    assert words in result.outcome
    assert result.state[-1] in (RobotState.FAULT, RobotState.DISARMED)


def test_a_robot_too_heavy_for_its_policy_does_not_leave_the_ground(pd_policy):
    result = run_without_ros(pd_policy, driver_options={"vehicle": "reidentified"}, real_time=False)
    assert "ground_contact" in result.outcome


def test_a_robot_that_stands_outside_the_fence_is_not_armed(pd_policy):
    result = run_without_ros(pd_policy, driver_options={"start_pos": (9.0, 0.0, 0.0)}, real_time=False)
    assert "cannot arm: box" in result.outcome


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mission": "loop"}, UnknownName, "figure-eight"),
        ({"driver": "sin"}, UnknownName, "sim"),
        ({"seconds": -1.0}, ConfigError, "seconds"),
        ({"settings": {"supervisor.max_tlit": 1.0}}, UnknownName, "max_tilt"),
        ({"settings": {"supervisor.max_tilt": 99.0}}, ConfigError, "in \\[0.1, 3.2\\]"),
        ({"settings": {"supervisor.reaction.lost_signal": "ignore"}}, ConfigError, "idle"),
        ({"settings": {"loop.rate_hz": 30.0}}, ContractMismatch, "rate"),
    ],
)
def test_wrong_requests_are_refused_before_anything_moves(pd_policy, options, error, words):
    with pytest.raises(error, match=words):
        run_without_ros(pd_policy, real_time=False, **options)


def test_a_missing_damaged_or_foreign_policy_is_refused(tmp_path):
    with pytest.raises(ContractError, match="nowhere"):
        run_without_ros(tmp_path / "nowhere.onnx")
    other = write_pd_policy(tmp_path / "other.onnx", robot="go1")
    with pytest.raises(ContractMismatch, match="joint_pos_target"):  # the simulated robot is the policy's
        run_without_ros(other)
    with pytest.raises(ContractMismatch, match="go1"):
        run_without_ros(other, driver_options={"robot": "crazyflie"})
    with pytest.raises(UnknownName, match="crazyflie"):
        run_without_ros(write_pd_policy(tmp_path / "third.onnx", robot="go9"))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(other.read_bytes()[:-200])
    with pytest.raises(ContractError):
        run_without_ros(damaged)


def _interrupt(times: int):
    """Sends this process SIGTERM, twice at once as launchers do, and that `times` times; once the robot flies."""
    left = [times]

    def on_progress(snapshot):
        if snapshot.state in (RobotState.FLYING, RobotState.LANDING) and left[0]:
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.6 if left[0] else 0.0)

    return on_progress


def test_a_signal_lands_and_a_second_one_idles_the_motors(pd_policy):
    result = run_without_ros(pd_policy, real_time=False, on_progress=_interrupt(1))
    assert not result.success
    assert result.outcome == "interrupted by SIGTERM; then disarmed (landed)"
    before = signal.getsignal(signal.SIGTERM)
    result = run_without_ros(pd_policy, real_time=False, on_progress=_interrupt(2))
    assert not result.success
    assert "motors idle" in result.outcome
    assert result.transitions[-1].after is RobotState.FAULT
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_mission_that_is_refused_in_the_air_lands(pd_policy):
    settings = {"reference.max_path_speed": 0.5}
    result = run_without_ros(pd_policy, mission="figure-eight", settings=settings, real_time=False)
    assert not result.success
    assert "max_path_speed" in result.outcome and "landed" in result.outcome
