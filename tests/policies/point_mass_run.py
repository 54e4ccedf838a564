"""Settings of small training runs on the dummy environment; run as a script it is the process that the tests kill.

    python point_mass_run.py ALGORITHM FOLDER HOLD

HOLD is the number of environment steps after which the process makes FOLDER.holding and waits for FOLDER.go.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from robot_rl.policies.algorithm import AlgorithmSpec, load_algorithm
from robot_rl.policies.runner import RunInfo, RunnerConfig, TrainResult, train

SMALL_TD3 = {
    "total_steps": 2000,
    "critic_warmup": 300,
    "actor_warmup": 400,
    "critic_interval": 8,
    "actor_interval": 16,
    "batch_size": 32,
    "hidden": (16, 16),
    "steps_per_iteration": 100,
    "replay_capacity": 1000,
    "curriculum_steps": (1000,),
    "curriculum": (("position", 1.5, 5.0),),
}
SMALL_PPO = {
    "num_envs": 16,
    "steps_per_env": 8,
    "iterations": 20,
    "epochs": 2,
    "minibatches": 2,
    "actor_hidden": (16,),
    "critic_hidden": (16,),
}
SMALL_SB3 = {"num_envs": 4, "total_steps": 20 * 64, "arguments": {"n_steps": 16, "batch_size": 32, "n_epochs": 2}}
SETTINGS = {"td3-l2f": SMALL_TD3, "ppo": SMALL_PPO, "sb3:PPO": SMALL_SB3}
QUIET = RunnerConfig(checkpoint_every=5, tensorboard=False)


def small(algorithm: str, **changes: object) -> tuple[AlgorithmSpec, object]:
    """Spec and small config."""
    spec = load_algorithm(algorithm)
    return spec, spec.config_class(**(SETTINGS[algorithm] | changes))


def run(algorithm: str, folder: Path | str, *, seed: int = 1, env_class: type | None = None, **kwargs) -> TrainResult:
    """Train on the dummy environment without any output."""
    from fakes import PointMass

    spec, config = small(algorithm, **kwargs.pop("changes", {}))
    env = (env_class or PointMass)(config.num_envs)  # type: ignore[attr-defined]
    kwargs = {"info": RunInfo(task="point-mass"), "runner": QUIET} | kwargs
    return train(spec, env, folder, config, seed=seed, **kwargs)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from fakes import PointMass
    from rich.console import Console

    name, folder, hold = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

    class HoldingPointMass(PointMass):
        """Waits before step `hold`."""

        steps = 0

        def step(self, action):
            self.steps += 1
            if self.steps == hold:
                folder.with_suffix(".holding").touch()
                while not folder.with_suffix(".go").exists():
                    time.sleep(0.01)
            return super().step(action)

    run(name, folder, env_class=HoldingPointMass, console=Console())
