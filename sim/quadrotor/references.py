"""What a vehicle may be asked to follow: analytic paths with velocity and acceleration, for torch and for numpy.

`xp` is `torch` or `numpy`; time and results are arrays of the same kind. World frame, SI units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError


class Target(NamedTuple):
    """A set-point for each of N vehicles, component-first."""

    pos: Any  # (3, N) m
    vel: Any  # (3, N) m/s
    acc: Any  # (3, N) m/s²
    yaw: Any  # (N,) rad


def _phase(xp: Any, t: Any, period: float, ramp: float) -> tuple[Any, Any, Any]:
    """Turns done at time t, their rate and its derivative; the rate rises linearly to 1/period in `ramp` seconds."""
    early = t < ramp
    turns = xp.where(early, t * t / (2 * ramp * period), (t - ramp / 2) / period)
    rate = xp.where(early, t / (ramp * period), 1 / period + 0 * t)
    return turns, rate, xp.where(early, 1 / (ramp * period) + 0 * t, 0 * t)


def figure_eight(xp: Any, t: Any, period: float = 5.5, size: float = 1.0, ramp: float = 2.0) -> Target:
    """A horizontal eight of 2·size × size metres, started at its crossing; yaw 0.

    θ = 2πφ + π/2, x = size cos θ, y = size/2 sin 2θ with φ' ramped up linearly (learning_to_fly_controller).

    Args:
        t: (N,) s ≥ 0; period: s for one eight; ramp: s until full speed.
    """
    turns, rate, change = _phase(xp, t, period, ramp)
    theta, w, dw = 2 * math.pi * turns + math.pi / 2, 2 * math.pi * rate, 2 * math.pi * change
    cos1, sin1, cos2, sin2 = xp.cos(theta), xp.sin(theta), xp.cos(2 * theta), xp.sin(2 * theta)
    zero = 0 * t
    pos = [size * cos1, size / 2 * sin2, zero]
    vel = [-size * sin1 * w, size * cos2 * w, zero]
    acc = [
        -size * (cos1 * w * w + sin1 * dw),
        size * (cos2 * dw - 2 * sin2 * w * w),
        zero,
    ]
    return Target(xp.stack(pos), xp.stack(vel), xp.stack(acc), zero)


def step_reference(xp: Any, t: Any, size: float = 0.5, at: float = 1.0) -> Target:
    """The target jumps by `size` m along x at `at` s."""
    zero = 0 * t
    still = xp.stack([zero, zero, zero])
    return Target(xp.stack([xp.where(t >= at, size + zero, zero), zero, zero]), still, still, zero)


class Waypoints:
    """A twice differentiable path through points: a quintic per leg, at rest at both ends, no acceleration at points.

    Attributes:
        times: (S + 1,) s at which the points are passed.
        coefficients: (S, 3, 6), rising powers of the time since the leg's start.
    """

    def __init__(self, points: Sequence[Sequence[float]], speed: float = 0.8) -> None:
        """Points (x, y, z) in m, at least two; `speed` in m/s is the mean on a leg.

        Raises:
            ConfigError: too few points, wrong shape, not finite, or speed not positive.
        """
        p = np.asarray(points, dtype=float)
        if p.ndim != 2 or p.shape[1:] != (3,) or len(p) < 2 or not np.all(np.isfinite(p)):
            raise ConfigError(f"way points must be at least two finite (x, y, z), got {np.asarray(points).tolist()}")
        if not speed > 0:
            raise ConfigError(f"way point speed {speed} m/s; it must be > 0")
        durations = np.maximum(np.linalg.norm(np.diff(p, axis=0), axis=1) / speed, 0.3)
        self.times: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(durations)])
        v = np.zeros_like(p)
        v[1:-1] = (p[2:] - p[:-2]) / (self.times[2:] - self.times[:-2])[:, None]
        self.coefficients = np.stack(
            [_quintic(*leg) for leg in zip(p[:-1], p[1:], v[:-1], v[1:], durations, strict=True)]
        )

    def sample(self, xp: Any, t: Any) -> Target:
        """The set-point at times t (N,); after the last point it stays there. Yaw 0."""
        times, table = (self.times, self.coefficients) if xp is np else self._as(xp, t)
        t_in = xp.clip(t, 0.0, float(self.times[-1]))
        leg = xp.clip(xp.searchsorted(times, t_in, side="right") - 1, 0, len(self.coefficients) - 1)
        s = t_in - times[leg]
        c = [table[leg, :, k].T for k in range(6)]
        pos = c[0] + s * (c[1] + s * (c[2] + s * (c[3] + s * (c[4] + s * c[5]))))
        vel = c[1] + s * (2 * c[2] + s * (3 * c[3] + s * (4 * c[4] + s * 5 * c[5])))
        acc = 2 * c[2] + s * (6 * c[3] + s * (12 * c[4] + s * 20 * c[5]))
        return Target(pos, vel, acc, 0 * t)

    def _as(self, xp: Any, like: Any) -> tuple[Any, Any]:
        return tuple(xp.as_tensor(a, dtype=like.dtype, device=like.device) for a in (self.times, self.coefficients))


def _quintic(p0: NDArray[Any], p1: NDArray[Any], v0: NDArray[Any], v1: NDArray[Any], T: float) -> NDArray[np.float64]:
    """Coefficients (3, 6) from p0, v0 to p1, v1 in T seconds with zero acceleration at both ends."""
    d, a, b = p1 - p0, v0 * T, v1 * T
    c3, c4, c5 = 10 * d - 6 * a - 4 * b, -15 * d + 8 * a + 7 * b, 6 * d - 3 * a - 3 * b
    return np.stack([p0, v0, 0 * p0, c3 / T**3, c4 / T**4, c5 / T**5], axis=1)
