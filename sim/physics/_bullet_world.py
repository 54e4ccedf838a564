"""One simulation in PyBullet: its world, the MuJoCo model that describes it, and the way between their states."""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from robot_rl.sim.physics._bullet_build import Link, Rotor, build
from robot_rl.sim.physics._bullet_sensors import Touch, evaluate, nearest_geom

_LEAST = 1e-12  # kg m², of a rotor that has no inertia in this step
_FREE = mujoco.mjtJoint.mjJNT_FREE
_IMPLICIT = (int(mujoco.mjtIntegrator.mjINT_IMPLICIT), int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST))


class BulletWorld:
    """`model` is this simulation's own and may be edited; call `rebuild` afterwards.

    Attributes:
        data: state, sensor readings and derived values as MuJoCo lays them out.
        applied: (nbody, 6) N, N m, external wrenches that act in every step.
    """

    def __init__(self, client: Any, model: mujoco.MjModel) -> None:
        self.client, self.model = client, model
        # Contacts and joint limits are Bullet's.
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
        self.data = mujoco.MjData(model)
        self.applied = np.zeros((model.nbody, 6))
        self.rebuild()

    def rebuild(self) -> None:
        """Make the world again after the model has changed, in the state it is in."""
        qpos, qvel, ctrl = self.data.qpos.copy(), self.data.qvel.copy(), self.data.ctrl.copy()
        mujoco.mj_setConst(self.model, self.data)
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        self.client.resetSimulation()
        self.links: list[Link]
        self.rotors: list[Rotor]
        self.links, self.rotors = build(self.client, self.model, self.data)
        self._inertia = np.full(self.model.nv, -1.0)
        self._by_bullet = {(link.unique, link.index): link for link in self.links}
        self._shapes = {
            link.body: [
                g for g in range(self.model.ngeom)
                if self.model.geom_bodyid[g] == link.body
                and (self.model.geom_contype[g] or self.model.geom_conaffinity[g])
            ]
            for link in self.links
        }  # fmt: skip
        self._static = [
            g for g in range(self.model.ngeom)
            if self.model.body_weldid[self.model.geom_bodyid[g]] == 0
            and (self.model.geom_contype[g] or self.model.geom_conaffinity[g])
        ]  # fmt: skip
        self.data.ctrl[:] = ctrl
        self.put(qpos, qvel)

    def put(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Take over a state; contact forces and accelerations of the past are forgotten."""
        m, d, client = self.model, self.data, self.client
        d.qpos[:], d.qvel[:] = qpos, qvel
        d.qacc[:], d.xfrc_applied[:] = 0.0, 0.0
        for link in self.links:
            if link.joint < 0:
                continue
            q, v = int(m.jnt_qposadr[link.joint]), int(m.jnt_dofadr[link.joint])
            if m.jnt_type[link.joint] != _FREE:
                client.resetJointState(link.unique, link.index, d.qpos[q] - m.qpos0[q], d.qvel[v])
                continue
            rotation, quat = _matrix(d.qpos[q + 3 : q + 7]), np.zeros(4)
            arm = rotation @ m.body_ipos[link.body]
            spin = rotation @ d.qvel[v + 3 : v + 6]
            mujoco.mju_mulQuat(quat, d.qpos[q + 3 : q + 7], m.body_iquat[link.body])
            client.resetBasePositionAndOrientation(link.unique, (d.qpos[q : q + 3] + arm).tolist(), _xyzw(quat))
            client.resetBaseVelocity(link.unique, (d.qvel[v : v + 3] + _cross(spin, arm)).tolist(), spin.tolist())
        for rotor in self.rotors:
            client.resetJointState(rotor.unique, 0, 0.0, d.qvel[rotor.dof])
        self._derive()
        d.sensordata[:] = 0.0
        mujoco.mj_sensorPos(m, d)
        mujoco.mj_sensorVel(m, d)

    def step(self, ctrl: np.ndarray) -> None:
        """One physics step; afterwards `data` has the new state and every sensor's reading."""
        m, d = self.model, self.data
        d.ctrl[:] = ctrl
        mujoco.mj_fwdActuation(m, d)
        self._set_rotors()
        self._push(d.qfrc_actuator + d.qfrc_passive)
        before = d.qvel.copy()
        self.client.stepSimulation()
        self._read()
        d.qacc[:] = (d.qvel - before) / m.opt.timestep
        self._derive()
        touches = self._touches()
        d.xfrc_applied[:] = self.applied
        for touch in touches:
            for body, force in zip(touch.bodies, (-touch.force, touch.force), strict=True):
                d.xfrc_applied[body, :3] += force
                d.xfrc_applied[body, 3:] += _cross(touch.position - d.xipos[body], force)
        evaluate(m, d, touches)

    def _derive(self) -> None:
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def _set_rotors(self) -> None:
        """Give each rotor its inertia and dry friction.

        With A the armatures and D the damping that MuJoCo integrates implicitly, (M + A + hD) q̈ = τ − c + Jᵀf. Bullet's
        links have M, their rotors the rest.
        """
        m, client = self.model, self.client
        inertia = m.dof_armature + m.opt.timestep * self._damping()
        for rotor in self.rotors:
            if inertia[rotor.dof] != self._inertia[rotor.dof]:
                own, friction = max(float(inertia[rotor.dof]), _LEAST), float(m.dof_frictionloss[rotor.dof])
                client.changeDynamics(rotor.unique, 0, mass=1.0, localInertiaDiagonal=[own] * 3)
                client.setJointMotorControl2(
                    rotor.unique, 0, client.VELOCITY_CONTROL, targetVelocity=0.0, force=friction
                )
        self._inertia = inertia

    def _damping(self) -> np.ndarray:
        """(nv,) −∂τ/∂q̇ of joint damping and of position actuators that are not at their limit."""
        m, d, damping = self.model, self.data, self.model.dof_damping.copy()
        if int(m.opt.integrator) not in _IMPLICIT:
            return damping
        for i in range(m.nu):
            low, high = m.actuator_forcerange[i]
            if m.actuator_forcelimited[i] and not low < d.actuator_force[i] < high:
                continue
            dof = m.jnt_dofadr[m.actuator_trnid[i, 0]]
            damping[dof] -= m.actuator_biasprm[i, 2] * m.actuator_gear[i, 0] ** 2
        return damping

    def _push(self, torques: np.ndarray) -> None:
        m, client = self.model, self.client
        for link in self.links:
            force, torque = self.applied[link.body, :3].copy(), self.applied[link.body, 3:].copy()
            if link.joint >= 0:
                v = int(m.jnt_dofadr[link.joint])
                if m.jnt_type[link.joint] == _FREE:
                    arm = self.data.xipos[link.body] - self.data.xpos[link.body]
                    push = torques[v : v + 3]
                    force += push
                    torque += self.data.xmat[link.body].reshape(3, 3) @ torques[v + 3 : v + 6] - _cross(arm, push)
                else:
                    client.setJointMotorControl2(link.unique, link.index, client.TORQUE_CONTROL, force=torques[v])
            if force.any() or torque.any():
                centre = self.data.xipos[link.body].tolist()
                client.applyExternalForce(link.unique, link.index, force.tolist(), centre, client.WORLD_FRAME)
                client.applyExternalTorque(link.unique, link.index, torque.tolist(), client.WORLD_FRAME)

    def _read(self) -> None:
        m, d, client = self.model, self.data, self.client
        for link in self.links:
            if link.joint < 0:
                continue
            q, v = int(m.jnt_qposadr[link.joint]), int(m.jnt_dofadr[link.joint])
            if m.jnt_type[link.joint] != _FREE:
                position, speed = client.getJointState(link.unique, link.index)[:2]
                d.qpos[q], d.qvel[v] = position + m.qpos0[q], speed
                continue
            centre, quat = client.getBasePositionAndOrientation(link.unique)
            linear, angular = client.getBaseVelocity(link.unique)
            inverse, own = np.zeros(4), np.zeros(4)
            mujoco.mju_negQuat(inverse, m.body_iquat[link.body])
            mujoco.mju_mulQuat(own, np.array([quat[3], *quat[:3]]), inverse)
            rotation = _matrix(own)
            arm = rotation @ m.body_ipos[link.body]
            d.qpos[q : q + 3], d.qpos[q + 3 : q + 7] = np.array(centre) - arm, own
            d.qvel[v : v + 3] = np.array(linear) - _cross(angular, arm)
            d.qvel[v + 3 : v + 6] = rotation.T @ np.array(angular)

    def _touches(self) -> list[Touch]:
        found: list[Touch] = []
        for point in self.client.getContactPoints():
            sides = [self._by_bullet.get((point[1], point[3])), self._by_bullet.get((point[2], point[4]))]
            if point[9] == 0.0:
                continue
            position = 0.5 * (np.array(point[5]) + np.array(point[6]))
            geoms = [
                nearest_geom(self.model, self.data, self._shapes[side.body] if side else self._static, position)
                for side in sides
            ]
            on_first = point[9] * np.array(point[7]) + point[10] * np.array(point[11]) + point[12] * np.array(point[13])
            bodies = (int(self.model.geom_bodyid[geoms[0]]), int(self.model.geom_bodyid[geoms[1]]))
            found.append(Touch((geoms[0], geoms[1]), bodies, position, -on_first, float(point[9])))
        return found


def _matrix(quat: np.ndarray) -> np.ndarray:
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quat)
    return flat.reshape(3, 3)


def _cross(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    """As np.cross, which takes longer for its checks than Bullet for a step."""
    (x, y, z), (u, v, w) = a, b
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


def _xyzw(quat: np.ndarray) -> list[float]:
    return [float(quat[1]), float(quat[2]), float(quat[3]), float(quat[0])]
