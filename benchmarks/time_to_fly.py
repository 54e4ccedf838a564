"""CPU-seconds until a policy flies: ours, Stable-Baselines3's PPO and TD3, RLtools' TD3, on one task and computer.

    python benchmarks/time_to_fly.py                      # ours (default and --fast)
    python benchmarks/time_to_fly.py --sb3 300000         # Stable-Baselines3 with that many steps
    python benchmarks/time_to_fly.py --rltools 100000     # rltools from PyPI on our Gymnasium task
    python benchmarks/time_to_fly.py --l2f-binary PATH    # a build of Learning to Fly's training

Each trained policy that can be exported is flown by the same evaluator: 500 nominal episodes. CPU time is that of the
process (and its children for a binary) without imports; kernels compiled once and cached are printed apart.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RL_TOOLS_DISABLE_MKL", "1")  # rltools refuses MKL in a process that has torch
EPISODE_STEPS, RLTOOLS_EPISODES = 500, 50


def report(name: str, cpu_seconds: float, steps: int, policy: Path | None, remark: str = "") -> None:
    """One line of the table."""
    text = f"{name:28} {cpu_seconds:8.2f} CPU-s  {steps:>11,} steps  {remark}"
    if policy is not None:
        from robot_rl.evaluation.evaluate import evaluate

        summary = evaluate(str(policy), "nominal", 500, seed=1).summary
        assert summary is not None
        text += (
            f"  survival {summary.survival.value:.3f} [{summary.survival.lower:.3f}, {summary.survival.upper:.3f}]"
            f"  steady {100 * summary.steady_error.value:.2f} cm"
        )
    print(text, flush=True)


def trained(name: str, algorithm: str, changes: dict[str, Any], seed: int, folder: Path) -> None:
    """Train by our command's own function, export, report; a policy that is refused is reported with the reason."""
    from robot_rl.commands.export_command import export
    from robot_rl.commands.train_command import train
    from robot_rl.errors import ExportError

    result = train("quadrotor-hover", algorithm, folder / name.replace(" ", "-"), changes, seed=seed, quiet=True)
    policy, remark = None, ""
    try:
        policy = export(result.folder, folder / f"{name.replace(' ', '-')}.onnx")
    except ExportError as error:
        remark = f"not exported: {error}"
    report(name, result.cpu_seconds, result.env_steps, policy, remark)


def compile_time() -> float:
    """CPU-seconds, compiler included, to build the fused kernel without the cache."""
    with tempfile.TemporaryDirectory() as empty:
        code = (
            "from robot_rl.sim.quadrotor.fused import FusedRollout;"
            "from robot_rl.sim.quadrotor.flight_observer import nominal_of;"
            "from robot_rl.sim.robots.crazyflie import ROBOT;"
            "import time; t = time.process_time(); FusedRollout(nominal_of(ROBOT.parameters()), (64, 64));"
            "import resource as r; c = r.getrusage(r.RUSAGE_CHILDREN);"
            "print(time.process_time() - t + c.ru_utime + c.ru_stime)"
        )
        environment = dict(os.environ) | {"ROBOT_RL_CACHE": empty}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        return float(out.stdout)


def rltools_td3(steps: int, seed: int) -> None:
    """rltools' own TD3 loop on our Gymnasium task; it compiles itself first (about a minute), which is not counted.

    Its policy cannot become one of our files, so it is flown in the task itself: whole episodes without termination.
    """
    try:
        import gymnasium
        import rltools
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; it comes with: pip install 'robot-rl[sim,peers]'") from error

    def task() -> Any:
        # rltools reads the limit of an episode from here and does not look at `truncated`.
        name = "robot_rl.sim.gym_env:robot_rl/QuadrotorHover-v0"
        env = gymnasium.make(name, max_episode_steps=EPISODE_STEPS, disable_env_checker=True)
        env.reset(seed=seed)  # rltools itself resets without a seed
        return env

    try:
        learner = rltools.TD3(task, STEP_LIMIT=steps, enable_evaluation=False, interface_name="robot_rl")
    except Exception as error:  # the package raises plain Exception and has printed the compiler's output
        raise SystemExit(f"rltools could not be built (it needs g++ and Python's headers): {error}") from error
    state = learner.State(seed)
    begin = time.process_time()
    while not state.step():
        pass
    cpu = time.process_time() - begin
    env = task()
    whole = sum(_lasts(state, env, seed + k) for k in range(RLTOOLS_EPISODES))
    report("rltools TD3 (PyPI)", cpu, steps, None, f"{whole} of {RLTOOLS_EPISODES} episodes without termination")


def _lasts(state: Any, env: Any, seed: int) -> bool:
    """One episode of the trained policy: did it reach its end?"""
    obs, _ = env.reset(seed=seed)
    while True:
        obs, _, terminated, truncated, _ = env.step(state.action(obs))
        if terminated or truncated:
            return not terminated


def l2f_binary(path: Path) -> None:
    """CPU time of a compiled training program, run with its own defaults."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(path.resolve())], check=True, cwd=path.resolve().parent, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report("Learning to Fly (C++)", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 300_001, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sb3", type=int, metavar="STEPS")
    parser.add_argument("--rltools", type=int, metavar="STEPS")
    parser.add_argument("--l2f-binary", type=Path)
    parser.add_argument("--td3-l2f", action="store_true", help="our implementation of their recipe as well (minutes)")
    arguments = parser.parse_args()
    from robot_rl.commands.train_command import fast_config
    from robot_rl.config import from_yaml

    print(f"compiling the fused kernel once: {compile_time():.1f} CPU-s")
    with tempfile.TemporaryDirectory() as folder:
        trained("ours --fast", "apg", from_yaml(fast_config()), arguments.seed, Path(folder))
        trained("ours", "apg", {}, arguments.seed, Path(folder))
        if arguments.td3_l2f:
            trained("ours td3-l2f", "td3-l2f", {}, arguments.seed, Path(folder))
        if arguments.sb3:
            for name in ("PPO", "TD3"):
                changes = {"algorithm": {"total_steps": arguments.sb3}}
                trained(f"sb3 {name}", f"sb3:{name}", changes, arguments.seed, Path(folder))
    if arguments.rltools:
        rltools_td3(arguments.rltools, arguments.seed)
    if arguments.l2f_binary:
        l2f_binary(arguments.l2f_binary)


if __name__ == "__main__":
    main()
