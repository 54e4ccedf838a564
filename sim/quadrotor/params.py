"""One quadrotor's physical parameters as checked, frozen data, and their order in the arrays of `equations.py`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.sim.quadrotor.equations import GRAVITY, PARAMS

ROW: dict[str, int] = {name: i for i, name in enumerate(PARAMS)}
MASS, SUPPLY, GROUND_Z = ROW["mass"], ROW["supply"], ROW["ground_z"]
INERTIA = slice(ROW["jx"], ROW["jz"] + 1)
THRUST = slice(ROW["thrust0"], ROW["thrust2"] + 1)
GAIN = slice(ROW["gain0"], ROW["gain3"] + 1)
FORCE = slice(ROW["fx"], ROW["fz"] + 1)
TORQUE = slice(ROW["tx"], ROW["tz"] + 1)
WIND = slice(ROW["windx"], ROW["windz"] + 1)


@dataclass(frozen=True)
class VehicleParams:
    """A quadrotor with rotors at (±arm, ±arm). SI units; r is a rotor's speed as a fraction of full speed.

    Attributes:
        mass: kg.
        inertia: principal moments about body x, y, z, kg m².
        tau_rise, tau_fall: first-order motor lag in s while speeding up and slowing down.
        thrust: (c0, c1, c2) in N: thrust of one rotor = c0 + c1 r + c2 r².
        torque_ratio: reaction torque per thrust, m.
        arm: |x| = |y| of each rotor, m.
        drag_xy, drag_z: N s/m per rad/s of summed rotor speed, body frame.
        ground_effect: m²; thrust grows by the factor 1 + ground_effect / height².
    """

    mass: float
    inertia: tuple[float, float, float]
    tau_rise: float
    tau_fall: float
    thrust: tuple[float, float, float]
    torque_ratio: float
    arm: float
    drag_xy: float = 0.0
    drag_z: float = 0.0
    ground_effect: float = 0.0

    def __post_init__(self) -> None:
        positive = {"mass": self.mass, "tau_rise": self.tau_rise, "tau_fall": self.tau_fall}
        positive |= {"torque_ratio": self.torque_ratio, "arm": self.arm, "thrust[2]": self.thrust[2]}
        positive |= {f"inertia[{i}]": j for i, j in enumerate(self.inertia)}
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"vehicle: {name} = {value}; it must be finite and > 0")
        for name in ("drag_xy", "drag_z", "ground_effect"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise ConfigError(f"vehicle: {name} = {value}; it must be finite and ≥ 0")
        largest = max(self.inertia)
        if largest > sum(self.inertia) - largest:
            raise ConfigError(f"vehicle: inertia {self.inertia} breaks the triangle inequality of a rigid body")
        if self.thrust_to_weight <= 1:
            raise ConfigError(f"vehicle: thrust to weight {self.thrust_to_weight:.2f}; it must be > 1 to fly")

    @property
    def max_thrust(self) -> float:
        """Thrust of one rotor at full speed, N."""
        return sum(self.thrust)

    @property
    def thrust_to_weight(self) -> float:
        return 4 * self.max_thrust / (self.mass * GRAVITY)

    @property
    def hover_rotor(self) -> float:
        """Rotor speed in hover as a fraction of full speed."""
        c0, c1, c2 = self.thrust
        need = self.mass * GRAVITY / 4
        return (-c1 + math.sqrt(c1 * c1 - 4 * c2 * (c0 - need))) / (2 * c2)

    def column(self) -> NDArray[np.float64]:
        """Shape (P,), rows as `equations.PARAMS`: full battery, equal rotors, no disturbance or wind, ground at 0."""
        values = asdict(self)
        values |= dict(zip(("jx", "jy", "jz"), self.inertia, strict=True))
        values |= {f"thrust{i}": c for i, c in enumerate(self.thrust)}
        values |= {f"gain{i}": 1.0 for i in range(4)} | {"supply": 1.0}
        return np.array([values.get(name, 0.0) for name in PARAMS])
