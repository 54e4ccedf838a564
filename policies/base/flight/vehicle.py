"""The plain numbers of a quadrotor that a model-based controller needs; the simulator keeps its own, richer set.

A controller is given these by the caller, so that `policies` never imports `sim`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, UnknownName

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Vehicle:
    """A quadrotor with four upward rotors. SI units; body frame x forward, y left, z up.

    Attributes:
        mass: kg.
        inertia: diagonal of the inertia about the centre of mass, kg m².
        rotor_xy: rotor positions in the body plane, m; order front-right, back-right, back-left, front-left.
        rotor_spin: sign of each rotor's reaction torque about body z.
        thrust_curve: (c0, c1, c2) in N: thrust of one rotor is c0 + c1·r + c2·r², r = speed / max_rotor_speed.
        torque_ratio: reaction torque over thrust, m.
        tau_rise, tau_fall: first-order motor time constants, s.
        max_rotor_speed: rad/s.
        gravity: m/s².
    """

    mass: float
    inertia: tuple[float, float, float]
    rotor_xy: tuple[tuple[float, float], ...]
    rotor_spin: tuple[float, ...]
    thrust_curve: tuple[float, float, float]
    torque_ratio: float
    tau_rise: float
    tau_fall: float
    max_rotor_speed: float
    gravity: float = 9.81

    def __post_init__(self) -> None:
        if len(self.rotor_xy) != 4 or len(self.rotor_spin) != 4:
            counts = f"{len(self.rotor_xy)} positions and {len(self.rotor_spin)} spins"
            raise ConfigError(f"a quadrotor has 4 rotors, got {counts}")
        scalars = (self.mass, *self.inertia, self.torque_ratio, self.tau_rise, self.tau_fall, self.max_rotor_speed)
        if not all(math.isfinite(x) and x > 0 for x in scalars):
            raise ConfigError(f"vehicle numbers must be finite and positive, got {scalars}")
        if self.max_thrust * 4 <= self.mass * self.gravity:
            raise ConfigError(f"vehicle cannot hover: 4 × {self.max_thrust:.4g} N carry less than {self.mass:.4g} kg")

    @property
    def max_thrust(self) -> float:
        """Of one rotor at full speed, N."""
        return float(sum(self.thrust_curve))

    @property
    def min_thrust(self) -> float:
        """Of one rotor standing still, N (the curve's constant)."""
        return float(self.thrust_curve[0])

    @property
    def hover_speed(self) -> float:
        """Normalised rotor speed at which the four rotors carry the weight."""
        return float(self.speed_for(np.array([self.mass * self.gravity / 4]))[0])

    def thrust(self, speed: Floats) -> Floats:
        """Thrust in N of rotors at normalised `speed` (any shape)."""
        c0, c1, c2 = self.thrust_curve
        return c0 + speed * (c1 + c2 * speed)

    def speed_for(self, thrust: Floats) -> Floats:
        """Normalised speed in [0, 1] that gives `thrust` in N; demands out of reach are clipped."""
        c0, c1, c2 = self.thrust_curve
        rest = np.clip(thrust, self.min_thrust, self.max_thrust) - c0
        if c2 == 0.0:
            return rest / c1
        return (np.sqrt(c1 * c1 + 4 * c2 * rest) - c1) / (2 * c2)

    def allocation(self) -> Floats:
        """(4, 4) matrix from rotor thrusts in N to (collective thrust N, torque x, y, z N m)."""
        x, y = np.array(self.rotor_xy, dtype=float).T
        return np.stack([np.ones(4), y, -x, self.torque_ratio * np.array(self.rotor_spin, dtype=float)])

    @staticmethod
    def from_mapping(numbers: Mapping[str, Any]) -> Vehicle:
        """Build from plain numbers keyed by attribute name, starting from the nominal Crazyflie.

        Raises:
            UnknownName: a key is not an attribute; the message lists them.
        """
        known = {f.name for f in fields(Vehicle)}
        for key in numbers:
            if key not in known:
                raise UnknownName("vehicle number", key, known)
        base = {name: getattr(CRAZYFLIE, name) for name in known}
        return Vehicle(**{**base, **{key: _frozen(value) for key, value in numbers.items()}})


def _frozen(value: Any) -> Any:
    """Lists and arrays to (nested) tuples of floats, scalars to float."""
    array = np.asarray(value, dtype=float)
    if array.ndim == 0:
        return float(array)
    return tuple(_frozen(row) for row in array)


_ARM = 0.028
_MAX_RPM = 21702.0

# Source: Learning to Fly in Seconds, arplaboratory/learning-to-fly, the training model of the Crazyflie 2.
CRAZYFLIE = Vehicle(
    mass=0.027,
    inertia=(3.85e-6, 3.85e-6, 5.9675e-6),
    rotor_xy=((_ARM, -_ARM), (-_ARM, -_ARM), (-_ARM, _ARM), (_ARM, _ARM)),
    rotor_spin=(-1.0, 1.0, -1.0, 1.0),
    thrust_curve=(0.0, 0.0, 3.16e-10 * _MAX_RPM**2),
    torque_ratio=0.005964552,
    tau_rise=0.15,
    tau_fall=0.15,
    max_rotor_speed=_MAX_RPM * 2 * math.pi / 60,
)
