"""Return codes of the generated C, the same numbers as in its header."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a call of the generated C answered."""

    OK = 0
    BAD_SIGNAL = 1
    BAD_MEMORY = 2
    BAD_OUTPUT = 3
    BAD_WEIGHTS = 4
    BAD_GOLDEN = 5
    NOT_READY = 6
    BAD_ARGUMENT = 7

    @property
    def meaning(self) -> str:
        """In words."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.OK: "fine",
    Status.BAD_SIGNAL: "a signal is NaN or infinite",
    Status.BAD_MEMORY: "the memory holds NaN or infinity; reset the policy",
    Status.BAD_OUTPUT: "the computation gave NaN or infinity",
    Status.BAD_WEIGHTS: "the check sum of the weights is wrong; the program memory is damaged, flash it again",
    Status.BAD_GOLDEN: "this machine does not compute the same function as the one that exported the policy",
    Status.NOT_READY: "the policy was not initialised, or its self-test failed",
    Status.BAD_ARGUMENT: "a null pointer",
}
