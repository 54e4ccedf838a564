"""The learner's side of the connection: threads that take in steps and give out weights. One actor at a time."""

from __future__ import annotations

import logging
import queue
import select
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from robot_rl.errors import ConfigError
from robot_rl.policies.asynchronous.options import ALIVE_EVERY, SILENT_AFTER
from robot_rl.policies.asynchronous.transitions import TRANSITION
from robot_rl.policies.asynchronous.wire import Gone, Message, WireError, encode, read, send

_LOG = logging.getLogger("robot_rl.asynchronous")
_INBOX = 1000  # steps that wait for the learner; then the connection is not read, and they wait with the actor


@dataclass(frozen=True)
class Fit:
    """What actor and learner must agree on."""

    dims: Mapping[str, int]
    action_dim: int
    num_envs: int

    def fields(self) -> dict[str, Any]:
        """As plain values."""
        return {"dims": dict(self.dims), "action_dim": self.action_dim, "num_envs": self.num_envs}


class Server:
    """Listens from the beginning, answers once `start` was called.

    Args:
        host, port: where to listen; port 0: a free one. run: what an actor needs to make the same environment and
            learner: plain values.

    Attributes:
        address: (host, port). inbox: transitions that have arrived. connected: an actor is there.
        figures: what the actor last said about itself. received: (actor, number) of the newest step that has arrived.
        steps: of training so far. finished: it has ended.
    """

    def __init__(self, host: str, port: int, run: Mapping[str, Any]) -> None:
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another address") from error
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.inbox: queue.Queue[Message] = queue.Queue(_INBOX)
        self.connected, self.figures = False, dict[str, float]()
        self.received, self.steps, self.finished = ("", 0), 0, False
        self._run, self._fit, self._kept = dict(run), Fit({}, 0, 0), ("", 0)
        self._weights, self._version, self._final = b"", 0, False
        self._connection: tuple[str, socket.socket] | None = None
        self._news, self._closing = threading.Condition(), threading.Event()
        self._seat = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, fit: Fit) -> None:
        """Take actors that fit."""
        self._fit = fit
        self._thread(self._accept)

    def go_on_after(self, actor: str, number: int) -> None:
        """That actor's steps up to `number` are known, from a checkpoint; call it before `start`."""
        self.received = self._kept = (actor, number)

    def publish(self, weights: Message) -> None:
        """Send these to the actor that is there, and first thing to every later one; older ones are left out."""
        frame = encode(weights)
        with self._news:
            self._weights, self._version = frame, self._version + 1
            self._news.notify_all()

    def keep(self, actor: str, number: int) -> None:
        """A checkpoint holds that actor's steps up to `number`; it need not keep them any longer."""
        with self._news:
            self._kept = (actor, number)
            self._news.notify_all()

    def close(self, patience: float = 3.0) -> None:
        """End; where training has ended, the actor is told so and given time to leave. Idempotent."""
        if self.finished:
            with self._news:
                self._final = True
                self._news.notify_all()
            deadline = time.monotonic() + patience
            while self.connected and time.monotonic() < deadline:
                time.sleep(0.02)
        self._closing.set()
        with self._news:
            self._news.notify_all()
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def _thread(self, target: Any, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                if select.select([self._listener], [], [], 0.2)[0]:
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._thread(self._serve, connection)
            except (OSError, ValueError):  # closed meanwhile, or whoever called has hung up already
                continue

    def _serve(self, connection: socket.socket) -> None:
        """One caller, from its first message to its last."""
        with connection, suppress(Gone):
            try:
                first = read(connection, SILENT_AFTER)
                if first.kind == "ask":
                    send(connection, encode(Message("run", {**self._run, "steps": self.steps, **self._fit.fields()})))
                elif first.kind == "hello":
                    self._attend(connection, first)
            except WireError as error:
                _LOG.warning("a caller was cut off: %s", error)

    def _attend(self, connection: socket.socket, hello: Message) -> None:
        refusal = {k: [hello.fields.get(k), v] for k, v in self._fit.fields().items() if hello.fields.get(k) != v}
        if refusal:
            reason = f"this actor does not fit the learner; [its value, the learner's]: {refusal}"
            send(connection, encode(Message("no", {"reason": reason, "final": True})))
            return
        actor = str(hello.fields.get("actor"))
        if not self._take_place(actor, connection):
            send(connection, encode(Message("no", {"reason": "another actor is connected", "final": False})))
            return
        over, writer = threading.Event(), None
        try:
            received = self.received[1] if self.received[0] == actor else 0
            send(connection, encode(Message("welcome", {"received": received, "steps": self.steps})))
            writer = self._thread(self._write, connection, actor, over)
            self._read(connection)
        except Gone as error:
            _LOG.info("the actor has gone: %s", error)
        finally:
            over.set()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            if writer is not None:
                writer.join(timeout=2.0)
            self._connection, self.connected = None, False

    def _take_place(self, actor: str, connection: socket.socket) -> bool:
        """Whether this is the actor now: none is there, or the same one calls again because its connection broke."""
        with self._seat:
            deadline = time.monotonic() + SILENT_AFTER
            while self._connection is not None and time.monotonic() < deadline:
                if self._connection[0] != actor:
                    return False
                self._hang_up()
                time.sleep(0.01)
            if self._connection is not None:
                return False
            self._connection, self.connected = (actor, connection), True
            return True

    def _read(self, connection: socket.socket) -> None:
        while not self._closing.is_set():
            message = read(connection, SILENT_AFTER)
            if message.kind == TRANSITION:
                who = str(message.fields.get("actor")), int(message.fields.get("number", 0))
                if who[0] == self.received[0] and who[1] <= self.received[1]:
                    continue  # sent again after the connection had broken
                while not self._closing.is_set():
                    with suppress(queue.Full):
                        self.inbox.put(message, timeout=0.2)
                        self.received = who
                        break
            elif message.kind == "alive":
                self.figures = {str(k): float(v) for k, v in message.fields.items()}
            elif message.kind == "refused":
                _LOG.warning("the actor refused new weights and keeps its old ones: %s", message.fields.get("reason"))

    def _write(self, connection: socket.socket, actor: str, over: threading.Event) -> None:
        version, kept = 0, 0
        with suppress(Gone):
            while not (over.is_set() or self._closing.is_set()):
                frames: list[bytes] = []
                with self._news:
                    mine = self._kept[1] if self._kept[0] == actor else 0
                    if (version, kept) == (self._version, mine) and not self._final:
                        self._news.wait(ALIVE_EVERY)
                        mine = self._kept[1] if self._kept[0] == actor else 0
                    if version != self._version:
                        frames.append(self._weights)
                    if kept != mine:
                        frames.append(encode(Message("kept", {"number": mine})))
                    version, kept = self._version, mine
                    if self._final:
                        frames.append(encode(Message("done")))
                for frame in frames or [encode(Message("alive"))]:
                    send(connection, frame)
                if self._final:
                    return

    def _hang_up(self) -> None:
        current = self._connection
        if current is not None:
            with suppress(OSError):
                current[1].shutdown(socket.SHUT_RDWR)
