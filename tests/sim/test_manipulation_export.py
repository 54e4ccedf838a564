"""A Panda policy as one file: the inverse kinematics inside, the same commands as in the environment, driving it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robot_rl.policies.export import export_policy
from robot_rl.policy import Policy
from robot_rl.sim.task_spec import make_env

TASK = "panda-pick"


def env_of(seed: int) -> Any:
    return make_env(TASK, 1, seed, overrides={"threads": 1})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    env = env_of(0)
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(env.obs_dims["policy"], 32), nn.Tanh(), nn.Linear(32, env.action_dim), nn.Tanh())
    motion = torch.full((1, env.action_dim), 0.3)  # any will do

    def act(signals: Mapping[str, Any]) -> dict[str, Any]:
        commands = env.action_map.commands_for(motion, {k: torch.as_tensor(v) for k, v in signals.items()})
        return {name: value.numpy() for name, value in commands.items()}

    signals = env.task.example_signals(act, 6)
    return export_policy(
        tmp_path_factory.mktemp("panda") / "policy.onnx", observer=env.observer, actor=actor,
        action_map=env.action_map, task=TASK, robot="panda", rate=env.task.rate, example_signals=signals,
    )  # fmt: skip


def test_the_file_drives_the_arm_as_the_actions_do(exported: Path) -> None:
    """The graph is compared with PyTorch when it is written, and replays its golden steps when it is loaded."""
    policy = Policy.load(exported)
    assert {"joint_pos", "object_pos_w", "target_pos_w"} <= {s.name for s in policy.contract.signals}
    env, twin = (env_of(5) for _ in range(2))
    start, memory = env.ee_pos.clone(), policy.memory
    for _ in range(20):
        signals = {s.name: env.signals()[s.name].numpy() for s in policy.contract.signals}
        commands, memory = policy.step_from(signals, memory)
        assert commands["joint_pos_target"].shape == (1, 7) and commands["gripper_width_target"].shape == (1, 1)
        env.step_command({name: torch.from_numpy(np.array(value)) for name, value in commands.items()})
        # What the network chose is in the file's memory; the environment makes the same of it.
        twin.step(torch.from_numpy(np.array(memory["previous_action"])))
        assert torch.allclose(env.physics.qpos, twin.physics.qpos, atol=1e-4)
    assert (env.ee_pos - start).norm() > 0.02


def test_the_graph_holds_a_moderate_number_of_plain_operators(exported: Path) -> None:
    import onnx

    graph = onnx.load(str(exported)).graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"Loop", "If", "Scan", "Atan", "Inverse"}
    assert 100 < len(graph.node) < 800
