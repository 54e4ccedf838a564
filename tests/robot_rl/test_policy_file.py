"""Policy files: what is refused on reading, each with its reason, and that writing is all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.helper as oh
import onnx.numpy_helper as onh
import pytest
from policy_builder import SIGNALS, build_contract, build_model, write_policy

from robot_rl.contract import CONTRACT_KEY
from robot_rl.errors import ContractError, ContractMismatch, ExportError
from robot_rl.policy_file import CONTRACT_SHA256_KEY, MAX_FILE_BYTES, graph_sha256, read_policy_file, write_policy_file


@pytest.fixture
def policy_path(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy.onnx")


def refused(path: Path, *fragments: str) -> str:
    with pytest.raises(ContractError) as caught:
        read_policy_file(path)
    for fragment in (path.name, *fragments):
        assert fragment in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, change: Callable[[onnx.ModelProto], None], sign_graph: bool = False) -> None:
    """Change the ONNX model in a file; with `sign_graph` as an author who recomputes both sums would."""
    model = onnx.load(path)
    change(model)
    if sign_graph:
        entries = {p.key: p for p in model.metadata_props}
        data = json.loads(entries[CONTRACT_KEY].value)
        data["graph_sha256"] = graph_sha256(model)
        entries[CONTRACT_KEY].value = json.dumps(data)
        entries[CONTRACT_SHA256_KEY].value = hashlib.sha256(entries[CONTRACT_KEY].value.encode()).hexdigest()
    path.write_bytes(model.SerializeToString())


def test_what_is_written_is_read_again(policy_path: Path) -> None:
    model = build_model()
    file = read_policy_file(policy_path)
    assert file.contract == build_contract(model)
    assert onnx.load_model_from_string(file.model_bytes) == model
    assert hashlib.sha256(file.model_bytes).hexdigest() == file.contract.graph_sha256 == graph_sha256(model)


def test_the_graph_hash_ignores_metadata_and_sees_everything_else() -> None:
    model, other = build_model(), build_model()
    other.metadata_props.add(key="note", value="hello")
    assert graph_sha256(other) == graph_sha256(model)
    weights = onh.to_array(other.graph.initializer[0]).copy()
    weights[0, 0] = np.nextafter(weights[0, 0], np.float32(9))
    other.graph.initializer[0].CopyFrom(onh.from_array(weights, "w"))
    assert graph_sha256(other) != graph_sha256(model)
    assert graph_sha256(build_model(opset=17)) != graph_sha256(model)


def test_files_that_are_no_policy(tmp_path: Path, policy_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "there is no file", "robot-rl export")
    refused(tmp_path, "is a folder")
    refused(Path("/dev/null"), "not a regular file")
    for name, content, reason in (
        ("empty.onnx", b"", "is empty"),
        ("text.onnx", b"hello, this is not ONNX", "not an ONNX file"),
        ("zeros.onnx", bytes(1000), "not an ONNX file"),
        ("half.onnx", policy_path.read_bytes()[:-300], "cut short"),
        ("ir.onnx", onnx.ModelProto(ir_version=9).SerializeToString(), "holds no graph"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, reason)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")


def test_a_name_with_a_null_character_is_refused() -> None:
    with pytest.raises(ContractError, match="cannot be read"):
        read_policy_file("a\0b.onnx")


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate(3 * 2**30)  # sparse: takes no disk
    refused(path, str(3 * 2**30), str(MAX_FILE_BYTES))


def test_no_contract_says_how_to_give_one(tmp_path: Path) -> None:
    path = tmp_path / "bare.onnx"
    onnx.save(build_model(), path)
    refused(path, "without a contract", "robot-rl export", "export_policy")


def test_two_contracts_are_refused(policy_path: Path) -> None:
    rewrite(policy_path, lambda m: m.metadata_props.add(key=CONTRACT_KEY, value="{}") and None)
    refused(policy_path, "more than one contract")


def test_a_changed_weight_is_refused(policy_path: Path) -> None:
    def flip(model: onnx.ModelProto) -> None:
        raw = bytearray(model.graph.initializer[0].raw_data)
        raw[0] ^= 1
        model.graph.initializer[0].raw_data = bytes(raw)

    rewrite(policy_path, flip)
    refused(policy_path, "was changed after export", "SHA-256")


@pytest.mark.parametrize("key", [CONTRACT_KEY, CONTRACT_SHA256_KEY])
def test_a_changed_contract_is_refused(policy_path: Path, key: str) -> None:
    def loosen(model: onnx.ModelProto) -> None:
        entry = next(p for p in model.metadata_props if p.key == key)
        old, new = (
            ("2000.0", "2001.0") if key == CONTRACT_KEY else (entry.value[:1], "0" if entry.value[0] != "0" else "1")
        )
        assert old in entry.value
        entry.value = entry.value.replace(old, new, 1)

    rewrite(policy_path, loosen)
    refused(policy_path, "contract was changed after export")


def test_another_schema_version_is_named_although_the_sum_differs(policy_path: Path) -> None:
    def age(model: onnx.ModelProto) -> None:
        entry = next(p for p in model.metadata_props if p.key == CONTRACT_KEY)
        entry.value = entry.value.replace('"schema_version": 1', '"schema_version": 0')

    rewrite(policy_path, age)
    with pytest.raises(ContractError, match="schema version 0; this program reads version 1"):
        read_policy_file(policy_path)


def _bad_weight(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weights = onh.to_array(model.graph.initializer[0]).copy()
        weights[2, 1] = value
        model.graph.initializer[0].CopyFrom(onh.from_array(weights, "w"))

    return change


def _bad_constant(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Constant")
    node.attribute[0].t.CopyFrom(onh.from_array(np.array([np.nan], np.float32)))


def _bad_attribute(model: onnx.ModelProto) -> None:
    gemm = next(n for n in model.graph.node if n.op_type == "Gemm")
    gemm.attribute.append(oh.make_attribute("alpha", float("inf")))


def _bad_subgraph(model: onnx.ModelProto) -> None:
    constant = onh.from_array(np.array([np.nan], np.float32), "hidden_nan")
    inner = oh.make_graph([], "inner", [], [], [constant])
    model.graph.node[0].attribute.append(oh.make_attribute("body", inner))


def _bad_half(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onh.from_array(np.array([np.inf], np.float16), "half"))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_bad_weight(np.nan), "tensor 'w' holds 1 NaN or infinite values (the first at flat index 5)"),
        (_bad_weight(-np.inf), "tensor 'w'"),
        (_bad_constant, "Constant one.value"),
        (_bad_attribute, "Gemm hidden.alpha"),
        (_bad_subgraph, "hidden_nan"),
        (_bad_half, "tensor 'half'"),
    ],
)
def test_nan_and_infinity_anywhere_are_refused_by_name(
    policy_path: Path, change: Callable[[onnx.ModelProto], None], name: str
) -> None:
    rewrite(policy_path, change, sign_graph=True)
    refused(policy_path, name)


def test_external_data_is_refused(policy_path: Path) -> None:
    def move_out(model: onnx.ModelProto) -> None:
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        model.graph.initializer[0].ClearField("raw_data")

    rewrite(policy_path, move_out, sign_graph=True)
    refused(policy_path, "tensor 'w' is stored in another file")


def test_a_tensor_shorter_than_its_shape_is_refused(policy_path: Path) -> None:
    def cut(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]

    rewrite(policy_path, cut, sign_graph=True)
    refused(policy_path, "tensor 'w' cannot be decoded")


def test_a_graph_that_breaks_onnx_is_refused(policy_path: Path) -> None:
    def break_it(model: onnx.ModelProto) -> None:
        model.graph.node[1].op_type = "NoSuchOperator"

    rewrite(policy_path, break_it, sign_graph=True)
    refused(policy_path, "not a valid ONNX model", "NoSuchOperator")


def test_names_that_are_not_utf8_are_refused(policy_path: Path) -> None:
    """Protobuf hands such names out as bytes."""
    model = onnx.load_model_from_string(build_model().SerializeToString().replace(b"target_yaw", b"target_y\xff\xfe"))
    rewrite(policy_path, lambda m: m.graph.CopyFrom(model.graph), sign_graph=True)
    refused(policy_path)
    data = write_policy(policy_path).read_bytes()
    policy_path.write_bytes(data.replace(b"test-task", b"test-\xff\xfe\xfd\xfc"))
    refused(policy_path, "not UTF-8")


def test_every_difference_between_graph_and_contract_is_listed(policy_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        inputs = {v.name: v for v in model.graph.input}
        inputs["base_ang_vel_b"].type.tensor_type.shape.dim[1].dim_value = 4
        inputs["target_yaw"].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        inputs["time_step"].type.tensor_type.shape.dim[0].dim_param = "n"
        model.graph.input.append(oh.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, ["batch", 1]))
        del model.graph.output[1]

    rewrite(policy_path, change, sign_graph=True)
    with pytest.raises(ContractMismatch) as caught:
        read_policy_file(policy_path)
    assert caught.value.differences == [
        "input 'extra' float (batch, 1) is not in the contract",
        "input 'base_ang_vel_b' is float (batch, 4) in the graph, float (batch, 3) in the contract",
        "input 'target_yaw' is double (batch, 1) in the graph, float (batch, 1) in the contract",
        "input 'time_step' is float (n, 1) in the graph, float (batch, 1) in the contract",
        "output 'memory_out.filter' float (batch, 2) is missing from the graph",
    ]


def test_batch_may_be_one_but_nothing_else(tmp_path: Path) -> None:
    assert read_policy_file(write_policy(tmp_path / "one.onnx", batch=1)).contract.signals == SIGNALS
    with pytest.raises(ContractMismatch, match=r"float \(8, 3\) in the graph, float \(batch, 3\)"):
        write_policy(tmp_path / "eight.onnx", batch=8)


def test_writing_refuses_what_reading_would(tmp_path: Path) -> None:
    model = build_model()
    path = tmp_path / "policy.onnx"
    with pytest.raises(ContractError, match="graph_sha256"):
        write_policy_file(path, model, build_contract(model, graph_sha256="0" * 64))
    with pytest.raises(ContractError, match="task"):
        write_policy_file(path, model, build_contract(model, task=""))
    with pytest.raises(ContractMismatch, match="target_yaw"):
        contract = build_contract(model)
        renamed = build_model()
        for value in renamed.graph.input:
            value.name = value.name.replace("target_yaw", "target_yaw_2")
        renamed.graph.node[0].input[1] = "target_yaw_2"
        write_policy_file(path, renamed, build_contract(renamed, golden=contract.golden))
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_a_file_and_leaves_the_model_alone(policy_path: Path) -> None:
    model = build_model()
    model.metadata_props.add(key="note", value="mine")
    before = model.SerializeToString()
    write_policy_file(policy_path, model, build_contract(model, task="second"))
    assert model.SerializeToString() == before
    assert read_policy_file(policy_path).contract.task == "second"
    assert [p.name for p in policy_path.parent.iterdir()] == ["policy.onnx"]
    assert policy_path.stat().st_mode & 0o400


def test_folders_that_cannot_be_written_to(tmp_path: Path, policy_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no folder"):
        write_policy(tmp_path / "absent" / "policy.onnx")
    with pytest.raises(ExportError, match="there is no folder"):
        write_policy(policy_path / "policy.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        write_policy(tmp_path / "folder.onnx")
    for bad in (tmp_path / "a\0b.onnx", tmp_path / ("x" * 300), Path("")):
        with pytest.raises(ExportError):
            write_policy(bad)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.onnx", "policy.onnx"]


SUBPROCESS = """
import os, resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from policy_builder import write_policy
import robot_rl.policy_file, google.protobuf, onnx.checker, jsonschema
from robot_rl.errors import ExportError
path = Path(sys.argv[1])
write_policy(Path(sys.argv[2]))  # everything is imported now
{restrict}
try:
    write_policy(path, task="second")
except ExportError as error:
    sys.stdout.write(str(error))
    sys.exit(7)
"""


def run_restricted(path: Path, spare: Path, restrict: str) -> str:
    code = SUBPROCESS.format(tests=str(Path(__file__).parent), restrict=restrict)
    ended = subprocess.run([sys.executable, "-c", code, path, spare], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 7, ended.stdout + ended.stderr
    return ended.stdout


def test_a_full_disk_leaves_the_old_file(policy_path: Path, tmp_path: Path) -> None:
    """The kernel's file size limit stops a write half-way as a full disk does."""
    before = policy_path.read_bytes()
    message = run_restricted(
        policy_path, tmp_path / "spare.onnx", "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    )
    assert "there is no room" in message
    assert str(policy_path) in message
    assert policy_path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy.onnx", "spare.onnx"]


def test_a_read_only_folder_is_named(policy_path: Path, tmp_path: Path) -> None:
    before = policy_path.read_bytes()
    folder = policy_path.parent
    give_up_root = "os.geteuid() == 0 and os.seteuid(65534)"
    message = run_restricted(policy_path, tmp_path / "spare.onnx", f"os.chmod({str(folder)!r}, 0o555)\n{give_up_root}")
    folder.chmod(0o755)
    assert f"'{folder}' cannot be written to" in message
    assert policy_path.read_bytes() == before
