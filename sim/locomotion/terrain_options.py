"""Knobs of rough ground and of the tasks on it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.signals import Signal
from robot_rl.sim.articulated.variants import VARIANTS, Variant
from robot_rl.sim.locomotion.options import LocomotionOptions, ProprioceptionNoise, VelocityCommand, VelocityReward
from robot_rl.sim.ranges import Range, check

KINDS = ("slope_up", "slope_down", "rough_slope", "stairs_up", "stairs_down", "discrete")
"""Kinds of terrain, seen from the middle of a tile, where robots start: `up` is a pit, `down` a hill."""

SCAN_X, SCAN_Y, SCAN_SPACING = 17, 11, 0.1
"""Points of the height scan along and across the heading, and m between them: 1.6 m by 1.0 m, as legged_gym's."""

HEIGHT_SCAN = Signal("height_scan", (SCAN_X * SCAN_Y,), "m")
"""Ground minus base at the points of the scan; rows from back to front, each from right to left."""


@dataclass(frozen=True)
class TerrainOptions:
    """A grid of square tiles, levels along x and kinds along y; what is given as a range grows with the level.

    Sizes follow legged_gym's terrain, scaled for a robot of 0.3 m as Isaac Lab does for Go1 and Go2.

    Attributes:
        seed: of bumps and blocks; same seed, same ground.
        levels: rows of increasing difficulty.
        tile, platform: m, side of a tile and of the flat square in its middle. cell: m between points of the field.
        slope: rise per m; rough slopes have half of it. bumps: m, from the lowest to the highest point of the noise.
        step: m, height of a stair. tread: m, its depth. blocks: m, greatest height and depth of the discrete obstacles.
    """

    seed: int = 0
    levels: int = 10
    tile: float = 8.0
    platform: float = 2.0
    cell: float = 0.05
    slope: Range = (0.04, 0.4)
    bumps: Range = (0.01, 0.06)
    step: Range = (0.02, 0.14)
    tread: float = 0.3
    blocks: Range = (0.025, 0.1)

    def __post_init__(self) -> None:
        check(self, seed=(0, 2**31), levels=(1, 100), cell=(0.01, 0.5), tile=(2.0, 100.0), tread=(0.1, 10.0))
        check(self, platform=(0.5, self.tile - 1.0))
        check(self, slope=(0.0, 2.0), bumps=(0.0, 1.0), step=(0.0, 1.0), blocks=(0.0, 1.0))
        if abs(self.tile / self.cell - round(self.tile / self.cell)) > 1e-6:
            raise ConfigError(f"terrain.tile = {self.tile} must be a multiple of terrain.cell = {self.cell}")


@dataclass(frozen=True)
class Curriculum:
    """Which level a robot starts on.

    Attributes:
        level: this one always; −1: it goes up and down with what the robot can do.
        start: highest level that robots begin with.
    """

    level: int = -1
    start: int = 4

    def __post_init__(self) -> None:
        check(self, level=(-1, 99), start=(0, 99))


@dataclass(frozen=True)
class RoughNoise(ProprioceptionNoise):
    """Besides: m, U(−x, x) per sample and point; legged_gym has 0.1 m, which would hide the low levels."""

    height_scan: float = 0.02


@dataclass(frozen=True)
class RoughOptions(LocomotionOptions):
    """Everything that can be set about walking on rough ground.

    Attributes:
        height_scan: who sees the ground: `policy` (and critic), or `critic` alone: then the policy has proprioception
            only. The observation group `teacher` always has it.
    """

    height_scan: str = "policy"
    terrain: TerrainOptions = field(default_factory=TerrainOptions)
    curriculum: Curriculum = field(default_factory=Curriculum)
    noise: RoughNoise = field(default_factory=RoughNoise)
    # The trunk may lean with the ground, and feet go where there is room.
    reward: VelocityReward = field(
        default_factory=lambda: VelocityReward(lin_vel_z=-0.2, orientation=-0.3, foot_clearance=-0.2)
    )
    command: VelocityCommand = field(default_factory=lambda: VelocityCommand(resample_s=10.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.height_scan not in ("policy", "critic"):
            raise UnknownName("viewer of the height scan", self.height_scan, ("policy", "critic"))
        highest = self.terrain.levels - 1
        if self.curriculum.level > highest:
            raise ConfigError(f"curriculum.level = {self.curriculum.level}; levels are 0 to {highest}, or −1")


VARIANTS_ROUGH: tuple[Variant, ...] = (
    *(v for v in VARIANTS if v.name != "pybullet"),  # it has no height fields
    *(Variant(f"level-{k}", f"All on level {k}", {"curriculum.level": k}) for k in (0, 3, 6, 9)),
)
"""What policies for rough ground are tested on."""
