"""The critics of a finished run as a judge of actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_rl.config import overlay
from robot_rl.errors import ConfigError
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.off_policy.learner import OffPolicyLearner
from robot_rl.policies.run_folder import RunFolder


def read_critic(folder: str, env: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """(critic's observation (N, m), action (N, A)) → value (N,), the mean of the run's critics.

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
    try:
        learner.q.load_state_dict(networks["q"])
        learner.normalizers["critic"].load_state_dict(normalizers["critic"])
    except RuntimeError as error:
        raise ConfigError(f"human.critic = '{folder}' does not fit this task: {error}") from error

    def value(obs: Tensor, action: Tensor) -> Tensor:
        with torch.no_grad():
            seen = learner.normalizers["critic"](obs) if config.normalise_obs else obs
            x = torch.cat((seen, action), 1)
            return learner.head.value(learner.q(x)).mean(0)

    return value
