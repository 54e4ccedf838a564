"""The generated C on this computer: compiled into a shared library and called from Python."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import ExportError, NonFiniteSignal
from robot_rl.firmware_export.generate import sources_of
from robot_rl.firmware_export.interface import TIME_STEP, Interface
from robot_rl.firmware_export.status import Status
from robot_rl.firmware_export.toolchain import COMPILE, program, run

Values = dict[str, NDArray[np.float32]]


class HostModel:
    """A policy as C on the host.

    Args:
        source: an ONNX file, or a folder that `generate` wrote.
        flags: additional compiler flags.

    Raises:
        MissingDependency: there is no C compiler.
        ExportError: the policy cannot be translated or does not compile.
    """

    def __init__(self, source: str | Path, *, flags: Sequence[str] = ()) -> None:
        compiler = program("cc", "running the generated C on this computer")
        self._scratch = tempfile.TemporaryDirectory(prefix="robot_rl_host_")
        aside = Path(self._scratch.name)
        try:
            folder, self.interface = sources_of(Path(source), aside / "source")
            prefix = self.interface.prefix
            library = aside / f"{prefix}.so"
            run(
                [compiler, *COMPILE, "-fPIC", "-shared", *flags, folder / f"{prefix}.c", "-o", library, "-lm"],
                "compiling the generated C",
            )
            self._library = ctypes.CDLL(str(library))
        except BaseException:
            self.close()
            raise
        self._state = np.zeros(2 + 2 * self.interface.memory_words, np.uint32)
        self.status = Status(self._call("init", self._state))

    def reset(self) -> None:
        """Memory as at the beginning of an episode."""
        self._library[f"{self.interface.prefix}_reset"](_address(self._state))

    def step(self, signals: Mapping[str, ArrayLike]) -> tuple[Status, Values]:
        """One call with the memory kept inside; gives the return code and the commands."""
        given, commands = self.interface.pack_signals(signals), np.empty(self.interface.command_words, np.float32)
        status = Status(self._call("step", self._state, given, commands))
        return status, self.interface.unpack_commands(commands)

    def act(self, signals: Mapping[str, ArrayLike], time_step: float | None = None) -> Values:
        """As `robot_rl.policy.Policy.act` for one vehicle: signals (*shape), or (1, *shape) and then commands likewise.

        `time_step` is the time since the last call in s; None means the contract's period.

        Raises:
            SignalError: a signal is missing or has another size.
            NonFiniteSignal: a signal is NaN or infinite.
            ExportError: the C answered with another code than OK.
        """
        status, commands = self.step(with_time_step(self.interface, signals, time_step))
        if status is Status.BAD_SIGNAL:
            raise NonFiniteSignal(not_finite(self.interface, signals))
        if status is not Status.OK:
            raise ExportError(f"the generated C returned {status.name}: {status.meaning}")
        return as_given(self.interface, signals, commands)

    def evaluate(
        self, signals: Mapping[str, ArrayLike], memory: Mapping[str, ArrayLike]
    ) -> tuple[Status, Values, Values]:
        """Pure: return code, commands and the memory afterwards."""
        face = self.interface
        given, before = face.pack_signals(signals), face.pack_memory(memory)
        commands, after = np.empty(face.command_words, np.float32), np.empty(face.memory_words, np.float32)
        status = Status(self._call("evaluate", given, before, commands, after))
        return status, face.unpack_commands(commands), face.unpack_memory(after)

    def self_test(self) -> Status:
        """Check sum and golden vectors; resets the memory."""
        return Status(self._call("self_test", self._state))

    def close(self) -> None:
        """Remove the temporary files."""
        self._scratch.cleanup()

    def __enter__(self) -> HostModel:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _call(self, function: str, *arrays: NDArray[Any]) -> int:
        return int(self._library[f"{self.interface.prefix}_{function}"](*map(_address, arrays)))


def with_time_step(
    interface: Interface, signals: Mapping[str, ArrayLike], time_step: float | None
) -> Mapping[str, ArrayLike]:
    """The signals, with `time_step` filled in as the runtime does where the policy asks for it."""
    if not interface.adapts_to_time_step or (time_step is None and TIME_STEP in signals):
        return signals
    return {**signals, TIME_STEP: np.asarray([interface.clipped_time_step(time_step)], np.float32)}


def as_given(interface: Interface, signals: Mapping[str, ArrayLike], commands: Values) -> Values:
    """Commands with a leading dimension of one where the signals came with it."""
    batched = any(np.ndim(signals[s.name]) > len(s.shape) for s in interface.signals if s.name in signals)
    return {name: value[None] for name, value in commands.items()} if batched else commands


def not_finite(interface: Interface, signals: Mapping[str, ArrayLike]) -> str:
    """Name of the first signal that holds NaN or infinity."""
    names = (s.name for s in interface.signals if s.name in signals)
    return next((n for n in names if not np.isfinite(np.asarray(signals[n], np.float32)).all()), TIME_STEP)


def _address(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
