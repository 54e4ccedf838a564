"""Refining a frozen policy: its actions, what is learnt on top, the one file that comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slot_task import BIAS, RATE, Moves, Sees, SlotEnv, expert, write_base, write_demos

from robot_rl.data.episode import DataSpec, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, ExportError
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.algorithms.resfit import ResFit, ResFitConfig
from robot_rl.policies.algorithms.rlpd import RlpdConfig
from robot_rl.policies.demonstrations import chosen_episodes
from robot_rl.policies.export import export_policy
from robot_rl.policies.off_policy.demos import demo_replay, read_demos
from robot_rl.policies.proposals import Proposer
from robot_rl.policies.residual.actor import limited
from robot_rl.policies.residual.base import FrozenBase, label
from robot_rl.policies.residual.base_env import BaseActionEnv
from robot_rl.policies.runner import RunInfo, train
from robot_rl.policy import Policy

QUICK = {
    "num_envs": 4, "warmup_steps": 800, "critic_updates": 400, "batch_size": 64, "updates_per_step": 4, "heads": 3,
    "actor_hidden": (32, 32), "critic_hidden": (32, 32), "actor_learning_rate": 3e-4, "critic_learning_rate": 1e-3,
    "polyak": 0.02, "steps_per_iteration": 25, "scale": 0.3, "exploration": 0.1, "warmup_noise": 0.2,
    "correction_cost": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slot")
    return {"base": str(write_base(folder / "base.onnx")), "demos": str(write_demos(folder / "demos.rrl"))}


def success(act, episodes: int = 200) -> float:
    """Share of first episodes that end in the slot; `act` takes signals of all and rows that begin anew."""
    env = SlotEnv(episodes)
    env.reset(77)
    solved = over = torch.zeros(episodes, dtype=torch.bool)
    for _ in range(env.max_episode_steps):
        step = env.step(act({name: value.numpy() for name, value in env.signals().items()}))
        solved = solved | (step.terminated & ~over)
        over = over | step.terminated | step.truncated
    return solved.float().mean().item()


def played(path) -> float:
    policy = Policy.load(path, num_envs=200)
    return success(lambda signals: torch.from_numpy(policy.act(signals)["velocity"]) / 2.0)


def learner(files, steps: int, seed: int = 0, **changes) -> tuple[ResFit, SlotEnv]:
    env = SlotEnv(QUICK["num_envs"])
    learned = ResFit(env, ResFitConfig(total_steps=steps, **(QUICK | files | changes)), seed)
    learned.prepare(env)
    while learned.progress[0] < learned.progress[1]:
        learned.step(env)
    return learned, env


def write_refined(path, learned: ResFit):
    env, steps = SlotEnv(), []
    env.reset(1)
    for _ in range(20):
        steps.append({name: value[0].numpy() for name, value in env.signals().items()})
        env.step(expert(env.signals()))
    return export_policy(
        path, observer=Sees(), actor=learned.policy(), action_map=Moves(), task="slot", robot="point", rate=RATE,
        example_signals=steps,
    )  # fmt: skip


def test_a_batch_of_plans_is_each_robot_by_itself_and_begins_anew_with_its_episode(files):
    envs = SlotEnv(3)
    envs.reset(0)
    together = Proposer(envs, Policy.load(files["base"]))
    alone = [Proposer(envs, Policy.load(files["base"]), num_envs=1) for _ in range(3)]
    for t in range(7):
        signals = {name: value.numpy() for name, value in envs.signals().items()}
        action = together.propose(signals)
        for i, one in enumerate(alone):
            np.testing.assert_allclose(action[i], one.propose({n: v[i : i + 1] for n, v in signals.items()})[0])
            one.executed(torch.from_numpy(action[i : i + 1]))
        together.executed(torch.from_numpy(action))
        envs.step(torch.from_numpy(action))
        if t == 3:
            together.reset(torch.tensor([1]))
            alone[1].reset()
    assert together.source == "previous_action"


def test_the_inverse_of_the_action_map_finds_what_a_policy_does_not_say(files):
    env = SlotEnv(2, invertible=True)
    env.reset(0)

    class Controller:
        def reset(self, num_envs: int = 1) -> None: ...

        def act(self, signals, instruction=None):
            return {"velocity": 2.0 * expert(signals).numpy()}

    proposer = Proposer(env, Controller)
    signals = {name: value.numpy() for name, value in env.signals().items()}
    np.testing.assert_allclose(proposer.propose(signals), expert(signals), atol=1e-6)
    assert proposer.source == "inverse"
    with pytest.raises(ConfigError, match="no inverse"):
        Proposer(SlotEnv(2), Controller).propose(signals)


def test_the_base_is_asked_in_the_last_state_and_again_in_the_first(files):
    env = SlotEnv(5)
    world = BaseActionEnv(env)
    world.proposer = FrozenBase.read(files["base"]).proposer(env)
    obs, ended = world.reset(0), 0
    for _ in range(60):
        step = world.step(obs["base"])
        done = step.terminated | step.truncated
        fresh = torch.clamp(5.0 * (env.slot - env.pos) + BIAS, -1.0, 1.0)  # the first of a new plan
        torch.testing.assert_close(step.obs["base"][done], fresh[done])
        assert (step.obs["base"][~done] == step.final_obs["base"][~done]).all()
        ended += int((step.final_obs["base"][done] != step.obs["base"][done]).any())
        obs = step.obs
    assert ended > 0


def test_demonstrations_are_labelled_with_fresh_answers(files):
    env = SlotEnv()
    proposer = FrozenBase.read(files["base"]).proposer(env, 1)
    wanted = {"action": (2,), "obs/point_pos": (2,), "obs/slot_pos": (2,)}
    for episode in label(chosen_episodes(files["demos"], wanted), proposer, Sees.signals):
        missing = episode.arrays["obs/slot_pos"] - episode.arrays["obs/point_pos"]
        expected = np.clip(5.0 * missing + BIAS.numpy(), -1.0, 1.0)
        np.testing.assert_allclose(episode.arrays["obs/base"], expected, atol=1e-6)


def test_demonstrations_become_windows_that_end_with_their_episodes(files):
    config = RlpdConfig(demos=files["demos"], demo_episodes=3)
    dims = {"policy": 4, "critic": 2}
    episodes = read_demos(config, dims, 2)
    replay = demo_replay(episodes, dims, torch.device("cpu"))
    assert len(replay) == sum(map(len, episodes))
    batch, row = replay.windows(torch.arange(len(replay)), 3, 0.9), 0
    for episode in episodes:
        for t in range(len(episode)):
            within = min(3, len(episode) - t)
            rewards = episode.arrays["reward"][t : t + within]
            assert batch.reward[row].item() == pytest.approx(sum(0.9**k * r for k, r in enumerate(rewards)))
            ends = t + within == len(episode)
            assert batch.discount[row].item() == pytest.approx(0.0 if ends else 0.9**within)
            if not ends:
                np.testing.assert_array_equal(batch.next_obs["critic"][row], episode.arrays["obs/critic"][t + within])
            row += 1


def test_judged_rewards_come_from_success_alone(files):
    episodes = read_demos(RlpdConfig(demos=files["demos"], demo_reward="success"), {"policy": 4, "critic": 2}, 2)
    assert all(e.terminated and e.arrays["reward"][-1] == 1.0 and not e.arrays["reward"][:-1].any() for e in episodes)


def test_an_untrained_correction_leaves_the_base_as_it_is(files, tmp_path):
    learned, _ = learner(files, 100, warmup_steps=1000)
    path = write_refined(tmp_path / "refined.onnx", learned)
    refined, base = Policy.load(path, num_envs=50), Policy.load(files["base"], num_envs=50)
    env = SlotEnv(50)
    env.reset(3)
    for _ in range(20):
        signals = {name: value.numpy() for name, value in env.signals().items()}
        mine, theirs = refined.act(signals)["velocity"], base.act(signals)["velocity"]
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        env.pos = env.pos + 0.05 * torch.from_numpy(mine)
    assert refined.contract.composition.kind == "residual"
    assert refined.contract.composition.over_sha256 == base.contract.graph_sha256


def test_what_fails_nearly_always_succeeds_after_refining_and_never_leaves_its_bounds(files, tmp_path):
    before = played(files["base"])
    learned, _ = learner(files, 6000)
    path = write_refined(tmp_path / "refined.onnx", learned)
    assert before < 0.3 < 0.85 < played(path)
    obs, base = 3.0 * torch.randn(500, 4), torch.rand(500, 2) * 2 - 1
    away = (learned.policy()(obs, base) - base).abs()
    assert (away <= learned.config.scale * learned.reach + 1e-6).all()


def test_no_correction_is_the_base_beyond_what_was_demonstrated_and_none_leads_out_of_it():
    middle, room = torch.zeros(2), torch.full((2,), 0.3)
    base = torch.tensor([[0.9, -0.7], [0.1, 0.2], [0.9, 0.0]])
    torch.testing.assert_close(limited(base, torch.zeros(3, 2), middle, room), base)
    change = torch.tensor([[0.2, -0.2], [0.4, -0.1], [-0.2, 0.1]])
    expected = torch.tensor([[0.9, -0.7], [0.3, 0.1], [0.7, 0.1]])
    torch.testing.assert_close(limited(base, change, middle, room), expected)


def test_critics_see_corrections_in_units_of_their_bound(files):
    learned, _ = learner(files, 40, warmup_steps=1000)
    c, base = learned.config, torch.tensor([[0.2, -0.1], [0.0, 0.0]])
    seen = torch.cat((torch.randn(2, 4), base), 1)
    change = torch.tensor([[0.5, -1.0], [0.0, 9.0]])
    action = base + c.scale * learned.reach * change
    expected = torch.cat((seen[:, :4], action, change.clamp(max=3.0)), 1)
    torch.testing.assert_close(learned._judged(seen, action), expected)
    assert c.critic_group == "policy"
    assert learned._judged_width() == expected.shape[1]


def test_noise_has_many_sizes(files):
    learned, _ = learner(files, 40, warmup_steps=1000)
    sizes = learned._draw_boldness(4000).log10()
    assert -1.302 < sizes.min() < -1.28 < -0.02 < sizes.max() <= 0.0
    assert sizes.median().item() == pytest.approx(-0.65, abs=0.05)  # in the middle of the decades


def test_progressive_exploration_begins_with_the_base_alone(files):
    learned, _ = learner(files, 1200, progressive_steps=10**6)
    corrected = learned.corrected.float().mean().item()
    assert corrected < 0.5
    assert bool(learner(files, 1200)[0].corrected.all())


def test_rlpd_learns_the_same_from_demonstrations(files):
    env, spec = SlotEnv(4), load_algorithm("rlpd")
    own = ("critic_updates", "scale", "exploration", "warmup_noise", "correction_cost")
    quick = {k: v for k, v in QUICK.items() if k not in own} | {"temperature": 0.02}
    learned = spec.create(env, RlpdConfig(total_steps=6000, demos=files["demos"], **quick), 0)
    learned.prepare(env)
    while learned.progress[0] < learned.progress[1]:
        learned.step(env)
    policy, seen = learned.policy(), Sees()
    memory = {"previous_action": torch.zeros(200, 2)}

    def act(signals):
        nonlocal memory
        obs, memory = seen({n: torch.from_numpy(v) for n, v in signals.items()}, memory)
        action = policy(obs)
        memory = seen.record(memory, action)
        return action

    assert success(act) > 0.7


def test_a_resumed_run_is_the_same_run_and_needs_no_other_file(files, tmp_path):
    spec, config = load_algorithm("resfit"), ResFitConfig(total_steps=1600, **(QUICK | files))
    whole = train(spec, SlotEnv(4), tmp_path / "whole", config, info=RunInfo("slot"))
    half = spec.create(SlotEnv(4), config, 0)
    half.prepare(half.world.env)
    for _ in range(14):
        half.step(half.world.env)
    again = spec.create(SlotEnv(4), config, 0)
    again.prepare(again.world.env)
    again.load_state_dict(half.state_dict())
    again.world.env.load_state_dict(half.world.env.state_dict())
    while again.progress[0] < again.progress[1]:
        again.step(again.world.env)
    for a, b in zip(whole.algorithm.actor.parameters(), again.actor.parameters(), strict=True):
        assert torch.equal(a, b)
    bare = spec.create(SlotEnv(1), ResFitConfig(**QUICK | {"num_envs": 1}), 0)
    with pytest.raises(ConfigError, match="no base policy"):
        bare.policy()


def test_what_cannot_be_refined_is_refused(files, tmp_path):
    env = SlotEnv(4)

    def prepared(**changes):
        ResFit(env, ResFitConfig(**(QUICK | files | changes)), 0).prepare(env)

    with pytest.raises(ConfigError, match="which policy is to be refined"):
        prepared(base="")
    with pytest.raises(ConfigError, match="no policy file 'nothing"):
        prepared(base="nothing.onnx")
    spec = DataSpec(0.1, {"obs/policy": Feature(shape=(4,)), "action": Feature(shape=(2,))})
    EpisodeStore.create(tmp_path / "thin.rrl", spec).close()
    with pytest.raises(ConfigError, match="'obs/critic' is missing"):
        prepared(demos=str(tmp_path / "thin.rrl"))
    slow = SlotEnv(4)
    slow.control_dt = 0.2
    with pytest.raises(ConfigError, match="may be called every"):
        ResFit(slow, ResFitConfig(**(QUICK | files)), 0).prepare(slow)
    with pytest.raises(ConfigError, match="scale"):
        ResFitConfig(scale=-1.0)


def test_a_controller_in_python_cannot_be_put_into_a_file(files):
    from robot_rl.policies.residual.actor import ResidualActor
    from robot_rl.policies.residual.refined import deployed_policy

    network = torch.nn.Linear(6, 2)
    actor = ResidualActor(network, None, FrozenBase("base:lee", b""), "said", torch.zeros(2), torch.ones(2), 0.1)
    with pytest.raises(ExportError, match="controller in Python"):
        deployed_policy(Sees(), actor, Moves())
