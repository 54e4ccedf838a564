"""Walking on rough ground: heights above the ground, the scan, the curriculum, resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.sim.articulated.rotations import from_yaw, quat_mul, rotate, small_rotation
from robot_rl.sim.locomotion.terrain_options import HEIGHT_SCAN, KINDS, SCAN_SPACING, SCAN_X, SCAN_Y, VARIANTS_ROUGH
from robot_rl.sim.robots.go1 import OWN
from robot_rl.sim.task_spec import make_env
from robot_rl.sim.tasks.go1_velocity_rough import TASK

SMALL: dict[str, Any] = {
    "threads": 1, "terrain.levels": 3, "terrain.tile": 4.0, "terrain.platform": 1.0, "curriculum.start": 1,
}  # fmt: skip
FOOT = 0.023  # m, radius


def env_of(num_envs: int = 6, seed: int = 0, **overrides: Any) -> Any:
    return make_env(TASK, num_envs, seed, overrides={**SMALL, **overrides})


def everyone(env: Any) -> torch.Tensor:
    return torch.arange(env.num_envs)


def put(env: Any, xy: torch.Tensor, quat: torch.Tensor | None = None, above: float = OWN.base_height) -> None:
    """Stand the robots at xy (N, 2), at rest."""
    qpos = env.physics.qpos.clone()
    qpos[:, :2], qpos[:, 2] = xy, env.terrain.height(xy) + above
    qpos[:, 3:7] = torch.tensor([1.0, 0, 0, 0]) if quat is None else quat
    qpos[:, 7:] = env.default_pose
    env.physics.set_state(everyone(env), qpos, torch.zeros(env.num_envs, env.model.nv))


def test_robots_start_standing_on_their_tile() -> None:
    env = env_of(12, **{"start_speed": 0.0, "push.every": 0.0, "command.standing": 1.0})
    assert env.kind.tolist() == [k % len(KINDS) for k in range(12)] and env.level.max() <= 1
    assert env_of(100).foot_height().min() > FOOT - 0.01  # none begins inside the ground
    middle = env.terrain.centre(env.level, env.kind)
    assert ((env.physics.qpos[:, :2] - middle).abs() <= 0.41).all()
    for _ in range(40):
        step = env.step(torch.zeros(12, env.action_dim))
        assert not step.terminated.any()
    assert (env.contact.sum(1) >= 2).all() and env.contact.float().mean() > 0.75
    assert (env.foot_height()[env.contact] - FOOT).abs().max() < 0.01  # contacts and look-up agree
    assert (env.base_height() - OWN.base_height).abs().max() < 0.06
    assert float(step.log["terrain_level"]) == pytest.approx(float(env.level.float().mean()))


def test_feet_touch_what_is_looked_up_anywhere() -> None:
    """Robots dropped all over the grid: feet that bear on the ground are about a radius above it."""
    env = env_of(48, auto_reset=False)
    x, y = env.terrain.size
    g = torch.Generator().manual_seed(1)
    xy = (torch.rand(48, 2, generator=g) - 0.5) * torch.tensor([x, y])
    put(env, xy, above=OWN.base_height + 0.2)
    bearing = []
    for _ in range(20):
        env.step(torch.zeros(48, env.action_dim))
        bearing.append(env.foot_height()[env.contact])
    height = torch.cat(bearing)
    assert len(height) > 1000
    # Above, beside risers, where the nearest ground is at the side; below, in the moment of impact.
    assert height.min() > -0.04 and height.max() < 0.17
    assert abs(float(height.median()) - FOOT) < 0.005


def test_scan_is_the_terrain_turned_with_the_heading_only() -> None:
    env = env_of(24)
    g = torch.Generator().manual_seed(2)
    xy = 3.0 * torch.randn(24, 2, generator=g)
    yaw = 6.0 * torch.rand(24, generator=g)
    tilt = 0.3 * torch.randn(24, 3, generator=g) * torch.tensor([1.0, 1.0, 0.0])
    put(env, xy, quat_mul(from_yaw(yaw), small_rotation(tilt)))
    scan = env._scanned(env.physics.qpos)
    for k in (0, 10, SCAN_Y, 100, SCAN_X * SCAN_Y - 1):
        i, j = divmod(k, SCAN_Y)
        local = torch.tensor([(i - SCAN_X // 2) * SCAN_SPACING, (j - SCAN_Y // 2) * SCAN_SPACING, 0.0])
        place = xy + rotate(from_yaw(yaw), local.expand(24, 3))[:, :2]
        expected = env.terrain.height(place) - env.physics.qpos[:, 2]
        # A tilted robot's own idea of its heading differs by the tilt squared.
        level = torch.isclose(scan[:, k], expected, atol=0.02)
        assert level.float().mean() > 0.7
    put(env, xy, from_yaw(yaw))
    scan = env._scanned(env.physics.qpos)
    local = torch.cat([env._scan_points, torch.zeros(SCAN_X * SCAN_Y, 1)], dim=1)
    place = xy[:, None] + rotate(from_yaw(yaw)[:, None].expand(-1, len(local), -1), local.expand(24, -1, -1))[..., :2]
    difference = (scan - (env.terrain.height(place) - env.physics.qpos[:, 2:3])).abs()
    # Steps are almost vertical, where rounding of the heading counts.
    assert difference.max() < 1e-3 and scan.std() > 0.02


def test_scan_reaches_policy_critic_and_teacher_as_asked() -> None:
    sees, feels = env_of(height_scan="policy"), env_of(height_scan="critic")
    points = HEIGHT_SCAN.shape[0] + 1  # the last is the mean
    assert sees.obs_dims["teacher"] == sees.obs_dims["policy"] == feels.obs_dims["policy"] + points
    assert feels.obs_dims["teacher"] == sees.obs_dims["teacher"] and feels.obs_dims["critic"] == sees.obs_dims["critic"]
    assert HEIGHT_SCAN in sees.observer.signals and HEIGHT_SCAN not in feels.observer.signals
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        a = 0.3 * torch.randn(6, 12, generator=g)
        x, y = sees.step(a), feels.step(a)
    assert torch.equal(x.obs["teacher"], y.obs["teacher"]) and torch.equal(x.obs["teacher"], x.obs["policy"])
    assert torch.equal(y.obs["teacher"][:, : feels.obs_dims["policy"]], y.obs["policy"])
    noise = sees.signals()["height_scan"] - sees.true_signals()["height_scan"]
    assert 0.015 < noise.abs().max() <= 0.02 + 1e-6
    assert x.obs["teacher"][:, -points:].abs().max() <= 1.0
    with pytest.raises(UnknownName, match="critic"):
        env_of(height_scan="robot")


def ended(env: Any, moved: float, asked: float) -> torch.Tensor:
    """Levels after episodes that ended `moved` m from their start, when `asked` m would have been right."""
    put(env, env.start_xy + torch.tensor([moved, 0.0]))
    env.asked = torch.zeros_like(env.asked)
    env.asked[:, 1] = asked
    env.episode_step = torch.full_like(env.episode_step, env.max_episode_steps)
    env._reset(everyone(env))
    return env.level


def test_levels_go_up_after_walking_far_and_down_after_less_than_half_of_what_was_asked() -> None:
    env = env_of(24, **{"terrain.levels": 5})
    env.level = torch.full_like(env.level, 2)
    assert (ended(env, 2.1, 10.0) == 3).all()  # left the tile, whatever was asked
    assert (ended(env, 1.5, 2.9) == 3).all()
    assert (ended(env, 1.5, 3.1) == 2).all()
    assert (ended(env, 0.0, 0.0) == 2).all()  # standing was right
    for _ in range(4):
        levels = ended(env, 0.0, 1.0)
    assert (levels == 0).all()
    env.level = torch.full_like(env.level, 4)
    levels = ended(env, 2.1, 2.0)  # who has done the last level starts anywhere
    assert len(levels.unique()) > 2 and levels.max() <= 4


def test_a_robot_that_fell_is_held_to_its_last_command_for_the_rest_of_the_episode() -> None:
    env = env_of(6, **{"terrain.levels": 5})
    env.level = torch.full_like(env.level, 2)
    env.command[:] = torch.tensor([1.0, 0.0, 0.0])
    put(env, env.start_xy, small_rotation(torch.tensor([[20.0, 0.0, 0.0]])).expand(6, 4))
    assert env.failed().all()
    env.asked = torch.zeros_like(env.asked)
    env.episode_step = torch.full_like(env.episode_step, 10)
    env._reset(everyone(env))
    assert (env.level == 1).all()


def test_what_was_asked_adds_up_in_the_world() -> None:
    env = env_of(6, **{"command.forward": (0.5, 0.5), "command.sideways": (0.0, 0.0), "command.standing": 0.0})
    env.command_left += 100.0
    put(env, env.start_xy, from_yaw(torch.full((6,), 1.0)))
    env.asked = torch.zeros_like(env.asked)
    for _ in range(5):
        env.step(torch.zeros(6, 12))
    asked = 0.05 * torch.stack([torch.cos(torch.full((6,), 1.0)), torch.sin(torch.full((6,), 1.0))], dim=1)
    assert torch.allclose(env.asked, asked, atol=0.005)


def test_fixed_levels_and_variants() -> None:
    assert (env_of(**{"curriculum.level": 2}).level == 2).all()
    with pytest.raises(ConfigError, match="levels are 0 to 2"):
        env_of(**{"curriculum.level": 3})
    names = [v.name for v in VARIANTS_ROUGH]
    assert "pybullet" not in names and "level-9" in names
    assert set(TASK.tested_variants("all")) >= {"nominal", "level-0", "level-9"}


def test_a_seed_determines_everything_and_saved_state_goes_on_bit_for_bit() -> None:
    short = {"episode_s": 0.3, "dropout": 0.1}
    one, two, other = env_of(seed=3, **short), env_of(seed=3, **short), env_of(seed=4, **short)
    g = torch.Generator().manual_seed(0)
    plan = 0.4 * torch.randn(50, 6, 12, generator=g)
    for a in plan[:25]:
        x, y = one.step(a), two.step(a)
        other.step(a)
    assert torch.equal(x.obs["teacher"], y.obs["teacher"]) and torch.equal(one.level, two.level)
    assert not torch.equal(one.scan, other.scan)
    other.load_state_dict(one.state_dict())
    for a in plan[25:]:
        x, y = one.step(a), other.step(a)
        for group in ("policy", "critic", "teacher"):
            assert torch.equal(x.obs[group], y.obs[group]) and torch.equal(x.final_obs[group], y.final_obs[group])
        assert torch.equal(x.reward, y.reward) and torch.equal(one.level, other.level)


@pytest.mark.slow
def test_warp_has_the_same_ground_as_mujoco() -> None:
    """Landing on the height field; kernels are compiled for this kind of model first, which takes minutes."""
    pytest.importorskip("warp", reason="MuJoCo Warp is not installed")
    calm = {"noise.scale": 0.0, "push.every": 0.0, "latency.max": 0.0, "latency.jitter": 0.0, "start_speed": 0.0}
    ours, reference = (env_of(physics=name, **calm) for name in ("warp", "mujoco"))
    for _ in range(12):
        for env in (ours, reference):
            env.step(torch.zeros(6, 12))
    assert reference.contact.any(dim=1).all()
    torch.testing.assert_close(ours.physics.qpos, reference.physics.qpos, atol=5e-3, rtol=0.0)
