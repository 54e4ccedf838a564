"""`robot-rl data`: look at, draw, film, check, join and convert files of recorded episodes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from robot_rl.commands.data_convert import convert_arguments, export_main, import_main

HELP = "look at, draw, film, check, join and convert files of recorded episodes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    info = verbs.add_parser("info", help="how many episodes, how long, how good, of what")
    info.add_argument("file", type=Path)
    info.add_argument("--json", action="store_true", help="as JSON on standard output")
    check = verbs.add_parser("check", help="every check sum, shape and number; status 1 where something is wrong")
    check.add_argument("file", type=Path, nargs="+")
    merge = verbs.add_parser("merge", help="one new file with the episodes of several")
    merge.add_argument("file", type=Path, nargs="+")
    merge.add_argument("-o", "--output", type=Path, required=True)
    merge.add_argument("--skip-damaged", action="store_true", help="leave out what is damaged, and say so")
    plot = verbs.add_parser("plot", help="lengths, returns, successes, actions, and an episode over time, as PNG")
    plot.add_argument("file", type=Path)
    plot.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: FILE-plots beside the file")
    plot.add_argument("--episode", type=int, default=0, help="which one over time (default 0)")
    video = verbs.add_parser("video", help="the images of an episode as mp4")
    video.add_argument("file", type=Path)
    video.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.mp4")
    video.add_argument("--episode", type=int, default=0, help="which one (default 0)")
    video.add_argument("--camera", metavar="NAME", help="only this one (default: all, side by side)")
    convert_arguments(verbs)


def main(arguments: argparse.Namespace) -> int:
    verbs = {
        "info": _info, "check": _check, "merge": _merge, "plot": _plot, "video": _video,
        "import": import_main, "export": export_main,
    }  # fmt: skip
    return verbs[arguments.what](arguments)


def _info(arguments: argparse.Namespace) -> int:
    from robot_rl.data.tools import info

    found = info(arguments.file)
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
        return 0
    print(f"{arguments.file}: {found.episodes} episodes, {found.steps} steps, {found.seconds:.1f} s at "
          f"{1 / found.control_dt:g} Hz, {found.megabytes:.1f} MB")  # fmt: skip
    print(f"  length {found.shortest} to {found.longest} steps, mean {found.mean_steps:.1f}")
    if found.judged:
        print(f"  success {found.successes} of {found.judged} judged")
    if found.returns is not None:
        print(f"  return, mean {found.returns:.3f}")
    if found.interventions is not None:
        print(f"  a person acted in {100 * found.interventions:.1f} % of the steps")
    for name, value in (("task", found.task), ("robot", found.robot), *sorted(found.facts.items())):
        if value != "":
            print(f"  {name}: {value}")
    for name, text in found.features.items():
        print(f"    {name:24} {text}")
    if found.torn:
        print(f"  {found.torn} bytes of an unfinished or damaged episode at the end; see `robot-rl data check`")
    for name in found.kept_aside:
        print(f"  a torn end was moved into {name}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from robot_rl.data.episode import DataError
    from robot_rl.data.tools import check, kept_aside

    wrong = 0
    for path in arguments.file:
        try:
            found = check(path)
        except (DataError, OSError) as error:
            found = [str(error)]
        wrong += len(found)
        print(f"{path}: {'sound' if not found else f'{len(found)} faults'}")
        for text in found:
            print(f"  {text}")
        for kept in kept_aside(path):
            print(f"  no fault of this file: a torn end was moved into {kept.name}, {kept.stat().st_size} bytes")
    return 1 if wrong else 0


def _merge(arguments: argparse.Namespace) -> int:
    from robot_rl.data.tools import merge

    count, left_out = merge(arguments.file, arguments.output, arguments.skip_damaged)
    print(f"wrote {arguments.output}: {count} episodes of {len(arguments.file)} files")
    for text in left_out:
        print(f"  left out: {text}")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from robot_rl.evaluation.episodes.plots import save_plots

    file: Path = arguments.file
    for path in save_plots(file, arguments.output or file.with_name(f"{file.stem}-plots"), arguments.episode):
        print(f"wrote {path}")
    return 0


def _video(arguments: argparse.Namespace) -> int:
    from robot_rl.evaluation.episodes.film import save_film

    print(f"wrote {save_film(arguments.file, arguments.output, arguments.episode, arguments.camera)}")
    return 0
