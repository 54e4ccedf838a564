"""The demo goes on after a failed stage, says which one failed, and takes what differs for a failure."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from robot_rl.commands.demo_command import Demo, Stage, StageFailed, compared, run_stages
from robot_rl.commands.verify_command import TOLERANCE, Difference
from robot_rl.errors import ExportError


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path, seed=0, fast=True, episodes=1)


def test_a_failed_stage_stops_only_what_needs_it(demo: Demo) -> None:
    ran: list[str] = []

    def good(name: str) -> Stage:
        return Stage(name, f"do {name}", lambda _: ran.append(name) or f"{name} done")

    def broken(_: Demo) -> str:
        raise ExportError("the node [Loop] has no translation")

    stages = [
        good("train"),
        Stage("export", "write the file", broken, ("train",)),
        Stage("fly", "fly the file", good("fly").run, ("export",)),
        Stage("land", "land", good("land").run, ("fly",)),
        Stage("plot", "plot", good("plot").run, ("train",)),
    ]
    out = io.StringIO()
    assert run_stages(demo, stages, Console(file=out, width=140)) == ["export", "fly", "land"]
    assert ran == ["train", "plot"]
    text = out.getvalue()
    assert "failed: the node [Loop] has no translation" in text and "plot done" in text
    assert "not run: needs export" in text and "not run: needs fly" in text


def test_nothing_failed_is_nothing_named(demo: Demo) -> None:
    stages = [Stage("a", "a", lambda _: "fine"), Stage("b", "b", lambda _: "fine", ("a",))]
    assert run_stages(demo, stages, Console(file=io.StringIO())) == []


def test_a_target_that_differs_fails_the_stage_and_stands_in_the_table(demo: Demo) -> None:
    same, other = TOLERANCE / 10, 10 * TOLERANCE
    differences = [
        Difference("onnxruntime", None, same),
        Difference("host", same, same),
        Difference("cortex-m4", other, same),
    ]
    with pytest.raises(StageFailed, match="onnxruntime ok, host ok, cortex-m4 DIFFERS"):
        compared(demo, differences)
    assert [(r.target, r.difference) for r in demo.rows][-1] == ("C on emulated STM32F405", "2e-05 of range")


def test_a_target_that_cannot_be_built_is_no_failure(demo: Demo) -> None:
    differences = [Difference("host", 0.0, 0.0), Difference("cortex-m4", None, None, "arm-none-eabi-gcc is missing")]
    assert compared(demo, differences) == "host ok, cortex-m4 skipped"
    assert demo.notes == ["cortex-m4: arm-none-eabi-gcc is missing"]
