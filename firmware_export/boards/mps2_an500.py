"""Arm MPS2 with FPGA image AN500: Cortex-M7 with single-precision floating point."""

from robot_rl.firmware_export.board import EmulatedBoard, Region

BOARD = EmulatedBoard(
    name="mps2-an500",
    description="Arm MPS2 AN500, Cortex-M7",
    compiler="arm-none-eabi-gcc",
    flags=("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    qemu="qemu-system-arm",
    machine=("-M", "mps2-an500"),
    startup="startup_cortex_m.c",
    code=Region(0x00000000, 4 * 1024 * 1024),
    ram=Region(0x20000000, 4 * 1024 * 1024),
)
