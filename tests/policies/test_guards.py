"""The NaN guard names the tensor that was bad first and leaves a dump behind."""

from __future__ import annotations

import json

import pytest
import torch
from fakes import PointMass
from point_mass_run import run

from robot_rl.errors import ConfigError, NumericalError
from robot_rl.policies.algorithms import ppo, td3_l2f
from robot_rl.policies.guards import NonFinite, require_finite, require_finite_rollout, require_range


def test_the_index_and_the_value_are_named():
    tensor = torch.zeros(2, 3)
    tensor[1, 2] = float("-inf")
    with pytest.raises(NonFinite, match=r"reward is not finite: 1 of 6 values, first -inf at index \(1, 2\)"):
        require_finite("reward", tensor)


def test_finite_values_whose_sum_overflows_pass():
    require_finite("big", torch.full((10,), 3e38))


def test_the_first_bad_tensor_in_time_is_named():
    obs, action, reward = torch.zeros(5, 2), torch.zeros(5, 1), torch.zeros(5)
    obs[3], action[2], reward[2] = torch.nan, torch.nan, torch.nan
    with pytest.raises(NonFinite, match=r"^action is"):
        require_finite_rollout({"obs": obs, "action": action, "reward": reward})
    require_finite_rollout({"obs": obs[:3], "reward": reward[:2]})


def test_a_value_out_of_range_says_what_is_allowed():
    with pytest.raises(ConfigError, match=r"gamma = nan is outside \[0\.0, 1\.0\]"):
        require_range("gamma", float("nan"), 0.0, 1.0)


def poisoned(what: str, at: int) -> type:
    """The dummy environment with one number spoilt in step `at`."""

    class Poisoned(PointMass):
        steps = 0

        def step(self, action):
            step = super().step(action)
            self.steps += 1
            if self.steps == at:
                tensor = step.reward if what == "reward" else step.obs[what]
                tensor[-1:] = float("nan")
            return step

    return Poisoned


NAMES = {"policy": "obs['policy']", "critic": "obs['critic']", "reward": "reward"}
CASES = [(a, what) for a in ("td3-l2f", "ppo", "sb3:PPO") for what in NAMES if (a, what) != ("sb3:PPO", "critic")]


@pytest.mark.parametrize("algorithm, what", CASES)
def test_a_bad_number_from_the_environment_stops_training(tmp_path, algorithm, what):
    name = NAMES[what]
    at = 900 if algorithm == "td3-l2f" else 30
    with pytest.raises(NumericalError) as error:
        run(algorithm, tmp_path / "run", env_class=poisoned(what, at))
    assert str(error.value).startswith(f"{name} is not finite") and "nan_dump.pt" in str(error.value)
    dump = torch.load(tmp_path / "run/nan_dump.pt", weights_only=True)
    assert dump["name"] == name and dump["tensor"].isnan().any()
    assert {"algorithm", "env", "iteration"} <= dump.keys()
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_bad_parameters_losses_and_actions_are_named():
    config = td3_l2f.Td3L2fConfig(batch_size=8, critic_warmup=8, actor_warmup=8, curriculum_steps=())
    learner = td3_l2f.Td3L2f(PointMass(), config, seed=0)
    learner.flat["pi"].vector.data[0] = torch.nan
    with pytest.raises(NonFinite, match=r"^action is"):
        learner.step(PointMass())
    learner = td3_l2f.Td3L2f(PointMass(), config, seed=0)
    learner.flat["q_target"].vector.data[:] = 3e38
    with pytest.raises(NonFinite, match=r"^loss/critic is"):
        learner.step(PointMass())
    learner = td3_l2f.Td3L2f(PointMass(), config, seed=0)
    learner.q_optimizer.shrink[5] = torch.inf
    with pytest.raises(NonFinite, match=r"^parameters of the critics is"):
        learner.step(PointMass())


def test_bad_ppo_values_are_named():
    config = ppo.PpoConfig(num_envs=4, steps_per_env=4)
    learner = ppo.Ppo(PointMass(4), config, seed=0)
    learner.critic_parameters[0].data.fill_(torch.nan)
    with pytest.raises(NonFinite, match=r"^value is"):
        learner.step(PointMass(4))
