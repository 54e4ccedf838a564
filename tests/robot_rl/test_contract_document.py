"""docs/contract.md: its examples run, and it names every field there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

from robot_rl.policy import Policy

TEXT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(tmp_path: Path) -> None:
    use, make = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for name, code in (("make.py", make), ("use.py", use)):
        (tmp_path / name).write_text(code, encoding="utf-8")
        ended = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("joint_torque_target") == 3
    assert Policy.load(tmp_path / "policy.onnx").contract.robot == "my-robot"


def test_every_field_is_named() -> None:
    schema = json.loads(resources.files("robot_rl").joinpath("contract.schema.json").read_text(encoding="utf-8"))
    table = {name for line in TEXT.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    assert set(schema["properties"]) <= table
    for group in ("command", "signal"):
        assert {"max_rate", "idle", "max_age"} & set(schema["$defs"][group]["properties"]) <= table
