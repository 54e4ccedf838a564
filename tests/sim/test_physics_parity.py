"""PyBullet against MuJoCo, and Go1 on both. (MuJoCo against a plain loop stands with it, Warp with Warp: one process.)

In the air the two engines solve the same equations and agree to rounding. In contact nearly: Bullet's are as soft as
MuJoCo's are midway, their stiffness does not grow with depth, and its friction does not creep.
"""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from contact_models import BOX, columns, pd, pendulum, quadruped, standing
from torch import Tensor

from robot_rl.policies.base.panda.arm import forward, joint_targets
from robot_rl.registry import load
from robot_rl.sim.articulated.scene import compile_scene, flat_scene
from robot_rl.sim.physics.mujoco import MujocoPhysics
from robot_rl.sim.physics.pybullet import PybulletPhysics
from robot_rl.sim.task_spec import make_env


def both(model: mujoco.MjModel, qpos: Tensor, qvel: Tensor) -> list[MujocoPhysics | PybulletPhysics]:
    pair: list[MujocoPhysics | PybulletPhysics] = [MujocoPhysics(model, 1), PybulletPhysics(model, 1)]
    for p in pair:
        p.set_state(torch.arange(1), qpos, qvel)
    return pair


@pytest.mark.parametrize("armature", [0.0, 0.1])
@pytest.mark.parametrize("actuator", ['<motor joint="b"/>', '<position joint="b" kp="200" kv="20"/>'])
def test_a_double_pendulum_swings_alike(armature: float, actuator: str) -> None:
    """One second; measured difference below float32's resolution, accelerations (finite differences) 0.5 m/s²."""
    model = pendulum(armature, actuator)
    pair = both(model, torch.tensor([[1.0, -0.5]]), torch.tensor([[0.0, 1.0]]))
    for i in range(500):
        for p in pair:
            p.step(torch.tensor([[0.5 if i < 250 else -0.5, 0.3]]))
        torch.testing.assert_close(pair[0].qpos, pair[1].qpos, atol=1e-6, rtol=1e-6)
    moving = columns(model, "tip_pos", "tip_vel")
    torch.testing.assert_close(pair[0].sensordata[:, moving], pair[1].sensordata[:, moving], atol=1e-5, rtol=1e-5)
    assert float((pair[0].sensordata - pair[1].sensordata).abs().max()) < 0.6


def test_fingers_follow_their_targets_alike() -> None:
    """Servos of the LEAP hand that are at their torque limit half of the time, one second. Measured: 0.004 rad."""
    robot = load("robot", "leap").parameters("own")
    model = compile_scene(flat_scene(robot), 0.01)
    model.geom_contype[:] = model.geom_conaffinity[:] = 0
    pose, low, high = torch.tensor(robot.default_pose), *torch.tensor(model.jnt_range.T, dtype=torch.float32)
    pair, generator, target = both(model, pose[None], torch.zeros(1, 16)), torch.Generator().manual_seed(0), pose[None]
    for i in range(100):
        if i % 20 == 0:
            target = torch.clamp(pose + torch.rand(1, 16, generator=generator) - 0.5, low + 0.05, high - 0.05)
        for p in pair:
            p.step(target)
        torch.testing.assert_close(pair[0].qpos, pair[1].qpos, atol=0.01, rtol=0.0)


@pytest.mark.parametrize("armature", [0.5, 2.0])
def test_a_geared_finger_hits_with_the_inertia_of_its_rotor(armature: float) -> None:
    """20 g with a rotor of `armature` kg behind meet half a kilogram at 0.5 m/s. Measured: it leaves at 0.304 and
    0.489 m/s in MuJoCo, 0.300 and 0.485 in Bullet. Without its rotor the finger would give 0.02, a rigid contact 0.26
    and 0.40, which is without rebound.
    """
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><option timestep="0.005" integrator="implicitfast"/><worldbody>
        <geom type="plane" size="0 0 1" friction="0.001"/>
        <body pos="0 0 0.05">
        <joint type="slide" axis="1 0 0" armature="{armature}"/><geom size="0.02" mass="0.02"/>
        </body>
        <body pos="0.06 0 0.03"><freejoint/><geom type="box" size="0.03 0.03 0.03" mass="0.5" friction="0.001"/></body>
        </worldbody></mujoco>"""
    )
    qvel = torch.zeros(1, model.nv)
    qvel[0, 0] = 0.5
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), qvel)
    for _ in range(40):
        for p in pair:
            p.step(torch.zeros(1, 0))
    assert float(pair[1].qvel[0, 1]) == pytest.approx(float(pair[0].qvel[0, 1]), rel=0.05)


@pytest.mark.parametrize("armature", [0.0, 0.1])
@pytest.mark.parametrize("friction", [0.05, 0.3, 1.0])
def test_dry_friction_of_joints_stops_them_alike(armature: float, friction: float) -> None:
    """One second; MuJoCo's friction is slightly soft. Measured: at most 0.035 rad apart, with armature 0.004."""
    model = pendulum(armature, '<motor joint="b"/>')
    model.dof_frictionloss[:] = friction
    pair = both(model, torch.tensor([[1.0, -0.5]]), torch.tensor([[0.0, 1.0]]))
    for i in range(500):
        for p in pair:
            p.step(torch.tensor([[0.5 if i < 250 else -0.5, 0.3]]))
        torch.testing.assert_close(pair[0].qpos, pair[1].qpos, atol=0.01 if armature else 0.04, rtol=0.0)


@pytest.mark.parametrize("floor", ["", 'solref="0.05 1"', 'solref="-2000 -100"'])
def test_balls_sink_into_the_floor_alike(floor: str) -> None:
    """20 g to 20 kg, in mm. Measured with Bullet's constant impedance: 0.81, 1.25 and 0.85 of MuJoCo's depth."""
    ball = '<body pos="{} 0 0.1"><freejoint/><geom size="0.1" mass="{}" conaffinity="0"/></body>'
    balls = "".join(ball.format(x, mass) for x, mass in enumerate((0.02, 1.0, 20.0)))
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><geom type="plane" size="0 0 1" {floor}/>{balls}</worldbody></mujoco>'
    )
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), torch.zeros(1, model.nv))
    for p in pair:
        for _ in range(600):
            p.step(torch.zeros(1, 0))
    softly, firmly = (1e3 * (0.1 - p.qpos[0, 2::7]) for p in pair)
    assert float(softly.min()) > 0.3
    assert torch.all((firmly > 0.75 * softly) & (firmly < 1.35 * softly)), (softly, firmly)


HELD = """
<mujoco>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10" gravity="0 0 0"/>
  <default><geom condim="{dims}" friction="1 0.002 0.0001"/></default>
  <worldbody>
    <body pos="0 -0.08 1"><joint name="a" type="slide" axis="0 1 0" damping="5"/>
      <geom type="box" size="0.02 0.02 0.02" mass="0.1"/></body>
    <body pos="0 0.08 1"><joint name="b" type="slide" axis="0 -1 0" damping="5"/>
      <geom type="box" size="0.02 0.02 0.02" mass="0.1"/></body>
    <body name="ball" pos="0 0 1"><freejoint/><geom size="0.059" mass="0.2"/></body>
  </worldbody>
  <actuator><motor joint="a"/><motor joint="b"/></actuator>
</mujoco>
"""


@pytest.mark.parametrize(("dims", "torque", "turns"), [(3, 0.02, True), (4, 0.02, False), (4, 0.06, True)])
def test_two_fingers_hold_a_ball_against_a_torque_alike(dims: int, torque: float, turns: bool) -> None:
    """10 N and 2 mm of torsional friction at each finger hold 0.04 N m. MuJoCo's soft friction creeps, at 1.9 rad/s."""
    model = mujoco.MjModel.from_xml_string(HELD.format(dims=dims))
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), torch.zeros(1, model.nv))
    spun: list[float] = []
    for p in pair:
        for i in range(200):
            if i == 100:
                p.apply(int(model.body("ball").id), torch.zeros(1, 3), torch.tensor([[0.0, torque, 0.0]]))
            p.step(torch.full((1, 2), 10.0))
        spun.append(float(p.qvel[0, -2]))
    assert spun[1] == (pytest.approx(spun[0], rel=0.05) if turns else pytest.approx(0.0, abs=2.0))
    assert turns == (min(spun) > 20.0)


@pytest.mark.parametrize(("dof", "speed"), [(4, 20.0), (5, 20.0)])
def test_a_ball_rolls_and_spins_to_rest_alike(dof: int, speed: float) -> None:
    """With 5 mm of friction against spinning and 2 mm against rolling. Measured after 0.2 s: 0.2 rad/s apart."""
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><option cone="elliptic"/><worldbody>
        <geom type="plane" size="0 0 1" condim="6" friction="1 0.005 0.002"/>
        <body pos="0 0 0.05"><freejoint/><geom size="0.05" mass="0.2"/></body></worldbody></mujoco>"""
    )
    qvel = torch.zeros(1, 6)
    qvel[0, 0], qvel[0, dof] = (0.05 * speed if dof == 4 else 0.0), speed
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), qvel)
    for p in pair:
        for _ in range(100):
            p.step(torch.zeros(1, 0))
    slowed = [speed - float(p.qvel[0, dof]) for p in pair]
    assert slowed[0] > 1.0
    assert slowed[1] == pytest.approx(slowed[0], rel=0.05)


def test_a_box_falls_and_lies_still() -> None:
    """Measured after two seconds: 12 mm apart, heights 0.1 mm, contact force the weight on both."""
    model = mujoco.MjModel.from_xml_string(BOX)
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), torch.tensor([[0.5, 0, 0, 0, 0, 1.0]]))
    for _ in range(1000):
        for p in pair:
            p.step(torch.zeros(1, 0))
    height, shift = (pair[0].qpos - pair[1].qpos)[0, 2], (pair[0].qpos - pair[1].qpos)[0, :2].norm()
    assert abs(float(height)) < 1e-3 and float(shift) < 0.05
    for p in pair:
        touch, _, *force = p.sensordata[0].tolist()
        assert touch == pytest.approx(9.81, rel=0.01)
        assert force == pytest.approx([0.0, 0.0, -9.81], abs=0.1)  # of the box on the floor


@pytest.mark.parametrize(
    ("floor", "expected"), [('friction="0.4"', [0.4, 0.4, 0.9]), ('friction="0.3" priority="1"', [0.3] * 3)]
)
def test_slabs_of_different_roughness_slide_alike(floor: str, expected: list[float]) -> None:
    """The larger coefficient of two counts, or that of the geom with priority; launched at 2 m/s, seen after 0.2 s."""
    slab = (
        '<body pos="0 {} 0.02"><freejoint/><geom type="box" size="0.1 0.1 0.02" friction="{}" conaffinity="0"/></body>'
    )
    slabs = "".join(slab.format(y, mu) for y, mu in ((-1, 0.1), (0, 0.4), (1, 0.9)))
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><geom type="plane" size="0 0 1" {floor}/>{slabs}</worldbody></mujoco>'
    )
    qvel = torch.zeros(1, model.nv)
    qvel[:, ::6] = 2.0
    pair = both(model, torch.tensor(model.qpos0[None], dtype=torch.float32), qvel)
    for p in pair:
        for _ in range(100):
            p.step(torch.zeros(1, 0))
        slowed = (2.0 - p.qvel[0, ::6]) / (9.81 * 0.2)
        assert slowed.tolist() == pytest.approx(expected, rel=0.1)


def test_a_quadruped_falls_alike_and_stands_nearly_alike() -> None:
    """Measured: 3e-9 after 0.24 s in the air; after landing (1 s) 2 mm in height and 0.02 rad in the joints."""
    model = quadruped()
    pair = both(model, *standing(1, height=1.0))
    for _ in range(60):
        for p in pair:
            p.step(pd(p.qpos, p.qvel))
    torch.testing.assert_close(pair[0].qpos, pair[1].qpos, atol=1e-6, rtol=1e-6)
    for p in pair:
        p.set_state(torch.arange(1), *standing(1))
    for _ in range(250):
        for p in pair:
            p.step(pd(p.qpos, p.qvel))
    difference = (pair[0].qpos - pair[1].qpos)[0].abs()
    assert float(difference[2]) < 0.01 and float(difference[7:].max()) < 0.1
    weight = 9.81 * float(model.body_subtreemass[1])
    for p in pair:
        assert float(p.sensordata[0, columns(model, "FR_force", "FL_force", "RR_force", "RL_force")].sum()) == (
            pytest.approx(weight, rel=0.03)
        )


@pytest.mark.parametrize("backend", ["mujoco", "pybullet"])
def test_go1_stands_on_its_motors(backend: str) -> None:
    robot = load("robot", "go1").parameters("own")
    model = compile_scene(flat_scene(robot), 0.004)
    physics = load("physics", backend)(model, 1)
    pose, limit = torch.tensor(robot.default_pose), torch.tensor(robot.torque_limit)
    stiffness, damping = torch.tensor(robot.stiffness), torch.tensor(robot.damping)
    qpos = torch.tensor(model.qpos0[None], dtype=torch.float32)
    qpos[:, 2], qpos[:, 7:] = robot.base_height + 0.02, pose
    physics.set_state(torch.arange(1), qpos, torch.zeros(1, model.nv))
    for _ in range(250):
        torque = stiffness * (pose - physics.qpos[:, 7:]) - damping * physics.qvel[:, 6:]
        physics.step(torch.clamp(torque, -limit, limit))
    # Measured: 0.263 m on MuJoCo, 0.267 m on PyBullet.
    assert robot.base_height - 0.06 < float(physics.qpos[0, 2]) < robot.base_height
    assert float(physics.qvel.abs().max()) < 0.3 and not physics.unstable.any()
    forces = physics.sensordata[0, columns(model, *(f"{foot}_force" for foot in robot.feet))].reshape(-1, 3)
    weight = 9.81 * float(model.body_subtreemass[model.body(robot.base).id])
    assert float(forces[:, 2].abs().sum()) == pytest.approx(weight, rel=0.03)


def test_a_cube_is_pushed_as_far_in_bullet_and_is_not_thrown_by_light_fingers() -> None:
    """Closed fingers of 15 g under 1000 N/m and 50 N s/m come to the cube at 0.35 m/s and push it along."""
    calm = {
        "threads": 1, "auto_reset": False, "noise.scale": 0.0, "latency.max": 0.0, "latency.jitter": 0.0,
        "randomize.friction": (1.0, 1.0), "randomize.object_mass": (1.0, 1.0),
        **{f"randomize.{name}": (1.0, 1.0) for name in ("link_mass", "stiffness", "damping")},
    }  # fmt: skip
    ways = (((0.5, -0.08, 0.2), 25), ((0.5, -0.08, 0.018), 25), ((0.5, 0.04, 0.018), 8), ((0.5, 0.04, 0.018), 25))
    ended, fastest = {}, {}
    for physics in ("mujoco", "pybullet"):
        env = make_env("panda-push", 1, 0, overrides={**calm, "physics": physics})
        start = int(env.model.joint("object_free").qposadr[0])
        qpos = env.physics.qpos.clone()
        qpos[:, :9] = env.default_pose
        qpos[:, 7:9] = 0.0
        qpos[:, start : start + 7] = torch.tensor([0.5, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0])
        env.physics.set_state(torch.tensor([0]), qpos, torch.zeros(1, env.model.nv))
        joints, speeds = env.arm_pos.double().numpy(), []
        place = forward(joints)[0][0]
        for goal, count in ways:
            for share in np.linspace(1.0 / count, 1.0, count):
                target = (1.0 - share) * place + share * np.array(goal)
                for _ in range(10):
                    joints = joint_targets(joints, target[None], np.zeros(1))
                command = {"joint_pos_target": torch.tensor(joints, dtype=torch.float32)}
                env.step_command({**command, "gripper_width_target": torch.zeros(1, 1)})
                speeds.append(float(env.sensor("object_vel").norm()))
            place = np.array(goal)
        ended[physics], fastest[physics] = env.object_pos[0].numpy(), max(speeds)
    assert ended["mujoco"][1] > 0.05
    np.testing.assert_allclose(ended["pybullet"], ended["mujoco"], atol=0.03)  # measured: 0.014
    assert fastest["pybullet"] < fastest["mujoco"] + 0.1  # measured: 0.40 and 0.54
