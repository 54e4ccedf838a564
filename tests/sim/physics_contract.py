"""What every contact simulator promises (`robot_rl.sim.articulated.physics`); each backend's test file inherits it."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from contact_models import columns, pd, quadruped, standing
from torch import Tensor

from robot_rl import registry
from robot_rl.errors import ConfigError, UnknownName

ALL = torch.arange
MODEL = quadruped()


class PhysicsContract:
    backend = ""
    resume_after = 100
    """Steps until the state is saved; 100 steps are 0.4 s: the robot has landed."""
    resume_tolerance = 0.0
    neighbour_tolerance = 0.0
    """How far another simulation's new mass may move one that has none."""

    def make(self, n: int):
        physics = registry.load("physics", self.backend)(MODEL, n)
        physics.set_state(ALL(n), *standing(n))
        return physics

    def test_it_says_what_it_is(self) -> None:
        p = self.make(2)
        assert (p.name, p.num_envs, p.dt, p.device) == (self.backend, 2, 0.004, torch.device("cpu"))
        assert p.qpos.shape == (2, 19) and p.qvel.shape == (2, 18) and p.sensordata.shape == (2, MODEL.nsensordata)
        assert p.qpos.dtype == p.qvel.dtype == p.sensordata.dtype == torch.float32 and p.unstable.dtype == torch.bool
        assert {"body_mass", "body_inertia", "body_ipos", "geom_friction", "dof_armature"} <= p.fields

    def test_force_is_mass_times_acceleration(self) -> None:
        p = self.make(3)
        p.set_state(ALL(3), *standing(3, height=2.0))
        force = torch.tensor([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0], [0.0, -20.0, 0.0]])
        p.apply(MODEL.body("trunk").id, force, torch.zeros(3, 3))
        for _ in range(25):
            p.step(torch.zeros(3, 12))
        gained = p.sensordata[:, columns(MODEL, "com_vel")]
        expected = (force / float(MODEL.body_subtreemass[1]) + torch.tensor([0.0, 0.0, -9.81])) * 25 * p.dt
        torch.testing.assert_close(gained, expected, atol=0.003, rtol=0.003)
        p.set_state(ALL(3), *standing(3, height=2.0))
        p.step(torch.zeros(3, 12))
        assert float(p.sensordata[:, columns(MODEL, "com_vel")][:, :2].abs().max()) < 1e-5  # set_state ends the force

    def test_a_field_acts_on_its_simulation_only(self) -> None:
        p, plain = self.make(3), self.make(3)
        mass = torch.tensor(MODEL.body_mass, dtype=torch.float32)[None] * 2.0
        inertia = torch.tensor(MODEL.body_inertia, dtype=torch.float32)[None] * 2.0
        p.set_field(torch.tensor([1]), "body_mass", mass)
        p.set_field(torch.tensor([1]), "body_inertia", inertia)
        for x in (p, plain):
            x.set_state(ALL(3), *standing(3, height=2.0))
            x.apply(1, torch.tensor([[40.0, 0.0, 0.0]]).repeat(3, 1), torch.zeros(3, 3))
            for _ in range(10):
                x.step(torch.zeros(3, 12))
        allowed = self.neighbour_tolerance
        torch.testing.assert_close(p.qpos[[0, 2]], plain.qpos[[0, 2]], atol=allowed, rtol=allowed)
        speed, usual = (x.sensordata[1, columns(MODEL, "com_vel")[0]] for x in (p, plain))
        torch.testing.assert_close(speed, usual / 2.0, rtol=0.01, atol=1e-4)

    def test_set_state_leaves_the_others_alone(self) -> None:
        p = self.make(4)
        for _ in range(60):
            p.step(pd(p.qpos, p.qvel))
        before = [x.clone() for x in (p.qpos, p.qvel, p.sensordata)]
        qpos, qvel = standing(2, height=0.5)
        qvel[:, 2] = 1.5
        p.set_state(torch.tensor([3, 1]), qpos, qvel)
        for old, new in zip(before, (p.qpos, p.qvel, p.sensordata), strict=True):
            assert torch.equal(old[[0, 2]], new[[0, 2]])
        assert torch.equal(p.qpos[[3, 1]], qpos) and torch.equal(p.qvel[[3, 1]], qvel)
        assert float(p.sensordata[:, columns(MODEL, "FR_force")][[1, 3]].abs().max()) == 0.0

    def test_sensors_are_those_of_the_present_state(self) -> None:
        p = self.make(2)
        for _ in range(30):
            p.step(pd(p.qpos, p.qvel))
        assert_current(p)
        p.set_state(torch.tensor([1]), *standing(1, height=0.6))
        assert_current(p)

    def test_four_together_are_four_alone(self) -> None:
        together, states = self.make(4), standing(4)
        alone = [self.make(1) for _ in range(4)]
        for i, p in enumerate(alone):
            p.set_state(ALL(1), states[0][i : i + 1], states[1][i : i + 1])
        for _ in range(80):
            for p in (together, *alone):
                p.step(pd(p.qpos, p.qvel))
        assert torch.equal(together.qpos, torch.cat([p.qpos for p in alone]))
        assert torch.equal(together.sensordata, torch.cat([p.sensordata for p in alone]))

    def test_a_run_is_its_steps(self) -> None:
        p, stepped = self.make(3), self.make(3)
        ctrls, felt = 2.0 * torch.randn(5, 3, 12), columns(MODEL, "FR_force")
        readings = p.run(ctrls, torch.arange(MODEL.nsensordata)[felt])
        for ctrl, reading in zip(ctrls, readings, strict=True):
            stepped.step(ctrl)
            assert torch.equal(reading, stepped.raw_sensordata[:, felt])
        assert torch.equal(p.qpos, stepped.qpos) and torch.equal(p.sensordata, stepped.sensordata)

    def test_it_resumes_as_if_nothing_had_happened(self) -> None:
        p, other = self.make(3), self.make(3)
        armature = torch.tensor(MODEL.dof_armature, dtype=torch.float32)[None] * 1.5
        p.set_field(torch.tensor([2]), "dof_armature", armature)
        other.set_field(torch.tensor([0]), "dof_armature", armature)  # must be undone
        p.set_state(ALL(3), *standing(3))
        p.apply(1, torch.tensor([[3.0, 1.0, 0.0]]).repeat(3, 1), torch.zeros(3, 3))
        for _ in range(self.resume_after):
            p.step(pd(p.qpos, p.qvel))
        saved = p.state_dict()
        trace = []
        for x in (p, other):
            if x is other:
                x.load_state_dict(saved)
            readings: list[Tensor] = [x.qpos.clone(), x.sensordata.clone()]
            for _ in range(20):
                x.step(pd(x.qpos, x.qvel))
                readings += [x.qpos.clone(), x.qvel.clone(), x.sensordata.clone()]
            trace.append(readings)
        for a, b in zip(*trace, strict=True):
            torch.testing.assert_close(a, b, atol=self.resume_tolerance, rtol=self.resume_tolerance)

    def test_one_that_diverges_does_not_take_the_others_along(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
        p, healthy = self.make(3), self.make(3)
        qpos, qvel = standing(3)
        qvel[1, 8] = 1e12
        p.set_state(ALL(3), qpos, qvel)
        for _ in range(5):
            for x in (p, healthy):
                x.step(pd(standing(3)[0], x.qvel * 0.0))
        assert p.unstable.tolist() == [False, True, False]
        assert torch.equal(p.qpos[[0, 2]], healthy.qpos[[0, 2]])
        assert all(bool(torch.isfinite(x).all()) for x in (p.qpos, p.qvel, p.sensordata))
        p.set_state(torch.tensor([1]), *standing(1))
        assert not p.unstable.any()
        p.step(torch.zeros(3, 12))
        assert not p.unstable.any()

    def test_wrong_use_is_explained(self) -> None:
        factory, p = registry.load("physics", self.backend), self.make(2)
        with pytest.raises(UnknownName, match=r"body_mas.*Did you mean 'body_mass'"):
            p.set_field(ALL(2), "body_mas", torch.zeros(2, 1))
        with pytest.raises(ConfigError, match=r"body_mass: values have shape \(2, 3\), expected \(2, 14\)"):
            p.set_field(ALL(2), "body_mass", torch.zeros(2, 3))
        with pytest.raises(ConfigError, match="num_envs = 0"):
            factory(MODEL, 0)
        with pytest.raises(ConfigError, match=r"no device|runs on the CPU|is no device"):
            factory(MODEL, 2, device="abacus")
        with pytest.raises(ConfigError, match="another model or num_envs"):
            p.load_state_dict(self.make(1).state_dict())


def assert_current(physics) -> None:
    """Feet, gyro and centre-of-mass velocity are what MuJoCo computes for the state that is shown."""
    data, now = mujoco.MjData(MODEL), columns(MODEL, "FR_pos", "RL_pos", "imu_ang_vel", "com_vel")
    for i in range(physics.num_envs):
        data.qpos[:], data.qvel[:] = physics.qpos[i].numpy(), physics.qvel[i].numpy()
        mujoco.mj_forward(MODEL, data)
        np.testing.assert_allclose(physics.sensordata[i].numpy()[now], data.sensordata[now], atol=3e-5)
