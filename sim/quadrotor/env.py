"""The batched flight environment: vehicles, sensors, delays and set-points joined into control steps with rewards.

What each part does is in its own file: `equations`, `backend`, `delay`, `sensors`, `surroundings`, `targets`,
`randomize`, `terms`. Inside, arrays are component-first (rows, N); signals, observations, actions and rewards have N
first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.observer import initial_memory
from robot_rl.protocols import Step
from robot_rl.registry import load
from robot_rl.sim.delay import DelayLine
from robot_rl.sim.device import torch_device
from robot_rl.sim.quadrotor import terms
from robot_rl.sim.quadrotor.backend import make_stepper
from robot_rl.sim.quadrotor.equations import PARAM_SIZE, ROTOR_SPEED_MAX, STATE, STATE_SIZE
from robot_rl.sim.quadrotor.observers import make_action_map, make_observer
from robot_rl.sim.quadrotor.options import FlightOptions, RewardWeights
from robot_rl.sim.quadrotor.params import FORCE, GROUND_Z, TORQUE
from robot_rl.sim.quadrotor.randomize import sample_disturbance, sample_start, sample_vehicles, uniform
from robot_rl.sim.quadrotor.sensors import Sensors
from robot_rl.sim.quadrotor.surroundings import Surroundings
from robot_rl.sim.quadrotor.targets import Targets
from robot_rl.sim.task_spec import TaskSpec, make_env

__all__ = ["QuadrotorEnv", "make_env", "make_quadrotor_env"]

JITTER_SIGMAS = 4.0  # the delay line holds this much of the jitter; more is cut off
_TENSORS = ("state", "params", "delay", "episode_step", "sensed", "critic", "policy_obs")


class QuadrotorEnv:
    """N quadrotors doing one task; satisfies `robot_rl.protocols.BatchedEnv`.

    Attributes:
        task, options, vehicle: what was asked for; the vehicle before randomisation.
        observer, action_map: torch modules, shared with the exported policy.
        state: (17, N); params: (P, N), this episode's vehicles; both as in `equations.py`.
        episode_step: (N,) control steps since the last reset; may be written to spread the resets.
        final_signals: `signals()` of the last step in which episodes ended, before they began anew.
    """

    action_dim = 4

    def __init__(self, task: TaskSpec, num_envs: int, seed: int, device: str | torch.device = "cpu") -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs = {num_envs}; it must be ≥ 1")
        self.task, self.num_envs, self.device = task, num_envs, torch_device(device)
        self.options: FlightOptions = task.options
        o = self.options
        self.control_dt, self.max_episode_steps = o.control_dt, max(1, round(o.episode_s / o.control_dt))
        robot = load("robot", task.robot)
        self.vehicle = robot.parameters(o.vehicle)
        self.observer = make_observer(o.observer, robot.parameters()).to(self.device)
        self.action_map = make_action_map(o.action_map, task.commands[0]).to(self.device)
        self.obs_dims = {"policy": self.observer.obs_dim, "critic": terms.CRITIC_SIZE}
        self._weights = o.reward
        self.stepper = make_stepper(o.backend, self.device)
        self._check_rate()
        self._generator = torch.Generator(self.device)
        self._entries: slice | None = getattr(self.observer, "rotation_entries", None)
        self._sensors = Sensors(o, num_envs, self._generator, attitude_noise=self._entries is None)
        self._surroundings = Surroundings(o, num_envs, self._generator)
        self._targets = Targets(o.reference, num_envs, o.control_dt, self._generator)
        longest = o.delay.max + JITTER_SIGMAS * o.delay.jitter
        self._commands = DelayLine(4, num_envs, longest, o.control_dt, self.device)
        self._allocate()
        self.reset(seed)

    def reset(self, seed: int | None = None) -> dict[str, Tensor]:
        """Start all episodes anew; with a seed everything that follows is determined by it."""
        if seed is not None:
            self._generator.manual_seed(seed)
        ids = torch.arange(self.num_envs, device=self.device)
        self._reset(ids)
        if self.options.desync:
            top = self.max_episode_steps
            self.episode_step = torch.randint(top, (self.num_envs,), generator=self._generator, device=self.device)
        return self._observations()

    @property
    def reward_weights(self) -> dict[str, float]:
        """Name → number; set it to change the reward from the next step on."""
        return dataclasses.asdict(self._weights)

    @reward_weights.setter
    def reward_weights(self, weights: Mapping[str, float]) -> None:
        self._weights = _reward_weights(weights)

    @torch.no_grad()
    def step(self, action: Tensor) -> Step:
        """One control step with action (N, 4); clipped to [−1, 1]."""
        if action.shape != (self.num_envs, self.action_dim):
            raise ConfigError(f"action has shape {tuple(action.shape)}, expected {(self.num_envs, self.action_dim)}")
        action = torch.clamp(action.to(self.device, torch.float32), -1.0, 1.0)
        self._memory = self.observer.record(self._memory, action)
        (command,) = self.action_map(action).values()
        return self._step(command, observe=True)

    @torch.no_grad()
    def step_command(self, commands: Mapping[str, Tensor]) -> Step:
        """One control step with physical commands by name, as an exported policy gives them: (N, 4) rad/s.

        The policy's observer is not run: `obs` has the critic's group only.

        Raises:
            ConfigError: a command is missing or has the wrong shape.
        """
        name = self.task.commands[0].name
        command = commands.get(name)
        if command is None or tuple(command.shape) != (self.num_envs, 4):
            got = {k: tuple(v.shape) for k, v in commands.items()}
            raise ConfigError(f"expected command '{name}' of shape {(self.num_envs, 4)}, got {got}")
        command = torch.as_tensor(command, device=self.device, dtype=torch.float32)
        return self._step(command, observe=False)

    def signals(self) -> dict[str, Tensor]:
        """What the sensors say at this step and what is asked for: name → (N, k), the task's signals."""
        return self._signals(self._sensed, self._target_rows, self.num_envs)

    def true_signals(self) -> dict[str, Tensor]:
        """The same without noise, bias and latency, and `rotor_speed` (N, 4) rad/s."""
        values = self._signals(self.state, self._target_rows, self.num_envs)
        return values | {"rotor_speed": self.state[STATE["rotor"]].T * ROTOR_SPEED_MAX}

    def recalculate_reward(
        self, critic_obs: Tensor, action: Tensor, terminated: Tensor, weights: Mapping[str, float]
    ) -> Tensor:
        """The reward that `step` gives under `weights`: (B, 28) before the step, (B, 4), (B,) bool → (B,)."""
        (command,) = self.action_map(torch.clamp(action, -1.0, 1.0)).values()
        rotor_action = 2 * torch.clamp(command / ROTOR_SPEED_MAX, 0.0, 1.0) - 1
        return terms.reward(critic_obs, rotor_action, terminated, _reward_weights(weights), self._hover)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened."""
        parts = ("_sensors", "_surroundings", "_targets", "_commands")
        return {
            "num_envs": self.num_envs,
            "generator": self._generator.get_state(),
            "reward_weights": self.reward_weights,
            "memory": {k: v.clone() for k, v in self._memory.items()},
            **{name: getattr(self, _attribute(name)).clone() for name in _TENSORS},
            **{part.strip("_"): getattr(self, part).state_dict() for part in parts},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError where the state belongs to another number of environments or another observer."""
        obs_dim = state["policy_obs"].shape[1]
        if state["num_envs"] != self.num_envs or obs_dim != self.obs_dims["policy"]:
            raise ConfigError(
                f"the state is of {state['num_envs']} environments with {obs_dim} observations; "
                f"this has {self.num_envs} with {self.obs_dims['policy']}"
            )
        self._generator.set_state(state["generator"].cpu())
        self.reward_weights = state["reward_weights"]
        self._memory = {k: v.to(self.device).clone() for k, v in state["memory"].items()}
        for name in _TENSORS:
            setattr(self, _attribute(name), state[name].to(self.device).clone())
        for part in ("_sensors", "_surroundings", "_targets", "_commands"):
            getattr(self, part).load_state_dict(state[part.strip("_")])

    def _allocate(self) -> None:
        n, device = self.num_envs, self.device
        self._hover = 2 * self.vehicle.hover_rotor - 1
        self._origin = torch.tensor([0.0, 0.0, self.options.altitude], device=device)[:, None]
        self.state = torch.zeros(STATE_SIZE, n, device=device)
        self.params = torch.zeros(PARAM_SIZE, n, device=device)
        self.episode_step = torch.zeros(n, dtype=torch.long, device=device)
        self._delay = torch.zeros(n, device=device)
        self._time_step = torch.full((1, 1), self.control_dt, device=device)
        self._sensed = torch.zeros(STATE["omega"].stop, n, device=device)
        self._critic = torch.zeros(n, terms.CRITIC_SIZE, device=device)
        self._policy_obs = torch.zeros(n, self.observer.obs_dim, device=device)
        self._memory = initial_memory(self.observer.memory, n, device)

    def _check_rate(self) -> None:
        reads_time = any(s.name == "time_step" for s in self.observer.signals)
        nominal = self.task.rate.control_dt
        if not reads_time and abs(self.control_dt - nominal) > 1e-9:
            raise ConfigError(
                f"observer '{self.options.observer}' works at control_dt = {nominal} s only, got {self.control_dt}"
            )

    @property
    def _target_rows(self) -> Tensor:
        return self._targets.rows

    def _step(self, command: Tensor, observe: bool) -> Step:
        before, rotor = self._critic, torch.clamp(command.T / ROTOR_SPEED_MAX, 0.0, 1.0)
        self._surroundings.apply(self.params, self.state, self.episode_step / self.max_episode_steps)
        self.state = self._moved(rotor)
        self.episode_step = self.episode_step + 1
        self._targets.advance(self.episode_step * self.control_dt)
        self._sensors.push(self.state)
        self._sensed = self._sensors.read()
        self._critic = self._critic_view(self.state, self.params, self._target_rows)
        if observe:
            self._observe()
        pos_error = self.state[STATE["pos"]] - self._origin - self._target_rows[0:3]
        off_axis, speed = pos_error.abs().amax(0), terms.length(self.state[STATE["vel"]])
        body_rate = terms.length(self.state[STATE["omega"]])
        terminated = terms.failed(off_axis, speed, body_rate, self.options.termination)
        truncated = (self.episode_step >= self.max_episode_steps) & ~terminated
        reward = terms.reward(before, (2 * rotor - 1).T, terminated, self._weights, self._hover)
        limits = self.options.cost
        cost = {
            "box": terms.cost_box(off_axis, limits),
            "body_rate": terms.cost_body_rate(body_rate, limits),
            "tilt": terms.cost_tilt(self.state[STATE["quat"]], limits),
        }
        log = {"position_error": terms.length(pos_error).mean(), "body_rate": body_rate.mean()}
        final_obs = self._observations(observe)
        if self.options.auto_reset:
            ids = (terminated | truncated).nonzero()[:, 0]
            if len(ids) > 0:
                final_obs = {k: v.clone() for k, v in final_obs.items()}
                self.final_signals = {k: v.clone() for k, v in self.signals().items()}
                self._reset(ids)
        return Step(self._observations(observe), reward, cost, terminated, truncated, final_obs, log)

    def _moved(self, rotor: Tensor) -> Tensor:
        """The next state under rotor commands (4, N) given now, which the vehicle gets to know after its delay."""
        self._commands.push(rotor)
        if not self._commands.needed:
            return self.stepper(self.state, self.params, None, rotor, None, self.control_dt)
        delay, jitter = self._delay, self.options.delay.jitter
        if jitter > 0:
            late = torch.randn(self.num_envs, generator=self._generator, device=self.device).abs()
            delay = delay + jitter * torch.clamp(late, max=JITTER_SIGMAS)
        older, newer, switch = self._commands.at(delay)
        return self.stepper(self.state, self.params, older, newer, switch, self.control_dt)

    def _reset(self, ids: Tensor) -> None:
        o, n, g = self.options, len(ids), self._generator
        params = sample_vehicles(self.vehicle, o.randomize, n, g)
        params[GROUND_Z] = 0.0 if o.altitude > 0 else -1e3
        sample_disturbance(params, self.vehicle, o.disturbance, g)
        self._targets.reset(ids)
        target = self._targets.rows[:, ids]
        state = sample_start(o.reset, n, g)
        state[STATE["pos"]] += self._origin + target[0:3]
        state[STATE["vel"]] += target[3:6]
        # Fresh tensors, not writes in place: what was handed out earlier must not change.
        self.params = self.params.index_copy(1, ids, params)
        self.state = self.state.index_copy(1, ids, state)
        self.episode_step = self.episode_step.index_fill(0, ids, 0)
        if self._commands.needed:
            self._commands.fill(ids, state[STATE["rotor"]])
            self._delay[ids] = uniform((o.delay.min, o.delay.max), (n,), g)
        self._surroundings.reset(ids)
        self._sensors.reset(ids, state)
        sensed = self._sensors.first(ids)
        self._sensed = self._sensed.index_copy(1, ids, sensed)
        self._critic = self._critic.index_copy(0, ids, self._critic_view(state, params, target))
        self._observe_first(ids, sensed, target)

    def _critic_view(self, state: Tensor, params: Tensor, target: Tensor) -> Tensor:
        return terms.critic_observation(state, target[0:3] + self._origin, target[3:6], params[FORCE], params[TORQUE])

    def _signals(self, state: Tensor, target: Tensor, n: int) -> dict[str, Tensor]:
        rows = {
            "base_pos_w": state[STATE["pos"]],
            "base_quat_wxyz": state[STATE["quat"]],
            "base_lin_vel_w": state[STATE["vel"]],
            "base_ang_vel_b": state[STATE["omega"]],
            "target_pos_w": target[0:3] + self._origin,
            "target_lin_vel_w": target[3:6],
            "target_lin_acc_w": target[6:9],
            "target_yaw": target[9:10],
            "time_step": self._time_step.expand(1, n),
        }
        return {name: value.T for name, value in rows.items()}

    def _observe(self) -> None:
        obs, self._memory = self.observer(self.signals(), self._memory)
        self._policy_obs = self._with_entry_noise(obs)

    def _observe_first(self, ids: Tensor, sensed: Tensor, target: Tensor) -> None:
        fresh = initial_memory(self.observer.memory, len(ids), self.device)
        obs, memory = self.observer(self._signals(sensed, target, len(ids)), fresh)
        self._policy_obs = self._policy_obs.index_copy(0, ids, self._with_entry_noise(obs))
        self._memory = {k: v.index_copy(0, ids, memory[k]) for k, v in self._memory.items()}

    def _with_entry_noise(self, obs: Tensor) -> Tensor:
        if self._entries is None:
            return obs
        noise, size = self.options.noise, self._entries.stop - self._entries.start
        draw = torch.randn(len(obs), size, generator=self._generator, device=self.device)
        noisy = obs.clone()
        noisy[:, self._entries] += noise.scale * noise.attitude * draw
        return noisy

    def _observations(self, policy: bool = True) -> dict[str, Tensor]:
        return {"policy": self._policy_obs, "critic": self._critic} if policy else {"critic": self._critic}


def make_quadrotor_env(task: TaskSpec, num_envs: int, seed: int, device: str = "cpu") -> QuadrotorEnv:
    """What the flight tasks name as their environment."""
    return QuadrotorEnv(task, num_envs, seed, device)


def _reward_weights(weights: Mapping[str, float]) -> RewardWeights:
    known = [f.name for f in dataclasses.fields(RewardWeights)]
    for name in weights:
        if name not in known:
            raise UnknownName("reward weight", name, known)
    return RewardWeights(**weights)


def _attribute(name: str) -> str:
    return name if name in ("state", "params", "episode_step") else "_" + name
