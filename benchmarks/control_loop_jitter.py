"""Jitter of the control loop in hovering flight, beside two ways people schedule one in Python.

    python benchmarks/control_loop_jitter.py policy.onnx [--rates 100,250,500] [--seconds 10] [--load 2] [--priority 50]

Each way runs the same ticks (simulated robot, policy, supervisor) one after the other at the same rate:
`loop` is our control loop on absolute deadlines, `sleep` waits for one period after each tick, `timer` is an rclpy
timer. `ros-1` and `ros-2` are our loop beside a node that publishes and hears small messages at 50 Hz, as `robot_node`
does, served by one thread and by rclpy's pool of two. What needs rclpy is left out where ROS 2 is not installed.
`--load` adds processes that compute all the time. Period errors are the absolute difference between the time from tick
to tick and the period; the last column is the 99th percentile over that of `loop`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robot_rl.errors import RobotRlError
from robot_rl.hardware.control_loop import ControlLoop, LoopConfig
from robot_rl.hardware.drivers.sim import SimDriver
from robot_rl.hardware.loop_stats import LoopStats
from robot_rl.hardware.supervisor_config import Reactions, RobotState, SupervisorConfig
from robot_rl.policy import Policy

# Late ticks shall be measured, not landed for.
_CONFIG = SupervisorConfig(reaction=Reactions(missed_ticks="warn", tracking="warn"))
_SETTLE = 3.0  # s of take-off before measuring


def main() -> int:
    """Print one line for each rate and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--rates", default="100,250,500", help="Hz, separated by commas")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--load", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--priority", type=int, default=0, help="SCHED_FIFO priority of `loop`; needs the right to it")
    arguments = parser.parse_args()
    ways = {"loop": _own, "sleep": _sleep}
    if importlib.util.find_spec("rclpy") is not None:
        ways |= {"timer": _timer, "ros-1": _beside_one_thread, "ros-2": _beside_two_threads}
    print(
        f"{'rate':>6} {'way':6} {'ticks':>6} {'missed':>6} {'p50 ms':>8} {'p99 ms':>8} {'worst':>8} "
        f"{'policy p50':>10} {'p99':>7} {'tick p50':>8}  p99 / loop's"
    )
    with _busy(arguments.load):
        for rate in (float(r) for r in arguments.rates.split(",")):
            reference = 0.0
            for name, way in ways.items():
                stats, state = _measured(arguments, rate, way)
                error = stats.period_error
                reference = reference or error.percentile(99)
                print(
                    f"{rate:6.0f} {name:6} {stats.ticks:6d} {stats.missed:6d} {1e3 * error.percentile(50):8.3f} "
                    f"{1e3 * error.percentile(99):8.3f} {1e3 * error.worst:8.2f} "
                    f"{1e3 * stats.policy_time.percentile(50):10.3f} {1e3 * stats.policy_time.percentile(99):7.3f} "
                    f"{1e3 * stats.tick_time.percentile(50):8.3f}  {error.percentile(99) / reference:.2f}"
                    + ("" if state is RobotState.FLYING else f"  (ended {state.value})")
                )
    return 0


Way = Callable[[ControlLoop, Callable[[], bool]], None]


def _measured(arguments: argparse.Namespace, rate: float, way: Way) -> tuple[LoopStats, RobotState]:
    config = LoopConfig(rate_hz=rate, realtime_priority=arguments.priority)
    loop = ControlLoop(SimDriver(), Policy.load(arguments.policy), supervisor=_CONFIG, config=config)
    loop.connect()
    begun = time.monotonic()
    kept: list[LoopStats] = []
    requests = iter((loop.pilot.arm, loop.pilot.take_off))
    states = [RobotState.DISARMED]

    def over() -> bool:
        if loop.snapshot.signals:
            request = next(requests, None)
            if request is not None:
                request()
        states[0] = loop.snapshot.state
        if not kept and time.monotonic() - begun > _SETTLE:
            kept.append(loop.take_stats())
        return time.monotonic() - begun > _SETTLE + arguments.seconds

    way(loop, over)
    return loop.take_stats(), states[0]


def _own(loop: ControlLoop, over: Callable[[], bool]) -> None:
    loop.run(until=over)


def _sleep(loop: ControlLoop, over: Callable[[], bool]) -> None:
    while not over():
        loop.tick()
        time.sleep(loop.control_dt)


def _timer(loop: ControlLoop, over: Callable[[], bool]) -> None:
    import rclpy
    from rclpy.node import Node

    rclpy.init()
    node = Node("control_loop_jitter")
    node.create_timer(loop.control_dt, loop.tick)
    while not over():
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.shutdown()


def _beside_one_thread(loop: ControlLoop, over: Callable[[], bool]) -> None:
    from rclpy.executors import SingleThreadedExecutor

    _beside(loop, over, SingleThreadedExecutor)


def _beside_two_threads(loop: ControlLoop, over: Callable[[], bool]) -> None:
    from rclpy.executors import MultiThreadedExecutor

    _beside(loop, over, lambda: MultiThreadedExecutor(num_threads=2))


def _beside(loop: ControlLoop, over: Callable[[], bool], make_executor: Callable[[], Any]) -> None:
    """Five topics at 50 Hz out and in again, served by an executor in a second thread."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node
    from std_msgs.msg import String

    rclpy.init()
    node, executor = Node("control_loop_jitter"), make_executor()
    for number in range(5):
        publisher = node.create_publisher(String, f"topic_{number}", 10)
        node.create_subscription(String, f"topic_{number}", lambda message: None, 10)
        node.create_timer(0.02, lambda publisher=publisher: publisher.publish(String(data="state")))
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    spinner = threading.Thread(target=spin, daemon=True)
    spinner.start()
    loop.run(until=over)
    executor.shutdown(timeout_sec=1.0)
    spinner.join(timeout=2.0)
    node.destroy_node()
    rclpy.try_shutdown()


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in load:
            process.kill()
            process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RobotRlError as error:
        sys.exit(str(error))
