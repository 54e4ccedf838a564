"""Actor and learner of the slot task; run as a script it is the process that the tests kill or stop.

python acting_apart.py learner FOLDER PORT [--resume]
python acting_apart.py actor PORT NAME
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from slot_task import SlotEnv

from robot_rl.hardware.loop_stats import LoopStats
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.asynchronous.actor import Acted, Actor, ActorOptions, for_acting
from robot_rl.policies.asynchronous.learner import asynchronous, off_policy
from robot_rl.policies.asynchronous.options import AsyncOptions
from robot_rl.policies.asynchronous.server import Server
from robot_rl.policies.runner import RunInfo, RunnerConfig, TrainResult, train

SMALL = {
    "num_envs": 2, "warmup_steps": 40, "batch_size": 32, "heads": 2, "actor_hidden": (16,), "critic_hidden": (16,),
    "steps_per_iteration": 10, "replay_steps": 20_000, "total_steps": 40_000,
}  # fmt: skip
OFTEN = RunnerConfig(checkpoint_every=1, tensorboard=False)
SEED = 5


def learn(folder: Path, port: int, *, resume: bool = False, utd: float = 1.0, **changes: object) -> TrainResult:
    """Train until there have been steps enough."""
    spec = load_algorithm("rlpd")
    server = Server("127.0.0.1", port, {})
    try:
        chosen = asynchronous(spec, AsyncOptions(push_every=5, utd=utd), server)
        config = spec.config_class(**(SMALL | changes))
        env = SlotEnv(config.num_envs)
        return train(
            chosen, env, folder, config, seed=SEED, info=RunInfo(task="slot"), resume=resume, runner=OFTEN
        )  # fmt: skip
    finally:
        server.close()


def make_actor(
    port: int, name: str = "a", say: Callable[[str], None] = print, *, period: float = 0.005, queue: int = 100_000,
    pending: Path | None = None, env: SlotEnv | None = None, **changes: object,
) -> Actor:  # fmt: skip
    spec = load_algorithm("rlpd")
    config = for_acting(spec.config_class(**(SMALL | changes)))
    env = env or SlotEnv(config.num_envs)
    learner = off_policy(spec, env, config, SEED)
    options = ActorOptions(period, queue, pending)
    return Actor(learner, env, ("127.0.0.1", port), name, options, LoopStats(period), say)


class Acting:
    """An actor in a thread of this process."""

    def __init__(self, port: int, *arguments: object, **settings: object) -> None:
        self.said: list[str] = []
        self.actor = make_actor(port, *arguments, say=self.said.append, **settings)  # type: ignore[arg-type]
        self.stop, self.acted, self.error = threading.Event(), None, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def ticks(self) -> int:
        return self.actor.meter.ticks

    def end(self) -> Acted:
        self.stop.set()
        self.thread.join(20)
        if self.error is not None:
            raise self.error
        assert self.acted is not None
        return self.acted

    def _run(self) -> None:
        try:
            self.acted = self.actor.run(self.stop.is_set)
        except Exception as error:
            self.error = error


def until(condition: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    """Wait; AssertionError where it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "learner":
        learn(Path(sys.argv[2]), int(sys.argv[3]), resume="--resume" in sys.argv)
    else:
        make_actor(int(sys.argv[2]), sys.argv[3]).run(lambda: False)
