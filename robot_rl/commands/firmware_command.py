"""`robot-rl firmware`: from an ONNX policy to dependency-free C99."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "translate a policy to C99 for microcontrollers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy", type=Path, help="ONNX file; with a contract its limits and golden vectors travel along"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("firmware"), help="folder (default firmware)")
    parser.add_argument("--name", default="policy", help="prefix of files and C names")
    parser.add_argument("--board", help="also a project for this board (robot-rl list board)")
    parser.add_argument("--force", action="store_true", help="replace a folder of generated firmware")


def main(arguments: argparse.Namespace) -> int:
    from robot_rl.firmware_export.generate import generate

    report = generate(
        arguments.policy, arguments.output, name=arguments.name, board=arguments.board, overwrite=arguments.force
    )
    for warning in report.warnings:
        print(f"warning: {warning}")
    print(f"wrote {arguments.output}: {', '.join(str(f) for f in report.files)}")
    sizes = (("flash", report.flash_bytes), ("RAM", report.ram_bytes), ("stack", report.stack_bytes))
    print(", ".join(f"{name} {size} bytes" if size is not None else f"{name} not measured" for name, size in sizes))
    target = arguments.board or "cortex-m4"
    print(f"{report.macs} multiply-adds per call\nnext: robot-rl verify {arguments.policy} --target {target}")
    return 0
