"""How many instructions one call takes: the emulator logs every one that the chip executes.

Exact for the processor's instruction set, and so comparable between generators; not a time: cycles depend on the chip.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.errors import ExportError
from robot_rl.firmware_export.board import RUNTIME, EmulatedBoard, load_emulated
from robot_rl.firmware_export.generate import sources_of
from robot_rl.firmware_export.interface import Interface
from robot_rl.firmware_export.number import initialiser
from robot_rl.firmware_export.toolchain import program, run

_TIME_LIMIT = 60.0


def count_instructions(
    source: str | Path,
    board: str = "stm32f405",
    *,
    signals: Mapping[str, ArrayLike] | None = None,
    memory: Mapping[str, ArrayLike] | None = None,
) -> int:
    """Instructions of one `evaluate` with all its guards, on the emulated board.

    Args:
        source: an ONNX file, or a folder that `generate` wrote.
        board: an emulated board.
        signals: by name; default is the first golden vector.
        memory: by name; default is the first golden vector's.

    Raises:
        MissingDependency: compiler or QEMU is absent.
        ExportError: the policy cannot be translated, or the emulator failed.
    """
    target = load_emulated(board)
    with tempfile.TemporaryDirectory(prefix="robot_rl_count_") as scratch:
        folder, face = sources_of(Path(source), Path(scratch) / "source")
        build = Path(scratch) / "build"
        build.mkdir()
        for suffix in (".c", ".h"):
            (build / f"{face.prefix}{suffix}").write_text((folder / f"{face.prefix}{suffix}").read_text())
        first = face.golden.steps[0]
        given = face.pack_signals(first.signals if signals is None else signals)
        before = face.pack_memory(first.memory if memory is None else memory)
        (build / "counted.c").write_text(_caller(face, given, before))
        return count_program(build, [f"{face.prefix}.c", "counted.c"], target)


def count_program(folder: Path, sources: list[str], board: EmulatedBoard, extra: tuple[str, ...] = ()) -> int:
    """Instructions of the C function `void counted(void)`, after `void counted_setup(void)`, both in `sources`.

    Args:
        folder: holds the sources; the runtime's files are added to it.
        extra: additional compiler flags.

    Raises:
        MissingDependency, ExportError: as `count_instructions`.
    """
    program(board.qemu, f"counting instructions on board '{board.name}'")
    for file in (board.startup, "count.c", "semihosting.h"):
        (folder / file).write_text((RUNTIME / file).read_text())
    (folder / "board.ld").write_text(board.linker_script())
    elf, log = folder / "count.elf", folder / "count.log"
    board.build(folder, [*sources, "count.c", board.startup], elf, extra)
    command = [*board.run_command(elf), *_one_by_one(board), "-d", "exec,nochain", "-D", str(log)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"counting on '{board.name}' did not end within {_TIME_LIMIT:g} s") from error
    if done.returncode:
        raise ExportError(
            f"counting on '{board.name}' failed with code {done.returncode}: {done.stderr.decode()[-500:]}"
        )
    addresses = _symbols(run([board.compiler.removesuffix("gcc") + "nm", elf], "reading symbols"))
    return _between(log, addresses["counted"], addresses["counted_end"])


def _one_by_one(board: EmulatedBoard) -> list[str]:
    found = re.search(r"version (\d+)\.(\d+)", run([board.qemu, "--version"], "asking QEMU for its version"))
    version = 100 * int(found.group(1)) + int(found.group(2)) if found else 0
    return ["-accel", "tcg,one-insn-per-tb=on"] if version >= 801 else ["-singlestep"]


def _symbols(listing: str) -> dict[str, int]:
    rows = (line.split() for line in listing.splitlines())
    return {row[2]: int(row[0], 16) & ~1 for row in rows if len(row) == 3 and row[2].startswith("counted")}


def _between(log: Path, first: int, last: int) -> int:
    counting, count = False, 0
    with log.open() as lines:
        for line in lines:
            if not line.startswith("Trace"):
                continue
            address = int(line.split("[", 1)[1].split("/")[1], 16)
            counting = counting or address == first
            if counting and address == last:
                return count
            count += counting
    raise ExportError("the log of executed instructions does not show the counted call")


def _caller(face: Interface, signals: NDArray[np.float32], memory: NDArray[np.float32]) -> str:
    p = face.prefix
    return f"""#include "{p}.h"

#include <string.h>

void counted_setup(void);
void counted(void);

static const float given_signals[{signals.size}] = {initialiser(signals.tolist(), "float")};
static const float given_memory[{memory.size}] = {initialiser(memory.tolist(), "float")};
static {p}_signals signals;
static {p}_memory before, after;
static {p}_commands commands;

void counted_setup(void)
{{
    memcpy(&signals, given_signals, sizeof signals);
    memcpy(&before, given_memory, sizeof before);
}}

void counted(void)
{{
    (void){p}_evaluate(&signals, &before, &commands, &after);
}}
"""
