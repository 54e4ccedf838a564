"""A policy file that flies, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pd_policy import write_pd_policy


@pytest.fixture(scope="session")
def pd_policy(tmp_path_factory) -> Path:
    return write_pd_policy(tmp_path_factory.mktemp("policy") / "pd.onnx")
