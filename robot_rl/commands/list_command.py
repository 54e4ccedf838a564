"""`robot-rl list`: what there is, by kind."""

from __future__ import annotations

import argparse

from robot_rl import registry

HELP = "robots, tasks, algorithms, base controllers, drivers and boards"
MORE = {
    "algorithm": "; and sb3:<Class>, any algorithm of Stable-Baselines3 with continuous actions, for example sb3:SAC",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", help=f"one of: {', '.join(registry.KINDS)}; plural is fine; default: all")


def main(arguments: argparse.Namespace) -> int:
    kinds = list(registry.KINDS) if arguments.kind is None else [_singular(arguments.kind)]
    for kind in kinds:
        print(f"{kind}: {', '.join(registry.names(kind)) or 'none'}{MORE.get(kind, '')}")
    return 0


def _singular(word: str) -> str:
    return word if word in registry.KINDS else word.removesuffix("s")
