"""The same inputs on every target, memory included: how far each is from onnxruntime, relative to the commands'
ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robot_rl.contract import GoldenStep
from robot_rl.errors import MissingDependency, UnknownName
from robot_rl.firmware_export.board import ALIASES, emulated_names
from robot_rl.firmware_export.host import HostModel, Values
from robot_rl.firmware_export.in_the_loop import EmulatedPolicy
from robot_rl.firmware_export.interface import MEMORY_IN, MEMORY_OUT, Interface
from robot_rl.firmware_export.load import load_policy
from robot_rl.firmware_export.status import Status
from robot_rl.policy import relative_error

Call = tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]]
"""Signals and memory by name, for one vehicle, without a batch dimension."""

REFERENCE = "onnxruntime"


@dataclass(frozen=True)
class Answers:
    """What a target said to a list of calls: name → (calls, …), and how many calls returned an error code."""

    commands: Values
    memory: Values
    refused: int = 0


@dataclass(frozen=True)
class TargetRow:
    """One target beside the reference.

    Attributes:
        errors: command or `memory.<name>` → largest difference over the calls; commands relative to upper − lower,
            memory to `contract.Golden.memory_scale` or its largest absolute value. inf for NaN or a refused call.
        golden_error: the largest difference of the commands and memory from the recorded golden vectors.
    """

    target: str
    calls: int
    errors: dict[str, float]
    golden_error: float

    @property
    def max_error(self) -> float:
        """Largest error of all commands."""
        return max((e for name, e in self.errors.items() if not name.startswith("memory.")), default=0.0)


def targets() -> list[str]:
    """Names that `compare_targets` accepts."""
    return [REFERENCE, "host", *sorted({*ALIASES, *emulated_names()})]


def compare_targets(
    policy_path: str | Path,
    wanted: Sequence[str] = (REFERENCE, "host", "cortex-m4"),
    inputs: Sequence[Call] = (),
) -> list[TargetRow]:
    """Evaluate the policy everywhere and compare.

    Args:
        policy_path: an ONNX file.
        wanted: `onnxruntime`, `host`, a processor (`cortex-m4`, `rv32`, …) or an emulated board.
        inputs: calls to compare on; the golden vectors where empty.

    Returns:
        One row per target; that of onnxruntime shows its own distance from the golden vectors.

    Raises:
        UnknownName: no such target.
        MissingDependency: a compiler or emulator is absent.
        ExportError: the policy cannot be translated.
    """
    for name in wanted:
        if name not in targets():
            raise UnknownName("target", name, targets())
    face = load_policy(policy_path).interface
    golden = [(s.signals, s.memory) for s in face.golden.steps]
    calls = list(inputs) or golden
    everything = [*calls, *golden]
    reference = answers(policy_path, REFERENCE, everything)
    rows = []
    for name in wanted:
        found = reference if name == REFERENCE else answers(policy_path, name, everything)
        mine, recorded = _part(found, 0, len(calls)), _part(found, len(calls), len(everything))
        rows.append(
            TargetRow(
                name,
                len(calls),
                relative_errors(face, _part(reference, 0, len(calls)), mine),
                max(relative_errors(face, _recorded(face, face.golden.steps), recorded).values()),
            )
        )
    return rows


def answers(policy_path: str | Path, target: str, calls: Sequence[Call]) -> Answers:
    """What one target says to all calls; errors as `compare_targets`."""
    if target == REFERENCE:
        return _onnxruntime(Path(policy_path), calls)
    if target == "host":
        with HostModel(policy_path) as model:
            said = [model.evaluate(*call) for call in calls]
        refused = sum(status is not Status.OK for status, _, _ in said)
        return Answers(_stacked([c for _, c, _ in said]), _stacked([m for _, _, m in said]), refused)
    with EmulatedPolicy(policy_path, target) as chip:
        statuses, commands, memory = chip.evaluate_many(calls)
    return Answers(commands, memory, sum(status is not Status.OK for status in statuses))


def relative_errors(face: Interface, expected: Answers, found: Answers) -> dict[str, float]:
    """Largest differences by name, see `TargetRow.errors`."""
    if found.refused:
        return dict.fromkeys((c.name for c in face.commands), float("inf"))
    errors = {
        c.name: relative_error(
            found.commands[c.name], expected.commands[c.name], _span(c.lower, c.upper, expected, c.name)
        )
        for c in face.commands
    }
    for memory in face.memory:
        largest = float(np.abs(expected.memory[memory.name]).max(initial=0.0))
        scale = max(face.golden.memory_scale(memory.name), largest)
        name = f"memory.{memory.name}"
        errors[name] = relative_error(found.memory[memory.name], expected.memory[memory.name], scale)
    return errors


def _span(lower: Sequence[float], upper: Sequence[float], expected: Answers, name: str) -> np.ndarray:
    return np.tile(np.subtract(upper, lower), len(expected.commands[name]))


def _onnxruntime(path: Path, calls: Sequence[Call]) -> Answers:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            "onnxruntime", "comparing with the policy file itself", "pip install onnxruntime"
        ) from error
    policy = load_policy(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(policy.model_bytes, options, providers=["CPUExecutionProvider"])
    face, graph = policy.interface, policy.graph
    commands: list[Values] = []
    memories: list[Values] = []
    names = [o.name for o in session.get_outputs()]
    for signals, memory in calls:
        values = {**signals, **{MEMORY_IN + name: value for name, value in memory.items()}}
        feed = {n: np.asarray(values[n], np.float32).reshape(graph.tensors[n].shape) for n in graph.inputs}
        values_out: Any = session.run(None, feed)
        said: dict[str, Any] = dict(zip(names, values_out, strict=True))
        commands.append({c.name: said[c.name].ravel() for c in face.commands})
        memories.append({m.name: said[MEMORY_OUT + m.name].reshape(m.shape) for m in face.memory})
    return Answers(_stacked(commands), _stacked(memories))


def _recorded(face: Interface, steps: Sequence[GoldenStep]) -> Answers:
    return Answers(
        {c.name: np.asarray([s.commands[c.name] for s in steps], np.float32) for c in face.commands},
        {
            m.name: np.asarray([s.memory_out[m.name] for s in steps], np.float32).reshape(-1, *m.shape)
            for m in face.memory
        },
    )


def _part(said: Answers, start: int, end: int) -> Answers:
    return Answers(
        {k: v[start:end] for k, v in said.commands.items()},
        {k: v[start:end] for k, v in said.memory.items()},
        said.refused,
    )


def _stacked(rows: list[Values]) -> Values:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}
