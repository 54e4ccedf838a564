"""The batched environment that all tasks with joints and contacts share; a task family is a subclass.

One control step: action → action map → target → latency → `decimation` × (drive, physics) → signals → reward, cost,
end → automatic reset. What is random comes from one generator. N = num_envs first in every array.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.observer import ActionMap, Observer, initial_memory
from robot_rl.protocols import Step
from robot_rl.registry import load
from robot_rl.sim.articulated.actuators import Gains, make_actuator
from robot_rl.sim.articulated.command_limits import CommandLimits
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.lean import strip
from robot_rl.sim.articulated.options import ArticulatedOptions
from robot_rl.sim.articulated.pushes import Pushes
from robot_rl.sim.articulated.randomize import Randomizer
from robot_rl.sim.articulated.scene import FLOOR, compile_scene
from robot_rl.sim.articulated.sensors import Sensors
from robot_rl.sim.articulated.steering import Steerable
from robot_rl.sim.delay import DelayLine
from robot_rl.sim.device import torch_device

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.task_spec import TaskSpec

JITTER_SIGMAS = 4.0  # the delay line holds this much of the jitter; more is cut off


class ArticulatedEnv(Steerable):
    """N robots with joints doing one task; satisfies `robot_rl.protocols.BatchedEnv`.

    A family defines `make_observer`, `make_action_map`, `sample_state`, `task_signals`, `critic`, `rewards`, `failed`,
    and where it has them `scene`, `sensors_read`, `sensors_felt`, `friction_geoms`, `object_bodies`, `start_task`,
    `advance_task`, `sensed`, `costs`, `shaped`, `metrics` and `succeeded`. They read `physics`, `sensor()` and this.

    Attributes:
        task, options, robot: what was asked for.
        model, physics: the scene to look at, N simulations of it; `physics.model` has other geoms and sensors.
        observer, action_map: torch modules, shared with the exported policy.
        joint_pos, joint_vel: (N, J) true joint positions and velocities, rad, rad/s, in the robot's order.
        torque: (N, J) N m, what the drives gave in the last physics step (targets where the PD is built in).
        action, previous_action: (N, A) of this and the last control step; NaN-free, in [−1, 1].
        episode_step: (N,) control steps since the last reset; may be written to spread the resets.
        felt: (decimation, N, k) what `sensors_felt` read after each physics step of this control step.
        over: (N,) bool, what `failed` said in this control step; for rewards and costs. final_signals: `signals()` of
            this control step, before episodes that had ended began anew; final_success: what `succeeded` said then.
    """

    buffers: tuple[str, ...] = (
        "torque", "action", "previous_action", "episode_step", "_delay", "_policy_obs", "_critic",
    )  # fmt: skip
    """Names of tensor attributes that belong to the state; a family adds its own."""
    parts = ("physics", "randomizer", "pushes", "_commands", "_limits")
    """Names of attributes with a state of their own."""

    def __init__(self, task: TaskSpec, num_envs: int, seed: int, device: str | torch.device = "cpu") -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs = {num_envs}; it must be ≥ 1")
        self.task, self.num_envs, self.device = task, num_envs, torch_device(device)
        self.options: ArticulatedOptions = task.options
        o = self.options
        self.control_dt, self.max_episode_steps = o.control_dt, max(1, round(o.episode_s / o.control_dt))
        self.robot: JointedRobot = load("robot", task.robot).parameters(o.parameters)
        scene, physics_dt = self.scene(), o.control_dt / o.decimation
        self.model: mujoco.MjModel = compile_scene(scene, physics_dt)
        strip(scene, self.sensors_read())
        seen = compile_scene(scene, physics_dt)
        self.physics = load("physics", o.physics)(seen, num_envs, str(self.device), o.threads)
        self.sensors = Sensors(self.physics)
        self._felt_columns = self.sensors.columns(self.sensors_felt())
        self._qpos_ids = torch.tensor([self.model.joint(j).qposadr[0] for j in self.robot.joints], device=self.device)
        self._qvel_ids = torch.tensor([self.model.joint(j).dofadr[0] for j in self.robot.joints], device=self.device)
        self._actuated_qpos = torch.tensor(
            [self.model.jnt_qposadr[joint] for joint in self.model.actuator_trnid[:, 0]], device=self.device
        )
        self._generator = torch.Generator(self.device)
        self.gains = Gains(self.robot, num_envs, self.device)
        self.actuator = make_actuator(o.actuator, self.robot, num_envs, self.device)
        self.randomizer = Randomizer(
            o.randomize, self.robot, self.physics, self.gains, self._robot_bodies(), self.friction_geoms(),
            self._generator, self.object_bodies(),
        )  # fmt: skip
        self.pushes = Pushes(o.push, self.robot, self.physics, o.control_dt, self._generator)
        self.observer, self.action_map = self.make_observer().to(self.device), self.make_action_map().to(self.device)
        self._allocate()
        self.reset(seed)

    # What a family defines.

    def scene(self) -> mujoco.MjSpec:
        """The robot and its surroundings; default: as the task says."""
        return self.task.make_scene(self.robot)

    def friction_geoms(self) -> Sequence[str]:
        """Names of the geoms whose friction `randomize.friction` sets; default: the floor."""
        return (FLOOR,)

    def sensors_read(self) -> Sequence[str] | None:
        """Names of the MJCF sensors that the task reads; the others are not computed. Default: None, all."""
        return None

    def sensors_felt(self) -> Sequence[str]:
        """Names of sensors of forces whose readings of every physics step are wanted in `felt`; default: none."""
        return ()

    def object_bodies(self) -> Sequence[str]:
        """Names of the bodies whose mass `randomize.object_mass` scales; default: none."""
        return ()

    def make_observer(self) -> Observer:
        """What the policy sees; exported with it."""
        raise NotImplementedError(f"{type(self).__name__} must define make_observer()")

    def make_action_map(self) -> ActionMap:
        """From actions to the task's commands; exported with the policy. The first command is the joint target."""
        raise NotImplementedError(f"{type(self).__name__} must define make_action_map()")

    def sample_state(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Starting states qpos (k, nq), qvel (k, nv) of new episodes."""
        raise NotImplementedError(f"{type(self).__name__} must define sample_state(ids)")

    def start_task(self, ids: Tensor) -> None:
        """Commands, goals and counters of new episodes; the physics is in its starting state already."""
        del ids

    def advance_task(self) -> None:
        """Once per control step after the physics, before rewards: contact timers, new goals."""

    def task_signals(self) -> dict[str, Tensor]:
        """True signals besides `joint_pos` and `joint_vel`: name → (N, …)."""
        return {}

    def sensed(self, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same with the sensors' errors added (encoder offsets are in already)."""
        return signals

    def critic(self) -> Tensor:
        """The critic's noise-free, privileged view (N, m)."""
        raise NotImplementedError(f"{type(self).__name__} must define critic()")

    def rewards(self) -> dict[str, Tensor]:
        """Unweighted terms (N,) by the names of `options.reward`."""
        raise NotImplementedError(f"{type(self).__name__} must define rewards()")

    def shaped(self, total: Tensor) -> Tensor:
        """The reward per second (N,) from the weighted sum of the terms."""
        return total

    def costs(self) -> dict[str, Tensor]:
        """Named constraint violations (N,), ≥ 0, in the unit of what is violated."""
        return {}

    def failed(self) -> Tensor:
        """(N,) bool: the episode is over and nothing comes after it."""
        raise NotImplementedError(f"{type(self).__name__} must define failed()")

    def metrics(self) -> dict[str, Tensor]:
        """What an evaluation averages over the steps of an episode: name → (N,). Also logged."""
        return {}

    def succeeded(self) -> Tensor:
        """(N,) bool, asked at the last step of an episode; default: it did not fail."""
        return ~self.failed()

    # What they share.

    @property
    def joint_pos(self) -> Tensor:
        return self.physics.qpos.index_select(1, self._qpos_ids)

    @property
    def joint_vel(self) -> Tensor:
        return self.physics.qvel.index_select(1, self._qvel_ids)

    def sensor(self, name: str) -> Tensor:
        """(N, k) readings of the MJCF sensor `name`, one of `sensors_read`."""
        return self.sensors.read(name)

    def force_sensor(self, name: str) -> Tensor:
        """The same for a sensor of forces or accelerations, at no cost between the physics steps of a control step."""
        return self.sensors.read_raw(name)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """U(low, high) of that shape from the environment's generator."""
        return low + (high - low) * torch.rand(*shape, generator=self._generator, device=self.device)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        """Start all episodes anew; with a seed everything that follows is determined by it."""
        if seed is not None:
            self._generator.manual_seed(seed)
        self._reset(torch.arange(self.num_envs, device=self.device))
        if self.options.desync:
            top = self.max_episode_steps
            self.episode_step = torch.randint(top, (self.num_envs,), generator=self._generator, device=self.device)
        return self._observations()

    @torch.no_grad()
    def step(self, action: Tensor) -> Step:
        """One control step with action (N, A); clipped to [−1, 1]."""
        if action.shape != (self.num_envs, self.action_dim):
            raise ConfigError(f"action has shape {tuple(action.shape)}, expected {(self.num_envs, self.action_dim)}")
        self.previous_action = self.action
        self.action = torch.clamp(action.to(self.device, torch.float32), -1.0, 1.0)
        self._memory = self.observer.record(self._memory, self.action)
        return self._step(self.action_map.commands_for(self.action, self._signals, self._memory), observe=True)

    @torch.no_grad()
    def step_command(self, commands: Mapping[str, Tensor]) -> Step:
        """One control step with physical commands by name, as an exported policy gives them.

        The policy's observer is not run (`obs` has the critic's group only) and action terms of the reward are zero.

        Raises:
            ConfigError: a command is missing or has the wrong shape.
        """
        for command in self.task.commands:
            got, shape = {k: tuple(v.shape) for k, v in commands.items()}, (self.num_envs, len(command.elements))
            if got.get(command.name) != shape:
                raise ConfigError(f"expected command '{command.name}' of shape {shape}, got {got}")
        given = {k: torch.as_tensor(v, device=self.device, dtype=torch.float32) for k, v in commands.items()}
        return self._step(given, observe=False)

    def signals(self) -> dict[str, Tensor]:
        """What the sensors say at this step and what is asked for: name → (N, …), the task's signals."""
        return self._signals

    def true_signals(self) -> dict[str, Tensor]:
        """The same without noise, offsets and dropouts."""
        return {"joint_pos": self.joint_pos, "joint_vel": self.joint_vel, **self.task_signals()}

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened."""
        return {
            "num_envs": self.num_envs,
            "generator": self._generator.get_state(),
            **{name: getattr(self, name).state_dict() for name in self.parts},
            "memory": {k: v.clone() for k, v in self._memory.items()},
            "signals": {k: v.clone() for k, v in self._signals.items()},
            **{name: getattr(self, name).clone() for name in self.buffers},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError where the state belongs to another number of environments."""
        if state["num_envs"] != self.num_envs:
            raise ConfigError(f"the state is of {state['num_envs']} environments; this has {self.num_envs}")
        self._generator.set_state(state["generator"].cpu())
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        self._memory = {k: v.to(self.device).clone() for k, v in state["memory"].items()}
        self._signals = {k: v.to(self.device).clone() for k, v in state["signals"].items()}
        for name in self.buffers:
            setattr(self, name, state[name].to(self.device).clone())

    def _allocate(self) -> None:
        n, j, o = self.num_envs, len(self.robot.joints), self.options
        self.action_dim = self.action_map.action_dim
        self._weights = dataclasses.asdict(o.reward)  # type: ignore[attr-defined]
        self.default_pose = torch.tensor(self.robot.default_pose, device=self.device)
        self.torque = torch.zeros(n, j, device=self.device)
        self.felt = torch.zeros(o.decimation, n, len(self._felt_columns), device=self.device)
        self._times = self.physics.dt * torch.arange(o.decimation, device=self.device, dtype=torch.float64)
        self.action = torch.zeros(n, self.action_dim, device=self.device)
        self.previous_action = torch.zeros_like(self.action)
        self.episode_step = torch.zeros(n, dtype=torch.long, device=self.device)
        self.over = torch.zeros(n, dtype=torch.bool, device=self.device)
        self._delay = torch.zeros(n, device=self.device)
        longest = o.latency.max + JITTER_SIGMAS * o.latency.jitter
        self._commands = DelayLine(self.model.nu, n, longest, o.control_dt, self.device)
        self._limits = CommandLimits(self.task.commands, n, o.control_dt, self.device)
        self._memory = initial_memory(self.observer.memory, n, self.device)
        self._policy_obs = torch.zeros(n, self.observer.obs_dim, device=self.device)
        self._signals: dict[str, Tensor] = {}
        self._critic = torch.zeros(n, 0, device=self.device)
        self.obs_dims = {"policy": self.observer.obs_dim, "critic": 0}

    def _robot_bodies(self) -> list[str]:
        """Names of the robot's own bodies, the one that carries a load first."""
        names = [b.name for b in self.robot.spec().bodies if b.name != "world"]
        first = self.robot.base or names[-1]
        return [first, *(n for n in names if n != first)]

    def _step(self, commands: Mapping[str, Tensor], observe: bool) -> Step:
        self.pushes.advance()
        self._move(self.targets(self._limits(commands)))
        self.episode_step = self.episode_step + 1
        self.advance_task()
        broken = self.physics.unstable
        self.over = self.failed()
        terminated = self.over | broken
        truncated = (self.episode_step >= self.max_episode_steps) & ~terminated
        terms = self.rewards()
        values = torch.stack(list(terms.values()))
        weights = torch.tensor([self._weights[name] for name in terms], device=self.device)[:, None]
        reward = torch.where(broken, 0.0, self.control_dt * self.shaped((weights * values).sum(0)))
        log = dict(zip((f"reward/{name}" for name in terms), values.mean(1).unbind(0), strict=True))
        log |= {name: value.mean() for name, value in self.metrics().items()}
        cost = self.costs()
        self._look(observe)
        obs, self.final_signals = self._observations(observe), self._signals
        final_obs, ids = obs, (terminated | truncated).nonzero()[:, 0] if self.options.auto_reset else ()
        if len(ids) > 0:
            self.final_success = self.succeeded()
            final_obs = {k: v.clone() for k, v in obs.items()}
            self._reset(ids)
            obs = self._observations(observe)
        return Step(obs, reward, cost, terminated, truncated, final_obs, log)

    def targets(self, commands: Mapping[str, Tensor]) -> Tensor:
        """Commands by name → what the model's actuators are told, (N, nu)."""
        return torch.cat([commands[c.name] for c in self.task.commands], dim=1)

    def held_commands(self, ids: Tensor) -> dict[str, Tensor]:
        """What keeps simulations `ids` where they are, name → (k, elements)."""
        return {self.task.commands[0].name: self.joint_pos[ids]}

    def _move(self, target: Tensor) -> None:
        """One control step of physics towards targets that the drives get to know after their delay."""
        self._commands.push(target.T)
        held, offset = target.expand(self.options.decimation, -1, -1), self.randomizer.joint_offset
        if self._commands.needed:
            delay = self._delay
            if self.options.latency.jitter > 0:
                late = torch.randn(self.num_envs, generator=self._generator, device=self.device).abs()
                delay = delay + self.options.latency.jitter * torch.clamp(late, max=JITTER_SIGMAS)
            held = self._commands.during(delay, self._times)
        if self.robot.builtin_pd:  # such drives know the joints' true angles, the policy those of the encoders
            held = held - torch.nn.functional.pad(offset, (0, held.shape[2] - offset.shape[1]))
            self.felt, self.torque = self.physics.run(held, self._felt_columns), held[-1, :, : offset.shape[1]]
            return
        felt: list[Tensor] = []
        for wanted in held.unbind(0):
            self.torque = self.actuator.torque(wanted, self.joint_pos + offset, self.joint_vel, self.gains)
            self.physics.step(self.torque)
            felt.append(self.physics.raw_sensordata.index_select(1, self._felt_columns))
        self.felt = torch.stack(felt)

    def _reset(self, ids: Tensor) -> None:
        self.randomizer.draw(ids)
        qpos, qvel = self.sample_state(ids)
        self.physics.set_state(ids, qpos, qvel)
        # Fresh tensors, not writes in place: what was handed out earlier must not change.
        self.episode_step = self.episode_step.index_fill(0, ids, 0)
        for name in ("action", "previous_action", "torque"):
            setattr(self, name, getattr(self, name).index_fill(0, ids, 0.0))
        if self._commands.needed:
            start = self.physics.qpos[ids][:, self._actuated_qpos] if self.robot.builtin_pd else self.joint_pos[ids]
            self._commands.fill(ids, start.T)
            low, high = self.options.latency.min, self.options.latency.max
            self._delay[ids] = self.uniform(low, high, len(ids))
        self._limits.start(ids, self.held_commands(ids))
        self.actuator.reset(ids)
        self.pushes.reset(ids)
        self.start_task(ids)
        fresh = initial_memory(self.observer.memory, len(ids), self.device)
        self._memory = {k: v.index_copy(0, ids, fresh[k]) for k, v in self._memory.items()}
        self._look_first(ids)

    def _look(self, observe: bool) -> None:
        """Read the sensors, then let the observer and the critic see."""
        now, p = self._measured(), self.options.dropout
        if p > 0:
            lost = torch.rand(self.num_envs, generator=self._generator, device=self.device) < p
            now = {k: torch.where(lost.reshape(-1, *[1] * (v.dim() - 1)), self._signals[k], v) for k, v in now.items()}
        self._signals = now
        self._critic = self.critic()
        if observe:
            self._policy_obs, self._memory = self.observer(now, self._memory)

    def _look_first(self, ids: Tensor) -> None:
        """The same for new episodes only; the others have looked at this step already."""
        now = self._measured()
        if not self._signals:
            self._signals = now
        self._signals = {k: v.index_copy(0, ids, now[k][ids]) for k, v in self._signals.items()}
        self._critic = self._critic.index_copy(0, ids, self.critic()[ids]) if self._critic.numel() else self.critic()
        obs, memory = self.observer({k: v[ids] for k, v in now.items()}, {k: v[ids] for k, v in self._memory.items()})
        self._policy_obs = self._policy_obs.index_copy(0, ids, obs)
        self._memory = {k: v.index_copy(0, ids, memory[k]) for k, v in self._memory.items()}
        self.obs_dims = {"policy": self.observer.obs_dim, "critic": self._critic.shape[1]}

    def _measured(self) -> dict[str, Tensor]:
        signals = self.true_signals()
        offset = self.randomizer.joint_offset[:, : signals["joint_pos"].shape[1]]  # a gripper's fingers are not in it
        signals["joint_pos"] = signals["joint_pos"] + offset
        return self.sensed(signals)

    def _observations(self, policy: bool = True) -> dict[str, Tensor]:
        return {"policy": self._policy_obs, "critic": self._critic} if policy else {"critic": self._critic}
