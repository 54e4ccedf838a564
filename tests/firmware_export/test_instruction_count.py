"""Counting instructions on the emulated chip, and the benchmark that compares with another generator."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl.firmware_export.board import load_emulated
from robot_rl.firmware_export.instructions import count_instructions, count_program
from robot_rl.firmware_export.toolchain import APT, available

NEEDED = ("arm-none-eabi-gcc", "qemu-system-arm")
pytestmark = pytest.mark.skipif(not available(*NEEDED), reason=f"needs {' and '.join(NEEDED)}: {APT[NEEDED[0]]}")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("turns", [0, 25])
def test_a_loop_of_known_length(tmp_path: Path, turns: int) -> None:
    """Three instructions per turn, written in assembly; the return and the set-up of the loop come on top."""
    body = f'__asm__ volatile("movs r0, #{turns + 1}\\n1: nop\\nsubs r0, #1\\nbne 1b" ::: "r0", "cc");'
    (tmp_path / "loop.c").write_text(
        "void counted_setup(void);\nvoid counted(void);\nvoid counted_setup(void) {}\n"
        f'__attribute__((naked)) void counted(void) {{ {body} __asm__ volatile("bx lr"); }}\n'
    )
    count = count_program(tmp_path, ["loop.c"], load_emulated("stm32f405"))
    between = count - (1 + 3 * (turns + 1) + 1)
    assert 0 <= between <= 8  # from the return to the mark: the call that sets it


def test_instructions_per_multiply_accumulate(compact: Path, with_history: Path) -> None:
    for path, macs in ((compact, 35 * 64 + 64 * 64 + 64 * 4 + 16), (with_history, 146 * 64 + 64 * 64 + 64 * 4)):
        assert 2.0 < count_instructions(path) / macs < 4.0


@pytest.mark.skipif(
    importlib.util.find_spec("emx_onnx_cgen") is None, reason="needs emx-onnx-cgen: pip install emx-onnx-cgen"
)
def test_at_most_half_the_instructions_of_emx_onnx_cgen() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "firmware_instructions.py"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mlp-16-64-64-4" in done.stdout
