"""Small files, small functions, annotated public API, no utils, no print: counted on the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import PACKAGES, ROOT, files, python_files, tree

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
# "path" or "path:function" → why it may be longer. Empty is how it should stay.
LONGER: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def test_files_are_short() -> None:
    lengths = {str(p): len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in python_files()}
    long = {name: n for name, n in lengths.items() if n > MAX_FILE_LINES and name not in LONGER}
    assert not long, f"longer than {MAX_FILE_LINES} lines: {long}"


def test_functions_are_short() -> None:
    long = []
    for path in python_files():
        for node in functions(path):
            n = (node.end_lineno or node.lineno) - node.lineno + 1
            if n > MAX_FUNCTION_LINES and f"{path}:{node.name}" not in LONGER:
                long.append(f"{path}:{node.lineno} {node.name}: {n} lines")
    assert not long, f"longer than {MAX_FUNCTION_LINES} lines:\n" + "\n".join(long)


def public(path: Path) -> Iterator[tuple[str, Function]]:
    """Functions and methods a user may call: no underscore in the name of the function or of any class around it."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, Function) and (node.name == "__init__" or not node.name.startswith("_")):
                yield f"{prefix}{node.name}", node

    return walk(tree(path).body, "")


def missing_annotations(node: Function, is_method: bool) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [a for a in (node.args.vararg, node.args.kwarg) if a]
    static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    if is_method and not static:
        arguments = arguments[1:]
    return [a.arg for a in arguments if a.annotation is None] + (["return"] if node.returns is None else [])


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_public_api_is_annotated(folder: str) -> None:
    paths = python_files(folder)
    assert sum(1 for p in paths for _ in public(p)) > 0, f"no public function in {folder}/"
    wrong = [
        f"{path}:{node.lineno} {name}: {', '.join(missing)}"
        for path in paths
        for name, node in public(path)
        if (missing := missing_annotations(node, "." in name))
    ]
    assert not wrong, "not annotated:\n" + "\n".join(wrong)


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_module_says_what_it_is_for(folder: str) -> None:
    bare = [str(p) for p in python_files(folder) if tree(p).body and not ast.get_docstring(tree(p))]
    assert not bare, f"no module docstring: {bare}"


def prints(path: Path) -> bool:
    """The command line prints; so do the benchmarks, which are not part of the packages."""
    return path.parts[0] == "robot_rl" and (path.stem.startswith("cli") or path.parts[1] == "commands")


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{p}:{node.lineno}"
        for p in python_files(*PACKAGES)
        if not prints(p)
        for node in ast.walk(tree(p))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "input"}
    ]
    assert not wrong, wrong


def test_no_drawer_for_odds_and_ends() -> None:
    banned = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [str(p) for p in files() if p.name in banned]


def test_no_path_of_one_particular_machine() -> None:
    """Nothing that is committed may depend on where somebody's checkout stands."""
    here = str(ROOT)
    text = [p for p in files() if p.suffix in {".py", ".md", ".yaml", ".toml", ".cfg", ".xml", ".c", ".h", ".json", ""}]
    wrong = [str(p) for p in text if here in (ROOT / p).read_text(encoding="utf-8", errors="ignore")]
    assert not wrong, wrong
