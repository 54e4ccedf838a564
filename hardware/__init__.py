"""Robots: drivers, the control loop, the supervisor that no policy can bypass, and the ROS 2 node around them.

Nothing here imports torch; rclpy is imported only in `robot_node.py`, `mission.py` and `ros_messages.py`.
"""
