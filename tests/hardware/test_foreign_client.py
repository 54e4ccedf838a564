"""A client that knows only the documentation: plain rclpy with default QoS, nothing of ours, against real nodes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install 'robot-rl[ros]'")
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_processes import PATIENCE, Graph, Process
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

pytestmark = pytest.mark.slow

# In one namespace, with a simulated time that nobody publishes: nothing of the robot may depend on either.
NAMESPACE = "/alpha"
ARGUMENTS = ["-r", f"__ns:={NAMESPACE}", "-p", "use_sim_time:=true"]
INACTIVE_TO_ACTIVE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


class Client:
    """Publishers, subscriptions and service clients on the node of a running graph."""

    def __init__(self, graph: Graph) -> None:
        self.node = graph.observer
        self.states: list[str] = []
        self.pos: tuple[float, float, float] | None = None
        self.values: dict[str, str] = {}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(Odometry, f"{NAMESPACE}/odom", self._on_odom, 10)
        self.node.create_subscription(String, f"{NAMESPACE}/state", lambda m: self.states.append(m.data), latched)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.goals = self.node.create_publisher(PoseStamped, f"{NAMESPACE}/goal_pose", 10)

    @property
    def state(self) -> str:
        return self.states[-1] if self.states else ""

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, f"{NAMESPACE}/{name}")
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(request)
        self.await_(f"an answer of {name}", future.done)
        return future.result()

    def ask(self, name: str) -> Any:
        return self.call(Trigger, name, Trigger.Request())

    def change(self, *transitions: int) -> bool:
        def one(number: int) -> bool:
            request = ChangeState.Request(transition=Transition(id=number))
            return self.call(ChangeState, "robot_node/change_state", request).success

        return all([one(number) for number in transitions])

    def goal(self, x: float = 0.5, w: float = 1.0, frame: str = "world", second: int = 0) -> None:
        message = PoseStamped()
        message.header.frame_id, message.header.stamp.sec = frame, second
        message.pose.position.x, message.pose.position.z, message.pose.orientation.w = x, 0.5, w
        self.goals.publish(message)

    def take_off(self) -> None:
        assert self.change(*INACTIVE_TO_ACTIVE)
        self.await_("odometry", lambda: self.pos is not None)
        answer = self.call(SetBool, "arm", SetBool.Request(data=True))
        assert answer.success, answer.message
        assert self.ask("take_off").success

    def await_(self, what: str, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline, f"waited for {what}; state {self.state}, {self.values}"
            time.sleep(0.01)

    def _on_odom(self, message: Odometry) -> None:
        where = message.pose.pose.position
        self.pos = where.x, where.y, where.z

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if message.status[0].name == f"{NAMESPACE}/robot_node: control loop":
            self.values = {v.key: v.value for v in message.status[0].values}


@pytest.fixture
def graph():
    running = Graph()
    yield running
    running.close()


def _robot(graph: Graph, policy: Path, **parameters: Any) -> Process:
    return graph.robot(policy, arguments=ARGUMENTS, **parameters)


def test_goals_good_bad_early_and_in_a_flood_and_a_stop_during_take_off(graph, pd_policy):
    _robot(graph, pd_policy)
    client = Client(graph)
    client.take_off()
    client.await_("taking off", lambda: client.state == "taking_off")
    client.goal()
    client.await_("the early goal", lambda: "only while flying" in client.values.get("last_rejection", ""))
    client.await_("flying", lambda: client.state == "flying")
    bad = ({"w": 0.0}, {"w": 0.5}, {"w": math.nan}, {"x": math.inf}, {"frame": ""}, {"frame": "odom"})
    for spoilt in bad:
        client.goal(**spoilt)
    client.await_("the rejections", lambda: client.values.get("rejected_messages") == str(1 + len(bad)))
    assert client.pos is not None and abs(client.pos[0]) < 0.1
    client.goal(x=0.4, second=2_000_000_000)  # a goal holds until the next one: stamps are not looked at
    client.await_("the goal", lambda: client.pos is not None and client.pos[0] > 0.3)
    for number in range(1000):
        client.goal(x=0.1 if number % 2 else -0.1)
        time.sleep(0.001)
    assert client.ask("emergency_stop").success
    client.await_("fault", lambda: client.state == "fault")
    client.goal()
    assert "disarm first" in client.call(SetBool, "arm", SetBool.Request(data=True)).message


@pytest.mark.parametrize("transition", [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN])
def test_a_transition_in_the_middle_of_a_landing_waits_for_the_ground(graph, pd_policy, transition):
    robot = _robot(graph, pd_policy)
    client = Client(graph)
    client.take_off()
    client.await_("flying", lambda: client.state == "flying")
    assert not client.change(Transition.TRANSITION_CLEANUP)
    assert not client.change(Transition.TRANSITION_CONFIGURE)
    assert client.state == "flying"
    assert client.ask("land").success
    assert client.change(transition)
    client.await_("the ground", lambda: client.state == "disarmed")
    client.await_("its log", lambda: "landing → disarmed: landed" in robot.output)


def test_a_node_left_armed_is_disarmed_when_it_is_activated_again(graph, pd_policy):
    _robot(graph, pd_policy)
    client = Client(graph)
    assert not client.change(Transition.TRANSITION_ACTIVATE)
    assert client.change(*INACTIVE_TO_ACTIVE)
    client.await_("odometry", lambda: client.pos is not None)
    assert client.call(SetBool, "arm", SetBool.Request(data=True)).success
    assert client.change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE)
    client.await_("disarmed", lambda: client.state == "disarmed")
    assert not client.ask("take_off").success


def test_a_users_driver_that_cannot_connect_is_told_and_can_be_tried_again(graph, pd_policy):
    graph.environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    robot = _robot(graph, pd_policy, driver="users_driver:Unplugged", driver_options="port=/dev/ttyACM1")
    client = Client(graph)
    assert client.change(Transition.TRANSITION_CONFIGURE)
    assert not client.change(Transition.TRANSITION_ACTIVATE)
    client.await_("the reason", lambda: "activate refused: OSError: no such device: /dev/ttyACM1" in robot.output)
    assert client.change(Transition.TRANSITION_CLEANUP)


def test_a_misspelt_parameter_is_not_passed_over(graph, pd_policy):
    robot = _robot(graph, pd_policy, supervisor__max_tlit=0.5)
    assert robot.wait() == 2
    assert "Did you mean 'supervisor.max_tilt'" in robot.output
