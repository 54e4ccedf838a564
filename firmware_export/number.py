"""Numbers as C text: the shortest form that reads back to exactly the same value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def float_literal(value: float) -> str:
    """A float32 as a C literal, for example `0.1f`; infinities need <math.h>."""
    number = np.float32(value)
    if np.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    text = (
        np.format_float_scientific(number, unique=True, trim="0")
        if (number != 0 and not 1e-4 <= abs(number) < 1e6)
        else np.format_float_positional(number, unique=True, trim="0")
    )
    return f"{text}f" if number >= 0 and not np.signbit(number) else f"({text}f)"


def int_literal(value: int) -> str:
    """An int32 as a C literal."""
    number = int(np.clip(int(value), -(2**31) + 1, 2**31 - 1))
    return str(number) if number >= 0 else f"({number})"


def literal(value: float, kind: str) -> str:
    """One element of the given kind."""
    return float_literal(float(value)) if kind == "float" else int_literal(int(value))


def initialiser(values: Iterable[float], kind: str, indent: str = "    ", width: int = 118) -> str:
    """A brace-enclosed list, wrapped."""
    lines, line = [], indent
    for text in (literal(v, kind).strip("()") + "," for v in values):
        if len(line) + len(text) + 1 > width:
            lines.append(line.rstrip())
            line = indent
        line += text + " "
    lines.append(line.rstrip().rstrip(","))
    return "{\n" + "\n".join(lines) + "}"
