"""Hyper-parameters that all off-policy learners share, and the sizes that depend on where the learner runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from robot_rl.errors import ConfigError
from robot_rl.policies.guards import require_range
from robot_rl.policies.networks import activation
from robot_rl.policies.off_policy.architecture import NETWORKS
from robot_rl.policies.off_policy.value_heads import VALUE_HEADS

PRECISIONS = ("auto", "float32", "bfloat16")
TARGETS = ("min", "mean")
ACTOR_VALUES = ("first", "min", "mean")
DEMO_REWARDS = ("recorded", "success")


@dataclass(frozen=True)
class OffPolicyConfig:
    """Settings of both learners; 0 or () means the value for the device in `DEVICE_SIZES`.

    Attributes:
        num_envs: environments stepped together.
        total_steps: transitions, summed over the environments.
        steps_per_iteration: steps of all environments per logged iteration.
        replay_steps: steps kept per environment.
        checkpoint_replay_mb: a replay larger than this (MB) is left out of checkpoints; a resumed run then first
            collects `warmup_steps` with its policy and is no longer equal bit for bit.
        warmup_steps: transitions before the first update (at least one batch).
        batch_size, updates_per_step: samples per update; updates after each step of all environments.
        n_step: rewards summed before bootstrapping; windows end where episodes end.
        polyak: rate of the target critics per update.
        policy_delay: critic updates per actor update.
        learning_rate_end: what both learning rates are multiplied by at the end, reached along half a cosine; 1 leaves
            them. At a constant rate the last policy is as good or bad as the moment at which training happens to end.
        weight_decay: of AdamW, so it is multiplied by the learning rate.
        max_grad_norm: gradient norms above are scaled down; 0 leaves them.
        heads: critics in the ensemble.
        target, target_subset: minimum or average over this many heads, drawn anew in each update (0: all heads).
        actor_value: what the actor climbs: the first head, the minimum or the average of all.
        value_head: c51 (a distribution, projected), hl-gauss (an expectation as a smeared histogram) or scalar.
            gaussian: mean and deviation, with the refinements of DSAC-T.
        atoms, v_min, v_max: support of the distribution, in units of scaled return.
        reward_scale: rewards are multiplied by it; 0: such that the largest return seen fits the support.
        critic_layer_norm, actor_layer_norm: LayerNorm before each hidden activation.
        critic_network, actor_network: mlp, simba (residual blocks, normalised before) or bro (blocks with two
            LayerNorms); of the latter two each entry of `…_hidden` is a block, all of one width.
        init_scale: factor on the actor's last layer, so that training starts near zero action.
        critic_group: what the critics see besides the action: `critic`, or `policy`, as where nothing else is known.
        normalise_obs: running normalisers for both observation groups.
        desynchronise: random ages for the first episodes (where the environment has `episode_step`).
        demos: file of recorded episodes (`robot-rl demos`) to learn from besides; "": none.
        demo_share: of each batch, drawn from them (RLPD: half).
        demo_episodes: at most so many, the first successful ones; 0: all.
        demo_reward: recorded, or success: 1 at the end of an episode that succeeded, which ends it, else 0.
        resets: after these numbers of updates all networks, optimisers and the temperature begin anew, and learn from
            what the replay holds (Nikishin et al., The Primacy Bias, 2022; BRO).
        reset_every: the same after every so many; 0: never.
        dormant_ratio: log the shares of hidden units that hardly do anything, on one batch per iteration.
        prioritised: draw transitions by their error: priority max(error, floor)^exponent.
        priority_exponent, priority_floor: of that; the floor is in units of scaled return.
        priority_correction: exponent of the importance weights that make up for it; 0: none.
        precision: of the networks in updates; auto: bfloat16 where the device computes in it, else float32.
        compile: compile the losses with torch.compile.
    """

    num_envs: int = 256
    total_steps: int = 1_500_000
    steps_per_iteration: int = 50
    replay_steps: int = 0
    checkpoint_replay_mb: int = 2000
    warmup_steps: int = 0
    batch_size: int = 0
    updates_per_step: int = 0
    n_step: int = 0
    gamma: float = 0.99
    polyak: float = 0.0
    actor_learning_rate: float = 0.0
    critic_learning_rate: float = 0.0
    learning_rate_end: float = 1.0
    weight_decay: float = 0.1
    max_grad_norm: float = 0.0
    policy_delay: int = 2
    heads: int = 2
    target: str = "min"
    target_subset: int = 0
    actor_value: str = "min"
    value_head: str = "c51"
    atoms: int = 101
    v_min: float = -10.0
    v_max: float = 10.0
    reward_scale: float = 0.0
    actor_hidden: tuple[int, ...] = ()
    critic_hidden: tuple[int, ...] = ()
    activation: str = "relu"
    critic_layer_norm: bool = False
    actor_layer_norm: bool = False
    critic_network: str = "mlp"
    actor_network: str = "mlp"
    init_scale: float = 0.01
    critic_group: str = "critic"
    normalise_obs: bool = True
    desynchronise: bool = True
    demos: str = ""
    demo_share: float = 0.5
    demo_episodes: int = 0
    demo_reward: str = "recorded"
    resets: tuple[int, ...] = ()
    reset_every: int = 0
    dormant_ratio: bool = False
    prioritised: bool = False
    priority_exponent: float = 0.6
    priority_floor: float = 0.01
    priority_correction: float = 0.4
    precision: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_steps", "steps_per_iteration", "policy_delay", "heads"):
            require_range(name, getattr(self, name), 1, 10**9)
        for name in (
            "replay_steps",
            "checkpoint_replay_mb",
            "warmup_steps",
            "batch_size",
            "updates_per_step",
            "n_step",
            "demo_episodes",
            "reset_every",
        ):
            require_range(name, getattr(self, name), 0, 10**9)
        for name in (
            "gamma",
            "polyak",
            "actor_learning_rate",
            "critic_learning_rate",
            "weight_decay",
            "learning_rate_end",
            "demo_share",
            "priority_exponent",
            "priority_correction",
        ):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("target_subset", self.target_subset, 0, self.heads)
        require_range("atoms", self.atoms, 2, 10_000)
        require_range("v_max", self.v_max, self.v_min + 1e-6, 1e6)
        for name in ("max_grad_norm", "reward_scale", "init_scale"):
            require_range(name, getattr(self, name), 0.0, 1e6)
        require_range("priority_floor", self.priority_floor, 1e-8, 1e6)
        for after in self.resets:
            require_range("resets", after, 1, 10**9)
        for name in ("critic_network", "actor_network"):
            _require_choice(name, getattr(self, name), NETWORKS)
        _require_choice("target", self.target, TARGETS)
        _require_choice("actor_value", self.actor_value, ACTOR_VALUES)
        _require_choice("value_head", self.value_head, tuple(VALUE_HEADS))
        _require_choice("critic_group", self.critic_group, ("critic", "policy"))
        _require_choice("demo_reward", self.demo_reward, DEMO_REWARDS)
        _require_choice("precision", self.precision, PRECISIONS)
        activation(self.activation)

    def resets_after(self, updates: int) -> bool:
        """Whether everything learnt is forgotten after that many updates."""
        return updates in self.resets or (self.reset_every > 0 and updates % self.reset_every == 0)


DEVICE_SIZES: dict[str, dict[str, float | tuple[int, ...]]] = {
    "cpu": {
        "replay_steps": 10_000,
        "batch_size": 512,
        "updates_per_step": 1,
        "n_step": 5,
        "polyak": 0.05,
        "actor_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "actor_hidden": (64, 64),
        "critic_hidden": (128, 128),
    },
    "cuda": {
        "replay_steps": 10_000,
        "batch_size": 32_768,
        "updates_per_step": 2,
        "n_step": 1,
        "polyak": 0.1,
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "actor_hidden": (512, 256, 128),
        "critic_hidden": (1024, 512, 256),
    },
}
"""What 0 and () stand for. On the GPU the values of FastTD3; on the CPU what learns fastest on one core."""

ConfigT = TypeVar("ConfigT", bound=OffPolicyConfig)


def for_device(config: ConfigT, device: torch.device) -> ConfigT:
    """The config with every "by device" value filled in; the replay is no longer than the training."""
    sizes = DEVICE_SIZES["cpu" if device.type == "cpu" else "cuda"]
    filled: dict[str, Any] = {name: getattr(config, name) or size for name, size in sizes.items()}
    longest = -(-config.total_steps // config.num_envs)
    filled["replay_steps"] = max(min(filled["replay_steps"], longest), filled["n_step"] + 1)
    warmup = max(config.warmup_steps, filled["batch_size"], 10 * config.num_envs)
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if computes_in_bfloat16(device) else "float32"
    return dataclasses.replace(config, **filled, warmup_steps=warmup, precision=precision)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster there: GPUs with tensor cores, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot tell
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} = '{value}'; allowed: {', '.join(allowed)}; give one with --set {name}=…")
