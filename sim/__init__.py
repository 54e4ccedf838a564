"""Robots, tasks and physics. Importing the package loads neither torch nor MuJoCo."""
