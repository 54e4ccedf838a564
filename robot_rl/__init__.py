"""Train a policy in simulation and run the same file on a ROS 2 robot and on a microcontroller."""

__version__ = "0.1.0"
