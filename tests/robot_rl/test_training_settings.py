"""The settings in config/train/ belong to a task and an algorithm that exist, and are taken by themselves."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from robot_rl import registry
from robot_rl.commands.compose import sections
from robot_rl.commands.train_command import default_name, tuned_config
from robot_rl.config import from_yaml, overlay
from robot_rl.policies.algorithm import load_algorithm

FOLDER = Path(__file__).resolve().parents[2] / "config" / "train"
FILES = sorted(f for f in FOLDER.glob("*.yaml") if f.stem != "fast")


def pair(file: Path) -> tuple[str, str]:
    """Task and algorithm of a file's name; both may have hyphens."""
    for task in registry.names("task"):
        rest = file.stem.removeprefix(f"{task}-")
        if rest in registry.names("algorithm"):
            return task, rest
    raise AssertionError(f"{file.name} is not named TASK-ALGORITHM.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_settings_fit_their_algorithm_and_task(file: Path) -> None:
    task, algorithm = pair(file)
    parts = sections(from_yaml(file))
    config = load_algorithm(algorithm).config_class()
    assert overlay(config, parts["algorithm"]) != config
    registry.load("task", task).overridden(parts["task"])


def test_the_settings_of_a_task_are_found_and_those_of_others_are_not() -> None:
    asked = argparse.Namespace(task="go1-velocity-flat", algorithm="ppo", fast=False, seed=3)
    assert tuned_config(asked) == FOLDER / "go1-velocity-flat-ppo.yaml"
    assert default_name(asked) == "go1-velocity-flat-ppo-3"
    asked.algorithm = "sb3:PPO"
    assert tuned_config(asked) is None
