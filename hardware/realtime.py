"""Keeping the interpreter out of the control loop's way: garbage collection, thread switching and priority."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

_LOG = logging.getLogger("robot_rl.hardware")
_SWITCH_INTERVAL = 5e-4  # s; Python's default of 5 ms lets another thread delay a tick by as much


@contextmanager
def quiet_interpreter(priority: int = 0) -> Generator[None, None, None]:
    """For the calling thread: no automatic garbage collection, quick thread switches, SCHED_FIFO `priority` if above 0.

    Without the right to raise its priority the loop runs on, with a warning. All is restored at the end.
    """
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    raised = priority > 0 and _raise_priority(priority)
    try:
        yield
    finally:
        if raised:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if collecting:
            gc.enable()


def _raise_priority(priority: int) -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (PermissionError, OSError) as error:
        _LOG.warning("real-time priority %d was refused (%s); grant CAP_SYS_NICE or set it to 0", priority, error)
        return False
    return True
