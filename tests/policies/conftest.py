"""Makes `fakes` importable for the tests in this folder and keeps torch on one thread."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)

if "fakes" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("fakes", Path(__file__).parents[1] / "fakes.py")
    assert _spec is not None and _spec.loader is not None
    sys.modules["fakes"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["fakes"])
