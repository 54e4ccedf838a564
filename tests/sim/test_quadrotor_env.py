"""The batched flight environment: determinism, resets, delays, rewards, randomisation, saving."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.sim.quadrotor.env import QuadrotorEnv, make_env
from robot_rl.sim.quadrotor.equations import PARAMS, ROTOR_SPEED_MAX, STATE
from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
from robot_rl.sim.quadrotor.options import Noise
from robot_rl.sim.quadrotor.params import FORCE, SUPPLY, TORQUE
from robot_rl.sim.robots.crazyflie import L2F

HARD: dict[str, Any] = {
    "delay.min": 0.001, "delay.max": 0.025, "delay.jitter": 0.002, "latency.max": 0.013, "wind.mean": 0.3,
    "wind.gust": 0.5, "battery.sag": (0.0, 0.2), "battery.load": 0.05, "dropout": 0.1, "randomize.fraction": 0.7,
    "bias.position": 0.02, "vehicle": "pybullet",
}  # fmt: skip
CALM: dict[str, Any] = {
    "noise.scale": 0.0, "disturbance.force": 0.0, "disturbance.torque": 0.0, "reset.guidance": 1.0,
    "reset.velocity": 0.0, "reset.body_rate": 0.0, "reset.rotor": L2F.hover_rotor,
}  # fmt: skip
HOVER = 2 * L2F.hover_rotor - 1


def make(n: int = 8, task: str = "quadrotor-hover", seed: int = 0, **overrides: Any) -> QuadrotorEnv:
    env = make_env(task, n, seed, overrides={k.replace("__", "."): v for k, v in overrides.items()})
    assert isinstance(env, QuadrotorEnv)
    return env


def actions(n: int, steps: int, seed: int = 0) -> torch.Tensor:
    return HOVER + 0.3 * torch.randn(steps, n, 4, generator=torch.Generator().manual_seed(seed))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("overrides", [{}, {"observer": "l2f"}, HARD], ids=["default", "l2f", "hard"])
@pytest.mark.parametrize("kind", ["hold", "mixed"])
def test_seed_decides_everything_and_saved_state_goes_on_exactly(overrides: dict[str, Any], kind: str) -> None:
    overrides = {**overrides, "reference.kind": kind, "episode_s": 0.4}
    one, two = (make_env("quadrotor-hover", 6, 1, overrides=overrides) for _ in range(2))
    other = make_env("quadrotor-hover", 6, 2, overrides=overrides)
    assert same(one.reset(5), two.reset(5))
    assert not same(one.reset(5), other.reset(6))
    two.reset(5)
    saved: dict[str, Any] = {}
    steps = []
    for k, action in enumerate(actions(6, 100)):
        a, b = one.step(action), two.step(action)
        assert same(vars(a), vars(b))
        steps.append(a)
        if k == 60:
            saved = one.state_dict()
            resumed = make_env("quadrotor-hover", 6, 99, overrides=overrides)
            resumed.load_state_dict(saved)
        if k > 60:
            assert same(vars(a), vars(resumed.step(action)))
    assert any(s.truncated.any() for s in steps) and not all(
        torch.equal(s.obs["policy"], steps[0].obs["policy"]) for s in steps
    )


def test_saved_state_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="4 environments"):
        make(8).load_state_dict(make(4).state_dict())


def test_batch_of_four_equals_four_single_environments() -> None:
    batch = make(4, **CALM, reset__guidance=0.0, reset__position=0.2)
    singles = [make(1, **CALM) for _ in range(4)]
    for i, single in enumerate(singles):
        single.state, single.params = batch.state[:, i : i + 1].clone(), batch.params[:, i : i + 1].clone()
    for k, action in enumerate(actions(4, 30)):
        step = batch.step(action)
        for i, single in enumerate(singles):
            alone = single.step(action[i : i + 1])
            assert torch.allclose(single.state, batch.state[:, i : i + 1], atol=1e-5)
            assert torch.equal(alone.terminated, step.terminated[i : i + 1])
            seen, expected = alone.obs["policy"][:, 3:15], step.obs["policy"][i : i + 1, 3:15]  # all without memory
            assert torch.allclose(seen, expected, atol=1e-4)
            if k > 0:  # the reward looks at the state before the step, which at first was another one
                assert torch.allclose(alone.reward[0], step.reward[i], atol=1e-4)


def test_reset_distribution_is_that_of_learning_to_fly() -> None:
    env = make(20000)
    pos, quat = env.state[STATE["pos"]], env.state[STATE["quat"]]
    guided = (pos == 0).all(0)
    assert guided.float().mean() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(quat[:, guided][0], torch.ones(int(guided.sum())))
    assert pos.abs().max() <= 0.2 and pos[:, ~guided].std() == pytest.approx(0.4 / math.sqrt(12), rel=0.02)
    angle = 2 * torch.arccos(quat[0, ~guided].clamp(-1, 1))
    assert angle.max() <= math.pi / 2 + 1e-3
    share = ((math.pi / 4 - math.sin(math.pi / 4)) / (math.pi / 2 - 1)).__float__()  # uniform on SO(3), rejected to 90°
    assert (angle < math.pi / 4).float().mean() == pytest.approx(share, abs=0.01)
    assert quat[1:, ~guided].mean(1).abs().max() < 0.01
    for part in ("vel", "omega"):
        assert env.state[STATE[part]].abs().max() <= 1.0
        assert env.state[STATE[part]].std() == pytest.approx(2 / math.sqrt(12), rel=0.02)
    assert torch.all(env.state[STATE["rotor"]] == 0.5)
    assert env.params[FORCE].std() == pytest.approx(0.027 * 9.81 / 20, rel=0.02)
    assert env.params[TORQUE].std() == pytest.approx(0.027 * 9.81 / 1e4, rel=0.02)


def test_failure_time_out_and_final_observation() -> None:
    env = make(3, **CALM, episode_s=0.5, reset__guidance=1.0)
    env.state[0] = torch.tensor([0.0, 0.59, 0.0])
    env.state[7] = torch.tensor([0.0, 3.0, 0.0])
    step = env.step(torch.full((3, 4), HOVER))
    assert step.terminated.tolist() == [False, True, False] and not step.truncated.any()
    assert step.reward[1] == 0.0 and step.reward[0] > 1.9
    assert step.final_obs["critic"][1, 0] > 0.6 and step.obs["critic"][1, 0] == 0.0
    assert torch.equal(step.final_obs["policy"][0], step.obs["policy"][0])
    for _ in range(49):
        step = env.step(torch.full((3, 4), HOVER))
    assert step.truncated.tolist() == [True, False, True] and not step.terminated.any()
    assert env.episode_step.tolist() == [0, 49, 0]


def test_a_state_that_is_not_finite_ends_the_episode() -> None:
    env = make(2, **CALM)
    env.state[7, 0] = math.nan
    assert env.step(torch.zeros(2, 4)).terminated.tolist() == [True, False]
    assert torch.isfinite(env.state).all()


def test_without_automatic_reset_flights_go_on() -> None:
    env = make(2, auto_reset=False, episode_s=0.1)
    for _ in range(30):
        step = env.step(torch.full((2, 4), -1.0))
    assert env.episode_step.tolist() == [30, 30] and step.truncated.logical_or(step.terminated).all()


def test_reward_by_hand() -> None:
    env = make(1, **CALM, auto_reset=False)
    angle = 0.4
    env.state[STATE["pos"], 0] = torch.tensor([0.1, -0.2, 0.05])
    env.state[STATE["quat"], 0] = torch.tensor([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])
    env.step(torch.full((1, 4), HOVER))  # the reward looks at the state before the step: let it see this one
    p, q, v = (env.state[STATE[k], 0].tolist() for k in ("pos", "quat", "vel"))
    action = torch.tensor([[0.1, 0.5, 0.3, 0.9]])
    got = float(env.step(action).reward)
    a = sum((x - 0.334) ** 2 for x in action[0].tolist())
    want = 2 - 0.5 * (5 * sum(x * x for x in p) + 5 * (1 - q[0] ** 2) + 0.01 * sum(x * x for x in v) + 0.01 * a)
    assert got == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("observer", ["flight", "l2f"])
def test_recalculated_rewards_are_the_rewards_of_new_weights(observer: str) -> None:
    env = make(16, observer=observer)
    weights = {**env.reward_weights, "position": 40.0, "linear_velocity": 1.0, "action": 1.0}
    env.reward_weights = weights
    before = env.reset(0)["critic"]
    for action in actions(16, 20):
        step = env.step(action)
        assert torch.equal(env.recalculate_reward(before, action, step.terminated, weights), step.reward)
        before = step.obs["critic"]
    with pytest.raises(UnknownName, match="linear_velocity"):
        env.recalculate_reward(before, action, step.terminated, {"speed": 1.0})


def test_randomised_vehicles_differ_and_stay_in_range() -> None:
    env = make(4000, randomize__fraction=0.7, randomize__rotor_gain=(0.95, 1.05))
    nominal = torch.tensor(L2F.column(), dtype=torch.float32)
    ratio = {name: env.params[i] / nominal[i] for i, name in enumerate(PARAMS)}
    changed = ratio["mass"] != 1
    assert changed.float().mean() == pytest.approx(0.7, abs=0.03)
    bounds = {
        "mass": (0.9, 1.2), "jx": (0.8 * 0.9, 4.5 * 1.1), "jz": (0.8 * 0.9 * 0.8, 4.5 * 1.1 * 1.3),
        "torque_ratio": (0.7, 1.3), "gain0": (0.95, 1.05), "gain3": (0.95, 1.05),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        drawn = ratio[name][changed]
        assert drawn.min() >= low - 1e-4 and drawn.max() <= high + 1e-4
        assert len(drawn.unique()) > 0.9 * len(drawn)
        assert drawn.min() < low + 0.1 * (high - low) and drawn.max() > high - 0.2 * (high - low)
    rise, fall = (env.params[PARAMS.index(f"tau_{k}")][changed] for k in ("rise", "fall"))
    assert rise.min() >= 0.045 and rise.max() <= 0.18 and fall.max() <= 0.26 and torch.all(fall >= rise)
    assert (fall == rise).float().mean() == pytest.approx(0.5, abs=0.04)
    full = env.params[[PARAMS.index(f"thrust{i}") for i in range(3)]].sum(0)[changed] / L2F.max_thrust
    assert full.min() >= 0.7 - 1e-4 and full.max() <= 1.05 + 1e-4
    env.step(torch.zeros(4000, 4))
    before = env.params.clone()
    env.reset()
    assert not torch.equal(env.params, before)


def test_command_delay_holds_back_the_command() -> None:
    """With d seconds of delay the vehicle does at time t + d what the prompt one does at time t."""
    prompt, late = make(1, **CALM), make(1, **CALM, delay__min=0.02, delay__max=0.02)
    commands = actions(1, 20)
    for action in commands:
        prompt.step(action)
    for action in [*commands, commands[0], commands[0]]:
        late.step(action)
    assert torch.allclose(late.state, prompt.state, atol=1e-4)
    half = make(1, **CALM, delay__min=0.005, delay__max=0.005)
    fine = make(1, **CALM, control_dt=0.005)
    half.step(commands[0])
    fine.step(torch.full((1, 4), HOVER))
    fine.step(commands[0])
    assert torch.allclose(half.state, fine.state, atol=1e-5)


def test_sensor_latency_bias_and_dropout() -> None:
    env = make(2, **CALM, latency__min=0.015, latency__max=0.015, auto_reset=False)
    seen = []
    for action in actions(2, 12):
        env.step(action)
        seen.append(env.true_signals())
    sensed = env.signals()
    between = 0.5 * (seen[-2]["base_lin_vel_w"] + seen[-3]["base_lin_vel_w"])
    assert torch.allclose(sensed["base_lin_vel_w"], between, atol=1e-6)
    assert torch.allclose(sensed["base_quat_wxyz"].norm(dim=1), torch.ones(2), atol=1e-6)
    biased = make(2000, **CALM, bias__position=0.05)
    offset = biased.signals()["base_pos_w"] - biased.true_signals()["base_pos_w"]
    biased.step(torch.full((2000, 4), HOVER))
    again = biased.signals()["base_pos_w"] - biased.true_signals()["base_pos_w"]
    assert offset.std() == pytest.approx(0.05, rel=0.05) and torch.allclose(offset, again, atol=1e-5)
    lossy = make(2000, dropout=0.3)
    before = lossy.signals()["base_pos_w"]
    lossy.step(torch.zeros(2000, 4))
    held = (lossy.signals()["base_pos_w"] == before).all(1).float().mean()
    assert held == pytest.approx(0.3, abs=0.04)


def test_signals_are_the_tasks_and_the_noise_is_learning_to_flys() -> None:
    env = make(5000)
    sensed, true = env.signals(), env.true_signals()
    assert {s.name: s.shape for s in env.task.signals} == {k: tuple(v.shape[1:]) for k, v in sensed.items()}
    assert same(sensed, env.signals())
    for name, std in (("base_pos_w", 1e-3), ("base_lin_vel_w", 2e-3), ("base_ang_vel_b", 2e-3)):
        assert (sensed[name] - true[name]).std() == pytest.approx(std, rel=0.03)
    error = (sensed["base_quat_wxyz"] - true["base_quat_wxyz"]).norm(dim=1)
    assert (2 * error).square().mean() == pytest.approx(3e-6, rel=0.05)
    l2f = make(5000, observer="l2f")
    entries = l2f.reset(0)["policy"][:, 3:12] - l2f.reset(0)["critic"][:, 3:12]
    assert entries.std() == pytest.approx(1e-3, rel=0.03)


def test_l2f_observation_holds_the_last_actions_oldest_first() -> None:
    env = make(2, observer="l2f", **CALM)
    commands = actions(2, 40).clamp(-1, 1)
    for action in commands:
        step = env.step(action)
    obs, critic = step.obs["policy"], step.obs["critic"]
    assert obs.shape == (2, 146)
    assert torch.equal(obs[:, 18:].reshape(2, 32, 4), commands[8:].transpose(0, 1))
    assert torch.allclose(obs[:, :18], critic[:, :18], atol=1e-5)


def test_physical_commands_do_what_actions_do_at_any_rate() -> None:
    by_action, by_command = make(3, **CALM), make(3, **CALM)
    for action in actions(3, 10).clamp(-1, 1):
        by_action.step(action)
        step = by_command.step_command({"rotor_speed_target": (0.5 + 0.5 * action) * ROTOR_SPEED_MAX})
    assert torch.allclose(by_action.state, by_command.state, atol=1e-5) and set(step.obs) == {"critic"}
    fast = make(3, control_dt=0.002)
    assert fast.max_episode_steps == 2500 and torch.all(fast.signals()["time_step"] == 0.002)
    first = fast.signals()["base_pos_w"]
    fast.step_command({"rotor_speed_target": torch.full((3, 4), 1500.0)})
    assert not torch.equal(first, fast.signals()["base_pos_w"])
    with pytest.raises(ConfigError, match="rotor_speed_target"):
        fast.step_command({"joint_pos_target": torch.zeros(3, 4)})


def test_the_robot_side_simulator_flies_the_same_trajectory() -> None:
    env = make(1, **CALM, control_dt=0.002)
    sim = NumpyQuadrotor(options=NumpySimOptions(noise=Noise(scale=0.0), ground=False), dt=0.002)
    sim.reset(rotor_speed=L2F.hover_rotor * ROTOR_SPEED_MAX)
    for action in actions(1, 150):
        speed = (0.5 + 0.5 * action.clamp(-1, 1)) * ROTOR_SPEED_MAX
        env.step_command({"rotor_speed_target": speed})
        sim.step(speed.numpy())
    assert np.allclose(sim.state, env.state.numpy(), rtol=1e-3, atol=1e-3)


def test_battery_sags_over_the_episode_and_wind_blows() -> None:
    env = make(50, battery__sag=(0.2, 0.2), episode_s=1.0, auto_reset=False)
    for _ in range(50):
        env.step(torch.full((50, 4), HOVER))
    assert torch.allclose(env.params[SUPPLY], torch.tensor(1 - 0.2 * 0.49), atol=1e-5)
    windy = make(4000, wind__mean=1.0, wind__gust=0.5, vehicle="pybullet")
    windy.step(torch.zeros(4000, 4))
    wind = windy.params[PARAMS.index("windx") :][:3]
    assert wind.std() == pytest.approx(math.sqrt(1.25), rel=0.03)
    first = wind.clone()
    for _ in range(20):
        windy.step(torch.full((4000, 4), HOVER))
    moved = windy.params[PARAMS.index("windx") :][:3] - first
    assert 0.0 < moved.std() < 0.6


def test_target_moves_and_the_critic_sees_the_error() -> None:
    env = make(1, "quadrotor-track", **CALM, reference__kind="figure-eight", auto_reset=False, altitude=1.0)
    for _ in range(300):
        env.step(torch.full((1, 4), HOVER))
    signals, critic = env.true_signals(), env.step(torch.full((1, 4), HOVER)).obs["critic"]
    assert signals["target_lin_vel_w"].norm() > 0.5 and signals["target_pos_w"][0, 2] == 1.0
    after = env.true_signals()
    assert torch.allclose(critic[:, 0:3], after["base_pos_w"] - after["target_pos_w"], atol=1e-6)


def test_desynchronised_episodes_have_different_ages() -> None:
    env = make(500, desync=True)
    assert env.episode_step.float().std() > 100 and env.episode_step.max() < env.max_episode_steps


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"delay.maximum": 0.1}, UnknownName, "delay.max"),
        ({"delay.min": 0.03, "delay.max": 0.02}, ConfigError, "Delay.max"),
        ({"noise.position": -1.0}, ConfigError, "noise.position|Noise.position"),
        ({"observer": "l3f"}, UnknownName, "flight, l2f"),
        ({"action_map": "mixer2"}, UnknownName, "rotor"),
        ({"vehicle": "boeing"}, UnknownName, "pybullet"),
        ({"backend": "cuda-graphs"}, UnknownName, "native"),
        ({"observer": "l2f", "control_dt": 0.002}, ConfigError, "0.01"),
        ({"reference.kind": "circle"}, ConfigError, "figure-eight"),
        ({"randomize.mass": [1.2, 0.9]}, ConfigError, "mass"),
    ],
)
def test_wrong_options_are_refused(overrides: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_env("quadrotor-hover", 2, 0, overrides=overrides)


def test_wrong_sizes_and_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_envs"):
        make(0)
    with pytest.raises(ConfigError, match="device"):
        make_env("quadrotor-hover", 1, 0, device="warp9")
    with pytest.raises(ConfigError, match="shape"):
        make(2).step(torch.zeros(3, 4))
    with pytest.raises(UnknownName, match="quadrotor-hover"):
        make_env("quadrotor-hoover", 1, 0)
