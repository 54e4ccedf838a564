"""A one-cell lithium-polymer battery: charge, voltage under load, and what is left of the thrust. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError

# Resting voltage of a LiPo cell against state of charge; typical discharge curve, rounded to 10 mV.
_CHARGE = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_VOLTAGE = (3.0, 3.45, 3.6, 3.7, 3.78, 3.87, 4.0, 4.2)


@dataclass(frozen=True)
class BatteryModel:
    """Crazyflie 2.x: 250 mAh, about seven minutes of hover (Bitcraze's data sheet), so about 2 A there.

    Attributes:
        capacity: ampere hours.
        charge: state of charge at reset, 0 to 1.
        resistance: inner and wiring resistance in ohm.
        idle_current, full_current: ampere with rotors still and at full speed; the current grows with speed cubed.
        reference_voltage: voltage under load at which the rotors give their nominal thrust; thrust goes with voltage².
    """

    capacity: float = 0.25
    charge: float = 1.0
    resistance: float = 0.13
    idle_current: float = 0.1
    full_current: float = 6.7
    reference_voltage: float = 3.93

    def __post_init__(self) -> None:
        if self.capacity <= 0 or not 0 <= self.charge <= 1 or self.resistance < 0:
            raise ConfigError(
                f"battery: capacity {self.capacity} Ah (> 0), charge {self.charge} (0 to 1), "
                f"resistance {self.resistance} Ω (≥ 0) are out of range"
            )

    def current(self, rotor: Any) -> Any:
        """Ampere for rotor fractions of shape (4, …)."""
        cubed = sum(r * r * r for r in rotor)
        return self.idle_current + (self.full_current - self.idle_current) * cubed / 4

    def voltage(self, charge: Any, current: Any) -> Any:
        """Terminal voltage in V under `current` at state of charge `charge`."""
        return np.interp(charge, _CHARGE, _VOLTAGE) - self.resistance * current

    def supply(self, voltage: Any) -> Any:
        """Thrust factor at that voltage, at most 1: the motor drivers hold the nominal speed while they can."""
        ratio = np.clip(voltage / self.reference_voltage, 0.5, 1.0)
        return ratio * ratio
