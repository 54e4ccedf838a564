"""ROS 2 lifecycle node around one control loop: messages in and out; nothing in here is part of the control itself.

configure: load the policy, replay its golden vectors, compare it with the driver; activate: connect and start the loop;
deactivate: land or lie down, then rest. Topics, services and parameters are described in docs/run_on_a_robot.md.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import BatteryState, Imu, JointState
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory

from robot_rl.errors import ConfigError, RobotRlError, UnknownName
from robot_rl.hardware import ros_messages as messages
from robot_rl.hardware.control_loop import ControlLoop
from robot_rl.hardware.driver_choice import make_driver
from robot_rl.hardware.ending import Ending
from robot_rl.hardware.jointed import ATTITUDE_SIGNALS, JOINT_KIND, JOINT_SIGNALS
from robot_rl.hardware.monitors import BATTERY_SIGNAL, STATE_SIGNALS, yaw
from robot_rl.hardware.node_settings import NodeSettings
from robot_rl.hardware.parameters import Setting, settings_of, with_values
from robot_rl.hardware.pilot import Pilot
from robot_rl.hardware.setpoints import PoseSetpoint, Setpoint, VelocitySetpoint
from robot_rl.hardware.supervisor import Answer
from robot_rl.policy import Policy

_DISCOVERY = 0.5  # s
_OK, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class RobotNode(LifecycleNode):
    """Hosts driver, policy and supervisor; see the module docstring.

    Attributes:
        wait: lets some seconds pass while a transition waits for a landing. It should serve requests meanwhile, so that
            people can still stop the motors.
    """

    def __init__(self) -> None:
        """Raises ConfigError when a parameter from a file or the command line is unknown or out of its range."""
        super().__init__("robot_node")
        self._loop: ControlLoop | None = None
        self.wait: Callable[[float], object] = time.sleep
        self._rejected, self._last_rejection = 0, ""
        # Requests are served while a lifecycle transition waits for a landing.
        self._group = MutuallyExclusiveCallbackGroup()
        self._settings = {s.name: s for s in settings_of(NodeSettings)}
        for item in self._settings.values():
            self._declare(item)
        self._refuse_unknown()
        self.add_on_set_parameters_callback(self._check_parameters)
        self._create_interfaces()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check everything that can be checked without the robot."""
        try:
            settings = self.settings()
            if not settings.policy:
                raise ConfigError("parameter 'policy' is empty: give it the path of a policy file")
            policy = Policy.load(settings.policy)
            driver = make_driver(settings.driver, settings.driver_options, policy=policy.contract)
            self._loop = ControlLoop(
                driver,
                policy,
                supervisor=settings.supervisor,
                reference=settings.reference,
                velocity=settings.velocity,
                config=settings.loop,
            )
        except Exception as error:  # rclpy would swallow what is not caught here
            self.get_logger().error(f"configure refused: {_told(error)}")
            return _FAILURE
        self._joint_names = next((c.elements for c in driver.commands if c.kind == JOINT_KIND), ())
        self._hardware = f"{driver.robot} ({driver.name})"
        self._frames = settings.world_frame, settings.body_frame
        self._period = 1.0 / settings.state_rate
        self.get_logger().info(f"policy {settings.policy} fits {self._hardware}; its golden vectors are reproduced")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Connect to the robot and start the loop; the motors stay at rest until armed and told to get up."""
        assert self._loop is not None
        try:
            self._loop.start()
        except Exception as error:  # whatever a driver raises; rclpy would swallow it
            self.get_logger().error(f"activate refused: {_told(error)}")
            return _FAILURE
        jobs = ((self._period, self._publish_state), (1.0, self._publish_diagnostics), (0.02, self._report_transitions))
        # Not on the node's clock: with use_sim_time that one may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_timers = [self.create_timer(period, job, self._group, clock=steady) for period, job in jobs]
        self._state_publisher.publish(String(data=self._loop.snapshot.state.value))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Land or lie down, then rest and disconnect."""
        self._end_loop(land=True)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget policy and driver."""
        self._end_loop(land=False)
        self._loop = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Land or lie down, then rest, from any state."""
        self._end_loop(land=True)
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Rest at once, and forget policy and driver: the node is unconfigured afterwards."""
        self._end_loop(land=False)
        self._loop = None
        return _OK

    def settings(self) -> NodeSettings:
        """The present parameters. Raises ConfigError when they contradict each other."""
        return with_values(NodeSettings(), {name: self._value(name) for name in self._settings})

    def end(self, hurry: Callable[[], bool]) -> None:
        """Land or lie down for at most `landing_grace` s, or until `hurry()`; then rest. For the end of the process."""
        if self._loop is not None:
            deadline = time.monotonic() + float(self._value("landing_grace"))
            self._loop.pilot.descend("the node is ending")
            while self._loop.snapshot.state.moving and time.monotonic() < deadline and not hurry():
                self.wait(0.02)
        self._end_loop(land=False)

    def _create_interfaces(self) -> None:
        def publish(kind: type, topic: str, qos: Any) -> Any:
            return self.create_lifecycle_publisher(kind, topic, qos)

        self._odometry = publish(Odometry, "odom", messages.STATE_QOS)
        self._setpoint = publish(Odometry, "setpoint", messages.STATE_QOS)
        self._velocity = publish(TwistStamped, "velocity_setpoint", messages.STATE_QOS)
        self._pose_setpoint = publish(PoseStamped, "pose_setpoint", messages.STATE_QOS)
        self._poses = {thing: publish(PoseStamped, f"{thing}_pose", messages.STATE_QOS) for thing in ("ee", "object")}
        self._joints = publish(JointState, "joint_states", messages.STATE_QOS)
        self._imu = publish(Imu, "imu", messages.STATE_QOS)
        self._battery = publish(BatteryState, "battery", messages.STATE_QOS)
        self._diagnostics = publish(DiagnosticArray, "/diagnostics", messages.EVENT_QOS)
        self._state_publisher = self.create_publisher(String, "state", messages.LATCHED_QOS)
        group = self._group
        self.create_subscription(PoseStamped, "goal_pose", self._on_goal, messages.EVENT_QOS, callback_group=group)
        self.create_subscription(Twist, "cmd_vel", self._on_velocity, messages.REFERENCE_QOS, callback_group=group)
        self.create_subscription(Empty, "heartbeat", self._on_heartbeat, messages.SENSOR_QOS, callback_group=group)
        self.create_subscription(
            MultiDOFJointTrajectory, "reference", self._on_reference, messages.REFERENCE_QOS, callback_group=group
        )
        arm = lambda request, pilot: pilot.arm() if request.data else pilot.disarm()  # noqa: E731
        self._serve(SetBool, "arm", arm)
        self._serve(Trigger, "take_off", lambda _, pilot: pilot.take_off())
        self._serve(Trigger, "land", lambda _, pilot: pilot.land())
        self._serve(Trigger, "stand_up", lambda _, pilot: pilot.stand_up())
        self._serve(Trigger, "lie_down", lambda _, pilot: pilot.lie_down())
        self._serve(Trigger, "emergency_stop", lambda _, pilot: pilot.emergency_stop("emergency stop service"))
        self._serve(Trigger, "figure_eight", lambda _, pilot: pilot.figure_eight())

    def _serve(self, kind: Any, name: str, request_of: Callable[[Any, Any], Answer]) -> None:
        def serve(request: Any, response: Any) -> Any:
            loop = self._running()
            if loop is None:
                answer = Answer(False, "the node is not active")
            elif loop.snapshot.failure:
                answer = Answer(False, f"the control loop ended: {loop.snapshot.failure}; deactivate and activate")
            else:
                answer = request_of(request, loop.pilot)
            response.success, response.message = answer.accepted, answer.message
            if not answer.accepted:
                self.get_logger().warning(f"{name} refused: {answer.message}")
            return response

        self.create_service(kind, name, serve, callback_group=self._group)

    def _on_goal(self, message: PoseStamped) -> None:
        loop = self._running()
        if loop is not None:
            self._follow(lambda: self._to_goal(loop.pilot, message), "goal")

    def _to_goal(self, pilot: Pilot, message: PoseStamped) -> Answer:
        pos, quat = messages.checked_goal(message, self._frames[0])
        return pilot.go_to(pos, yaw(quat)) if pilot.poses is None else pilot.aim(pos, quat)

    def _on_reference(self, message: MultiDOFJointTrajectory) -> None:
        loop = self._running()
        if loop is not None:
            age = self.get_clock().now().nanoseconds * 1e-9 - messages.seconds_of(message.header.stamp)
            # Clocks of two computers that disagree by more than this say nothing about the age.
            age = age if 0.0 <= age <= 0.2 else 0.0
            self._follow(
                lambda: loop.pilot.stream(*messages.checked_reference(message, self._frames[0]), age), "reference"
            )

    def _on_velocity(self, message: Twist) -> None:
        loop = self._running()
        if loop is not None:
            self._follow(lambda: loop.pilot.walk(*messages.checked_velocity(message)), "cmd_vel")

    def _on_heartbeat(self, _: Empty) -> None:
        loop = self._running()
        if loop is not None:
            loop.pilot.heartbeat()

    def _follow(self, request: Callable[[], Answer], what: str) -> None:
        try:
            answer = request()
            reason = "" if answer.accepted else answer.message
        except RobotRlError as error:
            reason = str(error)
        if reason:
            self._rejected, self._last_rejection = self._rejected + 1, f"{what}: {reason}"
            self.get_logger().warning(f"{what} rejected: {reason}", throttle_duration_sec=1.0)

    def _publish_state(self) -> None:
        loop = self._running()
        now = None if loop is None else loop.snapshot
        stamps = [] if now is None else [now.stamps[n] for n in (*STATE_SIGNALS, *JOINT_SIGNALS) if n in now.stamps]
        if now is None or not stamps:
            return
        measured = self.get_clock().now().nanoseconds - int(1e9 * (time.monotonic() - min(stamps)))
        stamp, (world, body) = Time(nanoseconds=max(measured, 0)).to_msg(), self._frames
        known = now.signals.keys()
        if known >= set(STATE_SIGNALS):
            self._odometry.publish(messages.odometry_message(now.signals, stamp, world, body))
        if known >= set(ATTITUDE_SIGNALS):
            self._imu.publish(messages.imu_message(now.signals, stamp, body))
        if self._joint_names and known >= set(JOINT_SIGNALS):
            self._joints.publish(messages.joint_message(now.signals, self._joint_names, stamp))
        if isinstance(now.setpoint, Setpoint):
            self._setpoint.publish(messages.setpoint_message(now.setpoint, stamp, world))
        if isinstance(now.setpoint, VelocitySetpoint):
            self._velocity.publish(messages.velocity_message(now.setpoint, stamp, body))
        if isinstance(now.setpoint, PoseSetpoint):
            self._pose_setpoint.publish(messages.pose_message(now.setpoint.pos_w, now.setpoint.quat_wxyz, stamp, world))
        for thing, publisher in self._poses.items():
            if known >= {f"{thing}_pos_w", f"{thing}_quat_wxyz"}:
                pos, quat = now.signals[f"{thing}_pos_w"], now.signals[f"{thing}_quat_wxyz"]
                publisher.publish(messages.pose_message(pos, quat, stamp, world))
        if BATTERY_SIGNAL in known:
            self._battery.publish(messages.battery_message(float(now.signals[BATTERY_SIGNAL][0]), stamp))

    def _publish_diagnostics(self) -> None:
        loop = self._running()
        if loop is not None:
            extra = {"rejected_messages": self._rejected, "last_rejection": self._last_rejection}
            stamp = self.get_clock().now().to_msg()
            name, stats = self.get_fully_qualified_name(), loop.take_stats()
            self._diagnostics.publish(
                messages.diagnostics_message(name, self._hardware, loop.snapshot, stats, stamp, extra)
            )

    def _report_transitions(self) -> None:
        loop = self._loop
        for change in loop.pilot.new_transitions() if loop is not None else ():
            self._state_publisher.publish(String(data=change.after.value))
            self.get_logger().info(f"{change.before.value} → {change.after.value}: {change.cause}")

    def _running(self) -> ControlLoop | None:
        return self._loop if getattr(self, "_clock_timers", None) else None

    def _end_loop(self, land: bool) -> None:
        if self._loop is not None:
            self._loop.stop(land, self.wait)
            self._report_transitions()
        timers, self._clock_timers = getattr(self, "_clock_timers", []), []
        for timer in timers:
            self.destroy_timer(timer)

    def _declare(self, item: Setting) -> None:
        descriptor = ParameterDescriptor(description=f"{item.description} ({item.allowed()})")
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        if isinstance(item.default, float) and item.low is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=item.low, to_value=item.high)]
        if type(item.default) is int and item.low is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(item.low), to_value=int(item.high or 0))]
        try:
            value = self.declare_parameter(item.name, default, descriptor).value
        except (InvalidParameterValueException, InvalidParameterTypeException) as error:
            raise ConfigError(f"parameter {item.name}: {error}; it must be {item.allowed()}") from error
        item.checked(value if not isinstance(item.default, tuple) else tuple(value))

    def _refuse_unknown(self) -> None:
        """A misspelt limit in a file must not be passed over in silence, as rclpy does."""
        for name in self._parameter_overrides:
            if not self.has_parameter(name) and not name.startswith("qos_overrides."):
                raise UnknownName("parameter", name, (*self._settings, "use_sim_time"))

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if p.name in self._settings}
        if changed and self._loop is not None:
            names = ", ".join(changed)
            return SetParametersResult(successful=False, reason=f"{names}: deactivate and clean up the node first")
        try:
            with_values(self.settings(), {name: _plain(value) for name, value in changed.items()})
        except RobotRlError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _value(self, name: str) -> Any:
        return _plain(self.get_parameter(name).value)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, RobotRlError) else f"{type(error).__name__}: {error}"


def _plain(value: Any) -> Any:
    """Arrays as rclpy gives them, as tuples."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else tuple(value)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM: the first one brings the robot down, a second one stops it at once."""
    ending = Ending()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ending.on_signal)
    try:
        node = RobotNode()
    except RobotRlError as error:
        get_logger("robot_node").fatal(str(error))
        rclpy.shutdown()
        return 2
    # One thread: several that serve messages take the interpreter from each other, and so from the control loop, for up
    # to 40 ms. It spins on within a callback that waits; requests have another callback group than transitions.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # Requests that come before DDS knows who asks would be carried out, but their answers lost.
    time.sleep(_DISCOVERY)
    node.wait = lambda seconds: executor.spin_once(timeout_sec=seconds)
    try:
        while rclpy.ok() and not ending.reason:
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    finally:
        node.end(hurry=lambda: ending.hurry)
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
