"""Pictures in MP4 files, frame by frame at exact times, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import DataError
from robot_rl.data.formats.exchange import library

CODEC, PIXELS = "h264", "yuv420p"
_OPTIONS = {"crf": "18", "preset": "veryfast", "bf": "0"}
_KEY_EVERY = 2  # frames: any of them can be read without decoding many others


class FilmWriter:
    """Appends pictures (H, W, 3) uint8 to a new MP4 file, one every 1/fps s."""

    def __init__(self, path: Path, fps: int, shape: tuple[int, ...]) -> None:
        self._av = library("av", "films in LeRobot's format")
        self.path, self.frames, self._fps = path, 0, fps
        self.pixels = PIXELS if shape[0] % 2 == 0 == shape[1] % 2 else "yuv444p"  # halved colours need even sides
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container: Any = self._av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=fps, options=_OPTIONS)
        self._stream.height, self._stream.width, self._stream.pix_fmt = shape[0], shape[1], self.pixels
        self._stream.gop_size = _KEY_EVERY

    def add(self, pictures: NDArray[Any]) -> None:
        """(T, H, W, 3) uint8, in order."""
        for picture in pictures:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Write what is left; twice is once."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None


def pictures_at(path: Path, times: NDArray[Any], fps: float) -> NDArray[Any]:
    """The pictures that are shown at these times.

    Args:
        path: of a film with a constant rate. times: s from its beginning, (T,), growing. fps: frames a second.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        DataError: it cannot be read, or no frame lies within half a frame's time of one of `times`.
    """
    near = 0.5 / fps
    with _opened(path) as container:
        stream = container.streams.video[0]
        container.seek(int(max(times[0] - near, 0.0) / stream.time_base), stream=stream)
        frames, shown = list[NDArray[Any]](), list[float]()
        for frame in container.decode(stream):
            at = float(frame.pts * stream.time_base)
            if at > times[-1] + near:
                break
            if at >= times[0] - near:
                frames.append(frame.to_ndarray(format="rgb24"))
                shown.append(at)
    if not shown:
        raise DataError(f"'{path}' has no frame between {times[0]:.3f} and {times[-1]:.3f} s; is it whole?")
    nearest = np.abs(np.asarray(shown)[None, :] - times[:, None]).argmin(1)
    far = np.flatnonzero(np.abs(np.asarray(shown)[nearest] - times) > near)
    if len(far):
        raise DataError(
            f"'{path}' has no frame at {times[far[0]]:.3f} s (the last is at {shown[-1]:.3f} s); is it whole?"
        )
    return np.stack([frames[i] for i in nearest])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    av = library("av", "films in LeRobot's format")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"'{path}' has no pictures in it")
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be decoded: {error}") from error
