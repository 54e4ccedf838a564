"""Flash, RAM and stack of the generated C: linked for a chip and read from the program that the linker made.

The stack is the deepest chain of calls in the disassembly, C library included: a bound, not a sample.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from robot_rl.errors import ExportError
from robot_rl.firmware_export.board import Board, EmulatedBoard, load_emulated
from robot_rl.firmware_export.interface import Interface
from robot_rl.firmware_export.toolchain import COMPILE, available, run

DEFAULT_BOARD = "stm32f405"
FUNCTIONS = ("init", "reset", "step", "evaluate", "self_test")


@dataclass(frozen=True)
class Sizes:
    """Bytes, None where unknown; `lines` is the same as text for the header comment."""

    flash_bytes: int | None
    ram_bytes: int | None
    stack_bytes: int | None
    measured_on: str
    lines: list[str]


def measured(folder: Path, interface: Interface, board: Board) -> Sizes:
    """Sizes of the policy in `folder` on an emulated board (on the default chip where the board is another)."""
    target = board if isinstance(board, EmulatedBoard) else load_emulated(DEFAULT_BOARD)
    if not available(target.compiler):
        why = f"not measured: {target.compiler} not found"
        return Sizes(None, None, None, why, [f"Flash, RAM and stack {why}."])
    tools = target.compiler.removesuffix("gcc")
    with tempfile.TemporaryDirectory(prefix="robot_rl_size_") as scratch:
        elf = _linked(folder, interface.prefix, target, Path(scratch))
        numbers = run([f"{tools}size", elf], "measuring").splitlines()[1].split()
        text, data, bss = (int(n) for n in numbers[:3])
        stack = deepest_stack(run([f"{tools}objdump", "-d", "--no-show-raw-insn", elf], "measuring"), interface.prefix)
    version = run([target.compiler, "-dumpfullversion"], "measuring").strip()
    state = 8 + 8 * interface.memory_words
    flash, ram = text + data, data + bss + state
    where = f"{target.description}, {target.compiler} {version} -O2"
    depth = f"at most {stack} bytes" if stack is not None else "not known (a call could not be followed)"
    return Sizes(
        flash,
        ram,
        stack,
        where,
        [
            f"Flash {flash} bytes, RAM {ram} bytes ({data + bss} static, {state} one state), stack {depth};",
            f"measured for {where}; C library included.",
        ],
    )


def _linked(folder: Path, prefix: str, board: EmulatedBoard, scratch: Path) -> Path:
    elf, script = scratch / "policy.elf", scratch / "board.ld"
    script.write_text(board.linker_script())
    kept = [f"-Wl,-u,{prefix}_{f}" for f in FUNCTIONS]
    run(
        [
            board.compiler,
            *COMPILE,
            *board.flags,
            folder / f"{prefix}.c",
            "-o",
            elf,
            "-nostartfiles",
            "-T",
            script,
            "-Wl,--gc-sections",
            f"-Wl,-e,{prefix}_init",
            *kept,
            *board.libraries,
        ],
        "measuring the generated C",
    )
    return elf


_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_TARGET = re.compile(r"[0-9a-f]+ <([^>+]+)>")
_CALLS = re.compile(r"^(bl|blx|b|b[a-z]{2}|jal|j|tail|call)(\.[nw])?$")
_INDIRECT = re.compile(r"^(blx|bx|jalr|jr|c\.jr|c\.jalr)$")
_REGISTERS = {"s": 4, "d": 8, "r": 4}


def deepest_stack(disassembly: str, prefix: str) -> int | None:
    """Bytes of the deepest call chain from any public function, from the text of objdump -d (Arm or RISC-V).

    None where a function calls through a pointer or calls itself.
    """
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    unknown: set[str] = set()
    function = ""
    for line in disassembly.splitlines():
        start = _FUNCTION.match(line)
        if start:
            function = start.group(1)
            frames[function], calls[function] = 0, set()
            continue
        parts = line.split("\t")
        if len(parts) < 2 or not function:
            continue
        name, operands = parts[1].strip(), parts[2] if len(parts) > 2 else ""
        frames[function] += _pushed(name, operands)
        target = _TARGET.search(operands)
        if target and _CALLS.match(name) and (target.group(1) != function or name.startswith(("bl", "jal"))):
            calls[function].add(target.group(1))
        elif _INDIRECT.match(name) and not target and operands.split(",")[0].strip() not in ("lr", "ra", ""):
            unknown.add(function)
    try:
        return max(_depth(f"{prefix}_{f}", frames, calls, unknown, ()) for f in FUNCTIONS)
    except ExportError:
        return None


def _depth(
    name: str, frames: dict[str, int], calls: dict[str, set[str]], unknown: set[str], above: tuple[str, ...]
) -> int:
    if name in above or name in unknown or name not in frames:
        raise ExportError(f"the stack of {name} cannot be followed")
    below = (_depth(callee, frames, calls, unknown, (*above, name)) for callee in calls[name])
    return frames[name] + max(below, default=0)


def _pushed(name: str, operands: str) -> int:
    operands = operands.split("@")[0].split(";")[0].split("#", 1)[0] if "sp,sp" in operands else operands
    base = name.split(".")[0]
    if base in ("push", "vpush") or (base in ("stmdb", "vstmdb") and operands.startswith("sp!")):
        return _listed(operands[operands.index("{") + 1 : operands.index("}")])
    if base in ("sub", "subw"):
        found = re.match(r"sp, (?:sp, )?#(\d+)", operands)
        return int(found.group(1)) if found else 0
    if base in ("str", "strd", "vstr"):
        found = re.search(r"\[sp, #-(\d+)\]!", operands)
        return int(found.group(1)) if found else 0
    if base in ("addi", "c") and (found := re.match(r"sp,sp,-(\d+)", operands)):
        return int(found.group(1))
    return 0


def _listed(registers: str) -> int:
    total = 0
    for part in registers.split(","):
        first, _, last = part.strip().partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        total += count * _REGISTERS.get(first[0], 4)
    return total
