"""Validation of a contract's JSON text: the JSON Schema first, then what a schema cannot say (lengths, order, names).

It trusts nothing: the text may come from anywhere. It does not look at the graph; `policy_file.py` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

from robot_rl.contract import SCHEMA_VERSION
from robot_rl.errors import ContractError, MissingDependency

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MAX_TEXT_CHARS = 16 * 2**20
MAX_ELEMENTS = 2**24
"""Largest number of values in one signal, and in all memory tensors together."""

_MAX_DEPTH = 64
_MAX_FLOAT32 = 3.4028234663852886e38
_MAX_INT = 2**53
_MAX_PROBLEMS = 8


def validated(text: str) -> dict[str, Any]:
    """The contract as plain JSON data, when every check passes.

    Raises:
        ContractError: not strict JSON (NaN, Infinity, duplicate keys and numbers beyond float32 are refused), another
            schema version, a field that is missing, unknown or out of range, or fields that contradict each other.
        MissingDependency: `jsonschema` is not installed.
    """
    data = check_version(text)
    problems = [_describe(error) for error in islice(_validator().iter_errors(data), _MAX_PROBLEMS)]
    if not problems:
        problems = list(islice(_contradictions(data), _MAX_PROBLEMS))
    if problems:
        lines = "".join(f"\n  - {p}" for p in problems)
        raise ContractError(f"the contract is not valid; export the policy again.{lines}")
    return data


@lru_cache(maxsize=1)
def _validator() -> Validator:
    try:
        import jsonschema
    except ImportError as error:
        raise MissingDependency("jsonschema", "reading a policy's contract", "pip install jsonschema") from error
    schema = json.loads(resources.files("robot_rl").joinpath("contract.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT_CHARS:
        raise ContractError(f"the contract has {len(text)} characters; at most {MAX_TEXT_CHARS} are allowed")
    try:
        data = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise ContractError(
            f"the contract is not valid JSON, so it was damaged or edited: {_short(str(error))}; export it again"
        ) from error
    if not isinstance(data, dict):
        raise ContractError(f"the contract is a JSON {type(data).__name__}; it must be an object")
    if _depth_exceeds(data, _MAX_DEPTH):
        raise ContractError(f"the contract is nested deeper than {_MAX_DEPTH} levels")
    return data


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"the number {literal} is not allowed; every number must be finite")


def _float(literal: str) -> float:
    value = float(literal)
    if abs(value) > _MAX_FLOAT32:
        raise ValueError(f"the number {_short(literal)} does not fit into float32")
    return value


def _int(literal: str) -> int:
    if len(literal) > 17 or abs(int(literal)) > _MAX_INT:
        raise ValueError(f"the integer {_short(literal)} is too large; at most 2^53 in size")
    return int(literal)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{_short(twice)}' stands twice in one object")
    return result


def _depth_exceeds(data: Any, limit: int) -> bool:
    level = [data]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def check_version(text: str) -> dict[str, Any]:
    """Only that the text is strict JSON and of the schema version this program reads; the rest is not checked.

    Raises:
        ContractError: it is not; says which version it has and what to do.
    """
    data = _parsed(text)
    version = data.get("schema_version")
    if version == SCHEMA_VERSION and type(version) is int:
        return data
    if type(version) is not int:
        raise ContractError(f"the contract has no valid 'schema_version' (found {_short(repr(version))})")
    if version < SCHEMA_VERSION:
        todo = "export the policy again from its run folder: robot-rl export RUN -o policy.onnx"
    else:
        todo = "update robot_rl on this computer, or export the policy again with this version"
    raise ContractError(
        f"the contract has schema version {version}; this program reads version {SCHEMA_VERSION}. To mend it, {todo}"
    )


def _describe(error: Any) -> str:
    return f"{error.json_path.removeprefix('$.')}: {_short(error.message)}"


def _short(text: str, limit: int = 200) -> str:
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _contradictions(data: dict[str, Any]) -> Iterator[str]:
    yield from _name_problems(data)
    yield from _size_problems(data)
    for command in data["commands"]:
        yield from _command_problems(command)
    yield from _rate_problems(data)
    yield from _composition_problems(data["composition"])
    sizes = {
        "signals": {s["name"]: prod(s["shape"]) for s in data["signals"]},
        "memory": {m["name"]: prod(m["shape"]) for m in data["memory"]},
        "commands": {c["name"]: len(c["elements"]) for c in data["commands"]},
    }
    sizes["memory_out"] = sizes["memory"]
    for index, step in enumerate(data["golden"]["steps"]):
        for group, expected in sizes.items():
            yield from _golden_problems(f"golden.steps[{index}].{group}", step[group], expected)


def _name_problems(data: dict[str, Any]) -> Iterator[str]:
    for group in ("signals", "commands", "memory"):
        names = [item["name"] for item in data[group]]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield f"{group}: the name '{name}' is used more than once"
    both = {s["name"] for s in data["signals"]} & {c["name"] for c in data["commands"]}
    for name in sorted(both):
        yield f"commands: '{name}' is also the name of a signal"


def _size_problems(data: dict[str, Any]) -> Iterator[str]:
    for signal in data["signals"]:
        if prod(signal["shape"]) > MAX_ELEMENTS:
            yield f"signals.{signal['name']}: {prod(signal['shape'])} values; at most {MAX_ELEMENTS} are allowed"
    if sum(prod(m["shape"]) for m in data["memory"]) > MAX_ELEMENTS:
        yield f"memory: more than {MAX_ELEMENTS} values in all"
    for memory in data["memory"]:
        size, count = prod(memory["shape"]), len(memory["initial"])
        if size != count:
            yield f"memory.{memory['name']}: shape {memory['shape']} needs {size} initial values, found {count}"


def _command_problems(command: dict[str, Any]) -> Iterator[str]:
    where, count = f"commands.{command['name']}", len(command["elements"])
    for key in ("lower", "upper", "idle", "max_rate"):
        values = command[key]
        if values is not None and len(values) != count:
            yield f"{where}.{key}: {len(values)} numbers for {count} elements"
            return
    columns = zip(command["elements"], command["lower"], command["idle"], command["upper"], strict=True)
    for element, lower, idle, upper in columns:
        if not lower < upper:
            yield f"{where}: element '{element}' has lower limit {lower}, which must be below its upper limit {upper}"
        elif not lower <= idle <= upper:
            yield f"{where}: element '{element}' has idle value {idle} outside its limits [{lower}, {upper}]"


def _rate_problems(data: dict[str, Any]) -> Iterator[str]:
    low, mid, high = (data["rate"][k] for k in ("min_dt", "control_dt", "max_dt"))
    if not low <= mid <= high:
        yield f"rate: min_dt {low} ≤ control_dt {mid} ≤ max_dt {high} does not hold"
    time_step = [s for s in data["signals"] if s["name"] == "time_step"]
    if not time_step and low != high:
        yield f"rate: min_dt {low} and max_dt {high} differ, but no signal 'time_step' tells the policy the step"
    if time_step and time_step[0]["shape"] != [1]:
        yield f"signals.time_step: shape {time_step[0]['shape']}; it must be [1]"


def _composition_problems(composition: dict[str, Any]) -> Iterator[str]:
    kind, sha = composition["kind"], composition["over_sha256"]
    if (kind == "direct") != (sha is None):
        yield f"composition: kind '{kind}' {'takes no' if kind == 'direct' else 'needs an'} over_sha256"


def _golden_problems(where: str, values: dict[str, list[float]], sizes: dict[str, int]) -> Iterator[str]:
    if values.keys() != sizes.keys():
        yield f"{where}: names {sorted(values)[:32]} differ from the declared {sorted(sizes)}"
        return
    for name, size in sizes.items():
        if len(values[name]) != size:
            yield f"{where}.{name}: {len(values[name])} values; the declared shape has {size}"
