"""A 32-bit RISC-V with single-precision floating point on QEMU's virt machine."""

from robot_rl.firmware_export.board import EmulatedBoard, Region

BOARD = EmulatedBoard(
    name="rv32",
    description="RV32IMAFC, QEMU virt",
    compiler="riscv64-unknown-elf-gcc",
    flags=("-march=rv32imafc", "-mabi=ilp32f", "-mcmodel=medany", "--specs=picolibc.specs"),
    qemu="qemu-system-riscv32",
    machine=("-M", "virt", "-bios", "none"),
    startup="startup_riscv.c",
    code=Region(0x80000000, 4 * 1024 * 1024),
    ram=Region(0x80400000, 1024 * 1024),
)
