"""Native libraries that print of their own accord must not do so into a user's output."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """What is written to the process's standard output and error inside, past Python's own streams too, is lost."""
    library = ctypes.CDLL(None)
    kept = []
    with open(os.devnull, "w") as nowhere:
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            with contextlib.suppress(Exception):  # whoever replaced the stream may have closed it
                stream.flush()
            kept.append((number, os.dup(number)))
        library.fflush(None)
        for number, _ in kept:
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        library.fflush(None)
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
