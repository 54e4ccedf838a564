"""The ROS 2 node's parameters: one frozen dataclass from which all of them are declared, described and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.hardware.control_loop import LoopConfig
from robot_rl.hardware.parameters import check_settings, setting, settings_of
from robot_rl.hardware.setpoints import ReferenceLimits, VelocityLimits
from robot_rl.hardware.supervisor_config import SupervisorConfig


@dataclass(frozen=True)
class NodeSettings:
    """Parameters of `robot_node`; the groups' fields are called `group.field`."""

    policy: str = setting("", "policy file, as made by `robot-rl export`")
    driver: str = setting("sim", "driver of the robot: a name, or package.module:NAME")
    driver_options: str = setting("", "settings of the driver as name=value, separated by commas")
    world_frame: str = setting("world", "frame_id of odometry, goals and references")
    body_frame: str = setting("base_link", "frame_id of the robot's body")
    state_rate: float = setting(50.0, "messages of joints, IMU, odometry and battery per second", 1.0, 500.0)
    landing_grace: float = setting(8.0, "seconds for landing or lying down when told to end; then rest", 0.0, 60.0)
    loop: LoopConfig = field(default_factory=LoopConfig)
    reference: ReferenceLimits = field(default_factory=ReferenceLimits)
    velocity: VelocityLimits = field(default_factory=VelocityLimits)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)

    def __post_init__(self) -> None:
        check_settings(self)


def parse_driver_options(text: str, options: type) -> Mapping[str, Any]:
    """`"vehicle=l2f, noise=false"` as typed values for a driver's options.

    Raises:
        UnknownName: the driver has no such option. ConfigError: not name=value, or a value of the wrong type.
    """
    known = {s.name: s for s in settings_of(options)}
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigError(f"driver_options '{item}': must be name=value; options: {', '.join(known)}")
        if name not in known:
            raise UnknownName("driver option", name, known)
        values[name] = known[name].checked(_typed(value, known[name].default, name))
    return values


def _typed(text: str, default: Any, name: str) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, tuple):
            return tuple(float(v) for v in text.split())
        return type(default)(text)
    except (KeyError, ValueError) as error:
        kind = "numbers separated by spaces" if isinstance(default, tuple) else f"a {type(default).__name__}"
        raise ConfigError(f"driver option {name} = '{text}': must be {kind}") from error
