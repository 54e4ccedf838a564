"""What goes in and out of the generated C, with names, units and limits: from the contract, or assumed without one.

The same value is written beside the C as JSON, so that tools can drive a C folder without the ONNX file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.contract import Command, Contract, Golden, GoldenStep, Memory, Rate
from robot_rl.errors import ContractError, ExportError, SignalError
from robot_rl.firmware_export.ir import Graph
from robot_rl.signals import Signal

TIME_STEP = "time_step"
MEMORY_IN, MEMORY_OUT = "memory_in.", "memory_out."
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while class new
    this delete private public protected template virtual namespace operator bool true false alignas alignof and and_eq
    asm bitand bitor catch char16_t char32_t char8_t compl concept const_cast consteval constexpr constinit co_await
    co_return co_yield decltype dynamic_cast explicit export friend mutable noexcept not not_eq nullptr or or_eq
    reinterpret_cast requires static_assert static_cast thread_local throw try typeid typename typeof using wchar_t xor
    xor_eq errno complex imaginary unix linux i386
""",
    )
)


@dataclass(frozen=True)
class Defaults:
    """What is assumed about an ONNX file that carries no contract.

    Attributes:
        control_dt: seconds between two calls.
        idle: what every command element is set to when the policy cannot answer.
        units: unit by input or output name.
    """

    control_dt: float = 0.01
    idle: float = 0.0
    units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Interface:
    """Signals, commands and memory in the order in which they lie in the C structures."""

    signals: tuple[Signal, ...]
    commands: tuple[Command, ...]
    memory: tuple[Memory, ...]
    rate: Rate
    golden: Golden
    graph_sha256: str
    task: str = ""
    robot: str = ""
    prefix: str = "policy"

    @property
    def adapts_to_time_step(self) -> bool:
        """Whether the policy is told how much time has passed."""
        return any(s.name == TIME_STEP for s in self.signals)

    @property
    def signal_words(self) -> int:
        """Floats in the signals structure."""
        return sum(_size(s.shape) for s in self.signals)

    @property
    def command_words(self) -> int:
        """Floats in the commands structure."""
        return sum(len(c.lower) for c in self.commands)

    @property
    def memory_words(self) -> int:
        """Floats in the memory structure; without memory it has one word that means nothing."""
        return sum(_size(m.shape) for m in self.memory) or 1

    def pack_signals(self, signals: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Signals by name → (signal_words,) float32.

        Raises:
            SignalError: a signal is missing or has another size.
        """
        return _packed("signal", signals, [(s.name, s.shape) for s in self.signals])

    def pack_memory(self, memory: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Memory by name → (memory_words,) float32; errors as `pack_signals`."""
        if not self.memory:
            return np.zeros(1, np.float32)
        return _packed("memory", memory, [(m.name, m.shape) for m in self.memory])

    def unpack_commands(self, words: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(…, command_words) → command name → (…, elements)."""
        return _unpacked(words, [(c.name, (len(c.lower),)) for c in self.commands])

    def unpack_memory(self, words: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(…, memory_words) → memory name → (…, *shape)."""
        return _unpacked(words, [(m.name, m.shape) for m in self.memory])

    def initial_memory(self) -> dict[str, NDArray[np.float32]]:
        """Memory after a reset."""
        return {m.name: np.asarray(m.initial, np.float32).reshape(m.shape) for m in self.memory}

    def clipped_time_step(self, time_step: float | None) -> float:
        """Seconds that the policy is told; None means its own period."""
        value = self.rate.control_dt if time_step is None else time_step
        return float(np.clip(value, self.rate.min_dt, self.rate.max_dt))

    def to_json(self) -> str:
        """Readable, complete and the same for the same policy."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Interface:
        """Read back what `to_json` wrote.

        Raises:
            ContractError: something else.
        """
        try:
            data = json.loads(text)
            golden = data.pop("golden")
            return Interface(
                signals=tuple(Signal(**_tuples(s)) for s in data.pop("signals")),
                commands=tuple(Command(**_tuples(c)) for c in data.pop("commands")),
                memory=tuple(Memory(**_tuples(m)) for m in data.pop("memory")),
                rate=Rate(**data.pop("rate")),
                golden=Golden(golden["tolerance"], tuple(GoldenStep(**_golden(s)) for s in golden["steps"])),
                **data,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ContractError(f"not an interface file of generated firmware: {error}") from error


def from_contract(contract: Contract, prefix: str) -> Interface:
    """The interface that a policy file describes itself."""
    return Interface(
        contract.signals,
        contract.commands,
        contract.memory,
        contract.rate,
        contract.golden,
        contract.graph_sha256,
        contract.task,
        contract.robot,
        prefix,
    )


def assumed(graph: Graph, sha256: str, prefix: str, defaults: Defaults) -> Interface:
    """The interface of a graph without a contract: names from the graph, the rest from `defaults`; no golden vectors
    yet.

    Raises:
        ExportError: a memory input without its output or of another shape, an element type other than float32, no
            signal, no command, an output that is listed twice.
    """
    for name in (*graph.inputs, *graph.outputs):
        if graph.tensors[name].kind != "float":
            raise ExportError(
                f"input or output '{name}' is not float32; only float32 goes in and out of the generated C"
            )
    entering = [n.removeprefix(MEMORY_IN) for n in graph.inputs if n.startswith(MEMORY_IN)]
    leaving = [n.removeprefix(MEMORY_OUT) for n in graph.outputs if n.startswith(MEMORY_OUT)]
    if sorted(entering) != sorted(leaving):
        raise ExportError(
            f"memory inputs {entering} and outputs {leaving} must come in pairs memory_in.X, memory_out.X"
        )
    _check_assumed(graph, entering)
    dt = defaults.control_dt
    signals = tuple(
        Signal(n, _unbatched(graph.tensors[n].shape), defaults.units.get(n, ""))
        for n in graph.inputs
        if not n.startswith(MEMORY_IN)
    )
    commands = []
    for name in (n for n in graph.outputs if not n.startswith(MEMORY_OUT)):
        size = graph.tensors[name].size
        commands.append(
            Command(
                name,
                "unknown",
                defaults.units.get(name, ""),
                tuple(f"{name}[{i}]" for i in range(size)),
                (-1.0,) * size,
                (1.0,) * size,
                (defaults.idle,) * size,
            )
        )
    memory = tuple(
        Memory(n, _unbatched(graph.tensors[MEMORY_IN + n].shape), (0.0,) * graph.tensors[MEMORY_IN + n].size)
        for n in entering
    )
    return Interface(signals, tuple(commands), memory, Rate(dt, dt, dt), Golden(1e-5, ()), sha256, prefix=prefix)


def _check_assumed(graph: Graph, memory: list[str]) -> None:
    for what, names, prefix in (("input", graph.inputs, MEMORY_IN), ("output", graph.outputs, MEMORY_OUT)):
        if len(set(names)) < len(names):
            raise ExportError(f"the {what}s {names} are not all different; each needs a name of its own")
        if all(n.startswith(prefix) for n in names):
            raise ExportError(f"the graph has no {what} but memory ({names}); a policy needs one at least")
    for name in memory:
        before, after = (graph.tensors[p + name].shape for p in (MEMORY_IN, MEMORY_OUT))
        if before != after:
            raise ExportError(
                f"memory '{name}' goes in with shape {before} and comes out with {after}; make them equal"
            )


def c_names(names: Iterable[str]) -> dict[str, str]:
    """An identifier for each name, as like it as possible and all different, that neither C nor C++ nor a header uses.

    Names in capitals, as macros have, end in an underscore; 60 characters are kept (C tells 63 apart).
    """
    result: dict[str, str] = {}
    for name in names:
        text = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        text = f"x{text}" if text[0].isdigit() or text.startswith("_") else text
        text = text[:60]
        text = f"{text}_" if text in _KEYWORDS or (text.isupper() and len(text) > 2) else text
        base, number = text, 2
        while text in result.values():
            text, number = f"{base}_{number}", number + 1
        result[name] = text
    return result


def _size(shape: Iterable[int]) -> int:
    return int(np.prod(tuple(shape), dtype=np.int64))


def _unbatched(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _packed(
    what: str, values: Mapping[str, ArrayLike], wanted: list[tuple[str, tuple[int, ...]]]
) -> NDArray[np.float32]:
    missing = [name for name, _ in wanted if name not in values]
    if missing:
        raise SignalError(f"{what} {', '.join(missing)} missing; this policy needs {', '.join(n for n, _ in wanted)}")
    parts = []
    for name, shape in wanted:
        array = np.asarray(values[name], np.float32)
        if array.size != _size(shape):
            raise SignalError(f"{what} '{name}' has shape {array.shape}; this policy needs {shape} for one vehicle")
        parts.append(array.ravel())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _unpacked(words: NDArray[np.float32], wanted: list[tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[np.float32]]:
    result, start = {}, 0
    for name, shape in wanted:
        size = _size(shape)
        result[name] = words[..., start : start + size].reshape(*words.shape[:-1], *shape).copy()
        start += size
    return result


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


def _golden(step: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, tuple[float, ...]]]:
    return {part: {name: tuple(values) for name, values in named.items()} for part, named in step.items()}
