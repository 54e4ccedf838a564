"""Getting up: the pool of falls, what counts as standing, resume; and the Go2, which is data alone."""

from __future__ import annotations

from typing import Any

import torch

from robot_rl.sim.articulated.rotations import down_in_body
from robot_rl.sim.locomotion.falls import settled
from robot_rl.sim.locomotion.options import Falls
from robot_rl.sim.physics.mujoco import MujocoPhysics
from robot_rl.sim.robots import go1, go2
from robot_rl.sim.task_spec import make_env

FEW = {"threads": 1, "falls.count": 32}
CALM = {"latency.max": 0.0, "latency.jitter": 0.0, "randomize.base_mass": (0.0, 0.0), "randomize.com": (0.0, 0.0)}


def env_of(num_envs: int = 4, seed: int = 0, **overrides: Any) -> Any:
    return make_env("go1-recover", num_envs, seed, overrides={**FEW, **overrides})


def hold(env: Any) -> Any:
    """One step towards the default pose; where the robot is now, as the policy sees it, is action 0."""
    return env.step((env.default_pose - env.signals()["joint_pos"]) / env.options.action_scale)


def test_pool_has_robots_at_rest_in_all_kinds_of_positions() -> None:
    env = env_of()
    pool, n = env.pool, len(env.pool)
    up = -down_in_body(pool[:, 3:7])[:, 2]
    assert (up < -0.8).any() and (up > 0.5).any() and (up.abs() < 0.8).any()
    assert len(pool.unique(dim=0)) > 0.7 * n
    physics = MujocoPhysics(env.model, n, threads=1)
    physics.set_state(torch.arange(n), pool, torch.zeros(n, env.model.nv))
    for _ in range(100):
        physics.step(torch.zeros(n, env.model.nu))
    assert (physics.qpos - pool)[:, :3].abs().max() < 0.02
    assert physics.qvel.abs().max() < 0.5


def test_pool_is_determined_by_its_seed_and_computed_once() -> None:
    options = Falls(count=8, settle=1.0)
    first, other = settled(go1.OWN, options, 0.004, 1), settled(go1.OWN, options, 0.004, 2)
    assert settled(go1.OWN, options, 0.004, 1) is first and not torch.equal(first, other)
    settled.cache_clear()
    assert torch.equal(settled(go1.OWN, options, 0.004, 1), first)


def test_episodes_begin_in_the_pool_turned_about_the_vertical() -> None:
    env = env_of(16)
    qpos = env.physics.qpos
    seen, known = ([down_in_body(q[:, 3:7]), q[:, 2:3], q[:, 7:]] for q in (qpos, env.pool))
    difference = (torch.cat(seen, dim=1)[:, None] - torch.cat(known, dim=1)).abs().amax(-1)
    assert difference.amin(1).max() < 1e-5
    assert difference.argmin(1).unique().numel() > 8
    assert (qpos[:, :2] == 0).all() and (env.physics.qvel == 0).all()


def test_standing_still_succeeds_lying_does_not_and_nothing_ends_early() -> None:
    stands, lies = env_of(4, **CALM, **{"falls.upright": 1.0, "episode_s": 2.0}), env_of(12, **CALM)
    rewards = []
    for env, steps in ((stands, 99), (lies, 100)):
        total = torch.zeros(env.num_envs)
        for _ in range(steps):
            step = hold(env)
            total += step.reward
            assert not step.terminated.any()
        rewards.append(total.mean() / steps)
    assert stands.succeeded().all() and stands.standing().all() and (stands.stood > 0.5).all()
    on_back = down_in_body(lies.base_quat)[:, 2] > 0.5
    assert on_back.any() and not lies.succeeded()[on_back].any()
    assert rewards[0] > 2 * rewards[1]
    assert (step.cost["fall"] == (~lies.standing()).float()).all()


def test_success_needs_an_unbroken_while() -> None:
    env = env_of(4, **CALM, **{"falls.upright": 1.0, "auto_reset": False})
    for _ in range(60):
        hold(env)
    assert env.succeeded().all()
    env.push(3.0, 0.0)
    for _ in range(5):
        hold(env)
    assert not env.succeeded().any() and (env.stood == 0).all()


def test_a_seed_determines_everything_and_saved_state_goes_on_bit_for_bit() -> None:
    one, two, other = (env_of(6, seed, episode_s=0.3) for seed in (3, 3, 4))
    g = torch.Generator().manual_seed(0)
    plan = 0.4 * torch.randn(40, 6, 12, generator=g)
    for a in plan[:20]:
        x, y, z = one.step(a), two.step(a), other.step(a)
    assert torch.equal(x.obs["policy"], y.obs["policy"]) and not torch.equal(x.obs["policy"], z.obs["policy"])
    other.load_state_dict(one.state_dict())
    for a in plan[20:]:
        x, y = one.step(a), other.step(a)
        assert torch.equal(x.obs["policy"], y.obs["policy"]) and torch.equal(x.obs["critic"], y.obs["critic"])
        assert torch.equal(x.reward, y.reward) and torch.equal(x.cost["fall"], y.cost["fall"])


def test_go2_stands_and_is_told_to_walk_like_the_go1() -> None:
    calm = {"push.every": 0.0, "command.standing": 1.0, "start_speed": 0.0, "randomize.base_mass": (0.0, 0.0)}
    env = make_env("go2-velocity-flat", 4, 0, overrides={"threads": 1, **calm})
    assert env.robot == go2.OWN and env.obs_dims["policy"] == 3 * 42 + 3
    for _ in range(60):
        step = env.step(torch.zeros(4, 12))
        assert not step.terminated.any()
    assert env.contact.all() and (env.base_height() > 0.55 * go2.OWN.base_height).all()
    assert float(step.log["tracking"]) > 0.9
