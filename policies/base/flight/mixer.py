"""From wanted thrust and torque to rotor commands, giving up yaw first when the rotors saturate.

Also holds the one-line motor model with which a controller guesses rotor speeds that no sensor gives it.
"""

from __future__ import annotations

import numpy as np

from robot_rl.policies.base.flight.vehicle import Floats, Vehicle


def desaturate(wrench: Floats, from_wrench: Floats, lower: Floats | float, upper: Floats | float) -> Floats:
    """Rotor values between `lower` and `upper` that keep as much of the wrench as possible, all of it where it fits.

    Priority: roll and pitch torque (scaled only when they alone exceed the range), then collective (shifted to make
    room), then yaw (scaled by what is left).

    Args:
        wrench: (N, 4) collective, torque x, y, z in the units `from_wrench` maps to rotor values.
        from_wrench: (4, 4) inverse of the allocation matrix; collective must be shared equally.
        lower, upper: numbers or (N, 4) that leave room for some common value.

    Returns:
        (N, 4) rotor values.
    """
    demand = wrench @ from_wrench.T
    lower, upper = np.broadcast_to(lower, demand.shape), np.broadcast_to(upper, demand.shape)
    fits = np.all((demand >= lower) & (demand <= upper), axis=1, keepdims=True)
    if fits.all():
        return demand
    tilt = wrench[:, 1:3] @ from_wrench[:, 1:3].T
    # A rotor i may stand above a rotor j by no more than upper_i − lower_j.
    spread = tilt[:, :, None] - tilt[:, None, :]  # (N, 4, 4)
    room = upper[:, :, None] - lower[:, None, :]
    share = np.where(spread > 1e-12, room / np.maximum(spread, 1e-12), 1.0).min(axis=(1, 2))
    tilt = tilt * np.clip(share, 0.0, 1.0)[:, None]
    collective = wrench[:, 0] * from_wrench[:, 0].mean()
    collective = np.clip(collective, (lower - tilt).max(axis=1), (upper - tilt).min(axis=1))
    base = collective[:, None] + tilt
    yaw = wrench[:, 3:4] * from_wrench[:, 3]
    room = np.where(yaw > 0, upper - base, base - lower)
    share = np.where(np.abs(yaw) > 1e-12, room / np.maximum(np.abs(yaw), 1e-12), 1.0).min(axis=1)
    limited = np.clip(base + np.clip(share, 0.0, 1.0)[:, None] * yaw, lower, upper)
    return np.where(fits, demand, limited)


class Mixer:
    """Allocation for one vehicle, with optional lead against motor lag."""

    def __init__(self, vehicle: Vehicle) -> None:
        self.vehicle = vehicle
        self.to_wrench = vehicle.allocation()
        self.from_wrench: Floats = np.linalg.inv(self.to_wrench).astype(np.float64)

    def command(self, thrust: Floats, torque: Floats, rotor_speed: Floats, lead: float) -> Floats:
        """Normalised rotor commands (N, 4) in [0, 1].

        Args:
            thrust: (N,) collective in N.
            torque: (N, 3) body torque in N m.
            rotor_speed: (N, 4) estimated normalised speeds.
            lead: 1 commands the wanted speed itself; larger overshoots it so that the lag shrinks to 1/lead.
        """
        wrench = np.concatenate([thrust[:, None], torque], axis=1)
        wanted = desaturate(wrench, self.from_wrench, self.vehicle.min_thrust, self.vehicle.max_thrust)
        speed = self.vehicle.speed_for(wanted)
        # The wanted speeds are within reach; only the overshoot has to fit into what they leave.
        overshoot = (lead - 1.0) * (speed - rotor_speed)
        return speed + desaturate(overshoot @ self.to_wrench.T, self.from_wrench, -speed, 1.0 - speed)

    def limited(self, command: Floats) -> Floats:
        """Bring commands (N, 4) into [0, 1] with the same priorities."""
        return desaturate(command @ self.to_wrench.T, self.from_wrench, 0.0, 1.0)


def rotor_speed_after(speed: Floats, command: Floats, dt: Floats, vehicle: Vehicle) -> Floats:
    """First-order motor, exact over `dt` (N, 1) s: normalised speeds (N, 4) after holding `command` (N, 4)."""
    tau = np.where(command > speed, vehicle.tau_rise, vehicle.tau_fall)
    return command + (speed - command) * np.exp(-dt / tau)
