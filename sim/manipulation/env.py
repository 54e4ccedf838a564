"""What all manipulation tasks share: arm and gripper, wrist force, success, costs, fixtures, noise, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import Signal
from robot_rl.sim.articulated.env import ArticulatedEnv
from robot_rl.sim.articulated.kinematics import InverseKinematics, KinematicChain, pointing_down
from robot_rl.sim.articulated.rotations import from_yaw, quat_mul, rotate_back
from robot_rl.sim.manipulation import scenes, terms
from robot_rl.sim.manipulation.camera import Cameras
from robot_rl.sim.manipulation.observer import EndEffectorActionMap, ManipulationObserver
from robot_rl.sim.manipulation.options import SPARSE, ManipulationOptions

STARTS = 512  # starting poses of the arm to draw from
GRASPED = 0.5  # N that each finger pad must feel
CENTRE = (0.5, 0.0)
"""m, x and y: the middle of the workspace, in front of the arm."""
POSES = ("object_pos_w", "object_quat_wxyz")
"""What `camera.instead` takes from the policy's observation."""


class ManipulationEnv(ArticulatedEnv):
    """N arms at their tables. A task defines `place`, `draw_goal`, `solved_now` and `task_rewards`.

    Attributes:
        target_pos: (N, 3) m, world. target_quat: (N, 4). fixture_pos (N, 3), fixture_quat (N, 4): of body `fixture`.
        force: (N, 3) N, mean over the control step of what the world exerts on the hand, in the hand's axes: what the
            wrist bears without the hand's own weight and inertia.
        held: (N,) control steps for which the task has been solved without a break.
        solved: (N,) bool, long enough.
    """

    options: ManipulationOptions  # pyright: ignore[reportIncompatibleVariableOverride]
    buffers = (
        *ArticulatedEnv.buffers, "target_pos", "target_quat", "fixture_pos", "fixture_quat", "force", "held",
        "solved", "object_bias", "target_bias", "looks",
    )  # fmt: skip

    # What distinguishes the tasks.
    turns, grips = False, False
    width = 0.0  # m, of the gripper where the policy does not move it
    start_width = 0.08  # m
    fold = 4
    friction_of: tuple[str, ...] = ()
    mass_of: tuple[str, ...] = ()
    lower, upper = (0.25, -0.4, 0.014), (0.78, 0.4, 0.5)
    """m: box of the gripper's targets; lower it would touch the table."""

    def place(self, ids: Tensor, qpos: Tensor) -> None:
        """Write where loose objects start into qpos (k, nq), and move fixtures."""

    def draw_goal(self, ids: Tensor) -> None:
        """Set `target_pos` (and `target_quat`) of new episodes."""
        raise NotImplementedError(f"{type(self).__name__} must define draw_goal(ids)")

    def solved_now(self) -> Tensor:
        """(N,) bool: the goal is reached at this moment."""
        raise NotImplementedError(f"{type(self).__name__} must define solved_now()")

    def task_rewards(self) -> dict[str, Tensor]:
        """Dense terms by the names of `ManipulationReward`, besides those that every task has."""
        raise NotImplementedError(f"{type(self).__name__} must define task_rewards()")

    def distance(self) -> Tensor:
        """(N,) m that are missing to the goal; a metric."""
        return (self.object_pos - self.target_pos).norm(dim=1)

    def lost(self) -> Tensor:
        """(N,) bool: it cannot be solved any more."""
        return torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    # The scene and the modules around the policy.

    def friction_geoms(self) -> Sequence[str]:
        return self.friction_of

    def sensors_felt(self) -> Sequence[str]:
        return ("wrist_force",)

    def object_bodies(self) -> Sequence[str]:
        return self.mass_of

    def _robot_bodies(self) -> list[str]:
        names = super()._robot_bodies()
        return ["hand", *(n for n in names if n != "hand")]

    def make_observer(self) -> Observer:
        self._all_seeing = self._observer_of(self.task.signals).to(self.device)
        hidden = POSES if self.options.camera.instead else ()
        return self._observer_of(tuple(s for s in self.task.signals if s.name not in hidden))

    def _observer_of(self, signals: tuple[Signal, ...]) -> Observer:
        dim = 3 + self.turns + self.grips
        return ManipulationObserver(signals, (*CENTRE, 0.2), dim, self.fold, self.options.fine)

    def make_action_map(self) -> ActionMap:
        o, joint_pos = self.options, next(s for s in self.task.signals if s.name == "joint_pos")
        rest = self.robot.default_pose[: joint_pos.shape[0]]
        return EndEffectorActionMap(
            self.model, self.task.commands, joint_pos, rest, self.lower, self.upper, o.step_size, o.turn_size,
            self.turns, self.grips, self.width,
        )  # fmt: skip

    def _allocate(self) -> None:
        super()._allocate()
        n, device = self.num_envs, self.device
        self._arm = len(self.robot.joints) - len(self.robot.gripper)
        self._hand_mass = float(self.model.body_subtreemass[self.model.body("hand").id])
        self._gravity = torch.tensor([[0.0, 0.0, -9.81]], device=device)
        self._box = tuple(torch.tensor(v, device=device) for v in (self.lower, self.upper))
        self._hold_steps = max(1, round(self.options.hold_s / self.control_dt))
        self._qpos0 = torch.as_tensor(self.model.qpos0.copy(), dtype=torch.float32, device=device)
        self._starts = self._starting_poses()
        self._fixed = any(self.model.body(b).name == scenes.FIXTURE for b in range(self.model.nbody))
        self._has_object = any(s.name == "object_pos_w" for s in self.task.signals)
        upright = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device)
        self.target_pos, self.target_quat = torch.zeros(n, 3, device=device), upright.repeat(n, 1)
        self.fixture_pos, self.fixture_quat = torch.zeros(n, 3, device=device), upright.repeat(n, 1)
        self.force = torch.zeros(n, 3, device=device)
        self.held = torch.zeros(n, dtype=torch.long, device=device)
        self.solved = torch.zeros(n, dtype=torch.bool, device=device)
        self.object_bias, self.target_bias = torch.zeros(n, 3, device=device), torch.zeros(n, 3, device=device)
        self.cameras = Cameras(self.options.camera, self.model)
        self.looks = torch.zeros(n, self.cameras.look_dim, device=device)

    @torch.no_grad()
    def restart(self, ids: Tensor) -> dict[str, Tensor]:
        """End the episodes of simulations `ids` (k,) now and begin new ones; observations (N, …) of all."""
        self._reset(ids)
        return self._observations()

    # State, read from the physics.

    @property
    def arm_pos(self) -> Tensor:
        """(N, 7) rad."""
        return self.joint_pos[:, : self._arm]

    @property
    def arm_vel(self) -> Tensor:
        """(N, 7) rad/s."""
        return self.joint_vel[:, : self._arm]

    @property
    def gripper_width(self) -> Tensor:
        """(N, 1) m between the finger pads."""
        return self.joint_pos[:, self._arm :].sum(1, keepdim=True)

    @property
    def ee_pos(self) -> Tensor:
        """(N, 3) m: middle of the finger pads."""
        return self.sensor("ee_pos")

    @property
    def object_pos(self) -> Tensor:
        """(N, 3) m."""
        return self.sensor("object_pos")

    def grasped(self) -> Tensor:
        """(N,) bool: both finger pads feel something."""
        left, right = self.force_sensor("left_pad_force"), self.force_sensor("right_pad_force")
        return (torch.minimum(left, right) > GRASPED)[:, 0]

    def true_signals(self) -> dict[str, Tensor]:
        return {"joint_pos": self.arm_pos, "joint_vel": self.arm_vel, **self.task_signals()}

    def task_signals(self) -> dict[str, Tensor]:
        known = {
            "ee_pos_w": lambda: self.ee_pos,
            "ee_quat_wxyz": lambda: self.sensor("ee_quat"),
            "ee_force_b": lambda: self.force,
            "gripper_width": lambda: self.gripper_width,
            "object_pos_w": lambda: self.object_pos,
            "object_quat_wxyz": lambda: self.sensor("object_quat"),
            "target_pos_w": lambda: self.target_pos,
            "target_quat_wxyz": lambda: self.target_quat,
        }
        return {s.name: known[s.name]() for s in self.task.signals if s.name in known}

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        o, out, n = self.options.noise, dict(signals), self.num_envs
        sizes = {
            "joint_pos": o.joint_pos, "joint_vel": o.joint_vel, "ee_force_b": o.force, "object_pos_w": o.object_pos,
        }  # fmt: skip
        for name, size in sizes.items():
            if name in out and o.scale * size > 0:
                out[name] = out[name] + o.scale * size * self.normal(*out[name].shape)
        for name, bias in (("object_pos_w", self.object_bias), ("target_pos_w", self.target_bias)):
            if name in out:
                out[name] = out[name] + bias
        if "object_quat_wxyz" in out and o.scale * o.object_angle > 0:
            turn = from_yaw(o.scale * o.object_angle * self.normal(n))
            out["object_quat_wxyz"] = quat_mul(turn, out["object_quat_wxyz"])
        return out

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1) of that shape from the environment's generator."""
        return torch.randn(*shape, generator=self._generator, device=self.device)

    def signals(self) -> dict[str, Tensor]:
        """The task's signals, and pictures where `camera.size` asks for them: rendered now."""
        if self.options.camera.size == 0:
            return self._signals
        pictures = self.cameras.pictures(self.physics.qpos, self.fixture_pos, self.fixture_quat, self.looks)
        return {**self._signals, **pictures}

    @property
    def pictures(self) -> tuple[Signal, ...]:
        """The pictures among `signals()`."""
        return self.cameras.signals

    def critic(self) -> Tensor:
        """What the policy may know, without errors, then velocities, contacts, time left and the drives' delay."""
        seen, _ = self._all_seeing(self.true_signals(), self._memory)
        parts = [
            seen, self.arm_pos - self.default_pose[: self._arm], self.sensor("ee_vel"), self.sensor("ee_ang_vel"),
            0.1 * self.force_sensor("left_pad_force"), 0.1 * self.force_sensor("right_pad_force"),
            0.05 * self.force, self.held[:, None] / self._hold_steps, self._delay[:, None] / 0.02,
            1.0 - self.episode_step[:, None] / self.max_episode_steps,
        ]  # fmt: skip
        if self._has_object:
            parts += [self.object_pos, self.sensor("object_vel"), 0.2 * self.sensor("object_ang_vel")]
        return torch.cat(parts, dim=1)

    # Rewards, costs, ends.

    def rewards(self) -> dict[str, Tensor]:
        failed = self.over & ~self.solved
        return {
            **self.task_rewards(),
            "success": self.solved.float(),
            "action_rate": terms.action_rate(self.action, self.previous_action),
            "joint_speed": terms.joint_speed(self.arm_vel),
            "force": terms.excess(self.force.norm(dim=1), self.options.cost.force),
            "failure": failed.float() / self.control_dt,
        }

    def shaped(self, total: Tensor) -> Tensor:
        return self.solved.float() / self.control_dt if self.options.reward_kind == SPARSE else total

    def costs(self) -> dict[str, Tensor]:
        o, (lower, upper) = self.options.cost, self._box
        return {
            "force": terms.excess(self.force.norm(dim=1), o.force),
            "joint_speed": terms.excess(self.arm_vel.abs().amax(1), o.joint_speed),
            "workspace": terms.excess(terms.outside_box(self.ee_pos, lower, upper), o.workspace),
        }

    def failed(self) -> Tensor:
        """Pressed too hard, or lost; with a sparse reward solving the task ends the episode too."""
        ended = (self.force.norm(dim=1) > self.options.too_much) | self.lost()
        return ended | self.solved if self.options.reward_kind == SPARSE else ended

    def succeeded(self) -> Tensor:
        return self.solved

    def metrics(self) -> dict[str, Tensor]:
        """`solved` 0 or 1; `distance` m; `force` N at the wrist; `speed` rad/s of the fastest joint."""
        force, speed = self.force.norm(dim=1), self.arm_vel.abs().amax(1)
        return {"solved": self.solved.float(), "distance": self.distance(), "force": force, "speed": speed}

    # What happens over time.

    def targets(self, commands: Mapping[str, Tensor]) -> Tensor:
        arm, width = (commands[c.name] for c in self.task.commands)
        fingers = len(self.robot.gripper)
        return torch.cat([arm, (width / fingers).expand(-1, fingers)], dim=1)

    def held_commands(self, ids: Tensor) -> dict[str, Tensor]:
        """A gripper that the policy does not move holds already what it holds."""
        arm, width = (c.name for c in self.task.commands)
        open_now = self.gripper_width[ids]
        return {arm: self.arm_pos[ids], width: open_now if self.grips else torch.full_like(open_now, self.width)}

    def _move(self, target: Tensor) -> None:
        """Besides moving, measure: the wrist holds the hand against gravity, inertia and what the world exerts."""
        before = self.sensor("ee_vel").clone()
        super()._move(target)
        acceleration = (self.sensor("ee_vel") - before) / self.control_dt
        own = self._hand_mass * rotate_back(self.sensor("ee_quat"), acceleration - self._gravity)
        self.force = own - self.felt.sum(0) / self.options.decimation

    def advance_task(self) -> None:
        self.held = torch.where(self.solved_now(), self.held + 1, 0)
        self.solved = self.held >= self._hold_steps

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        k = len(ids)
        qpos = self._qpos0.repeat(k, 1)
        qpos[:, self._qpos_ids] = self.default_pose
        row = torch.randint(STARTS, (k,), generator=self._generator, device=self.device)
        qpos[:, self._qpos_ids[: self._arm]] = self._starts[row]
        qpos[:, self._qpos_ids[self._arm :]] = 0.5 * self.start_width
        self.place(ids, qpos)
        return qpos, torch.zeros(k, self.model.nv, device=self.device)

    def _starting_poses(self) -> Tensor:
        """(STARTS, 7) rad: the gripper straight down, anywhere in a box about where the default pose has it."""
        chain = KinematicChain(self.model, "ee").to(self.device)
        rest = self.default_pose[: self._arm].expand(STARTS, -1)
        half, generator = self.options.start_noise, torch.Generator().manual_seed(0)
        shift = half * (2.0 * torch.rand(STARTS, 3, generator=generator) - 1.0).to(self.device)
        solver = InverseKinematics(chain, self.robot.default_pose[: self._arm], iterations=20).to(self.device)
        return solver(rest, chain(rest)[0] + shift, pointing_down(torch.zeros(STARTS, device=self.device)))

    def start_task(self, ids: Tensor) -> None:
        o, k = self.options, len(ids)
        for name in ("force", "held", "solved"):
            value = getattr(self, name)
            setattr(self, name, value.index_fill(0, ids, 0))
        noise = o.noise
        for name, size in (("object_bias", noise.object_bias), ("target_bias", noise.target_pos)):
            setattr(self, name, getattr(self, name).index_copy(0, ids, noise.scale * size * self.normal(k, 3)))
        if self.cameras.look_dim > 0:
            self.looks = self.looks.index_copy(0, ids, self.uniform(-1.0, 1.0, k, self.cameras.look_dim))
        self.draw_goal(ids)

    # What can be seen and moved.

    def goal_pose(self) -> Tensor:
        return torch.cat([self.target_pos, self.target_quat], dim=1)

    def placed(self) -> dict[str, Tensor]:
        fixture = {scenes.FIXTURE: torch.cat([self.fixture_pos, self.fixture_quat], dim=1)} if self._fixed else {}
        return super().placed() | fixture

    def set_goal_pose(self, pose: Tensor) -> None:
        """Besides: a goal at a fixture cannot be moved without it."""
        if self._fixed:
            super().set_goal_pose(pose)
        self.target_pos = pose[:3].to(self.target_pos).repeat(self.num_envs, 1)

    # Helpers of the tasks.

    def in_area(self, half: tuple[float, float], height: Tensor | float, k: int) -> Tensor:
        """(k, 3) m, uniform in a rectangle about the middle of the workspace."""
        points = torch.empty(k, 3, device=self.device)
        for axis in range(2):
            points[:, axis] = CENTRE[axis] + self.uniform(-half[axis], half[axis], k)
        points[:, 2] = height
        return points

    def set_goal(self, ids: Tensor, pos: Tensor) -> None:
        """Give simulations `ids` their target (k, 3)."""
        self.target_pos = self.target_pos.index_copy(0, ids, pos)

    def put_object(self, qpos: Tensor, pos: Tensor, quat: Tensor) -> None:
        """Write the loose object's pose (k, 3), (k, 4) into qpos (k, nq)."""
        start = int(self.model.joint("object_free").qposadr[0])
        qpos[:, start : start + 3], qpos[:, start + 3 : start + 7] = pos, quat

    def move_fixture(self, ids: Tensor, pos: Tensor, yaw: Tensor) -> None:
        """Let the fixture of simulations `ids` stand at (k, 3) m, turned by (k,) rad."""
        quat = from_yaw(yaw)
        self.fixture_pos = self.fixture_pos.index_copy(0, ids, pos)
        self.fixture_quat = self.fixture_quat.index_copy(0, ids, quat)
        body = self.model.body(scenes.FIXTURE).id
        for field, value in (("body_pos", pos), ("body_quat", quat)):
            nominal = torch.as_tensor(getattr(self.model, field).copy(), dtype=torch.float32, device=self.device)
            rows = nominal.expand(len(ids), *nominal.shape).clone()
            rows[:, body] = value
            self.physics.set_field(ids, field, rows)
