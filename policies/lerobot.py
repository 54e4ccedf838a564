"""Policies of LeRobot as base policies: `base:lerobot:PATH`, where the package is installed.

PATH is a folder that `lerobot-train` has written (`pretrained_model`), or a name on the Hub. What LeRobot calls
`observation.state` is the task's own observation (group `policy`), `observation.images.<cam>` the picture
`image_<cam>`, and `action` the task's action: as in data sets made by `robot-rl data export --format lerobot --rename
obs/policy=observation.state`. Normalisation is that of LeRobot's own pre- and post-processors.

Written after the interface of LeRobot 0.4 to 0.6 and tested with a small package of the same interface; it has not been
run with LeRobot itself, which needs Python 3.12.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.observer import ActionMap, Observer, initial_memory
from robot_rl.policies.chunk_adapter import ChunkAdapter
from robot_rl.protocols import Array
from robot_rl.signals import Signal

STATE, IMAGES, TASK = "observation.state", "observation.images.", "task"


class LeRobotPlans:
    """A pretrained policy with its processors: observations in, actions in the units of its data out.

    Args:
        path: folder or Hub name. device: where the network runs.

    Attributes:
        state_size: n of `observation.state`; 0 without. pictures: what it sees, as signals (H, W, 3).
        looks_back: it looks at several past observations, and remembers them itself.
        horizon: actions in a chunk. execute: how many its configuration says to play.

    Raises:
        MissingDependency: LeRobot is not installed. ConfigError: the policy wants inputs that have no place here.
    """

    def __init__(self, path: str, device: str = "cpu") -> None:
        configs, factory = _lerobot("configs.policies"), _lerobot("policies.factory")
        config = configs.PreTrainedConfig.from_pretrained(path)
        config.device = device
        self.state_size, self.pictures = _inputs(path, config.input_features)
        self.policy = factory.get_policy_class(config.type).from_pretrained(path, config=config)
        self.policy.to(device).eval()
        self.before, self.after = factory.make_pre_post_processors(
            config, pretrained_path=path,
            preprocessor_overrides={"device_processor": {"device": device}},
            postprocessor_overrides={"device_processor": {"device": "cpu"}},
        )  # fmt: skip
        self.looks_back = getattr(config, "n_obs_steps", 1) > 1
        self.execute = int(getattr(config, "n_action_steps", 1))
        self.horizon = int(getattr(config, "chunk_size", self.execute))

    def reset(self) -> None:
        """Forget everything."""
        self.policy.reset()

    @torch.no_grad()
    def propose(self, observed: Mapping[str, Array], instruction: str | None) -> Array:
        """(N, H, A) for `STATE` (N, n) and pictures `image_<cam>` (N, H, W, 3) from 0 to 255."""
        chunk: Tensor = self.policy.predict_action_chunk(self._batch(observed, instruction))
        # The post-processor takes one action per environment, not chunks.
        return torch.stack([self.after(chunk[:, k]) for k in range(chunk.shape[1])], 1).float().cpu().numpy()

    @torch.no_grad()
    def select(self, observed: Mapping[str, Array], instruction: str | None) -> Array:
        """(N, A): the next action by LeRobot's own queues."""
        return self.after(self.policy.select_action(self._batch(observed, instruction))).float().cpu().numpy()

    def _batch(self, observed: Mapping[str, Array], instruction: str | None) -> dict[str, Any]:
        count = len(next(iter(observed.values())))
        batch: dict[str, Any] = {TASK: [instruction or ""] * count}
        if self.state_size:
            batch[STATE] = torch.from_numpy(np.array(observed[STATE], np.float32))
        for signal in self.pictures:
            picture = torch.from_numpy(np.array(observed[signal.name], np.float32)) / 255.0
            batch[IMAGES + signal.name.removeprefix("image_")] = picture.permute(0, 3, 1, 2).contiguous()
        return self.before(batch)


class LeRobotBase:
    """A `BasePolicy` in an environment's signals and commands, for N environments.

    A policy that looks at one observation plans through `ChunkAdapter`, each environment by itself. One that looks back
    is asked by `select_action`, whose queues belong to all environments together: all must begin at once.

    Args:
        plans: the policy. observer, action_map: the environment's.

    Raises:
        ConfigError: the observation has another size than the policy was trained with.
    """

    def __init__(self, plans: LeRobotPlans, observer: Observer, action_map: ActionMap) -> None:
        if plans.state_size not in (0, observer.obs_dim):
            raise ConfigError(
                f"the LeRobot policy was trained with {STATE} of {plans.state_size} numbers, this task's observation "
                f"has {observer.obs_dim}; train it on an export of this task's demonstrations with the same options"
            )
        self.plans, self.observer, self.action_map = plans, observer, action_map
        self._adapter = ChunkAdapter(plans.propose, plans.horizon, min(plans.execute, plans.horizon))
        self.reset()

    def reset(self, num_envs: int = 1) -> None:
        """New episodes for that many environments."""
        self.num_envs = num_envs
        self.plans.reset()
        self._adapter.reset(num_envs)
        self._memory = initial_memory(self.observer.memory, num_envs)
        self._acted = np.zeros((num_envs, self.action_map.action_dim), np.float32)

    def forget(self, env_ids: Any) -> None:
        """New episodes for these environments, indices or a mask (N,).

        Raises:
            ConfigError: the policy looks back and not all environments begin anew.
        """
        rows = np.atleast_1d(np.asarray(env_ids))
        count = int(rows.sum()) if rows.dtype == bool else len(np.unique(rows))
        if self.plans.looks_back and 0 < count < self.num_envs:
            raise ConfigError("this LeRobot policy remembers observations of all environments together; reset them all")
        if self.plans.looks_back and count:
            self.plans.reset()
        self._adapter.forget(rows)
        fresh, which = initial_memory(self.observer.memory, self.num_envs), torch.from_numpy(rows)
        for name, value in self._memory.items():
            value[which] = fresh[name][which]

    def action(self, signals: Mapping[str, Array]) -> Array:
        """(N, A) in [−1, 1]: what `act` has just done, for whoever records it; asking does not move on."""
        del signals  # It has been asked.
        return self._acted

    @torch.no_grad()
    def act(self, signals: Mapping[str, Array], instruction: str | None = None) -> dict[str, Array]:
        """See `BasePolicy`."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in signals.items()}
        state, seen = self.observer(tensors, self._memory)
        observed = {STATE: state.numpy(), **{s.name: signals[s.name] for s in self.plans.pictures}}
        ask = self.plans.select if self.plans.looks_back else self._adapter.action
        action = torch.from_numpy(ask(observed, instruction)).clamp(-1.0, 1.0)
        if action.shape[1] != self.action_map.action_dim:
            raise ConfigError(
                f"the LeRobot policy gives actions of {action.shape[1]} numbers, this task takes "
                f"{self.action_map.action_dim}"
            )
        self._memory, self._acted = self.observer.record(seen, action), action.numpy()
        commands = self.action_map.commands_for(action, tensors, self._memory)
        return {name: value.numpy() for name, value in commands.items()}


def _lerobot(module: str) -> Any:
    try:
        return importlib.import_module(f"lerobot.{module}")
    except ImportError as error:
        if (error.name or "").split(".")[0] != "lerobot":
            what = f"'{error.name}', which LeRobot imports,"
            raise MissingDependency(what, "this LeRobot policy", "pip install 'lerobot[all]'") from error
        raise MissingDependency(
            "LeRobot", "base:lerobot:PATH", "pip install 'lerobot>=0.4' (from 0.5 on it needs Python 3.12)"
        ) from error


def _inputs(path: str, features: Mapping[str, Any]) -> tuple[int, tuple[Signal, ...]]:
    """Size of the state, and pictures; a feature's shape is (n,), of a picture (3, H, W)."""
    size, pictures = 0, []
    for key, feature in features.items():
        shape = tuple(feature.shape)
        if key == STATE and len(shape) == 1:
            size = shape[0]
        elif key.startswith(IMAGES) and len(shape) == 3 and shape[0] == 3:
            pictures.append(Signal(f"image_{key.removeprefix(IMAGES)}", (shape[1], shape[2], 3)))
        else:
            raise ConfigError(
                f"'{path}' wants '{key}' {shape}; what there is here: {STATE} (n,) and {IMAGES}<camera> (3, H, W)"
            )
    return size, tuple(pictures)
