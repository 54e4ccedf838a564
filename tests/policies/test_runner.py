"""Training runs: exact resume after SIGKILL, clean stops, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes import PointMass
from point_mass_run import QUIET, run, small

from robot_rl.errors import CheckpointError, ConfigError, UnknownName
from robot_rl.policies import runner as runner_module
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.runner import RunInfo, RunnerConfig, load_policy, random_state, set_random_state, train

SCRIPT = Path(__file__).with_name("point_mass_run.py")
ROOT = Path(__file__).parents[2]
TIMINGS = ("cpu_seconds", "env_steps_per_second")


def parameters(result) -> torch.Tensor:
    state = result.algorithm.state_dict()
    parts: list[torch.Tensor] = []

    def collect(value):
        if isinstance(value, torch.Tensor):
            parts.append(value.double().reshape(-1))
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                collect(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                collect(item)

    collect(state)
    return torch.cat(parts)


def metrics(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


HOLD = {"td3-l2f": 1250, "ppo": 8 * 12 + 3, "sb3:PPO": 16 * 12 + 5}
"""Steps of the batch after which a process waits: in the 13th iteration of 20, after the checkpoint of the 10th."""


def start(algorithm: str, folder: Path, hold: int | None = None) -> subprocess.Popen:
    """A process that trains up to step `hold` and then waits for a signal."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), algorithm, str(folder), str(hold or HOLD[algorithm])]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not folder.with_suffix(".holding").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    return process


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs by algorithm: (result, folder)."""
    done: dict[str, tuple] = {}

    def get(algorithm: str):
        if algorithm not in done:
            folder = tmp_path_factory.mktemp("whole") / "run"
            done[algorithm] = (run(algorithm, folder), folder)
        return done[algorithm]

    return get


@pytest.mark.parametrize("algorithm", ["td3-l2f", "ppo", "sb3:PPO"])
def test_a_run_killed_by_sigkill_and_resumed_equals_an_uninterrupted_one(tmp_path, algorithm, whole):
    folder = tmp_path / "killed"
    kill(start(algorithm, folder))
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert len(metrics(folder)) == 12, "two iterations after the checkpoint are in the log and must be cut off"
    resumed = run(algorithm, folder, resume=True)
    result, whole_folder = whole(algorithm)
    assert torch.equal(parameters(resumed), parameters(result))
    assert metrics(folder) == metrics(whole_folder)
    assert resumed.env_steps == result.env_steps
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed" and len(record["resumed"]) == 1


def test_killed_while_a_checkpoint_is_written(tmp_path, whole):
    folder = tmp_path / "run"
    code = (
        f"import os, signal, sys; sys.path[:0] = [{str(SCRIPT.parent)!r}, {str(SCRIPT.parents[1])!r}]\n"
        "from point_mass_run import run\n"
        "replace, count = os.replace, []\n"
        "def dying(source, target):\n"
        "    count.extend([1] if str(target).endswith('.pt') else [])\n"
        "    if len(count) == 3:\n"
        "        os.truncate(source, 1000)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "os.replace = dying\n"
        f"run('ppo', {str(folder)!r})\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    names = [p.name for p in (folder / "checkpoints").iterdir()]
    assert len(names) == 3 and any(name.endswith(".tmp") for name in names)
    assert torch.equal(parameters(run("ppo", folder, resume=True)), parameters(whole("ppo")[0]))
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["0000020.pt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_saves_prints_how_to_resume_and_exits_cleanly(tmp_path, number, whole):
    process = start("ppo", tmp_path / "run")
    process.send_signal(number)
    (tmp_path / "run.go").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert f"point_mass_run.py ppo {tmp_path / 'run'} {HOLD['ppo']} --resume" in output
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "interrupted"
    newest = sorted((tmp_path / "run/checkpoints").glob("*.pt"))[-1]
    assert int(newest.stem) == record["iterations"] == len(metrics(tmp_path / "run")) == 13
    resumed = run("ppo", tmp_path / "run", resume=True)
    assert torch.equal(parameters(resumed), parameters(whole("ppo")[0]))
    assert resumed.cpu_seconds > record["cpu_seconds"] > 0.0, "times add up over a resume"


def test_killed_before_the_first_checkpoint_resumes_from_the_beginning(tmp_path, whole):
    kill(start("ppo", tmp_path / "run", hold=20))
    assert len(metrics(tmp_path / "run")) == 2 and not list((tmp_path / "run/checkpoints").iterdir())
    resumed = run("ppo", tmp_path / "run", resume=True)
    assert torch.equal(parameters(resumed), parameters(whole("ppo")[0]))
    assert metrics(tmp_path / "run") == metrics(whole("ppo")[1])


@pytest.mark.parametrize("algorithm", ["td3-l2f", "ppo"])
def test_the_seed_decides_everything(tmp_path, algorithm, whole):
    again, other = (run(algorithm, tmp_path / f"{seed}", seed=seed) for seed in (1, 2))
    first = whole(algorithm)[0]
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


def test_training_leaves_the_callers_random_state_and_handlers_alone(tmp_path):
    torch.manual_seed(123)
    before, handler = random_state(), signal.getsignal(signal.SIGINT)
    run("ppo", tmp_path / "run", changes={"iterations": 1})
    after = random_state()
    assert torch.equal(before.pop("torch"), after.pop("torch")) and before == after
    assert signal.getsignal(signal.SIGINT) is handler


def test_random_state_round_trip():
    import random

    import numpy as np

    state = random_state()
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    set_random_state(state)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


def test_run_json_says_what_was_run(tmp_path):
    info = RunInfo(task="point-mass", robot="dummy", command="robot-rl train point-mass", extra={"num_envs": 16})
    result = run("ppo", tmp_path / "run", info=info)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["task"] == "point-mass" and record["robot"] == "dummy" and record["seed"] == 1
    assert record["algorithm"] == "ppo" and record["config"]["steps_per_env"] == 8
    assert record["command_line"] == "robot-rl train point-mass" and record["num_envs"] == 16
    assert record["versions"]["torch"] == torch.__version__
    assert record["start"] <= record["end"] and record["iterations"] == 20
    assert 0.0 < record["cpu_seconds"] == pytest.approx(result.cpu_seconds, abs=0.2)


@pytest.mark.parametrize("algorithm", ["td3-l2f", "ppo"])
def test_the_policy_of_a_run_is_that_of_its_last_iteration(algorithm, whole):
    result, folder = whole(algorithm)
    obs = torch.randn(5, 3)
    loaded = load_policy(folder, PointMass(16 if algorithm == "ppo" else 1))
    assert torch.equal(loaded(obs), result.algorithm.policy()(obs))


def test_an_existing_run_is_never_overwritten(tmp_path):
    run("ppo", tmp_path / "run", changes={"iterations": 2})
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match=r"already holds a run.*--resume"):
        run("ppo", tmp_path / "run", changes={"iterations": 2})
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_folder_with_other_files_is_refused_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"not empty.*--out"):
        run("ppo", tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert run("ppo", tmp_path / "empty", changes={"iterations": 1}).completed


def test_resuming_nothing_or_another_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no training run.*without --resume"):
        run("ppo", tmp_path / "nowhere", resume=True)
    run("ppo", tmp_path / "run", changes={"iterations": 2})
    with pytest.raises(CheckpointError, match=r"config\.gamma: the run has 0\.99, now 0\.9"):
        run("ppo", tmp_path / "run", changes={"iterations": 2, "gamma": 0.9}, resume=True)
    with pytest.raises(CheckpointError, match=r"task_changes\.delay: the run has None, now 0\.02"):
        other = RunInfo("point-mass", extra={"task_changes": {"delay": 0.02}})
        run("ppo", tmp_path / "run", changes={"iterations": 2}, info=other, resume=True)
    with pytest.raises(CheckpointError, match="algorithm: the run has 'ppo', now 'td3-l2f'"):
        run("td3-l2f", tmp_path / "run", resume=True)


def test_resuming_a_complete_run_changes_nothing(whole):
    first, folder = whole("td3-l2f")
    again = run("td3-l2f", folder, resume=True)
    assert again.completed and again.iterations == first.iterations
    assert torch.equal(parameters(first), parameters(again))


def test_a_complete_run_goes_on_for_more_iterations_as_if_it_had_been_asked_for_them(tmp_path):
    whole = run("ppo", tmp_path / "whole", changes={"iterations": 6})
    run("ppo", tmp_path / "run", changes={"iterations": 3})
    longer = run("ppo", tmp_path / "run", changes={"iterations": 6}, resume=True)
    assert longer.iterations == 6 and torch.equal(parameters(longer), parameters(whole))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["iterations"] == 6
    with pytest.raises(CheckpointError, match=r"config\.iterations: the run has 6, now 4"):
        run("ppo", tmp_path / "run", changes={"iterations": 4}, resume=True)


def test_a_next_stage_begins_where_another_run_is_under_other_settings(tmp_path):
    """With the same settings it is the longer run; with others it is not, and the first run stays as it was."""
    long = run("ppo", tmp_path / "long", changes={"iterations": 6})
    first = run("ppo", tmp_path / "first", changes={"iterations": 4})
    again = run("ppo", tmp_path / "again", changes={"iterations": 6}, start=tmp_path / "first")
    assert torch.equal(parameters(again), parameters(long))
    other = run("ppo", tmp_path / "other", changes={"iterations": 6, "epochs": 1}, start=tmp_path / "first")
    assert not torch.equal(parameters(other), parameters(long))
    record = json.loads((tmp_path / "other/run.json").read_text())
    assert record["from"] == {"run": str(tmp_path / "first"), "iteration": 4} and record["iterations"] == 6
    assert [row["iteration"] for row in metrics(tmp_path / "other")] == [5, 6]
    assert first.iterations == 4 and len(metrics(tmp_path / "first")) == 4
    with pytest.raises(ConfigError, match="4 of 4 behind it"):
        run("ppo", tmp_path / "short", changes={"iterations": 4}, start=tmp_path / "first")
    with pytest.raises(CheckpointError, match="is a run of algorithm 'ppo'"):
        run("td3-l2f", tmp_path / "wrong", start=tmp_path / "first")
    with pytest.raises(CheckpointError, match="nowhere"):
        run("ppo", tmp_path / "none", start=tmp_path / "nowhere")


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    process = start("ppo", tmp_path / "run")
    try:
        with pytest.raises(CheckpointError, match="another process is training"):
            run("ppo", tmp_path / "run", resume=True)
    finally:
        kill(process)


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, whole):
    from rich.console import Console

    kill(start("ppo", tmp_path / "run"))
    checkpoints = sorted((tmp_path / "run/checkpoints").glob("*.pt"))
    newest = checkpoints[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    resumed = run("ppo", tmp_path / "run", resume=True, console=Console())
    output = capsys.readouterr().out
    assert newest.name in output and f"going on from the one before, {checkpoints[-2].name}" in output
    assert torch.equal(parameters(resumed), parameters(whole("ppo")[0]))


def test_a_full_disk_is_reported_and_the_run_goes_on_later(tmp_path, whole):
    """RLIMIT_FSIZE makes the kernel refuse large files, as a full disk does."""
    code = (
        f"import sys, resource, signal; sys.path[:0] = [{str(SCRIPT.parent)!r}, {str(SCRIPT.parents[1])!r}]\n"
        "from point_mass_run import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))\n"
        f"run('ppo', {str(tmp_path / 'run')!r})\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "CheckpointError: cannot write" in done.stderr and "MB are needed" in done.stderr
    assert list((tmp_path / "run/checkpoints").iterdir()) == []
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    resumed = run("ppo", tmp_path / "run", resume=True)
    assert torch.equal(parameters(resumed), parameters(whole("ppo")[0]))


def test_a_folder_that_cannot_be_made_is_refused_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file/run", Path("/proc/robot_rl_run")):
        with pytest.raises(CheckpointError, match=r"cannot write .*--out"):
            run("ppo", folder)


def test_old_checkpoints_are_dropped_and_a_complete_run_keeps_one(tmp_path, monkeypatch):
    seen: list[int] = []
    save = runner_module.RunFolder.save

    def spy(self, iteration, state):
        path = save(self, iteration, state)
        seen.append(len(self.checkpoint_paths()))
        return path

    monkeypatch.setattr(runner_module.RunFolder, "save", spy)
    run("ppo", tmp_path / "run", runner=RunnerConfig(checkpoint_every=2, keep=3, tensorboard=False))
    assert max(seen) == 3 and len(seen) == 11
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["0000020.pt"]


def test_tensorboard_events_hold_the_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("ppo", tmp_path / "run", changes={"iterations": 3}, runner=RunnerConfig())
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    values = [event.value for event in events.Scalars("loss/value")]
    assert values == pytest.approx([row["loss/value"] for row in metrics(tmp_path / "run")], rel=1e-5)


def test_unknown_algorithm_and_wrong_number_of_environments(tmp_path):
    with pytest.raises(UnknownName, match=r"unknown algorithm 'poo'.*ppo"):
        load_algorithm("poo")
    spec, config = small("ppo")
    with pytest.raises(ConfigError, match="num_envs = 16, but the environment has 3"):
        train(spec, PointMass(3), tmp_path / "run", config, info=RunInfo("point-mass"), runner=QUIET)
    assert not (tmp_path / "run").exists()
