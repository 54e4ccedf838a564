"""A chip in QEMU that answers requests: starting it, talking to it over pipes, and noticing when it dies or hangs."""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from robot_rl.errors import DriverError
from robot_rl.firmware_export.board import EmulatedBoard
from robot_rl.firmware_export.toolchain import program

MAGIC = 0x31514C52
STEP, EVALUATE, SELF_TEST, RESET, EXIT, STACK, INIT = range(1, 8)
_IN_FLIGHT = 32 * 1024
"""Bytes sent before the answers are read: below what a pipe holds, so that neither side blocks the other."""
_EXIT_CODES = {
    112: "a fault on the chip (illegal access or instruction)",
    113: "it could not write",
    115: "a bad request",
}


class Emulator:
    """One QEMU process that runs `serve.c`.

    Args:
        board: the chip.
        elf: the program, built by `EmulatedBoard.build`.
        time_limit: seconds to wait for one answer.

    Raises:
        MissingDependency: QEMU is not installed.
    """

    def __init__(self, board: EmulatedBoard, elf: Path, *, time_limit: float = 10.0) -> None:
        program(board.qemu, f"emulating board '{board.name}'")
        self._what = f"the emulated {board.name}"
        self._time_limit = time_limit
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            board.run_command(elf),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C ends our program first, which then closes the emulator in order
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """Process number of QEMU."""
        return self._process.pid

    def ask(self, operation: int, items: list[bytes], answer_bytes: int) -> bytes:
        """Send a batch and wait for all answers.

        Args:
            operation: one of the constants above.
            items: payload of each item (empty for operations without).
            answer_bytes: bytes of one item's answer.

        Returns:
            The answers, one behind the other.

        Raises:
            DriverError: the emulator died, hangs, or answers something else.
        """
        per_batch = max(1, _IN_FLIGHT // max(1, answer_bytes, len(items[0])))
        answers = []
        for start in range(0, len(items), per_batch):
            batch = items[start : start + per_batch]
            frame = struct.pack("<3I", MAGIC, operation, len(batch))
            self._send(frame + b"".join(batch))
            answer = self._receive(len(frame) + answer_bytes * len(batch))
            if answer[: len(frame)] != frame:
                self.close()
                raise DriverError(
                    f"{self._what} answered {answer[:12]!r} instead of {frame!r}; the connection is out of step"
                )
            answers.append(answer[len(frame) :])
        return b"".join(answers)

    def close(self) -> None:
        """End the process. Idempotent, never raises."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()
        self._selector.close()

    def _send(self, data: bytes) -> None:
        if self._process.poll() is not None:
            raise self._death()
        try:
            while data:
                data = data[os.write(self._input, data) :]
        except OSError as error:
            raise self._death() from error

    def _receive(self, size: int) -> bytes:
        parts, missing = [], size
        until = time.monotonic() + self._time_limit
        while missing:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                self.close()
                raise DriverError(f"{self._what} did not answer within {self._time_limit:g} s and was ended")
            part = os.read(self._output, missing)
            if not part:
                raise self._death()
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _death(self) -> DriverError:
        if self._process.stdin is None or self._process.stdin.closed:
            return DriverError(f"{self._what} was closed; make a new one")
        try:
            code = self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            code = None
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-1000:]
        self.close()
        reason = _EXIT_CODES.get(code or 0, f"exit code {code}")
        return DriverError(f"{self._what} stopped: {reason}. {words}".strip())
