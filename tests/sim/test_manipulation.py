"""The Panda's tasks: every one built, reset, stepped, resumed; forces, actions, goals, ends, costs, randomisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.registry import names
from robot_rl.safety import SafetyFilter
from robot_rl.sim.articulated.rotations import rotate
from robot_rl.sim.manipulation import scenes, terms
from robot_rl.sim.manipulation.observer import relative_turn
from robot_rl.sim.task_spec import make_env

TASKS = [name for name in names("task") if name.startswith("panda-")]
QUIET: dict[str, Any] = {
    "noise.scale": 0.0, "latency.max": 0.0, "latency.jitter": 0.0, "randomize.friction": (0.0, 0.0),
    "randomize.object_mass": (1.0, 1.0), "randomize.link_mass": (1.0, 1.0), "randomize.stiffness": (1.0, 1.0),
    "randomize.damping": (1.0, 1.0),
}  # fmt: skip


def env_of(task: str, num_envs: int = 4, seed: int = 0, **overrides: Any) -> Any:
    return make_env(task, num_envs, seed, overrides={"threads": 1, **overrides})


def actions(env: Any, steps: int, seed: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, env.num_envs, env.action_dim, generator=g) - 1


def test_all_six_are_there() -> None:
    assert {"panda-reach", "panda-push", "panda-pick", "panda-insert", "panda-drawer", "panda-wipe"} <= set(TASKS)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("task", TASKS)
def test_steps_are_finite_and_shaped_and_determined_by_the_seed(task: str, kind: str) -> None:
    envs = [env_of(task, seed=seed, reward_kind=kind, episode_s=0.4) for seed in (3, 3, 4)]
    for a in actions(envs[0], 14):
        steps = [env.step(a) for env in envs]
        for step in steps:
            assert step.reward.shape == step.terminated.shape == (4,)
            assert step.obs["policy"].shape == (4, envs[0].obs_dims["policy"])
            assert step.obs["critic"].shape == (4, envs[0].obs_dims["critic"])
            assert all(torch.isfinite(x).all() for x in (*step.obs.values(), step.reward, *step.cost.values()))
            assert all((c >= 0).all() for c in step.cost.values())
            assert set(step.cost) == {"force", "joint_speed", "workspace"}
    assert torch.equal(steps[0].obs["critic"], steps[1].obs["critic"])
    assert not torch.equal(steps[0].obs["policy"], steps[2].obs["policy"])
    assert set(envs[0].signals()) == {s.name for s in envs[0].task.signals}
    assert all(envs[0].signals()[s.name].shape == (4, *s.shape) for s in envs[0].task.signals)


@pytest.mark.parametrize("task", TASKS)
def test_resumed_environment_goes_on_bit_for_bit(task: str) -> None:
    env = env_of(task, episode_s=0.4)
    plan = actions(env, 24)
    for a in plan[:12]:
        env.step(a)
    copy = env_of(task, seed=9, episode_s=0.4)
    copy.load_state_dict(env.state_dict())
    for a in plan[12:]:
        x, y = env.step(a), copy.step(a)
        assert all(torch.equal(x.obs[k], y.obs[k]) for k in x.obs)
        assert torch.equal(x.reward, y.reward) and torch.equal(x.truncated, y.truncated)


def test_actions_move_the_gripper_along_the_axes_and_turn_it() -> None:
    for axis in range(3):
        env = env_of("panda-pick", 1, **QUIET)
        start = env.ee_pos.clone()
        for _ in range(8):
            env.step(torch.eye(5)[[axis]])
        moved = (env.ee_pos - start)[0]
        assert moved[axis] > 0.05 and moved.abs().sum() - moved[axis] < 0.4 * moved[axis]
    env = env_of("panda-pick", 1, **QUIET)
    for _ in range(12):
        env.step(torch.tensor([[0.0, 0.0, 0.0, 1.0, -1.0]]))
    heading = rotate(env.sensor("ee_quat"), torch.tensor([[1.0, 0.0, 0.0]]))[0]
    assert heading[1] > 0.25 and heading[2].abs() < 0.05
    assert env.gripper_width < 0.01


def test_commands_get_through_as_the_safety_filter_in_front_of_a_robot_lets_them() -> None:
    """The same bounds as those of the supervisor, so that a policy is trained on the robot that it will meet."""
    env = env_of("panda-pick", 1, **QUIET)
    env.reset(0)
    safety, told, rng = SafetyFilter(env.task.commands), [], np.random.default_rng(0)
    held = env.held_commands(torch.tensor([0]))
    safety.reset({name: value[0].numpy() for name, value in held.items()})
    move = env._move
    env._move = lambda target: (told.append(target[0].numpy().copy()), move(target))
    for _ in range(20):
        asked = {c.name: rng.uniform(-4.0, 4.0, len(c.elements)).astype(np.float32) for c in env.task.commands}
        env.step_command({name: torch.tensor(value)[None] for name, value in asked.items()})
        through = safety.apply(asked, env.control_dt).command
        np.testing.assert_allclose(told[-1][:7], through["joint_pos_target"], atol=1e-6)
        np.testing.assert_allclose(told[-1][7:].sum(), through["gripper_width_target"][0], atol=1e-6)


def test_the_gripper_stays_above_the_table_and_presses_with_bounded_force() -> None:
    env = env_of("panda-pick", 2, **QUIET, episode_s=10.0)
    for _ in range(50):
        step = env.step(torch.tensor([[0.3, 0.0, -1.0, 0.0, 1.0]] * 2))
    assert (env.ee_pos[:, 2] > 0.01).all() and not step.terminated.any()


def test_wrist_force_is_what_the_world_exerts() -> None:
    """Free motion is felt as nothing; a weight that hangs on the hand as its weight."""
    env = env_of("panda-reach", 2, **QUIET, episode_s=10.0)
    for a in actions(env, 25):
        env.step(a)
        assert env.force.norm(dim=1).max() < 6.0  # the wrist itself bears more than 7 N
    hand = env.model.body("hand").id
    down = torch.tensor([[0.0, 0.0, -10.0], [0.0, 0.0, 0.0]])
    env.physics.apply(hand, down, torch.zeros(2, 3))
    for _ in range(40):
        env.step(torch.zeros(2, 3))
    felt = rotate(env.sensor("ee_quat"), env.force)
    assert torch.allclose(felt, down, atol=1.0)


def test_success_must_last_and_with_a_sparse_reward_ends_the_episode_with_one() -> None:
    env = env_of("panda-reach", 3, **QUIET, reward_kind="sparse", hold_s=0.2, start_noise=0.0)
    total, ended = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    for _ in range(40):
        s = env.signals()
        step = env.step(20.0 * (s["target_pos_w"] - s["ee_pos_w"]))
        total += torch.where(ended, 0.0, step.reward)
        ended |= step.terminated
        assert torch.equal(step.reward > 0, step.terminated)
    assert ended.all() and torch.equal(total, torch.ones(3))


def test_dense_rewards_rise_towards_the_goal() -> None:
    near = terms.near(torch.tensor([0.0, 0.05, 0.2, 1.0]), 0.1)
    assert near[0] == 1.0 and (near[:-1] > near[1:]).all()
    assert terms.band(torch.tensor([0.0, 4.0, 10.0, 20.0]), 5.0, 15.0, 5.0).tolist() == pytest.approx([0, 0.8, 1, 0])
    env = env_of("panda-reach", 1, **QUIET, start_noise=0.0)
    env.target_pos = env.ee_pos + torch.tensor([[0.0, 0.2, 0.0]])
    rewards = [env.step(torch.tensor([[0.0, 1.0, 0.0]])).reward.item() for _ in range(8)]
    assert rewards[-1] > rewards[1] + 0.05


def test_readiness_to_push_is_measured_to_a_strip_behind_the_object_and_from_elsewhere_to_its_far_end() -> None:
    cube, goal, ends = torch.tensor([[0.5, 0.0, 0.02]]), torch.tensor([[0.6, 0.0, 0.02]]), (0.02, 0.06, 0.02)

    def off(x: float, y: float, z: float) -> float:
        return terms.off_push(cube + torch.tensor([[x, y, z]]), cube, goal, *ends).item()

    assert [off(x, 0.0, 0.0) for x in (-0.02, -0.04, -0.06)] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert off(-0.1, 0.0, 0.0) == pytest.approx(0.04) and off(-0.06, 0.0, 0.03) == pytest.approx(0.03)
    around = [off(0.06 * math.cos(a), 0.06 * math.sin(a), 0.0) for a in (1.0, 2.0, 3.0, 3.14)]
    assert around == pytest.approx([0.06 * (math.pi - a) for a in (1.0, 2.0, 3.0, 3.14)], abs=1e-5)
    for x, y, z in (
        (-0.02, 0.03, 0.0),
        (0.0, -0.04, 0.0),
        (-0.03, 0.0, 0.03),
    ):  # against the object: away from it first
        assert off(1.2 * x, 1.2 * y, z) < off(x, y, z)


def test_fingers_that_are_not_around_the_object_should_be_open() -> None:
    distance, width = torch.tensor([0.1, 0.1, 0.03, 0.01, 0.01]), torch.tensor([0.08, 0.0, 0.04, 0.04, 0.08])
    off = terms.off_grasp(distance, width, 0.022, 0.07)
    assert off.tolist() == pytest.approx([0.1, 0.31, 0.12, 0.01, 0.01])


def test_a_lost_object_and_too_much_force_end_the_episode() -> None:
    env = env_of("panda-push", 2, **QUIET, auto_reset=False)
    qpos, start = env.physics.qpos.clone(), int(env.model.joint("object_free").qposadr[0])
    qpos[0, start] += 1.0
    env.physics.set_state(torch.arange(2), qpos, torch.zeros(2, env.model.nv))
    step = env.step(torch.zeros(2, 3))
    assert step.terminated.tolist() == [True, False] and step.reward[0] < step.reward[1] - 1.5
    env = env_of("panda-reach", 2, **QUIET, auto_reset=False, too_much=15.0)
    push = torch.tensor([[0.0, 30.0, 0.0], [0.0, 5.0, 0.0]])
    env.physics.apply(env.model.body("hand").id, push, torch.zeros(2, 3))
    for _ in range(5):
        step = env.step(torch.zeros(2, 3))
    assert step.terminated.tolist() == [True, False]


def test_objects_differ_between_simulations_and_the_robot_does_too() -> None:
    env = env_of("panda-pick", 16)
    fields = env.physics.state_dict()["fields"]
    mass = fields["body_mass"][:, env.model.body("object").id] / scenes.CUBE_MASS
    assert mass.min() >= 0.5 and mass.max() <= 2.0 and mass.unique().numel() == 16
    friction = fields["geom_friction"][:, env.physics.model.geom("object").id, 0]
    assert friction.min() >= 0.6 and friction.max() <= 1.2 and friction.unique().numel() == 16
    assert env.gains.kp[:, 0].unique().numel() == 16
    seen = env.signals()["object_pos_w"] - env.object_pos
    assert 0 < seen.abs().max() < 0.03
    lying = env.object_pos
    assert (lying[:, 0] - 0.5).abs().max() <= 0.1 and (lying[:, 1]).abs().max() <= 0.15


def test_fixtures_stand_elsewhere_in_every_simulation_and_the_peg_fits_its_hole() -> None:
    env = env_of("panda-insert", 8, **QUIET)
    fields = env.physics.state_dict()["fields"]
    body = env.model.body(scenes.FIXTURE).id
    assert torch.allclose(fields["body_pos"][:, body].float(), env.fixture_pos)
    assert env.fixture_pos[:, 0].unique().numel() == 8
    assert torch.allclose(env.target_pos[:, :2], env.fixture_pos[:, :2])
    inner = [env.model.geom(f"hole_{side}") for side in ("front", "back", "left", "right")]
    gap = min(abs(float(g.pos[i])) - float(g.size[i]) for g, i in zip(inner, (0, 0, 1, 1), strict=True))
    assert 2 * gap - 2 * scenes.PEG_HALF == pytest.approx(scenes.HOLE_CLEARANCE)
    for _ in range(30):  # the peg is held
        env.step(torch.zeros(8, 4))
    assert (env.object_pos - env.ee_pos).norm(dim=1).max() < scenes.PEG_BELOW + 0.005


def test_angle_of_the_object_is_seen_with_its_symmetry() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0]] * 3)
    angle = torch.tensor([0.3, 0.3 + torch.pi / 2, 0.3 + torch.pi])
    heading = torch.stack([torch.cos(angle), torch.sin(angle), 0 * angle], dim=1)
    four, two, one = (relative_turn(heading, x, fold) for fold in (4, 2, 1))
    assert torch.allclose(four[0], torch.tensor([1.2]).cos().new_tensor([0.3624, 0.9320]), atol=1e-3)
    assert torch.allclose(four, four[:1].expand(3, 2), atol=1e-5)
    assert torch.allclose(two[0], two[2], atol=1e-5) and torch.allclose(two[0], -two[1], atol=1e-5)
    assert torch.allclose(one[0], -one[2], atol=1e-5)
    wrapped = terms.symmetric_angle(angle, 4)
    assert torch.allclose(wrapped, torch.full((3,), 0.3), atol=1e-5)


def test_wrong_options_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"'shaped'; allowed: 'dense', 'sparse'"):
        env_of("panda-reach", reward_kind="shaped")
    with pytest.raises(ConfigError, match="half-widths"):
        env_of("panda-reach", goal_area=(-0.1, 0.1))
    with pytest.raises(ConfigError, match=r"no camera \['side'\]; the scene has"):
        env_of("panda-reach", **{"camera.size": 84, "camera.names": ("side",)})


def test_the_peg_is_seen_to_the_millimetre_and_the_degree() -> None:
    env = env_of("panda-insert", 1, **QUIET)
    env.reset(0)
    straight = {name: value.clone() for name, value in env.signals().items()}
    straight["object_quat_wxyz"] = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    shifted = straight | {"object_pos_w": straight["target_pos_w"] + torch.tensor([[0.001, 0.0, 0.0]])}
    centred = straight | {"object_pos_w": straight["target_pos_w"].clone()}
    tilted = centred | {"object_quat_wxyz": torch.tensor([[math.cos(0.01), 0.0, math.sin(0.01), 0.0]])}
    memory = {m.name: torch.tensor([m.initial]) for m in env.observer.memory}
    a, b, c = (env.observer(s, memory)[0] for s in (centred, shifted, tilted))
    assert (b - a).abs().max().item() == pytest.approx(math.tanh(0.25), abs=1e-4)  # 1 mm of 4 mm
    assert (c - a).abs().max().item() == pytest.approx(math.tanh(math.sin(0.02) / 0.05), abs=1e-4)  # 0.02 rad
