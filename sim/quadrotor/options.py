"""Every knob of a flight task as frozen data: noise, delays, disturbances, resets, rewards. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noise:
    """White sensor noise, standard deviations; fresh at every control step.

    Defaults after Learning to Fly in Seconds, which adds 1e-3 to each entry of the rotation matrix. Here attitude is a
    quaternion and is turned by a random rotation of 1e-3 rad per body axis, which moves the entries as much; where an
    observer has rotation-matrix entries and asks for it (`l2f`), the noise is added to the entries instead.

    Attributes:
        position: m; attitude: rad; velocity: m/s; body_rate: rad/s; scale: multiplies all four.
    """

    position: float = 1e-3
    attitude: float = 1e-3
    velocity: float = 2e-3
    body_rate: float = 2e-3
    scale: float = 1.0
