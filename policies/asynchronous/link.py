"""The actor's side of the connection: a thread that sends steps and takes in weights, and connects again and again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from robot_rl.errors import ConfigError
from robot_rl.policies.asynchronous.backlog import Backlog
from robot_rl.policies.asynchronous.options import ALIVE_EVERY, SILENT_AFTER
from robot_rl.policies.asynchronous.wire import Gone, Message, WireError, encode, read, send

_RETRY = 0.5  # s between two attempts to connect


def ask_run(address: tuple[str, int], patience: float = SILENT_AFTER) -> dict[str, Any]:
    """What the learner there trains: plain values (see `Server`).

    Raises:
        Gone: nobody answers there. WireError: somebody else does.
    """
    with _connected(address) as connection:
        send(connection, encode(Message("ask")))
        return dict(read(connection, patience).fields)


class Link:
    """Keeps a connection to the learner for as long as the actor lives; nothing here makes the control loop wait.

    Args:
        address: (host, port). backlog: what is to be sent. hello: plain values by which the learner knows whether the
            actor fits. figures: asked for once a second, numbers by name. say: told when the learner comes and goes.

    Attributes:
        done: set when the learner has finished training. refusal: why the learner does not want this actor, or "".
        connected: the learner is there. gone_since: time.monotonic() since when it is not.
    """

    def __init__(
        self, address: tuple[str, int], backlog: Backlog, hello: Mapping[str, Any],
        figures: Callable[[], Mapping[str, float]], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.done, self.refusal, self.connected, self.gone_since = threading.Event(), "", False, time.monotonic()
        self._address, self._backlog, self._hello, self._figures, self._say = address, backlog, hello, figures, say
        self._weights: Message | None = None
        self._complaint, self._closing = "", threading.Event()
        self._connection: socket.socket | None = None
        self._arrived = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take_weights(self) -> Message | None:
        """The newest weights, if there are some that were not taken yet; does not wait."""
        message, self._weights = self._weights, None
        return message

    def wait_for_weights(self, timeout: float) -> bool:
        """Whether the first weights have come, within `timeout` s."""
        return self._arrived.wait(timeout)

    def refused(self, reason: str) -> None:
        """Tell the learner that its weights were not taken."""
        self._complaint = reason

    def close(self, patience: float = 2.0) -> None:
        """Send what is left while the learner takes it, at most `patience` s, and end."""
        deadline = time.monotonic() + patience
        while self.connected and self._backlog.unsent > 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        connection = self._connection
        if self.connected and connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)  # the learner reads to the end, then closes
            while self.connected and time.monotonic() < deadline:
                time.sleep(0.01)
        self._hang_up()
        self._thread.join(timeout=patience)

    def _run(self) -> None:
        while not (self._closing.is_set() or self.done.is_set() or self.refusal):
            with suppress(Gone, WireError), _connected(self._address) as connection:
                self._connection = connection
                if self._welcomed(connection):
                    self._talk(connection)
            self._connection = None
            self._closing.wait(_RETRY)

    def _welcomed(self, connection: socket.socket) -> bool:
        send(connection, encode(Message("hello", {**self._hello, "actor": self._backlog.actor})))
        answer = read(connection, SILENT_AFTER)
        if answer.kind == "no":
            if answer.fields.get("final"):
                self.refusal = str(answer.fields.get("reason"))
            return False
        self._backlog.go_on_after(int(answer.fields.get("received", 0)))
        return answer.kind == "welcome"

    def _talk(self, connection: socket.socket) -> None:
        self.connected = True
        self._say("the learner is there")
        reader = threading.Thread(target=self._read, args=(connection,), daemon=True)
        reader.start()
        told = 0.0
        try:
            while self.connected:
                if self._closing.is_set():
                    reader.join(timeout=ALIVE_EVERY)
                    continue
                frame = self._backlog.take(ALIVE_EVERY / 4)
                if frame is not None:
                    send(connection, frame)
                if self._complaint:
                    reason, self._complaint = self._complaint, ""
                    send(connection, encode(Message("refused", {"reason": reason})))
                if time.monotonic() - told > ALIVE_EVERY:
                    told = time.monotonic()
                    send(connection, encode(Message("alive", dict(self._figures()))))
        finally:
            self._hang_up()
            reader.join(timeout=2.0)
            self.connected, self.gone_since = False, time.monotonic()

    def _read(self, connection: socket.socket) -> None:
        reason = ""
        try:
            while True:
                message = read(connection, SILENT_AFTER)
                if message.kind == "weights":
                    self._weights = message
                    self._arrived.set()
                elif message.kind == "kept":
                    self._backlog.forget(int(message.fields["number"]))
                elif message.kind == "done":
                    self.done.set()
                    break
        except (Gone, WireError, KeyError, ValueError) as error:
            reason = str(error)
        if not (self._closing.is_set() or self.done.is_set()):
            self._say(f"the learner has gone ({reason}); going on with the last policy, steps are kept")
        self.connected = False

    def _hang_up(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _connected(address: tuple[str, int]) -> socket.socket:
    try:
        connection = socket.create_connection(address, timeout=SILENT_AFTER)
    except socket.gaierror as error:
        raise ConfigError(f"there is no machine '{address[0]}': {error.strerror}") from error
    except OSError as error:
        raise Gone(str(error)) from error
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
