"""Terms of rewards and conditions as pure functions of arrays: (N, …) in, (N,) out, unweighted."""

from __future__ import annotations

import torch
from torch import Tensor


def near(distance: Tensor, scale: float) -> Tensor:
    """1 − tanh(d/scale): 1 at the goal, with a slope far away too. Distance (N,) in m."""
    return 1.0 - torch.tanh(distance / scale)


def planar(a: Tensor, b: Tensor) -> Tensor:
    """Horizontal distance (N,) m of two points (N, 3)."""
    return (a - b)[:, :2].norm(dim=1)


def off_push(tip: Tensor, pushed: Tensor, goal: Tensor, near_end: float, far_end: float, clear: float) -> Tensor:
    """How far (N,) m a tip is from where it can push a low object towards its goal; points (N, 3) m, world.

    That is a strip on the line through both, at the object's height, between two ends behind its middle. The way there
    is measured around the object, for it stands in the way: along a circle through the far end, plus the distance from
    that circle, plus the difference in height. Inside the circle is only who is low and less than `clear` off the line.
    """
    way = (goal - pushed)[:, :2]
    along = way / way.norm(dim=1, keepdim=True).clamp(min=1e-3)
    at = tip - pushed
    behind = -(at[:, :2] * along).sum(1)
    beside = (at[:, 0] * along[:, 1] - at[:, 1] * along[:, 0]).abs()
    radius, height = at[:, :2].norm(dim=1), at[:, 2]
    apart = torch.maximum(height, beside - 0.5 * clear) / clear
    nearest = near_end + (far_end - near_end) * apart.clamp(0.0, 1.0)
    off = torch.clamp(nearest - radius, min=0) + torch.clamp(radius - far_end, min=0)
    return off + far_end * torch.atan2(beside, behind) + height.abs()


def off_grasp(distance: Tensor, width: Tensor, around: float, wide: float) -> Tensor:
    """How far (N,) m a gripper is from having an object between its fingers.

    Args:
        distance: (N,) m from the middle of the fingers to that of the object. width: (N,) m between the fingers.
        around: m; nearer than this the fingers are beside the object and may close.
        wide: m; farther away, what the fingers lack to this opening is added three times: closed ones would come to lie
            on the object, where opening them changes nothing else. Counted once, it is too little for the mean of a
            policy to open where its noise does so often enough.
    """
    return distance + 3.0 * torch.where(distance < around, 0.0, torch.clamp(wide - width, min=0))


def band(value: Tensor, low: float, high: float, margin: float) -> Tensor:
    """1 inside [low, high], falling linearly to 0 within `margin` outside."""
    outside = torch.clamp(low - value, min=0) + torch.clamp(value - high, min=0)
    return torch.clamp(1.0 - outside / margin, min=0)


def action_rate(action: Tensor, previous: Tensor) -> Tensor:
    """Squared change of the action (N, A), summed."""
    return (action - previous).square().sum(1)


def joint_speed(vel: Tensor) -> Tensor:
    """Squared joint velocities (N, J), summed, rad²/s²."""
    return vel.square().sum(1)


def excess(value: Tensor, allowed: float) -> Tensor:
    """What is beyond the allowed, ≥ 0."""
    return torch.clamp(value - allowed, min=0)


def outside_box(pos: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """m by which points (N, 3) lie outside a box, along their worst axis."""
    return torch.clamp(torch.maximum(lower - pos, pos - upper), min=0).amax(1)


def symmetric_angle(angle: Tensor, fold: int) -> Tensor:
    """An angle (N,) rad of a body with `fold`-fold symmetry about the vertical, in [−π/fold, π/fold)."""
    step = 2.0 * torch.pi / fold
    return torch.remainder(angle + 0.5 * step, step) - 0.5 * step
