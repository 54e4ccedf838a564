"""One robot with joints as numpy and MuJoCo see it, for the robot's side: the driver `sim` and missions without torch.

It moves as the batched environments do (`env.py`): the same model, the same drive at the rate of the physics, delayed
targets, noisy sensors. Tasks, rewards and random bodies are not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.drive import pd_torque
from robot_rl.sim.articulated.scene import flat_scene
from robot_rl.sim.articulated.sensor_errors import SensorError, with_errors
from robot_rl.sim.articulated.wrist import WristForce

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.articulated.jointed_robot import JointedRobot

Vector = NDArray[np.float64]
Array = NDArray[np.float32]

STARTS = ("lying", "standing", "upside_down")
_SETTLE = 1.5  # s in which a robot that was laid down comes to rest
_DROP = 0.15  # m above its belly, from where it is laid down


class SingleRobot:
    """One robot on a flat floor, or in a scene with an object to handle. Vectors of J follow the robot's joints.

    Attributes:
        dt: s of a physics step, the robot's own unless another was asked for.
        time: simulated s since the last reset.
        floating: whether it can walk or fall; False for robots that are bolted down.
        dead: indices of drives that give no torque.
    """

    def __init__(
        self,
        robot: JointedRobot,
        *,
        scene: mujoco.MjSpec | None = None,
        dt: float = 0.0,
        latency: float = 0.0,
        errors: Mapping[str, SensorError] | None = None,
        seed: int = 0,
    ) -> None:
        """Args:
            scene: the robot and its surroundings; default: a flat floor. Objects start where it has them.
            latency: s from a command to the drives, rounded to physics steps.
            errors: of the sensors, by signal name.

        Raises:
            MissingDependency: MuJoCo is not installed.
        """
        spec = scene or flat_scene(robot)
        if dt:
            spec.option.timestep = dt
        self.robot, self.model = robot, spec.compile()
        import mujoco

        self._mujoco, self.data = mujoco, mujoco.MjData(self.model)
        self.dt, self.time, self.floating = float(self.model.opt.timestep), 0.0, bool(robot.base)
        self._qpos = np.array([self.model.joint(j).qposadr[0] for j in robot.joints])
        self._qvel = np.array([self.model.joint(j).dofadr[0] for j in robot.joints])
        drive = ("stiffness", "damping", "torque_limit", "stall_torque", "no_load_speed")
        self._kp, self._kd, self._limit, self._stall, self._no_load = (np.array(getattr(robot, n)) for n in drive)
        self._gain, self._bias = self.model.actuator_gainprm.copy(), self.model.actuator_biasprm.copy()
        self._delay: deque[Vector | None] = deque(maxlen=round(latency / self.dt) + 1)
        self._errors, self._seed, self.dead = errors or {}, seed, set[int]()
        sensors = {self.model.sensor(i).name for i in range(self.model.nsensor)}
        self._wrist = WristForce(self.model, self.data) if "wrist_force" in sensors else None
        self._sources = self._signal_sources(sensors)
        self.reset("standing")

    @property
    def joint_pos(self) -> Vector:
        """(J,) true positions, rad."""
        return self.data.qpos[self._qpos]

    @property
    def joint_vel(self) -> Vector:
        """(J,) true velocities, rad/s."""
        return self.data.qvel[self._qvel]

    @property
    def names(self) -> tuple[str, ...]:
        """The signals that `signals` gives."""
        return tuple(self._sources)

    def reset(self, start: str) -> None:
        """Put it into its default pose (`standing`), or lay it down damped on its belly or its back.

        Raises:
            ConfigError: no such start.
        """
        if start not in STARTS:
            raise ConfigError(f"start '{start}': must be one of {', '.join(STARTS)}")
        self._mujoco.mj_resetData(self.model, self.data)
        self._rng = np.random.default_rng(self._seed)
        self.dead.clear()
        self._fill_delay(None)
        self.data.qpos[self._qpos] = self.robot.default_pose if start == "standing" else self.robot.rest_pose
        if self.floating:
            turned = start == "upside_down"
            self.data.qpos[2] = self.robot.base_height if start == "standing" else _DROP
            self.data.qpos[3:7] = (0.0, 1.0, 0.0, 0.0) if turned else (1.0, 0.0, 0.0, 0.0)
        self._mujoco.mj_forward(self.model, self.data)
        if self._wrist is not None:
            self._wrist.reset()
        if self.floating and start != "standing":
            for _ in range(round(_SETTLE / self.dt)):
                self.step(None)
        self.time = 0.0
        self._fill_delay(np.array(self.joint_pos) if start == "standing" else None)

    def step(self, target: Vector | None) -> None:
        """One physics step towards targets (J,) rad for the drives, or damped by them: no stiffness, for None."""
        self._delay.append(target)
        now = self._delay[0]
        if self.robot.builtin_pd:
            self._set_builtin_gains(now is not None)
            self.data.ctrl[:] = self.joint_pos if now is None else now
        else:
            aim, kp = (self.joint_pos, 0.0) if now is None else (now, self._kp)
            torque = pd_torque(
                np, aim, self.joint_pos, self.joint_vel, kp, self._kd, self._limit, self._stall, self._no_load
            )
            self.data.ctrl[:] = torque
            self.data.ctrl[list(self.dead)] = 0.0
        self._mujoco.mj_step(self.model, self.data)
        self.time += self.dt
        if self._wrist is not None:
            self._wrist.add()

    def signals(self) -> dict[str, Array]:
        """What the sensors say now, with fresh noise; simulated odometry has none. Shapes as in the robot's table."""
        true = {name: np.asarray(source(), np.float64) for name, source in self._sources.items()}
        sensed = with_errors(true, self._errors, self._rng)
        return {name: value.astype(np.float32) for name, value in sensed.items()}

    def _signal_sources(self, sensors: set[str]) -> dict[str, Callable[[], Vector | Sequence[float]]]:
        count = len(self.robot.joints) - len(self.robot.gripper)
        sources: dict[str, Callable[[], Vector | Sequence[float]]] = {
            "joint_pos": lambda: self.joint_pos[:count],
            "joint_vel": lambda: self.joint_vel[:count],
        }
        if self.floating:
            sources |= {
                "base_quat_wxyz": lambda: self.data.qpos[3:7],
                "base_ang_vel_b": lambda: self.data.qvel[3:6],
                "base_pos_w": lambda: self.data.qpos[0:3],
                "base_lin_vel_w": lambda: self.data.qvel[0:3],
            }
        for signal, sensor in (("base_lin_acc_b", "imu_acc"), ("ee_pos_w", "ee_pos"), ("ee_quat_wxyz", "ee_quat")):
            if sensor in sensors:
                sources[signal] = lambda sensor=sensor: self.data.sensor(sensor).data
        forces = [f"{foot}_force" for foot in self.robot.feet]
        if forces and sensors.issuperset(forces):
            sources["foot_force"] = lambda: [float(np.linalg.norm(self.data.sensor(f).data)) for f in forces]
        if self._wrist is not None:
            sources["ee_force_b"] = self._wrist.read
        if "object_pos" in sensors:
            sources["object_pos_w"] = lambda: self.data.sensor("object_pos").data
            sources["object_quat_wxyz"] = lambda: self.data.sensor("object_quat").data
        elif self._mujoco.mj_name2id(self.model, self._mujoco.mjtObj.mjOBJ_BODY, "object") >= 0:
            sources["object_pos_w"] = lambda: self.data.body("object").xpos
            sources["object_quat_wxyz"] = lambda: self.data.body("object").xquat
        if self.robot.gripper:
            sources["gripper_width"] = lambda: [float(self.joint_pos[count:].sum())]
        return sources

    def _set_builtin_gains(self, stiff: bool) -> None:
        """MuJoCo's own position actuators: force = gain·ctrl + bias₁·q + bias₂·q̇."""
        working = np.ones(len(self._kd))
        working[list(self.dead)] = 0.0
        self.model.actuator_gainprm[:, 0] = self._gain[:, 0] * working * stiff
        self.model.actuator_biasprm[:, 1] = self._bias[:, 1] * working * stiff
        self.model.actuator_biasprm[:, 2] = self._bias[:, 2] * working

    def _fill_delay(self, target: Vector | None) -> None:
        self._delay.extend([target] * (self._delay.maxlen or 1))
