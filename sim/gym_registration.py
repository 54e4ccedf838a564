"""Tell Gymnasium which tasks there are, without loading torch; `import robot_rl.sim.gym_env` calls it."""

from __future__ import annotations

from robot_rl.registry import names


def gym_id(task: str) -> str:
    """`quadrotor-hover` → `robot_rl/QuadrotorHover-v0`."""
    return f"robot_rl/{''.join(part.capitalize() for part in task.split('-'))}-v0"


def register_all() -> None:
    """Register every task with Gymnasium; repeating it changes nothing. Time limits are the tasks' own."""
    import gymnasium

    for task in names("task"):
        if gym_id(task) not in gymnasium.registry:
            gymnasium.register(
                gym_id(task),
                entry_point="robot_rl.sim.gym_env:GymTask",
                vector_entry_point="robot_rl.sim.gym_env:GymVectorTask",
                kwargs={"task": task},
            )
