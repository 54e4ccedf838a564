"""Export: what is written computes what PyTorch computes, for one robot and for batches; bad policies are refused."""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper as onh
import pytest
import torch
from fakes import PointMass
from small_policy import RATE, SIGNALS, History, Recurrent, Rotors, export, mlp, rollout
from torch import Tensor, nn

from robot_rl.contract import Command, Memory, Rate, Safety
from robot_rl.errors import ContractError, ExportError
from robot_rl.observer import ActionMap, Observer, initial_memory
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.policies.export import example_tensors, max_difference, record_rollout
from robot_rl.policy import Policy
from robot_rl.policy_file import PolicyFile, read_policy_file
from robot_rl.signals import Signal


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        tmp_path_factory.mktemp("export") / "policy.onnx",
        provenance={"seed": 4, "config": {"steps": 3}},
        safety=Safety(max_tilt=1.0),
        gains={"stiffness": [1, 2]},
    )


@pytest.fixture(scope="module")
def deployed() -> DeployedPolicy:
    return DeployedPolicy(History(), mlp(), Rotors()).eval()


def test_the_file_is_a_small_clean_graph(path: Path) -> None:
    file = read_policy_file(path)
    model = onnx.load_model_from_string(file.model_bytes)
    assert len(model.graph.node) < 80
    assert not model.functions
    assert model.ir_version <= 10
    assert b".py" not in file.model_bytes  # no stack traces of the tracing
    assert {n.domain for n in model.graph.node} <= {"", "ai.onnx"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_contract_says_what_the_modules_declare(path: Path) -> None:
    contract = read_policy_file(path).contract
    assert (contract.signals, contract.commands, contract.memory) == (SIGNALS, Rotors.commands, History.memory)
    assert (contract.task, contract.robot, contract.rate) == ("quadrotor-hover", "crazyflie", RATE)
    assert contract.safety == Safety(max_tilt=1.0)
    assert contract.gains == {"stiffness": (1.0, 2.0)}
    found = contract.provenance
    assert {"git_commit", "command_line", "versions", "config_sha256"} < set(found)
    assert (found["seed"], found["config"]) == (4, {"steps": 3})
    assert len(found["config_sha256"]) == 64


def test_golden_vectors_are_a_chain_from_reset_with_commands_that_vary(path: Path) -> None:
    contract = read_policy_file(path).contract
    steps = contract.golden.steps
    assert len(steps) == 8
    assert {m.name: m.initial for m in contract.memory} == {k: pytest.approx(v) for k, v in steps[0].memory.items()}
    links = [a.memory_out == b.memory for a, b in itertools.pairwise(steps)]
    assert links.count(False) <= 1  # the reset's chain, then the liveliest stretch
    assert all(links[:2])
    commands = np.array([s.commands["rotor_speed_target"] for s in steps])
    assert (commands.std(axis=0) > 1e-3 * 2272.6).all()
    assert len({s.signals["time_step"] for s in steps}) > 1


@torch.no_grad()
def test_one_robot_through_act_equals_torch(path: Path, deployed: DeployedPolicy) -> None:
    policy, memory = Policy.load(path), initial_memory(deployed.memory, 1)
    for signals in rollout(30, seed=5):
        tensors = {k: torch.tensor(v, dtype=torch.float32)[None] for k, v in signals.items()}
        commands, memory = deployed(tensors | {"time_step": torch.full((1, 1), 0.01)}, memory)
        found = policy.act(signals)["rotor_speed_target"]
        assert found.shape == (4,)
        assert np.abs(found - commands["rotor_speed_target"][0].numpy()).max() < 2e-6 * 2272.6


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 2, 33])
def test_a_batch_equals_torch(path: Path, deployed: DeployedPolicy, n: int) -> None:
    policy, generator = Policy.load(path, num_envs=n), torch.Generator().manual_seed(1)
    memory = initial_memory(deployed.memory, n)
    for _ in range(4):
        signals = {s.name: torch.randn(n, *s.shape, generator=generator) for s in SIGNALS}
        signals["time_step"] = torch.rand(n, 1, generator=generator) * 0.019 + 0.001
        commands, memory = deployed(signals, memory)
        found = policy.act({k: v.numpy() for k, v in signals.items()})["rotor_speed_target"]
        assert found.shape == (n, 4)
        assert np.abs(found - commands["rotor_speed_target"].numpy()).max() < 2e-6 * 2272.6


def test_fresh_states_agree_and_another_network_does_not(path: Path, deployed: DeployedPolicy) -> None:
    policy, examples = Policy.load(path), example_tensors(SIGNALS, rollout(300, seed=9), RATE)
    same = max_difference(deployed, policy, record_rollout(deployed, examples))
    assert set(same) == {"rotor_speed_target", *(f"memory.{m.name}" for m in History.memory)}
    assert max(same.values()) < 2e-6
    other = DeployedPolicy(History(), mlp(seed=1), Rotors()).eval()
    assert max_difference(other, policy, record_rollout(other, examples))["rotor_speed_target"] > 0.01


def test_a_changed_weight_fails_the_golden_vectors(path: Path) -> None:
    """What golden vectors are for: any single weight off by one percent of its layer's size is found out."""
    file = read_policy_file(path)
    draw = random.Random(0)
    for _ in range(20):
        model = onnx.load_model_from_string(file.model_bytes)
        weight = draw.choice([t for t in model.graph.initializer if len(t.dims) == 2 and min(t.dims) > 1])
        values = onh.to_array(weight).copy()
        values[draw.randrange(values.shape[0]), draw.randrange(values.shape[1])] += 0.01 * values.std()
        weight.CopyFrom(onh.from_array(values, weight.name))
        report = Policy(PolicyFile(model.SerializeToString(), file.contract)).verify()
        assert not report.passed
        assert report.differences()[0].startswith("rotor_speed_target: differs by ")


def test_the_same_policy_gives_the_same_graph_and_nothing_is_printed(path: Path, tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("error")
        again = export(tmp_path / "again.onnx")
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert read_policy_file(again).contract.graph_sha256 == read_policy_file(path).contract.graph_sha256
    assert read_policy_file(again).contract.golden == read_policy_file(path).contract.golden


def test_the_callers_modules_are_left_as_they_were(tmp_path: Path) -> None:
    actor = nn.Sequential(mlp(), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in actor.state_dict().items()}
    file = read_policy_file(export(tmp_path / "p.onnx", actor=actor))
    assert actor.training
    assert all(torch.equal(v, before[k]) for k, v in actor.state_dict().items())
    assert "Dropout" not in {n.op_type for n in onnx.load_model_from_string(file.model_bytes).graph.node}


def test_a_recurrent_actor_has_its_state_as_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    actor = Recurrent()
    policy = Policy.load(export(tmp_path / "gru.onnx", actor=actor))
    assert [m.name for m in policy.contract.memory] == [*(m.name for m in History.memory), "gru"]
    policy.act(rollout(1)[0])
    assert np.abs(policy.memory["gru"]).max() > 0


class Plain(Observer):
    """No memory, no time step: what any feed-forward policy needs."""

    signals = (Signal("joint_pos", (1,), "rad"), Signal("joint_vel", (2,), "rad/s"))
    obs_dim = 3

    def forward(self, signals: dict[str, Tensor], memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.cat([signals["joint_pos"], 0.1 * signals["joint_vel"]], -1), memory


class Joint(ActionMap):
    """A target about zero."""

    commands = (Command("joint_pos_target", "joint_pos", "rad", ("hip",), (-2.0,), (2.0,), (0.0,)),)

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {"joint_pos_target": 2.0 * action.clamp(-1, 1)}


def plain_rollout() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"joint_pos": rng.normal(size=1), "joint_vel": rng.normal(size=2)} for _ in range(10)]


def stable_baselines_actor(name: str) -> nn.Module:
    pytest.importorskip("stable_baselines3")
    spec = load_algorithm(f"sb3:{name}")
    return spec.create(PointMass(num_envs=2), spec.config_class(num_envs=2), 0).policy()


@pytest.mark.parametrize("name", ["linear", "PPO", "SAC", "TD3"])
def test_memoryless_and_stable_baselines_actors_go_through_the_same_door(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    actor = nn.Linear(3, 1) if name == "linear" else stable_baselines_actor(name)
    if name == "PPO":  # starts with commands that hardly move
        with torch.no_grad():
            actor.network[-1].weight.mul_(50.0)
    rate = Rate(0.02, 0.02, 0.02)
    arguments = {"observer": Plain(), "action_map": Joint(), "rate": rate, "example_signals": plain_rollout()}
    policy = Policy.load(export(tmp_path / "p.onnx", actor=actor, **arguments))
    assert policy.memory == {}
    for signals in plain_rollout():
        with torch.no_grad():
            obs = torch.tensor(np.concatenate([signals["joint_pos"], 0.1 * signals["joint_vel"]]), dtype=torch.float32)
            expected = 2 * actor.eval()(obs[None]).clamp(-1, 1)[0].numpy()
        np.testing.assert_allclose(policy.act(signals)["joint_pos_target"], expected, atol=8e-6)


class Branching(nn.Module):
    """Not traceable: branches on a value."""

    def forward(self, obs: Tensor) -> Tensor:
        return obs[:, :4] if obs.sum() > 0 else obs[:, 4:8]


class Rpm(Rotors):
    """Forgets to convert to rad/s."""

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {"rotor_speed_target": (action.clamp(-1, 1) + 1) * (0.5 * 21702)}


class Misnamed(Rotors):
    """Declares one name, gives another."""

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {"rotor_speed": action}


class Longer(History):
    """Declares more than it gives."""

    obs_dim = 99


class Forgetful(History):
    """Drops a memory that it declares."""

    def record(self, memory: dict[str, Tensor], action: Tensor) -> dict[str, Tensor]:
        return {k: v for k, v in super().record(memory, action).items() if k != "filter"}


def nan_actor() -> nn.Module:
    actor = mlp()
    with torch.no_grad():
        actor[0].weight[3, 3] = torch.nan
    return actor


def zero_actor() -> nn.Module:
    actor = mlp()
    for parameter in actor[2].parameters():
        nn.init.zeros_(parameter)
    return actor


def _example(name: str, value: Any) -> list[dict[str, Any]]:
    return [*rollout(2), rollout(1)[0] | {name: value}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda: {"actor": Branching()}, "branches on the value of a tensor"),
        (lambda: {"actor": nn.Linear(5, 4)}, "cannot be run on example step 0: RuntimeError: mat1 and mat2"),
        (lambda: {"observer": Longer()}, "Longer gives observations of 47; its obs_dim is 99"),
        (lambda: {"actor": nan_actor()}, "command 'rotor_speed_target' is NaN or infinite at example step 0"),
        (lambda: {"actor": zero_actor()}, "the same command in all 40 example steps"),
        (lambda: {"action_map": Rpm()}, "rad/s at example step 0; its limits are [0, 2272.6]"),
        (lambda: {"action_map": Misnamed()}, "the command shapes are {'rotor_speed': (1, 4)}"),
        (lambda: {"observer": Forgetful()}, "the memory shapes are"),
        (lambda: {"example_signals": rollout(1)}, "at least 2 steps"),
        (lambda: {"example_signals": _example("base_pos_w", np.zeros(4))}, "shape (4,), expected (3,)"),
        (
            lambda: {"example_signals": _example("base_pos_w", [0, np.nan, 0])},
            "example step 2: signal 'base_pos_w' is NaN",
        ),
        (lambda: {"example_signals": [{"base_pos_w": np.zeros(3)}] * 2}, "lacks the signal 'base_quat_wxyz'"),
        (lambda: {"tolerance": 1e-12}, "onnxruntime differs from PyTorch by more than 1e-12 of the range"),
    ],
    ids=[
        "branch",
        "size",
        "obs_dim",
        "nan",
        "constant",
        "unit",
        "name",
        "memory",
        "short",
        "shape",
        "value",
        "signal",
        "tolerance",
    ],
)
def test_what_cannot_be_deployed_is_refused_and_nothing_is_written(
    tmp_path: Path, changes: Callable[[], dict[str, Any]], message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(tmp_path / "p.onnx", **changes())
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert list(tmp_path.iterdir()) == []


def test_a_contradicting_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="min_dt"):
        export(tmp_path / "p.onnx", rate=Rate(0.01, 0.02, 0.03))
    with pytest.raises(ContractError, match="JSON"):
        export(tmp_path / "p.onnx", provenance={"figure": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_memory_of_observer_and_actor_may_not_share_a_name() -> None:
    actor = Recurrent()
    actor.memory = (Memory("filter", (16,), (0.0,) * 16),)
    with pytest.raises(ExportError, match="not unique"):
        DeployedPolicy(History(), actor, Rotors())
