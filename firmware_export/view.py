"""A tensor as a strided view of a buffer, like a NumPy array: slices, transposes and broadcasts cost no instructions.

Strides and offset count elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides of a contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class View:
    """`shape` elements of `buffer`; element (i, j) of a matrix is at offset + i·strides[0] + j·strides[1]."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def whole(buffer: str, shape: Sequence[int]) -> View:
        """All of a buffer, contiguous."""
        return View(buffer, tuple(shape), dense_strides(shape))

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one behind another in row-major order."""
        expected = dense_strides(self.shape)
        return all(n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The same elements under another shape; None where that needs a copy."""
        kept = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        if [n for n in shape if n != 1] == [n for n, _ in kept]:
            steps = iter(s for _, s in kept)
            return View(self.buffer, tuple(shape), tuple(next(steps) if n != 1 else 0 for n in shape), self.offset)
        if self.contiguous:
            return View(self.buffer, tuple(shape), dense_strides(shape), self.offset)
        return None

    def sliced(self, axis: int, start: int, count: int, step: int = 1) -> View:
        """Elements start, start + step, … (`count` of them) along one axis."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return View(self.buffer, tuple(shape), tuple(strides), offset)

    def transposed(self, order: Sequence[int]) -> View:
        """Axes in another order."""
        return View(
            self.buffer, tuple(self.shape[a] for a in order), tuple(self.strides[a] for a in order), self.offset
        )

    def broadcast(self, shape: Sequence[int]) -> View:
        """NumPy broadcasting: repeated axes get stride 0."""
        missing = len(shape) - len(self.shape)
        old = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        return View(
            self.buffer,
            tuple(shape),
            tuple(0 if n == 1 else s for n, s in zip(old, strides, strict=True)),
            self.offset,
        )


def merged_axes(shape: Sequence[int], views: Sequence[View]) -> tuple[list[int], list[list[int]]]:
    """The fewest loops that walk all views (each already broadcast to `shape`) together.

    Returns:
        Loop counts, outermost first, and for each view its stride per loop.
    """
    counts: list[int] = []
    strides: list[list[int]] = [[] for _ in views]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps = [v.strides[axis] for v in views]
        if counts and all(s[-1] == step * size for s, step in zip(strides, steps, strict=True)):
            counts[-1] *= size
            for s, step in zip(strides, steps, strict=True):
                s[-1] = step
        else:
            counts.append(size)
            for s, step in zip(strides, steps, strict=True):
                s.append(step)
    return counts, strides
