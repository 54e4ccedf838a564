"""Policy files that fly and stand, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pd_policy import write_pd_policy
from stance_policy import write_stance_policy


@pytest.fixture(scope="session")
def pd_policy(tmp_path_factory) -> Path:
    return write_pd_policy(tmp_path_factory.mktemp("policy") / "pd.onnx")


@pytest.fixture(scope="session")
def stance_policy(tmp_path_factory) -> Path:
    return write_stance_policy(tmp_path_factory.mktemp("policy") / "stance.onnx")
