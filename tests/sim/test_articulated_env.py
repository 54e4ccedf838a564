"""The environment that all tasks with joints share, on the walking task; drives, latency, randomisation, resume."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.registry import names
from robot_rl.sim.articulated import rotations
from robot_rl.sim.articulated.actuators import Gains, NetActuator, make_actuator, pd_torque
from robot_rl.sim.robots.go1 import OWN
from robot_rl.sim.task_spec import make_env

TASK = "go1-velocity-flat"
QUIET = {
    "threads": 1, "noise.scale": 0.0, "latency.min": 0.0, "latency.max": 0.0, "latency.jitter": 0.0, "push.every": 0.0,
    "randomize.friction": (0.8, 0.8), "randomize.base_mass": (0.0, 0.0), "randomize.com": (0.0, 0.0),
    "randomize.link_mass": (1.0, 1.0), "randomize.stiffness": (1.0, 1.0), "randomize.damping": (1.0, 1.0),
    "randomize.strength": (1.0, 1.0), "randomize.armature": (1.0, 1.0), "randomize.dry_friction": (1.0, 1.0),
    "randomize.joint_offset": (0.0, 0.0),
}  # fmt: skip


def env_of(num_envs: int = 4, seed: int = 0, **overrides: Any) -> Any:
    return make_env(TASK, num_envs, seed, overrides={"threads": 1, **overrides})


def actions(env: Any, steps: int, seed: int = 5, scale: float = 0.3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(steps, env.num_envs, env.action_dim, generator=g)


def test_rotations_agree_with_matrices() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = rotations.random_quat((50,), g), rotations.random_quat((50,), g)
    v = torch.randn(50, 3, generator=g)
    once = rotations.rotate(rotations.quat_mul(a, b), v)
    assert torch.allclose(once, rotations.rotate(a, rotations.rotate(b, v)), atol=1e-5)
    assert torch.allclose(rotations.rotate_back(a, rotations.rotate(a, v)), v, atol=1e-5)
    down = torch.tensor([[0.0, 0.0, -1.0]]).expand(50, 3)
    assert torch.allclose(rotations.down_in_body(a), rotations.rotate_back(a, down), atol=1e-5)
    yaw = torch.linspace(-3, 3, 7)
    assert torch.allclose(rotations.yaw_of(rotations.from_yaw(yaw)), yaw, atol=1e-5)
    assert torch.allclose(rotations.angle_between(a, a), torch.zeros(50), atol=2e-3)
    turned = rotations.quat_mul(a, rotations.from_yaw(torch.full((50,), 1.25)))
    assert torch.allclose(rotations.angle_between(a, turned), torch.full((50,), 1.25), atol=1e-4)


def test_drive_follows_pd_inside_its_limits_and_the_torque_speed_line_outside() -> None:
    kp, kd, limit, stall, no_load = (np.array([x]) for x in (20.0, 0.5, 10.0, 16.0, 20.0))

    def ask(target: float, vel: float) -> float:
        given = np.array([target]), np.zeros(1), np.array([vel])
        return float(pd_torque(np, *given, kp, kd, limit, stall, no_load)[0])

    assert ask(0.1, 0.0) == pytest.approx(2.0)
    assert ask(0.1, 2.0) == pytest.approx(1.0)
    assert ask(9.0, 0.0) == 10.0 and ask(-9.0, 0.0) == -10.0
    assert ask(9.0, 15.0) == pytest.approx(16.0 * (1 - 15 / 20))  # driving: below the line
    assert ask(-9.0, 15.0) == -10.0  # braking: the full torque
    assert ask(9.0, 25.0) == 0.0  # above the no-load speed nothing drives
    same = pd_torque(torch, *(torch.tensor([[x]]) for x in (9.0, 0.0, 15.0, 20.0, 0.5, 10.0, 16.0, 20.0)))
    assert float(same) == pytest.approx(4.0)


def test_actuator_network_sees_three_steps_of_each_joint() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.tensor([[1.0], [10.0], [100.0], [0.0], [0.0], [0.0]])

    net = NetActuator(Sum(), OWN, 2, torch.device("cpu"))
    zero, gains = torch.zeros(2, 12), Gains(OWN, 2, torch.device("cpu"))
    first = net.torque(torch.full((2, 12), 0.01), zero, zero, gains)
    assert torch.allclose(first, torch.full((2, 12), 1.11))  # the past of a fresh episode is the present
    second = net.torque(torch.full((2, 12), 0.02), zero, zero, gains)
    assert torch.allclose(second, torch.full((2, 12), 0.02 + 0.1 + 1.0))
    net.reset(torch.tensor([1]))
    third = net.torque(zero, zero, zero, gains)
    assert torch.allclose(third[0], torch.full((12,), 0.2 + 1.0)) and torch.allclose(third[1], torch.zeros(12))
    with pytest.raises(ConfigError, match=r"package\.module:FACTORY"):
        make_actuator("magic", OWN, 2, torch.device("cpu"))


def test_stands_in_its_default_pose_without_action() -> None:
    env = make_env(TASK, 8, 0, overrides={**QUIET, "start_speed": 0.0, "command.standing": 1.0})
    for _ in range(150):
        step = env.step(torch.zeros(8, 12))
        assert not step.terminated.any()
    assert torch.allclose(env.physics.qpos[:, 2], torch.full((8,), OWN.base_height), atol=0.04)  # it sags
    assert env.contact.all()
    weight = float(env.model.body_subtreemass[0]) * 9.81
    assert torch.allclose(env.foot_force().sum(1), torch.full((8,), weight), rtol=0.05)
    assert float(step.log["tracking"]) > 0.95


def test_a_seed_determines_everything_and_another_seed_changes_it() -> None:
    first, again, other = env_of(seed=3), env_of(seed=3), env_of(seed=4)
    for a in actions(first, 15):
        x, y, z = first.step(a), again.step(a), other.step(a)
    assert torch.equal(x.obs["policy"], y.obs["policy"]) and torch.equal(x.reward, y.reward)
    assert not torch.equal(x.obs["policy"], z.obs["policy"])


def test_resumed_environment_goes_on_bit_for_bit() -> None:
    env = env_of(6, episode_s=0.3, dropout=0.2)
    plan = actions(env, 40)
    for a in plan[:20]:
        env.step(a)
    copy = env_of(6, seed=9, episode_s=0.3, dropout=0.2)
    copy.load_state_dict(env.state_dict())
    for a in plan[20:]:
        x, y = env.step(a), copy.step(a)
        assert torch.equal(x.obs["policy"], y.obs["policy"]) and torch.equal(x.obs["critic"], y.obs["critic"])
        assert torch.equal(x.reward, y.reward) and torch.equal(x.truncated, y.truncated)
    with pytest.raises(ConfigError, match="5"):
        env_of(5).load_state_dict(env.state_dict())


def test_final_observation_is_of_the_ended_episode_and_the_next_one_of_a_fresh_one() -> None:
    env = env_of(4, episode_s=0.1)
    for a in actions(env, 5):
        step = env.step(a)
    assert step.truncated.all()
    assert not torch.equal(step.final_obs["critic"], step.obs["critic"])
    assert (env.episode_step == 0).all()
    assert not torch.equal(env._memory["previous_action"], a) and (env._memory["previous_action"] == 0).all()


def test_latency_holds_back_targets_by_physics_steps() -> None:
    """With 12 ms of latency and 4 ms physics the old target acts for three of the five physics steps."""
    told: list[torch.Tensor] = []
    env = make_env(TASK, 1, 0, overrides={**QUIET, "latency.min": 0.012, "latency.max": 0.012})
    drive = env.actuator.torque
    env.actuator.torque = lambda target, *rest: (told.append(target.clone()), drive(target, *rest))[1]
    env.step(torch.zeros(1, 12))
    told.clear()
    env.step(torch.full((1, 12), 0.5))
    new = env.action_map(torch.full((1, 12), 0.5))["joint_pos_target"]
    assert [torch.equal(t, new) for t in told] == [False, False, False, True, True]


def test_every_simulation_has_its_own_body_and_gains() -> None:
    env = env_of(16, **{"randomize.base_mass": (-1.0, 3.0)})
    state = env.physics.state_dict()["fields"]
    trunk = env.model.body("trunk").id
    mass = state["body_mass"][:, trunk]
    assert mass.unique().numel() == 16 and float(mass.max() - mass.min()) > 1.0
    assert env.gains.kp.unique().numel() > 100
    friction = state["geom_friction"][:, env.physics.model.geom("floor").id, 0]
    assert friction.min() >= 0.4 and friction.max() <= 1.0 and friction.unique().numel() == 16
    assert env.randomizer.joint_offset.abs().max() <= 0.02
    seen = env.signals()["joint_pos"] - env.true_signals()["joint_pos"]
    assert (seen - env.randomizer.joint_offset).abs().max() <= 0.03 + 1e-6  # the rest is noise


def test_a_push_changes_the_speed_of_the_base() -> None:
    push = {"push.every": 0.1, "push.speed": (1.0, 1.0), "start_speed": 0.0}
    still = make_env(TASK, 32, 0, overrides={**QUIET, "start_speed": 0.0})
    pushed = make_env(TASK, 32, 0, overrides={**QUIET, **push})
    for _ in range(10):
        still.step(torch.zeros(32, 12))
        pushed.step(torch.zeros(32, 12))
    speed = lambda e: e.physics.qvel[:, :2].norm(dim=1).mean()  # noqa: E731
    assert speed(pushed) > 0.2 + speed(still)


def test_a_fall_ends_the_episode_and_costs() -> None:
    env = make_env(TASK, 4, 0, overrides={**QUIET, "start_tilt": 3.0, "auto_reset": False})
    for _ in range(60):
        step = env.step(torch.zeros(4, 12))
    assert step.terminated.any()
    assert torch.equal(step.cost["fall"] > 0, step.terminated)
    assert (step.reward >= 0).all()


def test_commands_by_name_do_what_actions_do() -> None:
    by_action, by_command = (make_env(TASK, 3, 0, overrides=QUIET) for _ in range(2))
    for a in actions(by_action, 10):
        x = by_action.step(a)
        y = by_command.step_command(by_command.action_map(torch.clamp(a, -1, 1)))
    assert torch.equal(by_action.physics.qpos, by_command.physics.qpos) and torch.equal(x.terminated, y.terminated)
    with pytest.raises(ConfigError, match="joint_pos_target"):
        by_command.step_command({})


def test_wrong_options_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UnknownName, match="mujoco"):
        env_of(physics="magic")
    with pytest.raises(ConfigError, match="decimation"):
        env_of(decimation=0)
    with pytest.raises(ConfigError, match="shape"):
        env_of(2).step(torch.zeros(2, 3))
    assert "mujoco" in names("physics") and math.isfinite(env_of(1).control_dt)
