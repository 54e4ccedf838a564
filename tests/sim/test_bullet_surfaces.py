"""Coefficients of contacts that PyBullet is given, against the rows that MuJoCo makes of the same contacts."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_rl.sim.physics._bullet_surfaces import (
    Contact,
    Shape,
    combined,
    contact,
    leading,
    may_touch,
    shapes_of,
    surfaces,
)
from robot_rl.sim.task_spec import make_env

DEPTH = 0.0005
"""m, half the usual `width` of solimp: there the impedance is midway between its ends."""
BALL = """
<mujoco>
  <option timestep="0.004" cone="{cone}" impratio="5"/>
  <worldbody>
    <geom type="plane" size="0 0 1" {floor}/>
    <body pos="0 0 {height}"><freejoint/><geom size="0.05" mass="2" {ball}/></body>
  </worldbody>
</mujoco>
"""
WAYS = {
    "as by default": ("", ""),
    "slippery": ('condim="1"', 'condim="1"'),
    "with torsion": ('condim="4"', 'friction="0.3 0.2 0.1"'),
    "with rolling": ('condim="6" friction="0.4 0.01 0.02"', 'friction="0.3 0.2 0.1"'),
    "mixed": ('solref="0.01 0.7" solimp="0.8 0.9" solmix="3"', 'solref="0.03 1.5"'),
    "mixed with one that counts for nothing": ('solref="0.01 1" solmix="0"', 'solref="0.03 1.5"'),
    "the floor decides": ('priority="2" solref="0.03 1" friction="0.3"', 'condim="6" friction="2"'),
    "the ball decides": ('condim="6" friction="2"', 'priority="1" solimp="0.7 0.8" friction="0.3"'),
    "a direct spring": ('solref="-800 -40"', 'solref="-900 -30"'),
    "a spring and a time constant": ('solref="-800 -40"', ""),
    "faster than two steps": ('solref="0.001 1"', 'solref="0.001 1"'),
}


@pytest.mark.parametrize("cone", ["elliptic", "pyramidal"])
@pytest.mark.parametrize("way", WAYS)
def test_a_contact_is_as_stiff_damped_and_rough_as_mujoco_makes_it(way: str, cone: str) -> None:
    floor, ball = WAYS[way]
    model = mujoco.MjModel.from_xml_string(BALL.format(cone=cone, floor=floor, ball=ball, height=0.05 - DEPTH))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    made = contact(model, 0, 1)
    dims, step = int(data.contact[0].dim), model.opt.timestep
    along = data.efc_J.reshape(data.nefc, model.nv)[:, 2] if cone == "pyramidal" else np.eye(data.nefc)[0]
    weight, (stiffness, damping) = float((data.efc_D * along**2).sum()), data.efc_KBIP[0, :2]
    assert made.stiffness == pytest.approx(weight * stiffness)
    assert step * made.stiffness + made.damping == pytest.approx(weight * max(damping, step * stiffness))
    mu, _, spin, roll, _ = data.contact[0].friction
    expected = [mu if dims > 1 else 0.0, spin if dims > 3 else 0.0, roll if dims > 4 else 0.0]
    assert [made.friction, made.spinning, made.rolling] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", ["panda-pick", "leap-reorient"])
def test_shapes_give_what_touches_the_object_nearly_its_contact(task: str) -> None:
    """Measured: 0.2 % off at most."""
    model = make_env(task, 1, 0, overrides={"threads": 1}).model
    cube, shapes, made = int(model.body("object").id), shapes_of(model), surfaces(model)
    own: Shape = (cube, -1)
    touching = [s for s in shapes if s != own and may_touch(model, shapes[s], shapes[own])]
    assert len(touching) > 10
    for shape in touching:
        wanted = contact(model, leading(model, shapes[shape]), leading(model, shapes[own]))
        got = combined(made[shape], made[own])
        assert _close(got, wanted), (shape, got, wanted)


def _close(a: Contact, b: Contact) -> bool:
    return bool(np.allclose(list(vars(a).values()), list(vars(b).values()), rtol=0.02, atol=1e-4))


def test_the_pad_of_a_finger_speaks_for_the_finger_however_slippery_it_is() -> None:
    model = make_env("panda-pick", 1, 0, overrides={"threads": 1}).model
    finger, pad = int(model.body("left_finger").id), int(model.geom("left_pad").id)
    model.geom_friction[pad, 0] = 0.6
    assert leading(model, shapes_of(model)[(finger, -1)]) == pad
