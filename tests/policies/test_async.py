"""Acting and learning in two processes, also when one of them dies, hangs, is slow, or says nonsense."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from acting_apart import OFTEN, SEED, SMALL, Acting, learn, make_actor, until
from slot_task import RATE, Moves, Sees, SlotEnv, expert, write_base, write_demos

from robot_rl.errors import ConfigError
from robot_rl.hardware.loop_stats import LoopStats
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.asynchronous.actor import Actor, ActorOptions, for_acting
from robot_rl.policies.asynchronous.learner import AsyncLearner, asynchronous, off_policy
from robot_rl.policies.asynchronous.options import AsyncOptions
from robot_rl.policies.asynchronous.server import Fit, Server
from robot_rl.policies.asynchronous.wire import Message
from robot_rl.policies.export import export_policy
from robot_rl.policies.residual.base_env import BASE
from robot_rl.policies.run_folder import RunFolder
from robot_rl.policies.runner import RunInfo, load_policy, train
from robot_rl.policy import Policy


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def started():
    """Starts processes of acting_apart.py, and ends what is left of them."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: object) -> subprocess.Popen[bytes]:
        here = Path(__file__).parent
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
        command = [sys.executable, str(here / "acting_apart.py"), *map(str, words)]
        running.append(subprocess.Popen(command, env=environment, cwd=here.parents[1]))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


class Recorded(SlotEnv):
    """Remembers what it gave."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.rewards: list[torch.Tensor] = []

    def step(self, action):
        step = super().step(action)
        self.rewards.append(step.reward.clone())
        return step


def write_refined(path, actor):
    env, steps = SlotEnv(), []
    env.reset(1)
    for _ in range(20):
        steps.append({name: value[0].numpy() for name, value in env.signals().items()})
        env.step(expert(env.signals()))
    return export_policy(
        path, observer=Sees(), actor=actor, action_map=Moves(), task="slot", robot="point", rate=RATE,
        example_signals=steps,
    )  # fmt: skip


def in_process(port: int, env: SlotEnv | None = None, options: AsyncOptions | None = None, **changes):
    """A learner that takes in steps when it is told to."""
    config = load_algorithm("rlpd").config_class(**(SMALL | changes))
    server = Server("127.0.0.1", port, {})
    learner = off_policy(load_algorithm("rlpd"), env or SlotEnv(config.num_envs), config, SEED)
    return AsyncLearner(learner, options or AsyncOptions(push_every=5, utd=1.0), server), server


def test_a_run_trains_checkpoints_and_gives_a_policy(tmp_path, port) -> None:
    acting = Acting(port, period=0.01)
    result = learn(tmp_path / "run", port, total_steps=400)
    acting.thread.join(20)
    assert result.completed
    assert acting.acted.reason == "training is done"
    assert acting.acted.taken > 1
    learned = result.algorithm
    assert learned.lost == 0
    assert 0 < learned.learner.updates <= (400 - 40) / 2 + 1  # utd=1: one per step of both environments
    action = load_policy(tmp_path / "run", SlotEnv(2))(torch.zeros(1, 4))
    assert torch.isfinite(action).all()


def test_every_step_arrives_in_order(port) -> None:
    env = Recorded(2)
    learned, server = in_process(port)
    acting = Acting(port, period=0.0, env=env)
    try:
        learned.step(env)
        until(lambda: acting.ticks >= 60, "steps")
        acting.stop.set()
        acting.thread.join(20)
        while learned.number < acting.ticks:
            learned.step(env)
    finally:
        server.close()
    replay = learned.learner.replay
    given = torch.cat(env.rewards)
    assert torch.equal(replay.reward[: len(given)], given)
    assert learned.lost == 0


def test_the_learner_is_killed_and_the_actor_goes_on_with_its_last_policy(tmp_path, port, started) -> None:
    folder = tmp_path / "run"
    first = started("learner", folder, port)
    acting = Acting(port)
    until(lambda: len(list(folder.glob("checkpoints/*.pt"))) >= 2 and acting.actor.taken > 1, "checkpoints")
    first.kill()
    first.wait()
    until(lambda: any("has gone" in s for s in acting.said), "that it says so")
    ticks = acting.ticks
    until(lambda: acting.ticks > ticks + 50, "acting without a learner")
    assert acting.actor.backlog.dropped == 0
    again = started("learner", folder, port, "--resume")
    until(lambda: acting.actor.backlog.first > ticks + 50, "that a checkpoint holds what happened meanwhile")
    acting.end()
    again.send_signal(signal.SIGTERM)
    again.wait(30)
    state = RunFolder(folder).load_newest()["algorithm"]
    actor, number, lost = state["last_step"]
    assert (actor, lost) == ("a", 0)
    assert state["counts"][0] == 2 * number > 2 * ticks


@pytest.mark.parametrize("queue", [100_000, 20])
def test_a_learner_that_hangs_never_holds_up_the_actor(tmp_path, port, started, queue) -> None:
    hanging = started("learner", tmp_path / "run", port)
    acting = Acting(port, queue=queue)
    until(lambda: acting.actor.taken > 1, "weights")
    hanging.send_signal(signal.SIGSTOP)
    until(lambda: any("silent" in s for s in acting.said), "that it says so")
    ticks = acting.ticks
    until(lambda: acting.ticks > ticks + 100, "acting")
    dropped = acting.actor.backlog.dropped
    assert (dropped > 0) == (queue == 20)
    hanging.send_signal(signal.SIGCONT)
    until(lambda: acting.actor.link.connected and acting.actor.backlog.first > ticks + 100, "that it goes on")
    dropped = acting.end().dropped
    hanging.send_signal(signal.SIGTERM)
    hanging.wait(30)
    state = RunFolder(tmp_path / "run").load_newest()["algorithm"]
    assert state["last_step"][2] == dropped  # what the actor dropped is what the learner misses
    assert state["counts"][0] == 2 * (state["last_step"][1] - dropped)


def test_the_actor_is_killed_and_the_learner_waits_for_another_one(port, started) -> None:
    learned, server = in_process(port)
    env = SlotEnv(2)
    try:
        first = started("actor", port, "first")
        while learned.learner.updates < 20:
            learned.step(env)
        first.kill()
        first.wait()
        until(lambda: not server.connected, "that it is noticed")
        learned.step(env)  # takes in what had arrived
        updates, steps = learned.learner.updates, learned.env_steps
        assert learned.step(env)["actor/connected"] == 0.0
        assert (learned.learner.updates, learned.env_steps) == (updates, steps)
        started("actor", port, "second")
        while learned.env_steps < steps + 100:
            learned.step(env)
    finally:
        server.close()
    assert (learned.actor, learned.lost) == ("second", 0)
    assert learned.learner.updates > updates


def test_bad_weights_are_refused_and_the_old_ones_stay(port) -> None:
    learned, server = in_process(port)
    good = {k: v.numpy().copy() for k, v in learned.learner.acting_state().items()}
    name = "actor.0.weight"
    bad = {
        "not finite": good | {name: np.full_like(good[name], np.nan)},
        "needed is": good | {name: good[name][:, :-1]},
        "other ones": {k: v for k, v in good.items() if k != name},
    }
    server.publish(Message("weights", {}, good))
    server.start(Fit(learned.learner.dims, 2, 2))
    acting = Acting(port)
    try:
        until(lambda: acting.actor.taken == 1, "the first weights")
        for count, (why, arrays) in enumerate(bad.items(), 1):
            server.publish(Message("weights", {}, arrays))
            until(lambda count=count: acting.actor.refused == count, why)
            assert why in acting.said[-1]
        ticks = acting.ticks
        until(lambda: acting.ticks > ticks + 20, "acting")
        np.testing.assert_array_equal(acting.actor.learner.acting_state()[name], good[name])
        with server._news:  # what a broken cable or memory would do
            frame = bytearray(server._weights)
            frame[-3] ^= 1
            server._weights, server._version = bytes(frame), server._version + 1
            server._news.notify_all()
        until(lambda: any("check sum" in s for s in acting.said), "that it says so")
        server.publish(Message("weights", {}, good | {name: good[name] + 1.0}))
        until(lambda: acting.actor.taken == 2, "good ones after a new connection")
        np.testing.assert_array_equal(acting.actor.learner.acting_state()[name], good[name] + 1.0)
    finally:
        acting.end()
        server.close()


def test_an_actor_of_other_sizes_is_told_so_and_a_second_one_has_to_wait(port) -> None:
    learned, server = in_process(port)
    env = SlotEnv(2)
    first = Acting(port, "first")
    try:
        learned.step(env)
        other = make_actor(port, "other", num_envs=3)
        with pytest.raises(ConfigError, match="does not fit the learner"):
            other.run(lambda: False)
        second = Acting(port, "second")
        until(lambda: first.ticks > 50, "acting")
        assert second.ticks == 0
        first.end()
        until(lambda: second.ticks > 0, "the place of the first")
        second.end()
    finally:
        first.stop.set()
        server.close()


def test_steps_that_were_not_learnt_outlive_the_actor(tmp_path, port) -> None:
    learned, server = in_process(port)
    env, pending = SlotEnv(2), tmp_path / "pending.bin"
    acting = Acting(port, pending=pending)
    learned.step(env)
    until(lambda: acting.ticks > 20, "steps")
    server.close()
    ticks = acting.ticks
    until(lambda: acting.ticks > ticks + 20, "steps that nobody gets")
    acted = acting.end()
    assert acted.pending == acted.ticks  # no checkpoint was written, so the learner may need all of them again
    learned, server = in_process(port)
    acting = Acting(port, "another", pending=pending)
    try:
        while learned.number < acted.ticks + 10:
            learned.step(env)
        assert (learned.actor, learned.lost) == ("a", 0)
    finally:
        acting.end()
        server.close()


def test_refining_goes_apart_too(tmp_path, port) -> None:
    spec = load_algorithm("resfit")
    files = {"base": str(write_base(tmp_path / "base.onnx")), "demos": str(write_demos(tmp_path / "demos.rrl"))}
    sizes = {"num_envs": 2, "warmup_steps": 40, "critic_updates": 5, "batch_size": 32, "heads": 2, "total_steps": 400}
    config = spec.config_class(**files, **sizes, actor_learning_rate=1e-2, policy_delay=1)
    acting_learner = off_policy(spec, env := SlotEnv(2), for_acting(config), SEED)
    acting_learner.prepare(env)
    assert acting_learner.demos is None
    options = ActorOptions(0.0)
    actor = Actor(acting_learner, env, ("127.0.0.1", port), "a", options, LoopStats(0.0), lambda _: None)
    thread = threading.Thread(target=actor.run, args=(lambda: False,), daemon=True)
    thread.start()
    server = Server("127.0.0.1", port, {})
    try:
        chosen = asynchronous(spec, AsyncOptions(push_every=5, utd=1.0), server)
        learned = train(chosen, SlotEnv(2), tmp_path / "run", config, info=RunInfo(task="slot"), runner=OFTEN).algorithm
    finally:
        server.close()
    thread.join(20)
    assert not thread.is_alive()
    assert acting_learner.actor[-1].weight.abs().max() > 0.0  # what was learnt came back
    assert learned.learner.replay.obs[BASE][:20].abs().amax() > 0.0
    path = write_refined(tmp_path / "refined.onnx", load_policy(tmp_path / "run", SlotEnv(2)))
    assert Policy.load(path).contract.task == "slot"


def test_on_policy_algorithms_cannot() -> None:
    spec = load_algorithm("ppo")
    with pytest.raises(ConfigError, match="cannot learn asynchronously"):
        off_policy(spec, SlotEnv(4), spec.config_class(num_envs=4), 0)
