"""Arm MPS2 with FPGA image AN505: Cortex-M33 with single-precision floating point."""

from robot_rl.firmware_export.board import EmulatedBoard, Region

BOARD = EmulatedBoard(
    name="mps2-an505",
    description="Arm MPS2 AN505, Cortex-M33",
    compiler="arm-none-eabi-gcc",
    flags=("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    qemu="qemu-system-arm",
    machine=("-M", "mps2-an505"),
    startup="startup_cortex_m.c",
    code=Region(0x10000000, 4 * 1024 * 1024),  # the secure alias of the code memory, where this machine starts
    ram=Region(0x38000000, 4 * 1024 * 1024),  # the secure alias of SSRAM 2 and 3
)
