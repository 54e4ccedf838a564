"""The example of docs/add_an_operator.md, run as written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from robot_rl.firmware_export import operator
from robot_rl.firmware_export.host import HostModel

DOCUMENT = Path(__file__).parents[2] / "docs" / "add_an_operator.md"


def test_the_example_is_one_file_and_works(
    save_graph: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    names: dict[str, object] = {}
    exec(compile(code, str(DOCUMENT), "exec"), names)
    added = names["OPERATORS"]
    assert isinstance(added, dict)
    path = save_graph([helper.make_node("Celu", ["x"], ["o"], alpha=0.5)], {"x": [1, 50]}, ["o"])
    everything = {**operator.operators(), **added}
    for module in ("simplify", "lower", "render", "fuse"):
        monkeypatch.setattr(f"robot_rl.firmware_export.{module}.operators", lambda: everything)
    x = np.linspace(-4, 4, 50, dtype=np.float32)
    with HostModel(path, flags=["-Werror"]) as model:
        found = model.evaluate({"x": x}, {})[1]["o"]
    assert np.allclose(found, np.maximum(x, 0) + np.minimum(0, 0.5 * (np.exp(x / 0.5) - 1)), atol=1e-6)


def test_the_words_of_the_document_are_true() -> None:
    text = DOCUMENT.read_text()
    for kind in ("Elementwise", "Viewing", "Assembling", "Kernel", "Unsupported", "Helper"):
        assert kind in text
        assert hasattr(operator, kind)
    assert len(text.splitlines()) < 60
