"""The base classes of observers and action maps, where people who write policies look for them.

They live in `robot_rl.observer` because `sim` builds them too and may not import `policies`.
"""

from __future__ import annotations

from robot_rl.observer import ActionMap, Observer, initial_memory

__all__ = ["ActionMap", "Observer", "initial_memory"]
