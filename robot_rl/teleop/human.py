"""A person at a device as the `Human` of one environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.protocols import Array, Bools, Takeover
from robot_rl.teleop.device import Device
from robot_rl.teleop.mapping import DeviceMap, read_map

LINGER_S = 0.5
"""Control stays with the person for so long after the last motion: a pause is no hand-over."""


class PersonAtDevice:
    """Acts while the device is moved, and a little longer; the loop keeps the robot's pace.

    Args:
        device: open. table: for this action. control_dt: s between calls; a call that comes too early waits, for a
            person cannot steer faster than time. clock, sleep: seconds.
    """

    def __init__(
        self, device: Device, table: DeviceMap, control_dt: float, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.device, self.table, self.control_dt, self.clock, self.sleep = device, table, control_dt, clock, sleep
        self.linger = round(LINGER_S / control_dt)
        self.left = 0
        self.held: Array | None = None
        self.due = -float("inf")

    def reset(self, rows: NDArray[np.int64]) -> None:
        if len(rows):
            self.left, self.held = 0, None

    def act(self, seen: Mapping[str, Array], proposed: Array, asked: Bools) -> Takeover:
        del seen
        self._pace()
        # Whoever takes over begins with the policy's gripper.
        held: Array = proposed[0].copy() if self.left == 0 or self.held is None else self.held
        active, action = self.table.read(self.device.read(), held)
        self.held = np.where(self.table.latched, action, held)
        self.left = self.linger if active else max(self.left - 1, 0)
        acting = active or self.left > 0 or bool(asked[0])
        return Takeover(np.array([acting]), (action if acting else proposed[0])[None])

    def close(self) -> None:
        self.device.close()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        del state

    def _pace(self) -> None:
        now = self.clock()
        if now < self.due:
            self.sleep(self.due - now)
        self.due = max(self.due, now) + self.control_dt


def person_at(who: str, mapping: str, env: Any) -> PersonAtDevice:
    """Whoever sits at `keyboard`, `gamepad` or `spacemouse`, or at the device file behind a colon.

    Args:
        who: device, or device:PATH. mapping: YAML file with another table, or "". env: of one robot, with
            `action_map.action_names`.

    Raises:
        ConfigError: several environments, or an action without names. DriverError: no such device.
    """
    if env.num_envs != 1:
        raise ConfigError(f"one person at a {who} watches one robot; num_envs = {env.num_envs}: give --set num_envs=1")
    names = tuple(getattr(env.action_map, "action_names", ()))
    if len(names) != env.action_dim:
        raise ConfigError(f"the task's action map does not name its {env.action_dim} actions, so no table says what a "
                          "device moves; define action_names")  # fmt: skip
    device, _, path = who.partition(":")
    table = read_map(device, mapping).for_action(names)
    return PersonAtDevice(open_device(device, path), table, env.control_dt)


def open_device(device: str, path: str = "") -> Device:
    """Open a device by its kind, and file where there are several.

    Raises:
        DriverError: it is not there, or may not be read.
    """
    from robot_rl.teleop import event_device, keyboard, spacemouse

    if device == "spacemouse":
        return spacemouse.SpaceMouse(path or spacemouse.find())
    if device == "gamepad":
        return event_device.EventDevice(path or event_device.find("js", "gamepad"), "gamepad")
    return event_device.EventDevice(path, "keyboard") if path else keyboard.TerminalKeyboard()
