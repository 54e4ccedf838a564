"""The chain against MuJoCo's own kinematics; convergence, gradients and export of the inverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.sim.articulated.kinematics import (
    InverseKinematics,
    KinematicChain,
    pointing_down,
    rotation_error,
    solve_positive,
)
from robot_rl.sim.robots import leap, panda

mujoco = pytest.importorskip("mujoco")

SLIDER = """
<mujoco>
  <worldbody>
    <body pos="0.1 0 0.2" quat="0.8 0.6 0 0">
      <joint name="a" axis="0.6 0 0.8" pos="0.05 0.02 0"/>
      <geom size="0.01"/>
      <body name="middle" pos="0 0.3 0">
        <joint name="b" type="slide" axis="0 1 0"/>
        <joint name="c" axis="1 0 0" pos="0 0 0.1"/>
        <geom size="0.01"/>
        <body name="rigid" pos="0.2 0 0" quat="0 1 0 0">
          <geom size="0.01"/>
          <body name="last" pos="0 0 0.1">
            <joint name="d" axis="0 0 1"/>
            <geom size="0.01"/>
            <site name="tool" pos="0 0.1 0" quat="0.6 0 0.8 0"/>
          </body>
        </body>
      </body>
    </body>
    <body name="free"><freejoint/><geom size="0.01"/><site name="afloat"/></body>
    <site name="bolted"/>
  </worldbody>
</mujoco>
"""


def arm() -> tuple[mujoco.MjModel, KinematicChain]:
    model = panda.OWN.spec().compile()
    return model, KinematicChain(model, "ee")


def reachable(chain: KinematicChain, count: int, share: float = 0.8) -> torch.Tensor:
    middle, half = (chain.lower + chain.upper) / 2, (chain.upper - chain.lower) / 2
    return middle + share * half * (2 * torch.rand(count, len(chain.joints)) - 1)


@pytest.mark.parametrize(
    ("model", "site", "joints"),
    [
        (panda.OWN.spec().compile(), "ee", panda.ARM),
        (leap.OWN.spec().compile(), "th_tip", leap.JOINTS[12:]),
        (mujoco.MjModel.from_xml_string(SLIDER), "tool", ("a", "b", "c", "d")),
    ],
    ids=["panda", "thumb", "slide and off-centre hinges"],
)
def test_pose_and_jacobian_are_those_of_mujoco(model: mujoco.MjModel, site: str, joints: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    chain, data = KinematicChain(model, site), mujoco.MjData(model)
    assert chain.joints == joints
    qpos = [model.joint(j).qposadr[0] for j in joints]
    dofs = [model.joint(j).dofadr[0] for j in joints]
    q = 2.0 * torch.randn(20, len(joints))
    pos, rot, jac = chain.jacobian(q)
    for k in range(len(q)):
        data.qpos[qpos] = q[k]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, model.site(site).id)
        np.testing.assert_allclose(pos[k], data.site(site).xpos, atol=1e-5)
        np.testing.assert_allclose(rot[k].flatten(), data.site(site).xmat, atol=1e-5)
        np.testing.assert_allclose(jac[k], np.concatenate([linear, angular])[:, dofs], atol=1e-5)
    torch.testing.assert_close(chain(q)[0], pos)


def test_chain_may_begin_at_a_body() -> None:
    model = mujoco.MjModel.from_xml_string(SLIDER)
    chain, data = KinematicChain(model, "tool", root="middle"), mujoco.MjData(model)
    assert chain.joints == ("d",)
    data.qpos[model.joint("d").qposadr[0]] = 0.4
    mujoco.mj_kinematics(model, data)
    middle = data.body("middle")
    expected = middle.xmat.reshape(3, 3).T @ (data.site("tool").xpos - middle.xpos)
    np.testing.assert_allclose(chain(torch.tensor([[0.4]]))[0][0], expected, atol=1e-6)


def test_inverse_finds_poses_within_reach() -> None:
    torch.manual_seed(1)
    _, chain = arm()
    q = reachable(chain, 256)
    pos, rot = chain(torch.clamp(q + 0.3 * (2 * torch.rand_like(q) - 1), chain.lower, chain.upper))
    found = InverseKinematics(chain, iterations=40, damping=0.02)(q, pos, rot)
    there, turned = chain(found)
    close = ((there - pos).norm(dim=1) < 1e-4) & (rotation_error(turned, rot).norm(dim=1) < 1e-3)
    assert close.float().mean() > 0.95  # the rest: a joint range in the way
    assert bool(((found >= chain.lower) & (found <= chain.upper)).all())


def test_small_steps_of_a_policy_are_followed() -> None:
    """2 cm and 0.1 rad in one step of two iterations, gripper pointing down: under 1 mm and 5 mrad off."""
    torch.manual_seed(2)
    _, chain = arm()
    solver = InverseKinematics(chain, panda.READY)
    q, yaw = torch.tensor([panda.READY]).repeat(64, 1), torch.zeros(64)
    pos = chain(q)[0]
    for _ in range(10):
        pos = pos + 0.02 * torch.nn.functional.normalize(torch.randn(64, 3), dim=1)
        yaw = yaw + 0.1 * (2 * torch.rand(64) - 1)
        q = solver(q, pos, pointing_down(yaw))
        there, turned = chain(q)
        assert (there - pos).norm(dim=1).max() < 1e-3
        assert rotation_error(turned, pointing_down(yaw)).norm(dim=1).max() < 5e-3


def test_null_space_returns_to_the_preferred_posture() -> None:
    _, chain = arm()
    rest = torch.tensor([panda.READY])
    pos, rot = chain(rest)
    away = InverseKinematics(chain, iterations=60)(rest + 0.2, pos, rot)
    assert (away - rest).abs().max() > 0.05
    back = InverseKinematics(chain, panda.READY, iterations=200)(away, pos, rot)
    assert (back - rest).abs().max() < 1e-2


def test_far_targets_stay_finite_and_in_range() -> None:
    _, chain = arm()
    solver = InverseKinematics(chain, panda.READY, iterations=20)
    q = torch.tensor([panda.READY]).repeat(2, 1)
    upside = torch.eye(3).expand(2, 3, 3)
    found = solver(q, torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 0.4]]), upside)
    assert bool(((found >= chain.lower) & (found <= chain.upper)).all())


def test_gradients_pass_through_the_inverse() -> None:
    _, chain = arm()
    solver = InverseKinematics(chain, panda.READY)
    q = torch.tensor([panda.READY])
    target = (chain(q)[0] + torch.tensor([[0.01, 0.005, 0.0]])).requires_grad_()
    here = solver(q, target, pointing_down(torch.zeros(1)))[0, 0]
    (slope,) = torch.autograd.grad(here, target)
    step = torch.tensor([[0.0, 1e-2, 0.0]])
    ahead = solver(q, target + step, pointing_down(torch.zeros(1)))[0, 0]
    assert (ahead - here).item() / 1e-2 == pytest.approx(slope[0, 1].item(), rel=0.05)


def test_exported_inverse_computes_the_same(tmp_path: Path) -> None:
    _, chain = arm()
    solver = InverseKinematics(chain, panda.READY, iterations=1).eval()
    q = torch.tensor([panda.READY])
    args = (q, chain(q)[0] + 0.02, pointing_down(torch.tensor([0.1])))
    torch.onnx.export(solver, args, tmp_path / "ik.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "ik.onnx")
    feed = {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    np.testing.assert_allclose(np.asarray(session.run(None, feed)[0]), solver(*args), atol=1e-5)


def test_solver_of_positive_definite_systems() -> None:
    torch.manual_seed(3)
    half = torch.randn(32, 6, 6)
    matrix, right = half @ half.transpose(1, 2) + 0.1 * torch.eye(6), torch.randn(32, 6, 2)
    solved = solve_positive(matrix.permute(1, 2, 0), right.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(matrix @ solved, right, atol=1e-3, rtol=1e-3)


def test_what_is_no_chain_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string(SLIDER)
    with pytest.raises(UnknownName, match="tool"):
        KinematicChain(model, "hand")
    with pytest.raises(ConfigError, match="not carried by body 'free'"):
        KinematicChain(model, "tool", root="free")
    with pytest.raises(ConfigError, match="only hinges and slides"):
        KinematicChain(model, "afloat")
    with pytest.raises(ConfigError, match="nothing to move"):
        KinematicChain(model, "bolted")
    chain = KinematicChain(model, "tool")
    with pytest.raises(ConfigError, match="rest has 2 values"):
        InverseKinematics(chain, (0.0, 0.0))
    with pytest.raises(ConfigError, match="damping = 0"):
        InverseKinematics(chain, damping=0.0)
