"""What a hand's policy sees of itself and of the cube, and how its actions move the joints' targets."""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.contract import Command, Memory
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import Signal
from robot_rl.sim.articulated.rotations import conjugate, quat_mul, rotate, rotate_back

TARGET, PREVIOUS_ACTION = "joint_pos_target", "previous_action"  # names in the memory
JOINT_VEL_SCALE, POSITION_SCALE = 0.1, 20.0  # rad/s and m to numbers around one


class ReorientObserver(Observer):
    """Proprioception, the cube in the palm, the turn that is left, and the targets that the joints are held at.

    Observation: joint positions from the default pose J, joint velocities J (× 0.1), targets minus joint positions J,
    previous action J, cube from the palm's centre 3 (× 20), first two columns of the rotation from the cube's
    orientation to the wanted one 6, how the cube's edges lie 9 (`edges`); all in the palm's frame.

    The targets are memory: an action moves them on, see `record`; `HeldTargetMap` makes commands of them.

    Args:
        signals: joint_pos, joint_vel, object_pos_w, object_quat_wxyz, target_quat_wxyz.
        command: `joint_pos_target` with its limits and its largest change per second.
        default_pose: (J,) rad, the targets at the start. scale: rad that action 1 moves a target, if the command's
            `max_rate` allows it within `control_dt` s.
        palm_pos, palm_quat: m and wxyz of the palm's centre in the world: the hand is bolted down.
    """

    default_pose: Tensor
    lower: Tensor
    upper: Tensor
    step: Tensor
    palm_pos: Tensor
    palm_quat: Tensor

    def __init__(
        self,
        signals: tuple[Signal, ...],
        command: Command,
        default_pose: tuple[float, ...],
        scale: float,
        control_dt: float,
        palm_pos: tuple[float, ...],
        palm_quat: tuple[float, ...],
    ) -> None:
        super().__init__()
        joints = len(default_pose)
        self.signals, self.obs_dim = signals, 4 * joints + 18
        fastest = command.max_rate or (float("inf"),) * joints
        for name, values in (
            ("default_pose", default_pose), ("lower", command.lower), ("upper", command.upper),
            ("step", tuple(min(scale, rate * control_dt) for rate in fastest)), ("palm_pos", palm_pos),
            ("palm_quat", palm_quat),
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(values))
        self.memory = (
            Memory(TARGET, (joints,), tuple(default_pose)),
            Memory(PREVIOUS_ACTION, (joints,), (0.0,) * joints),
        )

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        pos = signals["joint_pos"]
        palm = self.palm_quat.expand(pos.shape[0], 4)
        held = rotate_back(palm, signals["object_pos_w"] - self.palm_pos)
        cube, goal = (quat_mul(conjugate(palm), signals[n]) for n in ("object_quat_wxyz", "target_quat_wxyz"))
        obs = torch.cat(
            [
                pos - self.default_pose,
                signals["joint_vel"] * JOINT_VEL_SCALE,
                memory[TARGET] - pos,
                memory[PREVIOUS_ACTION],
                held * POSITION_SCALE,
                two_columns(quat_mul(goal, conjugate(cube))),
                edges(cube),
            ],
            dim=1,
        )
        return obs, memory

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        moved = memory[TARGET] + self.step * torch.clamp(action, -1.0, 1.0)
        return {TARGET: torch.minimum(torch.maximum(moved, self.lower), self.upper), PREVIOUS_ACTION: action}


class HeldTargetMap(ActionMap):
    """The command is the target in the observer's memory, which has moved on by this action.

    Args:
        command: `joint_pos_target`.
    """

    memory = (TARGET,)

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.commands = (command,)

    def forward(self, action: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
        del action
        return {self.commands[0].name: given[TARGET]}


def two_columns(quat: Tensor) -> Tensor:
    """First two columns (N, 6) of the rotation matrix of quaternions (N, 4): a continuous form of a rotation."""
    return torch.cat(_columns(quat)[:2], dim=1)


def edges(quat: Tensor) -> Tensor:
    """How the edges of a cube with orientation (N, 4) lie, (N, 9): the same for all 24 that look alike.

    The independent numbers of Σₐ a⊗a⊗a⊗a over the cube's three axes a: the lowest polynomial that tells cubes apart.
    """
    x, y, z = torch.stack(_columns(quat), dim=2).unbind(1)  # (N, 3 axes) each: their x, y, z components
    terms = (
        x * x * y * y, x * x * z * z, y * y * z * z,
        x * x * x * y, x * y * y * y, x * x * x * z, x * z * z * z, y * y * y * z, y * z * z * z,
    )  # fmt: skip
    return 2.0 * torch.stack([term.sum(1) for term in terms], dim=1)


def _columns(quat: Tensor) -> list[Tensor]:
    axes = torch.eye(3, dtype=quat.dtype, device=quat.device)
    return [rotate(quat, axes[i].expand(quat.shape[0], 3)) for i in range(3)]
