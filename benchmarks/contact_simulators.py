"""Contact physics and environments per second: the `mujoco` backend against everything one would otherwise use.

    python benchmarks/contact_simulators.py                                   # physics of Go1 and the tasks there are
    python benchmarks/contact_simulators.py --envpool-python /path/to/python  # and EnvPool's ports, in that environment

All of one run, interleaved, medians of several rounds: ratios hold on a busy machine, absolute numbers do not.
Physics: Go1 of this project standing under PD computed at every physics step of 4 ms, 5 of them to an environment step,
sensors read once per environment step. `mujoco.rollout` gets open-loop torques (it cannot do feedback), one call per
environment step. Gymnasium: an `AsyncVectorEnv` of one-robot environments that do the same in a Python loop.

EnvPool comes with its own MuJoCo; it has an environment of its own: `python -m venv e && e/bin/pip install envpool`.
Its Go1, LEAP and Panda are MuJoCo Playground's tasks: the same kind of task with other models, so those ratios compare
what a user gets, not one line of code with another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import mujoco
import mujoco.rollout
import numpy as np
import torch

from robot_rl.registry import load, names
from robot_rl.sim.articulated.jointed_robot import JointedRobot
from robot_rl.sim.articulated.scene import compile_scene, flat_scene
from robot_rl.sim.gym_registration import gym_id

DT, DECIMATION = 0.004, 5
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "go1-velocity-flat": ("Go1JoystickFlatTerrain-v1", {}),
    "leap-reorient": ("LeapCubeReorient-v1", {}),
    "panda-pick": ("PandaPickCube-v1", {"control_dt": 0.02, "decimation": 4}),
}
"""Our task, EnvPool's port of the like one, and what makes the physics steps of an environment step as many as its."""


class Rate(NamedTuple):
    """Environment steps per second of wall time, and per second of CPU time of all processes and threads."""

    wall: float
    cpu: float


class Candidate(NamedTuple):
    """Something that makes `envs` environment steps at each call."""

    step: Callable[[], Any]
    envs: int
    helpers: tuple[int, ...] = ()

    def cpu(self) -> float:
        """Seconds of CPU time that this process and `helpers` (process ids) have used."""
        ticks = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13] for pid in self.helpers]
        return time.process_time() + sum(int(t) for pair in ticks for t in pair) / os.sysconf("SC_CLK_TCK")


def go1() -> tuple[JointedRobot, mujoco.MjModel]:
    robot: JointedRobot = load("robot", "go1").parameters("own")
    return robot, compile_scene(flat_scene(robot), DT)


def start(robot: JointedRobot, model: mujoco.MjModel) -> np.ndarray:
    """The standing pose, (nq,)."""
    qpos = model.qpos0.copy()
    qpos[2], qpos[7:] = robot.base_height, robot.default_pose
    return qpos


def backend(envs: int, threads: int) -> Candidate:
    """Ours."""
    robot, model = go1()
    physics = load("physics", "mujoco")(model, envs, threads=threads)
    qpos = torch.tensor(start(robot, model), dtype=torch.float32)
    pose, kp, kd = qpos[7:], torch.tensor(robot.stiffness), torch.tensor(robot.damping)
    physics.set_state(torch.arange(envs), qpos.repeat(envs, 1), torch.zeros(envs, model.nv))

    def step() -> None:
        for _ in range(DECIMATION):
            physics.step(kp * (pose - physics.qpos[:, 7:]) - kd * physics.qvel[:, 6:])
        _ = physics.sensordata

    return Candidate(step, envs)


class OneGo1(gymnasium.Env[np.ndarray, np.ndarray]):
    """One robot in plain Python: what a Gymnasium environment around `mj_step` looks like."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (37,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (12,))

    def __init__(self) -> None:
        self.robot, self.model = go1()
        self.data, self.qpos = mujoco.MjData(self.model), start(self.robot, self.model)
        self.kp, self.kd = np.array(self.robot.stiffness), np.array(self.robot.damping)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.qpos
        return np.concatenate([self.data.qpos, self.data.qvel]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        d, pose = self.data, self.qpos[7:]
        for _ in range(DECIMATION):
            d.ctrl[:] = self.kp * (pose - d.qpos[7:]) - self.kd * d.qvel[6:]
            mujoco.mj_step(self.model, d)
        return np.concatenate([d.qpos, d.qvel]), 0.0, False, False, {}


def plain_loop(envs: int) -> Candidate:
    """The same environments one after another in this process."""
    robots = [OneGo1() for _ in range(envs)]
    for robot in robots:
        robot.reset()
    return Candidate(lambda: [robot.step(robot.qpos[7:]) for robot in robots], envs)


def rollout(envs: int, threads: int) -> Candidate:
    robot, model = go1()
    runner = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    data[0].qpos[:] = start(robot, model)
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.zeros(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data[0], state, kind)
    states, control = np.tile(state, (envs, 1)), np.zeros((envs, DECIMATION, model.nu))

    def step() -> None:
        nonlocal states
        result, _ = runner.rollout(model, data, states, control)
        states = np.ascontiguousarray(result[:, -1])

    return Candidate(step, envs)


def gymnasium_async(envs: int) -> Candidate:
    vector = gymnasium.vector.AsyncVectorEnv([OneGo1] * envs)
    vector.reset()
    action = np.zeros((envs, 12), dtype=np.float32)
    return Candidate(lambda: vector.step(action), envs, tuple(process.pid for process in vector.processes))


def task(name: str, envs: int, threads: int, changes: dict[str, Any]) -> Candidate:
    """A whole environment of this project: observation, reward, randomisation, resets; random actions."""
    from robot_rl.sim.task_spec import make_env

    env: Any = make_env(name, envs, seed=0, overrides={"threads": threads, **changes})
    env.reset(0)
    actions = 2.0 * torch.rand(16, envs, env.action_dim) - 1.0
    count = [0]

    def step() -> None:
        env.step(actions[count[0] % 16])
        count[0] += 1

    return Candidate(step, envs)


def task_async(name: str, envs: int) -> Candidate:
    """The same task in Gymnasium's `AsyncVectorEnv`: a process with torch for each environment."""
    identity = f"robot_rl.sim.gym_env:{gym_id(name)}"
    vector = gymnasium.make_vec(identity, num_envs=envs, vectorization_mode="async", options={"threads": 1})
    vector.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (16, *vector.action_space.shape)).astype(np.float32)
    count = [0]

    def step() -> None:
        vector.step(actions[count[0] % 16])
        count[0] += 1

    return Candidate(step, envs, tuple(process.pid for process in vector.unwrapped.processes))


def measure(candidate: Candidate, seconds: float) -> Rate:
    candidate.step()
    wall, cpu, calls = time.perf_counter(), candidate.cpu(), 0
    while (spent := time.perf_counter() - wall) < seconds:
        candidate.step()
        calls += 1
    steps = calls * candidate.envs
    return Rate(steps / spent, steps / max(candidate.cpu() - cpu, 1e-9))


PEER = """
import json, sys, time, numpy as np, envpool
name, envs, threads, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
env = envpool.make(name, env_type="gymnasium", num_envs=envs, num_threads=threads)
env.reset()
shape = env.action_space.shape
actions = np.random.default_rng(0).uniform(-1, 1, (16, envs, *shape)).astype(env.action_space.dtype)
for a in actions: env.step(a)
wall, cpu, calls = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - wall < seconds:
    env.step(actions[calls % 16]); calls += 1
spent = time.perf_counter() - wall
print(json.dumps([calls*envs/spent, calls*envs/(time.process_time()-cpu), (resident()-before)/envs]))
"""


def envpool(python: str, name: str, envs: int, threads: int, seconds: float) -> tuple[Rate, float]:
    """Rate and bytes per environment of one of EnvPool's tasks, measured in its own process."""
    command = [python, "-c", PEER, name, str(envs), str(threads), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(
            f"EnvPool failed under {python}:\n{done.stderr[-2000:]}\nInstall it there: {python} -m pip install envpool"
        )
    wall, cpu, size = json.loads(done.stdout.splitlines()[-1])
    return Rate(wall, cpu), size


def resident() -> int:
    """Bytes of memory in use by this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(make: Callable[[int], Candidate], envs: int) -> float:
    """Bytes per environment, library and model aside."""
    few = make(8)
    few.step()
    before = resident()
    many = make(envs)
    many.step()
    return (resident() - before) / envs


def table(rates: dict[str, list[Rate]], against: str) -> None:
    median = {name: [statistics.median(r[i] for r in rounds) for i in (0, 1)] for name, rounds in rates.items()}
    wall, cpu = median[against]
    print(f"{'env-steps per second of':34}{'wall':>9}{'CPU':>9}    ours / it: {'wall':>6}{'CPU':>6}")
    for name, (w, c) in median.items():
        print(f"{name:34}{w:9.0f}{c:9.0f}               {wall / w:6.2f}{cpu / c:6.2f}")


def physics(envs: int, threads: int, rounds: int, seconds: float) -> None:
    candidates = {
        "ours: physics 'mujoco'": backend(envs, threads),
        "ours, 1 environment": backend(1, 1),
        "mj_step in a Python loop": plain_loop(min(envs, 16)),
        "mujoco.rollout, open loop": rollout(envs, threads),
        "gymnasium AsyncVectorEnv": gymnasium_async(min(envs, 16)),
    }
    rates: dict[str, list[Rate]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            rates[name].append(measure(candidate, seconds))
    print(f"\nPhysics of Go1, {envs} environments, {threads} thread(s), {DECIMATION} physics steps each")
    table(rates, "ours: physics 'mujoco'")


def tasks(python: str | None, chosen: list[str], envs: int, threads: int, rounds: int, seconds: float) -> None:
    for name in chosen:
        peer, changes = PEERS[name]
        if name not in names("task"):
            print(f"\n{name}: no such task yet")
            continue
        ours, rates = task(name, envs, threads, changes), {f"ours: {name}": [], f"envpool: {peer}": []}
        others = {"gymnasium AsyncVectorEnv of it": task_async(name, 16)} if name == "go1-velocity-flat" else {}
        rates |= {other: [] for other in others}
        size = memory(lambda n, name=name, changes=changes: task(name, n, threads, changes), 512)
        for _ in range(rounds):
            for other, candidate in {f"ours: {name}": ours, **others}.items():
                rates[other].append(measure(candidate, seconds))
            if python:
                rate, peer_size = envpool(python, peer, envs, threads, seconds)
                rates[f"envpool: {peer}"].append(rate)
        print(
            f"\nEnvironments, {envs} of them, {threads} thread(s), random actions",
            *(f"{k}={v}" for k, v in changes.items()),
        )
        table({k: v for k, v in rates.items() if v}, f"ours: {name}")
        print(
            f"memory per environment: ours {size / 1e3:.0f} kB"
            + (f", EnvPool {peer_size / 1e3:.0f} kB" if python else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--envpool-python", help="an interpreter that can import envpool")
    parser.add_argument("--only", choices=("physics", "tasks"))
    parser.add_argument("--tasks", nargs="+", choices=PEERS, default=list(PEERS), dest="chosen")
    args = parser.parse_args()
    if not args.envpool_python:
        print("EnvPool is left out: give --envpool-python PATH (python -m venv e && e/bin/pip install envpool)")
    for threads in args.threads:
        if args.only != "tasks":
            physics(args.envs, threads, args.rounds, args.seconds)
        if args.only != "physics":
            tasks(args.envpool_python, args.chosen, args.envs, threads, args.rounds, args.seconds)
    if args.only != "tasks":
        size = memory(lambda n: backend(n, 1), 2048)
        print(f"\nmemory per simulation of Go1: {size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
