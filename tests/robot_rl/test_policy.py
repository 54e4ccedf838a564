"""Running a policy file: the numbers are right, memory moves on, batches are independent, wrong input is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_builder import MEMORY, SIGNALS, build_contract, build_model, reference, weights, write_policy

from robot_rl.contract import Golden, GoldenStep, Rate
from robot_rl.errors import ContractError, ContractMismatch, NonFiniteSignal, SignalError
from robot_rl.policy import Policy, relative_error
from robot_rl.policy_file import write_policy_file

INITIAL = np.array([MEMORY.initial], np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("policy") / "policy.onnx")


def draw(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Random sensor signals for n environments, without time_step."""
    return {s.name: rng.normal(0, 1, (n, *s.shape)).astype(np.float32) for s in SIGNALS if s.name != "time_step"}


def expected(signals: dict[str, np.ndarray], memory: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    n = len(memory)
    return reference(signals | {"time_step": np.full((n, 1), dt, np.float32)}, memory)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_chain_of_steps_equals_numpy(path: Path, num_envs: int) -> None:
    policy, rng = Policy.load(path, num_envs=num_envs), np.random.default_rng(0)
    memory = np.repeat(INITIAL, num_envs, 0)
    for _ in range(20):
        signals = draw(rng, num_envs)
        command, memory = expected(signals, memory, 0.01)
        found = policy.act(signals)["rotor_speed_target"]
        assert found.shape == (num_envs, 2)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, command, rtol=1e-5)
        np.testing.assert_allclose(policy.memory["filter"], memory, rtol=1e-5, atol=1e-6)


def test_one_robot_may_leave_out_the_batch_dimension(path: Path) -> None:
    flat, batched, rng = Policy.load(path), Policy.load(path), np.random.default_rng(1)
    for _ in range(3):
        signals = draw(rng, 1)
        found = flat.act({k: v[0].tolist() for k, v in signals.items()})["rotor_speed_target"]
        assert found.shape == (2,)
        assert np.array_equal(found, batched.act(signals)["rotor_speed_target"][0])


def test_results_are_copies(path: Path) -> None:
    policy, rng = Policy.load(path), np.random.default_rng(2)
    first = policy.act(draw(rng, 1))["rotor_speed_target"]
    kept = first.copy()
    memory = policy.memory["filter"]
    memory[:] = 99
    policy.act(draw(rng, 1))
    policy.act(draw(rng, 1))
    assert np.array_equal(first, kept)
    assert (policy.memory["filter"] < 2).all()


def test_reset_of_some_environments_leaves_the_others(path: Path) -> None:
    policy, rng = Policy.load(path, num_envs=4), np.random.default_rng(3)
    for ids in ([1, 3], np.array([False, True, False, True])):
        policy.act(draw(rng, 4))
        before = policy.memory["filter"]
        policy.reset(ids)
        after = policy.memory["filter"]
        assert np.array_equal(after[[1, 3]], np.repeat(INITIAL, 2, 0))
        assert np.array_equal(after[[0, 2]], before[[0, 2]])
        assert not np.array_equal(before[[1, 3]], after[[1, 3]])
    policy.reset([])
    assert np.array_equal(policy.memory["filter"], after)
    policy.reset()
    assert np.array_equal(policy.memory["filter"], np.repeat(INITIAL, 4, 0))


@pytest.mark.parametrize("ids", [[4], [-1], [0.5], np.array([True, False]), "a"])
def test_reset_of_environments_that_do_not_exist(path: Path, ids: Any) -> None:
    with pytest.raises(SignalError, match="env_ids"):
        Policy.load(path, num_envs=4).reset(ids)


def test_the_time_step_is_filled_in_and_clipped(path: Path) -> None:
    rng = np.random.default_rng(4)
    signals = draw(rng, 1)
    for given, argument, used in (
        (None, None, 0.01), (None, 0.02, 0.02), (None, 9.0, 0.05), (None, 0.0, 0.001), (0.03, None, 0.03),
        (0.03, 0.02, 0.02), (7.0, None, 0.05),
    ):  # fmt: skip
        policy = Policy.load(path)
        inputs = signals if given is None else signals | {"time_step": np.array([[given]], np.float32)}
        found = policy.act(inputs, argument)["rotor_speed_target"]
        np.testing.assert_allclose(found, expected(signals, INITIAL, used)[0], rtol=1e-5)


def test_missing_signals_are_listed_and_others_do_no_harm(path: Path) -> None:
    policy = Policy.load(path)
    signals = draw(np.random.default_rng(5), 1)
    policy.act(signals | {"battery_voltage": np.array([3.7])})
    with pytest.raises(SignalError) as caught:
        policy.act({"target_yaw": signals["target_yaw"], "base_angvel": [0, 0, 0]})
    assert "missing signals: base_ang_vel_b." in str(caught.value)
    assert "not used by this policy: base_angvel" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\); expected \(1, 3\)"),
        ([[1.0, 2.0, 3.0]] * 2, r"shape \(2, 3\); expected \(1, 3\)"),
        (1.0, r"shape \(\); expected"),
        (["a", "b", "c"], "cannot be used as numbers"),
        ([1j, 0, 0], "cannot be used as numbers"),
        ([None, 0, 0], "cannot be used as numbers"),
        ([[1.0], [2.0, 3.0]], "cannot be used as numbers"),
    ],
)
def test_wrong_shapes_and_kinds_are_refused(path: Path, value: Any, message: str) -> None:
    policy = Policy.load(path)
    with pytest.raises(SignalError, match=message):
        policy.act({"base_ang_vel_b": value, "target_yaw": [0.0]})
    assert np.array_equal(policy.memory["filter"], INITIAL)


def test_a_batch_needs_batched_signals(path: Path) -> None:
    with pytest.raises(SignalError, match=r"shape \(3,\); expected \(2, 3\)"):
        Policy.load(path, num_envs=2).act({"base_ang_vel_b": [0.0] * 3, "target_yaw": [0.0]})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["base_ang_vel_b", "target_yaw", "time_step"])
def test_a_signal_that_is_not_finite_is_named_and_changes_nothing(path: Path, name: str, bad: float) -> None:
    policy = Policy.load(path)
    signals: dict[str, Any] = {"base_ang_vel_b": np.zeros(3, np.float32), "target_yaw": np.zeros(1, np.float32)}
    policy.act(signals)
    before = policy.memory["filter"]
    if name == "time_step" and np.isinf(bad):
        policy.act(signals, bad)  # clipped to the allowed range
        return
    with pytest.raises(NonFiniteSignal) as caught:
        policy.act(signals | {name: np.full_like(signals.get(name, np.zeros(1, np.float32)), bad)})
    assert caught.value.name == name
    assert np.array_equal(policy.memory["filter"], before)


def test_a_result_that_is_not_finite_is_named_and_the_memory_survives(tmp_path: Path) -> None:
    model = build_model()
    model.graph.node[2].op_type = "Exp"  # exp(large) overflows although every signal is finite
    contract = build_contract(model)
    write_policy_file(tmp_path / "exp.onnx", model, contract)
    policy = Policy.load(tmp_path / "exp.onnx", verify=False)
    signals = {"base_ang_vel_b": np.zeros(3), "target_yaw": np.zeros(1)}
    policy.act(signals)
    before = policy.memory["filter"]
    with pytest.raises(NonFiniteSignal, match="although every signal was finite") as caught:
        policy.act({"base_ang_vel_b": 1e6 * np.sign(weights()["w"][:3, 0]), "target_yaw": np.zeros(1)})
    assert caught.value.name in {"rotor_speed_target", "filter"}
    assert np.array_equal(policy.memory["filter"], before)
    assert np.isfinite(policy.act(signals)["rotor_speed_target"]).all()


def test_step_from_is_pure_and_takes_any_batch(path: Path) -> None:
    policy, rng = Policy.load(path), np.random.default_rng(6)
    for n in (1, 2, 7):
        signals = draw(rng, n) | {"time_step": rng.uniform(0.001, 0.05, (n, 1)).astype(np.float32)}
        memory = rng.normal(0, 1, (n, 2)).astype(np.float32)
        commands, following = policy.step_from(signals, {"filter": memory})
        command, after = reference(signals, memory)
        np.testing.assert_allclose(commands["rotor_speed_target"], command, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(following["filter"], after, rtol=1e-5, atol=1e-6)
    assert np.array_equal(policy.memory["filter"], INITIAL)
    with pytest.raises(SignalError, match="batch sizes"):
        policy.step_from(signals, {"filter": memory[:2]})
    with pytest.raises(SignalError, match="'filter' is missing"):
        policy.step_from(signals, {})


def test_bound_and_plain_runs_agree_bit_for_bit(path: Path) -> None:
    policy, rng = Policy.load(path, num_envs=2), np.random.default_rng(7)
    for _ in range(5):
        signals = draw(rng, 2)
        plain, following = policy.step_from(signals | {"time_step": np.full((2, 1), 0.01)}, policy.memory)
        assert np.array_equal(policy.act(signals)["rotor_speed_target"], plain["rotor_speed_target"])
        assert np.array_equal(policy.memory["filter"], following["filter"])


def test_a_graph_for_one_environment(tmp_path: Path) -> None:
    single = write_policy(tmp_path / "one.onnx", batch=1)
    assert Policy.load(single).act({"base_ang_vel_b": [0.0] * 3, "target_yaw": [0.0]})["rotor_speed_target"].shape == (
        2,
    )
    with pytest.raises(ContractError, match="exported for one environment"):
        Policy.load(single, num_envs=2)
    with pytest.raises(SignalError, match="num_envs is 0"):
        Policy.load(single, num_envs=0)


def test_golden_vectors_pass_and_say_by_how_much(path: Path) -> None:
    report = Policy.load(path).verify()
    assert report.passed
    assert report.steps == 3
    assert set(report.max_error) == {"rotor_speed_target", "memory.filter"}
    assert max(report.max_error.values()) < 2e-6


@pytest.mark.parametrize("group", ["commands", "memory_out"])
@pytest.mark.parametrize("size", [1e-4, 1.0])
def test_a_target_that_computes_something_else_is_refused_with_the_difference(
    tmp_path: Path, group: str, size: float
) -> None:
    model = build_model()
    golden = build_contract(model).golden
    step = golden.steps[1]
    name = "rotor_speed_target" if group == "commands" else "filter"
    span = 1000.0 if group == "commands" else 1.0
    values = getattr(step, group)[name]
    changed = {group: {name: (values[0], values[1] + size * span)}}
    steps = (golden.steps[0], dataclasses.replace(step, **changed), golden.steps[2])
    path = tmp_path / "policy.onnx"
    write_policy_file(path, model, build_contract(model, golden=Golden(golden.tolerance, steps)))
    with pytest.raises(ContractMismatch) as caught:
        Policy.load(path)
    shown = "rotor_speed_target" if group == "commands" else "memory.filter"
    assert len(caught.value.differences) == 1
    assert caught.value.differences[0].startswith(f"{shown}: differs by ")
    assert float(caught.value.differences[0].split()[3]) == pytest.approx(size, rel=0.05)
    report = Policy.load(path, verify=False).verify()
    assert not report.passed


@pytest.mark.parametrize(
    ("recorded", "scale"),
    [((-0.9, 1.1), 2.0), ((100.0, 101.0), 101.0), ((-3.0, -2.0), 3.0), ((0.0, 1e-4), 1.0), ((0.0, 0.0), 1.0)],
)
def test_memory_is_judged_by_how_far_it_moves(recorded: tuple[float, float], scale: float) -> None:
    step = GoldenStep({}, {"filter": recorded[:1]}, {}, {"filter": recorded[1:]})
    assert Golden(2e-6, (step,)).memory_scale("filter") == pytest.approx(scale)


@pytest.mark.parametrize(("error", "passed"), [(3e-6, True), (5e-6, False)])
def test_memory_between_minus_one_and_one_may_differ_like_such_a_command(
    tmp_path: Path, error: float, passed: bool
) -> None:
    """Its range is 2: two millionths of that are 4e-6."""
    model = build_model()
    golden = build_contract(model).golden
    signals = {**golden.steps[0].signals, "time_step": (1.0,)}  # with this step the memory before is forgotten
    given = {name: np.array([values], np.float32) for name, values in signals.items()}
    command, following = (tuple(map(float, v[0])) for v in reference(given, np.zeros((1, 2))))
    extremes = tuple(
        GoldenStep(
            signals,
            {"filter": (x, x)},
            {"rotor_speed_target": command},
            {"filter": tuple(v + error for v in following)},
        )
        for x in (-1.0, 1.0)
    )
    path = tmp_path / "policy.onnx"
    write_policy_file(path, model, build_contract(model, golden=Golden(2e-6, (*golden.steps, *extremes))))
    assert Policy.load(path, verify=False).verify().passed is passed


def test_relative_error_counts_nan_as_infinite() -> None:
    assert relative_error([1.0, 2.0], [1.0, 2.5], [1.0, 2.0]) == 0.25
    assert relative_error([np.nan], [0.0], 1.0) == np.inf
    assert relative_error([0.0], [np.inf], 1.0) == np.inf


def test_a_policy_without_memory_or_time_step(tmp_path: Path) -> None:
    import onnx.helper as oh
    from onnx import TensorProto

    from robot_rl.contract import Contract, GoldenStep
    from robot_rl.policy_file import graph_sha256

    nodes = [oh.make_node("Tanh", ["rotor_speed"], ["rotor_speed_target"])]
    inputs = [oh.make_tensor_value_info("rotor_speed", TensorProto.FLOAT, ["batch", 2])]
    outputs = [oh.make_tensor_value_info("rotor_speed_target", TensorProto.FLOAT, ["batch", 2])]
    model = oh.make_model(
        oh.make_graph(nodes, "g", inputs, outputs), opset_imports=[oh.make_opsetid("", 18)], ir_version=9
    )
    base = build_contract(build_model())
    step = GoldenStep({"rotor_speed": (0.5, -2.0)}, {}, {"rotor_speed_target": tuple(np.tanh([0.5, -2.0]))}, {})
    signal = dataclasses.replace(SIGNALS[0], name="rotor_speed", shape=(2,))
    contract = Contract(
        "t", "r", (signal,), base.commands, (), Rate(0.01, 0.01, 0.01), graph_sha256(model), Golden(2e-6, (step,))
    )
    write_policy_file(tmp_path / "m.onnx", model, contract)
    policy = Policy.load(tmp_path / "m.onnx")
    assert policy.memory == {}
    policy.reset()
    for _ in range(3):
        assert policy.act({"rotor_speed": [0.0, 1.0]}, 0.5)["rotor_speed_target"][1] == pytest.approx(np.tanh(1.0))


def test_a_robot_needs_no_torch(path: Path) -> None:
    code = (
        "import sys; from robot_rl.policy import Policy; from robot_rl.safety import SafetyFilter\n"
        f"policy = Policy.load({str(path)!r})\n"
        "out = policy.act({'base_ang_vel_b': [0, 0, 0], 'target_yaw': [0]})\n"
        "assert SafetyFilter(policy.contract.commands).apply(out, 0.01).events == ()\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "bad = {'torch', 'mujoco', 'gymnasium', 'scipy', 'onnxscript', 'rclpy'} & loaded\n"
        "assert not bad, bad"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("given", ["soon", [0.01, 0.02], {}, 1j])
def test_a_time_step_that_is_no_number_is_refused(path: Path, given: Any) -> None:
    signals = {s.name: np.zeros((1, *s.shape)) for s in SIGNALS[:2]}
    with pytest.raises(SignalError, match="time_step is"):
        Policy.load(path).act(signals, time_step=given)


def test_misuse_is_named_not_thrown_through(path: Path) -> None:
    """What numpy and torch say about odd arguments arrives as our own kind of error."""
    torch = pytest.importorskip("torch")
    policy, signals = Policy.load(path), {s.name: np.zeros((1, *s.shape), np.float32) for s in SIGNALS}
    with pytest.raises(SignalError, match=r"target_yaw.*requires grad"):
        policy.act({**signals, "target_yaw": torch.zeros(1, 1, requires_grad=True)})
    memory = {"filter": np.zeros((1, 2))}
    for odd in ([["a"]], [[1], [2, 3]]):
        with pytest.raises(SignalError, match="'target_yaw' cannot be used as numbers"):
            policy.step_from({**signals, "target_yaw": odd}, memory)
    with pytest.raises(SignalError, match="env_ids"):
        policy.reset([[0], [1, 2]])
    for count in (2.0, True, "2", None):
        with pytest.raises(SignalError, match="num_envs is"):
            Policy.load(path, num_envs=count)  # type: ignore[arg-type]
    assert np.array_equal(policy.memory["filter"], [MEMORY.initial])


def test_arrays_of_any_layout_and_kind_mean_the_same(path: Path) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    plain = {s.name: rng.normal(size=(3, *s.shape)).astype(np.float32) for s in SIGNALS[:2]}
    kinds: list[Any] = [
        lambda v: np.asfortranarray(v),
        lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
        lambda v: v[::-1].copy()[::-1],
        lambda v: torch.from_numpy(v),
        lambda v: v.astype(np.float64),
        lambda v: v.tolist(),
    ]
    wanted = Policy.load(path, num_envs=3).act(plain, 0.02)["rotor_speed_target"]
    for kind in kinds:
        found = Policy.load(path, num_envs=3).act({k: kind(v) for k, v in plain.items()}, 0.02)
        assert np.array_equal(found["rotor_speed_target"], wanted)
