"""What a board is: something that turns generated C into a project of its own. Emulated boards also build and run it.

A file in `boards/` defines BOARD: an `EmulatedBoard`, or any object with the members of `Board`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Protocol, runtime_checkable

from robot_rl import registry
from robot_rl.errors import ConfigError
from robot_rl.firmware_export.toolchain import COMPILE, program, run

ALIASES = {
    "cortex-m4": "stm32f405",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
}
"""Processor → the emulated board that stands for it."""

RUNTIME = Path(__file__).parent / "runtime"


@runtime_checkable
class Board(Protocol):
    """A target for generated C."""

    name: str
    description: str

    def write_project(self, folder: Path, prefix: str) -> None:
        """Add to a folder that holds `<prefix>.c` and `<prefix>.h` everything that this board's own tools need."""
        ...


@dataclass(frozen=True)
class Region:
    """Memory of a chip: first address and bytes."""

    origin: int
    length: int


@dataclass(frozen=True)
class EmulatedBoard:
    """A chip that QEMU emulates and GCC compiles for.

    Attributes:
        compiler: its program name; `flags` choose processor and floating-point unit.
        libraries: linked last, in this order.
        qemu: its program name; `machine` are its arguments that choose the machine.
        startup: file of `runtime/` that runs before `main`.
        code: where constants and instructions lie; `ram` the rest.
    """

    name: str
    description: str
    compiler: str
    flags: tuple[str, ...]
    qemu: str
    machine: tuple[str, ...]
    startup: str
    code: Region
    ram: Region
    libraries: tuple[str, ...] = ("-lm", "-lc", "-lgcc")

    def write_project(self, folder: Path, prefix: str) -> None:
        """Start-up code, linker script, the program that answers over semihosting, and a Makefile."""
        for file in (self.startup, "serve.c", "semihosting.h"):
            (folder / file).write_text((RUNTIME / file).read_text())
        (folder / "board.ld").write_text(self.linker_script())
        (folder / "served_policy.h").write_text(_filled("served_policy.h.in", p=prefix, P=prefix.upper()))
        (folder / "Makefile").write_text(
            _filled(
                "Makefile.in",
                prefix=prefix,
                board=self.name,
                compiler=self.compiler,
                flags=" ".join((*COMPILE, *self.flags)),
                startup=self.startup,
                libraries=" ".join(self.libraries),
                run=" ".join(self.run_command("$(ELF)")).replace("$(ELF)", "$$(ELF)").replace("$$", "$"),
            )
        )

    def linker_script(self) -> str:
        """For GNU ld."""
        return _filled(
            "board.ld.in",
            code_origin=hex(self.code.origin),
            code_length=str(self.code.length),
            ram_origin=hex(self.ram.origin),
            ram_length=str(self.ram.length),
        )

    def build(self, folder: Path, sources: list[str], elf: Path, extra: tuple[str, ...] = ()) -> None:
        """Compile and link C files of a project folder.

        Raises:
            MissingDependency: no compiler for this chip.
            ExportError: the compiler's own words.
        """
        compiler = program(self.compiler, f"building for board '{self.name}'")
        run(
            [
                compiler,
                *COMPILE,
                *self.flags,
                *extra,
                "-I",
                folder,
                *(folder / s for s in sources),
                "-o",
                elf,
                "-nostartfiles",
                "-T",
                folder / "board.ld",
                "-Wl,--gc-sections",
                *self.libraries,
            ],
            f"building for board '{self.name}'",
        )

    def run_command(self, elf: str | Path) -> list[str]:
        """How QEMU runs a program, with the program's semihosting on standard input and output."""
        return [
            self.qemu,
            *self.machine,
            "-display",
            "none",
            "-serial",
            "none",
            "-monitor",
            "none",
            "-semihosting-config",
            "enable=on,target=native",
            "-kernel",
            str(elf),
        ]


def load_board(name: str) -> Board:
    """The board called `name`.

    Raises:
        UnknownName: there is none; lists those there are.
    """
    return registry.load("board", name)


def load_emulated(name: str) -> EmulatedBoard:
    """The board called `name`, or the one that stands for a processor (`ALIASES`); it must be one that can be emulated.

    Raises:
        UnknownName: there is none; ConfigError: it exists but is not emulated.
    """
    board = load_board(ALIASES.get(name, name))
    if not isinstance(board, EmulatedBoard):
        raise ConfigError(f"board '{name}' cannot be emulated; these can: {', '.join(emulated_names())}")
    return board


def emulated_names() -> list[str]:
    """Boards that QEMU can run."""
    return [n for n in registry.names("board") if isinstance(load_board(n), EmulatedBoard)]


def _filled(file: str, **values: str) -> str:
    return Template((RUNTIME / file).read_text()).substitute(values)
