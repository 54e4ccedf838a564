"""Policy file in, folder of C out: written aside and renamed, the same bytes for the same file."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from robot_rl.errors import ExportError
from robot_rl.firmware_export.interface import Defaults, Interface
from robot_rl.firmware_export.load import load_policy
from robot_rl.firmware_export.source import PolicySource

INTERFACE_FILE = "interface.json"


@dataclass(frozen=True)
class FirmwareReport:
    """What was generated.

    Attributes:
        files: names in the folder, sorted.
        flash_bytes: program, constants and the C library's parts on the measured chip; None: no compiler.
        ram_bytes: static memory and one state; None: no compiler.
        stack_bytes: deepest stack of any call; None: no compiler, or a call that cannot be followed.
        macs: multiply-accumulate operations of one call.
        warnings: what the user should know.
        measured_on: chip and compiler of the figures, or why there are none.
    """

    files: tuple[str, ...]
    flash_bytes: int | None
    ram_bytes: int | None
    stack_bytes: int | None
    macs: int
    warnings: tuple[str, ...]
    measured_on: str


def generate(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    name: str = "policy",
    board: str | None = None,
    overwrite: bool = False,
    defaults: Defaults | None = None,
) -> FirmwareReport:
    """Translate a policy to C99.

    Args:
        policy_path: an ONNX file, with or without a contract.
        out_dir: folder to write; it appears complete or not at all.
        name: prefix of files and of all C names.
        board: also write start-up code, linker script, serial program and Makefile for this board.
        overwrite: replace a folder that holds generated firmware, whatever else lies in it.
        defaults: what to assume about a file without a contract.

    Raises:
        ExportError: the policy cannot be translated, or the folder is not empty or cannot be written.
        ContractError: the policy file is damaged.
        UnknownName: there is no such board.
    """
    target = Path(out_dir).resolve()  # a link stays, the folder behind it is written
    _check_target(target, Path(out_dir), overwrite)
    source = PolicySource(load_policy(policy_path, name, defaults))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ExportError(f"cannot write into '{target.parent}': {error.strerror}; choose another with -o") from error
    try:
        report = _write(source, aside, name, board)
        aside.chmod(0o755)
        _replace(aside, target)
    except OSError as error:
        raise ExportError(f"cannot write '{target}': {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return report


def _check_target(target: Path, given: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ExportError(f"'{given}' is a file; give a folder")
    if target in (Path.cwd(), *Path.cwd().parents):
        raise ExportError(f"'{given}' is the folder you are in, or one above it; give a folder inside it")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise ExportError(
            f"folder '{given}' is not empty; choose another with -o, or ask for it to be replaced (--force, overwrite)"
        )
    if not (target / INTERFACE_FILE).is_file():
        raise ExportError(
            f"folder '{given}' holds other things than generated firmware (there is no {INTERFACE_FILE}) and is not "
            "replaced; choose another"
        )


def sources_of(source: Path, scratch: Path) -> tuple[Path, Interface]:
    """Folder of C and its interface, for a folder that `generate` wrote or for an ONNX file (translated into
    `scratch`).

    Raises:
        ExportError: neither; or the policy cannot be translated.
    """
    if not source.is_dir():
        made = PolicySource(load_policy(source))
        scratch.mkdir(parents=True)
        _write_policy(made, scratch, made.interface.prefix, ["Size not measured."])
        return scratch, made.interface
    try:
        text = (source / INTERFACE_FILE).read_text()
    except OSError as error:
        raise ExportError(
            f"'{source}' has no readable {INTERFACE_FILE}; give an ONNX file or a folder that was generated from one"
        ) from error
    return source, Interface.from_json(text)


def _write(source: PolicySource, folder: Path, name: str, board_name: str | None) -> FirmwareReport:
    from robot_rl.firmware_export import measure
    from robot_rl.firmware_export.board import load_board

    board = load_board(board_name or measure.DEFAULT_BOARD)
    _write_policy(source, folder, name, [])
    if board_name:
        board.write_project(folder, name)
    sizes = measure.measured(folder, source.interface, board)
    _write_policy(source, folder, name, sizes.lines)
    return FirmwareReport(
        tuple(sorted(p.name for p in folder.iterdir())),
        sizes.flash_bytes,
        sizes.ram_bytes,
        sizes.stack_bytes,
        source.macs,
        tuple(source.warnings),
        sizes.measured_on,
    )


def _write_policy(source: PolicySource, folder: Path, name: str, measured: list[str]) -> None:
    (folder / f"{name}.h").write_text(source.header(measured))
    (folder / f"{name}.c").write_text(source.source())
    (folder / INTERFACE_FILE).write_text(source.interface.to_json())


def _replace(aside: Path, target: Path) -> None:
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        try:
            os.rename(target, old / target.name)
            try:
                os.rename(aside, target)
            except OSError:
                os.rename(old / target.name, target)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(aside, target)
