"""`robot-rl classifier`: learn from labelled episodes when a task is solved, say how sure that is, and export it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl.commands.arguments import seed, share

if TYPE_CHECKING:
    from robot_rl.policies.classifier.report import ClassifierReport
    from robot_rl.policy_file import PolicyFile

TOLERANCE = 1e-4  # of a probability, between PyTorch and what runs the file
HELP = "learn from recorded episodes when a task is solved; a file that `robot-rl train` takes as reward"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    train = verbs.add_parser("train", help="learn, calibrate, choose a threshold, report on episodes it has not seen")
    train.add_argument(
        "file", type=Path, help="successful and failed episodes, by robot-rl demos --set reward_kind=sparse"
    )
    train.add_argument("-o", "--output", type=Path, default=Path("classifier.onnx"))
    train.add_argument("--force", action="store_true", help="replace an existing file")
    train.add_argument("--false-positives", type=share, default=0.05, metavar="SHARE", help="of the held-out episodes "
                       "that may raise a false alarm; the threshold follows (default 0.05)")  # fmt: skip
    train.add_argument("--set", nargs="+", default=[], action="extend", dest="changes", metavar="KEY=VALUE",
                       help="for example last=3 images=[front] updates=4000")  # fmt: skip
    train.add_argument("--seed", type=seed, default=0)
    report = verbs.add_parser("report", help="the same figures for a file, on any episodes")
    report.add_argument("classifier", type=Path)
    report.add_argument("file", type=Path)
    for verb in (train, report):
        verb.add_argument("--plots", type=Path, metavar="DIR", help="reliability and ROC as PNG")
        verb.add_argument("--json", action="store_true", help="as JSON on standard output")


def main(arguments: argparse.Namespace) -> int:
    return _train(arguments) if arguments.what == "train" else _report(arguments)


def _train(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.files import check_output
    from robot_rl.config import overlay, parse_set
    from robot_rl.errors import ExportError
    from robot_rl.policies.classifier.calibration import largest_by_episode, probability, threshold_for
    from robot_rl.policies.classifier.frames import Momentary, read_frames, split
    from robot_rl.policies.classifier.network import ClassifierConfig, calibrate, learn
    from robot_rl.policies.classifier.report import report_on

    if arguments.output.exists() and not arguments.force:
        raise ExportError(f"{arguments.output} exists; choose another name with -o, or replace it with --force")
    check_output(arguments.output)
    changes = parse_set(arguments.changes) | {"false_positives": arguments.false_positives}
    config = overlay(ClassifierConfig(), changes)
    task, env, pictures = _world(arguments.file, config.images)
    observer = Momentary(env.observer).eval()
    frames = read_frames(arguments.file, observer, pictures, config.last, config.margin)
    parts = {name: frames.part(numbers) for name, numbers in split(frames.succeeded, arguments.seed).items()}
    network = learn(parts["learn"], pictures, config, arguments.seed)
    temperature, held = calibrate(network, parts["calibrate"]), parts["calibrate"]
    p = probability(network.logits(held), temperature)
    alarms = largest_by_episode(p, held.episode, held.clear & ~held.label)
    threshold = threshold_for(alarms, largest_by_episode(p, held.episode, held.label), config.false_positives)
    logits = network.logits(parts["test"])
    found = report_on(logits, parts["test"], threshold, temperature)
    facts = {"threshold": threshold, "false_positives": config.false_positives, "last": config.last,
             "margin": config.margin, "images": list(config.images), "test": found.to_json()}  # fmt: skip
    _export(arguments, task, observer, network, facts)
    _tell(arguments, found, logits, parts["test"], "episodes that were neither learnt from nor calibrated on")
    if not arguments.json:
        print(f"wrote {arguments.output}\nnext: robot-rl train {task.name} --algorithm rlpd --set "
              f"reward.classifier={arguments.output}")  # fmt: skip
    return 0


def _world(file: Path, images: tuple[str, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
    """The task that the episodes are of, one environment of it with the same options, and the pictures to look at."""
    from robot_rl.data.store import EpisodeStore
    from robot_rl.errors import ConfigError
    from robot_rl.policies.algorithms.bc import pictures_of
    from robot_rl.registry import load

    with EpisodeStore.open(file) as store:
        name, options = store.spec.task, dict(store.spec.facts.get("options", {}))
    if not name:
        raise ConfigError(f"'{file}' does not say of which task its episodes are")
    task = load("task", name).overridden(options)
    env = task.make(1, 0, "cpu")
    if not hasattr(env, "observer"):
        raise ConfigError(f"task '{name}' has no observer that could be exported with a classifier")
    return task, env, pictures_of(env, images) if images else ()


def _export(arguments: argparse.Namespace, task: Any, observer: Any, network: Any, facts: Mapping[str, Any]) -> None:
    """With golden vectors from the first successful episode, whose end is where the answer changes."""
    import numpy as np

    from robot_rl.data.store import EpisodeStore
    from robot_rl.observer import WithPictures
    from robot_rl.policies.classifier.frames import SUCCESS
    from robot_rl.policies.classifier.network import Probability
    from robot_rl.policies.export import export_policy

    seen = WithPictures(observer, network.pictures) if network.pictures else observer
    with EpisodeStore.open(arguments.file) as store:
        episode = next(e for e in store if e.success or SUCCESS in store.spec.features)
    rows = np.unique(np.linspace(0, len(episode), 24).astype(int))

    def feature(name: str) -> str:
        return f"image/{name.removeprefix('image_')}" if name.startswith("image_") else f"obs/{name}"

    examples = [{s.name: episode.arrays[feature(s.name)][row] for s in seen.signals} for row in rows]
    export_policy(
        arguments.output, observer=seen, actor=network, action_map=Probability(), task=task.name, robot=task.robot,
        rate=task.rate, example_signals=examples, provenance={"classifier": dict(facts), "seed": arguments.seed},
        tolerance=TOLERANCE,
    )  # fmt: skip


def _report(arguments: argparse.Namespace) -> int:
    import numpy as np

    from robot_rl.errors import ConfigError
    from robot_rl.policies.classifier.frames import Momentary, read_frames
    from robot_rl.policies.classifier.network import OUTPUT
    from robot_rl.policies.classifier.report import report_on
    from robot_rl.policy_file import read_policy_file

    file = read_policy_file(arguments.classifier)
    facts = file.contract.provenance.get("classifier")
    if not isinstance(facts, Mapping):
        raise ConfigError(f"'{arguments.classifier}' is no classifier of `robot-rl classifier train`")
    _, env, pictures = _world(arguments.file, tuple(facts["images"]))
    frames = read_frames(arguments.file, Momentary(env.observer), pictures, facts["last"], facts["margin"])
    said = _played(file, arguments.file, OUTPUT)
    clipped = np.clip(said.astype(np.float64), 1e-7, 1.0 - 1e-7)
    logits = np.log(clipped) - np.log1p(-clipped)  # temperature is inside the file
    found = report_on(logits, frames, float(facts["threshold"]), 1.0)
    _tell(arguments, found, logits, frames, f"{arguments.file}")
    return 0


def _played(classifier: PolicyFile, file: Path, output: str) -> Any:
    """What the file says about every frame, as a robot would get it."""
    import numpy as np

    from robot_rl.data.store import EpisodeStore
    from robot_rl.policy import Policy

    answers = []
    with EpisodeStore.open(file) as store:
        for episode in store:
            shown = {}
            for s in classifier.contract.signals:
                kind = f"image/{s.name.removeprefix('image_')}" if s.name.startswith("image_") else f"obs/{s.name}"
                shown[s.name] = episode.arrays[kind]
            batch = Policy(classifier, num_envs=len(episode) + 1)
            answers.append(batch.act(shown)[output][:, 0])
    return np.concatenate(answers)


def _tell(arguments: argparse.Namespace, r: ClassifierReport, logits: Any, frames: Any, where: str) -> None:
    if arguments.plots is not None:
        from robot_rl.evaluation.classifier_plots import save_plots
        from robot_rl.policies.classifier.report import said_and_true

        save_plots(*said_and_true(logits, frames, r.temperature), r, arguments.plots)
    if arguments.json:
        print(json.dumps(r.to_json(), indent=1))
        return
    from robot_rl.evaluation.report import share as shown
    from robot_rl.evaluation.statistics import wilson

    print(f"on {where}: {r.frames} frames, {r.positives} of them positive")
    print(f"  AUC {r.auc:.4f}, log loss {r.log_loss:.4f}, ECE {r.calibration_error:.4f}; before temperature "
          f"{r.temperature:.2f}: {r.log_loss_before:.4f}, {r.calibration_error_before:.4f}")  # fmt: skip
    print(f"  threshold {r.threshold:.3f}: false alarm in {r.alarms} of {r.episodes} episodes, "
          f"{shown(wilson(r.alarms, r.episodes))}")  # fmt: skip
    if r.successes:
        print(f"  {r.found} of {r.successes} successes noticed, {shown(wilson(r.found, r.successes))}")
    c = r.confusion
    print(f"  frames: {c.true_positive} right and {c.false_positive} wrong alarms, {c.false_negative} missed, "
          f"{c.true_negative} rightly silent")  # fmt: skip
    print("  said          true   frames")
    for row in r.reliability:
        print(f"  {row.low:.1f} to {row.high:.1f}  {row.true:6.3f}  {row.count:7d}  (mean {row.said:.3f})")
