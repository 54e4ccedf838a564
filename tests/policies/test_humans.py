"""People in the loop: who acts, what is written down and stored, and what is learnt from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slot_task import BIAS, SlotEnv, expert, write_base, write_demos

from robot_rl.commands.compose import sections
from robot_rl.config import overlay
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, UnknownName
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.algorithms.hg_dagger import HgDaggerConfig
from robot_rl.policies.algorithms.hil import Hil, HilConfig
from robot_rl.policies.algorithms.rlif import RlifConfig
from robot_rl.policies.algorithms.thrifty_dagger import ThriftyDaggerConfig
from robot_rl.policies.human.config import HumanConfig
from robot_rl.policies.human.env import InterventionEnv
from robot_rl.policies.human.replay import InterventionReplay
from robot_rl.policies.human.rules import Stalled, WorthLess, missing
from robot_rl.policies.residual.base import FrozenBase
from robot_rl.policies.residual.base_env import BaseActionEnv
from robot_rl.policies.runner import RunInfo, train
from robot_rl.protocols import Step, Takeover

SMALL = {
    "num_envs": 4, "batch_size": 64, "updates_per_step": 4, "warmup_steps": 200, "steps_per_iteration": 25,
    "actor_hidden": (32, 32), "critic_hidden": (32, 32), "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
    "polyak": 0.02, "imitation": 0.5,
}  # fmt: skip
CLONE = {"num_envs": 4, "hidden": (32, 32), "updates": 200, "batch_size": 64, "round_steps": 200, "round_updates": 100,
         "steps_per_iteration": 25}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An expert and a poor one as policy files, and demonstrations."""
    folder = tmp_path_factory.mktemp("slot")
    return {
        "expert": f"scripted:{write_base(folder / 'expert.onnx', 1, torch.zeros(2))}",
        "poor": f"scripted:{write_base(folder / 'poor.onnx', 1, BIAS)}",
        "demos": str(write_demos(folder / "demos.rrl", 4)),
    }


class Pointing:
    """A human who takes over the rows of a timetable, one entry per control step, and does 0.5 everywhere."""

    def __init__(self, timetable: list[list[int]]) -> None:
        self.timetable, self.step, self.began = timetable, 0, []

    def reset(self, rows) -> None:
        self.began.append(rows.tolist())

    def act(self, seen, proposed, asked) -> Takeover:
        now = self.timetable[self.step] if self.step < len(self.timetable) else []
        self.step += 1
        rows = np.isin(np.arange(len(proposed)), now) | asked
        return Takeover(rows, np.where(rows[:, None], 0.5, proposed).astype(np.float32))

    def close(self) -> None: ...

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state) -> None:
        self.step = state["step"]


def watched(timetable, envs: int = 2) -> InterventionEnv:
    world = InterventionEnv(SlotEnv(envs))
    world.human = Pointing(timetable)
    world.reset(0)
    return world


def test_what_the_human_does_is_executed_where_they_act():
    world = watched([[], [1], [1], [0]])
    action = torch.full((2, 2), -0.25)
    rows = []
    for _ in range(5):
        step = world.step(action)
        rows.append((world.intervened.tolist(), world.began.tolist(), world.later.tolist()))
        wanted = torch.where(world.intervened[:, None], 0.5, -0.25).expand(2, 2)
        torch.testing.assert_close(world.executed, wanted)
        torch.testing.assert_close(step.final_obs["policy"][:, 2:], wanted)  # the observer remembers what was done
    no, yes = False, True
    assert rows == [
        ([no, no], [no, no], [no, no]), ([no, yes], [no, yes], [yes, yes]), ([no, yes], [no, no], [yes, yes]),
        ([yes, no], [yes, no], [yes, yes]), ([no, no], [no, no], [yes, yes]),
    ]  # fmt: skip
    world.step(action, torch.tensor([True, False]))
    assert world.intervened.tolist() == [True, False]


def test_the_share_of_the_human_and_the_lengths_are_counted():
    world = watched([[0]] * 6, 1)
    for _ in range(60):
        world.step(expert(world.env.signals()))
    found = world.metrics()
    steps, theirs, success = np.array(world._ended).T
    assert found["human/share"] == pytest.approx(6 / steps.sum())
    assert found["human/episodes"] == pytest.approx(np.mean(theirs > 0)) and 0 < found["human/episodes"] < 1
    assert found["episode/cycle"] == pytest.approx(steps[success > 0].mean())
    assert found["episode/unaided"] == pytest.approx(np.mean(success * (theirs == 0)))


def test_nobody_in_the_loop_is_an_error(files):
    learner = Hil(SlotEnv(1), HilConfig(demos=files["demos"]), 0)
    with pytest.raises(ConfigError, match="nobody is in the loop"):
        learner.prepare(SlotEnv(1))
    with pytest.raises(ConfigError, match=r"human\.who"):
        HumanConfig(who="joystick")
    with pytest.raises(ConfigError, match="one robot"):
        InterventionEnv(SlotEnv(2)).attend(HumanConfig(who="gamepad"), 0)


def test_stalled_means_no_less_missing_for_so_long():
    far = np.array([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], np.float32)
    seen = {"ee_pos_w": 0.0 * far, "target_pos_w": far.copy()}
    np.testing.assert_allclose(missing(seen), [0.5, 0.5])
    np.testing.assert_allclose(missing(seen | {"object_pos_w": -far}), [1.5, 1.5])
    with pytest.raises(ConfigError, match="progress"):
        missing({"joint_pos": far})
    rule, wanted = Stalled(2, 3, 0.01), []
    for t in range(6):
        seen["ee_pos_w"][0, 0] = 0.05 * t  # the first comes nearer, the second by less than what counts
        seen["ee_pos_w"][1, 0] = 0.001 * t
        wanted.append(rule.wanted(seen, far, far).tolist())
    assert wanted == [[False, False]] * 3 + [[False, True]] * 3
    rule.reset(np.array([1]))
    assert rule.wanted(seen, far, far).tolist() == [False, False]


def test_a_worse_action_is_seen_by_a_gap_and_judgements_turn_round_at_times():
    def critic(seen, action):
        return (
            seen["obs/critic"][:, 0] - 10.0 - ((action - 0.5) ** 2).sum(1)
        )  # far below zero: a ratio would turn round

    n = 4000
    seen, own = {"obs/critic": np.zeros((n, 1), np.float32)}, np.full((n, 2), 0.5, np.float32)
    worse = np.where(np.arange(n) % 2 == 0, 0.5, 0.0)[:, None].repeat(2, 1).astype(np.float32)
    rule = WorthLess(critic, n, 0.1, 0.0, 0)
    np.testing.assert_array_equal(rule.wanted(seen, worse, own), np.arange(n) % 2 == 1)
    flipped = WorthLess(critic, n, 0.1, 0.05, 0).wanted(seen, worse, own) != (np.arange(n) % 2 == 1)
    assert flipped.mean() == pytest.approx(0.05, abs=0.015)


def scripted(files, **changes) -> InterventionEnv:
    world = InterventionEnv(SlotEnv(3))
    world.attend(HumanConfig(who=files["expert"], **({"when": "asked"} | changes)), 0)
    world.reset(0)
    return world


def test_a_script_acts_as_its_policy_slower_later_and_worse(files):
    everywhere, zero = torch.ones(3, dtype=torch.bool), torch.zeros(3, 2)

    def actions(**changes):
        world, done, wishes = scripted(files, **changes), [], []
        for _ in range(6):
            wishes.append(expert(world.env.signals()))
            world.step(zero, everywhere)
            done.append(world.executed)
        return torch.stack(done), torch.stack(wishes)

    done, wishes = actions()
    torch.testing.assert_close(done, wishes)
    done, wishes = actions(pace=0.5)
    torch.testing.assert_close(done, 0.5 * wishes)
    done, wishes = actions(delay=2, pace=0.1)
    torch.testing.assert_close(done[2:], 0.1 * wishes[:-2])
    torch.testing.assert_close(done[0], 0.1 * wishes[0])
    done, wishes = actions(wander=0.1, pace=0.1)
    off = done - 0.1 * wishes
    torch.testing.assert_close(off, off[:1].expand_as(off))  # the same for the whole episode, another for each
    assert off.abs().max() <= 0.1 and (off[0, 0] != off[0, 1]).all()
    done, wishes = actions(bias=0.05, pace=0.1)
    torch.testing.assert_close(done, 0.1 * wishes + 0.05)
    done, wishes = actions(noise=0.1, pace=0.1)
    assert 0.05 < (done - 0.1 * wishes).std() < 0.2


def test_a_script_keeps_control_for_its_number_of_steps(files):
    world = scripted(files, when="random", chance=0.2, steps=4, pace=0.0)
    lengths: list[int] = []
    for _ in range(400):
        world.step(torch.zeros(3, 2))
        if world.began[0]:
            lengths.append(0)
        if lengths and world.intervened[0]:
            lengths[-1] += 1
    assert len(lengths) > 20
    assert sum(n % 4 == 0 for n in lengths) > 0.7 * len(lengths)  # others end with their episode


def test_a_training_is_written_down_as_episodes(files, tmp_path):
    path = tmp_path / "training.rrl"
    config = HilConfig(
        demos=files["demos"], total_steps=400,
        human=HumanConfig(who=files["expert"], when="random", chance=0.05, record=str(path)), **SMALL,
    )  # fmt: skip
    learner = Hil(SlotEnv(4), config, 0)
    while learner.progress[0] < learner.progress[1]:
        learner.step(learner.world.env)
    with EpisodeStore.open(path) as store:
        episodes = list(store)
        assert store.spec.task == "slot"
    assert len(episodes) == len(learner.world._ended)
    acted = np.concatenate([e.arrays["intervention"] for e in episodes])
    done = np.concatenate([e.arrays["action"] for e in episodes])
    proposed = np.concatenate([e.arrays["action_proposed"] for e in episodes])
    assert 0.05 < acted.mean() < 0.9
    np.testing.assert_array_equal(done[~acted], proposed[~acted])
    assert (done[acted] != proposed[acted]).any(1).mean() > 0.9
    for episode in episodes:
        assert episode.success == (episode.arrays["reward"][-1] == 1.0) == episode.terminated
        seen = {name: torch.tensor(episode.arrays[f"obs/{name}"][:-1]) for name in ("slot_pos", "point_pos")}
        acting = episode.arrays["intervention"]
        np.testing.assert_allclose(episode.arrays["action"][acting], expert(seen).numpy()[acting], atol=1e-6)
        moved = np.diff(episode.arrays["obs/point_pos"], axis=0)
        np.testing.assert_allclose(moved, 0.1 * episode.arrays["action"], atol=1e-6)


def test_what_a_base_policy_would_do_is_written_down_too(files, tmp_path):
    inner = BaseActionEnv(SlotEnv(2))
    inner.proposer = FrozenBase.read(files["poor"].removeprefix("scripted:")).proposer(inner.env)
    world, path = InterventionEnv(inner), tmp_path / "refining.rrl"
    world.attend(HumanConfig(who=files["expert"], when="random", chance=0.1, record=str(path)), 0)
    obs = world.reset(0)
    for _ in range(60):
        obs = world.step(0.5 * obs["base"]).obs
    with EpisodeStore.open(path) as store:
        episodes = list(store)
    assert episodes
    for arrays in (e.arrays for e in episodes):
        np.testing.assert_array_equal(arrays["base_action"], arrays["obs/base"][:-1])
        np.testing.assert_allclose(arrays["action_proposed"], 0.5 * arrays["base_action"])
        assert (arrays["action"] == arrays["action_proposed"])[~arrays["intervention"]].all()


def steps_of(reward: float, ended: bool = False, cut: bool = False) -> Step:
    one = torch.ones(1, 1)
    return Step(
        {"policy": one}, torch.tensor([reward]), {}, torch.tensor([ended]), torch.tensor([cut]), {"policy": one}
    )


def test_the_replay_knows_the_humans_steps_also_when_it_is_full():
    replay = InterventionReplay(5, 1, {"policy": 1}, 1, torch.device("cpu"))
    replay.begin({"policy": torch.zeros(1, 1)})
    theirs = [1, 2, 5, 6]
    for t in range(8):
        replay.add_executed(torch.tensor([[float(t)]]), steps_of(0.0), torch.tensor([t in theirs]))
        kept = range(max(0, t - 4), t + 1)
        actions = replay.windows(replay.helped(), 1, 0.9).action[:, 0].tolist() if len(replay.helped()) else []
        assert sorted(actions) == [i for i in kept if i in theirs]


def test_only_the_step_before_gets_the_penalty_and_never_one_of_another_episode():
    replay = InterventionReplay(8, 1, {"policy": 1}, 1, torch.device("cpu"))
    replay.set_last_reward(torch.tensor([True]), -1.0)
    replay.begin({"policy": torch.zeros(1, 1)})
    for ended in (False, True):
        replay.add_executed(torch.zeros(1, 1), steps_of(0.0, ended), torch.tensor([False]))
        replay.set_last_reward(torch.tensor([True]), -1.0)
    assert replay.windows(torch.arange(2), 1, 0.9).reward.tolist() == [-1.0, 0.0]


def test_half_of_a_batch_was_shown_or_steered_by_the_human(files):
    config = HilConfig(demos=files["demos"], total_steps=4000, human=HumanConfig(who=files["expert"], when="random"),
                       **SMALL)  # fmt: skip
    learner = Hil(SlotEnv(4), config, 0)
    for _ in range(4):
        learner.step(learner.world.env)
    assert learner.demos is not None
    demos = {tuple(a.tolist()) for a in learner.demos.action[: len(learner.demos)]}
    theirs = {tuple(a.tolist()) for a in learner.replay.action[learner.replay.intervened]}
    own = {tuple(a.tolist()) for a in learner.replay.action} - theirs
    batch = [tuple(a.tolist()) for a in learner._draw_batch().action]
    shown = batch[32:]
    assert all(a in demos | theirs for a in shown)
    assert any(a in theirs for a in shown) and any(a in demos for a in shown)
    assert sum(a in own for a in batch[:32]) > 10 and any(a in theirs for a in batch[:32])


def test_rlif_sees_only_when_the_human_took_over(files):
    human = HumanConfig(who=files["poor"], when="random", chance=0.1, steps=3)
    config = RlifConfig(demos=files["demos"], total_steps=4000, human=human, **SMALL)
    learner = load_algorithm("rlif").create(SlotEnv(4), config, 0)
    for _ in range(6):
        learner.step(learner.world.env)
    replay = learner.replay
    assert not learner.demos.reward.any()
    used = len(replay)
    reward, acted = replay.reward[:used].view(-1, 4), replay.intervened[:used].view(-1, 4)
    ended = replay.ended[:used].view(-1, 4) > 0
    begins = acted[1:] & ~(acted[:-1] & ~ended[:-1]) & ~ended[:-1]
    torch.testing.assert_close(reward[:-1], -begins.float())
    assert begins.any() and ended.any()
    assert learner._draw_batch().reward.max() <= 0.0


def success_of(policy, episodes: int = 200) -> float:
    env = SlotEnv(episodes)
    obs, solved, over = env.reset(77), torch.zeros(episodes, dtype=torch.bool), torch.zeros(episodes, dtype=torch.bool)
    for _ in range(env.max_episode_steps):
        step = env.step(policy(obs["policy"]))
        solved |= step.terminated & ~over
        over |= step.terminated | step.truncated
        obs = step.obs
    return solved.float().mean().item()


@pytest.mark.parametrize(
    ("name", "config", "changes"),
    [
        ("hil", HilConfig, SMALL | {"total_steps": 2400}),
        ("hg-dagger", HgDaggerConfig, CLONE | {"total_steps": 800}),
        ("thrifty-dagger", ThriftyDaggerConfig, CLONE | {"total_steps": 800, "alpha": 0.1, "risk_updates": 50}),
    ],
)
def test_with_an_expert_beside_it_each_learns_the_slot(files, tmp_path, name, config, changes):
    when = "asked" if name == "thrifty-dagger" else "random"
    human = HumanConfig(who=files["expert"], when=when, chance=0.1, steps=8)
    config = config(demos=files["demos"], human=human, **changes)
    spec = load_algorithm(name)
    result = train(spec, SlotEnv(4), tmp_path / name, config, info=RunInfo("slot"))
    learned = result.algorithm
    assert success_of(learned.policy()) > 0.8
    if name != "hil":
        seen, action = learned.gathered
        assert len(action) == learned.world._running[1].sum() + sum(e[1] for e in learned.world._ended) > 0
        torch.testing.assert_close(action, torch.clamp(5.0 * seen[:, :2], -1.0, 1.0))  # all of it the expert's


@pytest.mark.parametrize(
    ("name", "config", "changes"),
    [
        ("hil", HilConfig, SMALL | {"total_steps": 800}),
        ("rlif", RlifConfig, SMALL | {"total_steps": 800}),
        ("hg-dagger", HgDaggerConfig, CLONE | {"total_steps": 500}),
        ("thrifty-dagger", ThriftyDaggerConfig, CLONE | {"total_steps": 500, "risk_updates": 20}),
    ],
)
def test_a_resumed_run_is_the_same_run(files, tmp_path, name, config, changes):
    human = HumanConfig(who=files["poor"], when="random", chance=0.1, noise=0.1, wander=0.1, delay=1)
    config, spec = config(demos=files["demos"], human=human, **changes), load_algorithm(name)
    whole = train(spec, SlotEnv(4), tmp_path / "whole", config, info=RunInfo("slot")).algorithm
    half = spec.create(SlotEnv(4), config, 0)
    for _ in range(6):
        half.step(half.world.env)
    again = spec.create(SlotEnv(4), config, 0)
    again.load_state_dict(half.state_dict())
    again.world.env.load_state_dict(half.world.env.state_dict())
    again.prepare(again.world.env)
    while again.progress[0] < again.progress[1]:
        again.step(again.world.env)
    obs = torch.randn(20, 4)
    assert torch.equal(whole.policy()(obs), again.policy()(obs))


@torch.no_grad()
def test_help_is_asked_for_where_states_are_new_or_success_is_unlikely(files):
    config = ThriftyDaggerConfig(demos=files["demos"], total_steps=5000,
                                 human=HumanConfig(who=files["expert"], when="asked"), **CLONE)  # fmt: skip
    learner = load_algorithm("thrifty-dagger").create(SlotEnv(4), config, 0)
    learner.prepare(learner.world.env)
    obs, helped = learner.world.reset(0), []
    for new, risky in ((float("inf"), 0.0), (0.0, 0.0), (float("inf"), 1.0)):
        object.__setattr__(config, "risk_human", risky)
        learner.new, learner.apart = new, 0.0
        learner.helped[:] = False
        learner._transition(obs)
        helped.append(learner.world.intervened.all().item())
    assert helped == [False, True, True]
    learner.apart = float("inf")
    object.__setattr__(config, "risk_robot", 0.0)
    learner._transition(obs)
    assert not learner.helped.any()  # the policy would do the same: it has control again


def test_chunks_cannot_be_taken_over(files):
    with pytest.raises(ConfigError, match="one action at a time"):
        HgDaggerConfig(horizon=4)


def test_the_command_line_names_the_human_without_the_algorithms_section():
    named = sections({"human.who": "gamepad", "human.steps": 3, "gamma": 0.9, "task.threads": 1})
    assert named["algorithm"] == {"human.who": "gamepad", "human.steps": 3, "gamma": 0.9}
    config = overlay(HilConfig(), named["algorithm"])
    assert (config.human.who, config.human.steps, config.gamma) == ("gamepad", 3, 0.9)
    with pytest.raises(UnknownName, match="person"):
        sections({"person.who": "gamepad"})
    with pytest.raises(ConfigError, match="keyboard, gamepad, spacemouse"):
        overlay(HilConfig(), {"human.who": "joystick"})
