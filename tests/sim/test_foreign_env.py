"""Environments of other projects as our batch: signals, limits, ends of episodes, success, seeds, states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError, MissingDependency, UnknownName
from robot_rl.registry import load
from robot_rl.sim.task_spec import make_env

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def make(name: str = "walk", num_envs: int = 2, seed: int = 0, **options: Any) -> Any:
    if not name.startswith(("gym:", "envpool:")):
        name = f"gym:foreign_envs:{name}"
    return make_env(name, num_envs, seed, overrides={"workers": 0, "episode_steps": 8, **options})


def straight(env: Any, speed: float = 2.0) -> Any:
    """One step towards success, as fast as the limits allow at 2."""
    return env.step_command({"action": torch.tensor([[speed, 1.0]] * env.num_envs)})


def test_signals_commands_and_rate_are_the_environments_own() -> None:
    env = make(num_envs=3)
    assert [(s.name, s.shape) for s in env.task.signals] == [("obs", (3,))]
    (command,) = env.task.commands
    assert (command.lower, command.upper, command.idle) == ((-2.0, 0.0), (2.0, 4.0), (0.0, 0.0))
    assert env.task.rate.control_dt == env.control_dt == 0.05 and env.max_episode_steps == 8
    assert make(control_dt=0.3).task.rate.control_dt == 0.3
    obs = env.reset(3)
    assert set(obs) == {"policy", "critic"} and torch.equal(obs["policy"], obs["critic"])
    assert obs["policy"].dtype == torch.float32 and env.signals()["obs"].shape == (3, 3)


def test_actions_are_stretched_to_the_limits_and_clipped() -> None:
    env = make(num_envs=1)
    start = env.reset(0)["policy"][0, 0].item()
    moved = env.step(torch.tensor([[0.5, 9.0]])).obs["policy"][0, 0].item()
    assert moved - start == pytest.approx(0.1, abs=1e-6)  # 0.5 · 2 / 10
    mapped = env.action_map(torch.tensor([[0.0, -1.0], [7.0, -7.0]]))["action"]
    assert mapped.tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert torch.allclose(env.action_map.action_for({"action": mapped}, {}), torch.tensor([[0.0, -1.0], [1.0, -1.0]]))


def test_a_dict_becomes_signals_in_order_of_name_or_as_asked() -> None:
    env = make("walk?kind=Goal", num_envs=1)
    assert [(s.name, s.shape) for s in env.task.signals] == [
        ("a_z_z", (1,)), ("desired_goal", (1,)), ("observation", (2, 2)),
    ]  # fmt: skip
    x = env.signals()["observation"][0, 1, 1].item()
    assert env.reset(0)["policy"][0].tolist() == pytest.approx([7.0, 5.0, 1.0, 2.0, 3.0, x])
    few = make("walk?kind=Goal", num_envs=1, signals=["observation", "desired_goal"])
    assert few.reset(0)["policy"][0].tolist() == pytest.approx([1.0, 2.0, 3.0, x, 5.0])
    assert few.observer(few.signals(), {})[0].tolist() == few.reset(0)["policy"].tolist()
    with pytest.raises(UnknownName, match="desired_goal"):
        make("walk?kind=Goal", signals=["desired"])


def test_the_end_of_time_is_no_termination_and_the_last_observation_is_kept() -> None:
    env = make()
    env.reset(1)
    for k in range(8):
        before = env.signals()["obs"][:, 0]
        step = straight(env, 0.1)
        assert step.truncated.all() == (k == 7) and not step.terminated.any()
    assert torch.allclose(step.final_obs["policy"][:, 0], before + 0.01, atol=1e-6)
    assert (step.final_obs["policy"][:, 1] == 8).all() and (step.obs["policy"][:, 1] == 0).all()
    assert not torch.equal(step.obs["policy"][0], step.obs["policy"][1])


def test_a_suite_that_terminates_when_time_runs_out_and_then_raises() -> None:
    env = make("walk?kind=Strict", episode_steps=0)
    assert env.max_episode_steps == 12
    env.reset(1)
    ends = [straight(env, 0.0) for _ in range(30)]
    assert [k for k, s in enumerate(ends) if s.truncated.any()] == [11, 23]
    assert not any(s.terminated.any() for s in ends)
    with pytest.raises(ConfigError, match="stops after 12"):
        make("walk?kind=Strict", episode_steps=13)


def test_failing_is_a_termination() -> None:
    env = make("walk?kind=Falls", episode_steps=100)
    env.reset(0)
    steps = [straight(env, -2.0) for _ in range(8)]
    assert any(s.terminated.any() for s in steps) and not any(s.truncated.any() for s in steps)
    assert env.succeeded() is None


def test_success_ends_the_episode_only_where_that_is_wanted() -> None:
    free, ended, sparse = (make(end_on_success=e, reward=r, episode_steps=20) for e, r in
                           ((False, "dense"), (True, "dense"), (False, "sparse")))  # fmt: skip
    seen = {id(e): [] for e in (free, ended, sparse)}
    for env in (free, ended, sparse):
        env.reset(5)
        for _ in range(12):
            step = straight(env)
            seen[id(env)].append((step, env.succeeded()))
    assert not any(s.terminated.any() for s, _ in seen[id(free)])
    assert seen[id(free)][-1][1].all(), "went through and beyond, but it counts"
    for env in (ended, sparse):
        first = next(k for k, (s, _) in enumerate(seen[id(env)]) if s.terminated[0])
        step, good = seen[id(env)][first]
        assert good[0] and abs(step.final_obs["policy"][0, 0] - 1.0) < 0.1 and not step.truncated[0]
        assert 2 < first < 9
    rewards = torch.stack([s.reward for s, _ in seen[id(sparse)]])
    assert torch.equal(rewards, torch.stack([s.terminated.float() for s, _ in seen[id(sparse)]]))


def test_success_at_the_end_only() -> None:
    env = make(success_when="end", episode_steps=20)
    env.reset(5)
    said = [straight(env) and env.succeeded()[0].item() for _ in range(19)]
    assert True in said and not said[-1]


def test_success_by_another_key_or_a_method_and_where_nothing_says_it() -> None:
    assert make("walk?kind=Goal").succeeded() is None
    env = make(success_key="given")
    straight(env)
    assert env.succeeded().all()
    method = make(success_key="obs()")
    with pytest.raises(Exception, match=r"ambiguous|truth value"):
        straight(method)
    silent = make("walk?kind=Falls", reward="sparse", episode_steps=3)
    with pytest.raises(Exception, match="nothing was said of success"):
        [straight(silent) for _ in range(3)]


def test_seeds_decide_everything_however_the_work_is_shared() -> None:
    def played(workers: int, seed: int, kind: str = "Walk") -> torch.Tensor:
        env = make(f"walk?kind={kind}", num_envs=3, seed=99, workers=workers)
        rows = [env.reset(seed)["policy"]] + [straight(env, 0.3).obs["policy"] for _ in range(20)]
        env.close()
        return torch.stack(rows)

    for kind in ("Walk", "Unseeded", "OwnGenerator"):
        assert torch.equal(played(0, 4, kind), played(2, 4, kind)), kind
        assert not torch.equal(played(0, 4, kind), played(0, 5, kind)), kind
    rows = played(1, 4)
    starts = [r[0].item() for r in rows[0]] + [r[0].item() for r in rows[8]]
    assert len(set(starts)) == 6, "each episode of each environment begins elsewhere"


def test_without_automatic_reset_each_plays_one_episode_and_waits() -> None:
    env = make("walk?kind=Strict", num_envs=2, episode_steps=4, auto_reset=False)
    steps = [straight(env, 0.1) for _ in range(7)]
    assert steps[3].truncated.all() and not any(s.truncated.any() for s in steps[4:])
    assert torch.equal(steps[3].obs["policy"], steps[6].obs["policy"]) and not steps[6].reward.any()


def test_first_episodes_can_be_cut_early() -> None:
    env = make(num_envs=4)
    env.reset(0)
    env.episode_step[:] = torch.tensor([0, 3, 6, 7])
    ends = torch.stack([straight(env, 0.0).truncated for _ in range(8)])
    assert ends.long().argmax(0).tolist() == [7, 4, 1, 0]
    assert make(num_envs=16, desync=True).episode_step.float().std() > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_saved_state_goes_on_to_the_last_bit(workers: int) -> None:
    env = make("gym:HalfCheetah-v5", num_envs=3, workers=workers, episode_steps=20)
    generator = torch.Generator().manual_seed(0)
    actions = 2 * torch.rand(60, 3, 6, generator=generator) - 1
    env.episode_step[:] = torch.tensor([0, 7, 13])
    for action in actions[:30]:
        env.step(action)
    state = env.state_dict()
    wanted = [env.step(a) for a in actions[30:]]
    other = make("gym:HalfCheetah-v5", num_envs=3, workers=workers, episode_steps=20, seed=8)
    other.load_state_dict(state)
    for action, step in zip(actions[30:], wanted, strict=True):
        found = other.step(action)
        assert torch.equal(found.obs["policy"], step.obs["policy"]) and torch.equal(found.reward, step.reward)
        assert torch.equal(found.truncated, step.truncated)
    with pytest.raises(ConfigError, match="3 environments"):
        make(num_envs=2).load_state_dict(state)


def test_what_cannot_be_had_again_is_cut_off_and_said(caplog: pytest.LogCaptureFixture) -> None:
    env = make("walk?kind=Drifts")
    for _ in range(3):
        last = straight(env, 0.3).obs["policy"]
    other = make("walk?kind=Drifts", seed=1)
    other.load_state_dict(env.state_dict())
    assert "new ones begin" in caplog.text
    step = straight(other)
    assert step.truncated.all() and not step.terminated.any() and not step.reward.any()
    assert torch.equal(step.final_obs["policy"], last) and (step.obs["policy"][:, 1] == 0).all()
    assert not straight(other).truncated.any()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("odd_space?which=discrete", {}, "Discrete.3.*continuous"),
        ("odd_space?which=integers", {}, "int64.*continuous"),
        ("odd_space?which=unlimited", {}, "without finite limits"),
        ("odd_space?which=picture", {}, "'camera' of .*cannot be a signal.*among: state"),
        ("odd_space?which=observation", {}, "'obs' of Discrete.4. cannot be a signal.*none"),
        ("walk", {"episode_steps": 0, "kwargs": {"kind": "Strict"}, "control_dt": 0.1}, None),
        ("walk", {"workers": 0, "python": "/bin/false"}, "leave out `python`"),
        ("walk?kind=Walk;x", {}, "not of the form"),
        ("walk", {"python": "/no/such/python", "workers": 1}, "/no/such/python.*cannot be started"),
    ],
)
def test_what_cannot_be_learnt_on_is_refused(name: str, options: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert make(name, **options).max_episode_steps == 12, "its own horizon"
        return
    with pytest.raises(ConfigError, match=said):
        make(name, **options)


def test_unknown_ids_and_missing_packages() -> None:
    with pytest.raises(UnknownName, match=r"HalfCheeta.*Available: .*HalfCheetah-v5"):
        make("gym:HalfCheeta-v5")
    with pytest.raises(MissingDependency, match=r"'metaworld'.*pip install metaworld.*python"):
        make("gym:Meta-World/MT1?env_name=push-v3")
    with pytest.raises(MissingDependency, match=r"'no_such_module_here'"):
        make("gym:no_such_module_here:make")
    with pytest.raises(MissingDependency, match=r"'envpool'"):
        make("envpool:HalfCheetah-v4")
    assert make("gym:Own/Walk-v0", imports=["foreign_envs"], episode_steps=0).max_episode_steps == 5
    assert make("gym:foreign_envs:Own/Run-v3", episode_steps=0).max_episode_steps == 5


def test_a_name_makes_a_task_without_loading_anything() -> None:
    task = load("task", "gym:Meta-World/MT1?env_name=push-v3&x=2")
    assert task.described_by_env and task.options.python == "" and not task.gains()
    with pytest.raises(UnknownName, match="workers"):
        task.overridden({"worker": 1})


def test_attributes_are_set_on_the_bare_environment() -> None:
    env = make("gym:Own/Walk-v0", imports=["foreign_envs"], episode_steps=0, attributes={"horizon": 3})
    assert all(slot.env.unwrapped.horizon == 3 for slot in env.workers._local.slots)


def test_the_expert_lives_beside_the_environment() -> None:
    env = make(num_envs=2, expert="foreign_envs:expert", workers=1)
    x = env.signals()["obs"][:, 0].numpy()
    np.testing.assert_allclose(env.expert_command()[:, 0], np.clip(10 * (1 - x), -2, 2), rtol=1e-6)
    assert env.expert_command()[:, 1].tolist() == [1.0, 1.0]
    for expert, said in (("foreign_envs:nobody", "does not define"), ("", "no scripted expert")):
        with pytest.raises(ConfigError, match=said):
            make(expert=expert).expert_command()
