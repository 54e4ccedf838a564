"""The same C on emulated chips: agreement, processor in the loop, self-tests that must fail, deaths and hangs."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError, DriverError, MissingDependency, NonFiniteSignal, UnknownName
from robot_rl.firmware_export.board import emulated_names, load_emulated
from robot_rl.firmware_export.generate import generate
from robot_rl.firmware_export.in_the_loop import EmulatedPolicy
from robot_rl.firmware_export.load import load_policy
from robot_rl.firmware_export.render import Weight
from robot_rl.firmware_export.source import PolicySource
from robot_rl.firmware_export.status import Status
from robot_rl.firmware_export.toolchain import APT, available
from robot_rl.firmware_export.verify import compare_targets
from robot_rl.policy import Policy

NEEDED = ("arm-none-eabi-gcc", "qemu-system-arm")
pytestmark = pytest.mark.skipif(not available(*NEEDED), reason=f"needs {' and '.join(NEEDED)}: {APT[NEEDED[0]]}")
POLICIES = pytest.mark.parametrize("which", ["compact", "with_history"])
TOLERANCE = 2e-6


@pytest.fixture
def chip(compact: Path) -> Iterator[EmulatedPolicy]:
    with EmulatedPolicy(compact, time_limit=5.0) as policy:
        yield policy


@POLICIES
def test_cortex_m4_agrees_on_a_thousand_fresh_states(
    which: str, request: pytest.FixtureRequest, states: Callable[..., list]
) -> None:
    path = request.getfixturevalue(which)
    (row,) = compare_targets(path, ("cortex-m4",), states(path, 1000, seed=1))
    assert row.max_error <= TOLERANCE
    assert max(row.errors.values()) <= TOLERANCE
    assert row.golden_error <= TOLERANCE


@pytest.mark.parametrize("board", emulated_names())
def test_every_emulated_board_passes_its_self_test(board: str, compact: Path, states: Callable[..., list]) -> None:
    target = load_emulated(board)
    if not available(target.compiler, target.qemu):
        pytest.skip(f"needs {target.compiler} and {target.qemu}: {APT[target.compiler]}; {APT[target.qemu]}")
    inputs = states(compact, 40)
    (row,) = compare_targets(compact, (board,), inputs)
    assert row.max_error <= TOLERANCE
    with EmulatedPolicy(compact, board) as policy:
        assert policy.status is policy.self_test() is Status.OK


def test_in_the_loop_like_the_policy_and_after_a_reset_again(
    chip: EmulatedPolicy, compact: Path, states: Callable[..., list]
) -> None:
    policy = Policy.load(compact)
    flights = []
    for _ in range(2):
        chip.reset()
        policy.reset()
        flight = []
        for signals, _ in states(compact, 60, seed=4):
            got, wanted = chip.act(signals, 0.004), policy.act(signals, 0.004)
            assert np.abs(got["rotor_speed_target"] - wanted["rotor_speed_target"]).max() <= 2 * TOLERANCE * 2272.6
            flight.append(got["rotor_speed_target"])
        flights.append(np.array(flight))
    assert np.array_equal(*flights)


def test_bad_signals_on_the_chip(chip: EmulatedPolicy) -> None:
    face = chip.interface
    signals = {s.name: np.full(s.shape, 0.01, np.float32) for s in face.signals}
    memory = face.initial_memory()
    bad = {**signals, "base_ang_vel_b": np.array([0, np.nan, 0], np.float32)}
    with pytest.raises(NonFiniteSignal, match="base_ang_vel_b"):
        chip.act(bad)
    statuses, commands, _ = chip.evaluate_many([(signals, memory), (bad, memory), (signals, memory)])
    assert statuses == [Status.OK, Status.BAD_SIGNAL, Status.OK]
    assert not commands["rotor_speed_target"][1].any()
    assert np.array_equal(commands["rotor_speed_target"][0], commands["rotor_speed_target"][2])


@POLICIES
def test_stack_bound_in_the_header_holds_on_the_chip(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    report = generate(request.getfixturevalue(which), tmp_path / "c", board="stm32f405")
    with EmulatedPolicy(tmp_path / "c") as policy:
        used = policy.stack_bytes()
        assert report.stack_bytes is not None
        assert 0 < used <= report.stack_bytes + 16  # the caller's own frame, which the chip counts too
        assert used >= report.stack_bytes // 2


def test_death_and_hang_are_told_apart(compact: Path) -> None:
    with EmulatedPolicy(compact) as dying:
        signals = {s.name: np.zeros(s.shape) for s in dying.interface.signals}
        os.kill(dying.pid, signal.SIGKILL)
        os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(DriverError, match="stm32f405 stopped"):
            dying.act(signals)
        with pytest.raises(DriverError, match="closed"):
            dying.act(signals)
    with EmulatedPolicy(compact, time_limit=0.5) as hanging:
        os.kill(hanging.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, hanging.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(DriverError, match=r"did not answer within 0\.5 s"):
            hanging.act(signals)


def test_missing_programs_and_boards(compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="stm32f405"):
        EmulatedPolicy(compact, "stm32f407")
    (tmp_path / "my_board.py").write_text(
        "class B:\n    name = description = 'mine'\n    def write_project(self, f, p): ...\nBOARD = B()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be emulated"):
        EmulatedPolicy(compact, "my_board:BOARD")
    found = {name: shutil.which(name) or "" for name in NEEDED}
    for missing in NEEDED:
        folder = tmp_path / missing
        folder.mkdir()
        for kept in set(NEEDED) - {missing}:
            (folder / kept).symlink_to(found[kept])
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(MissingDependency, match=f"{missing} is not installed.*apt-get install"):
            EmulatedPolicy(compact)


def flipped_bit(text: str, position: int) -> str:
    """The C with one bit of one weight's mantissa changed, at `position` (0 … 1) of the list."""
    start = text.index("policy_weights = {")
    numbers = list(re.finditer(r"-?\d[\d.e+-]*f", text[start : text.index("_WEIGHTS_CRC32")]))
    chosen = numbers[int(position * (len(numbers) - 1) / 100)]
    word = np.array([float(chosen[0][:-1])], np.float32).view(np.uint32) ^ np.uint32(1)
    value = f"{word.view(np.float32)[0]:.9g}"
    value = value if re.search(r"[.e]", value) else f"{value}.0"
    return text[: start + chosen.start()] + value + "f" + text[start + chosen.end() :]


@pytest.mark.parametrize("position", [0, 50, 100])
def test_one_flipped_bit_of_one_weight_fails_the_self_test(compact: Path, tmp_path: Path, position: int) -> None:
    folder = tmp_path / "c"
    generate(compact, folder)
    original = (folder / "policy.c").read_text()
    (folder / "policy.c").write_text(flipped_bit(original, position))
    assert (folder / "policy.c").read_text() != original
    with EmulatedPolicy(folder) as policy:
        assert policy.status is policy.self_test() is Status.BAD_WEIGHTS
        signals = {s.name: np.zeros(s.shape) for s in policy.interface.signals}
        status, commands = policy.step(signals)
        assert status is Status.NOT_READY
        assert not commands["rotor_speed_target"].any()


@POLICIES
def test_a_wrong_weight_with_a_right_check_sum_fails_on_golden_vectors(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path, folder = request.getfixturevalue(which), tmp_path / "c"
    generate(path, folder)
    source = PolicySource(load_policy(path))
    largest = max(range(len(source.code.weights)), key=lambda i: source.code.weights[i].values.size)
    weight = source.code.weights[largest]
    values = weight.values.copy()
    values[np.abs(values).argmax()] *= -1
    source.code.weights[largest] = Weight(weight.member, weight.kind, values, weight.origin)
    (folder / "policy.c").write_text(source.source())
    with EmulatedPolicy(folder) as policy:
        assert policy.self_test() is Status.BAD_GOLDEN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r"signals->(base_lin_vel_w|target_lin_vel_w)\b", {"base_lin_vel_w": "target_lin_vel_w",
        "target_lin_vel_w": "base_lin_vel_w"}),
        (r"memory->(action)\b", {"action": "filter"}),
    ],
)  # fmt: skip
def test_swapped_inputs_fail_the_self_test(compact: Path, tmp_path: Path, before: str, after: dict[str, str]) -> None:
    folder = tmp_path / "c"
    generate(compact, folder)
    text = (folder / "policy.c").read_text()
    changed = re.sub(before, lambda m: m[0].replace(m[1], after[m[1]]), text)
    assert changed != text
    (folder / "policy.c").write_text(changed)
    with EmulatedPolicy(folder) as policy:
        assert policy.status is Status.BAD_GOLDEN


@POLICIES
def test_stale_memory_fails_the_self_test(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    generate(request.getfixturevalue(which), folder)
    text = (folder / "policy.c").read_text()
    call = "policy_compute(signals, memory, commands, memory_out);"
    assert text.count(call) == 1
    (folder / "policy.c").write_text(text.replace(call, f"{call} *memory_out = *memory;"))
    with EmulatedPolicy(folder) as policy:
        assert policy.status is Status.BAD_GOLDEN
