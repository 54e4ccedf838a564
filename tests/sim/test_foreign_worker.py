"""Workers: other interpreters, what goes wrong in them, and that none stays behind."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from robot_rl.errors import MissingDependency, SimulatorError
from robot_rl.sim.foreign.process import FOLDER
from robot_rl.sim.task_spec import make_env

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def make(query: str, num_envs: int = 2, **options: Any) -> Any:
    options = {"workers": 2, "episode_steps": 8, **options}
    return make_env(f"gym:foreign_envs:walk?{query}", num_envs, 0, overrides=options)


def play(env: Any, steps: int = 4) -> Any:
    for _ in range(steps):
        step = env.step(torch.zeros(env.num_envs, env.action_dim))
    return step


def pids(env: Any) -> list[int]:
    return [p.popen.pid for p in env.workers._processes]


def gone(pid: int, within: float = 20.0) -> bool:
    """Whether a process that need not be ours is gone, or dead and waited for by nobody."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise", r"environment 0, step \d of episode 0 .*KeyError.*the arm fell off"),
        ("nan", r"environment 0, step 3 .*observation 'obs' is nan at element 1"),
        ("huge", r"observation 'obs' is -?inf at element \d \(as float32\)"),
        ("reward", r"environment 0, step 3 .*the reward is nan"),
        ("rewards", r"environment 0, step 3 .*reshape"),
        ("shape", r"observation 'obs' has shape \(4,\); its space \(3,\)"),
        ("die", r"(?s)ended with status 7.*a last word"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_in_a_simulator_is_named(what: str, said: str, workers: int) -> None:
    if what == "die" and workers == 0:
        return  # it would take the test with it
    env = make(f"kind=Bad&what={what}", workers=workers)
    with pytest.raises(SimulatorError, match=said):
        play(env)
    assert all(gone(pid) for pid in pids(env))


def test_one_that_never_answers_is_given_up_and_killed() -> None:
    env = make("kind=Bad&what=hang", num_envs=1)
    env.workers.answer_s = 2.0  # only now: on a busy machine it takes longer to start
    with pytest.raises(SimulatorError, match="no answer in 2 s"):
        play(env)
    assert all(gone(pid) for pid in pids(env))


def test_a_killed_worker_is_told() -> None:
    env = make("kind=Walk")
    os.kill(pids(env)[1], signal.SIGKILL)
    with pytest.raises(SimulatorError, match="SIGKILL"):
        play(env)


def test_what_a_suite_prints_does_not_disturb() -> None:
    assert play(make("kind=Prints"), 20).obs["policy"].shape == (2, 3)


def test_workers_end_with_the_environment() -> None:
    env = make("kind=Walk")
    running = pids(env)
    assert len(running) == 2 and not any(gone(pid, 0.1) for pid in running)
    del env
    assert all(gone(pid) for pid in running)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_killed_program(end: signal.Signals, tmp_path: Path) -> None:
    code = """
import sys, time, torch
from robot_rl.sim.task_spec import make_env
env = make_env("gym:foreign_envs:walk", 2, 0, overrides={"workers": 2, "episode_steps": 8})
print(*[p.popen.pid for p in env.workers._processes], flush=True)
time.sleep(600)
"""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert program.stdout is not None
    running = [int(word) for word in program.stdout.readline().split()]
    program.send_signal(end)
    program.wait()
    assert len(running) == 2 and all(gone(pid) for pid in running)


def interpreter(folder: Path, packages: bool = True) -> str:
    """A virtual environment without pip, which sees this one's packages or none."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if packages:
        import numpy

        site = next((folder / "lib").glob("python*")) / "site-packages"
        (site / "all.pth").write_text(str(Path(numpy.__file__).parents[1]) + "\n")
    return str(folder / "bin" / "python")


def test_another_interpreter_gives_the_same_numbers(tmp_path: Path) -> None:
    here, there = make("kind=Walk"), make("kind=Walk", python=interpreter(tmp_path / "venv"))
    command = Path(f"/proc/{pids(there)[0]}/cmdline").read_bytes().split(b"\0")[0].decode()
    assert command == str(tmp_path / "venv" / "bin" / "python")
    assert torch.equal(play(here, 12).obs["policy"], play(there, 12).obs["policy"])


def test_an_interpreter_without_packages_says_what_to_install(tmp_path: Path) -> None:
    bare = interpreter(tmp_path / "bare", packages=False)
    with pytest.raises(MissingDependency, match=r"'numpy'.*bare/bin/python -m pip install numpy gymnasium"):
        make("kind=Walk", python=bare)
    with pytest.raises(SimulatorError, match="ended with status 1"):
        make("kind=Walk", python="/bin/false")


def test_the_worker_is_plain_python_3_9_and_stands_alone() -> None:
    files = sorted(FOLDER.glob("*.py"))
    assert len(files) > 3
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            tops = {name.split(".")[0] for name in names} - {"__future__", "numpy", "gymnasium"}
            assert tops <= sys.stdlib_module_names, path
            assert not isinstance(node, ast.Match)
        assert "strict=" not in path.read_text(encoding="utf-8"), "zip(strict=) is of 3.10"
