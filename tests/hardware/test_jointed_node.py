"""The ROS 2 node of a robot that walks: real processes, real DDS, velocities on cmd_vel, and a client that is gone."""

from __future__ import annotations

import math
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install 'robot-rl[ros]'")
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from ros_processes import Graph
from sensor_msgs.msg import JointState
from stance_policy import STAND, write_pointing_policy
from std_srvs.srv import Trigger

from robot_rl.hardware import ros_messages as messages
from robot_rl.hardware.mission import MissionFailed
from robot_rl.sim.robots.go1 import JOINTS

pytestmark = pytest.mark.slow


@pytest.fixture
def graph():
    running = Graph()
    yield running
    running.close()


class _Walker:
    """The observer of a graph, with what a walking robot adds."""

    def __init__(self, graph: Graph) -> None:
        self.observer = graph.observer
        for kind, topic in ((JointState, "joint_states"), (TwistStamped, "velocity_setpoint")):
            self.observer.create_subscription(kind, topic, self.observer._keeper(topic), messages.SENSOR_QOS)
        self._velocity = self.observer.create_publisher(Twist, "cmd_vel", messages.EVENT_QOS)

    def stand_up(self) -> None:
        observer = self.observer
        observer.activate()
        observer.wait("joint states", lambda: "joint_states" in observer.seen, 60.0)
        observer.arm()
        observer.ask("stand_up")
        observer.wait("running", lambda: observer.state == "running", 60.0)

    def walk(self, forward: float, turn: float = 0.0) -> None:
        message = Twist()
        message.linear.x, message.angular.z = forward, turn
        self._velocity.publish(message)

    def asked(self) -> float:
        seen = self.observer.seen.get("velocity_setpoint")
        return float(seen.twist.linear.x) if seen else 0.0

    def lean(self) -> np.ndarray:
        return np.array(self.observer.seen["joint_states"].position) - STAND


def test_a_client_walks_it_by_velocities_that_time_out_and_it_lies_down(graph, stance_policy):
    robot = graph.robot(stance_policy, velocity__timeout=1.0)
    walker, observer = _Walker(graph), graph.observer
    walker.stand_up()
    assert list(observer.seen["joint_states"].name) == list(JOINTS)
    with pytest.raises(MissionFailed, match="does not fly"):
        observer.ask("take_off")
    standing = walker.lean()[1::3].mean()

    def leaning() -> bool:
        walker.walk(0.9)
        return walker.asked() > 0.89 and walker.lean()[1::3].mean() > standing + 0.05

    observer.wait("the lean of the policy", leaning, 60.0)
    observer.wait("the time-out", lambda: walker.asked() == 0.0, 60.0)
    assert observer.state == "running"
    walker.walk(math.nan)
    observer.wait("the rejection", lambda: "not finite" in observer.diagnostics().get("last_rejection", ""), 30.0)
    assert observer.seen["imu"].linear_acceleration.z == pytest.approx(9.81, abs=4.0)
    assert observer.seen["odom"].pose.pose.position.z > 0.2
    observer.ask("lie_down")
    observer.wait("lying", lambda: observer.state == "disarmed", 60.0)
    observer.wait("the ground", lambda: observer.position[2] < 0.1, 30.0)
    assert not observer.call(Trigger, "stand_up", Trigger.Request()).success
    robot.send(signal.SIGTERM)
    assert robot.wait() == 0


def test_when_the_heartbeat_stops_it_lies_down_and_a_signal_damps(graph, stance_policy):
    robot = graph.robot(stance_policy, landing_grace=30.0)
    walker, observer = _Walker(graph), graph.observer
    walker.stand_up()
    time.sleep(1.0)  # `wait` sent heartbeats; now nobody does
    observer.await_("lying down", lambda: "lying_down" in observer.states)
    observer.await_("the ground", lambda: observer.state == "disarmed")
    assert "running → lying_down: command_link" in robot.output
    observer.arm()
    observer.ask("stand_up")
    observer.wait("running", lambda: observer.state == "running", 60.0)
    robot.send(signal.SIGTERM)
    assert robot.wait() == 0
    assert "lying_down → disarmed: lying" in robot.output


def test_an_arm_gets_goals_as_poses_and_tells_where_gripper_and_object_are(graph, tmp_path):
    graph.robot(write_pointing_policy(tmp_path / "pointing.onnx"))
    observer = graph.observer
    for topic in ("pose_setpoint", "ee_pose", "object_pose"):
        observer.create_subscription(PoseStamped, topic, observer._keeper(topic), messages.SENSOR_QOS)
    observer.activate()
    observer.wait("poses", lambda: {"ee_pose", "object_pose"} <= set(observer.seen), 60.0)
    observer.arm()
    observer.ask("stand_up")
    observer.wait("running", lambda: observer.state == "running", 60.0)
    cube = observer.seen["object_pose"].pose.position
    assert (cube.x, cube.y) == pytest.approx((0.5, 0.0), abs=0.01)

    def at(topic: str, y: float) -> bool:
        return topic in observer.seen and abs(observer.seen[topic].pose.position.y - y) < 0.03

    observer.wait("the place where the cube is as the first goal", lambda: at("pose_setpoint", 0.0), 30.0)
    observer.go_to((0.5, 0.2, 0.02))
    observer.wait("the goal", lambda: at("pose_setpoint", 0.2), 30.0)
    observer.wait("the gripper", lambda: at("ee_pose", 0.464 * math.sin(0.4)), 30.0)
    observer.go_to((0.5, math.nan, 0.02))
    observer.wait("the rejection", lambda: "not finite" in observer.diagnostics().get("last_rejection", ""), 30.0)
    assert at("pose_setpoint", 0.2)
    twist = observer.create_publisher(Twist, "cmd_vel", messages.EVENT_QOS)

    def refused() -> bool:
        twist.publish(Twist())
        return "follows poses" in observer.diagnostics().get("last_rejection", "")

    observer.wait("the refusal", refused, 30.0)
    observer.ask("lie_down")
    observer.wait("rest", lambda: observer.state == "disarmed", 60.0)
