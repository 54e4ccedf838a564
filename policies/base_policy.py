"""Base policies by name: our own, a user's, or those of another library, which need the environment to be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robot_rl import registry
from robot_rl.protocols import BasePolicy
from robot_rl.signals import Signal

LEROBOT = "lerobot:"


@dataclass(frozen=True)
class BaseSpec:
    """A base policy before there is an environment.

    Attributes:
        make: from the environment that it acts in; most do not look at it. pictures: what it must see.
    """

    make: Callable[[Any], BasePolicy]
    pictures: tuple[Signal, ...] = ()


def load_base(name: str) -> BaseSpec:
    """`panda-pick`, `package.module:ATTRIBUTE` for a user's own, or `lerobot:PATH` (see `policies/lerobot.py`).

    Raises:
        UnknownName: no such base policy. MissingDependency: LeRobot is not installed.
    """
    if not name.startswith(LEROBOT):
        own = registry.load("base", name)
        return BaseSpec(lambda env: own())
    from robot_rl.policies.lerobot import LeRobotBase, LeRobotPlans

    plans = LeRobotPlans(name.removeprefix(LEROBOT))
    return BaseSpec(lambda env: LeRobotBase(plans, env.observer, env.action_map), plans.pictures)
