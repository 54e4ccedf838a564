"""RLPD: SAC from few environments with demonstrations in every batch.

Ball et al., Efficient Online Reinforcement Learning with Offline Data (2023): half of each batch demonstrations, ten
critics with LayerNorm, targets by the minimum of two drawn anew, the actor climbs their average, many updates per step.
The loop is `off_policy`, the actor FastSAC's.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.policies.algorithm import AlgorithmSpec
from robot_rl.policies.algorithms.fast_sac import FastSac, FastSacConfig


@dataclass(frozen=True)
class RlpdConfig(FastSacConfig):
    """FastSAC's settings with other defaults, for rewards of 0 and 1 at the end; see OffPolicyConfig.

    The paper makes 20 updates per step with 256 units; these defaults are for a CPU, where updates take the time. As in
    the paper for sparse rewards, values do not count entropy: a value above 1 would say more than success can.
    """

    num_envs: int = 4
    total_steps: int = 60_000
    steps_per_iteration: int = 50
    replay_steps: int = 50_000
    warmup_steps: int = 2_000
    batch_size: int = 256
    updates_per_step: int = 4
    n_step: int = 3
    polyak: float = 0.005
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 3e-4
    temperature: float = 0.1
    entropy_in_target: bool = False
    weight_decay: float = 0.01
    policy_delay: int = 4
    heads: int = 10
    target: str = "min"
    target_subset: int = 2
    value_head: str = "scalar"
    reward_scale: float = 1.0
    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    actor_layer_norm: bool = True
    desynchronise: bool = False
    precision: str = "float32"


ALGORITHM = AlgorithmSpec(
    name="rlpd",
    config_class=RlpdConfig,
    create=FastSac,
    shown=("episode/return", "episode/length", "episode/terminated", "loss/critic", "policy/temperature"),
    summary="RLPD: SAC with demonstrations in every batch, for sparse rewards; --set demos=FILE",
)
