"""Forward and inverse kinematics of a serial chain, batched in torch, differentiable, and exportable to ONNX.

The chain is read once from a compiled `mujoco.MjModel`; from then on only tensor operations of fixed count remain, so
that an action map which moves an end effector travels inside the policy file. Not for trees, closed loops, free
joints, or collision avoidance. N is the batch, J the number of joints in the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import mujoco

_FAR = 0.2  # m and half of it in rad: error that one iteration tries to remove at most


class KinematicChain(nn.Module):
    """From the world, or from body `root`, to a site.

    Every joint's transform is linear in (1, cos q, sin q, q) with constant 4 × 4 matrices, in which all rigid
    bodies before the joint are folded.

    Attributes:
        joints: names from root to site; their order in every argument. J of them.
        lower, upper: (J,) rad (m for slides), the model's joint ranges; infinite where there is none.
    """

    terms: Tensor
    axes: Tensor
    anchors: Tensor
    end: Tensor
    hinge: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, model: mujoco.MjModel, site: str, root: str = "world") -> None:
        """Raises:
        UnknownName: the model has no such site.
        ConfigError: root does not carry the site, no joint lies between them, or one is a ball or free joint.
        """
        super().__init__()
        known = [model.site(i).name for i in range(model.nsite)]
        if site not in known:
            raise UnknownName("site", site, known)
        bodies = _bodies_between(model, root, int(model.site(site).bodyid[0]), site)
        fixed, terms, ids = np.eye(4), [], []
        for body in bodies:
            fixed = fixed @ _transform(model.body_pos[body], model.body_quat[body])
            for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
                terms.append(_joint_terms(model, joint, fixed))
                ids.append(joint)
                fixed = np.eye(4)
        if not ids:
            raise ConfigError(f"no joint between body '{root}' and site '{site}': nothing to move")
        end = fixed @ _transform(model.site(site).pos, model.site(site).quat)
        limited = model.jnt_limited[ids].astype(bool)
        self.joints = tuple(model.joint(i).name for i in ids)
        for name, value in (
            ("terms", np.stack(terms).reshape(-1, 4, 16)),  # (J, 4 functions, 4 · 4)
            ("axes", model.jnt_axis[ids][..., None]),  # (J, 3, 1)
            ("anchors", model.jnt_pos[ids][..., None]),  # (J, 3, 1)
            ("end", end),
            ("hinge", (model.jnt_type[ids] == _HINGE)[:, None]),  # (J, 1)
            ("lower", np.where(limited, model.jnt_range[ids, 0], -np.inf)),
            ("upper", np.where(limited, model.jnt_range[ids, 1], np.inf)),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(value), dtype=torch.float32))

    def frames(self, q: Tensor) -> Tensor:
        """(N, J, 4, 4): the pose behind every joint of the chain, as seen from the root."""
        functions = torch.stack([torch.ones_like(q), torch.cos(q), torch.sin(q), q], dim=-1).transpose(0, 1)
        steps = (functions @ self.terms).reshape(len(self.joints), -1, 4, 4)
        poses = [steps[0]]
        for j in range(1, len(self.joints)):
            poses.append(poses[-1] @ steps[j])
        return torch.stack(poses, dim=1)

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """q (N, J) rad (m) → position (N, 3) m and rotation (N, 3, 3) of the site, as seen from the root."""
        pose = self.frames(q)[:, -1] @ self.end
        return pose[:, :3, 3], pose[:, :3, :3]

    def jacobian(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Position (N, 3), rotation (N, 3, 3), Jacobian (N, 6, J): velocity in m/s, then angular velocity in rad/s."""
        frames = self.frames(q)
        pose = frames[:, -1] @ self.end
        rotations = frames[..., :3, :3]
        axes = (rotations @ self.axes)[..., 0]
        arms = pose[:, None, :3, 3] - (rotations @ self.anchors)[..., 0] - frames[..., :3, 3]
        linear = self.hinge * _cross(axes, arms) + (1.0 - self.hinge) * axes
        return pose[:, :3, 3], pose[:, :3, :3], torch.cat([linear, self.hinge * axes], dim=-1).transpose(1, 2)


class InverseKinematics(nn.Module):
    """Damped least squares with a preferred posture in the null space; a fixed number of iterations, unrolled.

    Wampler (1986); Nakamura & Hanafusa (1986). Joint ranges are kept by clipping after every iteration.

    Args:
        chain: the arm.
        rest: (J,) rad, posture preferred where the task leaves freedom; None: the arm stays as near as it can.
        iterations: more when targets are far; 2 are enough for the small steps of a policy.
        damping: λ in m and rad: larger is calmer near singular poses, smaller converges faster.
        posture: share of the way to `rest` that the null space goes in one iteration.
    """

    rest: Tensor

    def __init__(
        self,
        chain: KinematicChain,
        rest: Sequence[float] | None = None,
        iterations: int = 2,
        damping: float = 0.03,
        posture: float = 0.1,
    ) -> None:
        super().__init__()
        if iterations < 1 or damping <= 0.0 or not 0.0 <= posture <= 1.0:
            given = f"iterations = {iterations}, damping = {damping}, posture = {posture}"
            raise ConfigError(f"inverse kinematics: {given}; need at least 1, more than 0, and 0 to 1")
        if rest is not None and len(rest) != len(chain.joints):
            raise ConfigError(f"inverse kinematics: rest has {len(rest)} values for the joints {chain.joints}")
        self.chain, self.iterations, self.damping = chain, iterations, damping
        self.posture = 0.0 if rest is None else posture
        self.register_buffer("rest", torch.zeros(len(chain.joints)) if rest is None else torch.tensor(list(rest)))

    def forward(self, q: Tensor, target_pos: Tensor, target_rot: Tensor) -> Tensor:
        """Joint positions (N, J) that bring the site from where it is at q to the target, as far as can be.

        Args:
            q: (N, J) rad. target_pos: (N, 3) m. target_rot: (N, 3, 3), the site's axes; both as seen from the root.
        """
        for _ in range(self.iterations):
            pos, rot, jac = self.chain.jacobian(q)
            error = torch.cat(
                [_shorter(target_pos - pos, _FAR), _shorter(rotation_error(rot, target_rot), _FAR / 2)], 1
            )
            wish = self.posture * (self.rest - q)
            missing = error[..., None] - jac @ wish[..., None]
            square = jac @ jac.transpose(1, 2) + self.damping**2 * torch.eye(6, device=q.device, dtype=q.dtype)
            step = (jac.transpose(1, 2) @ solve_positive(square, missing))[..., 0] + wish
            q = torch.minimum(torch.maximum(q + step, self.chain.lower), self.chain.upper)
        return q


def rotation_error(rot: Tensor, target: Tensor) -> Tensor:
    """(N, 3): axis times 2·tan(θ/2), the turn in world axes from rot to target, both (N, 3, 3); θ itself when small.

    Bounded near half a turn, where the axis is not defined.
    """
    turn = target @ rot.transpose(1, 2)
    skew = [turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]]
    cosine = 0.5 * (turn[:, 0, 0] + turn[:, 1, 1] + turn[:, 2, 2] - 1.0)
    return torch.stack(skew, dim=1) / (1.0 + cosine).clamp(min=0.05)[:, None]


def pointing_down(yaw: Tensor) -> Tensor:
    """(N, 3, 3): z axis straight down, x axis turned by yaw (N,) rad from the root's x axis about its z axis."""
    c, s, zero, one = torch.cos(yaw), torch.sin(yaw), torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([c, s, zero, s, -c, zero, zero, zero, -one], dim=1).reshape(-1, 3, 3)


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """x (N, n, m) with matrix · x = right for symmetric positive definite (N, n, n): Gauss–Jordan without pivots.

    ONNX has no linear solver; this is 3 n operations whatever the batch.
    """
    n = matrix.shape[1]
    both = torch.cat([matrix, right], dim=2)
    unit = torch.eye(n, device=matrix.device, dtype=matrix.dtype)
    for k in range(n):
        row = both[:, k : k + 1, :] / both[:, k : k + 1, k : k + 1]
        both = both - (both[:, :, k : k + 1] - unit[:, k : k + 1]) * row
    return both[:, :, n:]


_HINGE, _SLIDE = 3, 2  # mujoco.mjtJoint


def _bodies_between(model: mujoco.MjModel, root: str, body: int, site: str) -> list[int]:
    bodies: list[int] = []
    while body != 0 and model.body(body).name != root:
        bodies.insert(0, body)
        body = int(model.body_parentid[body])
    if body == 0 and root != "world":
        above = [model.body(i).name for i in bodies]
        raise ConfigError(f"site '{site}' is not carried by body '{root}'; the bodies that carry it are {above}")
    return bodies


def _transform(pos: NDArray[np.floating], quat: NDArray[np.floating]) -> NDArray[np.floating]:
    w, x, y, z = np.asarray(quat, float)
    out = np.eye(4)
    out[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    out[:3, 3] = pos
    return out


def _joint_terms(model: mujoco.MjModel, joint: int, fixed: NDArray[np.floating]) -> NDArray[np.floating]:
    """(4, 4, 4): factors of 1, cos q, sin q and q in fixed · joint(q)."""
    kind, name = int(model.jnt_type[joint]), model.joint(joint).name
    if kind not in (_HINGE, _SLIDE) or model.qpos0[model.jnt_qposadr[joint]] != 0.0:
        raise ConfigError(f"joint '{name}' in the chain: only hinges and slides with reference 0 are supported")
    axis, anchor = model.jnt_axis[joint], model.jnt_pos[joint]
    out = np.zeros((4, 4, 4))
    if kind == _SLIDE:
        out[0], out[3, :3, 3] = np.eye(4), axis
    else:
        along = np.outer(axis, axis)
        across = np.eye(3) - along
        around = np.cross(np.eye(3), axis)
        out[0, :3, :3], out[1, :3, :3], out[2, :3, :3] = along, across, around
        out[0, :3, 3], out[1, :3, 3], out[2, :3, 3] = anchor - along @ anchor, -across @ anchor, -around @ anchor
        out[0, 3, 3] = 1.0
    return fixed @ out


def _cross(a: Tensor, b: Tensor) -> Tensor:
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-1)


def _shorter(vector: Tensor, most: float) -> Tensor:
    """The vectors (N, 3), none longer than `most`."""
    return vector * (most / vector.norm(dim=1, keepdim=True).clamp(min=most))
