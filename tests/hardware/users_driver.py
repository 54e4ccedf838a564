"""A driver as a user would write it, from the documentation alone, in a package of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.hardware.parameters import setting
from robot_rl.protocols import Array, Reading


@dataclass(frozen=True)
class Options:
    """Settings of the driver."""

    port: str = setting("/dev/ttyUSB0", "serial port")


class Unplugged:
    """Cannot be reached, and says so with an exception of its vendor's."""

    name, robot = "unplugged", "crazyflie"
    Options = Options

    def __init__(self, options: Options) -> None:
        self.port, self.stopped = options.port, False
        self.signals, self.commands = SimDriver().signals, SimDriver().commands

    def connect(self) -> None:
        raise OSError(f"no such device: {self.port}")

    def read(self) -> Reading:
        return Reading({}, {})

    def write(self, command: Mapping[str, Array]) -> dict[str, Array]:
        return dict(command)

    def stop(self) -> None:
        self.stopped = True


class WithoutWrite:
    """Not finished yet."""

    name, robot, signals, commands = "half", "crazyflie", (), ()


class Raises:
    """Its constructor has a defect."""

    def __init__(self) -> None:
        raise KeyError("serial number")
