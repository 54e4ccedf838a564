"""The two files of a policy in C99: header with the contract, source with weights, computation, guards and
self-test.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

from robot_rl.errors import ExportError
from robot_rl.firmware_export.arena import Arena, packed, with_loops_in_place
from robot_rl.firmware_export.interface import MEMORY_IN, MEMORY_OUT, TIME_STEP, Interface, c_names
from robot_rl.firmware_export.load import LoadedPolicy
from robot_rl.firmware_export.lower import lowered
from robot_rl.firmware_export.number import float_literal, initialiser
from robot_rl.firmware_export.render import Code, Weight, rendered

RUNTIME = Path(__file__).parent / "runtime"
MAX_GOLDEN_WORDS = 4096
"""Golden vectors beyond 16 KiB are thinned out evenly: the first and the last stay."""


class PolicySource:
    """The C text of one policy. `measured` fills the lines of the header comment about size."""

    def __init__(self, policy: LoadedPolicy) -> None:
        self.interface = policy.interface
        self._inputs = c_names([s.name for s in self.interface.signals])
        self._outputs = c_names([c.name for c in self.interface.commands])
        self._memory = c_names([m.name for m in self.interface.memory])
        program = with_loops_in_place(lowered(policy.graph))
        self.arena = packed(program)
        self.code = rendered(program, self.arena, self._places(), self.interface.prefix)
        if not self.code.weights:
            self.code.weights.append(Weight("none", "float", np.zeros(1, np.float32), "a C structure cannot be empty"))
        self.golden = thinned(self.interface)
        if not self.golden:
            raise ExportError("the policy has no golden vectors, so nothing could prove the C; export it again")
        self.warnings = list(policy.warnings)
        if len(self.golden) < len(self.interface.golden.steps):
            self.warnings.append(
                f"{len(self.golden)} of {len(self.interface.golden.steps)} golden vectors are embedded, to save flash"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one call in matrix products."""
        return self.code.macs

    def header(self, measured: Sequence[str]) -> str:
        """Text of the header file; `measured` are lines about flash, RAM and stack."""
        face = self.interface
        rate = face.rate
        about = [
            f"Task {face.task or 'unknown'}, robot {face.robot or 'unknown'}. Graph SHA-256 {face.graph_sha256}.",
            f"Call every {rate.control_dt:g} s (allowed: {rate.min_dt:g} to {rate.max_dt:g} s"
            + (", told through time_step)." if face.adapts_to_time_step else ")."),
            f"{self.macs} multiply-accumulate operations per call.",
            *measured,
        ]
        return _filled(
            "policy.h.in",
            face.prefix,
            about="\n".join(f" * {_safe(line)}" for line in about),
            sha256=face.graph_sha256,
            control_dt=float_literal(rate.control_dt),
            min_dt=float_literal(rate.min_dt),
            max_dt=float_literal(rate.max_dt),
            signals=_members((self._inputs[s.name], s.shape, _about_signal(s.unit, s.frame)) for s in face.signals),
            commands=_members(
                (self._outputs[c.name], (len(c.lower),), _about_command(c.unit, c.elements, c.lower, c.upper))
                for c in face.commands
            ),
            memory=_members((self._memory[m.name], m.shape, "") for m in face.memory),
        )

    def source(self) -> str:
        """Text of the source file."""
        face, prefix = self.interface, self.interface.prefix
        helpers = "\n".join(h.code.format(p=prefix) for h in self.code.helpers.values())
        body = "\n".join([*self.code.lines, *([] if face.memory else ["    next->unused[0] = 0.0f;"])])
        return _filled(
            "policy.c.in",
            prefix,
            sha256=face.graph_sha256,
            weights=_weights(self.code, prefix),
            crc=f"0x{weights_crc(self.code.weights):08x}u",
            arena=_arena(self.arena, prefix),
            helpers=helpers,
            body=body,
            unused=_unused(body),
            idle=_struct(self._outputs, {c.name: c.idle for c in face.commands}),
            lower=_struct(self._outputs, {c.name: c.lower for c in face.commands}),
            upper=_struct(self._outputs, {c.name: c.upper for c in face.commands}),
            initial=_struct(self._memory, {m.name: m.initial for m in face.memory}),
            golden=self._golden_text(),
            golden_count=str(len(self.golden)),
            command_tolerance=_struct(self._outputs, self._command_tolerance()),
            memory_tolerance=_struct(self._memory, self._memory_tolerance()),
            signal_words=str(face.signal_words),
            command_words=str(face.command_words),
            memory_words=str(face.memory_words),
            timing=self._timing(),
        )

    def _places(self) -> dict[str, str]:
        places = {f"in:{k}": f"signals->{v}" for k, v in self._inputs.items()}
        places |= {f"out:{k}": f"commands->{v}" for k, v in self._outputs.items()}
        places |= {f"in:{MEMORY_IN}{k}": f"memory->{v}" for k, v in self._memory.items()}
        return places | {f"out:{MEMORY_OUT}{k}": f"next->{v}" for k, v in self._memory.items()}

    def _command_tolerance(self) -> dict[str, tuple[float, ...]]:
        tolerance = self.interface.golden.tolerance
        return {
            c.name: tuple(tolerance * (u - low) for low, u in zip(c.lower, c.upper, strict=True))
            for c in self.interface.commands
        }

    def _memory_tolerance(self) -> dict[str, tuple[float, ...]]:
        golden = self.interface.golden
        return {
            m.name: (golden.tolerance * golden.memory_scale(m.name),) * len(m.initial) for m in self.interface.memory
        }

    def _golden_text(self) -> str:
        rows = []
        for step in self.golden:
            parts = (
                _struct(self._inputs, step.signals),
                _struct(self._memory, step.memory),
                _struct(self._outputs, step.commands),
                _struct(self._memory, step.memory_out),
            )
            rows.append("{" + ",\n".join(parts) + "}")
        return ",\n".join(rows)

    def _timing(self) -> str:
        if not self.interface.adapts_to_time_step:
            return "    const $p_signals *const given = signals;".replace("$p", self.interface.prefix)
        return _filled("timing.c.in", self.interface.prefix, time_step=self._inputs[TIME_STEP]).rstrip()


def weights_crc(weights: Sequence[Weight]) -> int:
    """CRC-32 (the one of zlib and Ethernet) over the 32-bit words of all weights, little-endian."""
    return zlib.crc32(b"".join(_little_endian(w.values) for w in weights))


def thinned(interface: Interface) -> list:
    """The golden steps that are embedded."""
    steps = list(interface.golden.steps)
    words = interface.signal_words + interface.command_words + 2 * interface.memory_words
    room = max(2, MAX_GOLDEN_WORDS // max(1, words))
    if len(steps) <= room:
        return steps
    return [steps[i] for i in np.linspace(0, len(steps) - 1, room).round().astype(int)]


def _little_endian(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _filled(file: str, prefix: str, **values: str) -> str:
    # The text of a value may itself contain $p_ (never other placeholders).
    template = Template((RUNTIME / file).read_text())
    return template.substitute(p=prefix, P=prefix.upper(), **values)


def _safe(text: str) -> str:
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")


def _members(rows: Iterable[tuple[str, tuple[int, ...], str]]) -> str:
    lines = []
    for name, shape, about in rows:
        size = int(np.prod(shape, dtype=np.int64))
        layout = f"shape {' x '.join(map(str, shape))}, row-major; " if len(shape) > 1 else ""
        comment = _safe(f"{layout}{about}".strip("; "))
        lines.append(f"    float {name}[{size}];" + (f" /* {comment} */" if comment else ""))
    return "\n".join(lines) or "    float unused[1]; /* a C structure cannot be empty */"


def _about_signal(unit: str, frame: str) -> str:
    return "; ".join(t for t in (unit or "dimensionless", f"{frame} frame" if frame else "") if t)


def _about_command(unit: str, elements: Sequence[str], lower: Sequence[float], upper: Sequence[float]) -> str:
    limits = sorted({f"{low:g} to {up:g}" for low, up in zip(lower, upper, strict=True)})
    shown = limits[0] if len(limits) == 1 else "see the limits below"
    return f"{unit or 'dimensionless'}; {', '.join(elements)}; {shown}"


def _struct(names: Mapping[str, str], values: Mapping[str, Sequence[float]]) -> str:
    if not names:
        return "{{0.0f}}"
    return "{" + ",\n    ".join(initialiser(values[n], "float", "        ") for n in names) + "}"


def _weights(code: Code, prefix: str) -> str:
    members = "\n".join(
        f"    {'float' if w.kind == 'float' else 'int32_t'} {w.member}[{w.values.size}]; /* {w.origin} */"
        for w in code.weights
    )
    values = ",\n    ".join(initialiser(w.values.tolist(), w.kind, "    ") for w in code.weights)
    return f"static const struct {{\n{members}\n}} {prefix}_weights = {{\n    {values}}};"


def _arena(arena: Arena, prefix: str) -> str:
    lines = []
    if arena.float_words:
        lines.append(f"static float {prefix}_arena[{arena.float_words}];")
    if arena.int_words:
        lines.append(f"static int32_t {prefix}_words[{arena.int_words}];")
    return "\n".join(lines)


def _unused(body: str) -> str:
    return "\n".join(
        f"    (void){name};" for name in ("signals", "memory", "commands", "next") if f"{name}->" not in body
    )
