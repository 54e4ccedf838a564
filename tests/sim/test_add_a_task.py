"""The page on adding a task: its example runs as it stands, here and as a user's own module."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from robot_rl.registry import load
from robot_rl.sim.task_spec import make_env

PAGE = Path(__file__).parents[2] / "docs" / "add_a_task.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "my_windy_hover.py").write_text(blocks[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_windy_hover", raising=False)
    task = load("task", "my_windy_hover:TASK")
    names = {"TASK": task}
    exec(compile(blocks[1], str(PAGE), "exec"), names)
    env = make_env("my_windy_hover:TASK", 3, 0)
    assert env.task.options.wind.gust == 1.0 and names["env"].task.options.wind.gust == 2.0


def test_every_group_of_options_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")
    groups = {f for f in vars(load("task", "quadrotor-hover").options) if f not in _PLAIN}
    assert not [g for g in sorted(groups) if f"`{g}`" not in text]


_PLAIN = {"vehicle", "control_dt", "episode_s", "observer", "action_map", "backend", "auto_reset", "desync"}
