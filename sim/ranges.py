"""Ranges of options and the one check of them. Loads no torch."""

from __future__ import annotations

import math

from robot_rl.errors import ConfigError

Range = tuple[float, float]
"""(low, high), drawn uniformly per environment and episode unless said otherwise."""


def check(options: object, **allowed: tuple[float, float]) -> None:
    """Each named number (or each number of a tuple) lies in its closed interval; tuples of two are ordered.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    for name, (low, high) in allowed.items():
        value = getattr(options, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(math.isnan(v) or not low <= v <= high for v in numbers):
            raise ConfigError(f"{type(options).__name__}.{name} = {value}; allowed: {low} to {high}")
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise ConfigError(f"{type(options).__name__}.{name} = {value}; the first must not exceed the second")
