"""Our signals as standard ROS 2 messages and back; messages from outside are checked here and nowhere else.

The only files that import ROS packages are this one, `robot_node.py` and `mission.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Quaternion, Transform, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import BatteryState, Imu, JointState
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from robot_rl.errors import RobotRlError
from robot_rl.hardware.control_loop import Snapshot
from robot_rl.hardware.loop_stats import LoopStats
from robot_rl.hardware.monitors import to_body, yaw
from robot_rl.hardware.setpoints import Setpoint, Vector, VelocitySetpoint
from robot_rl.hardware.supervisor_config import RobotState
from robot_rl.protocols import Array
from robot_rl.signals import quat_wxyz_to_xyzw, quat_xyzw_to_wxyz

# State samples are only worth something while they are new; requests and events must arrive.
# Publishing reliably serves every subscriber; subscribing best effort hears every publisher.
STATE_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
REFERENCE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EVENT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class MessageRejected(RobotRlError):
    """A message from outside that must not be followed; the text says why."""


def odometry_message(signals: Mapping[str, Array], stamp: Time, world: str, body: str) -> Odometry:
    """Pose in the world, velocities in the body frame, as nav_msgs/Odometry defines it."""
    message = Odometry()
    message.header.stamp, message.header.frame_id, message.child_frame_id = stamp, world, body
    quat = signals["base_quat_wxyz"]
    _fill(message.pose.pose.position, signals["base_pos_w"])
    message.pose.pose.orientation = _quaternion(quat)
    _fill(message.twist.twist.linear, to_body(quat, signals["base_lin_vel_w"]))
    _fill(message.twist.twist.angular, signals["base_ang_vel_b"])
    return message


def setpoint_message(setpoint: Setpoint, stamp: Time, world: str) -> Odometry:
    """The reference as odometry; its velocity is in the world frame, and so says child_frame_id."""
    message = Odometry()
    message.header.stamp, message.header.frame_id, message.child_frame_id = stamp, world, world
    _fill(message.pose.pose.position, setpoint.pos_w)
    message.pose.pose.orientation = yaw_quaternion(setpoint.yaw)
    _fill(message.twist.twist.linear, setpoint.lin_vel_w)
    return message


def pose_message(pos_w: Vector | Array, quat_wxyz: Vector | Array, stamp: Time, world: str) -> PoseStamped:
    """A pose in the world: of a gripper, of an object, or the one asked for."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = stamp, world
    _fill(message.pose.position, pos_w)
    message.pose.orientation = _quaternion(quat_wxyz)
    return message


def velocity_message(setpoint: VelocitySetpoint, stamp: Time, body: str) -> TwistStamped:
    """What a walking robot is asked for now, in its own frame."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = stamp, body
    message.twist.linear.x, message.twist.linear.y = (float(v) for v in setpoint.lin_vel_b)
    message.twist.angular.z = setpoint.yaw_rate
    return message


def joint_message(signals: Mapping[str, Array], names: Sequence[str], stamp: Time) -> JointState:
    """Measured positions and velocities in the order of `names`, the robot's own."""
    message = JointState()
    message.header.stamp = stamp
    message.name = list(names)
    message.position = [float(v) for v in signals["joint_pos"]]
    message.velocity = [float(v) for v in signals["joint_vel"]]
    return message


def imu_message(signals: Mapping[str, Array], stamp: Time, body: str) -> Imu:
    """Attitude, body rate and, where the robot measures it, proper acceleration."""
    message = Imu()
    message.header.stamp, message.header.frame_id = stamp, body
    message.orientation = _quaternion(signals["base_quat_wxyz"])
    _fill(message.angular_velocity, signals["base_ang_vel_b"])
    if "base_lin_acc_b" in signals:
        _fill(message.linear_acceleration, signals["base_lin_acc_b"])
    else:
        message.linear_acceleration_covariance[0] = -1.0
    return message


def battery_message(voltage: float, stamp: Time) -> BatteryState:
    """Voltage; what is not measured is NaN, as sensor_msgs/BatteryState asks for."""
    message = BatteryState()
    message.header.stamp = stamp
    message.voltage, message.present = voltage, True
    for unknown in ("temperature", "current", "charge", "capacity", "design_capacity", "percentage"):
        setattr(message, unknown, math.nan)
    message.power_supply_status = BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
    message.power_supply_technology = BatteryState.POWER_SUPPLY_TECHNOLOGY_LIPO
    return message


def diagnostics_message(
    name: str, hardware: str, snapshot: Snapshot, stats: LoopStats, stamp: Time, extra: Mapping[str, object]
) -> DiagnosticArray:
    """Loop timing, ages, interventions and the supervisor's view of one second."""
    status = DiagnosticStatus()
    status.name, status.hardware_id = f"{name}: control loop", hardware
    if snapshot.failure or snapshot.state is RobotState.FAULT:
        status.level = DiagnosticStatus.ERROR
    elif snapshot.active or stats.missed or stats.interventions:
        status.level = DiagnosticStatus.WARN
    else:
        status.level = DiagnosticStatus.OK
    status.message = f"{snapshot.state.value} ({snapshot.failure or snapshot.cause})"
    values = {"state": snapshot.state.value, **stats.summary(), **extra}
    values.update({f"condition.{condition}": detail for condition, detail in snapshot.active.items()})
    status.values = [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [status]
    return message


def reference_message(setpoint: Setpoint, stamp: Time, world: str) -> MultiDOFJointTrajectory:
    """One streamed set-point: a trajectory of exactly one point."""
    message = MultiDOFJointTrajectory()
    message.header.stamp, message.header.frame_id = stamp, world
    message.joint_names = ["base"]
    transform, velocity, acceleration = Transform(), Twist(), Twist()
    _fill(transform.translation, setpoint.pos_w)
    transform.rotation = yaw_quaternion(setpoint.yaw)
    _fill(velocity.linear, setpoint.lin_vel_w)
    _fill(acceleration.linear, setpoint.lin_acc_w)
    point = MultiDOFJointTrajectoryPoint()
    point.transforms, point.velocities, point.accelerations = [transform], [velocity], [acceleration]
    message.points = [point]
    return message


def checked_goal(message: PoseStamped, world: str) -> tuple[tuple[float, ...], Array]:
    """Position (3,) m and attitude (4,) wxyz of a goal.

    Raises:
        MessageRejected: another frame, a number that is not finite, or a quaternion that is not of length 1.
    """
    _check_frame(message.header.frame_id, world)
    position = _finite("position", _numbers(message.pose.position))
    return position, _checked_quaternion(message.pose.orientation)


def checked_reference(
    message: MultiDOFJointTrajectory, world: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float]:
    """Position, velocity, acceleration (3,) and yaw of a streamed set-point. Raises MessageRejected as
    `checked_goal`.
    """
    _check_frame(message.header.frame_id, world)
    points = list(message.points)
    if len(points) != 1 or len(points[0].transforms) != 1:
        raise MessageRejected("a reference must have exactly one point with one transform")
    (point,) = points
    (transform,), velocities, accelerations = point.transforms, list(point.velocities), list(point.accelerations)
    position = _finite("position", _numbers(transform.translation))
    velocity = _finite("velocity", _numbers(velocities[0].linear) if velocities else (0.0,) * 3)
    acceleration = _finite("acceleration", _numbers(accelerations[0].linear) if accelerations else (0.0,) * 3)
    return position, velocity, acceleration, yaw(_checked_quaternion(transform.rotation))


def checked_velocity(message: Twist) -> tuple[float, ...]:
    """Forward and sideways m/s and yaw rate rad/s; the rest of a Twist means nothing to a walking robot.

    Raises:
        MessageRejected: a number that is not finite.
    """
    return _finite("velocity", (message.linear.x, message.linear.y, message.angular.z))


def yaw_quaternion(angle: float) -> Quaternion:
    """A turn about the world's z."""
    return Quaternion(w=math.cos(0.5 * angle), x=0.0, y=0.0, z=math.sin(0.5 * angle))


def position_of(message: Odometry) -> Vector:
    """(3,) m."""
    return np.array(_numbers(message.pose.pose.position))


def seconds_of(stamp: Time) -> float:
    """A stamp as seconds."""
    return stamp.sec + 1e-9 * stamp.nanosec


def _checked_quaternion(orientation: Quaternion) -> Array:
    xyzw = np.array(_finite("orientation", (orientation.x, orientation.y, orientation.z, orientation.w)))
    length = float(np.linalg.norm(xyzw))
    if abs(length - 1.0) > 0.01:
        raise MessageRejected(f"orientation is not a unit quaternion: its length is {length:.4g}")
    return quat_xyzw_to_wxyz(xyzw).astype(np.float32)


def _check_frame(frame: str, world: str) -> None:
    if frame != world:
        raise MessageRejected(f"frame_id is '{frame}', only '{world}' is understood")


def _finite(what: str, values: Sequence[float]) -> tuple[float, ...]:
    if not all(math.isfinite(v) for v in values):
        raise MessageRejected(f"{what} {tuple(values)} is not finite")
    return tuple(values)


def _numbers(vector: object) -> tuple[float, float, float]:
    return tuple(float(getattr(vector, axis)) for axis in "xyz")  # type: ignore[return-value]


def _fill(message: object, values: Vector | Array) -> None:
    for axis, value in zip("xyz", values, strict=True):
        setattr(message, axis, float(value))


def _quaternion(quat_wxyz: Vector | Array) -> Quaternion:
    x, y, z, w = (float(v) for v in quat_wxyz_to_xyzw(quat_wxyz))
    return Quaternion(x=x, y=y, z=z, w=w)
