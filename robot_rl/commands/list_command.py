"""`robot-rl list`: what there is, by kind."""

from __future__ import annotations

import argparse

from robot_rl import registry

HELP = "robots, tasks, algorithms, base controllers, drivers and boards"
MORE = {
    "task": "; and gym:<ID>, gym:<module>:<function>, envpool:<ID>: environments of other projects, for example "
    "gym:HalfCheetah-v5 (docs/third-party-tasks.md)",
    "algorithm": "; and sb3:<Class>, any algorithm of Stable-Baselines3 with continuous actions, for example sb3:SAC",
    "base": "; and lerobot:PATH, a pretrained policy of LeRobot, where that is installed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join(registry.KINDS)
    parser.add_argument("kind", nargs="?", help=f"one of: {kinds}; plural is fine; says what each is")


def main(arguments: argparse.Namespace) -> int:
    if arguments.kind is None:
        for kind in registry.KINDS:
            print(f"{kind}: {', '.join(registry.names(kind)) or 'none'}{MORE.get(kind, '')}")
        return 0
    kind = _singular(arguments.kind)
    found = registry.described(kind)
    for name, text in found.items():
        print(f"{name:{max(map(len, found))}}  {text}")
    if kind in MORE:
        print(MORE[kind].removeprefix("; and "))
    return 0


def _singular(word: str) -> str:
    return word if word in registry.KINDS else word.removesuffix("s")
