"""The contract a policy file carries: what goes in, what comes out, at which rate, within which limits, proved by what.

One lossless JSON value in the ONNX metadata. Reading and writing the ONNX file is in `policy_file.py`; running it in
`policy.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_rl.errors import ContractError
from robot_rl.signals import Signal

SCHEMA_VERSION = 1
"""The only version this program reads and writes; the file's own is checked in `contract_schema.py`."""

CONTRACT_KEY = "robot_rl.contract"


@dataclass(frozen=True)
class Command:
    """A named physical command. `lower`, `upper` have one number per element, in `unit`.

    `kind` tells the low level what to do with it: `rotor_speed`, `joint_pos`, `joint_torque`, …
    `max_rate` limits the change per second (None: not limited); `idle` is what is sent when nothing may move.
    """

    name: str
    kind: str
    unit: str
    elements: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    idle: tuple[float, ...]
    max_rate: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Memory:
    """An explicit state tensor: input `memory_in.<name>`, output `memory_out.<name>`; `initial` is row-major."""

    name: str
    shape: tuple[int, ...]
    initial: tuple[float, ...]


@dataclass(frozen=True)
class Rate:
    """When the policy may be called, in seconds.

    With `time_step` among the signals it accepts any step in [min_dt, max_dt]; otherwise it must be called every
    `control_dt` and min_dt = max_dt = control_dt.
    """

    control_dt: float
    min_dt: float
    max_dt: float


@dataclass(frozen=True)
class Safety:
    """What the supervisor enforces around this policy, in SI units; None: not limited by the policy.

    `max_position_error`: distance to the target in m, per axis; `max_tilt` rad; `max_body_rate` rad/s; `max_speed` m/s.
    """

    max_position_error: float | None = None
    max_tilt: float | None = None
    max_body_rate: float | None = None
    max_speed: float | None = None


@dataclass(frozen=True)
class Composition:
    """How the graph was put together: `direct`, or `residual` over / `guarded` by the graph with that sha256."""

    kind: str = "direct"
    over_sha256: str | None = None


@dataclass(frozen=True)
class GoldenStep:
    """One call with its answer. Arrays are nested tuples flattened row-major, keyed by name."""

    signals: Mapping[str, tuple[float, ...]]
    memory: Mapping[str, tuple[float, ...]]
    commands: Mapping[str, tuple[float, ...]]
    memory_out: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Golden:
    """Recorded calls every target must reproduce.

    `tolerance` is relative to each command's range (upper − lower) and, for memory, to `memory_scale`.
    """

    tolerance: float
    steps: tuple[GoldenStep, ...]

    def memory_scale(self, name: str) -> float:
        """What an error of the memory tensor `name` is measured against: how far it moves, as for a command.

        The range of everything recorded for it, before and after the calls; its largest value where it stays on one
        side of zero, since float32 resolves no finer; and 1 at least, the size of the numbers it is computed from.
        """
        values = [x for s in self.steps for x in (*s.memory[name], *s.memory_out[name])]
        return max(1.0, max(values) - min(values), *map(abs, values)) if values else 1.0


@dataclass(frozen=True)
class Contract:
    """Everything a robot must know to run the graph; see the module docstring and `contract.schema.json`."""

    task: str
    robot: str
    signals: tuple[Signal, ...]
    commands: tuple[Command, ...]
    memory: tuple[Memory, ...]
    rate: Rate
    graph_sha256: str
    golden: Golden
    safety: Safety = field(default_factory=Safety)
    gains: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    composition: Composition = field(default_factory=Composition)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """One canonical line: sorted keys, floats at full precision.

        Raises:
            ContractError: a value is NaN or infinite, or provenance holds what JSON cannot express.
        """
        try:
            return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ContractError(f"the contract cannot be written as JSON: {error}") from error

    @staticmethod
    def from_json(text: str) -> Contract:
        """Parse and validate against the JSON Schema.

        Raises:
            ContractError: not JSON, another schema version, or a field that is missing, unknown or out of range.
        """
        from robot_rl.contract_schema import validated

        return _contract_from(validated(text))


def _contract_from(data: dict[str, Any]) -> Contract:
    def floats(values: Any) -> tuple[float, ...]:
        return tuple(float(v) for v in values)

    def shape(values: Any) -> tuple[int, ...]:
        return tuple(int(v) for v in values)

    def named(values: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        return {k: floats(v) for k, v in values.items()}

    try:
        return Contract(
            schema_version=data["schema_version"],
            task=data["task"],
            robot=data["robot"],
            signals=tuple(
                Signal(s["name"], shape(s["shape"]), s["unit"], s["frame"], float(s["max_age"]))
                for s in data["signals"]
            ),
            commands=tuple(
                Command(
                    name=c["name"],
                    kind=c["kind"],
                    unit=c["unit"],
                    elements=tuple(c["elements"]),
                    lower=floats(c["lower"]),
                    upper=floats(c["upper"]),
                    idle=floats(c["idle"]),
                    max_rate=None if c["max_rate"] is None else floats(c["max_rate"]),
                )
                for c in data["commands"]
            ),
            memory=tuple(Memory(m["name"], shape(m["shape"]), floats(m["initial"])) for m in data["memory"]),
            rate=Rate(**{k: float(v) for k, v in data["rate"].items()}),
            graph_sha256=data["graph_sha256"],
            golden=Golden(
                float(data["golden"]["tolerance"]),
                tuple(GoldenStep(**{k: named(v) for k, v in s.items()}) for s in data["golden"]["steps"]),
            ),
            safety=Safety(**{k: None if v is None else float(v) for k, v in data["safety"].items()}),
            gains=named(data["gains"]),
            composition=Composition(**data["composition"]),
            provenance=data["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"contract field missing or of the wrong kind: {error}") from error
