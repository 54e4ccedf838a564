"""A client that flies a mission over topics and services and prints what came of it as JSON.

It talks to `robot_node` as any planner would: heartbeats, services, streamed set-points; it imports neither policy nor
driver.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory

from robot_rl.errors import RobotRlError
from robot_rl.hardware import ros_messages as messages
from robot_rl.hardware.setpoints import FigureEight, Setpoint, Vector

_POLL = 0.02  # s; also the period of streamed set-points
_DISCOVERY = 0.3  # s


class MissionFailed(RobotRlError):
    """The mission cannot go on; the text says where it stopped and why."""


@dataclass(frozen=True)
class MissionResult:
    """What `fly` returns. Errors in m against what this client asked for; times in s.

    `rmse_to_setpoint_m` is the error against the robot's own reference, so without what the way over the network costs;
    `loop` sums up the diagnostics heard meanwhile.
    """

    mission: str
    success: bool
    outcome: str
    rmse_m: float | None = None
    max_error_m: float | None = None
    rmse_to_setpoint_m: float | None = None
    loop: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    flown_s: float = 0.0
    states: tuple[str, ...] = ()
    time: tuple[float, ...] = ()
    pos_w: tuple[tuple[float, ...], ...] = ()
    target_pos_w: tuple[tuple[float, ...], ...] = ()

    def summary(self) -> dict[str, Any]:
        """Without the recorded flight."""
        kept = ("mission", "success", "outcome", "rmse_m", "max_error_m", "rmse_to_setpoint_m", "samples", "flown_s")
        kept += ("states", "loop")
        return {name: getattr(self, name) for name in kept}


class MissionClient(Node):
    """One commanding client of a robot node called `robot`; names are relative, so a namespace applies to both."""

    def __init__(self, robot: str = "robot_node", world_frame: str = "world") -> None:
        super().__init__("mission")
        self._robot, self._world = robot, world_frame
        self._full_name = robot if robot.startswith("/") else f"{self.get_namespace().rstrip('/')}/{robot}"
        self._lock = threading.Lock()
        self._odometry: list[tuple[float, Vector]] = []
        self._setpoints: dict[float, Vector] = {}
        self.loop = {"missed_ticks": 0.0, "period_error_p99_ms": 0.0, "interventions": 0.0}
        self._state, self.states, self._heard = "", [], 0.0
        self._beat_at = 0.0
        self._callers: dict[str, Client] = {}
        self.create_subscription(Odometry, "odom", self._on_odometry, messages.SENSOR_QOS)
        self.create_subscription(Odometry, "setpoint", self._on_setpoint, messages.SENSOR_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, messages.EVENT_QOS)
        self.create_subscription(String, "state", self._on_state, messages.LATCHED_QOS)
        self._heartbeat = self.create_publisher(Empty, "heartbeat", messages.SENSOR_QOS)
        self._reference = self.create_publisher(MultiDOFJointTrajectory, "reference", messages.REFERENCE_QOS)
        self._goal = self.create_publisher(PoseStamped, "goal_pose", messages.EVENT_QOS)

    @property
    def state(self) -> str:
        """The supervisor's state as last heard, empty before."""
        return self._state

    @property
    def position(self) -> Vector | None:
        """(3,) m in the world as last heard, or None."""
        with self._lock:
            return self._odometry[-1][1] if self._odometry else None

    @property
    def silence(self) -> float:
        """Seconds since the last odometry; infinite before the first."""
        return time.monotonic() - self._heard if self._heard else math.inf

    def beat(self) -> None:
        """Send a heartbeat if the last one is 0.1 s old. Called wherever the mission waits, so it proves that it
        lives.
        """
        if time.monotonic() - self._beat_at >= 0.1:
            self._beat_at = time.monotonic()
            self._heartbeat.publish(Empty())

    def wait(self, what: str, until: Callable[[], bool], timeout: float) -> None:
        """Heartbeats until `until()`. Raises MissionFailed after `timeout` s."""
        deadline = time.monotonic() + timeout
        while not until():
            if time.monotonic() > deadline:
                raise MissionFailed(f"waited {timeout:g} s for {what}; the robot is {self.state or 'silent'}")
            self.beat()
            time.sleep(_POLL)

    def wait_in_flight(self, what: str, until: Callable[[], bool], timeout: float, *allowed: str) -> None:
        """As `wait`, but fails at once when the robot falls silent or leaves the `allowed` states."""

        def check() -> bool:
            if until():
                return True
            if self.silence > 5.0:
                raise MissionFailed(f"no odometry for 5 s while waiting for {what}: is the robot node alive?")
            if self.state not in allowed:
                raise MissionFailed(f"the robot is {self.state} while waiting for {what}")
            return False

        self.wait(what, check, timeout)

    def call(self, kind: Any, name: str, request: Any, timeout: float = 20.0) -> Any:
        """One service call; sends heartbeats meanwhile. Raises MissionFailed without an answer."""
        if name not in self._callers:
            client = self.create_client(kind, name)
            self.wait(f"service {name}", client.service_is_ready, timeout)
            # The server may not know of this client yet, although the client knows of it: its answer would be lost.
            known = time.monotonic() + _DISCOVERY
            self.wait(f"service {name}", lambda: time.monotonic() > known, timeout)
            self._callers[name] = client
        self.wait(f"service {name}", self._callers[name].service_is_ready, timeout)
        future = self._callers[name].call_async(request)
        self.wait(f"an answer of {name}", future.done, timeout)
        return future.result()

    def ask(self, name: str, data: bool | None = None) -> None:
        """Call `arm`, `take_off`, `land`, …; raises MissionFailed with the reason of a refusal."""
        if data is None:
            answer = self.call(Trigger, name, Trigger.Request())
        else:
            answer = self.call(SetBool, name, SetBool.Request(data=data))
        if not answer.success:
            raise MissionFailed(f"{name} was refused: {answer.message}")

    def arm(self, patience: float = 5.0) -> None:
        """Ask for `arm` until it is granted: sensors may need a moment after the start.

        Raises:
            MissionFailed: refused for `patience` s; with the last reason.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                return self.ask("arm", True)
            except MissionFailed:
                if time.monotonic() > deadline:
                    raise
                again = time.monotonic() + 0.2
                self.wait("another try", lambda at=again: time.monotonic() > at, 1.0)

    def activate(self, timeout: float = 60.0) -> None:
        """Configure and activate the robot node, from whichever state it is in."""
        steps = {
            State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, "configure"),
            State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE, "activate"),
        }
        for _ in steps:
            now = self.call(GetState, f"{self._robot}/get_state", GetState.Request(), timeout).current_state.id
            if now not in steps:
                break
            number, name = steps[now]
            request = ChangeState.Request(transition=Transition(id=number))
            if not self.call(ChangeState, f"{self._robot}/change_state", request, timeout).success:
                raise MissionFailed(f"the robot node refused to {name}; its log says why")

    def go_to(self, pos_w: tuple[float, float, float], yaw: float = 0.0) -> None:
        """Publish one goal, m in the world."""
        goal = PoseStamped()
        goal.header.frame_id, goal.header.stamp = self._world, self.get_clock().now().to_msg()
        goal.pose.position.x, goal.pose.position.y, goal.pose.position.z = pos_w
        goal.pose.orientation = messages.yaw_quaternion(yaw)
        self._goal.publish(goal)

    def stream(self, path: FigureEight, seconds: float) -> tuple[float, float]:
        """Stream set-points along `path`; returns the ROS times in s at which it began and ended."""
        clock = self.get_clock()
        start = clock.now().nanoseconds * 1e-9
        done = False

        def send() -> bool:
            nonlocal done
            elapsed = clock.now().nanoseconds * 1e-9 - start
            done = elapsed >= seconds
            point = Setpoint(*path.sample(min(elapsed, seconds)), 0.0)
            self._reference.publish(messages.reference_message(point, clock.now().to_msg(), self._world))
            return done

        self.wait_in_flight("the end of the figure", send, 10.0 * seconds, "flying")
        return start, start + seconds

    def setpoint_errors(self, start: float, end: float) -> Vector:
        """Distances in m between odometry and the robot's own reference at the same stamps, between two ROS times."""
        with self._lock:
            pairs = [(p, self._setpoints[t]) for t, p in self._odometry if start <= t <= end and t in self._setpoints]
        return np.array([np.linalg.norm(p - q) for p, q in pairs])

    def recorded(self, start: float, end: float) -> tuple[Vector, Vector]:
        """Odometry between two ROS times: stamps (T,) s and positions (T, 3) m."""
        with self._lock:
            kept = [(t, p) for t, p in self._odometry if start <= t <= end]
        return np.array([t for t, _ in kept]), np.array([p for _, p in kept]).reshape(len(kept), 3)

    def _on_odometry(self, message: Odometry) -> None:
        with self._lock:
            self._odometry.append((messages.seconds_of(message.header.stamp), messages.position_of(message)))
        self._heard = time.monotonic()

    def _on_setpoint(self, message: Odometry) -> None:
        with self._lock:
            self._setpoints[messages.seconds_of(message.header.stamp)] = messages.position_of(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._full_name}: control loop":
                values = {v.key: float(v.value) for v in status.values if v.key in self.loop}
                worst = max(self.loop["period_error_p99_ms"], values.pop("period_error_p99_ms", 0.0))
                self.loop = {k: self.loop[k] + values.get(k, 0.0) for k in self.loop} | {"period_error_p99_ms": worst}

    def _on_state(self, message: String) -> None:
        self._state = message.data
        self.states.append(message.data)


def fly(client: MissionClient, mission: str, seconds: float, period: float = 5.5, size: float = 1.0) -> MissionResult:
    """Arm, take off, fly `hover` or `figure-eight` for `seconds`, land; the client's executor must be spinning.

    Raises:
        MissionFailed: a request was refused, or the robot went silent or into another state than expected.
    """
    begun = time.monotonic()
    client.wait("odometry", lambda: client.silence < 1.0, 30.0)
    client.arm()
    client.ask("take_off")
    client.wait_in_flight("take-off", lambda: client.state == "flying", 60.0, "disarmed", "armed", "taking_off")
    start_pos = client.position
    assert start_pos is not None
    path = FigureEight((float(start_pos[0]), float(start_pos[1]), float(start_pos[2])), period, size)
    if mission == "figure-eight":
        start, end = client.stream(path, seconds)
        counted_from = start + path.ramp
    else:
        path = FigureEight((float(start_pos[0]), float(start_pos[1]), float(start_pos[2])), 1e9, size)
        start = client.get_clock().now().nanoseconds * 1e-9
        hover_end = time.monotonic() + seconds
        client.wait_in_flight(
            "the end of the hover", lambda: time.monotonic() > hover_end, 10 * seconds + 30.0, "flying"
        )
        end, counted_from = start + seconds, start
    client.ask("land")
    client.wait_in_flight("landing", lambda: client.state == "disarmed", 60.0, "flying", "landing")
    stamps, pos = client.recorded(start, end)
    target = np.array([path.sample(t - start)[0] for t in stamps]).reshape(len(stamps), 3)
    errors = np.linalg.norm(pos - target, axis=1)[stamps >= counted_from]
    own = client.setpoint_errors(counted_from, end)
    return MissionResult(
        mission=mission,
        success=True,
        outcome="mission flown, landed",
        rmse_m=_rms(errors),
        rmse_to_setpoint_m=_rms(own),
        loop=client.loop,
        max_error_m=float(errors.max()) if len(errors) else None,
        samples=len(errors),
        flown_s=time.monotonic() - begun,
        states=tuple(client.states),
        time=tuple((stamps - start).tolist()),
        pos_w=tuple(map(tuple, pos.tolist())),
        target_pos_w=tuple(map(tuple, target.tolist())),
    )


def main(args: list[str] | None = None) -> int:
    """Console script `mission`; exit code 0 when the mission was flown."""
    parser = argparse.ArgumentParser(prog="mission", description="fly a mission on a running robot_node")
    parser.add_argument("--mission", choices=("hover", "figure-eight"), default="figure-eight")
    parser.add_argument("--seconds", type=float, default=12.0, help="duration of the mission itself")
    parser.add_argument("--period", type=float, default=5.5, help="seconds for one figure-eight")
    parser.add_argument("--size", type=float, default=1.0, help="half the length of the figure-eight in m")
    parser.add_argument("--robot", default="robot_node", help="name of the robot node")
    parser.add_argument("--world-frame", default="world")
    parser.add_argument("--activate", action="store_true", help="configure and activate the node first")
    parser.add_argument("--out", type=Path, help="write result and recorded flight as JSON")
    raw = sys.argv[1:] if args is None else args
    own, ros = (raw[: raw.index("--ros-args")], raw[raw.index("--ros-args") :]) if "--ros-args" in raw else (raw, [])
    options = parser.parse_args(own)
    rclpy.init(args=ros, signal_handler_options=SignalHandlerOptions.NO)
    client = MissionClient(options.robot, options.world_frame)
    executor = SingleThreadedExecutor()
    executor.add_node(client)
    spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
    spinner.start()
    try:
        if options.activate:
            client.activate()
        result = fly(client, options.mission, options.seconds, options.period, options.size)
    except (MissionFailed, KeyboardInterrupt) as error:
        outcome = str(error) or "interrupted"
        result = MissionResult(options.mission, False, outcome, states=tuple(client.states))
    executor.shutdown(timeout_sec=1.0)
    spinner.join(timeout=2.0)
    client.destroy_node()
    rclpy.try_shutdown()
    if options.out is not None:
        options.out.write_text(json.dumps(result.__dict__))
    sys.stdout.write(json.dumps(result.summary()) + "\n")
    return 0 if result.success else 1


def _rms(errors: Vector) -> float | None:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else None


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


if __name__ == "__main__":
    raise SystemExit(main())
