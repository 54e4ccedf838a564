"""Any Stable-Baselines3 algorithm with continuous actions, as `--algorithm sb3:PPO`, `sb3:SAC`, `sb3:TD3`, ….

Raffin et al.: Stable-Baselines3 (2021). Only multi-layer perceptron policies on the group `policy`: no images, no
dictionaries, no recurrence. Classes of `sb3_contrib` are found too, where that is installed.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError, ExportError, MissingDependency, UnknownName
from robot_rl.policies.algorithm import SB3_PREFIX, AlgorithmSpec
from robot_rl.policies.guards import require_finite, require_range
from robot_rl.policies.networks import DeterministicActor
from robot_rl.protocols import BatchedEnv

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Sb3Config:
    """What this project decides; everything else keeps SB3's defaults unless it stands in `arguments`.

    Attributes:
        num_envs: environments stepped together. Off-policy classes make one update per step of all environments
            unless `gradient_steps` says otherwise.
        total_steps: transitions, summed over the environments.
        steps_per_iteration: transitions between two log lines (off-policy; on-policy classes log every rollout).
        policy: SB3's policy name.
        arguments: keyword arguments for the class, e.g. --set 'arguments={learning_rate: 1e-3, n_steps: 512}'.
    """

    num_envs: int = 8
    total_steps: int = 200_000
    steps_per_iteration: int = 2000
    policy: str = "MlpPolicy"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_steps", "steps_per_iteration"):
            require_range(name, getattr(self, name), 1, 10**10)


def spec_for(class_name: str) -> AlgorithmSpec:
    """The spec of one SB3 class.

    Raises:
        MissingDependency: Stable-Baselines3 is not installed.
        UnknownName: there is no such class; the message lists those there are.
    """
    classes = _classes()
    if class_name not in classes:
        raise UnknownName("Stable-Baselines3 class", class_name, classes)
    return AlgorithmSpec(
        name=SB3_PREFIX + class_name,
        config_class=Sb3Config,
        create=partial(Sb3, classes[class_name]),
        summary=f"Stable-Baselines3 {class_name}",
    )


def _classes() -> dict[str, type]:
    try:
        base = importlib.import_module("stable_baselines3.common.base_class").BaseAlgorithm
    except ImportError as error:
        raise MissingDependency("stable-baselines3", "--algorithm sb3:…", "pip install 'robot-rl[train]'") from error
    found: dict[str, type] = {}
    for package in ("sb3_contrib", "stable_baselines3"):
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        found |= {n: c for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base)}
    return found


class Sb3:
    """One SB3 model behind the Algorithm protocol; `learn` is called in pieces so that the runner can log and save."""

    def __init__(self, cls: type, env: BatchedEnv, config: Sb3Config, seed: int) -> None:
        from stable_baselines3.common.logger import Logger

        from robot_rl.policies.sb3_vec_env import BatchedVecEnv

        if env.num_envs != config.num_envs:
            raise ConfigError(f"num_envs = {config.num_envs}, but the environment has {env.num_envs}")
        self.cls, self.config, self.env = cls, config, env
        self.vec_env = BatchedVecEnv(env, seed)
        arguments = copy.deepcopy(dict(config.arguments))  # SB3 writes into policy_kwargs
        if "buffer_size" in inspect.signature(cls).parameters:
            arguments.setdefault("buffer_size", min(config.total_steps, 1_000_000))
        try:
            self.model: Any = cls(config.policy, self.vec_env, seed=seed, device="cpu", **arguments)
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"{cls.__name__} refuses these settings: {error}") from error
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        # SB3's schedules ask how far training is; here each call of `learn` is only a piece of it.
        update = self.model._update_current_progress_remaining
        self.model._update_current_progress_remaining = lambda done, _: update(done, config.total_steps)

    @property
    def progress(self) -> tuple[int, int]:
        return min(self.model.num_timesteps, self.config.total_steps), self.config.total_steps

    @property
    def env_steps(self) -> int:
        return int(self.model.num_timesteps)

    def step(self, env: BatchedEnv) -> dict[str, float]:
        """One rollout with its updates (on-policy), or `steps_per_iteration` transitions with theirs (off-policy)."""
        if env is not self.env:
            raise ConfigError("an SB3 model is bound to the environment it was created with; create another model")
        left = self.config.total_steps - self.env_steps
        piece = 1 if hasattr(self.model, "rollout_buffer") else min(self.config.steps_per_iteration, left)
        self.model.learn(piece, log_interval=10**9, reset_num_timesteps=False)
        recorded = self.model.logger.name_to_value
        metrics = {k: float(v) for k, v in recorded.items() if isinstance(v, (int, float)) or hasattr(v, "item")}
        recorded.clear()
        for name, value in metrics.items():
            if "loss" in name:
                require_finite(name, torch.tensor(value))
        for name, parameter in self.model.policy.named_parameters():
            require_finite(f"parameter {name}", parameter)
        return self.vec_env.meter.metrics() | metrics

    def policy(self) -> nn.Module:
        """The deterministic actor as plain layers: obs (N, n) → action (N, m) in [−1, 1].

        Raises:
            ExportError: the policy is of a kind whose layers are not known here.
        """
        actor = DeterministicActor(nn.Sequential(*_actor_layers(self.model)))
        obs = torch.randn(64, self.env.obs_dims["policy"], generator=torch.Generator().manual_seed(0))
        expected = torch.as_tensor(self.model.predict(obs.numpy(), deterministic=True)[0])
        error = (actor(obs) - expected).abs().max().item()
        if not error <= 1e-5:
            raise ExportError(
                f"the layers taken from {self.cls.__name__} do not give its actions (difference {error:.2g})"
            )
        return actor

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimisers, counters, last observation, replay (until training is complete), random state."""
        model = self.model
        _, variables = model._get_torch_save_params()
        state: dict[str, Any] = {
            "parameters": model.get_parameters(),
            "variables": {name: _attribute(model, name).detach().clone() for name in variables},
            "counters": {name: int(getattr(model, name)) for name in COUNTERS if hasattr(model, name)},
            "action_space": json.dumps(model.action_space.np_random.bit_generator.state),
            "vec_env_started": self.vec_env.started,
            "meter": self.vec_env.meter.state_dict(),
            "last": None,
            "replay": None,
        }
        if model._last_obs is not None:
            state["last"] = [torch.tensor(model._last_obs), torch.tensor(model._last_episode_starts)]
        replay = getattr(model, "replay_buffer", None)
        if replay is not None and self.progress[0] < self.progress[1]:
            arrays = {n: torch.tensor(getattr(replay, n)[: replay.size()]) for n in REPLAY_ARRAYS if hasattr(replay, n)}
            state["replay"] = {"pos": replay.pos, "full": replay.full, "arrays": arrays}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        model = self.model
        model.set_parameters(dict(state["parameters"]), exact_match=True, device="cpu")
        for name, value in state["variables"].items():
            _attribute(model, name).data.copy_(value)
        for name, value in state["counters"].items():
            setattr(model, name, value)
        model.action_space.np_random.bit_generator.state = json.loads(state["action_space"])
        self.vec_env.started = state["vec_env_started"]
        self.vec_env.meter.load_state_dict(state["meter"])
        if state["last"] is not None:
            model._last_obs, model._last_episode_starts = (part.numpy().copy() for part in state["last"])
        if state["replay"] is not None:
            replay = model.replay_buffer
            replay.pos, replay.full = state["replay"]["pos"], state["replay"]["full"]
            for name, values in state["replay"]["arrays"].items():
                getattr(replay, name)[: len(values)] = values.numpy()


def _attribute(model: Any, path: str) -> Tensor:
    for part in path.split("."):
        model = getattr(model, part)
    return model  # type: ignore[no-any-return]


def _actor_layers(model: Any) -> list[nn.Module]:
    """The layers from observation to deterministic action; tanh where SB3 squashes outside them."""
    policy = model.policy
    actor = getattr(policy, "actor", None)
    if actor is not None and hasattr(actor, "latent_pi"):  # SAC and its kin
        return [actor.features_extractor, actor.latent_pi, actor.mu, nn.Tanh()]
    if actor is not None and hasattr(actor, "mu"):  # TD3, DDPG: tanh is inside
        return [actor.features_extractor, actor.mu]
    if hasattr(policy, "mlp_extractor") and hasattr(policy, "action_net"):  # PPO, A2C, TRPO
        squash = [nn.Tanh()] if policy.squash_output else []
        return [policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net, *squash]
    raise ExportError(
        f"no rule for the actor of {type(policy).__name__}; use a class with a plain MlpPolicy, such as PPO or SAC"
    )


def _create_default(env: BatchedEnv, config: Sb3Config, seed: int) -> Sb3:
    return Sb3(_classes()["PPO"], env, config, seed)


ALGORITHM = AlgorithmSpec(
    name="sb3",
    config_class=Sb3Config,
    create=_create_default,
    summary="any Stable-Baselines3 class: sb3:PPO (also plain `sb3`), sb3:SAC, sb3:TD3, …",
)
