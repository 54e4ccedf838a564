"""A film of the images of one recorded episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError, DataSpec, Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.evaluation.episodes.plots import episode_of

Image = NDArray[np.uint8]
_IMAGE = "image/"
HEIGHT = 240  # pixels that an image has at least in the film
_LINE, _EDGE = 20, 18  # pixels: of a line of text, and around the text
_PER_LETTER = 9  # pixels, a little more than a letter of the overlay takes


def save_film(path: Path, out: Path, index: int = 0, camera: str | None = None) -> Path:
    """An mp4 with one picture per control step, in real time to the nearest whole rate; returns `out`.

    The cameras stand side by side under a line with episode, step and time, and the action.

    Args:
        camera: only this one.

    Raises:
        DataError: there are no images, no such camera or episode, or images that are no pictures.
        ConfigError, MissingDependency: see `write_film`.
    """
    from robot_rl.sim.articulated.render import write_film

    with EpisodeStore.open(path) as store:
        cameras = cameras_of(store.spec, path, camera)
        episode, spec = episode_of(store, index), store.spec
    fps = min(240, max(1, round(1.0 / spec.control_dt)))
    frames = _frames(episode, spec, cameras, f"episode {index}")
    first = next(frames)

    def every() -> Iterator[Image]:
        yield first
        yield from frames

    return write_film(every(), out, fps, (first.shape[1], first.shape[0]))


def cameras_of(spec: DataSpec, path: Path, camera: str | None = None) -> list[str]:
    """Names of the cameras whose images are in the file, or the one that was asked for.

    Raises:
        DataError: there is none, or not that one; the message says what there is.
    """
    found = [name.removeprefix(_IMAGE) for name in spec.features if name.startswith(_IMAGE)]
    if not found:
        raise DataError(f"'{path}' holds no images; `robot-rl demos TASK -o FILE --images` records them")
    if camera is not None and camera not in found:
        raise DataError(f"'{path}' has no camera '{camera}'; it has {', '.join(found)}")
    chosen = found if camera is None else [camera]
    for name in chosen:
        feature = spec.features[_IMAGE + name]
        if feature.dtype != "uint8" or len(feature.shape) != 3 or feature.shape[2] not in (1, 3):
            raise DataError(f"'{_IMAGE}{name}' is {feature.dtype} {feature.shape}; a film takes uint8 (H, W, 1 or 3)")
    return chosen


def _frames(episode: Episode, spec: DataSpec, cameras: Sequence[str], title: str) -> Iterator[Image]:
    from robot_rl.sim.articulated.render import with_text

    images = [episode.arrays[_IMAGE + name] for name in cameras]
    actions = episode.arrays.get("action")
    names = spec.features["action"].names if "action" in spec.features else ()
    for k in range(len(episode) + 1):
        shown = side_by_side([image[k] for image in images])
        heads = [f"{title}, step {k}, {k * spec.control_dt:.2f} s"]
        if actions is not None:
            heads += _action_lines(actions[min(k, len(episode) - 1)], names, k < len(episode), shown.shape[1])
        strip = np.zeros((_LINE * len(heads) + _EDGE, shown.shape[1], 3), np.uint8)
        yield with_text(np.concatenate([strip, shown]), heads)


def side_by_side(images: Sequence[Image]) -> Image:
    """Images (H, W, 1 or 3) as one (H', W', 3) with even sides, each enlarged by a whole factor."""
    large = []
    for image in images:
        factor = max(1, -(-HEIGHT // image.shape[0]))
        coloured = np.broadcast_to(image, (*image.shape[:2], 3))
        large.append(coloured.repeat(factor, axis=0).repeat(factor, axis=1))
    height, width = max(image.shape[0] for image in large), sum(image.shape[1] for image in large)
    sheet = np.zeros((height + height % 2, width + width % 2, 3), np.uint8)
    left = 0
    for image in large:
        sheet[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1]
    return sheet


def _action_lines(action: NDArray[np.floating], names: Sequence[str], going: bool, width: int) -> list[str]:
    """As many lines in every picture, however many actions a line of `width` pixels has room for."""
    values = action.ravel()
    words = [f"{name} {value:+.2f}" for name, value in zip(names or [""] * len(values), values, strict=True)]
    fit = max(1, width // (_PER_LETTER * (max(map(len, words)) + 2)))
    lines = ["  ".join(words[i : i + fit]).strip() for i in range(0, len(words), fit)]
    return lines if going else ["end", *[""] * (len(lines) - 1)]
