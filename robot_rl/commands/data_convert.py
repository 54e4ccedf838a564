"""`robot-rl data import` and `export`: episodes from and to LeRobot, robomimic and Minari."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_rl.data.formats.exchange import Options

_FORMATS = "lerobot, robomimic or minari"


def convert_arguments(verbs: Any) -> None:
    """The two verbs, below `robot-rl data`."""
    into = verbs.add_parser("import", help="episodes of LeRobot, robomimic or Minari as a file of ours")
    into.add_argument("source", type=Path, help="the folder (lerobot, minari) or the file (robomimic)")
    into.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    into.add_argument("--format", help=f"{_FORMATS}; guessed from the source when left out")
    into.add_argument(
        "--control-dt", type=float, metavar="SECONDS", help="between steps, where the source does not say"
    )
    into.add_argument("--last", choices=("repeat", "drop"), default="repeat",
                      help="where nothing shows what was seen after the last step: repeat what was seen before "
                      "it (default), or drop the step")  # fmt: skip
    into.add_argument("--skip-damaged", action="store_true", help="leave out episodes that are damaged, and say so")
    out = verbs.add_parser("export", help="a file of ours as a data set of LeRobot, robomimic or Minari")
    out.add_argument("source", type=Path, metavar="FILE")
    out.add_argument("-o", "--output", type=Path, required=True, metavar="TARGET")
    out.add_argument("--format", required=True, help=_FORMATS)
    for parser in (into, out):
        parser.add_argument(
            "--rename", action="append", default=[], metavar="OLD=NEW", help="another name of a feature"
        )


def import_main(arguments: argparse.Namespace) -> int:
    from robot_rl.data.formats.convert import import_episodes

    options = _options(arguments, arguments.control_dt, arguments.last, arguments.skip_damaged)
    report = import_episodes(arguments.source, arguments.output, arguments.format, options)
    print(f"wrote {arguments.output}: {report.episodes} episodes, {report.steps} steps from {report.format}")
    for text in report.notes:
        print(f"  {text}")
    return 0


def export_main(arguments: argparse.Namespace) -> int:
    from robot_rl.data.formats.convert import export_episodes

    report = export_episodes(arguments.source, arguments.output, arguments.format, _options(arguments))
    print(f"wrote {arguments.output}: {report.episodes} episodes, {report.steps} steps for {report.format}")
    for text in report.notes:
        print(f"  {text}")
    return 0


def _options(
    arguments: argparse.Namespace, control_dt: float | None = None, last: str = "repeat", skip_damaged: bool = False
) -> Options:
    from robot_rl.data.episode import DataError
    from robot_rl.data.formats.exchange import Options

    pairs = [text.partition("=") for text in arguments.rename]
    for (old, _, new), text in zip(pairs, arguments.rename, strict=True):
        if not old or not new:
            raise DataError(f"--rename {text}: it must be OLD=NEW, such as observation.state=obs/joint_pos")
    return Options(control_dt, {old: new for old, _, new in pairs}, last, skip_damaged)
