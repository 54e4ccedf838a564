"""The ring against a naive list of episodes: windows, both kinds of ends, wrapping around, state."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass

from robot_rl.errors import CheckpointError
from robot_rl.policies.off_policy.replay import RingReplay

CPU, GAMMA = torch.device("cpu"), 0.9
DIMS = {"policy": 3, "critic": 2}


def fill(replay: RingReplay, steps: int, time_limit: int = 9) -> list[list[dict]]:
    """Random play with strong forces, so that episodes end both ways; returns each environment's transitions."""
    torch.manual_seed(0)
    env = PointMass(replay.num_envs, max_episode_steps=time_limit)
    obs = env.reset(seed=3)
    env.episode_step[:] = torch.arange(replay.num_envs) % time_limit
    replay.begin(obs)
    history: list[list[dict]] = [[] for _ in range(replay.num_envs)]
    for _ in range(steps):
        action = torch.where(torch.rand(replay.num_envs, 1) < 0.7, 1.0, -1.0) * env.state[:, 1:].sign()
        step = env.step(action)
        replay.add(action, step)
        for i, played in enumerate(history):
            played.append(
                {
                    "obs": {k: obs[k][i].clone() for k in DIMS}, "action": action[i], "reward": step.reward[i].item(),
                    "terminated": bool(step.terminated[i]), "truncated": bool(step.truncated[i]),
                    "next": {k: step.final_obs[k][i].clone() for k in DIMS},
                }
            )  # fmt: skip
        obs = step.obs
    return history


def naive_window(played: list[dict], start: int, n_step: int) -> tuple[float, float, dict, str]:
    """What a person would write: walk along the episode and stop at its end or at the end of what is known."""
    reward, discount = 0.0, 1.0
    for t in range(start, min(start + n_step, len(played))):
        reward += discount * played[t]["reward"]
        discount *= GAMMA
        if played[t]["terminated"]:
            return reward, 0.0, played[t]["next"], "terminated"
        if played[t]["truncated"]:
            return reward, discount, played[t]["next"], "truncated"
    return reward, discount, played[t]["next"], "running"


@pytest.mark.parametrize("n_step", [1, 3, 12])
@pytest.mark.parametrize("steps", [6, 40, 41, 155])
def test_every_window_equals_the_naive_one(n_step, steps):
    replay = RingReplay(40, 5, DIMS, 1, CPU)
    history = [played[-40:] for played in fill(replay, steps)]
    kept = min(steps, 40)
    assert len(replay) == kept * 5
    batch = replay.windows(torch.arange(len(replay)), n_step, GAMMA)
    ends = set()
    for index in range(len(replay)):
        start, env = divmod(index, 5)
        reward, discount, following, end = naive_window(history[env], start, n_step)
        ends.add(end)
        assert batch.reward[index].item() == pytest.approx(reward, abs=1e-5)
        assert batch.discount[index].item() == pytest.approx(discount, abs=1e-6)
        assert torch.equal(batch.action[index], history[env][start]["action"])
        for name in DIMS:
            assert torch.equal(batch.obs[name][index], history[env][start]["obs"][name])
            if discount > 0.0:
                assert torch.equal(batch.next_obs[name][index], following[name])
    assert steps < 40 or ends == {"terminated", "truncated", "running"}


def test_sampling_reaches_every_transition_and_no_other():
    replay = RingReplay(8, 3, DIMS, 1, CPU)
    fill(replay, 30)
    generator = torch.Generator().manual_seed(0)
    known = replay.windows(torch.arange(24), 1, GAMMA).obs["critic"]
    drawn = replay.sample(3000, 1, GAMMA, generator).obs["critic"]
    same = (drawn[:, None] == known[None]).all(2)
    assert bool(same.any(1).all()) and bool(same.any(0).all())
    counts = same.float().sum(0)
    assert counts.min() > 70 and counts.max() < 190  # 125 expected


def test_the_table_of_last_observations_grows_and_is_reused():
    short = RingReplay(200, 4, DIMS, 1, CPU)
    fill(short, 300, time_limit=2)
    assert short.next_cut - short.first_cut > 64 and short.next_cut > 512
    assert len(short.cut_obs["policy"]) == 512, "at most 4 · 200 / 2 are alive"
    long = RingReplay(20, 4, DIMS, 1, CPU)
    fill(long, 300, time_limit=2)
    assert len(long.cut_obs["policy"]) == 64 and long.next_cut > 400


def test_state_round_trip_gives_the_same_windows():
    replay, other = (RingReplay(20, 4, DIMS, 1, CPU) for _ in range(2))
    fill(replay, 33)
    other.load_state_dict(replay.state_dict())
    index = torch.arange(len(replay))
    first, second = (r.windows(index, 3, GAMMA) for r in (replay, other))
    assert torch.equal(first.reward, second.reward) and torch.equal(first.discount, second.discount)
    assert torch.equal(first.next_obs["policy"], second.next_obs["policy"])
    with pytest.raises(CheckpointError, match=r"has 84 rows, this one 44"):
        RingReplay(10, 4, DIMS, 1, CPU).load_state_dict(replay.state_dict())
