"""What an estimator would say of the true state: late, biased, noisy, and sometimes not at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robot_rl.sim.delay import DelayLine
from robot_rl.sim.quadrotor.equations import STATE
from robot_rl.sim.quadrotor.options import FlightOptions

SENSED = STATE["omega"].stop  # rows position, quaternion, velocity, body rates; rotor speeds are not sensed
_ERROR_ROWS = 12  # position 3, attitude 3, velocity 3, body rates 3


def unit(quat: Tensor) -> Tensor:
    """Quaternions (4, N) of norm 1. Written out: torch's vector norm is several times slower here."""
    w, x, y, z = quat.unbind(0)
    return quat / torch.sqrt(w * w + x * x + y * y + z * z)


def rotated(quat: Tensor, angle: Tensor) -> Tensor:
    """Quaternions (4, N) turned by small body-frame rotation vectors (3, N) in rad; unit norm."""
    qw, qx, qy, qz = quat.unbind(0)
    hx, hy, hz = (0.5 * angle).unbind(0)
    turned = torch.stack(
        [
            qw - qx * hx - qy * hy - qz * hz,
            qx + qw * hx + qy * hz - qz * hy,
            qy + qw * hy + qz * hx - qx * hz,
            qz + qw * hz + qx * hy - qy * hx,
        ]
    )
    return unit(turned)


def interpolated(older: Tensor, newer: Tensor, share: Tensor) -> Tensor:
    """States (rows, N) between two samples; `share` (N,) of the older one. Quaternions take the short way round."""
    quat = STATE["quat"]
    same = (older[quat] * newer[quat]).sum(0) >= 0
    mixed = newer + share * (older - newer)
    q = newer[quat] + share * (torch.where(same, older[quat], -older[quat]) - newer[quat])
    mixed[quat] = unit(q)
    return mixed


class Sensors:
    """Latency, dropouts with hold, per-episode bias and white noise for N vehicles."""

    def __init__(
        self, options: FlightOptions, num_envs: int, generator: torch.Generator, attitude_noise: bool = True
    ) -> None:
        """`attitude_noise`: False where the noise goes into the observation's rotation matrix instead."""
        self._options, self._generator = options, generator
        device, noise, bias = generator.device, options.noise, options.bias
        self._line = DelayLine(SENSED, num_envs, options.latency.max, options.control_dt, device)
        self._latency = torch.zeros(num_envs, device=device)
        self._bias = torch.zeros(_ERROR_ROWS, num_envs, device=device)
        self._held = torch.zeros(SENSED, num_envs, device=device)

        def rows(position: float, attitude: float, velocity: float, body_rate: float) -> Tensor:
            values = [position] * 3 + [attitude] * 3 + [velocity] * 3 + [body_rate] * 3
            return torch.tensor(values, device=device)[:, None]

        attitude = noise.attitude if attitude_noise else 0.0
        self._white = noise.scale * rows(noise.position, attitude, noise.velocity, noise.body_rate)
        self._bias_std = rows(bias.position, bias.attitude, bias.velocity, bias.body_rate)
        self._biased = bool(self._bias_std.any())

    def reset(self, env_ids: Tensor, state: Tensor) -> None:
        """New latency and bias for some environments, whose past was always `state` (17, len(env_ids))."""
        n, g, low, high = len(env_ids), self._generator, self._options.latency.min, self._options.latency.max
        self._line.fill(env_ids, state[:SENSED])
        if self._line.needed:
            self._latency[env_ids] = low + (high - low) * torch.rand(n, generator=g, device=g.device)
        if self._biased:
            self._bias[:, env_ids] = self._bias_std * torch.randn(_ERROR_ROWS, n, generator=g, device=g.device)

    def push(self, state: Tensor) -> None:
        """Take in the true state (17, N) of this control step."""
        self._line.push(state[:SENSED])

    def read(self) -> Tensor:
        """One sample (13, N); draws new noise, so call it once per control step."""
        g, n = self._generator, self._held.shape[1]
        late = self._line.newest
        if self._line.needed:
            older, newer, rest = self._line.at(self._latency)
            late = interpolated(older, newer, rest / self._line.dt)
        sample = self._disturbed(late, self._bias)
        if self._options.dropout > 0:
            lost = torch.rand(n, generator=g, device=g.device) < self._options.dropout
            sample = torch.where(lost, self._held, sample)
            self._held = sample
        return sample

    def first(self, env_ids: Tensor) -> Tensor:
        """The first sample (13, len(env_ids)) after `reset` of these environments."""
        sample = self._disturbed(self._line.newest[:, env_ids], self._bias[:, env_ids])
        if self._options.dropout > 0:
            self._held[:, env_ids] = sample
        return sample

    def _disturbed(self, true: Tensor, bias: Tensor) -> Tensor:
        g = self._generator
        error = self._white * torch.randn(_ERROR_ROWS, true.shape[1], generator=g, device=g.device)
        if self._biased:
            error = error + bias
        return torch.cat(
            [
                true[STATE["pos"]] + error[0:3],
                rotated(true[STATE["quat"]], error[3:6]),
                true[STATE["vel"]] + error[6:9],
                true[STATE["omega"]] + error[9:12],
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        tensors = {"latency": self._latency, "bias": self._bias, "held": self._held}
        return {"line": self._line.state_dict()} | {k: v.clone() for k, v in tensors.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._line.load_state_dict(state["line"])
        self._latency.copy_(state["latency"])
        self._bias.copy_(state["bias"])
        self._held = state["held"].to(self._held.device).clone()
