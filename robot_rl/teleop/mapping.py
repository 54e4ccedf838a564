"""From a device's axes and buttons to entries of an action: a table, ours or the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.protocols import Array
from robot_rl.teleop.device import Controls


@dataclass(frozen=True)
class Entry:
    """Where one number of the action comes from.

    Attributes:
        axis: of the device; "": none. plus, minus: buttons that stand for +1 and −1.
        scale: what full deflection is, with its sign. dead_zone: share of an axis that counts as rest.
        latched: it stays as the buttons left it, like a gripper; before any was pressed it is the policy's.
    """

    axis: str = ""
    plus: str = ""
    minus: str = ""
    scale: float = 1.0
    dead_zone: float = 0.1
    latched: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_zone < 1.0:
            raise ConfigError(f"dead_zone = {self.dead_zone}; it must be at least 0 and below 1")
        if not -1.0 <= self.scale <= 1.0 or self.scale == 0.0:
            raise ConfigError(f"scale = {self.scale}; it must be from -1 to 1 and not 0: actions lie in [-1, 1]")
        if not (self.axis or self.plus or self.minus):
            raise ConfigError("an entry needs an axis, or buttons plus and minus")

    def value(self, controls: Controls) -> float:
        """In [−1, 1]; 0 at rest. Behind the dead zone it begins at 0, so nothing jumps."""
        raw = controls.axes.get(self.axis, 0.0)
        beyond = max(abs(raw) - self.dead_zone, 0.0) / (1.0 - self.dead_zone)
        pressed = float(self.plus in controls.buttons) - float(self.minus in controls.buttons)
        return self.scale * max(-1.0, min(1.0, np.sign(raw) * beyond + pressed))


@dataclass(frozen=True)
class DeviceMap:
    """A table for one device.

    Attributes:
        entries: name of the action's entry → where it comes from.
        hold: button that must be held to act; "": any deflection takes over.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    hold: str = ""

    def for_action(self, names: Sequence[str]) -> DeviceMap:
        """Only what an action with these entries has.

        Raises:
            UnknownName: an entry that nothing on the device moves.
        """
        for name in names:
            if name not in self.entries:
                raise UnknownName("entry of the action on this device", name, self.entries)
        return DeviceMap({name: self.entries[name] for name in names}, self.hold)

    def read(self, controls: Controls, held: Array) -> tuple[bool, Array]:
        """Whether the person acts, and the action (A,); `held` (A,): what latched entries are until a button says else.

        An entry without deflection is 0.
        """
        values = np.array([entry.value(controls) for entry in self.entries.values()], np.float32)
        latched = np.array([entry.latched for entry in self.entries.values()])
        active = self.hold in controls.buttons if self.hold else bool(np.any(values != 0.0))
        return active, np.where(latched & (values == 0.0), held, values).astype(np.float32)

    @property
    def latched(self) -> np.ndarray:
        """(A,) bool."""
        return np.array([entry.latched for entry in self.entries.values()])


MAPS: dict[str, DeviceMap] = {
    "keyboard": DeviceMap(
        {
            "dx": Entry(plus="w", minus="s", scale=0.5), "dy": Entry(plus="a", minus="d", scale=0.5),
            "dz": Entry(plus="r", minus="f", scale=0.5), "dyaw": Entry(plus="q", minus="e", scale=0.5),
            "gripper": Entry(plus="o", minus="c", latched=True),
            "forward": Entry(plus="w", minus="s"), "left": Entry(plus="a", minus="d"),
            "turn": Entry(plus="q", minus="e"),
        }
    ),
    "gamepad": DeviceMap(
        {
            "dx": Entry("left_y", scale=-1.0), "dy": Entry("left_x", scale=-1.0), "dz": Entry("right_y", scale=-1.0),
            "dyaw": Entry("right_x", scale=-1.0), "gripper": Entry(plus="east", minus="south", latched=True),
            "forward": Entry("left_y", scale=-1.0), "left": Entry("left_x", scale=-1.0),
            "turn": Entry("right_x", scale=-1.0),
        }
    ),
    "spacemouse": DeviceMap(
        {
            "dx": Entry("x"), "dy": Entry("y"), "dz": Entry("z"), "dyaw": Entry("yaw"),
            "gripper": Entry(plus="right", minus="left", latched=True),
            "forward": Entry("x"), "left": Entry("y"), "turn": Entry("yaw"),
        }
    ),
}  # fmt: skip
"""x away from the person, y to their left: somebody who stands behind an arm looks along its x axis."""


def read_map(device: str, path: str = "") -> DeviceMap:
    """The table of a device, with what a YAML file says otherwise: `hold: start`, `dx: {axis: left_y, scale: -0.5}`.

    Raises:
        ConfigError, UnknownName: the file cannot be read, or says what no table has.
    """
    own = MAPS[device]
    if not path:
        return own
    from robot_rl.config import from_yaml

    told: dict[str, Any] = dict(from_yaml(path))
    hold, known = told.pop("hold", own.hold), [f.name for f in fields(Entry)]
    entries = dict(own.entries)
    for name, values in told.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"'{path}': {name} is {values!r}; write {name}: {{axis: …, scale: …}}")
        for key in values:
            if key not in known:
                raise UnknownName(f"part of '{name}' in '{path}'", key, known)
        entries[name] = Entry(**values)
    return DeviceMap(entries, str(hold))
