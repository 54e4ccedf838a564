"""STM32F405 (Cortex-M4F, 168 MHz): the chip of the Crazyflie 2.x; QEMU's machine netduinoplus2."""

from robot_rl.firmware_export.board import EmulatedBoard, Region

BOARD = EmulatedBoard(
    name="stm32f405",
    description="STM32F405, Cortex-M4F, as on the Crazyflie 2.x",
    compiler="arm-none-eabi-gcc",
    flags=("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    qemu="qemu-system-arm",
    machine=("-M", "netduinoplus2"),
    startup="startup_cortex_m.c",
    code=Region(0x08000000, 1024 * 1024),  # Source: RM0090, table 5; QEMU maps the same
    ram=Region(0x20000000, 112 * 1024),  # SRAM1; SRAM2 and CCM are left alone
)
