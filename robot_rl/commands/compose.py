"""How the folders fit together: from names to an environment, from a run to what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl import registry
from robot_rl.config import overlay
from robot_rl.contract import Rate
from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from robot_rl.contract import Contract
    from robot_rl.observer import ActionMap, Observer
    from robot_rl.policies.algorithm import AlgorithmSpec
    from robot_rl.signals import Signal
    from robot_rl.sim.task_spec import TaskSpec

SECTIONS = ("algorithm", "task", "runner", "async", "reward")
WITHIN_ALGORITHM = ("human",)
"""Parts of an algorithm's settings that may be named without it: `human.when` is `algorithm.human.when`."""


@dataclass(frozen=True)
class Trained:
    """A trained network with what goes around it on a robot."""

    task: TaskSpec
    observer: Observer
    actor: nn.Module
    action_map: ActionMap
    info: Mapping[str, Any]


def sections(changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Split `{"task.delay_max": 0, "lr": 1e-3}` into sections; keys without one belong to the algorithm.

    Raises:
        UnknownName: a dotted key whose first part is no section.
    """
    out: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if isinstance(value, Mapping) and key in SECTIONS:
            out[key] |= value
        elif not rest or head in WITHIN_ALGORITHM:
            out["algorithm"][key] = value
        elif head in SECTIONS:
            out[head][rest] = value
        else:
            raise UnknownName("configuration section", head, SECTIONS)
    return out


def make_environment(
    task: TaskSpec, spec: AlgorithmSpec, num_envs: int, seed: int, changes: Mapping[str, Any], device: str = "cpu"
) -> Any:
    """The environment an algorithm trains in: differentiable for gradient training, else the task's batched one."""
    if spec.task_overrides.get("differentiable"):
        return task.make_differentiable(num_envs, changes)
    merged = {**spec.task_overrides, **changes}
    return task.overridden(merged).make(num_envs, seed, device)


def judged(env: Any, changes: Mapping[str, Any]) -> Any:
    """`env`, or what section `reward` puts around it: a classifier that says when the task is solved.

    Raises:
        ConfigError: a setting outside its range, or a file that cannot judge this task.
    """
    from robot_rl.policies.classifier.reward import JudgedEnv, RewardOptions

    options = overlay(RewardOptions(), changes)
    return JudgedEnv(env, options) if options.classifier else env


def load_trained(folder: Path) -> Trained:
    """The newest checkpoint of a run with its observer and action map.

    Raises:
        CheckpointError: no run there, or nothing in it can be read.
    """
    from robot_rl.policies.algorithm import load_algorithm
    from robot_rl.policies.run_folder import RunFolder
    from robot_rl.policies.runner import load_policy

    info = RunFolder(folder).read_info()
    spec = load_algorithm(info["algorithm"])
    task: TaskSpec = registry.load("task", info["task"])
    changes = info.get("task_changes", {})
    config = overlay(spec.config_class(), info["config"])
    env = make_environment(task, spec, _num_envs(config), info["seed"], changes)
    actor, task = load_policy(folder, env), env.task if task.described_by_env else task
    return Trained(task, _with_pictures(env.observer, actor), actor, _action_map(task, env), info)


def _with_pictures(observer: Observer, actor: nn.Module) -> Observer:
    """What the actor sees: `observer`, and behind it the pictures that it asks for by an attribute `pictures`."""
    from robot_rl.observer import WithPictures

    pictures: tuple[Signal, ...] = tuple(getattr(actor, "pictures", ()))
    return WithPictures(observer, pictures) if pictures else observer


def _action_map(task: TaskSpec, env: Any) -> ActionMap:
    from robot_rl.sim.quadrotor.observers import make_action_map

    return env.action_map if hasattr(env, "action_map") else make_action_map("rotor", task.commands[0])


def rate_of(trained: Trained) -> Rate:
    """The task's rate; exactly its control_dt for an observer that is not told how much time passed."""
    rate = trained.task.rate
    if any(s.name == "time_step" for s in trained.observer.signals):
        return rate
    return Rate(rate.control_dt, rate.control_dt, rate.control_dt)


def _num_envs(config: Any) -> int:
    return int(getattr(config, "num_envs", 1))


def run_folder_of(path: Path) -> Path:
    """A run folder, also when its checkpoint or run.json was named."""
    for candidate in (path, path.parent, path.parent.parent):
        if (candidate / "run.json").is_file():
            return candidate
    raise ConfigError(f"{path} is not a run folder: there is no run.json; `robot-rl train` makes one")


def example_signals(trained: Trained, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Signals of one simulated robot under the trained policy, consecutive steps from a reset: (1, n) arrays."""
    import torch

    from robot_rl.observer import initial_memory
    from robot_rl.policies.residual.refined import deployed_policy

    policy = deployed_policy(trained.observer, trained.actor, trained.action_map)
    memory = initial_memory(policy.memory, 1)

    @torch.no_grad()
    def act(signals: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal memory
        wanted = {s.name: torch.as_tensor(signals[s.name]) for s in policy.signals}
        commands, memory = policy(wanted, memory)
        return {name: value.numpy() for name, value in commands.items()}

    rows = trained.task.with_pictures(policy.signals).example_signals(act, count, seed)
    return [{s.name: row[s.name] for s in policy.signals} for row in rows]


def task_of(contract: Contract) -> TaskSpec:
    """The task a policy was made for; for a task that is not registered here, one of the same robot and signals.

    Raises:
        UnknownName: neither is there.
    """
    available = registry.names("task")
    if contract.task in available:
        return registry.load("task", contract.task)
    wanted = {s.name for s in contract.signals}
    for name in available:
        task: TaskSpec = registry.load("task", name)
        if task.robot == contract.robot and wanted <= {s.name for s in task.signals}:
            return task
    raise UnknownName("task", contract.task, available)


def task_played_by(policy: str) -> TaskSpec:
    """The task of a policy file, or the one that the scripted expert `base:<name>` is named after.

    A file may name an environment that is registered with Gymnasium or EnvPool, but no module of anybody's: nothing
    that it says is imported or called.

    Raises:
        UnknownName: neither is known, as for controllers that fly any flight task.
        ConfigError: a policy of another library, which does not say its task; or one that only the person at the
            keyboard may name.
        ContractError: the file is refused.
    """
    from robot_rl.policy_file import read_policy_file
    from robot_rl.registry import load

    if policy.startswith("base:lerobot:"):
        raise ConfigError(f"'{policy}' does not say its task; say which with --task, e.g. --task panda-pick")
    if policy.startswith("base:"):
        return load("task", policy.removeprefix("base:"))
    contract = read_policy_file(policy).contract
    if not registry.is_foreign(contract.task):
        return task_of(contract)
    from robot_rl.sim.foreign.task import from_a_file

    if not from_a_file(contract.task):
        raise ConfigError(f"'{policy}' names code to be run as its task; if you trust it, --task '{contract.task}'")
    return load("task", contract.task)
