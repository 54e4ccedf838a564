"""Teachers for distillation: a training run, an exported policy file or any function, asked for actions in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.contract import Memory
from robot_rl.errors import ConfigError
from robot_rl.observer import initial_memory
from robot_rl.policies.run_folder import RunFolder
from robot_rl.policies.runner import load_policy
from robot_rl.policy import Policy
from robot_rl.protocols import BatchedEnv

Actions = Callable[[Mapping[str, Tensor], dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""Observation groups and memory, both name → (N, …), to actions (N, A) and the following memory."""


class Teacher:
    """Gives actions in [−1, 1]; remembers what it must, for each environment.

    Args:
        actions: what to do.
        memory: what is remembered; initial values.
        num_envs, device: of the environments.
    """

    def __init__(self, actions: Actions, memory: tuple[Memory, ...], num_envs: int, device: torch.device) -> None:
        self.actions = actions
        self.initial = initial_memory(memory, num_envs, device)
        self.memory = dict(self.initial)

    @torch.no_grad()
    def act(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Actions (N, A) for the environments' present state, whose observations are given."""
        action, self.memory = self.actions(obs, self.memory)
        return action.clamp(-1.0, 1.0)

    def forget(self, done: Tensor) -> None:
        """Episodes have ended where done (N,)."""
        for name, value in self.memory.items():
            ended = done.reshape(-1, *[1] * (value.dim() - 1))
            self.memory[name] = torch.where(ended, self.initial[name], value)


def load_teacher(path: Path, group: str, env: BatchedEnv) -> Teacher:
    """The teacher in a run folder (it reads the observation group `group`) or in a policy file (it reads signals).

    Raises:
        ConfigError: it does not fit the environment.
        CheckpointError, ContractError: nothing there, or damaged.
    """
    if path.is_dir():
        return _from_run(path, group, env)
    return _from_file(path, env)


def from_function(function: Callable[[Tensor], Tensor] | nn.Module, group: str, env: BatchedEnv) -> Teacher:
    """A teacher from obs (N, n) of `group` → action (N, A), or an actor with explicit memory (see `DeployedPolicy`)."""
    memory: tuple[Memory, ...] = tuple(getattr(function, "memory", ()))

    def actions(obs: Mapping[str, Tensor], state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if memory:
            return function(obs[group], state)  # type: ignore[call-arg, return-value]
        return function(obs[group]), state

    return Teacher(actions, memory, env.num_envs, torch.device(env.device))


class _Resized:
    """An environment as an algorithm with another number of copies would see it; only for reading sizes."""

    def __init__(self, env: BatchedEnv, num_envs: int) -> None:
        self.env, self.num_envs = env, num_envs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


def _from_run(path: Path, group: str, env: BatchedEnv) -> Teacher:
    config = RunFolder(path).read_info()["config"]
    trained_on = config.get("actor_group", "policy")
    if trained_on != group:
        raise ConfigError(
            f"the teacher in {path} reads the observation group '{trained_on}', not '{group}'; "
            f"give --set teacher_group={trained_on}"
        )
    sized: Any = _Resized(env, int(config.get("num_envs", 1)))
    return from_function(load_policy(path, sized).to(env.device), group, env)


def _from_file(path: Path, env: Any) -> Teacher:
    """It runs in onnxruntime on the CPU. Its observer remembers its own actions, not those that were executed."""
    policy = Policy.load(path)
    if not hasattr(env, "signals") or not hasattr(env, "action_map"):
        raise ConfigError(
            f"{type(env).__name__} gives no signals(), which a policy file reads; give the run folder of the teacher"
        )
    device = torch.device(env.device)
    names, scale, offset = _inverse(env, device)
    contract = policy.contract
    missing = [c for c in names if c not in {command.name for command in contract.commands}]
    if missing:
        raise ConfigError(f"the teacher {path} does not give the commands {missing} of this environment")

    def actions(obs: Mapping[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        del obs  # A policy file has its own observer.
        values = env.signals()
        signals = {s.name: values[s.name].cpu().numpy() for s in contract.signals}
        commands, following = policy.step_from(signals, {k: v.cpu().numpy() for k, v in memory.items()})
        command = torch.cat([torch.as_tensor(commands[name], device=device) for name in names], -1)
        return (command - offset) / scale, {k: torch.as_tensor(v, device=device) for k, v in following.items()}

    return Teacher(actions, contract.memory, env.num_envs, device)


@torch.no_grad()
def _inverse(env: Any, device: torch.device) -> tuple[list[str], Tensor, Tensor]:
    """Commands' names, and scale and offset with command = scale · action + offset.

    Raises:
        ConfigError: the action map is not of that form.
    """
    size = env.action_dim
    read = [*(s.name for s in getattr(env.action_map, "signals", ())), *getattr(env.action_map, "memory", ())]
    if read:
        name = type(env.action_map).__name__
        raise ConfigError(f"commands of {name} depend on {read}; give the teacher's run folder instead")

    def command(action: Tensor) -> tuple[list[str], Tensor]:
        commands = env.action_map(action.to(device))
        return list(commands), torch.cat(list(commands.values()), -1)

    names, middle = command(torch.zeros(1, size))
    scale = command(torch.ones(1, size))[1] - middle
    probe = torch.linspace(-0.9, 0.7, 5)[:, None] * torch.linspace(0.3, 1.0, size)
    found = command(probe)[1]
    if found.shape[-1] != size or not torch.allclose(found, scale * probe.to(device) + middle, rtol=1e-4, atol=1e-4):
        raise ConfigError(
            f"commands of {type(env.action_map).__name__} cannot be turned back into actions one by one; "
            f"give the teacher's run folder instead of its policy file"
        )
    return names, scale, middle
