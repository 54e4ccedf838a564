"""Workers as the environment sees them: started, asked, and ended with whoever started them."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError, MissingDependency, SimulatorError, UnknownName
from robot_rl.sim.foreign.worker.memory import layout, size_of, views
from robot_rl.sim.foreign.worker.serve import answer_to, explained, group_of, receive, send

FOLDER = Path(__file__).parent / "worker"
BOOT = """
import importlib.util, sys
place = sys.argv[1]
start, inside = place + "/__init__.py", [place]
spec = importlib.util.spec_from_file_location("robot_rl_worker", start, submodule_search_locations=inside)
package = importlib.util.module_from_spec(spec)
sys.modules["robot_rl_worker"] = package
spec.loader.exec_module(package)
from robot_rl_worker.serve import main
main()
"""
"""Loads the folder by its place, so that nothing else beside it comes into the path of another interpreter."""
STDERR_LINES, GRACE_S = 15, 2.0


class Workers:
    """N environments in several processes, or in this one with `count` 0, and the memory that all share.

    Args:
        config: what `Group` wants, with `task`, the name for messages; `first` and `count` are filled in here.
        count: processes. python: interpreter; "": this one. answer_s: s that an answer may take.

    Attributes:
        described: what the environments say of themselves (`Group.describe`). arrays: name → rows of all of them.

    Raises:
        ConfigError, UnknownName, MissingDependency: what the user can mend. SimulatorError: anything else.
    """

    def __init__(
        self, config: Mapping[str, Any], num_envs: int, count: int, python: str = "", answer_s: float = 300.0
    ) -> None:
        self.task, self.answer_s = str(config["task"]), answer_s
        self._local: Any = None
        self._memory = tempfile.TemporaryFile(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)  # noqa: SIM115
        self._processes = [_Process(python or sys.executable, self._memory.fileno()) for _ in range(count)]
        self._finalizer = weakref.finalize(self, _end, self._processes)
        ends = [num_envs * (i + 1) // max(count, 1) for i in range(max(count, 1))]
        firsts = [0, *ends[:-1]]
        ranges = zip(firsts, ends, strict=True)
        parts = [{**config, "do": "make", "first": first, "count": end - first} for first, end in ranges]
        if count == 0:
            answers = [self._locally(lambda: self._begin_locally(parts[0]))]
        else:
            for process, part in zip(self._processes, parts, strict=True):
                self._tell(process, part)
            answers = [self._heard(process) for process in self._processes]
        self.described: dict[str, Any] = answers[0]
        self.arrays: dict[str, Any] = {}
        self._share(num_envs)

    def ask(self, message: Mapping[str, Any]) -> None:
        """Have all workers do something at once; returns when the last one is ready."""
        if self._local is not None:
            self._locally(lambda: answer_to(self._local, dict(message)))
            return
        for process in self._processes:
            self._tell(process, message)
        for process in self._processes:
            self._heard(process)

    def close(self) -> None:
        """End the processes; idempotent, and done by itself when this object or the program goes."""
        self._finalizer()

    def _begin_locally(self, part: dict[str, Any]) -> Any:
        self._local = group_of(part)
        return self._local.describe()

    def _share(self, num_envs: int) -> None:
        dims = sum(_product(s["shape"]) for s in self.described["signals"])
        sizes = (num_envs, dims, len(self.described["low"]))
        fields = layout(*sizes)
        size = max(1, size_of(fields))
        os.ftruncate(self._memory.fileno(), size)
        self.arrays = views(mmap.mmap(self._memory.fileno(), size), fields)
        if self._local is not None:
            self._local.arrays = self.arrays
        else:
            self.ask({"do": "map", "bytes": size, "sizes": sizes})

    def _tell(self, process: _Process, message: Mapping[str, Any]) -> None:
        try:
            send(process.channel, message)
        except OSError:
            raise self._died(process) from None

    def _heard(self, process: _Process) -> Any:
        ready, _, _ = select.select([process.channel], [], [], self.answer_s)
        if not ready:
            self.close()
            raise SimulatorError(f"'{self.task}' gave no answer in {self.answer_s:g} s; set the option answer_s higher")
        try:
            answer = receive(process.channel)
        except (EOFError, OSError, ValueError):
            raise self._died(process) from None
        if isinstance(answer, dict) and "error" in answer:
            self.close()
            raise self._error(answer, process.python)
        return answer

    def _locally(self, act: Any) -> Any:
        try:
            return act()
        except Exception as error:
            raise self._error(explained(error), sys.executable) from error

    def _died(self, process: _Process) -> Exception:
        text = process.last_words()
        self.close()
        missing = "No module named 'numpy'" in text
        if missing:
            return MissingDependency(
                "'numpy'", f"task '{self.task}'", f"{process.python} -m pip install numpy gymnasium"
            )
        return SimulatorError(f"'{self.task}': {text}")

    def _error(self, answer: Mapping[str, Any], python: str) -> Exception:
        kind, text = answer["kind"], answer["error"]
        if kind == "name":
            return UnknownName(f"{answer['what']} of task '{self.task}':", text, _near(text, answer["near"]))
        if kind == "missing":
            package = text.split(".")[0]
            install = answer["install"] or f"{python} -m pip install {package}"
            hint = f"{install}, or name an interpreter that has it by the option `python`, e.g. --set task.python=…"
            return MissingDependency(f"the package '{package}'", f"task '{self.task}' (in {python})", hint)
        if kind == "config":
            return ConfigError(f"task '{self.task}': {text}")
        return SimulatorError("\n  ".join([f"'{self.task}': {text}", *answer.get("traceback", [])]))


class _Process:
    """One worker with its end of the conversation; what it prints goes into a file without a name."""

    def __init__(self, python: str, memory: int) -> None:
        self.python = python
        self.channel, theirs = socket.socketpair()
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115
        # Pictures are not taken: without this MuJoCo looks for a display while it is imported.
        environment = {"MUJOCO_GL": "disable", "OMP_NUM_THREADS": "1", **os.environ}
        command = [python, "-c", BOOT, str(FOLDER), str(theirs.fileno()), str(memory)]
        try:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.printed, stderr=self.printed, env=environment,
                pass_fds=(theirs.fileno(), memory),
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"python = '{python}' cannot be started: {error.strerror or error}") from error
        finally:
            theirs.close()

    def last_words(self) -> str:
        """How it ended, and the end of what it printed."""
        try:
            code = self.popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code = self.popen.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        self.printed.seek(max(0, self.printed.seek(0, os.SEEK_END) - 8192))
        lines = self.printed.read().decode(errors="replace").splitlines()[-STDERR_LINES:]
        return "\n  ".join([f"the worker ({self.python}) {how}; it printed", *(lines or ["nothing"])])


def _end(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.channel.close()  # a worker that waits for a question ends by itself
    until = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.popen.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()


def _near(name: str, names: Sequence[str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, names, n=8, cutoff=0.5) or list(names)[:20]


def _product(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
