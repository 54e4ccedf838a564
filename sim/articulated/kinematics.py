"""Forward and inverse kinematics of a serial chain, batched in torch, differentiable, and exportable to ONNX.

The chain is read once from a compiled `mujoco.MjModel`; from then on only tensor operations of fixed count remain, so
that an action map which moves an end effector travels inside the policy file. Not for trees, closed loops, free
joints, or collision avoidance. N is the batch, J the number of joints in the chain.

Inside, the batch is the last axis: so every operation runs over whole rows of robots, which for a few hundred of them
takes a fraction of the time of batched products of 4 × 4 matrices. A pose is (4, 3, N): three axes and the position.
Sums are added up term by term: so a robot alone gets the same to the last bit as in a batch.
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

    Every joint's frame has its origin on the joint and its z axis along it. The transform from the frame before is
    linear in (1, cos q, sin q, q) with constant matrices, in which all rigid bodies between are folded.

    Attributes:
        joints: names from root to site; their order in every argument. J of them.
        lower, upper: (J,) rad (m for slides), the model's joint ranges; infinite where there is none.
    """

    terms: Tensor
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
                frame = _joint_frame(model, joint)
                terms.append(fixed @ frame @ _MOTIONS[int(model.jnt_type[joint])])
                ids.append(joint)
                fixed = np.linalg.inv(frame)
        if not ids:
            raise ConfigError(f"no joint between body '{root}' and site '{site}': nothing to move")
        end = fixed @ _transform(model.site(site).pos, model.site(site).quat)
        limited = model.jnt_limited[ids].astype(bool)
        self.joints = tuple(model.joint(i).name for i in ids)
        for name, value in (
            ("terms", np.stack(terms).transpose(1, 0, 3, 2)[..., None]),  # (4 functions, J, 4 columns, 4, 1)
            ("end", end.T[..., None]),  # (4 columns, 4, 1)
            ("hinge", (model.jnt_type[ids] == _HINGE)[:, None, None]),  # (J, 1, 1)
            ("lower", np.where(limited, model.jnt_range[ids, 0], -np.inf)),
            ("upper", np.where(limited, model.jnt_range[ids, 1], np.inf)),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(value), dtype=torch.float32))
        self._only_hinges = bool(self.hinge.all())

    def poses(self, q: Tensor) -> Tensor:
        """q (J, N) → (J + 1, 4, 3, N): the pose behind every joint, and last of the site, as seen from the root."""
        fixed, of_cos, of_sin, of_q = self.terms.unbind(0)
        steps = fixed + of_cos * torch.cos(q)[:, None, None] + of_sin * torch.sin(q)[:, None, None]
        if not self._only_hinges:
            steps = steps + of_q * q[:, None, None]
        poses = [steps[0, :, :3]]
        for step in (*steps[1:].unbind(0), self.end):
            poses.append(_total(poses[-1][:, None] * step.transpose(0, 1)[:, :, None]))
        return torch.stack(poses)

    def columns(self, poses: Tensor) -> Tensor:
        """The Jacobian (J, 6, N) at these `poses`: the site's velocity in m/s, then its angular velocity in rad/s."""
        axes = poses[:-1, 2]
        linear = _cross(axes, poses[-1, 3] - poses[:-1, 3])
        if not self._only_hinges:
            linear, axes = self.hinge * linear + (1.0 - self.hinge) * axes, self.hinge * axes
        return torch.cat([linear, axes], dim=1)

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """q (N, J) rad (m) → position (N, 3) m and rotation (N, 3, 3) of the site, as seen from the root."""
        pose = self.poses(q.T)[-1]
        return pose[3].T, pose[:3].permute(2, 1, 0)

    def jacobian(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Position (N, 3), rotation (N, 3, 3), Jacobian (N, 6, J): velocity in m/s, then angular velocity in rad/s."""
        poses = self.poses(q.T)
        return poses[-1, 3].T, poses[-1, :3].permute(2, 1, 0), self.columns(poses).permute(2, 1, 0)


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
    damped: Tensor
    far: Tensor

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
        self.chain, self.iterations = chain, iterations
        self.posture = 0.0 if rest is None else posture
        self.register_buffer("rest", torch.zeros(len(chain.joints)) if rest is None else torch.tensor(list(rest)))
        self.register_buffer("damped", damping**2 * torch.eye(6)[..., None])
        self.register_buffer("far", torch.tensor([_FAR, _FAR / 2])[:, None])

    def forward(self, q: Tensor, target_pos: Tensor, target_rot: Tensor) -> Tensor:
        """Joint positions (N, J) that bring the site from where it is at q to the target, as far as can be.

        Args:
            q: (N, J) rad. target_pos: (N, 3) m. target_rot: (N, 3, 3), the site's axes; both as seen from the root.
        """
        target = torch.cat([target_rot.permute(2, 1, 0), target_pos.T[None]])
        return self.solve(q.T, target, self.chain.poses(q.T)).T

    def solve(self, q: Tensor, target: Tensor, poses: Tensor) -> Tensor:
        """The same with the batch as last axis: (J, N) from q (J, N), a target pose (4, 3, N) and the `poses` at q."""
        rest, lower, upper = self.rest[:, None], self.chain.lower[:, None], self.chain.upper[:, None]
        for left in reversed(range(self.iterations)):
            columns = self.chain.columns(poses)
            wish = self.posture * (rest - q)
            missing = self._error(poses[-1], target) - _total(columns * wish[:, None])
            square = _total(columns[:, :, None] * columns[:, None]) + self.damped
            step = _total(columns.transpose(0, 1) * solve_positive(square, missing[:, None])) + wish
            q = torch.minimum(torch.maximum(q + step, lower), upper)
            if left > 0:
                poses = self.chain.poses(q)
        return q

    def _error(self, pose: Tensor, target: Tensor) -> Tensor:
        """(6, N): what is missing from pose to target, both (4, 3, N), in m and rad, not more than `_FAR`."""
        error = torch.stack([target[3] - pose[3], _turn(pose[:3], target[:3])], dim=1)
        size = torch.sqrt(torch.maximum(_total(error.square()), self.far.square()))
        return (error * (self.far / size)).transpose(0, 1).reshape(6, -1)


def rotation_error(rot: Tensor, target: Tensor) -> Tensor:
    """(N, 3): axis times 2·tan(θ/2), the turn in world axes from rot to target, both (N, 3, 3); θ itself when small.

    Bounded near half a turn, where the axis is not defined.
    """
    return _turn(rot.permute(2, 1, 0), target.permute(2, 1, 0)).T


def pointing_down(yaw: Tensor) -> Tensor:
    """(N, 3, 3): z axis straight down, x axis turned by yaw (N,) rad from the root's x axis about its z axis."""
    c, s, zero, one = torch.cos(yaw), torch.sin(yaw), torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([c, s, zero, s, -c, zero, zero, zero, -one], dim=1).reshape(-1, 3, 3)


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """x (n, m, N) with matrix · x = right for symmetric positive definite (n, n, N): Gauss–Jordan without pivots.

    ONNX has no linear solver; this is 7 n operations whatever the batch.
    """
    n = len(matrix)
    both = torch.cat([matrix, right], dim=1)
    unit = torch.eye(n, device=matrix.device, dtype=matrix.dtype)[..., None]
    for k in range(n):  # The first column is done with after its step, and is left out.
        row = both[k, 1:] / both[k, :1]
        both = both[:, 1:] - (both[:, :1] - unit[:, k : k + 1]) * row
    return both


_HINGE, _SLIDE = 3, 2  # mujoco.mjtJoint


def _motions() -> dict[int, NDArray[np.floating]]:
    """Kind of joint → (4, 4, 4): factors of 1, cos q, sin q and q in its motion about, or along, the z axis."""
    hinge, slide = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    hinge[0] = np.diag([0.0, 0.0, 1.0, 1.0])
    hinge[1] = np.diag([1.0, 1.0, 0.0, 0.0])
    hinge[2, 1, 0], hinge[2, 0, 1] = 1.0, -1.0
    slide[0], slide[3, 2, 3] = np.eye(4), 1.0
    return {_HINGE: hinge, _SLIDE: slide}


_MOTIONS = _motions()


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


def _joint_frame(model: mujoco.MjModel, joint: int) -> NDArray[np.floating]:
    """(4, 4): on the joint, z along its axis, as seen from its body."""
    kind, name = int(model.jnt_type[joint]), model.joint(joint).name
    if kind not in _MOTIONS or model.qpos0[model.jnt_qposadr[joint]] != 0.0:
        raise ConfigError(f"joint '{name}' in the chain: only hinges and slides with reference 0 are supported")
    axis = model.jnt_axis[joint]
    aside = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    aside /= np.linalg.norm(aside)
    out = np.eye(4)
    out[:3, :3] = np.stack([aside, np.cross(axis, aside), axis], axis=1)
    out[:3, 3] = model.jnt_pos[joint]
    return out


def _turn(axes: Tensor, target: Tensor) -> Tensor:
    """`rotation_error` (3, N) of (3 axes, 3, N)."""
    cosine = 0.5 * (_total(_total(axes * target)) - 1.0)
    return _total(_cross(axes, target)) / (1.0 + cosine).clamp(min=0.05)


def _total(terms: Tensor) -> Tensor:
    """The sum over the first axis; a single operator where a graph is written."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return terms.sum(0)
    first, *others = terms.unbind(0)
    for term in others:
        first = first + term
    return first


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Of vectors (…, 3, N)."""
    ax, ay, az = a.unbind(-2)
    bx, by, bz = b.unbind(-2)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-2)
