"""Where the intermediate arrays lie: loops work in place where they can, and arrays that never live together share
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.firmware_export.lower import Loop, Program, Step, reads, renamed, writes


@dataclass(frozen=True)
class Arena:
    """Offsets of the arena buffers in elements, and the words that floats and integers need in all."""

    offsets: dict[str, int]
    float_words: int
    int_words: int


def with_loops_in_place(program: Program) -> Program:
    """Let a loop write over an input that nothing reads afterwards, where both are walked in the same order."""
    last_use = _last_uses(program.steps)
    names: dict[str, str] = {}
    steps: list[Step] = []
    for index, original in enumerate(program.steps):
        step = renamed(original, names)
        if isinstance(step, Loop):
            for output in list(step.results.values()):
                target = _reusable(step, output.buffer, program, last_use, index)
                if target:
                    names[output.buffer] = target
                    names.update({k: target for k, v in names.items() if v == output.buffer})
                    last_use[target] = max(last_use[target], last_use.get(output.buffer, index))
                    step = renamed(step, {output.buffer: target})
                    assert isinstance(step, Loop)
        steps.append(step)
    kept = {k: b for k, b in program.buffers.items() if k not in names}
    return Program(program.graph, steps, kept)


def _reusable(step: Loop, output: str, program: Program, last_use: dict[str, int], index: int) -> str | None:
    wanted = program.buffers[output]
    if wanted.place != "arena":
        return None
    taken = {v.buffer for v in step.results.values()}
    for leaf in step.leaves.values():
        buffer = program.buffers[leaf.buffer]
        same = all(v.contiguous and v.offset == 0 for v in step.leaves.values() if v.buffer == leaf.buffer)
        if (
            buffer.place == "arena"
            and buffer.kind == wanted.kind
            and buffer.size == wanted.size
            and same
            and leaf.buffer not in taken
            and last_use[leaf.buffer] == index
        ):
            return leaf.buffer
    return None


def _last_uses(steps: list[Step]) -> dict[str, int]:
    uses: dict[str, int] = {}
    for index, step in enumerate(steps):
        uses.update({v.buffer: index for v in (*reads(step), *writes(step))})
    return uses


def packed(program: Program) -> Arena:
    """First-fit by decreasing size: buffers whose lifetimes overlap never share a word."""
    born: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        for view in (*writes(step), *reads(step)):
            born.setdefault(view.buffer, index)
    dies = _last_uses(program.steps)
    offsets: dict[str, int] = {}
    words = {"float": 0, "int": 0}
    for pool in words:
        members = [
            b
            for b in program.buffers.values()
            if b.place == "arena" and b.name in born and (b.kind == "float") == (pool == "float")
        ]
        placed: list[tuple[int, int, str]] = []
        for buffer in sorted(members, key=lambda b: (-b.size, b.name)):
            offset = 0
            for start, end, other in sorted(placed):
                apart = dies[other] < born[buffer.name] or dies[buffer.name] < born[other]
                if not apart and start < offset + buffer.size and offset < end:
                    offset = end
            placed.append((offset, offset + buffer.size, buffer.name))
            offsets[buffer.name] = offset
            words[pool] = max(words[pool], offset + buffer.size)
    return Arena(offsets, words["float"], words["int"])
