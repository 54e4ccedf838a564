"""Real nodes in real processes on a private DDS domain, for the tests of this folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import BatteryState, Imu

from robot_rl.hardware import ros_messages as messages
from robot_rl.hardware.mission import MissionClient

# Nothing here is about timing: on a busy computer late ticks are reported and flown through.
CALM = {
    "supervisor.reaction.missed_ticks": "warn",
    "supervisor.take_off_height": 0.3,
    "supervisor.command_timeout": 3.0,
    "loop.stall_limit": 20.0,
}
PATIENCE = 60.0


class Process:
    """A child process whose output is kept line by line."""

    def __init__(self, module: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def send(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        code = self._child.wait(seconds)
        self._reader.join(5.0)
        return code

    def end(self) -> None:
        """Terminate, and kill what does not listen."""
        if self.alive:
            self._child.terminate()
            try:
                self._child.wait(15.0)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.lines.append(line.rstrip())


class Observer(MissionClient):
    """A client that also keeps the newest message of every topic."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}
        self.levels: list[int] = []
        for kind, topic, qos in (
            (Odometry, "odom", messages.SENSOR_QOS),
            (Odometry, "setpoint", messages.SENSOR_QOS),
            (Imu, "imu", messages.SENSOR_QOS),
            (BatteryState, "battery", messages.SENSOR_QOS),
            (DiagnosticArray, "/diagnostics", messages.EVENT_QOS),
        ):
            self.create_subscription(kind, topic, self._keeper(topic), qos)

    def diagnostics(self) -> dict[str, str]:
        """The values of the newest diagnostics, empty before the first."""
        message = self.seen.get("/diagnostics")
        return {v.key: v.value for v in message.status[0].values} if message else {}

    def await_(self, what: str, until: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait without heartbeats, as a bystander does."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}; state {self.state}"
            time.sleep(0.02)

    def _keeper(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            self.seen[topic] = message

        return keep


class Graph:
    """One DDS domain with an observer in this process and any number of children."""

    def __init__(self) -> None:
        self.environment = {
            "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
        }
        self._before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        rclpy.init()
        self.observer = Observer()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.observer)
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()
        self._children: list[Process] = []

    def robot(self, policy: Path, arguments: Sequence[str] = (), **parameters: Any) -> Process:
        """Start a robot node; parameters by dotted name, dots as `__`; `arguments` for ROS come before them."""
        values = {"policy": str(policy), **CALM, **{k.replace("__", "."): v for k, v in parameters.items()}}
        given = ["--ros-args", *arguments]
        for name, value in values.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            given += ["-p", f"{name}:={text}"]
        return self.start("robot_rl.hardware.robot_node", given)

    def start(self, module: str, arguments: list[str]) -> Process:
        child = Process(module, arguments, self.environment)
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.end()
        self._executor.shutdown(timeout_sec=2.0)
        self._spinner.join(5.0)
        self.observer.destroy_node()
        rclpy.try_shutdown()
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


KILL = signal.SIGKILL
