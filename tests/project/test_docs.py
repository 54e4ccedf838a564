"""What the documents say exists: links, files, commands and make targets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT, files

DOCUMENTS = [p for p in files() if p.suffix == ".md"]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def commands(path: Path) -> list[str]:
    """Lines of code blocks and pieces of inline code that could be typed."""
    body = text(path)
    blocks = [line.split("#")[0].strip() for block in FENCE.findall(body) for line in block.splitlines()]
    return [line for line in blocks + CODE.findall(FENCE.sub("", body)) if line]


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    targets = [t for t in LINK.findall(text(path)) if not re.match(r"[a-z]+:", t)]
    missing = [t for t in targets if not (ROOT / path.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_files_that_are_named_exist(path: Path) -> None:
    """`sim/quadrotor/equations.py` in a document is a promise; so is `objective.py`, wherever it lies."""
    names = {file.name for file in files()}
    missing = []
    for code in CODE.findall(FENCE.sub("", text(path))):
        if not re.fullmatch(r"[\w./-]+\.(py|yaml|toml|cfg|txt|xml|md|json)", code) or code.startswith("/"):
            continue
        inside = code.removeprefix("robot_rl/")
        known = (ROOT / code).exists() or (ROOT / inside).exists() or ("/" not in code and code in names)
        if not known and not (ROOT / path.parent / code).exists() and code not in WRITTEN_BY_USERS:
            missing.append(code)
    assert not missing


# Files that a user or a command makes, named as such in the documents.
WRITTEN_BY_USERS = {"my_robot.py", "run.json", "report.json", "policy.json", "meta/robot_rl.json"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(Path("Makefile")), re.MULTILINE))
    wrong = {
        f"{path}: {line}"
        for path in DOCUMENTS
        for line in commands(path)
        if (match := re.match(r"make ([a-z-]+)", line)) and match[1] not in targets
    }
    assert not wrong


def test_verbs_of_the_command_line_exist(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "robot_rl.cli", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    used = {m[1] for path in DOCUMENTS for line in commands(path) if (m := re.match(r"robot-rl ([a-z]+)", line))}
    assert "list" in used
    assert not {verb for verb in used if not re.search(rf"\b{verb}\b", ended.stdout)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_nothing_is_promised_for_later(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|TBD|coming soon|lorem)\b", text(path), re.IGNORECASE)


def test_each_decision_has_its_parts() -> None:
    decisions = [p for p in DOCUMENTS if p.parent == Path("docs/decisions")]
    assert [p.name[:4] for p in decisions] == [f"{i:04d}" for i in range(1, len(decisions) + 1)]
    for path in decisions:
        body = text(path)
        assert body.startswith(f"# {path.name[:4]} ")
        assert all(part in body for part in ("**Context.**", "**Decision.**", "**Consequences.**")), path


def test_the_changelog_speaks_of_this_version() -> None:
    import robot_rl

    assert re.search(
        rf"^## \[(Unreleased|{re.escape(robot_rl.__version__)})\]", text(Path("CHANGELOG.md")), re.MULTILINE
    )
