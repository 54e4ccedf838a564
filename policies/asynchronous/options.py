"""How an actor and a learner in two processes work together. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.policies.guards import require_range

ALIVE_EVERY, SILENT_AFTER = 1.0, 5.0
"""s between signs of life of either side, and without any after which it is taken for gone."""


@dataclass(frozen=True)
class AsyncOptions:
    """Section `async` of the settings; none of it belongs to what identifies a run.

    Attributes:
        push_every: updates between two sets of weights for the actor (HIL-SERL: 50).
        utd: at most so many updates for each step of all environments; 0: as many as the machine makes.
        pace: of the actor, as a multiple of real time: 1 on a robot; 0: as fast as it can.
        queue: steps that the actor keeps for a learner that is slow, dead, or has not written a checkpoint since.
        nice: added to the learner's niceness, so that an actor on the same machine is served first.
    """

    push_every: int = 50
    utd: float = 0.0
    pace: float = 1.0
    queue: int = 10_000
    nice: int = 10

    def __post_init__(self) -> None:
        require_range("async.push_every", self.push_every, 1, 10**6)
        require_range("async.utd", self.utd, 0.0, 1e4)
        require_range("async.pace", self.pace, 0.0, 1e3)
        require_range("async.queue", self.queue, 1, 10**7)
        require_range("async.nice", self.nice, 0, 19)
