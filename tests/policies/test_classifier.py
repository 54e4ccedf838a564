"""Success classifiers: labels, calibration, thresholds, the exported file, and what it does as a reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robot_rl.data.episode import DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.policies.classifier.calibration import (
    auc,
    best_temperature,
    calibration_error,
    confusion,
    largest_by_episode,
    probability,
    reliability,
    roc,
    threshold_for,
)
from robot_rl.policies.classifier.frames import Momentary, read_frames, split
from robot_rl.policies.classifier.network import OUTPUT, ClassifierConfig, Probability, calibrate, learn
from robot_rl.policies.classifier.report import report_on
from robot_rl.policies.classifier.reward import JudgedEnv, RewardOptions
from robot_rl.policies.export import export_policy
from robot_rl.policy import Policy
from robot_rl.sim.task_spec import make_env

RNG = np.random.default_rng(0)


def drawn(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the probabilities that logits say, and `scale` times these logits."""
    logit = RNG.normal(0.0, 2.0, count)
    return scale * logit, RNG.random(count) < probability(logit)


def test_the_temperature_undoes_what_made_a_classifier_too_sure() -> None:
    logit, label = drawn(20_000, scale=3.0)
    temperature = best_temperature(logit, label)
    assert temperature == pytest.approx(3.0, rel=0.06)
    before, after = (calibration_error(probability(logit, t), label) for t in (1.0, temperature))
    assert before > 0.1
    assert after < 0.015
    assert best_temperature(logit, np.ones_like(label)) == 1.0


def test_the_reliability_table_counts_each_frame_once() -> None:
    p, label = np.array([0.05, 0.15, 0.15, 0.95, 1.0]), np.array([False, True, False, True, True])
    rows = reliability(p, label)
    assert [(r.low, r.count, r.true) for r in rows] == [(0.0, 1, 0.0), (0.1, 2, 0.5), (0.9, 2, 1.0)]
    assert calibration_error(p, label) == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.025) / 5)


def test_the_area_under_the_roc_is_the_share_of_pairs_in_order() -> None:
    p, label = np.round(RNG.random(300), 1), RNG.random(300) < 0.3  # with ties
    pairs = p[label][:, None] - p[~label][None]
    assert auc(p, label) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    false, true = roc(p, label)
    assert (false[0], true[0], false[-1], true[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.isnan(auc(p, np.zeros(300, bool)))


def test_the_threshold_keeps_false_alarms_to_the_share_that_was_asked_for() -> None:
    alarms = RNG.random(200) * 0.5 + 0.4
    for rate in (0.0, 0.05, 0.5):
        threshold = threshold_for(alarms, np.zeros(9), rate)  # successes that nobody could tell
        assert (alarms > threshold).mean() <= rate
        assert (alarms >= threshold).mean() > rate  # and no higher than needed
        assert (alarms > threshold_for(alarms, np.full(9, 0.99), rate)).mean() <= rate
    assert threshold_for(np.array([0.1, 0.2]), np.full(20, 0.8), 0.0) == pytest.approx(0.5)  # halfway between the odds
    assert threshold_for(np.array([0.2]), np.array([0.3] + 19 * [0.8]), 0.0) == pytest.approx(0.5)  # the worst is left
    for wrong in ((np.zeros(0), np.ones(1)), (np.ones(1), np.zeros(0))):
        with pytest.raises(ConfigError, match="held-out"):
            threshold_for(*wrong, 0.1)
    c = confusion(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, True, False]), 0.5)
    assert (c.true_positive, c.false_positive, c.false_negative, c.true_negative) == (1, 1, 1, 1)
    got = largest_by_episode(np.array([0.1, 0.7, 0.3]), np.array([2, 2, 5]), np.array([True, True, True]))
    np.testing.assert_array_equal(got, [0.7, 0.3])


def reaching(path, successes: int = 30, failures: int = 30, labelled: bool = False, judged: bool = True):
    """Episodes of `panda-reach` as they might be: the gripper ends at the target, or 12 cm beside it."""
    env = make_env("panda-reach", 1, 0)
    signals = env.task.signals
    features = {f"obs/{s.name}": Feature("float32", s.shape, s.unit) for s in signals} | {"action": Feature(shape=(3,))}
    features |= {"obs/success": Feature()} if labelled else {}
    first = {name: value[0].numpy() for name, value in env.signals().items()}
    with EpisodeStore.create(path, DataSpec(env.control_dt, features, "panda-reach", "panda")) as store:
        for number in range(successes + failures):
            good, steps = number < successes, int(RNG.integers(20, 30))
            goal = np.array([0.5, 0.0, 0.25]) + RNG.uniform(-0.1, 0.1, 3)
            miss = 0.0 if good else 0.12
            end, start = goal + miss * np.array([1.0, 0.0, 0.0]), goal + RNG.uniform(-0.2, 0.2, 3)
            way = np.linspace(0.0, 1.0, steps + 1)[:, None] ** 0.5
            arrays = {f"obs/{n}": np.repeat(v[None], steps + 1, 0).astype(np.float32) for n, v in first.items()}
            arrays["obs/ee_pos_w"] = (start + (end - start) * way).astype(np.float32)
            arrays["obs/target_pos_w"] = np.repeat(goal[None], steps + 1, 0).astype(np.float32)
            arrays["action"] = np.zeros((steps, 3), np.float32)
            if labelled:
                arrays["obs/success"] = (np.arange(steps + 1) >= steps - 3).astype(np.float32) * good
            store.append(Episode(arrays, good, not good, good if judged else None, {}))
    return env


def test_the_end_of_a_success_is_positive_and_what_comes_just_before_is_left_out(tmp_path) -> None:
    env = reaching(tmp_path / "a.rrl", 2, 1)
    frames = read_frames(tmp_path / "a.rrl", Momentary(env.observer), (), last=3, margin=5)
    for episode in (0, 1):
        rows = frames.episode == episode
        assert frames.label[rows].sum() == 3
        assert frames.label[rows][-3:].all()
        assert (~frames.clear[rows]).sum() == 5
        assert not frames.clear[rows][-8:-3].any()
    assert not frames.label[frames.episode == 2].any()
    assert frames.clear[frames.episode == 2].all()
    np.testing.assert_array_equal(frames.succeeded, [True, True, False])


def test_a_recorded_success_signal_is_the_label(tmp_path) -> None:
    env = reaching(tmp_path / "a.rrl", 1, 1, labelled=True, judged=False)
    frames = read_frames(tmp_path / "a.rrl", Momentary(env.observer), (), last=1, margin=5)
    assert frames.label.sum() == 4
    assert frames.label[frames.episode == 0][-4:].all()
    assert frames.clear.all()


def test_episodes_that_do_not_fit_are_refused(tmp_path) -> None:
    env = reaching(tmp_path / "a.rrl", 1, 1, judged=False)
    with pytest.raises(ConfigError, match="nobody judged"):
        read_frames(tmp_path / "a.rrl", Momentary(env.observer), (), 3, 5)
    with pytest.raises(ConfigError, match="lacks obs/object_pos_w"):
        read_frames(tmp_path / "a.rrl", Momentary(make_env("panda-push", 1, 0).observer), (), 3, 5)
    with pytest.raises(ConfigError, match="4 failed episodes"):
        split(np.array([True] * 9 + [False] * 4), 0)


def test_every_part_has_its_share_and_no_episode_is_in_two() -> None:
    succeeded = RNG.random(100) < 0.3
    parts = split(succeeded, 4)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert [len(p) for p in parts.values()] == pytest.approx([60, 20, 20], abs=1)
    for part in parts.values():
        assert succeeded[part].mean() == pytest.approx(succeeded.mean(), abs=0.04)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    env = reaching(folder / "episodes.rrl", 80, 80)
    frames = read_frames(folder / "episodes.rrl", Momentary(env.observer), (), 3, 5)
    parts = {name: frames.part(n) for name, n in split(frames.succeeded, 0).items()}
    network = learn(parts["learn"], (), ClassifierConfig(updates=1500), seed=0)
    calibrate(network, parts["calibrate"])
    return env, network, parts, folder


def test_it_tells_solved_from_unsolved_in_episodes_it_has_not_seen(learnt) -> None:
    _, network, parts, _ = learnt
    report = report_on(network.logits(parts["test"]), parts["test"], 0.5, float(network.temperature))
    assert report.auc > 0.95
    assert report.successes == 16
    assert report.found >= 13
    assert report.alarms <= 4
    again = learn(parts["learn"], (), ClassifierConfig(updates=20), seed=0)
    other = learn(parts["learn"], (), ClassifierConfig(updates=20), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), other.state_dict().values(), strict=True))


def write(path, env, network: nn.Module, rows: list | None = None, **facts):
    return export_policy(
        path, observer=Momentary(env.observer), actor=network, action_map=Probability(), task="panda-reach",
        robot="panda", rate=env.task.rate, example_signals=rows or a_walk(env), provenance={"classifier": facts},
    )  # fmt: skip


def a_walk(env) -> list:
    env.reset(0)
    rows = [{n: v[0].numpy() for n, v in env.signals().items()}]
    for _ in range(6):
        env.step(2.0 * torch.rand(1, 3) - 1.0)
        rows.append({n: v[0].numpy() for n, v in env.signals().items()})
    return [*rows, rows[-1] | {"ee_pos_w": rows[-1]["target_pos_w"]}]  # solved


def test_the_file_says_what_the_network_says_and_remembers_nothing(learnt) -> None:
    env, network, _, folder = learnt
    with EpisodeStore.open(folder / "episodes.rrl") as store:
        arrays = next(iter(store)).arrays
    rows = [{s.name: arrays[f"obs/{s.name}"][t] for s in env.observer.signals} for t in range(len(arrays["action"]))]
    policy = Policy.load(write(folder / "c.onnx", env, network, rows, threshold=0.7))
    assert policy.contract.memory == ()
    assert policy.contract.provenance["classifier"]["threshold"] == 0.7
    signals = {n: v.numpy() for n, v in env.signals().items()}
    obs, _ = Momentary(env.observer)(env.signals(), {})
    with torch.no_grad():
        wanted = network(obs).numpy()
    np.testing.assert_allclose(policy.act(signals)[OUTPUT], wanted, atol=1e-5)


class Near(nn.Module):
    """Sure within 5 cm of the target, by the observer's target − gripper, which is in units of 10 cm."""

    def __init__(self, where: int) -> None:
        super().__init__()
        self.where = where

    def forward(self, obs):
        return torch.sigmoid(40.0 * (0.5 - obs[:, self.where : self.where + 3].norm(dim=1, keepdim=True)))


def judged_env(tmp_path, num_envs: int = 4, **options):
    env = make_env("panda-reach", num_envs, 0)
    path = tmp_path / "near.onnx"
    if not path.exists():
        write(path, make_env("panda-reach", 1, 0), Near(16), threshold=0.5)
    return JudgedEnv(env, RewardOptions(classifier=str(path), **options)), env


def test_as_a_reward_it_is_one_where_it_says_so_and_ends_the_episode(tmp_path) -> None:
    judged, env = judged_env(tmp_path)
    judged.reset(3)
    seen = 0
    for _ in range(60):
        towards = torch.clamp((env.target_pos - env.ee_pos) / 0.05, -1.0, 1.0)
        step = judged.step(towards)
        solved = (env.final_signals["target_pos_w"] - env.final_signals["ee_pos_w"]).norm(dim=1) < 0.05
        assert torch.equal(step.reward, solved.float())
        assert torch.equal(step.terminated, solved)
        if solved.any():
            rows = solved.nonzero()[:, 0]
            seen += len(rows)
            assert (env.episode_step[rows] == 0).all()
            distance = step.final_obs["policy"][rows, 16:19].norm(dim=1)
            assert (distance < 0.5).all()  # what was judged
            assert not torch.equal(step.obs["policy"][rows], step.final_obs["policy"][rows])
            torch.testing.assert_close(env.signals()["ee_pos_w"][rows], env.ee_pos[rows], atol=0.02, rtol=0.0)
    assert seen >= 8


def test_a_guard_and_a_threshold_hold_it_back(tmp_path) -> None:
    for options in (
        {"threshold": 1.0},
        {"guard": "ee_pos_w", "guard_lower": (9.0, 9.0, 9.0), "guard_upper": (10.0, 10.0, 10.0)},
    ):
        judged, env = judged_env(tmp_path, **options)
        judged.reset(3)
        for _ in range(30):
            assert judged.step(torch.clamp((env.target_pos - env.ee_pos) / 0.05, -1.0, 1.0)).reward.max() == 0.0


def test_what_cannot_judge_is_refused(tmp_path, learnt) -> None:
    judged, _ = judged_env(tmp_path)
    path = judged._guard.classifier
    sparse = make_env("panda-reach", 1, 0, overrides={"reward_kind": "sparse"})
    with pytest.raises(ConfigError, match="leave it at dense"):
        JudgedEnv(sparse, RewardOptions(classifier=path))
    with pytest.raises(ConfigError, match="cannot be ended from outside"):
        JudgedEnv(make_env("quadrotor-hover", 1, 0), RewardOptions(classifier=path))
    with pytest.raises(ConfigError, match="as many numbers"):
        RewardOptions(guard="ee_pos_w", guard_lower=(0.0,))
    wrong, _ = judged_env(tmp_path, guard="ee_pos_w", guard_lower=(0.0,), guard_upper=(1.0,))
    with pytest.raises(ConfigError, match="signals are"):
        wrong.step(torch.zeros(4, 3))
