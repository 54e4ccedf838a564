"""Bitcraze Crazyflie 2.x with direct motor commands, after three published identifications."""

from __future__ import annotations

from robot_rl.contract import Command
from robot_rl.signals import FLIGHT_SIGNALS
from robot_rl.sim.quadrotor.equations import ROTOR_SPEED_MAX
from robot_rl.sim.quadrotor.params import VehicleParams
from robot_rl.sim.robot_spec import RobotSpec

_RPM = 21702.0  # full speed, rpm. Source: learning-to-fly, Crazyflie parameters, action limit.

# Source: arplaboratory/learning-to-fly (2023), dynamics parameters of the Crazyflie and motor model.
L2F = VehicleParams(
    mass=0.027,
    inertia=(3.85e-6, 3.85e-6, 5.9675e-6),
    tau_rise=0.15,  # its authors later measured 0.072 s (gym-pybullet-drones PR 219): see `reidentified`
    tau_fall=0.15,
    thrust=(0.0, 0.0, 3.16e-10 * _RPM**2),  # 3.16e-10 N/rpm²
    torque_ratio=0.005964552,
    arm=0.028,
)

# Source: rl-tools, Crazyflie parameters re-identified after the paper; the frame with deck, card and flow deck.
REIDENTIFIED = VehicleParams(
    mass=0.027 + 0.0017 + 0.0003 + 0.0016,
    inertia=(9.4166e-6, 9.6441e-6, 1.74595e-5),
    tau_rise=0.0555,
    tau_fall=0.249,
    thrust=(0.00352526, 0.01437313, 0.09223048),
    torque_ratio=4.665e-3,
    arm=0.028,
)

# Source: utiasDSL/gym-pybullet-drones, cf2x.urdf and BaseAviary (Panerati et al., 2021).
PYBULLET = VehicleParams(
    mass=0.027,
    inertia=(1.4e-5, 1.4e-5, 2.17e-5),
    tau_rise=0.072,  # that simulator has no motor lag; this is the one measured for it in its PR 219
    tau_fall=0.072,
    thrust=(0.0, 0.0, 3.16e-10 * _RPM**2),  # kf; thrust to weight 2.25 gives the same full speed
    torque_ratio=7.94e-12 / 3.16e-10,  # km / kf
    arm=0.0397 / 2**0.5,  # arm 0.0397 m, rotors on the diagonals
    drag_xy=9.1785e-7,
    drag_z=10.311e-7,
    ground_effect=11.36859 * (2.31348e-2 / 4) ** 2,  # gnd_eff_coeff · (prop_radius / 4)²
)

ROTORS = ("front_right", "back_right", "back_left", "front_left")

ROBOT = RobotSpec(
    name="crazyflie",
    description="Crazyflie 2.x, 27 g quadrotor, rotor speed commands",
    signals=tuple(s for name, s in FLIGHT_SIGNALS.items() if name.startswith("base_")),
    commands=(
        Command(
            name="rotor_speed_target",
            kind="rotor_speed",
            unit="rad/s",
            elements=ROTORS,
            lower=(0.0,) * 4,
            upper=(ROTOR_SPEED_MAX,) * 4,
            idle=(0.0,) * 4,
        ),
    ),
    parameter_sets={"l2f": L2F, "reidentified": REIDENTIFIED, "pybullet": PYBULLET},
    default_set="l2f",
)
