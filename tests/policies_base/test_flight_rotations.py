"""Rotations of the controllers against scipy and against hand-made cases."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from robot_rl.policies.base.flight.controller import flat_attitude, limited_tilt
from robot_rl.policies.base.flight.rotations import (
    attitude_from_thrust,
    cross,
    euler_zyx,
    log_map,
    matrix_from_quat,
    wrapped,
)

RANDOM = Rotation.random(200, rng=np.random.default_rng(0))
QUAT_WXYZ = np.roll(RANDOM.as_quat(), 1, axis=1)


def test_matrix_of_a_quaternion() -> None:
    np.testing.assert_allclose(matrix_from_quat(3.0 * QUAT_WXYZ), RANDOM.as_matrix(), atol=1e-12)


def test_zero_quaternion_is_the_identity() -> None:
    np.testing.assert_array_equal(matrix_from_quat(np.zeros((1, 4)))[0], np.eye(3))


def test_log_map() -> None:
    np.testing.assert_allclose(log_map(RANDOM.as_matrix()), RANDOM.as_rotvec(), atol=1e-9)


def test_log_map_at_nothing_and_at_half_a_turn() -> None:
    vectors = np.array([[0, 0, 0], [1e-9, 0, 0], [np.pi, 0, 0], [0, 0, np.pi], [0, np.pi / 2, 0]])
    got = log_map(Rotation.from_rotvec(vectors).as_matrix())
    np.testing.assert_allclose(np.abs(got), np.abs(vectors), atol=1e-6)


def test_euler_angles() -> None:
    expected = RANDOM.as_euler("ZYX")[:, ::-1]
    np.testing.assert_allclose(euler_zyx(RANDOM.as_matrix()), expected, atol=1e-9)


def test_cross_and_wrapped() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 50, 3))
    np.testing.assert_allclose(cross(a, b), np.cross(a, b))
    np.testing.assert_allclose(wrapped(np.array([3.5, -3.5, 7.0])), [3.5 - 2 * np.pi, 2 * np.pi - 3.5, 7 - 2 * np.pi])


def test_attitude_points_z_along_the_thrust_and_x_along_the_heading() -> None:
    rng = np.random.default_rng(2)
    direction, yaw = rng.normal((0, 0, 4), 1, (100, 3)), rng.uniform(-3, 3, 100)
    attitude = attitude_from_thrust(direction, yaw)
    gram = np.swapaxes(attitude, 1, 2) @ attitude
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), (100, 3, 3)), atol=1e-12)
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    np.testing.assert_allclose(attitude[..., 2], unit, atol=1e-12)
    np.testing.assert_allclose(euler_zyx(attitude_from_thrust(np.tile([0, 0, 1.0], (100, 1)), yaw))[:, 2], yaw)


def test_flat_body_rate_is_the_derivative_of_the_flat_attitude() -> None:
    thrust, jerk = np.array([[1.0, -2.0, 11.0]]), np.array([[3.0, 5.0, -2.0]])
    yaw, h = np.array([0.0]), 1e-6
    attitude, rate = flat_attitude(thrust, jerk, yaw)
    after, _ = flat_attitude(thrust + h * jerk, jerk, yaw)
    turned = log_map(np.swapaxes(attitude, 1, 2) @ after)[0] / h
    np.testing.assert_allclose(turned[:2], rate[0, :2], atol=1e-4)  # about z only the heading decides


def test_tilt_limit() -> None:
    got = limited_tilt(np.array([[30.0, 0.0, 9.81], [1.0, 1.0, 9.81], [5.0, 0.0, -20.0]]), np.pi / 4, 2.0)
    np.testing.assert_allclose(got, [[9.81, 0.0, 9.81], [1.0, 1.0, 9.81], [2.0, 0.0, 2.0]])
