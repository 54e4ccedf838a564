"""How the equations of motion are executed: torch eager, torch.compile or generated native code. One source."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import MissingDependency, UnknownName
from robot_rl.sim.codegen.build import find_compiler
from robot_rl.sim.quadrotor import equations

BACKENDS = ("auto", "eager", "inductor", "native")
_LOG = logging.getLogger("robot_rl.sim")


class Stepper:
    """Advances (17, N) states by one control step; `kind` names how.

    Calling it: `stepper(state, params, before, after, switch, dt)`, with `before` and `switch` None where the command
    does not change within the step.
    """

    def __init__(self, kind: str, plain: Callable[..., Tensor], delayed: Callable[..., Tensor]) -> None:
        self.kind, self._plain, self._delayed = kind, plain, delayed

    def __call__(
        self, state: Tensor, params: Tensor, before: Tensor | None, after: Tensor, switch: Tensor | None, dt: float
    ) -> Tensor:
        if before is None or switch is None:
            return self._plain(state, params, after, dt)
        return self._delayed(state, params, before, after, switch, dt)


def make_stepper(kind: str, device: torch.device) -> Stepper:
    """The executor of one kind.

    `native` and `inductor` need a C++ compiler on the CPU; without one, eager torch serves and a warning is logged.
    `auto` is `native` on the CPU where a compiler is found, else `eager`.

    Raises:
        UnknownName: no such backend.
    """
    if kind not in BACKENDS:
        raise UnknownName("backend", kind, BACKENDS)
    on_cpu = device.type == "cpu"
    compiler = find_compiler() is not None
    if kind == "auto":
        kind = "native" if on_cpu and compiler else "eager"
    if kind == "native" and not on_cpu:
        _LOG.warning("backend 'native' is for the CPU; on %s torch.compile is used", device)
        kind = "inductor"
    if kind != "eager" and on_cpu and not compiler:
        _LOG.warning("no C++ compiler for backend '%s': slower eager torch is used; apt-get install g++", kind)
        kind = "eager"
    return {"eager": _eager, "inductor": _inductor, "native": _native}[kind]()


def _plain(state: Tensor, params: Tensor, command: Tensor, dt: float) -> Tensor:
    return equations.step(torch, state, params, command, dt)


def _delayed(state: Tensor, params: Tensor, before: Tensor, after: Tensor, switch: Tensor, dt: float) -> Tensor:
    return equations.step_delayed(torch, state, params, before, after, switch, dt)


def _eager() -> Stepper:
    return Stepper("eager", _plain, _delayed)


@lru_cache(maxsize=1)
def _inductor() -> Stepper:
    # One kernel for both: the durations are an array, and the delayed step calls it twice. Compiling the two pieces as
    # one takes minutes with g++.
    compiled = torch.compile(equations.step, dynamic=True)

    def run_plain(state: Tensor, params: Tensor, command: Tensor, dt: float) -> Tensor:
        return compiled(torch, state, params, command, torch.full_like(state[0], dt))

    def run_delayed(state: Tensor, params: Tensor, before: Tensor, after: Tensor, switch: Tensor, dt: float) -> Tensor:
        return compiled(torch, compiled(torch, state, params, before, switch), params, after, dt - switch)

    return Stepper("inductor", run_plain, run_delayed)


@lru_cache(maxsize=16)
def _scalar(value: float) -> Tensor:
    return torch.tensor([value])


@lru_cache(maxsize=1)
def _native() -> Stepper:
    from robot_rl.sim.codegen.native import NativeFunction, supported_rows

    rows = {"state": equations.STATE_SIZE, "params": equations.PARAM_SIZE}

    def plain_body(xp: Any, state: Any, params: Any, after: Any, dt: Any) -> Any:
        return equations.step(xp, state, params, after, dt[0])

    def delayed_body(xp: Any, state: Any, params: Any, before: Any, after: Any, change_at: Any, dt: Any) -> Any:
        return equations.step_delayed(xp, state, params, before, after, change_at[0], dt[0])

    try:
        plain = NativeFunction("quadrotor_step", plain_body, {**rows, "after": 4}, {"dt": 1})
        delayed_rows = {**rows, "before": 4, "after": 4, "change_at": 1}
        delayed = NativeFunction("quadrotor_step_delayed", delayed_body, delayed_rows, {"dt": 1})
    except MissingDependency as error:
        _LOG.warning("%s; slower eager torch is used", error)
        return _eager()

    def run_plain(state: Tensor, params: Tensor, command: Tensor, dt: float) -> Tensor:
        if not supported_rows([state, params, command]):
            return _plain(state, params, command, dt)
        return plain(state=state, params=params, after=command, dt=_scalar(dt))

    def run_delayed(state: Tensor, params: Tensor, before: Tensor, after: Tensor, switch: Tensor, dt: float) -> Tensor:
        if not supported_rows([state, params, before, after, switch]):
            return _delayed(state, params, before, after, switch, dt)
        tensors = {"state": state, "params": params, "before": before, "after": after, "change_at": switch[None]}
        return delayed(**tensors, dt=_scalar(dt))

    return Stepper("native", run_plain, run_delayed)
