"""What a manipulation policy sees, and how its actions move the end effector; both are exported with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rl.contract import Command, Memory
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import Signal
from robot_rl.sim.articulated.kinematics import InverseKinematics, KinematicChain
from robot_rl.sim.articulated.rotations import rotate

if TYPE_CHECKING:
    import mujoco

POS_SCALE, NEAR_SCALE, FORCE_SCALE, WIDTH_SCALE, VEL_SCALE = 5.0, 10.0, 0.1, 25.0, 0.2
"""To numbers around one: positions in the workspace, distances, N, gripper width, rad/s."""
FINE_TURN = 0.2
"""Of the sine of the angle times `fold`."""
FINE_TILT = 0.05
"""Of the sine of the object's tilt: 3 degrees, by which the end of a peg of 10 cm is 2.5 mm beside its middle."""


class ManipulationObserver(Observer):
    """Arm, gripper, wrist force, and where object and target are seen from the gripper; no object velocities.

    In this order, each where the task has the signal: joint velocities 7, gripper 3 from the workspace's middle, turn
    of the gripper 2, width 1, wrist force 3 (squashed by tanh beyond 10 N), target − gripper 3, target − object 3,
    object − gripper 3, angle of the object relative to the gripper 2 (`fold`-fold symmetric), object's upright 1,
    previous action. With `fine`, before that: target − object in units of so many metres 3, the object's tilt along x
    and y in units of `FINE_TILT` 2 and, where the target has a turn, the sine of the angle between them in units of
    `FINE_TURN`, all squashed by tanh: what is left at the end of a task of millimetres would otherwise hide among
    numbers that were scaled for the way there.

    Args:
        signals: the task's. centre: (3,) m. action_dim: of the action map.
        fold: symmetry of the object about the vertical: 4 for a cube. fine: m, or 0.
    """

    centre: Tensor
    x_axis: Tensor
    z_axis: Tensor

    def __init__(
        self, signals: tuple[Signal, ...], centre: tuple[float, float, float], action_dim: int, fold: int = 4,
        fine: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.signals, self.fold, self.fine = signals, fold, fine
        names = {s.name for s in signals}
        self.has_target, self.has_object = "target_pos_w" in names, "object_pos_w" in names
        self.has_target_turn = "target_quat_wxyz" in names
        self.obs_dim = 16 + 3 * self.has_target + 6 * self.has_object + 2 * self.has_target_turn + action_dim
        both = self.has_target and self.has_object
        self.obs_dim += 3 * both + (fine > 0) * both * (5 + self.has_target_turn)
        self.memory = (Memory("previous_action", (action_dim,), (0.0,) * action_dim),)
        self.register_buffer("centre", torch.tensor(centre))
        self.register_buffer("x_axis", torch.tensor([[1.0, 0.0, 0.0]]))
        self.register_buffer("z_axis", torch.tensor([[0.0, 0.0, 1.0]]))

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        ee, turn = signals["ee_pos_w"], rotate(signals["ee_quat_wxyz"], self.x_axis)
        parts = [
            signals["joint_vel"] * VEL_SCALE,
            (ee - self.centre) * POS_SCALE,
            turn[:, :2],
            signals["gripper_width"] * WIDTH_SCALE,
            torch.tanh(signals["ee_force_b"] * FORCE_SCALE),
        ]
        if self.has_target:
            parts.append((signals["target_pos_w"] - ee) * NEAR_SCALE)
        if self.has_object:
            pos, quat = signals["object_pos_w"], signals["object_quat_wxyz"]
            if self.has_target:
                parts.append((signals["target_pos_w"] - pos) * NEAR_SCALE)
            heading = rotate(quat, self.x_axis)
            parts += [
                (pos - ee) * NEAR_SCALE,
                relative_turn(heading, turn, self.fold),
                rotate(quat, self.z_axis)[:, 2:],
            ]
        if self.has_target_turn:
            wanted = rotate(signals["target_quat_wxyz"], self.x_axis)
            parts.append(relative_turn(wanted, turn, self.fold))
        if self.fine > 0 and self.has_target and self.has_object:
            parts.append(torch.tanh((signals["target_pos_w"] - signals["object_pos_w"]) / self.fine))
            parts.append(torch.tanh(rotate(signals["object_quat_wxyz"], self.z_axis)[:, :2] / FINE_TILT))
            if self.has_target_turn:
                heading, wanted = (rotate(signals[n], self.x_axis) for n in ("object_quat_wxyz", "target_quat_wxyz"))
                parts.append(torch.tanh(relative_turn(wanted, heading, self.fold)[:, 1:] / FINE_TURN))
        parts.append(memory["previous_action"])
        return torch.cat(parts, dim=1), memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {"previous_action": torch.clamp(action, -1.0, 1.0)}


def relative_turn(heading: Tensor, reference: Tensor, fold: int) -> Tensor:
    """(N, 2): cosine and sine of `fold` times the angle from `reference` to `heading`, horizontal parts of (N, 3).

    By doubling, because ONNX has no arctangent of two arguments; `fold` is 1, 2 or 4.
    """
    cosine = heading[:, 0] * reference[:, 0] + heading[:, 1] * reference[:, 1]
    sine = heading[:, 1] * reference[:, 0] - heading[:, 0] * reference[:, 1]
    length = torch.sqrt(cosine.square() + sine.square()).clamp(min=1e-6)
    cosine, sine = cosine / length, sine / length
    while fold > 1:
        cosine, sine = cosine.square() - sine.square(), 2.0 * cosine * sine
        fold //= 2
    return torch.stack([cosine, sine], dim=1)


class EndEffectorActionMap(ActionMap):
    """Action → the gripper's next place → joint targets by inverse kinematics, and gripper width.

    The target is where the gripper *is*, by the measured joint positions, plus step_size · action: so a blocked arm
    pushes with a bounded force, and nothing has to be remembered. The gripper always points straight down.

    Actions: dx, dy, dz; then dyaw with `turns`; then the gripper (1 open, −1 closed) with `grips`.

    Args:
        model: the scene, read for the arm's chain up to site `ee`.
        commands: joint_pos_target, gripper_width_target. joint_pos: the signal.
        rest: (7,) rad, preferred posture.
        lower, upper: (3,) m, world: box that the target of the gripper never leaves.
        step_size: m. turn_size: rad.
        turns: the policy turns the gripper; otherwise its heading stays at 0. grips: it opens and closes it;
            otherwise its width stays at `width` m.
    """

    lower: Tensor
    upper: Tensor
    width: Tensor
    down: Tensor

    def __init__(
        self,
        model: mujoco.MjModel,
        commands: tuple[Command, ...],
        joint_pos: Signal,
        rest: tuple[float, ...],
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        step_size: float,
        turn_size: float,
        turns: bool,
        grips: bool,
        width: float = 0.0,
    ) -> None:
        super().__init__()
        self.commands, self.signals = commands, (joint_pos,)
        self.step_size, self.turn_size, self.turns, self.grips = step_size, turn_size, turns, grips
        self.chain = KinematicChain(model, "ee")
        self.solver = InverseKinematics(self.chain, rest, iterations=2, damping=0.02, posture=0.01)
        self.full_width = commands[1].upper[0]
        self.register_buffer("lower", torch.tensor(lower)[:, None])
        self.register_buffer("upper", torch.tensor(upper)[:, None])
        self.register_buffer("width", torch.tensor([[width]]))

    @property
    def action_dim(self) -> int:
        return 3 + self.turns + self.grips

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("dx", "dy", "dz") + ("dyaw",) * self.turns + ("gripper",) * self.grips

    def forward(self, action: Tensor, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        action = torch.clamp(action, -1.0, 1.0).T.contiguous()  # the batch last, as in the chain
        q = signals[self.signals[0].name].T.contiguous()
        poses = self.chain.poses(q)
        x_axis, pos = poses[-1, 0], poses[-1, 3]
        target = torch.minimum(torch.maximum(pos + self.step_size * action[:3], self.lower), self.upper)
        cosine = torch.ones_like(action[0])
        sine = torch.zeros_like(cosine)
        if self.turns:
            length = torch.sqrt(x_axis[0].square() + x_axis[1].square()).clamp(min=1e-6)
            c, s, by = x_axis[0] / length, x_axis[1] / length, self.turn_size * action[3]
            turn = torch.cos(by), torch.sin(by)
            cosine, sine = c * turn[0] - s * turn[1], s * turn[0] + c * turn[1]
        joints = self.solver.solve(q, torch.cat([_pointing_down(cosine, sine), target[None]]), poses).T
        width = self.width + 0.0 * action[:1].T
        if self.grips:
            width = 0.5 * self.full_width * (1.0 + action[-1:].T)
        return {self.commands[0].name: joints, self.commands[1].name: width}


def _pointing_down(cosine: Tensor, sine: Tensor) -> Tensor:
    """(3 axes, 3, N): z axis straight down, x axis along (cosine, sine, 0)."""
    zero = torch.zeros_like(cosine)
    return torch.stack([cosine, sine, zero, sine, -cosine, zero, zero, zero, zero - 1.0]).reshape(3, 3, -1)
