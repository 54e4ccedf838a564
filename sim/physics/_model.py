"""What the backends ask of a compiled model alike: which fields may vary, which sensors belong to which stage."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robot_rl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import mujoco

    from robot_rl.sim.articulated.physics import Physics

_GROUPS = ("body_", "jnt_", "dof_", "geom_", "site_", "pair_", "eq_", "tendon_", "actuator_", "qpos")
_NOT_PHYSICAL = ("_user", "_rgba", "_aabb", "_rbound", "_acc0", "_invweight0", "_length0", "_subtreemass", "_plugin")
OPTIONS = ("opt.gravity", "opt.wind", "opt.density", "opt.viscosity", "opt.magnetic")
"""Fields of `MjOption` that may vary; the time step may not, it is the environment's."""


def varying_fields(model: mujoco.MjModel, candidates: Iterable[str]) -> frozenset[str]:
    """Those of `candidates` that are real-valued, physical and not derived from other fields."""

    def physical(name: str) -> bool:
        if name in OPTIONS:
            return True
        value = getattr(model, name, None)
        return (
            name.startswith(_GROUPS)
            and not name.endswith(_NOT_PHYSICAL)
            and isinstance(value, np.ndarray)
            and value.dtype.kind == "f"
        )

    return frozenset(name for name in candidates if physical(name))


def nominal(model: mujoco.MjModel, name: str) -> np.ndarray:
    """The model's own value of a field, `opt.…` included."""
    return np.asarray(getattr(model.opt, name[4:]) if name.startswith("opt.") else getattr(model, name))


def check_field(model: mujoco.MjModel, fields: frozenset[str], name: str, values: Tensor, k: int) -> None:
    """Raises UnknownName for a field that does not vary, ConfigError for values of another shape than (k, …)."""
    if name not in fields:
        raise UnknownName("field that may vary", name, fields)
    expected = (k, *nominal(model, name).shape)
    if tuple(values.shape) != expected:
        raise ConfigError(f"{name}: values have shape {tuple(values.shape)}, expected {expected}")


def check_batch(num_envs: int, threads: int) -> None:
    """Raises ConfigError."""
    if num_envs < 1:
        raise ConfigError(f"num_envs = {num_envs}; it must be ≥ 1")
    if threads < 0:
        raise ConfigError(f"threads = {threads}; it must be ≥ 0 (0: one per core)")


def cpu_only(name: str, device: str) -> torch.device:
    """The CPU; ConfigError for any other device."""
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"physics '{name}': '{device}' is no device; 'cpu' is") from error
    if chosen.type != "cpu":
        raise ConfigError(f"physics '{name}' runs on the CPU, not on '{device}'; choose 'warp' for a GPU")
    return chosen


def force_columns(model: mujoco.MjModel) -> np.ndarray:
    """(nsensordata,) bool: readings that belong to the last step (forces, accelerations), not to the present state."""
    import mujoco

    columns = np.zeros(model.nsensordata, dtype=bool)
    for i in range(model.nsensor):
        late = model.sensor_needstage[i] == mujoco.mjtStage.mjSTAGE_ACC
        columns[model.sensor_adr[i] : model.sensor_adr[i] + model.sensor_dim[i]] = late
    return columns


def needs_forces(model: mujoco.MjModel) -> bool:
    """Whether a sensor of position or velocity reads more than motion: contacts, limits, energies of this state."""
    import mujoco

    kind = mujoco.mjtSensor
    kinds = (
        kind.mjSENS_CONTACT, kind.mjSENS_USER, kind.mjSENS_PLUGIN, kind.mjSENS_E_POTENTIAL, kind.mjSENS_E_KINETIC,
        kind.mjSENS_JOINTLIMITPOS, kind.mjSENS_JOINTLIMITVEL, kind.mjSENS_TENDONLIMITPOS, kind.mjSENS_TENDONLIMITVEL,
    )  # fmt: skip
    early = model.sensor_type[model.sensor_needstage != mujoco.mjtStage.mjSTAGE_ACC]
    return bool(np.isin(early, [int(kind) for kind in kinds]).any())


def run_each(physics: Physics, ctrls: Tensor, columns: Tensor) -> Tensor:
    """`Physics.run` for backends with nothing quicker than `step`."""
    felt: list[Tensor] = []
    for ctrl in ctrls.unbind(0):
        physics.step(ctrl)
        felt.append(physics.raw_sensordata.index_select(1, columns))
    return torch.stack(felt)
