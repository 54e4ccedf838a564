"""The critics of a finished run as a judge of actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rl.config import overlay
from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.policies.run_folder import RunFolder
from robot_rl.protocols import Array


def read_critic(folder: str, env: Any) -> Callable[[Mapping[str, Array], Array], Array]:
    """(what is seen, see `Human.act`; actions (N, A)) → value (N,), the mean of the run's critics.

    Raises:
        CheckpointError: no run there, or nothing in it can be read.
        ConfigError: it has no critics of actions, or is of a task of other sizes.
    """
    run = RunFolder(Path(folder))
    info = run.read_info()
    spec = load_algorithm(info["algorithm"])
    config = overlay(spec.config_class(), {**info["config"], "num_envs": env.num_envs})
    learner = spec.create(env, config, info["seed"])
    if not isinstance(learner, OffPolicyLearner):
        raise ConfigError(f"human.critic = '{folder}' is a run of '{spec.name}', which learns no value of actions")
    state = run.load_newest(lambda message: None)
    if state is None:
        raise ConfigError(f"human.critic = '{folder}' has no checkpoint yet")
    networks, normalizers = state["algorithm"]["networks"], state["algorithm"]["normalizers"]
    group = learner.config.critic_group
    normalizer = learner.normalizers[group]
    try:
        learner.q.load_state_dict(networks["q"])
        normalizer.load_state_dict(normalizers[group])
    except RuntimeError as error:
        raise ConfigError(f"human.critic = '{folder}' does not fit this task: {error}") from error

    @torch.no_grad()
    def value(seen: Mapping[str, Array], action: Array) -> Array:
        obs = torch.from_numpy(np.asarray(seen[f"obs/{group}"], np.float32))
        obs = normalizer(obs) if config.normalise_obs else obs
        x = torch.cat((obs, torch.from_numpy(np.asarray(action, np.float32))), 1)
        return learner.head.value(learner.q(x)).mean(0).numpy()

    return value
