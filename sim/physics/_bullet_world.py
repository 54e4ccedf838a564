"""One simulation in PyBullet: its world, the MuJoCo model that describes it, and the way between their states."""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from robot_rl.sim.physics._bullet_build import Link, build
from robot_rl.sim.physics._bullet_sensors import Touch, evaluate, nearest_geom

_LIGHT = 5.0  # times its own inertia: less is lacking in stable joints
_SWEEPS = 4  # over the joints; they push on each other through the links between them
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
        self._servos: dict[int, tuple[float, float]] = {}
        self.rebuild()

    def rebuild(self) -> None:
        """Make the world again after the model has changed, in the state it is in."""
        qpos, qvel, ctrl = self.data.qpos.copy(), self.data.qvel.copy(), self.data.ctrl.copy()
        mujoco.mj_setConst(self.model, self.data)
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        self.client.resetSimulation()
        self.links: list[Link] = build(self.client, self.model, self.data)
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
        self._light_actuators = self._light()
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
            client.resetBaseVelocity(link.unique, (d.qvel[v : v + 3] + np.cross(spin, arm)).tolist(), spin.tolist())
        self._derive()
        d.sensordata[:] = 0.0
        mujoco.mj_sensorPos(m, d)
        mujoco.mj_sensorVel(m, d)

    def step(self, ctrl: np.ndarray) -> None:
        """One physics step; afterwards `data` has the new state and every sensor's reading."""
        m, d = self.model, self.data
        d.ctrl[:] = ctrl
        mujoco.mj_fwdActuation(m, d)
        self._push(self._torques())
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
                d.xfrc_applied[body, 3:] += np.cross(touch.position - d.xipos[body], force)
        evaluate(m, d, touches)

    def _derive(self) -> None:
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def _torques(self) -> np.ndarray:
        """(nv,) what Bullet is told to apply so that it moves as with dry friction, armature and implicit damping.

        With A the armatures and D the damping that MuJoCo integrates implicitly, (M + A + hD) q̈ = τ − c + Jᵀf. Bullet
        solves M q̈ = τ' − c + Jᵀf, so τ' = τ − (A + hD) q̈, where q̈ is predicted with the contact forces of the step
        before. Bullet's own motors would let friction act on M alone: with the armature of geared drives that is much
        too much of it.
        """
        m, d = self.model, self.data
        wanted = d.qfrc_actuator + d.qfrc_passive
        extra = m.opt.timestep * self._damping()
        lacking = extra + m.dof_armature
        if not lacking.any() and not m.dof_frictionloss.any():
            return wanted
        inertia, contact = np.zeros((m.nv, m.nv)), np.zeros(m.nv)
        mujoco.mj_fullM(m, d, inertia)
        self._servos = self._motors()
        for body in np.flatnonzero(d.xfrc_applied.any(axis=1)):
            wrench = d.xfrc_applied[body]
            mujoco.mj_applyFT(m, d, wrench[:3], wrench[3:], d.xipos[body], int(body), contact)
        inverse = np.linalg.inv(inertia + np.diag(extra))
        acceleration = inverse @ (wanted - d.qfrc_bias + contact)
        friction = _dry_friction(inverse, d.qvel + m.opt.timestep * acceleration, m.dof_frictionloss, m.opt.timestep)
        return wanted + friction - lacking * (acceleration + inverse @ friction)

    def _light(self) -> frozenset[int]:
        """Actuators to a position whose joint has far less inertia of its own than it is lacking in Bullet."""
        m, inertia = self.model, np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_fullM(m, self.data, inertia)
        own = np.diag(inertia) - m.dof_armature
        lacking = m.opt.timestep * self._damping() + m.dof_armature
        dofs = m.jnt_dofadr[m.actuator_trnid[:, 0]]
        driven = (m.actuator_biasprm[:, 1] < 0.0) & (m.actuator_biasprm[:, 2] < 0.0)
        return frozenset(np.flatnonzero(driven & (lacking[dofs] > _LIGHT * own[dofs])).tolist())

    def _motors(self) -> dict[int, tuple[float, float]]:
        """Velocity and largest force of Bullet's motors for light joints, by degree of freedom.

        The contact forces of the step before would throw a light finger, and what it holds, away. Bullet's motors are
        constraints: they reach at once the velocity at which spring and damper balance, which is what MuJoCo's implicit
        step does with so much damping, and give no more than the two can.
        """
        m, d, motors = self.model, self.data, dict[int, tuple[float, float]]()
        for i in self._light_actuators:
            joint, gear = int(m.actuator_trnid[i, 0]), float(m.actuator_gear[i, 0])
            dof, length = int(m.jnt_dofadr[joint]), gear * d.qpos[m.jnt_qposadr[joint]]
            damping = -m.actuator_biasprm[i, 2] * gear**2
            low, high = m.actuator_forcerange[i] if m.actuator_forcelimited[i] else (-np.inf, np.inf)
            force = float(np.clip(m.actuator_gainprm[i, 0] * d.ctrl[i] + m.actuator_biasprm[i, 1] * length, low, high))
            most = min(abs(gear * force) + damping * abs(d.qvel[dof]), abs(gear) * max(-low, high))
            motors[dof] = (gear * force / damping, float(most))
        return motors

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
                    torque += self.data.xmat[link.body].reshape(3, 3) @ torques[v + 3 : v + 6] - np.cross(arm, push)
                elif v in self._servos:
                    speed, most = self._servos[v]
                    client.setJointMotorControl2(
                        link.unique, link.index, client.VELOCITY_CONTROL, targetVelocity=speed, force=most
                    )
                    client.setJointMotorControl2(
                        link.unique, link.index, client.TORQUE_CONTROL, force=self.data.qfrc_passive[v]
                    )
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
            d.qvel[v : v + 3] = np.array(linear) - np.cross(angular, arm)
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


def _dry_friction(inverse: np.ndarray, speed: np.ndarray, bound: np.ndarray, dt: float) -> np.ndarray:
    """(nv,) within ±`bound`: what brings the joints to rest in one step of `dt` s, as far as that is enough.

    Projected Gauss–Seidel. `inverse`: of the mass matrix (nv, nv); `speed`: (nv,) after the step without friction.
    """
    torque, speed = np.zeros_like(speed), speed.copy()
    for _ in range(_SWEEPS):
        for i in np.flatnonzero(bound):
            wanted = np.clip(torque[i] - speed[i] / (dt * inverse[i, i]), -bound[i], bound[i])
            speed += dt * inverse[:, i] * (wanted - torque[i])
            torque[i] = wanted
    return torque


def _matrix(quat: np.ndarray) -> np.ndarray:
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quat)
    return flat.reshape(3, 3)


def _xyzw(quat: np.ndarray) -> list[float]:
    return [float(quat[1]), float(quat[2]), float(quat[3]), float(quat[0])]
