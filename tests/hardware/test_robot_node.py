"""The ROS 2 node as others meet it: real processes, real DDS, and processes that are killed in flight."""

from __future__ import annotations

import json
import math
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install 'robot-rl[ros]'")
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from pd_policy import write_pd_policy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from ros_processes import KILL, Graph
from std_srvs.srv import SetBool, Trigger

from robot_rl.hardware import ros_messages as messages
from robot_rl.hardware.mission import MissionFailed
from robot_rl.hardware.setpoints import Setpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def graph():
    running = Graph()
    yield running
    running.close()


def _take_off(graph: Graph) -> None:
    observer = graph.observer
    observer.activate()
    observer.wait("odometry", lambda: observer.silence < 1.0, 30.0)
    observer.arm()
    observer.ask("take_off")
    observer.wait("flying", lambda: observer.state == "flying", 60.0)


def _near(graph: Graph, *goal: float) -> bool:
    position = graph.observer.position
    return position is not None and float(np.linalg.norm(position - np.array(goal))) < 0.1


def _change(graph: Graph, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return graph.observer.call(ChangeState, "robot_node/change_state", request, 60.0).success


def test_a_client_flies_to_a_goal_and_lands_and_everything_is_published(graph, pd_policy):
    robot = graph.robot(pd_policy)
    observer = graph.observer
    _take_off(graph)
    again = observer.call(SetBool, "arm", SetBool.Request(data=True))
    assert not again.success and "flying" in again.message
    assert not observer.call(Trigger, "take_off", Trigger.Request()).success
    assert not observer.call(SetBool, "arm", SetBool.Request(data=False)).success
    observer.go_to((0.4, -0.3, 0.6), yaw=0.5)
    observer.wait("the goal", lambda: _near(graph, 0.4, -0.3, 0.6), 60.0)
    observer.wait("diagnostics in flight", lambda: observer.diagnostics().get("state") == "flying", 30.0)
    values = observer.diagnostics()
    assert {"period_mean_ms", "period_worst_ms", "missed_ticks", "clipped_commands", "interventions"} <= set(values)
    assert float(values["control_dt_ms"]) == 10.0
    assert float(values["policy_mean_ms"]) > 0.0
    assert "age_worst_ms.base_pos_w" in values
    seen = observer.seen
    assert seen["odom"].header.frame_id == "world" and seen["odom"].child_frame_id == "base_link"
    assert seen["imu"].linear_acceleration.z == pytest.approx(9.81, abs=3.0)
    orientation = seen["imu"].orientation
    assert math.hypot(orientation.x, orientation.y, orientation.z, orientation.w) == pytest.approx(1.0, abs=1e-3)
    assert seen["battery"].voltage == pytest.approx(4.2, abs=0.01)
    assert seen["setpoint"].header.frame_id == "world"
    observer.ask("land")
    assert not observer.call(Trigger, "land", Trigger.Request()).success
    observer.wait("landed", lambda: observer.state == "disarmed", 60.0)
    assert abs(observer.position[2]) < 0.05
    assert not observer.call(Trigger, "land", Trigger.Request()).success
    robot.send(signal.SIGTERM)
    assert robot.wait() == 0


def test_messages_that_make_no_sense_are_not_followed_and_are_counted(graph, pd_policy):
    graph.robot(pd_policy)
    observer = graph.observer
    _take_off(graph)
    where = observer.position.copy()
    for spoil in (
        lambda goal: setattr(goal.pose.position, "x", math.nan),
        lambda goal: setattr(goal.pose.orientation, "w", 3.0),
        lambda goal: setattr(goal.header, "frame_id", "map"),
    ):
        goal = PoseStamped()
        goal.header.frame_id = "world"
        goal.pose.position.x, goal.pose.position.z, goal.pose.orientation.w = 1.5, 0.5, 1.0
        spoil(goal)
        observer._goal.publish(goal)
    observer.wait("three rejections", lambda: observer.diagnostics().get("rejected_messages") == "3", 30.0)
    wild = Setpoint(np.array([1.5, 0.0, 0.5]), np.array([50.0, 0.0, 0.0]), np.zeros(3), 0.0)
    observer._reference.publish(messages.reference_message(wild, observer.get_clock().now().to_msg(), "world"))
    observer.wait("the fourth", lambda: "max_path_speed" in observer.diagnostics()["last_rejection"], 30.0)
    assert observer.state == "flying"
    assert np.linalg.norm(observer.position[:2] - where[:2]) < 0.1


def test_kill_9_of_the_commanding_client_in_flight_lands_the_robot(graph, pd_policy):
    robot = graph.robot(pd_policy)
    mission = graph.start("robot_rl.hardware.mission", ["--activate", "--mission", "figure-eight", "--seconds", "100"])
    observer = graph.observer
    observer.await_("the client's take-off", lambda: observer.state == "flying")
    observer.await_("the figure", lambda: observer.position is not None and abs(observer.position[0]) > 0.1)
    mission.send(KILL)
    assert mission.wait() == -KILL
    observer.await_("landing", lambda: "landing" in observer.states)
    observer.await_("the ground", lambda: observer.state == "disarmed")
    assert abs(observer.position[2]) < 0.05
    assert "flying → landing: command_link" in robot.output
    observer.arm()  # somebody else may take over


def test_kill_9_of_the_robot_node_in_flight_is_noticed_by_the_client(graph, pd_policy):
    robot = graph.robot(pd_policy)
    mission = graph.start("robot_rl.hardware.mission", ["--activate", "--mission", "hover", "--seconds", "100"])
    observer = graph.observer
    observer.await_("the client's take-off", lambda: observer.state == "flying")
    robot.send(KILL)
    assert robot.wait() == -KILL
    assert mission.wait() == 1
    result = json.loads(mission.lines[-1])
    assert result["success"] is False
    assert "no odometry" in result["outcome"]


def test_a_mission_over_topics_reports_its_error(graph, pd_policy, tmp_path):
    graph.robot(pd_policy)
    out = tmp_path / "flight.json"
    arguments = ["--activate", "--mission", "figure-eight", "--seconds", "5", "--size", "0.5", "--out", str(out)]
    mission = graph.start("robot_rl.hardware.mission", arguments)
    assert mission.wait(120.0) == 0, mission.output
    result = json.loads(mission.lines[-1])
    assert result["states"][-4:] == ["taking_off", "flying", "landing", "disarmed"]
    assert result["rmse_m"] < 0.4
    flight = json.loads(out.read_text())
    assert len(flight["time"]) == len(flight["pos_w"]) == len(flight["target_pos_w"]) > 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_flight_lands_idles_and_ends(graph, pd_policy, number):
    robot = graph.robot(pd_policy, landing_grace=20.0)
    _take_off(graph)
    robot.send(number)
    assert robot.wait() == 0
    assert "landing → disarmed: landed" in robot.output


def test_a_second_signal_does_not_wait_for_the_landing(graph, pd_policy):
    robot = graph.robot(pd_policy, landing_grace=60.0, reference__landing_speed=0.05)
    _take_off(graph)
    robot.send(signal.SIGTERM)
    robot.send(signal.SIGINT)  # at the same time: still one request
    graph.observer.await_("landing", lambda: "landing" in graph.observer.states)
    time.sleep(1.0)
    assert robot.alive
    robot.send(signal.SIGTERM)
    assert robot.wait() == 0
    assert "landing → disarmed: landed" not in robot.output


def test_deactivating_lands_and_the_node_can_be_used_again(graph, pd_policy):
    graph.robot(pd_policy)
    observer = graph.observer
    _take_off(graph)
    assert _change(graph, Transition.TRANSITION_DEACTIVATE)
    assert observer.states[-2:] == ["landing", "disarmed"]
    refused = observer.call(SetBool, "arm", SetBool.Request(data=True))
    assert not refused.success and "not active" in refused.message
    assert _change(graph, Transition.TRANSITION_CLEANUP)
    _take_off(graph)
    observer.ask("emergency_stop")
    observer.wait("fault", lambda: observer.state == "fault", 30.0)
    observer.wait("the ground", lambda: abs(observer.position[2]) < 0.05, 30.0)
    with pytest.raises(MissionFailed, match="fault"):
        observer.arm()
    observer.ask("arm", False)
    observer.arm()


def test_the_motors_can_be_stopped_while_a_deactivation_lands_the_robot(graph, pd_policy):
    graph.robot(pd_policy, reference__landing_speed=0.05)
    observer = graph.observer
    _take_off(graph)
    client = observer.create_client(ChangeState, "robot_node/change_state")
    change = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    deactivation = client.call_async(change)
    observer.wait("landing", lambda: observer.state == "landing", 30.0)
    heard = len(observer.recorded(0.0, math.inf)[0])
    observer.wait("odometry", lambda: len(observer.recorded(0.0, math.inf)[0]) > heard + 5, 30.0)
    assert not deactivation.done()
    observer.ask("emergency_stop")
    observer.wait("the end of the transition", deactivation.done, 30.0)
    assert deactivation.result().success
    assert "fault" in observer.states


def test_policies_that_do_not_fit_are_refused_at_configure_with_the_differences(graph, tmp_path):
    robot = graph.robot(write_pd_policy(tmp_path / "other.onnx", robot="go1"), driver_options="robot=crazyflie")
    assert not _change(graph, Transition.TRANSITION_CONFIGURE)
    graph.observer.await_("the reason", lambda: "the policy is for 'go1'" in robot.output)
    _set(graph, "policy", ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="nowhere.onnx"))
    assert not _change(graph, Transition.TRANSITION_CONFIGURE)
    graph.observer.await_("the reason", lambda: "nowhere.onnx" in robot.output)
    now = graph.observer.call(GetState, "robot_node/get_state", GetState.Request()).current_state
    assert now.label == "unconfigured"
    with pytest.raises(MissionFailed, match="refused to configure"):
        graph.observer.activate()


def _set(graph: Graph, name: str, value: ParameterValue):
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    return graph.observer.call(SetParameters, "robot_node/set_parameters", request).results[0]


def test_parameters_have_ranges_and_are_rejected_with_a_reason(graph, pd_policy):
    graph.robot(pd_policy)

    def number(value: float) -> ParameterValue:
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)

    def text(value: str) -> ParameterValue:
        return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)

    names = ["supervisor.max_tilt", "supervisor.reaction.tilt"]
    request = DescribeParameters.Request(names=names)
    tilt, reaction = graph.observer.call(DescribeParameters, "robot_node/describe_parameters", request).descriptors
    assert tilt.floating_point_range[0].to_value == pytest.approx(3.2)
    assert "rad" in tilt.description and "idle" in reaction.description
    assert _set(graph, "supervisor.max_tilt", number(1.0)).successful
    for name, value, words in (
        ("supervisor.max_tilt", number(99.0), "max_tilt"),
        ("supervisor.max_tilt", number(math.nan), "max_tilt"),
        ("supervisor.max_tilt", text("steep"), "type"),
        ("supervisor.reaction.tilt", text("ignore"), "one of warn, land, idle"),
        ("supervisor.critical_voltage", number(90.0), "low_voltage"),
        (
            "supervisor.fence_upper",
            ParameterValue(type=ParameterType.PARAMETER_DOUBLE_ARRAY, double_array_value=[1.0, 2.0]),
            "3 numbers",
        ),
    ):
        result = _set(graph, name, value)
        assert not result.successful
        assert words in result.reason, result.reason
    graph.observer.activate()
    result = _set(graph, "supervisor.max_tilt", number(1.1))
    assert not result.successful and "clean up" in result.reason


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("supervisor__max_tilt", 99.0, "max_tilt"),
        ("supervisor__reaction__lost_signal", "ignore", "lost_signal"),
        ("supervisor__command_timeout", 3, "command_timeout"),
    ],
)
def test_a_node_started_with_a_wrong_parameter_says_so_and_ends(graph, pd_policy, name, value, words):
    robot = graph.robot(pd_policy, **{name: value})
    assert robot.wait() == 2
    assert words in robot.output


def test_services_before_activation_answer_no(graph, pd_policy):
    graph.robot(pd_policy)
    answer = graph.observer.call(Trigger, "take_off", Trigger.Request(), 60.0)
    assert not answer.success and "not active" in answer.message
    time.sleep(0.2)
    assert "odom" not in graph.observer.seen
