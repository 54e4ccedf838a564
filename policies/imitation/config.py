"""Settings of behaviour cloning, with the ranges that are allowed."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.errors import ConfigError
from robot_rl.policies.demonstrations import LABELS, WHICH
from robot_rl.policies.guards import require_range
from robot_rl.policies.imitation.head import HEADS
from robot_rl.policies.networks import activation

LOSSES = ("l1", "l2")


@dataclass(frozen=True)
class BcConfig:
    """Hyper-parameters.

    Attributes:
        demos: file of episodes. which: all or successful ones. episodes: at most so many; 0: all. label: see
            `load_demonstrations`.
        group: the observation group that is cloned from.
        head: mlp, act, flow or diffusion, see `policies/imitation/`.
        horizon: H, actions planned at once. execute: how many are played before the next plan; 0: half, at least one.
        ensemble: m ≥ 0: plan at every step and average (see Playback); below 0: do not.
        updates, updates_per_iteration: minibatches in all, and in one logged iteration.
        hidden, activation, layer_norm: of mlp. loss: of mlp and act, l1 or l2 over the planned actions within the
            episode.
        token, attention_heads, layers: of act: size of a token, heads, layers of encoder and of decoder. latent: size
            of its style; kl_weight: of the style's divergence, 0: without a style.
        width, blocks: of the network of flow and diffusion. sampling_steps: from noise to a plan. diffusion_levels: T.
        noise_rows: of flow and diffusion: rows of the table that plans start from; 1: all from the same noise, more:
            one after the other, counted by a memory of the file.
        images: cameras whose pictures are seen besides the group. keypoints: places that are looked for in each.
            shift: pixels by which learnt pictures are moved at random.
        learning_rate: falls to 0 along half a cosine. weight_decay: of AdamW.
        obs_noise: standard deviation of noise on normalised observations.
        validation: share of the episodes that are kept apart, at least one where there are several; 0: none.
        num_envs: environments that are made to know the sizes.
    """

    demos: str = ""
    which: str = "successful"
    episodes: int = 0
    label: str = "action"
    group: str = "policy"
    head: str = "mlp"
    horizon: int = 1
    execute: int = 0
    ensemble: float = -1.0
    updates: int = 3000
    updates_per_iteration: int = 100
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = True
    loss: str = "l1"
    token: int = 64
    attention_heads: int = 4
    layers: int = 2
    latent: int = 8
    kl_weight: float = 10.0
    width: int = 256
    blocks: int = 3
    sampling_steps: int = 10
    diffusion_levels: int = 100
    noise_rows: int = 1
    images: tuple[str, ...] = ()
    keypoints: int = 32
    shift: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    obs_noise: float = 0.0
    validation: float = 0.1
    num_envs: int = 1

    def __post_init__(self) -> None:
        for name in ("horizon", "updates", "updates_per_iteration", "batch_size", "num_envs"):
            require_range(name, getattr(self, name), 1, 10**9)
        for name in ("token", "attention_heads", "layers", "latent", "width", "blocks", "sampling_steps", "keypoints"):
            require_range(name, getattr(self, name), 1, 4096)
        require_range("diffusion_levels", self.diffusion_levels, 2, 10_000)
        require_range("noise_rows", self.noise_rows, 1, 4096)
        require_range("episodes", self.episodes, 0, 10**9)
        require_range("execute", self.execute, 0, self.horizon)
        require_range("ensemble", self.ensemble, -1.0, 100.0)
        require_range("kl_weight", self.kl_weight, 0.0, 1e6)
        require_range("shift", self.shift, 0, 64)
        for name in ("learning_rate", "weight_decay", "obs_noise"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("validation", self.validation, 0.0, 0.9)
        for name, allowed in (("which", WHICH), ("label", LABELS), ("loss", LOSSES), ("head", HEADS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = '{getattr(self, name)}'; allowed: {', '.join(allowed)}")
        if self.token % self.attention_heads:
            raise ConfigError(f"token = {self.token} is not a multiple of attention_heads = {self.attention_heads}")
        if self.head == "diffusion" and self.sampling_steps > self.diffusion_levels:
            raise ConfigError(
                f"sampling_steps = {self.sampling_steps}; with diffusion_levels = {self.diffusion_levels} "
                "there are no more than that to visit"
            )
        if len(set(self.images)) < len(self.images):
            raise ConfigError(f"images = {self.images}: a camera is named twice")
        activation(self.activation)
