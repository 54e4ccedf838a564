"""Processor in the loop: the generated C runs on an emulated chip and answers step by step, with `Policy`'s own
interface.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import DriverError, NonFiniteSignal
from robot_rl.firmware_export import emulator as chip
from robot_rl.firmware_export.board import load_emulated
from robot_rl.firmware_export.generate import sources_of
from robot_rl.firmware_export.host import Values, as_given, not_finite, with_time_step
from robot_rl.firmware_export.status import Status
from robot_rl.firmware_export.toolchain import program


class EmulatedPolicy:
    """A policy on an emulated chip.

    Args:
        source: an ONNX file, or a folder that `generate` wrote (its C is built as it stands there).
        board: an emulated board.
        time_limit: seconds to wait for one answer before the chip is called dead.

    Raises:
        MissingDependency: compiler or QEMU is absent; says how to install it.
        UnknownName, ConfigError: no such board, or it cannot be emulated.
        ExportError: the policy cannot be translated or does not compile.
    """

    def __init__(self, source: str | Path, board: str = "stm32f405", *, time_limit: float = 10.0) -> None:
        target = load_emulated(board)
        program(target.qemu, f"emulating board '{board}'")
        program(target.compiler, f"building for board '{board}'")
        self._scratch = tempfile.TemporaryDirectory(prefix="robot_rl_chip_")
        aside = Path(self._scratch.name)
        self._emulator: chip.Emulator | None = None
        try:
            folder, self.interface = sources_of(Path(source), aside / "source")
            build = aside / "build"
            build.mkdir()
            prefix = self.interface.prefix
            for file in (f"{prefix}.c", f"{prefix}.h"):
                shutil.copy(folder / file, build / file)
            target.write_project(build, prefix)
            elf = aside / "policy.elf"
            target.build(build, [f"{prefix}.c", "serve.c", target.startup], elf)
            self._emulator = chip.Emulator(target, elf, time_limit=time_limit)
            self.status = self._status(chip.INIT)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process number of QEMU."""
        return self._chip.pid

    def reset(self) -> None:
        """Memory as at the beginning of an episode."""
        self._status(chip.RESET)

    def step(self, signals: Mapping[str, ArrayLike]) -> tuple[Status, Values]:
        """One call with the memory kept on the chip; gives the return code and the commands."""
        size = 4 + 4 * self.interface.command_words
        answer = self._chip.ask(chip.STEP, [self.interface.pack_signals(signals).tobytes()], size)
        status, words = _parted(answer, size)
        return Status(int(status[0])), self.interface.unpack_commands(words[0])

    def act(self, signals: Mapping[str, ArrayLike], time_step: float | None = None) -> Values:
        """As `robot_rl.policy.Policy.act` for one vehicle: signals (*shape), or (1, *shape) and then commands likewise.

        `time_step` is the time since the last call in s; None means the contract's period.

        Raises:
            SignalError: a signal is missing or has another size.
            NonFiniteSignal: a signal is NaN or infinite.
            DriverError: the chip answered with another code than OK, died or hangs.
        """
        status, commands = self.step(with_time_step(self.interface, signals, time_step))
        if status is Status.BAD_SIGNAL:
            raise NonFiniteSignal(not_finite(self.interface, signals))
        if status is not Status.OK:
            raise DriverError(f"the policy on the emulated chip returned {status.name}: {status.meaning}")
        return as_given(self.interface, signals, commands)

    def evaluate_many(
        self, inputs: Sequence[tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]]]
    ) -> tuple[list[Status], Values, Values]:
        """Pure calls in one go: return codes, and commands and memory afterwards with a leading axis of calls."""
        face = self.interface
        size = 4 + 4 * (face.command_words + face.memory_words)
        items = [face.pack_signals(s).tobytes() + face.pack_memory(m).tobytes() for s, m in inputs]
        status, words = _parted(self._chip.ask(chip.EVALUATE, items, size) if items else b"", size)
        commands, memory = words[:, : face.command_words], words[:, face.command_words :]
        return [Status(int(s)) for s in status], face.unpack_commands(commands), face.unpack_memory(memory)

    def evaluate(
        self, signals: Mapping[str, ArrayLike], memory: Mapping[str, ArrayLike]
    ) -> tuple[Status, Values, Values]:
        """Pure: return code, commands and the memory afterwards."""
        status, commands, after = self.evaluate_many([(signals, memory)])
        return status[0], {k: v[0] for k, v in commands.items()}, {k: v[0] for k, v in after.items()}

    def self_test(self) -> Status:
        """Check sum and golden vectors on the chip; resets the memory."""
        return self._status(chip.SELF_TEST)

    def stack_bytes(self) -> int:
        """Stack that one `init` and one `step` really used, found by painting the chip's memory; resets the memory."""
        return self._number(chip.STACK)

    def close(self) -> None:
        """End the emulator and remove the temporary files. Idempotent."""
        if self._emulator is not None:
            self._emulator.close()
            self._emulator = None
        self._scratch.cleanup()

    def __enter__(self) -> EmulatedPolicy:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def _chip(self) -> chip.Emulator:
        if self._emulator is None:
            raise DriverError("the emulated chip was closed; make a new EmulatedPolicy")
        return self._emulator

    def _number(self, operation: int) -> int:
        return int(np.frombuffer(self._chip.ask(operation, [b""], 4), "<i4")[0])

    def _status(self, operation: int) -> Status:
        return Status(self._number(operation))


def _parted(answer: bytes, size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    words = np.frombuffer(answer, "<u4").reshape(-1, size // 4)
    return words[:, 0].astype(np.int32), words[:, 1:].view(np.float32)
