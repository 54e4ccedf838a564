"""Turning a cube in the hand: goals, drops, rewards, held targets, the tracker's errors, resume."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.sim.articulated import rotations
from robot_rl.sim.hand import terms
from robot_rl.sim.hand.observer import edges
from robot_rl.sim.hand.reorient_env import _flat_orientations
from robot_rl.sim.robots.leap import HOME, LOWER, UPPER
from robot_rl.sim.task_spec import make_env

TASK = "leap-reorient"
QUIET = {
    "noise.scale": 0.0, "randomize.friction": (0.0, 0.0), "randomize.object_mass": (1.0, 1.0),
    "randomize.object_com": (0.0, 0.0), "randomize.link_mass": (1.0, 1.0), "randomize.stiffness": (1.0, 1.0),
    "randomize.damping": (1.0, 1.0), "randomize.armature": (1.0, 1.0), "randomize.dry_friction": (1.0, 1.0),
    "randomize.joint_offset": (0.0, 0.0),
}  # fmt: skip


def env_of(num_envs: int = 4, seed: int = 0, **overrides: Any) -> Any:
    return make_env(TASK, num_envs, seed, overrides={"threads": 1, **overrides})


def quiet(num_envs: int = 4, **overrides: Any) -> Any:
    return env_of(num_envs, **{**QUIET, **overrides})


def actions(env: Any, steps: int, seed: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(steps, env.num_envs, env.action_dim, generator=g)


def idle(env: Any) -> torch.Tensor:
    return torch.zeros(env.num_envs, env.action_dim)


def place(env: Any, pos: torch.Tensor, quat: torch.Tensor) -> None:
    """Put the cube of every simulation there, at rest."""
    qpos = env.physics.qpos.clone()
    qpos[:, env._object_q] = torch.cat([pos, quat], dim=1)
    env.physics.set_state(torch.arange(env.num_envs), qpos, torch.zeros(env.num_envs, env.model.nv))


def test_cube_rests_in_the_palm_without_action() -> None:
    env = env_of(24, goal_s=0.0)
    for _ in range(40):
        step = env.step(idle(env))
        assert not step.terminated.any()
    assert float(env.physics.qvel[:, env._object_v].abs().max()) < 0.2
    assert float((env.object_pos - env._palm_pos).norm(dim=1).max()) < 0.03
    assert env.touching().shape == (24, 4) and set(step.obs) == {"policy", "critic"}
    assert all(torch.isfinite(v).all() and v.shape == (24, env.obs_dims[k]) for k, v in step.obs.items())
    assert float(env.signals()["object_pos_w"].sub(env.object_pos).abs().max()) <= 0.02 + 1e-6


def test_a_reached_goal_counts_pays_and_gives_way_to_the_next() -> None:
    env = quiet(3, **{"goal_turn": (0.8, 0.8)})
    for _ in range(10):
        env.step(idle(env))
    goal, lying = env.goal.clone(), env.object_quat.clone()
    assert float((rotations.angle_between(goal[1:], lying[1:]) - 0.8).abs().max()) < 0.4  # it has settled since
    env.goal[0] = lying[0]
    before = rotations.angle_between(lying, goal)[0]
    step = env.step(idle(env))
    assert env.reached.tolist() == [True, False, False] and env.successes.tolist() == [1, 0, 0]
    assert float(rotations.angle_between(env.goal[0], lying[0])) == pytest.approx(0.8, abs=1e-3)
    assert torch.equal(env.goal[1:], goal[1:]) and env.goal_age.tolist() == [0, 11, 11]
    assert float(step.reward[0] - step.reward[1]) > env.options.reward.success - 1.0 and float(before) > 0.3
    assert torch.equal(env.signals()["target_quat_wxyz"], env.goal)
    assert float(step.log["successes"]) == pytest.approx(1 / 3 / 0.05)
    assert env.succeeded().tolist() == [True, False, False]
    assert torch.allclose(env.goal_pose()[:, 3:], env.goal)
    env.step(idle(env))
    assert env.successes.tolist() == [1, 0, 0] and float(env.approached[0].abs()) < 0.05  # no credit for the new goal


def test_consecutive_successes_of_ended_episodes_are_told() -> None:
    env = quiet(2, episode_s=0.5)
    env.goal[0] = env.object_quat[0]
    env.successes[1] = 4
    steps = [env.step(idle(env)) for _ in range(11)]
    assert "episode/successes" not in steps[8].log
    told = env.last_successes.tolist()
    assert told[0] >= 0 and told[1] >= 4
    assert float(steps[10].log["episode/successes"]) == pytest.approx(sum(told) / 2)
    env.reset(1)
    assert env.last_successes.tolist() == [-1, -1] and env.successes.tolist() == [0, 0]


def test_a_drop_ends_the_episode_and_costs() -> None:
    env = quiet(2, auto_reset=False)
    env.step(idle(env))
    away = env.object_pos.clone()
    away[0] += torch.tensor([0.0, 0.3, -0.1])
    place(env, away, env.object_quat.clone())
    step = env.step(idle(env))
    assert step.terminated.tolist() == [True, False] and step.cost["drop"].tolist() == [1.0, 0.0]
    assert float(step.reward[0]) == pytest.approx(env.options.reward.drop, abs=0.1) and float(step.reward[1]) > -0.1
    for _ in range(40):
        env.step(idle(env))
    assert float(env.object_pos[0, 2]) > 0.0, "the floor holds it"


def test_a_goal_that_is_not_reached_in_time_ends_the_episode() -> None:
    env = quiet(2, goal_s=0.2, **{"goal_turn": (2.0, 2.0)})
    ends = [env.step(idle(env)).terminated.all() for _ in range(4)]
    assert ends == [False, False, False, True]
    assert (env.episode_step == 0).all()


def test_a_goal_can_be_set_from_outside() -> None:
    env = quiet(2)
    env.step(idle(env))
    env.set_goal_pose(torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]))
    assert env.goal.tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2 and env.goal_age.tolist() == [0, 0]
    assert torch.allclose(env.next_angle, rotations.angle_between(env.object_quat, env.goal))


def test_reward_terms_by_hand() -> None:
    t = torch.tensor
    assert torch.allclose(terms.orientation(t([0.0, 0.2, 0.2 + math.pi / 2, math.pi])), t([1, 1, 0.5, 0.2 / math.pi]))
    assert torch.allclose(terms.position(t([0.0, 0.02, 0.045, 0.07, 1.0])), t([1, 1, 0.5, 0, 0]), atol=1e-6)
    assert torch.allclose(terms.progress(t([1.0]), t([0.7])), t([0.3]))
    assert float(terms.pose(t([[1.0, 2.0]]), t([0.5, 0.0]))) == pytest.approx(4.25)
    rate = terms.action_rate(t([[1.0, 0.0]]), t([[0.5, 0.0]]), t([[0.5, 1.0]]))
    assert float(rate) == pytest.approx(0.25 + 0.25 + 1.0)  # (1 − .5)²; (1 − 2·.5 + .5)² and (0 − 0 + 1)²
    assert float(terms.energy(t([[1.0, -2.0]]), t([[-3.0, 0.5]]))) == pytest.approx(4.0)


def test_reward_is_the_weighted_sum_of_its_terms() -> None:
    env = quiet(8)
    for a in actions(env, 12):
        step = env.step(a)
        o, dt = env.options.reward, 0.05
        wanted = dt * (
            o.orientation * terms.orientation(env.angle)
            + o.position * terms.position((env.object_pos - env._palm_pos).norm(dim=1))
            + o.pose * (env.joint_pos - torch.tensor(HOME)).square().sum(1)
            + o.action_rate * terms.action_rate(env.action, env.previous_action, env.action_before)
            + o.energy * (env.drive_torque() * env.joint_vel).abs().sum(1)
        )
        wanted = wanted + o.progress * env.approached + o.success * env.reached
        assert torch.allclose(step.reward, wanted, atol=1e-5) and not step.terminated.any()
        assert torch.equal(env.action, a.clamp(-1, 1))


def test_actions_move_held_targets_within_limits_and_no_faster_than_the_joints_can() -> None:
    env = quiet(1, goal_s=0.0)
    env.step(torch.full((1, 16), 0.5))
    moved = 0.5 * min(0.5, 8.48 * 0.05)
    assert torch.allclose(env.target, torch.tensor(HOME)[None] + moved, atol=1e-6)
    env.step(idle(env))
    assert torch.allclose(env.target, torch.tensor(HOME)[None] + moved, atol=1e-6), "held without action"
    env.observer.record(env._memory, torch.ones(1, 16))
    assert torch.allclose(env._memory["joint_pos_target"], env.target), "record changes nothing in place"
    memory = env._memory
    for _ in range(20):
        memory = env.observer.record(memory, torch.full((1, 16), -1.0))
    assert torch.allclose(memory["joint_pos_target"][0], torch.tensor(LOWER))
    assert (memory["joint_pos_target"][0] < torch.tensor(UPPER)).all()


def test_policy_with_its_own_memory_does_what_the_environment_does() -> None:
    """observer → network → targets as exported: a pure function of signals and memory."""
    torch.manual_seed(0)
    one, two = env_of(3), env_of(3)
    actor = torch.nn.Sequential(torch.nn.Linear(one.obs_dims["policy"], 16), torch.nn.Tanh())
    policy = DeployedPolicy(one.observer, actor, one.action_map)
    memory = {m.name: torch.tensor(m.initial).reshape(1, *m.shape).repeat(3, 1) for m in policy.memory}
    obs = one.signals(), one._policy_obs
    with torch.no_grad():
        for _ in range(8):
            step = one.step(actor(obs[1]))
            obs = one.signals(), step.obs["policy"]
            commands, memory = policy(two.signals(), memory)
            by_name = two.step_command(commands)
            assert not step.terminated.any() and torch.equal(step.terminated, by_name.terminated)
            assert torch.equal(one.physics.qpos, two.physics.qpos) and torch.equal(one.target, two.target)
    assert {s.name for s in policy.signals} == {s.name for s in one.task.signals}


def test_edges_look_alike_for_cubes_that_do() -> None:
    g = torch.Generator().manual_seed(0)
    quat, flat = rotations.random_quat((20,), g), torch.tensor(_flat_orientations())
    seen = torch.stack([edges(rotations.quat_mul(quat, f.expand(20, 4))) for f in flat])
    assert torch.allclose(seen, seen[:1].expand_as(seen), atol=1e-5)
    one = [rotations.angle_between(flat[:1].expand(23, 4), flat[1:])]
    assert float(torch.cat(one).min()) > 1.5, "24 different ones"
    axis = torch.nn.functional.normalize(torch.randn(20, 3, generator=g), dim=1)
    turned = rotations.quat_mul(rotations.about(axis, torch.full((20,), 0.3)), quat)
    assert float((edges(turned) - edges(quat)).norm(dim=1).min()) > 0.1


def test_tracker_is_late_and_loses_samples() -> None:
    late = quiet(2, **{"noise.object_latency": (0.1, 0.1)})
    poses = [torch.cat([late.object_pos, late.object_quat], dim=1)]
    for a in actions(late, 8):
        late.step(a)
        poses.append(torch.cat([late.object_pos, late.object_quat], dim=1))
    seen = torch.cat([late.signals()[n] for n in ("object_pos_w", "object_quat_wxyz")], dim=1)
    old = [float((seen - pose).abs().max()) for pose in poses]
    assert int(torch.tensor(old).argmin()) == len(poses) - 3 and min(old) < 1e-6, "two control steps late"
    lossy, repeated = quiet(50, **{"noise.object_dropout": 0.5, "noise.scale": 1.0}), []
    for a in actions(lossy, 6):
        before = lossy.signals()["object_pos_w"].clone()
        lossy.step(a)
        repeated.append((lossy.signals()["object_pos_w"] == before).all(1).float().mean())
    assert 0.35 < float(torch.stack(repeated).mean()) < 0.65


def test_every_simulation_has_its_own_cube_and_hand() -> None:
    env = env_of(32)
    fields, cube = env.physics.state_dict()["fields"], env.model.body("object").id
    mass = fields["body_mass"][:, cube] / 0.108
    assert float(mass.min()) >= 0.8 and float(mass.max()) <= 1.2 and mass.unique().numel() == 32
    com = fields["body_ipos"][:, cube]
    assert 0.003 < float(com.abs().max()) <= 0.005
    tips = fields["geom_friction"][:, [env.physics.model.geom(t).id for t in env.robot.feet], 0]
    assert float(tips.min()) >= 0.5 and float(tips.max()) <= 1.0 and (tips == tips[:, :1]).all()
    gain = fields["actuator_gainprm"][:, :, 0] / 3.0
    assert float(gain.min()) >= 0.8 - 1e-6 and float(gain.max()) <= 1.2 + 1e-6 and gain.unique().numel() > 300


def test_a_seed_determines_everything_and_resume_is_bit_for_bit() -> None:
    hard = {"episode_s": 0.6, "noise.object_dropout": 0.2, "noise.object_latency": (0.0, 0.1), "latency.max": 0.02}
    env, same, other = env_of(6, seed=3, **hard), env_of(6, seed=3, **hard), env_of(6, seed=4, **hard)
    plan = actions(env, 30)
    for a in plan[:15]:
        x, y, z = env.step(a), same.step(a), other.step(a)
    assert torch.equal(x.obs["policy"], y.obs["policy"]) and torch.equal(x.reward, y.reward)
    assert not torch.equal(x.obs["policy"], z.obs["policy"])
    other.load_state_dict(env.state_dict())
    for a in plan[15:]:
        x, y = env.step(a), other.step(a)
        assert all(torch.equal(x.obs[k], y.obs[k]) for k in x.obs) and torch.equal(x.reward, y.reward)
        assert torch.equal(x.terminated, y.terminated) and torch.equal(x.truncated, y.truncated)
        assert x.log.keys() == y.log.keys() and all(torch.equal(x.log[k], y.log[k]) for k in x.log)


def test_levels_of_the_curriculum_follow_successes_and_widen_the_turns() -> None:
    env = quiet(3, curriculum=True, first_turn=(0.1, 0.2), goal_turn=(2.0, 2.1))
    assert env.level.tolist() == [0.0, 0.0, 0.0]
    assert ((env.next_angle >= 0.099) & (env.next_angle <= 0.201)).all()
    for counts, levels in (
        ((2, 1, 0), (0.1, 0.0, 0.0)), ((5, 2, 1), (0.2, 0.1, 0.0)), ((0, 0, 0), (0.1, 0.0, 0.0)),
    ):  # fmt: skip
        env.successes = torch.tensor(counts)
        env._reset(torch.arange(3))
        torch.testing.assert_close(env.level, torch.tensor(levels))
    env.level = torch.ones(3)
    env.successes = torch.full((3,), 9)
    env._reset(torch.arange(3))
    assert env.level.tolist() == [1.0, 1.0, 1.0]
    assert ((env.next_angle >= 1.99) & (env.next_angle <= 2.11)).all()
    again = quiet(3, curriculum=True, first_turn=(0.1, 0.2), goal_turn=(2.0, 2.1))
    again.load_state_dict(env.state_dict())
    assert again.level.tolist() == [1.0, 1.0, 1.0]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="success_angle"):
        env_of(success_angle=0.0)
    with pytest.raises(ConfigError, match="object_latency"):
        env_of(**{"noise.object_latency": (0.2, 0.1)})
