"""The steps that an actor keeps: those the learner has not got, and those that are in no checkpoint of its."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

from robot_rl.policies.asynchronous.wire import HEADER_SIZE, decode, frames_in
from robot_rl.policies.run_folder import write_atomically


class Backlog:
    """Numbered frames, oldest first. One thread adds, another sends; neither ever waits for the other's work.

    When it is full the oldest frame goes, sent or not. One that was sent is lost only if the learner turns out not to
    have it: because it died before its next checkpoint, or the connection broke on the way.

    Args:
        actor: who acts; a file that is taken over says who it was.
        capacity: frames that are kept at most.

    Attributes:
        actor: as above. last: number of the newest frame. dropped: frames that no learner will ever get.
    """

    def __init__(self, actor: str, capacity: int) -> None:
        self.actor, self.capacity = actor, capacity
        self.last, self.dropped = 0, 0
        self._frames: deque[bytes] = deque()
        self._next = 1  # number of the next frame to send
        self._sent_only = deque[int]()  # numbers of frames that went when they were sent but in no checkpoint yet
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def first(self) -> int:
        """Number of the oldest frame that is kept."""
        return self.last - len(self._frames) + 1

    @property
    def unsent(self) -> int:
        """Frames that are still to be sent."""
        return self.last - self._next + 1

    def add(self, frame: bytes) -> None:
        """Append the frame with number `last` + 1."""
        with self._changed:
            if len(self._frames) == self.capacity:
                self._drop_oldest()
            self._frames.append(frame)
            self.last += 1
            self._changed.notify()

    def take(self, timeout: float) -> bytes | None:
        """The next frame to send, or None if there is none within `timeout` s."""
        with self._changed:
            if self.unsent == 0:
                self._changed.wait(timeout)
            if self.unsent == 0:
                return None
            self._next += 1
            return self._frames[self._next - 1 - self.first]

    def go_on_after(self, number: int) -> None:
        """The learner has got everything up to `number`: send what comes after it (again)."""
        with self._changed:
            self.dropped += sum(sent > number for sent in self._sent_only)
            self._sent_only.clear()
            self._next = min(max(number + 1, self.first), self.last + 1)

    def forget(self, number: int) -> None:
        """Everything up to `number` is safe with the learner."""
        with self._changed:
            while self._sent_only and self._sent_only[0] <= number:
                self._sent_only.popleft()
            while self._frames and self.first <= number:
                self._frames.popleft()
            self._next = max(self._next, self.first)

    def write(self, path: Path) -> int:
        """Keep the frames in a file, or remove it where there is none; returns how many."""
        with self._changed:
            frames = list(self._frames)
        if frames:
            write_atomically(path, b"".join(frames))
        else:
            path.unlink(missing_ok=True)
        return len(frames)

    def take_over(self, path: Path) -> int:
        """Go on with what another actor wrote there, under its name; returns how many frames. No file is fine."""
        frames = frames_in(path.read_bytes()) if path.is_file() else []
        if frames:
            newest = decode(frames[-1][:HEADER_SIZE], frames[-1][HEADER_SIZE:]).fields
            self.actor, self.last = str(newest["actor"]), int(newest["number"])
            self._frames = deque(frames[-self.capacity :])
            self._next = self.first
        return len(frames)

    def _drop_oldest(self) -> None:
        if self._next == self.first:
            self.dropped += 1
            self._next += 1
        else:
            self._sent_only.append(self.first)
        self._frames.popleft()
