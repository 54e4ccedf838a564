"""From a name like `gym:HalfCheetah-v5` or `gym:Meta-World/MT1?env_name=push-v3` to a task. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robot_rl.contract import Rate
from robot_rl.errors import ConfigError
from robot_rl.sim.articulated.variants import Variant
from robot_rl.sim.task_spec import TaskSpec

NAME = re.compile(r"(gym|envpool):([A-Za-z0-9][A-Za-z0-9_.:/-]*)(?:\?([A-Za-z0-9_.:/=&-]*))?")
ROBOT = "third-party"
VARIANTS = (Variant("task", "The task as it is", group="quick"),)


@dataclass(frozen=True)
class ForeignOptions:
    """How environments of another project are run, and what counts.

    Attributes:
        python: interpreter with the suite and gymnasium; "": this one.
        workers: processes that share the environments; None: one per core, at most one per environment; 0: none, they
            live in this process.
        kwargs: keyword arguments of the environment, over those in the task's name. imports: modules that register it.
        attributes: set on the bare environment once it is made.
        signals: names of the observation's parts that are signals, in this order; empty: all, in order of name.
        control_dt: s between steps; 0: as the environment says.
        episode_steps: after which time runs out; 0: as the environment says, and never more than that.
        reward: the environment's own, or `sparse`: 1 in the step that succeeds and ends the episode, else 0.
        end_on_success: the episode terminates when it succeeds; implied by a sparse reward.
        success_key: where info tells it, or a method `name()` of the bare environment; "": `success` or `is_success`.
        success_when: `ever` in the episode, or at its `end`.
        expert: scripted policy, `module:Name` in the same interpreter, with `get_action(obs)`, `act(obs)` or callable;
            "": the suite's own where it is known (Meta-World).
        at_once: environments that an evaluation plays together.
        answer_s: s that a worker may take for an answer.
        auto_reset: ended episodes are followed by the next one. desync: the first episodes are cut at random ages.
    """

    python: str = ""
    workers: int | None = field(default=None, metadata={"min": 0, "max": 1024})
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    imports: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    signals: tuple[str, ...] = ()
    control_dt: float = field(default=0.0, metadata={"min": 0.0, "max": 60.0})
    episode_steps: int = field(default=0, metadata={"min": 0, "max": 10**7})
    reward: Literal["dense", "sparse"] = "dense"
    end_on_success: bool = False
    success_key: str = ""
    success_when: Literal["ever", "end"] = "ever"
    expert: str = ""
    at_once: int = field(default=8, metadata={"min": 1, "max": 4096})
    answer_s: float = field(default=300.0, metadata={"min": 0.1, "max": 1e6})
    auto_reset: bool = True
    desync: bool = False


def foreign_task(name: str) -> TaskSpec:
    """The task of a name `gym:ID`, `gym:module:function` or `envpool:ID`, each with `?key=value&…` where it is needed.

    Signals, commands and rate are known only once the environment is made; `env.task` has them.

    Raises:
        ConfigError: the name is not of that form.
    """
    parse(name)
    about = "an environment of another project, see docs/third-party-tasks.md"
    return TaskSpec(
        name, about, ROBOT, (), (), Rate(0.0, 0.0, 0.0), ForeignOptions(), "robot_rl.sim.foreign.env:ForeignEnv",
        examples="robot_rl.sim.foreign.env:play_through", variants="robot_rl.sim.foreign.task:VARIANTS",
        described_by_env=True,
    )  # fmt: skip


def parse(name: str) -> tuple[str, str, dict[str, Any]]:
    """Scheme, id and keyword arguments of a task's name."""
    from robot_rl.config import parse_set

    match = NAME.fullmatch(name)
    if match is None or len(name) > 128:
        raise ConfigError(
            f"task '{name}' is not of the form gym:ID, gym:module:function or envpool:ID, with ?key=value&key=value "
            "behind it where it is needed (letters, digits and _.:/- only); set the option `kwargs` for all else"
        )
    scheme, identity, query = match.groups()
    return scheme, identity, parse_set([part for part in (query or "").split("&") if part])


def from_a_file(name: str) -> bool:
    """Whether a policy file may name this task: a registered id, but no module to import or function to call."""
    match = NAME.fullmatch(name)
    return match is not None and ":" not in match[2]
