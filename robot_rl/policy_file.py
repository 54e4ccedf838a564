"""Reading and writing the one file: an ONNX model with its contract in the metadata.

Reading checks everything that can be checked without running the graph; `policy.py` runs it. Two SHA-256 sums guard
against damage, not against an author: one of the graph (inside the contract), one of the contract's text (beside it).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.contract import CONTRACT_KEY, Contract
from robot_rl.contract_schema import check_version
from robot_rl.errors import ContractError, ContractMismatch, ExportError, MissingDependency

if TYPE_CHECKING:
    import onnx

CONTRACT_SHA256_KEY = "robot_rl.contract_sha256"
MAX_FILE_BYTES = 2**30
BATCH = "batch"
"""Name of the symbolic batch dimension."""


@dataclass(frozen=True)
class PolicyFile:
    """What `read_policy_file` found. `model_bytes` is the ONNX model without its metadata, exactly the bytes that
    `contract.graph_sha256` is the hash of; it is what inference engines and code generators should be given.
    """

    model_bytes: bytes
    contract: Contract


def graph_bytes(model: onnx.ModelProto) -> bytes:
    """The canonical serialisation that is hashed: the whole model but for its metadata, deterministic protobuf."""
    bare = type(model)()
    bare.CopyFrom(model)
    bare.ClearField("metadata_props")
    return bare.SerializeToString(deterministic=True)


def graph_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 of the graph as 64 hexadecimal digits; metadata (and so the contract) does not change it."""
    return hashlib.sha256(graph_bytes(model)).hexdigest()


def read_policy_file(path: str | os.PathLike[str]) -> PolicyFile:
    """Read and check a policy file; nothing of it is run.

    Raises:
        ContractError: the file is missing, not a regular file, empty, too large, not ONNX, cut short, without a
            contract, of another schema version, changed after export, with external data or NaN or infinite constants.
        ContractMismatch: the graph's inputs and outputs are not those of the contract; every difference is listed.
    """
    where = os.fspath(path)
    return parse_policy_file(_read_bytes(where), where)


def parse_policy_file(content: bytes, where: str) -> PolicyFile:
    """The same for the bytes of such a file; `where` is what errors call it."""
    model = _parsed(content, where)
    contract = _contract(model, where)
    data = graph_bytes(model)
    found = hashlib.sha256(data).hexdigest()
    if found != contract.graph_sha256:
        raise ContractError(
            f"'{where}' was changed after export: its graph has SHA-256 {found[:12]}…, its contract says "
            f"{contract.graph_sha256[:12]}…. Export the policy again or copy the file again."
        )
    check_graph(model, contract, where)
    return PolicyFile(data, contract)


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Any ONNX file as it stands, with or without a contract; neither its graph nor its contract is checked.

    Raises:
        ContractError: the file is missing, not a regular file, empty, too large, not ONNX or cut short.
    """
    where = os.fspath(path)
    return _parsed(_read_bytes(where), where)


def write_policy_file(path: str | os.PathLike[str], model: onnx.ModelProto, contract: Contract) -> None:
    """Check model and contract as reading would, put the contract into the metadata and write the file in one piece.

    A reader sees the old file or the new one, never half of one. `model` itself is not changed.

    Raises:
        ContractError, ContractMismatch: model and contract would be refused when read.
        ExportError: the folder is missing or read-only, the disk is full, or the model is too large.
    """
    text = contract.to_json()
    Contract.from_json(text)
    if graph_sha256(model) != contract.graph_sha256:
        raise ContractError("contract.graph_sha256 is not the hash of this model; set it with graph_sha256(model)")
    check_graph(model, contract, os.fspath(path))
    complete = type(model)()
    complete.CopyFrom(model)
    complete.ClearField("metadata_props")
    for key, value in ((CONTRACT_KEY, text), (CONTRACT_SHA256_KEY, _sha256(text))):
        complete.metadata_props.add(key=key, value=value)
    data = complete.SerializeToString(deterministic=True)
    if len(data) > MAX_FILE_BYTES:
        raise ExportError(f"the model has {len(data)} bytes; a policy file may have at most {MAX_FILE_BYTES}")
    _write_atomically(Path(path), data)


def check_graph(model: onnx.ModelProto, contract: Contract, where: str) -> None:
    """All checks of a graph against its contract that need no run; errors as in `read_policy_file`."""
    onnx = _onnx()
    for name, tensor in _tensors(model):
        _check_tensor(name, tensor, where)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ContractError(f"'{where}' is not a valid ONNX model: {str(error).splitlines()[0][:300]}") from error
    names: list[Any] = [value.name for value in (*model.graph.input, *model.graph.output)]
    for name in names:
        if not isinstance(name, str):  # protobuf gives bytes where a text is not UTF-8
            raise ContractError(f"'{where}': the input or output name {name!r} is not UTF-8")
    differences = list(_interface_differences(model, contract))
    if differences:
        raise ContractMismatch(f"'{where}': the graph is not what its contract describes", differences)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "policy files", "pip install onnx") from error
    return onnx


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read_bytes(where: str) -> bytes:
    try:
        info = os.stat(where)
        if stat.S_ISDIR(info.st_mode):
            raise ContractError(f"'{where}' is a folder; give the policy file inside it")
        if not stat.S_ISREG(info.st_mode):
            raise ContractError(f"'{where}' is not a regular file; give a policy file (.onnx)")
        if info.st_size == 0:
            raise ContractError(f"'{where}' is empty; export or copy it again")
        if info.st_size > MAX_FILE_BYTES:
            raise ContractError(f"'{where}' has {info.st_size} bytes; a policy file has at most {MAX_FILE_BYTES}")
        with open(where, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ContractError(f"there is no file '{where}'; make one with: robot-rl export RUN -o policy.onnx") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ContractError(f"'{where}' cannot be read: {reason}") from error


def _parsed(data: bytes, where: str) -> onnx.ModelProto:
    onnx = _onnx()
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError, RuntimeError) as error:
        raise ContractError(
            f"'{where}' is not an ONNX file, or it was cut short ({len(data)} bytes); export or copy it again"
        ) from error
    if not model.HasField("graph") or not model.ir_version:
        raise ContractError(f"'{where}' is not an ONNX file: it holds no graph; export or copy it again")
    return model


def _contract(model: onnx.ModelProto, where: str) -> Contract:
    text, intact = _contract_text(model, where)
    try:
        # A contract of another version may be checked in another way: that is said first.
        check_version(text)
        if intact:
            return Contract.from_json(text)
    except ContractError as error:
        raise ContractError(f"'{where}': {error}") from error
    raise ContractError(
        f"'{where}': its contract was changed after export (its SHA-256 differs). Export the policy again; limits, "
        "rates and gains are set there, not in the file."
    )


def _contract_text(model: onnx.ModelProto, where: str) -> tuple[str, bool]:
    """The contract as it stands in the metadata, and whether it has the SHA-256 that stands beside it."""
    found: list[Any] = [p.value for p in model.metadata_props if p.key == CONTRACT_KEY]
    if not found:
        raise ContractError(
            f"'{where}' is an ONNX file without a contract, so a robot cannot know what to feed it. Export it with "
            "'robot-rl export', or from Python with robot_rl.policies.export.export_policy"
        )
    sums = [p.value for p in model.metadata_props if p.key == CONTRACT_SHA256_KEY]
    if len(found) > 1 or len(sums) > 1:
        raise ContractError(f"'{where}' holds more than one contract; export it again")
    if not isinstance(found[0], str):
        raise ContractError(f"'{where}': its contract is damaged (not UTF-8); export or copy the file again")
    return found[0], sums == [_sha256(found[0])]


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, Any]]:
    """Every constant of the model with a name to show: initializers, tensors and floats in attributes, subgraphs."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(f"{function.name}.{attribute.name}", attribute)


def _graph_tensors(graph: Any) -> Iterator[tuple[str, Any]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
        yield f"{sparse.values.name}.indices", sparse.indices
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for node in nodes:
        for attribute in node.attribute:
            shown = f"{node.op_type} {node.name or ','.join(node.output)}.{attribute.name}"
            yield from _attribute_tensors(shown, attribute)


def _attribute_tensors(shown: str, attribute: Any) -> Iterator[tuple[str, Any]]:
    for tensor in (attribute.t, *attribute.tensors):
        yield shown, tensor
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield shown, sparse.values
    yield shown, np.asarray([attribute.f, *attribute.floats], dtype=np.float64)
    for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
        yield from _graph_tensors(graph)


def _check_tensor(name: str, tensor: Any, where: str) -> None:
    if not isinstance(tensor, np.ndarray):
        onnx = _onnx()
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ContractError(
                f"'{where}': tensor '{name}' is stored in another file; a policy is one file. Export it with "
                "external data switched off."
            )
        if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            return
        tensor = _array(name, tensor, where)
    values = np.asarray(tensor)
    if values.dtype.kind in "iub":
        return
    if values.dtype.kind != "c":
        values = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ContractError(
            f"'{where}': tensor '{name}' holds {bad.size} NaN or infinite values (the first at flat index {bad[0]}). "
            "The training diverged or the file was changed; take an earlier checkpoint."
        )


def _array(name: str, tensor: Any, where: str) -> np.ndarray[Any, Any]:
    try:
        return _onnx().numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises many kinds here, from KeyError to numpy's own
        raise ContractError(f"'{where}': tensor '{name}' cannot be decoded: {str(error)[:200]}") from error


Interface = dict[str, tuple[str, tuple[int | str, ...]]]


def _declared(model: onnx.ModelProto) -> tuple[Interface, Interface]:
    """Inputs and outputs of the graph: name → (element type, dimensions); symbolic ones as text, unknown ones '?'."""
    kinds = {number: name for name, number in _onnx().TensorProto.DataType.items()}

    def described(value: Any) -> tuple[str, tuple[int | str, ...]]:
        tensor = value.type.tensor_type
        kind = kinds.get(tensor.elem_type, "unknown") if value.type.HasField("tensor_type") else "no tensor"
        dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
        return kind, dims

    graph = model.graph
    return {v.name: described(v) for v in graph.input}, {v.name: described(v) for v in graph.output}


def _expected(contract: Contract, batch: int | str) -> tuple[Interface, Interface]:
    memory = {m.name: ("FLOAT", (batch, *m.shape)) for m in contract.memory}
    inputs: Interface = {s.name: ("FLOAT", (batch, *s.shape)) for s in contract.signals}
    outputs: Interface = {c.name: ("FLOAT", (batch, len(c.elements))) for c in contract.commands}
    inputs |= {f"memory_in.{name}": described for name, described in memory.items()}
    outputs |= {f"memory_out.{name}": described for name, described in memory.items()}
    return inputs, outputs


def _interface_differences(model: onnx.ModelProto, contract: Contract) -> Iterator[str]:
    declared = _declared(model)
    first = next((dims[0] for _, dims in declared[0].values() if dims), BATCH)
    batch = first if first == 1 or (isinstance(first, str) and first != "?") else BATCH
    for what, found, wanted in zip(("input", "output"), declared, _expected(contract, batch), strict=True):
        for name in sorted(wanted.keys() - found.keys()):
            yield f"{what} '{name}' {_shown(wanted[name])} is missing from the graph"
        for name in sorted(found.keys() - wanted.keys()):
            yield f"{what} '{name}' {_shown(found[name])} is not in the contract"
        for name in sorted(wanted.keys() & found.keys()):
            if wanted[name] != found[name]:
                yield f"{what} '{name}' is {_shown(found[name])} in the graph, {_shown(wanted[name])} in the contract"


def _shown(described: tuple[str, tuple[int | str, ...]]) -> str:
    kind, dims = described
    return f"{kind.lower()} ({', '.join(str(d) for d in dims)})"


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part") if path.name else path
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise ExportError(_write_problem(path, len(data), error)) from error
    except ValueError as error:
        raise ExportError(f"{str(path)!r} is not a file name: {error}") from error
    _sync_folder(path.parent)


def _write_problem(path: Path, size: int, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"there is no room for '{path}' ({size} bytes). Free some or choose another folder; nothing was changed"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"'{path.parent}' cannot be written to; choose another folder with -o or change its permissions"
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
        return f"there is no folder '{path.parent}'; create it or choose another with -o"
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return f"'{path}' is a folder; give a file name such as '{path / 'policy.onnx'}'"
    return f"'{path}' cannot be written: {error.strerror}; nothing was changed"


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
