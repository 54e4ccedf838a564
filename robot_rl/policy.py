"""Running a policy file with onnxruntime: signals in SI units in, commands in SI units out, memory kept in between.

For one robot or a batch of environments; never imports torch. What may be sent to a robot is decided in `safety.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.contract import Contract
from robot_rl.errors import ContractError, ContractMismatch, MissingDependency, NonFiniteSignal, SignalError
from robot_rl.policy_file import PolicyFile, read_policy_file

Array = NDArray[np.float32]


@dataclass(frozen=True)
class GoldenReport:
    """How far this computer is from the recorded calls.

    Attributes:
        max_error: command or `memory.<name>` → largest difference, relative as in `contract.Golden`; inf for NaN.
        tolerance: the largest that is allowed.
        steps: number of calls replayed.
    """

    max_error: dict[str, float]
    tolerance: float
    steps: int

    @property
    def passed(self) -> bool:
        """Whether every difference is within the tolerance."""
        return all(error <= self.tolerance for error in self.max_error.values())

    def differences(self) -> list[str]:
        """One line for each command or memory that is off by too much."""
        return [
            f"{name}: differs by {error:.3g} of its range; {self.tolerance:.3g} is allowed"
            for name, error in self.max_error.items()
            if not error <= self.tolerance
        ]


class Policy:
    """A policy ready to be called; make one with `Policy.load`. Not thread-safe: one object per control loop."""

    def __init__(self, file: PolicyFile, *, num_envs: int = 1) -> None:
        """From a file already read; nothing is verified. Raises ContractError when onnxruntime refuses the graph."""
        if not isinstance(num_envs, (int, np.integer)) or isinstance(num_envs, bool) or num_envs < 1:
            raise SignalError(f"num_envs is {num_envs!r}; it must be a whole number, at least 1")
        self.contract: Contract = file.contract
        self.num_envs = num_envs
        self._session = _session(file.model_bytes)
        self._fixed_batch = self._session.get_inputs()[0].shape[0] == 1
        if self._fixed_batch and num_envs > 1:
            raise ContractError(
                f"the policy was exported for one environment (batch dimension 1) but num_envs is {num_envs}; "
                "export it with a symbolic batch dimension"
            )
        self._allocate()
        self.reset()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, num_envs: int = 1, verify: bool = True) -> Policy:
        """Read, check and (unless told otherwise) replay the golden vectors.

        Args:
            path: a policy file.
            num_envs: how many environments `act` serves at once; 1 on a robot.
            verify: replay the recorded calls and refuse when this computer does not reproduce them.

        Raises:
            ContractError: the file is refused, see `policy_file.read_policy_file`.
            ContractMismatch: the recorded calls are not reproduced; lists by how much each command is off.
        """
        policy = cls(read_policy_file(path), num_envs=num_envs)
        if verify:
            report = policy.verify()
            if not report.passed:
                raise ContractMismatch(
                    f"'{os.fspath(path)}' does not compute here what it computed when it was exported",
                    report.differences(),
                )
        return policy

    @property
    def memory(self) -> dict[str, Array]:
        """A copy of the present memory: name → (num_envs, *shape)."""
        return {m.name: self._memory[self._now][m.name].copy() for m in self.contract.memory}

    def reset(self, env_ids: ArrayLike | None = None) -> None:
        """Set the memory of all environments, or of those given (indices or a mask), to its initial values."""
        rows: Any = slice(None) if env_ids is None else _row_index(env_ids, self.num_envs)
        for name, view in self._memory[self._now].items():
            view[rows] = self._initial[name]

    def act(self, signals: Mapping[str, ArrayLike], time_step: float | None = None) -> dict[str, Array]:
        """One control step; the memory moves on.

        Args:
            signals: every signal of the contract but `time_step`, (num_envs, *shape). For one environment also
                (*shape), and the commands then come without the batch dimension too. Others are ignored.
            time_step: seconds since the previous call, for policies that have this signal; default is its entry in
                `signals`, then the contract's control_dt. Clipped to the contract's [min_dt, max_dt].

        Returns:
            Command name → (num_envs, elements), float32, freshly allocated.

        Raises:
            SignalError: a signal is missing or has the wrong shape or kind.
            NonFiniteSignal: a signal or a result is NaN or infinite. The memory is then unchanged.
        """
        batched = self._stage(signals, time_step)
        if not np.isfinite(self._staged).all():
            raise NonFiniteSignal(self._culprit(self._inputs))
        following = 1 - self._now
        _run(self._session.run_with_iobinding, self._bindings[self._now])
        if not np.isfinite(self._results[following]).all():
            raise NonFiniteSignal(self._culprit(self._outputs[following] | self._memory[following]), "output")
        self._now = following
        outputs = self._outputs[following]
        return {name: view.copy() if batched else view[0].copy() for name, view in outputs.items()}

    def step_from(
        self, signals: Mapping[str, ArrayLike], memory: Mapping[str, ArrayLike]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The graph as a pure function; this object's own memory is neither read nor changed.

        Args:
            signals: every signal of the contract, `time_step` included and not clipped, (n, *shape) for any n.
            memory: name → (n, *shape).

        Returns:
            Commands name → (n, elements) and the following memory name → (n, *shape).

        Raises:
            SignalError: an array is missing or of the wrong shape, or n > 1 with a graph for one environment.
        """
        feed = {s.name: _as_batch(signals, s.name, s.shape) for s in self.contract.signals}
        feed |= {f"memory_in.{m.name}": _as_batch(memory, m.name, m.shape) for m in self.contract.memory}
        counts = {name: len(values) for name, values in feed.items()}
        if len(set(counts.values())) > 1 or (self._fixed_batch and set(counts.values()) != {1}):
            allowed = "1" if self._fixed_batch else "the same everywhere"
            raise SignalError(f"batch sizes {counts}; the batch size must be {allowed}")
        names = [c.name for c in self.contract.commands] + [f"memory_out.{m.name}" for m in self.contract.memory]
        results = dict(zip(names, _run(self._session.run, names, feed), strict=True))
        count = len(next(iter(feed.values())))
        commands = {c.name: results[c.name] for c in self.contract.commands}
        following = {m.name: results[f"memory_out.{m.name}"] for m in self.contract.memory}
        for c in self.contract.commands:
            _check_shape(c.name, commands[c.name], (count, len(c.elements)))
        for m in self.contract.memory:
            _check_shape(f"memory_out.{m.name}", following[m.name], (count, *m.shape))
        return commands, following

    def verify(self) -> GoldenReport:
        """Replay the contract's golden vectors one call at a time; this object's memory is not touched."""
        contract, worst = self.contract, {}
        scales = {m.name: contract.golden.memory_scale(m.name) for m in contract.memory}
        for step in contract.golden.steps:
            signals = {s.name: _row(step.signals[s.name], s.shape) for s in contract.signals}
            memory = {m.name: _row(step.memory[m.name], m.shape) for m in contract.memory}
            commands, memory_out = self.step_from(signals, memory)
            for command in contract.commands:
                span = np.subtract(command.upper, command.lower)
                error = relative_error(commands[command.name], step.commands[command.name], span)
                worst[command.name] = max(worst.get(command.name, 0.0), error)
            for name, recorded in step.memory_out.items():
                error = relative_error(memory_out[name], recorded, scales[name])
                worst[f"memory.{name}"] = max(worst.get(f"memory.{name}", 0.0), error)
        return GoldenReport(worst, contract.golden.tolerance, len(contract.golden.steps))

    def _allocate(self) -> None:
        """Buffers that onnxruntime reads and writes in place. Memory has two sets, swapped after each call."""
        contract, count = self.contract, self.num_envs
        sizes = {s.name: s.shape for s in contract.signals}
        memory = {m.name: m.shape for m in contract.memory}
        commands = {c.name: (len(c.elements),) for c in contract.commands}
        self._initial = {m.name: _row(m.initial, m.shape) for m in contract.memory}
        self._staged, self._inputs = _views(sizes, count)
        self._results, self._outputs, self._memory = [], [], []
        for _ in range(2):
            flat, views = _views(commands | {f"memory_out.{name}": shape for name, shape in memory.items()}, count)
            self._results.append(flat)
            self._outputs.append({name: views[name] for name in commands})
            self._memory.append({name: views[f"memory_out.{name}"] for name in memory})
        self._now = 0
        self._bindings = [self._binding(now) for now in range(2)]

    def _binding(self, now: int) -> Any:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for name, view in self._inputs.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(view))
        for name, view in self._memory[now].items():
            binding.bind_ortvalue_input(f"memory_in.{name}", OrtValue.ortvalue_from_numpy(view))
        for name, view in self._outputs[1 - now].items():
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(view))
        for name, view in self._memory[1 - now].items():
            binding.bind_ortvalue_output(f"memory_out.{name}", OrtValue.ortvalue_from_numpy(view))
        return binding

    def _stage(self, signals: Mapping[str, ArrayLike], time_step: float | None) -> bool:
        """Copy the signals to where the graph reads them; returns whether any came with the batch dimension."""
        batched = self.num_envs > 1
        rate = self.contract.rate
        for name, view in self._inputs.items():
            if name == "time_step" and (time_step is not None or name not in signals):
                seconds = rate.control_dt if time_step is None else _seconds(time_step)
                view.fill(min(max(seconds, rate.min_dt), rate.max_dt))
                continue
            try:
                values = np.asarray(signals[name])
                if values.shape == view.shape:
                    np.copyto(view, values, casting="same_kind")
                    batched = True
                elif self.num_envs == 1 and values.shape == view.shape[1:]:
                    np.copyto(view[0], values, casting="same_kind")
                else:
                    raise SignalError(f"signal '{name}' has shape {values.shape}; expected {view.shape}")
            except KeyError:
                raise self._missing(signals) from None
            except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a torch tensor with a gradient
                raise SignalError(f"signal '{name}' cannot be used as numbers: {error}") from error
            if name == "time_step":
                np.clip(view, rate.min_dt, rate.max_dt, out=view)
        return batched

    def _missing(self, signals: Mapping[str, ArrayLike]) -> SignalError:
        wanted = [s.name for s in self.contract.signals if s.name != "time_step"]
        absent = [name for name in wanted if name not in signals]
        unused = sorted(set(signals) - set(wanted) - {"time_step"})
        note = f" Given but not used by this policy: {', '.join(unused)}." if unused else ""
        return SignalError(f"missing signals: {', '.join(absent)}. The policy needs: {', '.join(wanted)}.{note}")

    @staticmethod
    def _culprit(views: Mapping[str, Array]) -> str:
        return next(name for name, view in views.items() if not np.isfinite(view).all())


def _session(model_bytes: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency("onnxruntime", "running a policy", "pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise ContractError(f"onnxruntime cannot run this graph: {str(error)[:300]}") from error


def _run(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise ContractError(
            f"onnxruntime stopped in the policy's graph: {' '.join(str(error).split())[:300]}"
        ) from error


def _check_shape(name: str, values: Array, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ContractError(f"the graph gives '{name}' the shape {values.shape}; its contract promises {shape}")


def _views(shapes: Mapping[str, Sequence[int]], count: int) -> tuple[Array, dict[str, Array]]:
    """One flat buffer and a (count, *shape) view into it for each name, so that one call checks or clears them all."""
    flat = np.zeros(sum(count * prod(shape) for shape in shapes.values()), dtype=np.float32)
    views, start = {}, 0
    for name, shape in shapes.items():
        end = start + count * prod(shape)
        views[name] = flat[start:end].reshape(count, *shape)
        start = end
    return flat, views


def _row(values: Sequence[float], shape: Sequence[int]) -> Array:
    return np.asarray(values, dtype=np.float32).reshape(1, *shape)


def _as_batch(arrays: Mapping[str, ArrayLike], name: str, shape: tuple[int, ...]) -> Array:
    if name not in arrays:
        raise SignalError(f"'{name}' is missing; given: {', '.join(sorted(arrays)) or 'nothing'}")
    try:
        values = np.ascontiguousarray(arrays[name], dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SignalError(f"'{name}' cannot be used as numbers: {error}") from error
    if values.shape[1:] != shape or values.ndim != len(shape) + 1:
        raise SignalError(f"'{name}' has shape {values.shape}; expected (n, {', '.join(map(str, shape))})")
    return values


def _seconds(time_step: float) -> float:
    try:
        return float(time_step)
    except (TypeError, ValueError) as error:
        raise SignalError(
            f"time_step is {time_step!r}; give one number of seconds, or an array among the signals"
        ) from error


def _row_index(env_ids: ArrayLike, num_envs: int) -> NDArray[Any]:
    try:
        rows = np.asarray(env_ids)
    except ValueError as error:
        raise SignalError(f"env_ids cannot be used as indices or as a mask: {error}") from error
    if rows.dtype == bool and rows.shape == (num_envs,):
        return rows
    if rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= num_envs:
        raise SignalError(f"env_ids {rows!r}: expected indices in [0, {num_envs - 1}] or a mask of length {num_envs}")
    return rows


def relative_error(found: ArrayLike, recorded: ArrayLike, span: ArrayLike) -> float:
    """Largest |found − recorded| / span over all elements, both as float32; inf when anything is NaN or infinite."""
    pair = [np.asarray(values, dtype=np.float32).astype(np.float64).ravel() for values in (found, recorded)]
    worst = float(np.max(np.abs(pair[0] - pair[1]) / np.asarray(span, dtype=np.float64)))
    return worst if np.isfinite(worst) else float("inf")
