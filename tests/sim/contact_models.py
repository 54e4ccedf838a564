"""Small models for the tests of contact simulators, and the same PD control for all of them."""

from __future__ import annotations

import mujoco
import torch
from torch import Tensor

PENDULUM = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.002" integrator="implicitfast"/>
  <worldbody>
    <body name="upper" pos="0 0 1">
      <joint name="a" axis="0 1 0" damping="0.1" armature="{armature}"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.03" mass="1"/>
      <body name="lower" pos="0 0 -0.5">
        <joint name="b" axis="0 1 0.3" pos="0.01 0 0" ref="0.1" damping="0.05" armature="{armature}"/>
        <geom type="capsule" fromto="0 0 0 0.1 0 -0.5" size="0.03" mass="0.7"/>
        <site name="tip" pos="0 0 -0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="a"/>{actuator}</actuator>
  <sensor>
    <framepos name="tip_pos" objtype="site" objname="tip"/><framelinvel name="tip_vel" objtype="site" objname="tip"/>
    <accelerometer name="tip_acc" site="tip"/>
  </sensor>
</mujoco>
"""

BOX = """
<mujoco>
  <option timestep="0.002"/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" priority="1" friction="0.6 0.02 0.001"/>
    <body name="box" pos="0 0 0.3" euler="10 20 0">
      <freejoint/><site name="all" size="0.3"/>
      <geom name="box" type="box" size="0.1 0.06 0.05" pos="0.01 0 0" mass="1"/>
    </body>
  </worldbody>
  <sensor>
    <touch name="touch" site="all"/><contact name="net" geom1="box" reduce="netforce" data="found force"/>
  </sensor>
</mujoco>
"""

_LEG = """
<body name="{leg}_hip" pos="{x} {y} 0">
  <joint name="{leg}_hip" axis="1 0 0" range="-0.8 0.8"/>
  <geom type="capsule" fromto="0 0 0 0 {side}0.05 0" size="0.03" mass="0.5"/>
  <body name="{leg}_thigh" pos="0 {side}0.05 0">
    <joint name="{leg}_thigh" axis="0 1 0" range="-1 3"/>
    <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" mass="0.6"/>
    <body name="{leg}_calf" pos="0 0 -0.2">
      <joint name="{leg}_calf" axis="0 1 0" range="-2.7 -0.5"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.012" mass="0.15"/>
      <geom name="{leg}_foot" type="sphere" pos="0 0 -0.2" size="0.022" mass="0.05"/>
      <site name="{leg}_foot" pos="0 0 -0.2" size="0.03"/>
    </body>
  </body>
</body>"""

_QUADRUPED = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.004" integrator="implicitfast"/>
  <default>
    <joint damping="0.5" armature="0.01" frictionloss="0.1"/><geom friction="0.8 0.02 0.001"/>
    <motor ctrlrange="-30 30"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <body name="trunk" pos="0 0 0.35">
      <freejoint name="base_free"/><geom type="box" size="0.2 0.05 0.05" mass="6"/><site name="imu"/>{legs}
    </body>
  </worldbody>
  <actuator>{motors}</actuator>
  <sensor>
    <gyro name="imu_ang_vel" site="imu"/><accelerometer name="imu_acc" site="imu"/>
    <subtreelinvel name="com_vel" body="trunk"/>{sensors}
  </sensor>
</mujoco>
"""
_LEGS = (("FR", 0.18, -0.05, "-"), ("FL", 0.18, 0.05, ""), ("RR", -0.18, -0.05, "-"), ("RL", -0.18, 0.05, ""))
POSE = torch.tensor([0.0, 0.9, -1.8] * 4)
DOFS = 18


def quadruped() -> mujoco.MjModel:
    """Twelve motors, 4 ms; stands in `POSE` under `pd`."""
    names = [leg for leg, *_ in _LEGS]
    legs = "".join(_LEG.format(leg=leg, x=x, y=y, side=side) for leg, x, y, side in _LEGS)
    motors = "".join(f'<motor name="{n}_{j}" joint="{n}_{j}"/>' for n in names for j in ("hip", "thigh", "calf"))
    sensors = "".join(
        f'<framepos name="{n}_pos" objtype="site" objname="{n}_foot"/><touch name="{n}_force" site="{n}_foot"/>'
        for n in names
    )
    return mujoco.MjModel.from_xml_string(_QUADRUPED.format(legs=legs, motors=motors, sensors=sensors))


def pendulum(armature: float, actuator: str) -> mujoco.MjModel:
    """Two joints in the air, the first with a motor."""
    return mujoco.MjModel.from_xml_string(PENDULUM.format(armature=armature, actuator=actuator))


def standing(n: int, height: float = 0.35) -> tuple[Tensor, Tensor]:
    """States (n, 19), (n, 18) of quadrupeds at rest, each a little different from the others."""
    qpos = torch.zeros(n, 19)
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = height, 1.0, POSE
    qpos[:, 2] += 0.01 * torch.arange(n)
    return qpos, torch.zeros(n, DOFS)


def pd(qpos: Tensor, qvel: Tensor) -> Tensor:
    """Torques (N, 12) that hold `POSE`."""
    return 40.0 * (POSE - qpos[:, 7:]) - 1.0 * qvel[:, 6:]


def columns(model: mujoco.MjModel, *names: str) -> list[int]:
    """Where sensors stand in `sensordata`."""
    return [i for n in names for i in range(model.sensor(n).adr[0], model.sensor(n).adr[0] + model.sensor(n).dim[0])]
