"""What a walking policy sees, from what a robot's joints and IMU give; no velocity, no contact, no height."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robot_rl.contract import Command, Memory
from robot_rl.observer import ActionMap, Observer
from robot_rl.signals import WALKING_COMMANDS, Signal
from robot_rl.sim.articulated.rotations import down_in_body
from robot_rl.sim.locomotion.mirror import ASKED, JOINTS, ROTATION, SCALAR, SCAN, VECTOR

ANG_VEL_SCALE, JOINT_VEL_SCALE = 0.25, 0.05  # to numbers around one; the scales of legged_gym
SCAN_SCALE = 2.5  # 1 is 0.4 m: more than a robot of that size can step up or down


class ProprioceptionObserver(Observer):
    """`history` frames of proprioception, newest first, and the command where the task has one.

    Frame: body rates 3 (× 0.25), direction of gravity in the body 3, joint positions from the default pose J, joint
    velocities J (× 0.05), previous action J. `parts` has their kinds, see `mirror`.

    Args:
        signals: joint_pos, joint_vel, base_quat_wxyz, base_ang_vel_b; what is asked for: command_lin_vel_b, ….
        default_pose: (J,) rad. history: number of frames.
    """

    default_pose: Tensor

    def __init__(self, signals: tuple[Signal, ...], default_pose: tuple[float, ...], history: int) -> None:
        super().__init__()
        self.signals, self.history = signals, history
        joints = len(default_pose)
        self.frame = 6 + 3 * joints
        self.asked = [s.name for s in signals if s.name in WALKING_COMMANDS]
        self.obs_dim = self.frame * history + sum(WALKING_COMMANDS[name].shape[0] for name in self.asked)
        self.parts = (ROTATION, VECTOR, JOINTS, JOINTS, JOINTS) * history + tuple(ASKED[name] for name in self.asked)
        self.register_buffer("default_pose", torch.tensor(default_pose))
        self.memory = (Memory("previous_action", (joints,), (0.0,) * joints),)
        if history > 1:
            past = (history - 1) * self.frame
            self.memory += (Memory("frames", (past,), (0.0,) * past),)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        frame = torch.cat(
            [
                signals["base_ang_vel_b"] * ANG_VEL_SCALE,
                down_in_body(signals["base_quat_wxyz"]),
                signals["joint_pos"] - self.default_pose,
                signals["joint_vel"] * JOINT_VEL_SCALE,
                memory["previous_action"],
            ],
            dim=1,
        )
        asked = [signals[name] for name in self.asked]
        if self.history == 1:
            return torch.cat([frame, *asked], dim=1), memory
        frames = torch.cat([frame, memory["frames"]], dim=1)
        seen = {**memory, "frames": frames[:, : -self.frame]}
        return torch.cat([frames, *asked], dim=1), seen

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {**memory, "previous_action": action}


class ScanObserver(ProprioceptionObserver):
    """The same, and the ground around the robot.

    Args:
        signals: also height_scan, m, ground minus base. standing: m, height of the base above level ground.
    """

    def __init__(
        self, signals: tuple[Signal, ...], default_pose: tuple[float, ...], history: int, standing: float
    ) -> None:
        super().__init__(signals, default_pose, history)
        self.standing = standing
        self.obs_dim += next(s.shape[0] for s in signals if s.name == "height_scan") + 1
        self.parts += (SCAN, SCALAR)

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        felt, memory = super().forward(signals, memory)
        return torch.cat([felt, scaled_scan(signals["height_scan"], self.standing)], dim=1), memory


def scaled_scan(scan: Tensor, standing: float) -> Tensor:
    """A height scan (N, k) m as networks see it, (N, k + 1), cut off at ±1: its shape, then its mean as one number.

    Left in all k, the height of the base would outweigh everything else that a policy sees.
    """
    mean = scan.mean(dim=1, keepdim=True)
    return torch.clamp(SCAN_SCALE * torch.cat([scan - mean, mean + standing], dim=1), -1.0, 1.0)


class JointTargetMap(ActionMap):
    """Action → default pose + scale · action, within the command's limits; one command for all joints.

    Args:
        command: `joint_pos_target`. default_pose: (J,) rad. scale: rad that action 1 is away from it.
    """

    default_pose: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, command: Command, default_pose: tuple[float, ...], scale: float) -> None:
        super().__init__()
        self.commands, self.scale = (command,), scale
        for name, values in (("default_pose", default_pose), ("lower", command.lower), ("upper", command.upper)):
            self.register_buffer(name, torch.tensor(values))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        target = self.default_pose + self.scale * torch.clamp(action, -1.0, 1.0)
        return {self.commands[0].name: torch.minimum(torch.maximum(target, self.lower), self.upper)}

    def action_for(self, commands: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor:
        del signals
        return (commands[self.commands[0].name] - self.default_pose) / self.scale


class JointStepMap(ActionMap):
    """Action → measured joint positions + scale · action, within the command's limits; one command for all joints.

    All of the joints' range is in reach whatever the pose, and action 0 yields: for robots that lie somehow.

    Args:
        command: `joint_pos_target`. joint_pos: the signal. scale: rad that action 1 is away from it.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, command: Command, joint_pos: Signal, scale: float) -> None:
        super().__init__()
        self.commands, self.signals, self.scale = (command,), (joint_pos,), scale
        for name, values in (("lower", command.lower), ("upper", command.upper)):
            self.register_buffer(name, torch.tensor(values))

    def forward(self, action: Tensor, signals: dict[str, Tensor]) -> dict[str, Tensor]:
        target = signals["joint_pos"] + self.scale * torch.clamp(action, -1.0, 1.0)
        return {self.commands[0].name: torch.minimum(torch.maximum(target, self.lower), self.upper)}

    def action_for(self, commands: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor:
        return (commands[self.commands[0].name] - signals["joint_pos"]) / self.scale
