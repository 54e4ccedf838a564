"""`robot-rl train --async` and `robot-rl actor`: two processes, one run folder, the usual policy file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robot_rl.cli import main

ROOT = Path(__file__).parents[2]
QUICK = [
    "num_envs=1", "warmup_steps=60", "batch_size=32", "heads=2", "steps_per_iteration=20", "actor_hidden=[16,16]",
    "critic_hidden=[16,16]", "task.threads=1", "async.pace=4", "async.utd=0.2", "async.push_every=1",
    "runner.checkpoint_every=2", "runner.tensorboard=false",
]  # fmt: skip


def robot_rl(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "robot_rl.cli", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def actors_of(process: subprocess.Popen[str]) -> list[int]:
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(word) for found in lists for word in found.read_text().split()]
    return [child for child in children if b"actor" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for(condition: Callable[[], Any], patience: float = 200.0) -> Any:
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def steps_of(folder: Path) -> float:
    """Environment steps in the last whole line of the log; 0 before there is one."""
    whole, _, _ = (folder / "metrics.jsonl").read_text().rpartition("\n")
    return json.loads(whole.splitlines()[-1])["env_steps"] if whole else 0


def training(folder: Path, *more: str) -> list[str]:
    return ["train", "panda-reach", "--algorithm", "rlpd", "--out", str(folder), *more]


def test_train_async_is_interrupted_resumed_and_exported(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    changes = [*QUICK, "total_steps=800"]
    first = robot_rl(*training(folder, "--async", "--set", *changes))
    wait_for(lambda: list(folder.glob("checkpoints/*.pt")) and steps_of(folder) > 0)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "actor: stopped" in said
    again = robot_rl(*training(folder, "--async", "--resume", "--set", *changes))
    children = wait_for(lambda: actors_of(again))
    before = (folder / "metrics.jsonl").stat().st_size
    wait_for(lambda: (folder / "metrics.jsonl").stat().st_size > before)  # it acts
    os.kill(children[0], signal.SIGKILL)
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "the actor ended with status -9: another one is started" in said
    assert "actor: training is done" in said
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["env_steps"] == 800
    assert rows[-1]["actor/lost"] == 0.0
    assert "actor/period_error_p99_ms" in rows[-1]
    assert main(["export", str(folder), "-o", str(tmp_path / "policy.onnx")]) == 0


def test_an_actor_may_be_started_by_hand(tmp_path: Path) -> None:
    learner = robot_rl(*training(tmp_path / "run", "--listen", "127.0.0.1:0", "--set", *QUICK, "total_steps=200"))
    assert learner.stderr is not None
    address = next(line for line in learner.stderr if "robot-rl actor" in line).split()[-1]
    actor = robot_rl("actor", address, "--pace", "0")
    _, said = actor.communicate(timeout=120)
    learner.communicate(timeout=60)
    assert (actor.returncode, learner.returncode) == (0, 0), said
    assert "200 ticks" in said or "training is done" in said


def test_what_is_not_an_address_or_a_learner_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["actor", "nowhere"]) == 2
    assert "no address" in capsys.readouterr().err
    assert main(["actor", "1", "--give-up", "0.1"]) == 1
