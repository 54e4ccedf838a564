"""The robot that the policy is made for, simulated at real time: robot.launch.py with the driver `sim`.

ros2 launch robot_rl simulation.launch.py policy:=/path/to/policy.onnx
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

# What differs from robot.launch.py; every other argument of that file can be given here too.
ARGUMENTS = (
    DeclareLaunchArgument("policy", description="policy file, as made by `robot-rl export`"),
    DeclareLaunchArgument("driver", default_value="sim", description="driver of the robot"),
    DeclareLaunchArgument(
        "require_link",
        default_value="false",
        choices=["true", "false"],
        description="refuse to arm before an operator sends heartbeats",
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Include the robot's launch file with the simulation's defaults."""
    robot = PathJoinSubstitution([FindPackageShare("robot_rl"), "launch", "robot.launch.py"])
    given = {argument.name: LaunchConfiguration(argument.name) for argument in ARGUMENTS}
    included = IncludeLaunchDescription(PythonLaunchDescriptionSource(robot), launch_arguments=given.items())
    return LaunchDescription([*ARGUMENTS, included])
