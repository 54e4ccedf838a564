"""Manipulation by an arm with a gripper: objects and fixtures, end-effector actions, cameras, randomised looks."""
