"""The backend that trains on the CPU."""

from __future__ import annotations

import sys

import mujoco
import numpy as np
import pytest
import torch
from contact_models import BOX, POSE, pd, quadruped, standing
from physics_contract import PhysicsContract

from robot_rl import registry
from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.sim.physics.mujoco import MujocoPhysics


class TestMujoco(PhysicsContract):
    backend = "mujoco"


def test_it_is_mj_step_to_the_last_bit() -> None:
    """One second: a fall, an impact, standing; with sensors read every step, which must not disturb anything."""
    model = quadruped()
    physics, data = MujocoPhysics(model, 2, threads=2), mujoco.MjData(model)
    qpos, qvel = standing(2)
    physics.set_state(torch.arange(2), qpos, qvel)
    data.qpos[:] = qpos[0].numpy()
    for _ in range(250):
        ctrl = pd(physics.qpos, physics.qvel)
        data.ctrl[:] = ctrl[0].numpy()
        physics.step(ctrl)
        mujoco.mj_step(model, data)
        assert np.array_equal(physics.batch.bind("qpos")[0], data.qpos)
        forces = data.sensordata[physics._late].astype(np.float32)  # of this step in mj_step too
        assert np.array_equal(physics.sensordata[0].numpy()[physics._late], forces)
    assert 0.2 < data.qpos[2] < 0.3 and abs(data.qpos[7:] - POSE.numpy()).max() < 0.3  # it stands


def test_results_do_not_depend_on_threads() -> None:
    runs = []
    for threads in (1, 3):
        physics = MujocoPhysics(quadruped(), 7, threads=threads)
        physics.set_state(torch.arange(7), *standing(7))
        for _ in range(60):
            physics.step(pd(physics.qpos, physics.qvel))
        runs.append(physics.qpos)
    assert torch.equal(*runs)


def test_friction_of_one_simulation() -> None:
    """A box thrown along the floor stops earlier on the rough one: v²/(2 μ g)."""
    model = mujoco.MjModel.from_xml_string(BOX)
    physics = MujocoPhysics(model, 2)
    friction = torch.tensor(model.geom_friction, dtype=torch.float32)[None].clone()
    friction[0, model.geom("floor").id, 0] = 0.3
    physics.set_field(torch.tensor([1]), "geom_friction", friction)
    qpos = torch.tensor([[0.0, 0.0, 0.05, 1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    qvel = torch.zeros(2, 6)
    qvel[:, 0] = 1.0
    physics.set_state(torch.arange(2), qpos, qvel)
    for _ in range(400):
        physics.step(torch.zeros(2, 0))
    distance = physics.qpos[:, 0]
    assert distance.tolist() == pytest.approx([1 / (2 * 0.6 * 9.81), 1 / (2 * 0.3 * 9.81)], rel=0.1)


def test_derived_constants_follow_at_set_state() -> None:
    model = quadruped()
    physics = MujocoPhysics(model, 3)
    mass = torch.tensor(model.body_mass, dtype=torch.float32).repeat(2, 1) * 2.0
    physics.set_field(torch.tensor([0, 2]), "body_mass", mass)
    physics.set_state(torch.tensor([2]), *standing(1))
    total = physics.batch.expanded("body_subtreemass")[:, 1] / model.body_subtreemass[1]
    assert total.tolist() == pytest.approx([1.0, 1.0, 2.0])
    physics.set_state(torch.arange(3), *standing(3))
    total = physics.batch.expanded("body_subtreemass")[:, 1] / model.body_subtreemass[1]
    assert total.tolist() == pytest.approx([2.0, 1.0, 2.0])


def test_a_simulation_in_which_mujoco_raises_is_reported_and_can_be_mended(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body><joint type="slide"/><geom size="0.1" mass="1"/></body></worldbody></mujoco>'
    )
    physics, one = MujocoPhysics(model, 3), torch.tensor([1])
    physics.set_field(one, "body_mass", torch.zeros(1, 2))  # a moving body without mass: mj_setConst raises
    physics.set_state(torch.arange(3), torch.zeros(3, 1), torch.ones(3, 1))
    physics.step(torch.zeros(3, 0))
    assert physics.unstable.tolist() == [False, True, False]
    assert physics.qpos[[0, 2], 0].tolist() == pytest.approx([model.opt.timestep] * 2, rel=0.05)  # and gravity
    physics.set_field(one, "body_mass", torch.ones(1, 2))
    physics.set_state(one, torch.zeros(1, 1), torch.ones(1, 1))
    physics.step(torch.zeros(3, 0))
    assert not physics.unstable.any() and float(physics.qpos[1, 0]) == pytest.approx(model.opt.timestep, rel=0.05)


def test_what_is_given_out_does_not_change_later() -> None:
    physics = MujocoPhysics(quadruped(), 2)
    physics.set_state(torch.arange(2), *standing(2))
    held = (physics.qpos, physics.qvel, physics.sensordata)
    copies = [x.clone() for x in held]
    physics.step(torch.zeros(2, 12))
    physics.set_state(torch.tensor([0]), *standing(1, height=1.0))
    assert all(torch.equal(a, b) for a, b in zip(held, copies, strict=True))


def test_wrong_arguments() -> None:
    model = quadruped()
    physics = MujocoPhysics(model, 2)
    with pytest.raises(ConfigError, match=r"ctrl has shape \(1, 12\), expected \(2, 12\)"):
        physics.step(torch.zeros(1, 12))
    with pytest.raises(ConfigError, match="twice"):
        physics.set_state(torch.tensor([1, 1]), *standing(2))
    with pytest.raises(ConfigError, match="runs on the CPU, not on 'cuda'; choose 'warp'"):
        MujocoPhysics(model, 2, device="cuda")
    with pytest.raises(ConfigError, match="threads = -1"):
        MujocoPhysics(model, 2, threads=-1)
    model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    with pytest.raises(ConfigError, match=r"cannot run this model.*sleep"):
        MujocoPhysics(model, 2)


@pytest.mark.parametrize(("backend", "package", "extra"), [("pybullet", "pybullet", "sim"), ("warp", "warp", "gpu")])
def test_a_missing_package_is_named(backend: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "mujoco_warp", raising=False)
    monkeypatch.delitem(sys.modules, f"robot_rl.sim.physics.{backend}", raising=False)
    with pytest.raises(MissingDependency, match=rf"robot-rl\[{extra}\]"):
        registry.load("physics", backend)
