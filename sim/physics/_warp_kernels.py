"""Kernels of the `warp` backend. Warp reads annotations as types, so they are not postponed here."""
# pyright: reportUntypedFunctionDecorator=false, reportInvalidTypeForm=false, reportUnknownLambdaType=false
# pyright: reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAttributeAccessIssue=false, reportMissingParameterType=false

import warp as wp

LARGEST = wp.constant(1.0e10)
"""mjMAXVAL: beyond it MuJoCo calls a state diverged."""


@wp.kernel
def reset_diverged(
    nq: int,
    nv: int,
    na: int,
    qpos0: wp.array2d(dtype=float),
    qpos: wp.array2d(dtype=float),
    qvel: wp.array2d(dtype=float),
    act: wp.array2d(dtype=float),
    warmstart: wp.array2d(dtype=float),
    bad: wp.array(dtype=wp.bool),
) -> None:
    """Put worlds with a NaN or a huge value into the model's pose at rest, and remember them in `bad`."""
    world = wp.tid()
    diverged = wp.bool(False)
    for i in range(nq):
        if not (wp.abs(qpos[world, i]) < LARGEST):
            diverged = wp.bool(True)
    for i in range(nv):
        if not (wp.abs(qvel[world, i]) < LARGEST):
            diverged = wp.bool(True)
    if diverged:
        bad[world] = True
        for i in range(nq):
            qpos[world, i] = qpos0[world % qpos0.shape[0], i]
        for i in range(nv):
            qvel[world, i] = 0.0
            warmstart[world, i] = 0.0
        for i in range(na):
            act[world, i] = 0.0
