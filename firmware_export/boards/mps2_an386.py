"""Arm MPS2 with FPGA image AN386: Cortex-M4F."""

from robot_rl.firmware_export.board import EmulatedBoard, Region

BOARD = EmulatedBoard(
    name="mps2-an386",
    description="Arm MPS2 AN386, Cortex-M4F",
    compiler="arm-none-eabi-gcc",
    flags=("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    qemu="qemu-system-arm",
    machine=("-M", "mps2-an386"),
    startup="startup_cortex_m.c",
    code=Region(0x00000000, 4 * 1024 * 1024),
    ram=Region(0x20000000, 4 * 1024 * 1024),
)
