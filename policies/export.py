"""Exporting a trained policy: observer, network and action map become one ONNX file with its contract.

What is written has been run with onnxruntime and compared with PyTorch first. Which network and whose numbers is the
caller's business; nothing here knows a task or a robot.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

import robot_rl.policies.provenance as origin
from robot_rl.contract import Command, Composition, Contract, Golden, GoldenStep, Rate, Safety
from robot_rl.errors import ExportError
from robot_rl.observer import ActionMap, Observer, initial_memory
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.policies.residual.merging import refined_model
from robot_rl.policies.residual.refined import RefinedPolicy, deployed_policy
from robot_rl.policies.tracing import traced_model
from robot_rl.policy import Array, Policy, relative_error
from robot_rl.policy_file import PolicyFile, graph_bytes, write_policy_file
from robot_rl.signals import Signal

TOLERANCE = 2e-6
"""Largest difference between PyTorch and any other target, relative to each command's range and each memory tensor's
(`contract.Golden.memory_scale`), in float32."""

GOLDEN_STEPS = 8
_Module = TypeVar("_Module", bound=nn.Module)
_PREFIX_STEPS = 3
_MAX_GOLDEN_VALUES = 200_000


def export_policy(
    path: str | os.PathLike[str],
    *,
    observer: Observer,
    actor: nn.Module,
    action_map: ActionMap,
    task: str,
    robot: str,
    rate: Rate,
    example_signals: Sequence[Mapping[str, ArrayLike]],
    safety: Safety | None = None,
    gains: Mapping[str, Sequence[float]] | None = None,
    composition: Composition | None = None,
    provenance: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> Path:
    """Trace, simplify, compare with PyTorch, choose golden vectors and write the policy file in one piece.

    Args:
        path: the file to write; an existing one is replaced only when everything succeeded.
        observer, actor, action_map: see `DeployedPolicy`; they are copied, the caller's are not changed.
        task, robot, rate, safety, gains, composition: see `contract.Contract`.
        example_signals: consecutive steps of one rollout of real simulated states, at least two, oldest first and
            starting at a reset; name → (*shape) or (1, *shape). `time_step` may be left out.
        provenance: JSON data such as seed, config, evaluation figures; commit, command line and versions are added.
        tolerance: largest difference to PyTorch relative to each command's range.

    Raises:
        ExportError: the modules cannot be traced, disagree with their own declarations, give NaN or always the same
            command, or onnxruntime differs from PyTorch by too much; also when the file cannot be written.
        ContractError: the declarations contradict each other.
        MissingDependency: onnxscript is not installed.
    """
    deployed = deployed_policy(_settled(observer), _settled(actor), _settled(action_map))
    composition = composition or (deployed.composition if isinstance(deployed, RefinedPolicy) else None)
    steps = record_rollout(deployed, example_tensors(deployed.signals, example_signals, rate))
    _check_commands(deployed.commands, steps)
    golden = Golden(tolerance, tuple(steps[i] for i in _golden_choice(deployed, steps)))
    draft = Contract(
        task, robot, deployed.signals, deployed.commands, deployed.memory, rate, "0" * 64, golden, safety or Safety(),
        {k: tuple(map(float, v)) for k, v in (gains or {}).items()}, composition or Composition(),
        _provenance(provenance or {}),
    )  # fmt: skip
    return _finished(Path(path), deployed, draft, steps)


def _finished(path: Path, deployed: DeployedPolicy, draft: Contract, steps: Sequence[GoldenStep]) -> Path:
    """Trace, compare, write."""
    contract = Contract.from_json(draft.to_json())  # refused now rather than after the tracing
    first = {s.name: torch.tensor(_stack([steps[0].signals[s.name]], s.shape)) for s in deployed.signals}
    model = refined_model(deployed, first) if isinstance(deployed, RefinedPolicy) else traced_model(deployed, first)
    data = graph_bytes(model)
    contract = dataclasses.replace(contract, graph_sha256=hashlib.sha256(data).hexdigest())
    _verify(deployed, Policy(PolicyFile(data, contract)), steps, contract.golden.tolerance)
    write_policy_file(path, model, contract)
    return path


def example_tensors(
    signals: tuple[Signal, ...], examples: Sequence[Mapping[str, ArrayLike]], rate: Rate
) -> list[dict[str, Tensor]]:
    """Example steps as tensors (1, *shape). A missing `time_step` becomes control_dt, now and then min_dt or max_dt.

    Raises:
        ExportError: fewer than two steps, a missing signal, a wrong shape, NaN or infinity.
    """
    if len(examples) < 2:
        raise ExportError(f"{len(examples)} example steps were given; at least 2 steps of one rollout are needed")
    steps_of_time = (rate.control_dt, rate.control_dt, rate.min_dt, rate.control_dt, rate.max_dt)
    result: list[dict[str, Tensor]] = []
    for index, example in enumerate(examples):
        step: dict[str, Tensor] = {}
        for signal in signals:
            if signal.name == "time_step" and signal.name not in example:
                step[signal.name] = torch.tensor([[steps_of_time[index % 5]]], dtype=torch.float32)
                continue
            if signal.name not in example:
                raise ExportError(f"example step {index} lacks the signal '{signal.name}'; it has {sorted(example)}")
            values = example[signal.name]
            values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
            if values.shape not in (signal.shape, (1, *signal.shape)):
                raise ExportError(
                    f"example step {index}: signal '{signal.name}' has shape {values.shape}, expected {signal.shape}"
                )
            if not np.isfinite(values).all():
                raise ExportError(f"example step {index}: signal '{signal.name}' is NaN or infinite")
            step[signal.name] = torch.tensor(values, dtype=torch.float32).reshape(1, *signal.shape)
        result.append(step)
    return result


@torch.no_grad()
def record_rollout(deployed: DeployedPolicy, examples: Sequence[dict[str, Tensor]]) -> list[GoldenStep]:
    """Run PyTorch through the examples as one chain from the initial memory; every call with its answer.

    Raises:
        ExportError: an output is missing, of the wrong shape, NaN or infinite.
    """
    memory = initial_memory(deployed.memory, 1)
    shapes = {c.name: (1, len(c.elements)) for c in deployed.commands}
    memory_shapes = {m.name: (1, *m.shape) for m in deployed.memory}
    steps: list[GoldenStep] = []
    for signals in examples:
        try:
            commands, following = deployed(dict(signals), dict(memory))
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
            text = f"{type(error).__name__}: {str(error)[:500]}"
            raise ExportError(f"the policy cannot be run on example step {len(steps)}: {text}") from error
        for what, outputs, wanted in (("command", commands, shapes), ("memory", following, memory_shapes)):
            found = {name: tuple(values.shape) for name, values in outputs.items()}
            if found != wanted:
                raise ExportError(f"the {what} shapes are {found}; declared are {wanted}")
            for name, values in outputs.items():
                if not torch.isfinite(values).all():
                    raise ExportError(f"{what} '{name}' is NaN or infinite at example step {len(steps)}")
        steps.append(GoldenStep(_numbers(signals), _numbers(memory), _numbers(commands), _numbers(following)))
        memory = following
    return steps


def max_difference(deployed: DeployedPolicy, policy: Policy, steps: Sequence[GoldenStep]) -> dict[str, float]:
    """Largest difference between onnxruntime and recorded PyTorch steps: command or `memory.<name>` → relative error.

    Steps are run in batches, so this covers batched calls; `Policy.verify` covers single ones.
    """
    worst: dict[str, float] = {}
    for start in range(0, len(steps), 256):
        part = steps[start : start + 256]
        signals = {s.name: _stack([p.signals[s.name] for p in part], s.shape) for s in deployed.signals}
        memory = {m.name: _stack([p.memory[m.name] for p in part], m.shape) for m in deployed.memory}
        commands, following = policy.step_from(signals, memory)
        for c in deployed.commands:
            recorded = _stack([p.commands[c.name] for p in part], (len(c.elements),))
            error = relative_error(commands[c.name], recorded, np.tile(np.subtract(c.upper, c.lower), len(part)))
            worst[c.name] = max(worst.get(c.name, 0.0), error)
        for m in deployed.memory:
            recorded = _stack([p.memory_out[m.name] for p in part], m.shape)
            scale = max(policy.contract.golden.memory_scale(m.name), float(np.abs(recorded).max()))
            error = relative_error(following[m.name], recorded, scale)
            worst[f"memory.{m.name}"] = max(worst.get(f"memory.{m.name}", 0.0), error)
    return worst


def _verify(deployed: DeployedPolicy, policy: Policy, steps: Sequence[GoldenStep], tolerance: float) -> None:
    single, batched = policy.verify().max_error, max_difference(deployed, policy, steps)
    worst = {name: max(error, single[name]) for name, error in batched.items()}
    bad = [f"{name}: {error:.3g}" for name, error in worst.items() if not error <= tolerance]
    if bad:
        raise ExportError(
            f"onnxruntime differs from PyTorch by more than {tolerance:.3g} of the range: {', '.join(bad)}. Look for "
            "large cancelling numbers, operations without a float32 twin, or branches on values in observer or actor."
        )


def _check_commands(commands: tuple[Command, ...], steps: Sequence[GoldenStep]) -> None:
    """Commands must lie within their limits and must depend on something, or golden vectors would prove nothing."""
    moving = False
    for command in commands:
        values = np.array([step.commands[command.name] for step in steps])
        lower, upper = np.array(command.lower), np.array(command.upper)
        outside = (values < lower - 1e-6 * (upper - lower)) | (values > upper + 1e-6 * (upper - lower))
        if outside.any():
            step, element = (int(i) for i in np.argwhere(outside)[0])
            raise ExportError(
                f"command '{command.name}', element '{command.elements[element]}' is {values[step, element]:.6g} "
                f"{command.unit} at example step {step}; its limits are [{lower[element]:g}, {upper[element]:g}]. "
                "Clip it in the action map, or check its unit."
            )
        moving |= bool((np.ptp(values, axis=0) > 1e-6 * (upper - lower)).any())
    if not moving:
        raise ExportError(
            f"the policy gives the same command in all {len(steps)} example steps; that proves nothing about a target. "
            "Train it first, or give example steps of a real rollout."
        )


def _golden_choice(deployed: DeployedPolicy, steps: Sequence[GoldenStep]) -> list[int]:
    """The first steps after the reset, then the consecutive steps whose commands vary most within their limits."""
    size = sum(int(np.prod(x.shape)) for x in (*deployed.signals, *deployed.memory, *deployed.memory))
    count = min(GOLDEN_STEPS, max(2, _MAX_GOLDEN_VALUES // size))
    if len(steps) <= count:
        return list(range(len(steps)))
    prefix = min(_PREFIX_STEPS, count - 1)
    length = count - prefix
    scaled = np.concatenate(
        [
            (np.array([s.commands[c.name] for s in steps]) - c.lower) / np.subtract(c.upper, c.lower)
            for c in deployed.commands
        ],
        axis=1,
    )
    free = ((scaled > 1e-3) & (scaled < 1 - 1e-3)).mean(axis=1)
    starts = range(prefix, len(steps) - length + 1)
    scores = [scaled[s : s + length].std(axis=0).sum() * free[s : s + length].mean() for s in starts]
    best = starts[int(np.argmax(scores))]
    return [*range(prefix), *range(best, best + length)]


def _settled(module: _Module) -> _Module:
    return copy.deepcopy(module).cpu().eval()


def _provenance(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "git_commit": origin.git_commit() or "unknown",
        "command_line": origin.command_line(),
        "versions": origin.versions(),
    }
    if "config" in given:
        text = json.dumps(given["config"], sort_keys=True, default=str)
        found["config_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return found | dict(given)


def _numbers(values: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """float32 as the shortest decimals that give the same float32 again."""
    return {k: tuple(float(str(x)) for x in v.detach().cpu().numpy().ravel()) for k, v in values.items()}


def _stack(rows: Sequence[Sequence[float]], shape: tuple[int, ...]) -> Array:
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), *shape)
