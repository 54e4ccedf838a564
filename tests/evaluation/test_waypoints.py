"""The user's own path: read from files, refused with the line that is wrong, flown from the first point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.errors import ConfigError
from robot_rl.evaluation.evaluate import distinct, evaluate
from robot_rl.evaluation.plant import plant, reference
from robot_rl.evaluation.scenarios import Scenario
from robot_rl.evaluation.waypoints import waypoint_scenario

POINTS = ((2.0, 1.0, 0.5), (3.0, 1.0, 0.7), (3.0, 2.0, 0.5))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "speed"),
    [
        ("a.csv", "# a path\nx, y, z\n2,1,0.5\n\n3,1,.7\n3,2,5e-1\n", 0.8),
        ("b.csv", "\ufeff2,1,0.5\n3,1,0.7\n3,2,0.5", 0.8),
        ("c.yaml", "[[2, 1, 0.5], [3, 1, 0.7], [3, 2, 0.5]]", 0.8),
        ("d.yml", "speed: 1.5\nwaypoints: [[2, 1, 0.5], [3, 1, 0.7], [3, 2, 0.5]]", 1.5),
    ],
)
def test_files_that_say_the_same(tmp_path: Path, name: str, text: str, speed: float) -> None:
    found = waypoint_scenario(written(tmp_path, name, text))
    assert found.waypoints == POINTS and found.speed == speed and found.tracking
    assert waypoint_scenario(tmp_path / name, speed=2.0).speed == 2.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "0,0,0\n1,0\n", "line 2 is 1, 0; it must be three numbers"),
        ("a.csv", "0,0,0\n1,zero,0\n", "line 2 is 1, zero, 0"),
        ("a.csv", "0,0,0\n1,nan,0\n", "line 2 .* must be finite"),
        ("a.csv", "x,y,z\n0,0,0\n", "1 found, at least two"),
        ("a.csv", "", "0 found"),
        ("a.yaml", "points: [[0, 0, 0]]", r"keys \['points'\]"),
        ("a.yaml", "waypoints: 3", "no list of points"),
        ("a.yaml", "[[0, 0, 0], [1, true, 0]]", "point 2"),
        ("a.yaml", "[[0, 0, 0], far]", "point 2 is 'far'"),
        ("a.yaml", "{waypoints: [[0, 0, 0], [1, 0, 0]], speed: fast}", "speed is 'fast'"),
        ("a.yaml", "{waypoints: [[0, 0, 0], [1, 0, 0]], speed: 0}", "speed 0"),
        ("a.yaml", "[[0, 0, 0], [1000, 0, 0]]", "1250 s .* at most 120 s"),
        ("a.txt", "0,0,0", "unknown kind of file '.txt'"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        waypoint_scenario(written(tmp_path, name, text))


@pytest.mark.parametrize("name", ["none.csv", "none.yaml"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.* cannot be read"):
        waypoint_scenario(tmp_path / name)


def test_the_flight_starts_at_the_first_point_and_ends_at_the_last() -> None:
    scenario = Scenario("own", "own", task="waypoints", start="rest", waypoints=POINTS)
    path = reference(scenario)
    assert path.position[0] == pytest.approx(POINTS[0]) and path.position[-1] == pytest.approx(POINTS[-1])
    assert path.velocity[-1] == pytest.approx(np.zeros(3)) and path.settled[1:].all()
    sim, _ = plant(scenario, 2, seed=0)
    assert sim.state[0:3] == pytest.approx(np.array([POINTS[0]] * 2).T)
    result = evaluate("base:lee", scenario, episodes=4)
    assert result.summary is not None
    assert result.summary.survival.value == 1.0 and 0 < result.summary.rmse.value < 0.15


def test_the_command_line_flies_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "mine.csv", "0,0,0\n0.5,0,0.2\n0.5,0.5,0\n")
    command = ["eval", "base:lee", "--waypoints", str(path), "--speed", "0.5", "--episodes", "3", "--no-video"]
    assert main([*command, "--json", "-", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    (result,) = json.loads(printed.out)["results"]
    assert result["scenario"]["speed"] == 0.5 and result["summary"]["rmse"]["value"] < 0.1
    assert "mine.csv" in printed.err and (tmp_path / "out" / "waypoints-mine.png").stat().st_size > 10_000
    assert main(["eval", "base:lee", "--speed", "0.5"]) == 2
    assert "--waypoints" in capsys.readouterr().err


def test_policies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    from linear_policy_file import write_linear_policy

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_linear_policy(tmp_path / folder / "policy.onnx")
    files = [str(tmp_path / folder / "policy.onnx") for folder in ("a", "b")]
    assert [t.name for t in distinct([*files, "base:lee"])] == [*files, "lee"]
    assert [t.name for t in distinct([files[0], "base:lee"])] == ["policy", "lee"]
    with pytest.raises(ConfigError, match="'lee' is given twice"):
        distinct([files[0], "base:lee", "base:lee"])
