"""MuJoCo Warp: all simulations on one device, an NVIDIA GPU or (slowly, for tests) the CPU.

Nothing leaves the device: `qpos`, `qvel` and `sensordata` are views of the simulator's own arrays, and states, fields
and commands are written into them. On a GPU the physics step is captured once as a CUDA graph.

The step is arranged so that it ends with the positions and velocities of the new state: the forces of the state at
hand, then integration, then everything that depends on the new position and velocity. That is the same work as a
MuJoCo step, which begins with what stands at the end here, and the sensors are current without any of it done twice.

Not tried on a GPU so far: only the CPU device has run. Graph capture, the use of torch's stream and the growth of
buffers on a GPU are written after the documentation of Warp.
"""
# warp and mujoco come without complete stubs.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportUntypedFunctionDecorator=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.sim.physics._contacts import contact_room
from robot_rl.sim.physics._model import OPTIONS, check_batch, check_field, nominal, run_each, varying_fields
from robot_rl.sim.physics._warp_kernels import reset_diverged

wp.config.log_level = wp.LOG_WARNING  # else a line for each of some hundred kernels
_LOG = logging.getLogger("robot_rl.sim")
_INTEGRATORS = {
    int(mujoco.mjtIntegrator.mjINT_EULER): mjw.euler,
    int(mujoco.mjtIntegrator.mjINT_IMPLICIT): mjw.implicit,
    int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST): mjw.implicit,
}
_STATE = (
    "time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied", "eq_active", "mocap_pos",
    "mocap_quat", "userdata", "sensordata",
)  # fmt: skip
_CLEARED = ("time", "act", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied", "sensordata")
_FOLLOW = (
    "body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "tendon_length0", "actuator_acc0",
    "geom_aabb", "geom_rbound",
)  # fmt: skip
_OVERFLOW = mjw.OverflowType
_ROOM = int(_OVERFLOW.NEFC | _OVERFLOW.NJMAX_NNZ | _OVERFLOW.BROADPHASE | _OVERFLOW.NARROWPHASE | _OVERFLOW.CCD)
"""Flags that say that a buffer was too small; solvers that stop at their limit of iterations have flags, too."""
_CUT = int(_OVERFLOW.HFIELD | _OVERFLOW.EPA_HORIZON | _OVERFLOW.CONTACT_MATCH)
OVERFLOW_CHECK = 256
"""Steps between two looks at the overflow flags on a GPU: each waits for the device. On the CPU every step looks."""


class WarpPhysics:
    """Implements `Physics`; `threads` has no meaning here.

    Where contacts or constraints do not fit their buffers, the step goes on without the last of them, a warning is
    logged and the buffers double.

    Args:
        device: "cpu", "cuda" or "cuda:<index>".
        contacts: room for contacts per simulation, shared by all; 0: from the model's geoms.
        constraints: room for constraint rows in each simulation; 0: from the model.
    """

    name = "warp"

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        device: str = "cpu",
        threads: int = 0,
        contacts: int = 0,
        constraints: int = 0,
    ) -> None:
        check_batch(num_envs, threads)
        self._device, self.device = _device(device)
        self.model, self.num_envs, self.dt = model, num_envs, float(model.opt.timestep)
        self._integrate = _integrator(model)
        room = contact_room(model)
        self._room = [contacts or room[0], constraints or room[1]]
        try:
            with wp.ScopedDevice(self._device):
                self._model = mjw.put_model(model)
        except (NotImplementedError, ValueError) as error:
            raise ConfigError(f"physics 'warp' cannot run this model: {error}") from error
        self._model.opt.warn_overflow = 0  # reported here, once
        batched = {f.name for f in dataclasses.fields(mjw.Model) if _per_world(f.type)}
        options = {name for name in OPTIONS if hasattr(self._model.opt, name[4:])}
        self._batched, self.fields = frozenset(batched), varying_fields(model, batched | options)
        self._expanded: dict[str, Tensor] = {}
        self._outdated = False
        self._warm: set[Callable[[], None]] = set()
        self._steps, self._told = 0, 0
        with wp.ScopedDevice(self._device):
            self._bad = wp.zeros(num_envs, dtype=wp.bool)
        self._allocate()
        _LOG.info("warp: on %s; the first step on a machine compiles kernels for about a minute", self.device)
        self._run(self._refresh)

    def _allocate(self) -> None:
        with self._stream():
            self._data = mjw.make_data(
                self.model, nworld=self.num_envs, nconmax=self._room[0], njmax=self._room[1]
            )  # fmt: skip
        # Arrays without elements have no memory to share.
        arrays = {name: getattr(self._data, name) for name in _STATE}
        self._views = {name: wp.to_torch(array) for name, array in arrays.items() if array.size > 0}
        for name, array in arrays.items():
            self._views.setdefault(name, torch.zeros(*array.shape, device=self.device))
        self._unstable = wp.to_torch(self._bad)
        self._graphs: dict[Callable[[], None], Any] = {}

    @property
    def qpos(self) -> Tensor:
        return self._views["qpos"]

    @property
    def qvel(self) -> Tensor:
        return self._views["qvel"]

    @property
    def sensordata(self) -> Tensor:
        return self._views["sensordata"]

    @property
    def raw_sensordata(self) -> Tensor:
        """Here as new as `sensordata`."""
        return self.sensordata

    @property
    def unstable(self) -> Tensor:
        return self._unstable

    def step(self, ctrl: Tensor) -> None:
        self._views["ctrl"].copy_(ctrl)
        self._run(self._advance)
        self._steps += 1
        if not self._device.is_cuda or self._steps % OVERFLOW_CHECK == 0:
            self._grow_where_needed()

    def run(self, ctrls: Tensor, columns: Tensor) -> Tensor:
        return run_each(self, ctrls, columns)

    def set_state(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        if len(ids) == 0:
            return
        views, ids = self._views, ids.to(self.device)
        if self._outdated:
            with self._stream():
                mjw.set_const(self._model, self._data, restore=False)
            self._outdated = False
        for name in _CLEARED:
            views[name].index_fill_(0, ids, 0.0)
        views["qpos"][ids], views["qvel"][ids] = qpos.to(self.qpos), qvel.to(self.qvel)
        self._unstable.index_fill_(0, ids, False)
        self._run(self._refresh)

    def set_field(self, ids: Tensor, name: str, values: Tensor) -> None:
        check_field(self.model, self.fields, name, values, len(ids))
        ids = ids.to(self.device)
        self._own(name)[ids] = values.to(self.device, torch.float32)
        if name in mujoco.MjModel._setconst_inputs:
            self._outdated = True
            for follower in _FOLLOW:
                if follower in self._batched:
                    self._own(follower)

    def apply(self, body: int, force: Tensor, torque: Tensor) -> None:
        wrench = self._views["xfrc_applied"][:, body]
        wrench[:, :3], wrench[:, 3:] = force, torque

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": {name: self._views[name].clone() for name in _STATE},
            "fields": {name: values.clone() for name, values in self._expanded.items()},
            "outdated": self._outdated,
            "unstable": self._unstable.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError where the state belongs to another model or number of simulations."""
        for name in ("qpos", "qvel"):
            got, own = tuple(state["state"][name].shape), tuple(self._views[name].shape)
            if got != own:
                raise ConfigError(
                    f"{name} of the state is {got}, of this physics {own}; saved with another model or num_envs?"
                )
        for name in set(self._expanded) - set(state["fields"]):
            self._own(name).copy_(torch.as_tensor(nominal(self.model, name), dtype=torch.float32))
        for name, values in state["fields"].items():
            self._own(name).copy_(values)
        for name in _STATE:
            self._views[name].copy_(state["state"][name])
        self._outdated = state["outdated"]
        self._unstable.copy_(state["unstable"])
        self._run(self._refresh)
        self._views["sensordata"].copy_(state["state"]["sensordata"])

    def _advance(self) -> None:
        """Forces at this state, integration, then what depends on the new position and velocity."""
        m, d = self._model, self._data
        mjw.fwd_actuation(m, d)
        mjw.fwd_acceleration(m, d, factorize=True)
        mjw.solve(m, d)
        d.sensordata.zero_()  # some kernels add to it
        mjw.sensor_acc(m, d)
        self._integrate(m, d)
        wp.launch(
            reset_diverged,
            dim=self.num_envs,
            inputs=[self.model.nq, self.model.nv, self.model.na, m.qpos0],
            outputs=[d.qpos, d.qvel, d.act, d.qacc_warmstart, self._bad],
        )
        self._refresh()

    def _refresh(self) -> None:
        m, d = self._model, self._data
        mjw.fwd_position(m, d, factorize=False)
        mjw.sensor_pos(m, d)
        mjw.fwd_velocity(m, d)
        mjw.sensor_vel(m, d)

    def _run(self, work: Callable[[], None]) -> None:
        """Do it on torch's stream, on a GPU as a CUDA graph that is captured the second time."""
        if not self._device.is_cuda:
            with wp.ScopedDevice(self._device):
                work()
            return
        if work not in self._warm:  # compiles the kernels and loads them, which a capture cannot
            self._warm.add(work)
            with self._stream():
                work()
            return
        if work not in self._graphs:
            # Torch's default stream cannot be captured, so this happens on warp's; nothing runs while capturing.
            torch.cuda.synchronize(self.device)
            with wp.ScopedDevice(self._device), wp.ScopedCapture(self._device) as capture:
                work()
            self._graphs[work] = capture.graph
        wp.capture_launch(self._graphs[work], stream=wp.stream_from_torch(torch.cuda.current_stream(self.device)))

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        if not self._device.is_cuda:
            with wp.ScopedDevice(self._device):
                yield
            return
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        with wp.ScopedDevice(self._device), wp.ScopedStream(stream):
            yield

    def _own(self, name: str) -> Tensor:
        """(N, …) values of a model field, one per simulation; the first time they are copies of the shared one."""
        if name not in self._expanded:
            owner, attribute = (self._model.opt, name[4:]) if name in OPTIONS else (self._model, name)
            shared = getattr(owner, attribute)
            # An empty array (a model without tendons, say) has nothing to expand.
            values = wp.to_torch(shared) if shared.size > 0 else torch.zeros(shared.shape, device=self.device)
            values = values[:1].expand(self.num_envs, *values.shape[1:]).contiguous()
            if shared.size > 0:
                setattr(owner, attribute, wp.from_torch(values, dtype=shared.dtype))
            self._expanded[name] = values
            self._graphs = {}
        return self._expanded[name]

    def _grow_where_needed(self) -> None:
        flags = wp.to_torch(self._data.overflow)
        seen = _any_of(flags, _ROOM | _CUT) & ~self._told
        if not seen:
            return
        if not seen & _ROOM:
            self._told |= seen
            _LOG.warning("warp: collisions were cut short (%s); contacts may be missing", _OVERFLOW(seen).name)
            return
        self._room = [2 * size for size in self._room]
        _LOG.warning(
            "warp: contacts or constraints did not fit (%s); room is now %d contacts and %d constraints per "
            "simulation. Ask for it from the start with WarpPhysics(…, contacts=%d, constraints=%d).",
            _OVERFLOW(seen).name, *self._room, *self._room,
        )  # fmt: skip
        state = {name: view.clone() for name, view in self._views.items()}
        self._allocate()
        for name, values in state.items():
            self._views[name].copy_(values)
        self._run(self._refresh)
        self._views["sensordata"].copy_(state["sensordata"])


def _any_of(flags: Tensor, mask: int) -> int:
    """The bits of `mask` that any simulation has set; one wait for the device."""
    bits = [1 << k for k in range(mask.bit_length()) if mask >> k & 1]
    have = torch.stack([(flags & bit).any() for bit in bits]).tolist()
    return sum(bit for bit, there in zip(bits, have, strict=True) if there)


def _device(name: str) -> tuple[Any, torch.device]:
    try:
        device = wp.get_device(name)
    except (ValueError, RuntimeError) as error:
        have = ", ".join(str(d) for d in wp.get_devices())
        raise ConfigError(f"physics 'warp': no device '{name}'; this machine has {have}") from error
    if device.is_cuda and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' needs a build of torch with CUDA; this one has none")
    return device, torch.device(str(device))


def _integrator(model: mujoco.MjModel) -> Callable[[Any, Any], None]:
    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
        raise ConfigError("physics 'warp' does not put bodies to sleep here; switch `sleep` off in the model's options")
    if int(model.opt.integrator) not in _INTEGRATORS:
        raise ConfigError("physics 'warp' integrates with Euler, implicit or implicitfast; set <option integrator=…>")
    return _INTEGRATORS[int(model.opt.integrator)]


def _per_world(spec: Any) -> bool:
    shape = getattr(spec, "shape", ())
    return bool(shape) and shape[0] == "*"


PHYSICS = WarpPhysics
