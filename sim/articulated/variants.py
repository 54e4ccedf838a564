"""What a policy is tested on, as data: one table of variants of a task, each a small difference from the task itself.

A variant that changes options a task does not have (or would change nothing) is left out for that task, so one table
serves all families; a family with tests of its own names another table in `TaskSpec.variants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rl.config import leaves
from robot_rl.errors import UnknownName

if TYPE_CHECKING:
    from robot_rl.sim.task_spec import TaskSpec


@dataclass(frozen=True)
class Variant:
    """One test.

    Attributes:
        name, title: for the command line and for people.
        changes: options set to something else, by dotted key.
        factors: options multiplied: numbers, or both ends of a range.
        share: of the episodes asked for, where the simulator is slow.
        group: `quick`, `stress` or `other` (other simulators); `all` is all of them.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0
    group: str = "stress"

    def of(self, task: TaskSpec) -> dict[str, Any] | None:
        """The changes to the options of `task`; None where it lacks one of them or nothing would be different.

        A physics simulator that is the task's own already is nothing different.
        """
        have = leaves(task.options)
        if any(key not in have for key in (*self.changes, *self.factors)):
            return None
        scaled = {key: _times(have[key].value, factor) for key, factor in self.factors.items()}
        wanted = {**self.changes, **scaled}
        if wanted and all(have[key].value == value for key, value in wanted.items()):
            return None
        pushes = any(key.startswith("push.") for key in wanted)
        return None if pushes and not self.changes and have["push.every"].value == 0 else wanted


def _times(value: Any, factor: float) -> Any:
    return tuple(factor * v for v in value) if isinstance(value, tuple) else factor * value


# Nothing random but starts, commands, goals and the sensors' noise.
NOMINAL: dict[str, Any] = {
    "randomize.friction": (0.0, 0.0), "randomize.base_mass": (0.0, 0.0), "randomize.com": (0.0, 0.0),
    "randomize.link_mass": (1.0, 1.0), "randomize.stiffness": (1.0, 1.0), "randomize.damping": (1.0, 1.0),
    "randomize.strength": (1.0, 1.0), "randomize.armature": (1.0, 1.0), "randomize.dry_friction": (1.0, 1.0),
    "randomize.joint_offset": (0.0, 0.0), "latency.min": 0.0, "latency.max": 0.0, "latency.jitter": 0.0,
    "push.every": 0.0, "dropout": 0.0,
}  # fmt: skip

VARIANTS: tuple[Variant, ...] = (
    Variant("task", "The task as trained", group="quick"),
    Variant("nominal", "Nothing random, no delay", NOMINAL, group="quick"),
    Variant("payload", "2 kg on top", {"randomize.base_mass": (2.0, 2.0)}),
    Variant("slippery", "Friction 0.4", {"randomize.friction": (0.4, 0.4)}),
    Variant("latency", "Commands 20 ms late", {"latency.min": 0.02, "latency.max": 0.02}),
    Variant("noise", "Sensor noise ×3", factors={"noise.scale": 3.0}),
    Variant("pushes", "Pushes ×2", factors={"push.speed": 2.0}),
    Variant("weak", "Drives at 80 %", {"randomize.strength": (0.8, 0.8)}),
    Variant("dropout", "Every fifth sample lost", {"dropout": 0.2}),
    Variant("mujoco", "Simulated by MuJoCo", {"physics": "mujoco"}, group="other"),
    Variant("pybullet", "Simulated by PyBullet", {"physics": "pybullet"}, share=0.1, group="other"),
    Variant("warp", "Simulated by MuJoCo Warp", {"physics": "warp"}, share=0.1, group="other"),
)
"""One disturbance each, at or a little outside the edge of what training usually draws."""


def selected(names: str, table: tuple[Variant, ...], task: TaskSpec) -> dict[str, tuple[Variant, dict[str, Any]]]:
    """Variants of a comma-separated list of names and groups that this task can have, with its changed options.

    Raises:
        UnknownName: neither a name nor a group; the message lists them. Also a variant that was asked for by its own
            name and does not apply to this task.
    """
    applicable = {v.name: (v, changes) for v in table if (changes := v.of(task)) is not None}
    groups = {"all": list(applicable)}
    for name in ("quick", "stress", "other"):
        groups[name] = [n for n, (v, _) in applicable.items() if v.group in (name, "quick" if name == "stress" else "")]
    chosen: dict[str, tuple[Variant, dict[str, Any]]] = {}
    for part in (p.strip() for p in names.split(",")):
        if part not in applicable and part not in groups:
            raise UnknownName("variant or group", part, (*applicable, *groups))
        chosen |= {name: applicable[name] for name in groups.get(part, [part])}
    return chosen
