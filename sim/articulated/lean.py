"""What the physics need not know: shapes that are only looked at, and sensors that nobody reads.

Go1's decoration and the contact sensors that walking does not read are a seventh of the time of a physics step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mujoco


def strip(spec: mujoco.MjSpec, sensors: Collection[str] | None) -> None:
    """Take out of a scene what does not change how it moves; bodies, joints and actuators keep their order.

    Shapes that touch nothing go where they have no name, for nothing can refer to them, and add nothing to the mass.

    Args:
        sensors: names of those that stay; None: all.
    """
    for geom in list(spec.geoms):
        body = geom.parent
        weightless = body == spec.worldbody or body.explicitinertial or geom.mass == 0.0
        if not geom.name and geom.contype == 0 and geom.conaffinity == 0 and weightless:
            spec.delete(geom)
    if sensors is not None:
        for sensor in [s for s in spec.sensors if s.name not in sensors]:
            spec.delete(sensor)
