"""The second engine, for comparison; how far it agrees with MuJoCo stands in `test_physics_parity.py`."""

from __future__ import annotations

import subprocess
import sys

import mujoco
import pytest
from physics_contract import PhysicsContract

from robot_rl.errors import ConfigError
from robot_rl.sim.physics.pybullet import PybulletPhysics


class TestPybullet(PhysicsContract):
    backend = "pybullet"
    resume_after = 10  # still in the air: Bullet's contact cache cannot be restored
    resume_tolerance = 1e-9  # poses of the base are converted between two frames


UNSUPPORTED = {
    "tendons": (
        '<body><joint name="a"/><geom size="0.1"/></body>',
        '<tendon><fixed><joint joint="a" coef="1"/></fixed></tendon>',
    ),
    "equality constraints": (
        '<body name="b" pos="0 0 1"><freejoint/><geom size="0.1"/></body>',
        '<equality><weld body1="b"/></equality>',
    ),
    "armature or friction loss of free joints": (
        '<body><joint type="free" armature="0.1"/><geom size="0.1"/></body>',
        "",
    ),
    "ball joints": ('<body><joint type="ball"/><geom size="0.1"/></body>', ""),
    "bodies with several joints": ('<body><joint axis="1 0 0"/><joint axis="0 1 0"/><geom size="0.1"/></body>', ""),
    "collision shapes mjGEOM_ELLIPSOID": ('<body><freejoint/><geom type="ellipsoid" size="0.1 0.2 0.3"/></body>', ""),
    "height fields": (
        '<geom type="hfield" hfield="h"/>',
        '<asset><hfield name="h" nrow="3" ncol="3" size="1 1 1 1"/></asset>',
    ),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_it_cannot_do_is_named(what: str) -> None:
    world, rest = UNSUPPORTED[what]
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody>{rest}</mujoco>")
    with pytest.raises(ConfigError, match=f"pybullet.*{what}.*choose 'mujoco'"):
        PybulletPhysics(model, 1)


def test_contact_sensors_it_cannot_evaluate_are_named() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><geom name="f" type="plane" size="0 0 1"/><body><freejoint/><geom name="g" size="0.1"/>'
        '</body></worldbody><sensor><contact name="deep" geom1="g" data="dist"/></sensor></mujoco>'
    )
    with pytest.raises(ConfigError, match="contact sensor 'deep'"):
        PybulletPhysics(model, 1)


def test_the_engine_prints_nothing_into_the_users_output() -> None:
    code = (
        "from robot_rl.sim.task_spec import make_env\n"
        "make_env('panda-reach', 2, 0, 'cpu', {'physics': 'pybullet'})\nprint('here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("here\n", "")
