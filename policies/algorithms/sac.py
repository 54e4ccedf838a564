"""SAC on a few environments and a CPU: the settings with which the shared core is fastest to a good walk.

Haarnoja et al., Soft Actor-Critic Algorithms and Applications (2018); Lee et al., SimBa (2024), for normalised
observations and LayerNorm in small networks. The loop is `off_policy`, the actor FastSAC's.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.fast_sac import FastSac, FastSacConfig


@dataclass(frozen=True)
class SacConfig(FastSacConfig):
    """FastSAC's settings with other defaults; see OffPolicyConfig.

    One update for two transitions, where SAC's authors make one for each: environments are cheap and updates are not.
    Rewards of about 1 to 10 per step, as Gymnasium's walkers give them, are divided by 10. The temperature begins low:
    from 1 it would take most of a short training to come down.
    """

    num_envs: int = 8
    total_steps: int = 300_000
    steps_per_iteration: int = 125
    replay_steps: int = 125_000
    warmup_steps: int = 5_000
    batch_size: int = 256
    updates_per_step: int = 4
    n_step: int = 1
    polyak: float = 0.01
    actor_learning_rate: float = 5e-4
    critic_learning_rate: float = 1e-3
    temperature_learning_rate: float = 1e-3
    temperature: float = 0.05
    entropy_per_dim: float = -1.0
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    weight_decay: float = 0.01
    policy_delay: int = 2
    target: str = "min"
    actor_value: str = "min"
    value_head: str = "scalar"
    reward_scale: float = 0.1
    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (256, 256)
    init_scale: float = 0.1
    desynchronise: bool = False
    precision: str = "auto"


ALGORITHM = AlgorithmSpec(
    name="sac",
    config_class=SacConfig,
    create=FastSac,
    shown=("episode/return", "episode/length", "episode/terminated", "loss/critic", "policy/temperature"),
    summary="SAC on a few environments: few samples and little computing, for a CPU",
)
