"""Train a policy in simulation and run the same file on a ROS 2 robot and on a microcontroller."""

__version__ = "0.1.0"


def _register_with_gymnasium() -> None:
    """Make `gymnasium.make("robot_rl/QuadrotorHover-v0")` work after `import gymnasium, robot_rl`; loads nothing else.

    Where robot_rl is imported first, name the module: `gymnasium.make("robot_rl.sim.gym_env:robot_rl/…")`.
    """
    import sys

    if hasattr(sys.modules.get("gymnasium"), "register"):
        from robot_rl.sim.gym_registration import register_all

        register_all()


_register_with_gymnasium()
