"""What the runner asks of a learning algorithm, and how one is found by name. No algorithm lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from robot_rl import registry
from robot_rl.protocols import BatchedEnv

SB3_PREFIX = "sb3:"


class Algorithm(Protocol):
    """A learner bound to the sizes of one environment. Everything random comes from generators in its state.

    Optional: `prepare(env)` reads what training needs besides (demonstrations, a teacher), and raises what is wrong
    with it before there is a run folder. Who only loads a run to deploy it does not call it.
    """

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in the algorithm's own unit; training ends when they are equal."""
        ...

    @property
    def env_steps(self) -> int:
        """Transitions seen so far, summed over the environments."""
        ...

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """One iteration: some environment steps and the updates that belong to them.

        The first call resets the environment with the algorithm's seed. An iteration is the unit of logging and of
        checkpoints, and should take well under a few seconds.

        Returns:
            metrics, by names such as `loss/critic` or `episode/return`.

        Raises:
            NonFinite: an observation, reward, action, loss or parameter is not finite (see guards.py).
        """
        ...

    def policy(self) -> nn.Module:
        """A frozen copy of the deterministic actor, normaliser included: obs (N, n) → action (N, m) in [−1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on bit for bit: tensors, numbers, strings, lists, tuples and dicts of those only."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class AlgorithmSpec:
    """What an algorithm's file defines as ALGORITHM.

    Attributes:
        name: as given to `robot-rl train --algorithm`.
        config_class: frozen dataclass of hyper-parameters with defaults; its field `num_envs` says how many
            environments the command line makes. It checks its own values and raises ConfigError.
        create: (env, config, seed) → Algorithm. Reads sizes and attributes of the environment, does not step it.
        task_overrides: keyword arguments for making the task's environment, e.g. {"observer": "l2f"}.
        distributed: several processes may train one policy with it (torchrun); see `policies/distributed.py`.
        may_grow: the config's field that says how long training lasts, where nothing else depends on it: with a larger
            value a run, complete or not, may be resumed. "": none.
        shown: metrics for the progress bar, most important first.
        summary: one line for `robot-rl list`.
    """

    name: str
    config_class: type
    create: Callable[[BatchedEnv, Any, int], Algorithm]
    task_overrides: Mapping[str, Any] = field(default_factory=dict)
    distributed: bool = False
    may_grow: str = ""
    shown: tuple[str, ...] = ("episode/return", "episode/length")
    summary: str = ""


def load_algorithm(name: str) -> AlgorithmSpec:
    """The algorithm called `name`: ours, `sb3:<Class>`, or `package.module:ATTRIBUTE` for a user's own.

    Raises:
        UnknownName: no such algorithm or Stable-Baselines3 class; the message lists those there are.
        MissingDependency: `sb3:` was asked for without Stable-Baselines3.
    """
    if name.startswith(SB3_PREFIX):
        from robot_rl.policies.algorithms import sb3

        return sb3.spec_for(name[len(SB3_PREFIX) :])
    spec: AlgorithmSpec = registry.load("algorithm", name)
    return spec
