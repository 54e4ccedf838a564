"""The classical controllers: equilibrium, closed loop on the simulator, memory, errors."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import ContractError
from robot_rl.evaluation.evaluate import evaluate
from robot_rl.evaluation.scenarios import scenario
from robot_rl.policies.base.flight.vehicle import CRAZYFLIE
from robot_rl.policies.base.lqr import LqrController, linear_model
from robot_rl.registry import load, names

CONTROLLERS = ("lee", "lqr", "pid")
HOVER = CRAZYFLIE.hover_speed * CRAZYFLIE.max_rotor_speed


def signals(count: int, **changes: object) -> dict[str, np.ndarray]:
    """Upright and at rest on the target."""
    values = {
        "base_pos_w": np.zeros(3), "base_quat_wxyz": np.array([1.0, 0, 0, 0]), "base_lin_vel_w": np.zeros(3),
        "base_ang_vel_b": np.zeros(3), "target_pos_w": np.zeros(3),
    } | changes  # fmt: skip
    return {name: np.tile(np.asarray(v, dtype=np.float32), (count, 1)) for name, v in values.items()}


def settled(name: str, count: int = 1, **changes: object) -> np.ndarray:
    """The command after its rotor estimate has come to hover."""
    controller = load("base", name)()
    controller.reset(count)
    for _ in range(200):
        command = controller.act(signals(count))["rotor_speed_target"]
    return controller.act(signals(count, **changes))["rotor_speed_target"] if changes else command


def test_these_are_all_base_policies_of_flight() -> None:
    assert set(CONTROLLERS) <= set(names("base"))
    assert not {"vehicle", "mixer", "flight", "controller"} & set(names("base"))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_hover_is_an_equilibrium(name: str) -> None:
    command = settled(name, 3)
    assert command.shape == (3, 4) and command.dtype == np.float32
    np.testing.assert_allclose(command, HOVER, rtol=2e-3)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_signs_of_the_reaction(name: str) -> None:
    front_right, back_right, back_left, front_left = range(4)
    low = settled(name, base_pos_w=(0, 0, -0.1))[0]
    assert np.all(low > HOVER)
    rolled = settled(name, base_quat_wxyz=(np.cos(0.1), np.sin(0.1), 0, 0))[0]  # right side down
    assert rolled[front_right] > rolled[front_left] and rolled[back_right] > rolled[back_left]
    pitching = settled(name, base_ang_vel_b=(0, 1.0, 0))[0]  # nose going down
    assert pitching[front_right] > pitching[back_right] and pitching[front_left] > pitching[back_left]
    turning = settled(name, base_ang_vel_b=(0, 0, 1.0))[0]  # rotors with negative reaction torque speed up
    assert turning[front_right] + turning[back_left] > turning[back_right] + turning[front_left]
    ahead = settled(name, base_pos_w=(0.3, 0, 0))[0]  # too far ahead: nose up
    assert ahead[front_right] + ahead[front_left] > ahead[back_right] + ahead[back_left]


@pytest.mark.parametrize("name", CONTROLLERS)
def test_recovers_from_the_full_reset_distribution(name: str) -> None:
    result = evaluate(f"base:{name}", "nominal", episodes=60, seed=5)
    assert result.summary is not None
    assert result.summary.survival.value >= 0.93
    assert result.summary.steady_error.value <= 0.02


@pytest.mark.parametrize("name", CONTROLLERS)
def test_tracks_the_figure_eight(name: str) -> None:
    result = evaluate(f"base:{name}", scenario("eight-5.5s").but(turns=1), episodes=8, seed=5)
    assert result.summary is not None
    assert result.summary.survival.value == 1.0
    assert result.summary.rmse.value <= 0.10


@pytest.mark.parametrize("name", CONTROLLERS)
def test_flies_when_called_at_500_hz(name: str) -> None:
    result = evaluate(f"base:{name}", scenario("500hz").but(start="gentle", duration=1.5), episodes=10, seed=5)
    assert result.summary is not None
    assert result.summary.survival.value == 1.0


@pytest.mark.parametrize("name", CONTROLLERS)
def test_vehicles_do_not_influence_each_other_and_reset_alone(name: str) -> None:
    controller, alone = load("base", name)(), load("base", name)()
    controller.reset(3)
    alone.reset(1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = signals(3) | {"base_pos_w": rng.normal(0, 0.1, (3, 3)), "base_ang_vel_b": rng.normal(0, 1, (3, 3))}
        together = controller.act(batch)["rotor_speed_target"]
        single = alone.act({k: v[1:2] for k, v in batch.items()})["rotor_speed_target"]
        np.testing.assert_allclose(together[1:2], single, rtol=1e-5, atol=1e-3)
    controller.reset(env_ids=np.array([1]))
    alone.reset(1)
    together = controller.act(batch)["rotor_speed_target"]
    single = alone.act({k: v[1:2] for k, v in batch.items()})["rotor_speed_target"]
    np.testing.assert_allclose(together[1:2], single, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_yaw_target_is_reached(name: str) -> None:
    from robot_rl.sim.quadrotor.numpy_sim import NumpyQuadrotor, NumpySimOptions
    from robot_rl.sim.quadrotor.options import Noise

    sim = NumpyQuadrotor("l2f", 1, 0.01, options=NumpySimOptions(noise=Noise(scale=0.0), ground=False))
    sim.reset(rotor_speed=HOVER)
    controller = load("base", name)()
    controller.reset(1)
    targets = {"target_pos_w": np.array([[0.3, -0.2, 0.1]]), "target_yaw": np.array([[0.8]])}
    for _ in range(1000):
        sim.step(controller.act({**sim.signals(), **targets})["rotor_speed_target"])
    w, _, _, z = sim.true_signals()["base_quat_wxyz"][0]
    assert 2 * np.arctan2(z, w) == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(sim.true_signals()["base_pos_w"][0], targets["target_pos_w"][0], atol=0.02)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_bad_signals_are_refused(name: str) -> None:
    controller = load("base", name)()
    controller.reset(2)
    given = signals(2)
    del given["base_lin_vel_w"]
    with pytest.raises(ContractError, match="missing: base_lin_vel_w"):
        controller.act(given)
    with pytest.raises(ContractError, match=r"shape \(3, 3\), expected \(2, 3\)"):
        controller.act(signals(3))


@pytest.mark.parametrize("dt", [0.002, 0.01])
def test_lqr_stabilises_the_model_it_was_designed_for(dt: float) -> None:
    from scipy.linalg import expm

    a, b = linear_model(CRAZYFLIE)
    block = np.zeros((24, 24))
    block[:20, :20], block[:20, 20:] = a * dt, b * dt
    exact = expm(block)
    closed = exact[:20, :20] - exact[:20, 20:] @ LqrController().gain_matrix(dt)
    assert np.abs(np.linalg.eigvals(closed)).max() < 1.0
    assert np.abs(np.linalg.eigvals(exact[:20, :20])).max() >= 1.0 - 1e-9


def test_linear_model_is_the_derivative_of_the_simulated_motion() -> None:
    """Rows of v̇, ω̇ and ṙ against finite differences of the simulator's equations about hover."""
    from robot_rl.sim.quadrotor.equations import STATE, Params, derivative
    from robot_rl.sim.robots.crazyflie import ROBOT

    params = Params(*ROBOT.parameters("l2f").column())
    hover = np.zeros(17)
    hover[3], hover[STATE["rotor"]] = 1.0, CRAZYFLIE.hover_speed

    def motion(x: np.ndarray) -> np.ndarray:
        """v̇, ω̇, ṙ (10,) at our 16 coordinates: position, velocity, small rotation, rate, rotors."""
        state = hover.copy()
        state[0:3], state[7:10], state[10:13] = x[0:3], x[3:6], x[9:12]
        state[3:7] = [1.0, *(0.5 * x[6:9])]
        state[STATE["rotor"]] += x[12:16]
        full = np.array(derivative(np, state, params, hover[STATE["rotor"]]))
        return np.concatenate([full[7:10], full[10:13], full[13:17]])

    h = 1e-6
    numeric = np.stack([(motion(h * e) - motion(-h * e)) / (2 * h) for e in np.eye(16)], axis=1)
    a, _ = linear_model(CRAZYFLIE)
    np.testing.assert_allclose(a[[3, 4, 5, 9, 10, 11, 12, 13, 14, 15], :16], numeric, rtol=1e-5, atol=1e-4)
