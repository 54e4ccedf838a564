"""How many contacts a model can have at once, so that buffers of fixed size are neither short nor vast."""

# mujoco comes without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

PER_GEOM = {2: 1, 3: 2, 4: 1}
"""Contacts of a geom (mjtGeom) that lies on a plane: sphere, capsule, ellipsoid; others have up to `CORNERS`."""
CORNERS = 4
LEAST, MOST = 32, 256


def contact_room(model: mujoco.MjModel) -> tuple[int, int]:
    """Contacts per simulation and constraint rows per simulation for which buffers should have room.

    Every geom that moves may lie on something, and half as many may touch each other besides; where that guess is
    short the backend grows. Rows: four or six of them per contact (pyramid of `condim` 3 or 4; an elliptic cone has
    fewer), one per joint limit, dry friction and equality.
    """
    moving = model.body_weldid[model.geom_bodyid] != 0
    colliding = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    touching = sum(PER_GEOM.get(int(kind), CORNERS) for kind in model.geom_type[moving & colliding])
    contacts = int(np.clip(touching * 3 // 2, LEAST, MOST)) if touching + model.npair > 0 else 1
    dims = model.geom_condim[colliding]
    widest = int(dims.max()) if len(dims) > 0 else 1
    rows = contacts * max(1, 2 * (widest - 1))
    limits = int(model.jnt_limited.sum()) + int((model.dof_frictionloss > 0).sum()) + model.nv
    tendons = int(model.tendon_limited.sum()) + int((model.tendon_frictionloss > 0).sum())
    return contacts, rows + limits + tendons + 6 * model.neq
