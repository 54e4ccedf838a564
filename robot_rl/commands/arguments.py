"""Types of command-line arguments that several verbs share: what they accept is said when they refuse."""

from __future__ import annotations

import argparse

LARGEST_SEED = 2**32 - 1  # what every random generator in use takes


def seed(text: str) -> int:
    """A random seed, 0 to 2³² − 1."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to {LARGEST_SEED}")
    return value


def share(text: str) -> float:
    """A share, 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share from 0 to 1, for example 0.95")
    return value
