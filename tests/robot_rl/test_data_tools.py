"""`robot-rl data`: what it says about sound, torn and damaged files, and what it joins."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from test_data_store import SPEC, assert_same, episode, filled

from robot_rl.cli import main
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tools import check, info, merge


def test_info_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "a.rrl")
    found = info(tmp_path / "a.rrl")
    assert (found.episodes, found.steps, found.shortest, found.longest) == (3, 15, 4, 6)
    assert found.seconds == pytest.approx(0.6) and (found.successes, found.judged) == (2, 3)
    assert found.returns == pytest.approx((6 + 10 + 15) / 3), "rewards are 0, 1, 2, …"
    assert found.interventions == pytest.approx((2 + 3 + 3) / 15)
    assert main(["data", "info", str(tmp_path / "a.rrl")]) == 0
    shown = capsys.readouterr().out
    for text in ("3 episodes, 15 steps", "success 2 of 3", "operator: scripted", "obs/joint_pos", "rad"):
        assert text in shown
    assert main(["data", "info", str(tmp_path / "a.rrl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 3


def test_an_empty_file_is_sound(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "a.rrl", SPEC).close()
    assert info(tmp_path / "a.rrl").episodes == 0 and check(tmp_path / "a.rrl") == []


def test_check_names_what_is_wrong_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.rrl"
    filled(path)
    assert main(["data", "check", str(path)]) == 0 and "sound" in capsys.readouterr().out
    with EpisodeStore.open(path) as store:
        at = store._frames[2].start
    data = bytearray(path.read_bytes()[:-7])
    data[at + 100] ^= 255
    path.write_bytes(data)
    assert main(["data", "check", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "2 faults" in shown and "episode 1 in" in shown and "episode at the end" in shown
    assert path.read_bytes() == bytes(data)


def test_merge_joins_in_order_and_leaves_out_what_it_is_told_to(tmp_path: Path) -> None:
    first, second = tmp_path / "a.rrl", tmp_path / "b.rrl"
    filled(first)
    filled(second, 2)
    count, left_out = merge([first, second], tmp_path / "c.rrl")
    assert (count, left_out) == (5, [])
    with EpisodeStore.open(tmp_path / "c.rrl") as store:
        for found, (steps, seed) in zip(store, [(4, 0), (5, 1), (6, 2), (4, 0), (5, 1)], strict=True):
            assert_same(found, episode(steps, seed))
    with EpisodeStore.open(first) as store:
        at = store._frames[1].start
    data = bytearray(first.read_bytes())
    data[at + 100] ^= 255
    first.write_bytes(data)
    assert main(["data", "merge", str(first), str(second), "-o", str(tmp_path / "d.rrl")]) == 2
    count, left_out = merge([first, second], tmp_path / "d.rrl", skip_damaged=True)
    assert count == 4 and len(left_out) == 1 and "episode 0" in left_out[0]


def test_merge_refuses_what_does_not_fit_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path / "a.rrl", 1)
    other = dataclasses.replace(
        SPEC, control_dt=0.02, features={**SPEC.features, "cost/force": SPEC.features["reward"]}
    )
    EpisodeStore.create(tmp_path / "b.rrl", other).close()
    words = ["data", "merge", str(tmp_path / "a.rrl"), str(tmp_path / "b.rrl"), "-o"]
    assert main([*words, str(tmp_path / "c.rrl")]) == 2
    told = capsys.readouterr().err
    assert "control_dt: 0.04 and 0.02" in told and "'cost/force': missing" in told
    assert main([*words, str(tmp_path / "a.rrl")]) == 2 and "exists" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.rrl", "b.rrl"]
