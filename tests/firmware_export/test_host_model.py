"""The generated C on this computer: agreement with onnxruntime, return codes, memory, bad inputs, sanitisers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import MissingDependency, NonFiniteSignal, SignalError
from robot_rl.firmware_export.generate import generate
from robot_rl.firmware_export.host import HostModel
from robot_rl.firmware_export.status import Status
from robot_rl.firmware_export.toolchain import COMPILE
from robot_rl.firmware_export.verify import compare_targets
from robot_rl.policy import Policy

TOLERANCE = 2e-6
POLICIES = pytest.mark.parametrize("which", ["compact", "with_history"])


@POLICIES
def test_agrees_with_onnxruntime_on_fresh_states(
    which: str, request: pytest.FixtureRequest, states: Callable[..., list]
) -> None:
    path = request.getfixturevalue(which)
    (row,) = compare_targets(path, ("host",), states(path, 1000))
    assert row.calls == 1000
    assert row.max_error <= TOLERANCE
    assert max(row.errors.values()) <= TOLERANCE
    assert row.golden_error <= TOLERANCE


@POLICIES
def test_acts_like_the_policy_over_many_steps(
    which: str, request: pytest.FixtureRequest, states: Callable[..., list]
) -> None:
    path = request.getfixturevalue(which)
    policy = Policy.load(path)
    with HostModel(path) as model:
        for signals, _ in states(path, 120, seed=3):
            given = {k: v for k, v in signals.items() if k != "time_step"}
            want, got = policy.act(given, 0.004), model.act(given, 0.004)
            assert np.abs(want["rotor_speed_target"] - got["rotor_speed_target"]).max() <= 2 * TOLERANCE * 2272.6
        model.reset()
        policy.reset()
        batched = {k: v[None] for k, v in states(path, 1, seed=9)[0][0].items()}
        answer = model.act(batched)["rotor_speed_target"]
        assert answer.shape == (1, 4)
        assert np.abs(answer - policy.act(batched)["rotor_speed_target"]).max() <= TOLERANCE * 2272.6


def test_time_step_is_held_within_the_contract(compact: Path, states: Callable[..., list]) -> None:
    signals = dict(states(compact, 1)[0][0])
    answers = []
    for time_step in (0.02, 5.0):
        with HostModel(compact) as model:
            for _ in range(3):
                _, commands = model.step({**signals, "time_step": np.array([time_step], np.float32)})
            answers.append(commands["rotor_speed_target"])
    assert np.array_equal(*answers)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_signal_gives_idle_and_leaves_the_memory(
    compact: Path, states: Callable[..., list], value: float
) -> None:
    (first, _), (second, _) = states(compact, 2)
    with HostModel(compact) as disturbed, HostModel(compact) as calm:
        calm.step(first)
        disturbed.step(first)
        for signal in disturbed.interface.signals:
            bad = {k: v.copy() for k, v in first.items()}
            if signal.name == "time_step" and np.isinf(value):
                continue  # clipped to the contract's range, as Policy does
            bad[signal.name][-1] = value
            status, commands = disturbed.step(bad)
            assert status is Status.BAD_SIGNAL
            assert not commands["rotor_speed_target"].any()
            with pytest.raises(NonFiniteSignal, match=signal.name):
                disturbed.act(bad)
        assert np.array_equal(*(m.step(second)[1]["rotor_speed_target"] for m in (disturbed, calm)))


def test_bad_memory_and_overflow_have_their_own_codes(compact: Path, states: Callable[..., list]) -> None:
    signals, memory = states(compact, 1)[0]
    with HostModel(compact) as model:
        bad = {**memory, "push": np.array([0, np.nan, 0], np.float32)}
        status, commands, after = model.evaluate(signals, bad)
        assert status is Status.BAD_MEMORY
        assert not commands["rotor_speed_target"].any()
        assert np.isfinite(after["push"]).all()
        huge = {
            **signals,
            "base_lin_vel_w": np.full(3, 3e38, np.float32),
            "target_lin_vel_w": np.full(3, -3e38, np.float32),
        }
        status, commands, after = model.evaluate(
            huge, {**memory, "push": np.full(3, -3e38, np.float32), "started": np.ones(1)}
        )
        assert status is Status.BAD_OUTPUT
        assert not commands["rotor_speed_target"].any()
        assert np.array_equal(after["push"], np.full(3, -3e38, np.float32))
        tiny = {k: np.full_like(v, 1e-42) for k, v in signals.items()}
        assert model.evaluate(tiny, memory)[0] is Status.OK


def test_missing_and_misshapen_signals_are_named(compact: Path, states: Callable[..., list]) -> None:
    signals = dict(states(compact, 1)[0][0])
    with HostModel(compact) as model:
        with pytest.raises(SignalError, match=r"target_yaw.*missing"):
            model.act({k: v for k, v in signals.items() if k != "target_yaw"})
        with pytest.raises(SignalError, match=r"base_pos_w.*\(4,\)"):
            model.act({**signals, "base_pos_w": np.zeros(4, np.float32)})


def test_a_state_that_was_not_initialised_refuses(compact: Path, states: Callable[..., list]) -> None:
    with HostModel(compact) as model:
        model._state[:] = 0
        status, commands = model.step(states(compact, 1)[0][0])
        assert status is Status.NOT_READY
        assert not commands["rotor_speed_target"].any()
        assert model.self_test() is Status.OK


def test_no_compiler_says_what_to_install(compact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="apt-get install gcc"):
        HostModel(compact)


FUZZ = r"""
#include "policy.h"
#include <math.h>
#include <string.h>
static uint32_t seed = 1u;
static uint32_t any(void) { seed = seed * 1664525u + 1013904223u; return seed ^ (seed >> 15); }
static void fill(void *data, size_t size, uint32_t wild)
{
    unsigned char *bytes = data;
    for (size_t i = 0; i + 4 <= size; i += 4) {
        float calm = (float)(any() % 2001u) / 1000.0f - 1.0f;
        uint32_t word = any();
        if (wild < 2u) memcpy(bytes + i, &calm, 4); else memcpy(bytes + i, &word, 4);
        if (wild == 1u && any() % 40u == 0u) memcpy(bytes + i, &word, 4);
    }
}
int main(void)
{
    static policy_state state;
    int seen[8] = {0};
    if (policy_init(&state) != POLICY_OK) return 1;
    for (uint32_t n = 0; n < 20000u; ++n) {
        policy_signals signals; policy_memory memory, after; policy_commands commands;
        fill(&signals, sizeof signals, n % 3u); fill(&memory, sizeof memory, n % 2u);
        int first = policy_evaluate(&signals, &memory, &commands, &after);
        if (first < 0 || first > 3) return 2;
        seen[first]++;
        for (size_t i = 0; i < 4; ++i) if (!isfinite(commands.rotor_speed_target[i])) return 3;
        if (first && memcmp(&commands, &policy_idle, sizeof commands)) return 4;
        if (policy_step(&state, &signals, &commands) > 3) return 5;
    }
    if (policy_step(0, 0, 0) != POLICY_BAD_ARGUMENT || policy_init(0) != POLICY_BAD_ARGUMENT) return 6;
    return seen[0] && seen[1] && seen[2] ? 0 : 7;
}
"""


@POLICIES
def test_any_bit_pattern_is_answered_under_sanitisers(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    compiler = shutil.which("cc")
    assert compiler
    generate(request.getfixturevalue(which), tmp_path / "c")
    (tmp_path / "c" / "fuzz.c").write_text(FUZZ)
    flags = ["-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    sources = [str(tmp_path / "c" / name) for name in ("policy.c", "fuzz.c")]
    built = subprocess.run(
        [compiler, *COMPILE[:3], *flags, *sources, "-o", str(tmp_path / "fuzz"), "-lm"], capture_output=True, text=True
    )
    if built.returncode and "san" in built.stderr:
        pytest.skip(f"no sanitiser libraries: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(tmp_path / "fuzz")], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
