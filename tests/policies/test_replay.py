"""The replay against a plain list of transitions."""

from __future__ import annotations

import pytest
import torch
from fakes import PointMass

from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.policies.replay import Replay


def fill(replay: Replay, steps: int, episode: int = 7):
    """Random play; returns the transitions, oldest first, as (obs, action, reward, terminated, next critic obs)."""
    torch.manual_seed(0)
    env = PointMass(replay.num_envs, max_episode_steps=episode)
    obs = env.reset(seed=0)
    env.episode_step[:] = torch.arange(replay.num_envs)
    replay.begin(obs)
    transitions = []
    for _ in range(steps):
        action = torch.rand(replay.num_envs, 1) * 2 - 1
        step = env.step(action)
        replay.add(action, step)
        for i in range(replay.num_envs):
            transitions.append(
                (obs["policy"][i], action[i], step.reward[i], step.terminated[i], step.final_obs["critic"][i])
            )
        obs = step.obs
    return transitions


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("steps", [5, 20, 21, 63, 200])
def test_rows_are_the_last_transitions_also_after_wrapping_around(num_envs, steps):
    replay = Replay(20 * num_envs, num_envs, {"policy": 3, "critic": 2}, 1)
    expected = fill(replay, steps)[-20 * num_envs :]
    assert len(replay) == len(expected)
    rows = replay.newest(len(replay))[: len(replay)]
    for name, i in (("policy", 0), ("action", 1), ("reward", 2), ("terminated", 3)):
        got = replay.gather("policy", rows) if name == "policy" else getattr(replay, name)[rows]
        assert torch.equal(got, torch.stack([t[i] for t in expected]).to(got))
    alive = replay.terminated[rows] == 0
    following = replay.gather_next("critic", rows)
    assert torch.equal(following[alive], torch.stack([t[4] for t in expected])[alive])


def test_an_episode_cut_by_time_is_followed_by_its_true_last_state_not_by_the_reset():
    replay = Replay(100, 1, {"policy": 3, "critic": 2}, 1)
    transitions = fill(replay, 30, episode=7)
    cut = torch.tensor([6])
    assert torch.equal(replay.gather_next("critic", cut)[0], transitions[6][4])
    assert not torch.equal(replay.gather("critic", cut + 1)[0], transitions[6][4])


def test_sampling_reaches_every_transition_and_no_other():
    replay = Replay(40, 2, {"policy": 3, "critic": 2}, 1)
    fill(replay, 90)
    rows = replay.sample_rows(4000, torch.Generator().manual_seed(0))
    assert set(rows.tolist()) == set(replay.newest(40)[:40].tolist())


def test_the_table_of_last_states_does_not_grow_when_the_ring_turns():
    replay = Replay(50, 1, {"policy": 3, "critic": 2}, 1)
    fill(replay, 3000, episode=2)
    assert len(replay.final["critic"]) == 64
    assert len(replay.free) + int((replay.final_index >= 0).sum()) == 64


def test_the_table_of_last_states_grows_when_it_must():
    replay = Replay(1000, 1, {"policy": 3, "critic": 2}, 1)
    transitions = fill(replay, 400, episode=2)
    rows = torch.arange(400)[replay.terminated[:400] == 0]
    expected = torch.stack([t[4] for t in transitions])[rows]
    assert torch.equal(replay.gather_next("critic", rows), expected)


def test_state_round_trip():
    replay, other = (Replay(30, 2, {"policy": 3, "critic": 2}, 1) for _ in range(2))
    fill(replay, 40)
    other.load_state_dict(replay.state_dict())
    rows = replay.newest(30)[:30]
    assert torch.equal(replay.gather_next("policy", rows), other.gather_next("policy", rows))
    assert torch.equal(replay.reward, other.reward) and other.head == replay.head and len(other) == 30
    with pytest.raises(CheckpointError, match="32 rows, this one 42"):
        Replay(40, 2, {"policy": 3, "critic": 2}, 1).load_state_dict(replay.state_dict())


def test_a_capacity_that_is_too_small_is_refused():
    with pytest.raises(ConfigError, match="capacity 3 is too small for 2"):
        Replay(3, 2, {"policy": 3, "critic": 2}, 1)
