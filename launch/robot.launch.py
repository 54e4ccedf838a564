"""A robot: one lifecycle node with its driver, configured and then activated; it goes when the node goes.

ros2 launch robot_rl robot.launch.py driver:=<name> policy:=/path/to/policy.onnx
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events import Shutdown, matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument("policy", description="policy file, as made by `robot-rl export`"),
    DeclareLaunchArgument("driver", description="driver of the robot, see `robot-rl list drivers`"),
    DeclareLaunchArgument("driver_options", default_value="", description="settings of the driver: name=value, …"),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([FindPackageShare("robot_rl"), "config", "robot_node.yaml"]),
        description="YAML file with the node's other parameters",
    ),
    DeclareLaunchArgument(
        "require_link",
        default_value="true",
        choices=["true", "false"],
        description="refuse to arm before an operator sends heartbeats",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"], description="stamp messages with /clock"
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=["true", "false"],
        description="configure and activate at once; the motors stay idle until armed",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node, its topics and services"),
)


def _robot() -> LifecycleNode:
    def typed(name: str, kind: type) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    return LifecycleNode(
        package="robot_rl",
        executable="robot_node",
        name="robot_node",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "policy": typed("policy", str),
                "driver": typed("driver", str),
                "driver_options": typed("driver_options", str),
                "supervisor.require_link": typed("require_link", bool),
                "use_sim_time": typed("use_sim_time", bool),
            },
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )


def _change(robot: LifecycleNode, transition: int) -> EmitEvent:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(robot), transition_id=transition))


def _end(reason: str) -> list:
    return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason))]


def generate_launch_description() -> LaunchDescription:
    """Start → configure → activate; refused or ended → shut down."""
    robot = _robot()
    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = RegisterEventHandler(
        OnProcessStart(target_action=robot, on_start=[_change(robot, Transition.TRANSITION_CONFIGURE)]),
        condition=autostart,
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=robot,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(robot, Transition.TRANSITION_ACTIVATE)],
        ),
        condition=autostart,
    )
    refused = [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=robot,
                start_state=start,
                goal_state=goal,
                entities=_end(f"the robot node gave up while {start}; its log says why"),
            ),
            condition=autostart,
        )
        for start, goal in (
            ("configuring", "unconfigured"),
            ("activating", "inactive"),
            ("errorprocessing", "unconfigured"),
        )
    ]
    ended = RegisterEventHandler(
        OnProcessExit(
            target_action=robot,
            on_exit=lambda _, context: [] if context.is_shutdown else _end("the robot node ended"),
        )
    )
    return LaunchDescription([*ARGUMENTS, configure, activate, *refused, ended, robot])
