"""The simulated robot without torch: the same motion as the batched environment, its sensors, damping and latency."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from robot_rl import registry
from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.sensor_errors import SensorError, with_errors
from robot_rl.sim.articulated.single_robot import STARTS, SingleRobot
from robot_rl.sim.locomotion.options import ProprioceptionNoise
from robot_rl.sim.robots.go1 import OWN
from robot_rl.sim.task_spec import make_env

STAND = np.array(OWN.default_pose)
PLAIN = {
    "threads": 1, "latency.max": 0.0, "latency.jitter": 0.0, "push.every": 0.0, "noise.scale": 0.0,
    **{
        f"randomize.{name}": (1.0, 1.0)
        for name in ("link_mass", "stiffness", "damping", "strength", "armature", "dry_friction")
    },
    **{f"randomize.{name}": (0.0, 0.0) for name in ("friction", "base_mass", "com", "joint_offset")},
}  # fmt: skip


def _jointed() -> list[str]:
    names = registry.names("robot")
    return [n for n in names if isinstance(registry.load("robot", n).parameters(), JointedRobot)]


def test_it_moves_as_the_batched_environment_does():
    env = make_env("go1-velocity-flat", 1, 0, overrides=PLAIN)
    robot = SingleRobot(OWN)
    assert robot.dt == pytest.approx(env.physics.dt)
    robot.data.qpos[:], robot.data.qvel[:] = env.physics.qpos[0].numpy(), env.physics.qvel[0].numpy()
    rng = np.random.default_rng(0)
    for _ in range(25):
        target = STAND + rng.uniform(-0.2, 0.2, 12)
        env.step_command({"joint_pos_target": torch.tensor(target, dtype=torch.float32)[None]})
        for _ in range(env.options.decimation):
            robot.step(target.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(robot.data.qpos, env.physics.qpos[0].numpy(), atol=2e-3)
    mine, theirs = robot.signals(), env.signals()
    for name in ("joint_pos", "base_quat_wxyz"):
        np.testing.assert_allclose(mine[name], theirs[name][0].numpy(), atol=2e-3)


@pytest.mark.parametrize("name", _jointed())
def test_every_robot_holds_its_default_pose_and_says_what_it_announces(name):
    spec = registry.load("robot", name)
    robot = SingleRobot(spec.parameters())
    pose = np.array(spec.parameters().default_pose)
    robot.reset("standing")
    for _ in range(round(1.0 / robot.dt)):
        robot.step(pose)
    assert np.abs(robot.joint_pos - pose).max() < 0.3
    signals = robot.signals()
    assert set(signals) == set(robot.names)
    shapes = {s.name: s.shape for s in spec.signals}
    assert {n: v.shape for n, v in signals.items() if n in shapes} == {n: shapes[n] for n in signals if n in shapes}
    assert {"joint_pos", "joint_vel"} <= set(signals)


def test_damped_it_sinks_and_limp_it_would_drop():
    def height_after(seconds: float, damping: float) -> float:
        robot = SingleRobot(OWN)
        robot._kd = robot._kd * damping
        for _ in range(round(0.5 / robot.dt)):
            robot.step(STAND)
        for _ in range(round(seconds / robot.dt)):
            robot.step(None)
        return float(robot.data.qpos[2])

    assert height_after(0.15, 1.0) > height_after(0.15, 0.0) + 0.01
    assert height_after(2.0, 1.0) < 0.1


def test_a_delayed_command_arrives_later():
    def first_motion(latency: float) -> int:
        robot = SingleRobot(OWN, latency=latency)
        quiet = SingleRobot(OWN)
        for k in range(20):
            robot.step(STAND + 0.3)
            quiet.step(STAND)
            if np.abs(robot.joint_vel - quiet.joint_vel).max() > 1e-9:
                return k
        return 20

    assert first_motion(0.02) - first_motion(0.0) == round(0.02 / 0.004)


def test_noise_is_seeded_bounded_and_leaves_the_odometry_alone():
    noise = ProprioceptionNoise()
    errors = noise.errors()
    noisy, again, clean = (
        SingleRobot(OWN, errors=errors, seed=3),
        SingleRobot(OWN, errors=errors, seed=3),
        SingleRobot(OWN),
    )
    for robot in (noisy, again, clean):
        robot.reset("standing")
    one, two, true = noisy.signals(), again.signals(), clean.signals()
    for name in true:
        np.testing.assert_array_equal(one[name], two[name])
    assert 0.0 < np.abs(one["joint_pos"] - true["joint_pos"]).max() <= noise.joint_pos + 1e-6
    assert np.linalg.norm(one["base_quat_wxyz"]) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(one["base_pos_w"], true["base_pos_w"])


def test_errors_have_their_size_shape_and_axes():
    rng, level = np.random.default_rng(0), np.array([1.0, 0.0, 0.0, 0.0])
    true = {"joint_pos": np.zeros(3), "object_pos_w": np.zeros(3), "object_quat_wxyz": level, "base_quat_wxyz": level}
    errors = {
        "joint_pos": SensorError(0.1), "object_pos_w": SensorError(0.1, normal=True), "absent": SensorError(1.0),
        "object_quat_wxyz": SensorError(0.1, normal=True, vertical=True), "base_quat_wxyz": SensorError(0.1),
    }  # fmt: skip
    samples = [with_errors(true, errors, rng) for _ in range(2000)]
    told = {name: np.array([s[name] for s in samples]) for name in true}
    assert np.abs(told["joint_pos"]).max() <= 0.1
    assert told["joint_pos"].std() == pytest.approx(0.1 / np.sqrt(3.0), rel=0.05)
    assert told["object_pos_w"].std() == pytest.approx(0.1, rel=0.05)
    for name in ("object_quat_wxyz", "base_quat_wxyz"):
        np.testing.assert_allclose(np.linalg.norm(told[name], axis=1), 1.0, atol=1e-12)
    assert (told["object_quat_wxyz"][:, 1:3] == 0.0).all()
    assert 2.0 * told["object_quat_wxyz"][:, 3].std() == pytest.approx(0.1, rel=0.05)
    assert (np.abs(2.0 * told["base_quat_wxyz"][:, 1:]).max(axis=0) > 0.08).all()
    assert set(samples[0]) == set(true)


def test_every_task_tells_the_errors_of_its_sensors():
    for name in registry.names("task"):
        options = registry.load("task", name).options
        if hasattr(options.noise, "errors"):
            assert {"joint_pos", "joint_vel"} <= set(options.noise.errors()), name
        silent = registry.load("task", name).overridden({"noise.scale": 0.0}).options.noise
        if hasattr(silent, "errors"):
            assert all(e.size == 0.0 for e in silent.errors().values())


def test_it_starts_where_it_is_told():
    robot = SingleRobot(OWN)
    up = {}
    for start in STARTS:
        robot.reset(start)
        _w, x, y, _z = robot.data.qpos[3:7]
        up[start] = 1.0 - 2.0 * (x * x + y * y)
        assert np.abs(robot.data.qvel).max() < 0.5 or start == "standing"
    assert up["lying"] > 0.95 and up["standing"] == 1.0 and up["upside_down"] < -0.9
    with pytest.raises(ConfigError, match="lying"):
        robot.reset("sitting")


def test_a_dead_drive_gives_no_torque():
    robot = SingleRobot(OWN)
    robot.dead = {2}
    for _ in range(100):
        robot.step(STAND)
    assert robot.data.ctrl[2] == 0.0 and robot.data.ctrl[5] != 0.0


def test_neither_it_nor_its_driver_loads_torch(tmp_path):
    code = (
        "import sys; from robot_rl.hardware.drivers.sim import SimDriver\n"
        "for name in ('go1', 'go2', 'leap', 'panda'):\n"
        "    d = SimDriver({}, robot=name); d.connect(); d.read(); d.damp()\n"
        "    d.write({c.name: c.idle for c in d.commands}); d.stop()\n"
        "bad = {'torch', 'rclpy', 'gymnasium'} & set(sys.modules); sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_it_feels_and_sees_objects_as_the_batched_environment_does():
    """The arm comes down on the cube and beside it on the table; the mean force of each control step agrees."""
    task = registry.load("task", "panda-push")
    nominal = {
        "threads": 1, "latency.max": 0.0, "latency.jitter": 0.0, "noise.scale": 0.0, "cost.force": 1e3, "too_much": 1e3,
        "randomize.friction": (1.0, 1.0), "randomize.object_mass": (1.0, 1.0),
        **{f"randomize.{name}": (1.0, 1.0) for name in ("link_mass", "stiffness", "damping")},
    }  # fmt: skip
    env = make_env("panda-push", 1, 3, overrides=nominal)
    parameters = registry.load("robot", "panda").parameters()
    robot = SingleRobot(parameters, scene=task.make_scene(parameters), dt=env.physics.dt)
    robot.data.qpos[:], robot.data.qvel[:] = env.physics.qpos[0].numpy(), env.physics.qvel[0].numpy()
    robot._mujoco.mj_forward(robot.model, robot.data)
    start, felt = robot.joint_pos.copy(), []
    for number in range(50):
        target = start[:7] + 0.012 * number * np.array([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        command = {"joint_pos_target": target, "gripper_width_target": np.zeros(1)}
        env.step_command({k: torch.tensor(v, dtype=torch.float32)[None] for k, v in command.items()})
        for _ in range(env.options.decimation):
            robot.step(np.concatenate([target, np.zeros(2)]).astype(np.float32).astype(np.float64))
        mine, theirs = robot.signals(), env.true_signals()
        felt.append(mine["ee_force_b"])
        np.testing.assert_allclose(mine["ee_force_b"], theirs["ee_force_b"][0].numpy(), atol=0.5)
        for name in ("ee_pos_w", "ee_quat_wxyz", "object_pos_w", "object_quat_wxyz", "gripper_width"):
            np.testing.assert_allclose(mine[name], theirs[name][0].numpy(), atol=2e-3, err_msg=name)
    assert set(mine) == {s.name for s in task.signals} - {"target_pos_w"}
    assert np.abs(felt).max() > 5.0
    np.testing.assert_array_equal(robot.signals()["ee_force_b"], mine["ee_force_b"])  # nothing has moved since
