"""The worker's side of the conversation: questions as JSON, numbers in the memory that both sides map."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from typing import Any

from .memory import layout, views
from .suites import Refused

LENGTH = struct.Struct("<I")
TRACEBACK_LINES = 12


def send(channel: socket.socket, message: Any) -> None:
    """One message: its length and its JSON text."""
    data = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError where the other side has gone."""
    return json.loads(_read(channel, LENGTH.unpack(_read(channel, LENGTH.size))[0]))


def _read(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise EOFError("the other side has gone")
        data += part
    return data


def group_of(config: dict[str, Any]) -> Any:
    """The environments that `config` asks for: `Group` or `Pool`."""
    if config["scheme"] == "envpool":
        from .pool import Pool

        return Pool(config)
    from .slots import Group

    return Group(config)


def answer_to(group: Any, message: dict[str, Any]) -> Any:
    """Do what is asked for; None when there is nothing to say."""
    do = message["do"]
    if do == "reset":
        return group.reset(message["seed"], message["episodes"])
    if do == "step":
        return group.step()
    if do == "propose":
        return group.propose()
    raise ValueError(f"cannot do '{do}'")


def explained(error: BaseException) -> dict[str, Any]:
    """An error as a message: what the user can mend by itself, all else with the end of its traceback."""
    if isinstance(error, Refused):
        return error.answer
    if isinstance(error, ModuleNotFoundError):
        return {"error": error.name or str(error), "kind": "missing", "install": ""}
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    tail = "".join(lines).splitlines()[-TRACEBACK_LINES:]
    return {"error": str(error) or type(error).__name__, "kind": "failed", "traceback": tail}


def main() -> None:
    """Talk over the socket with descriptor argv[-2], sharing the memory argv[-1], until the other side goes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # who started this decides when it ends
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    channel = socket.socket(fileno=int(sys.argv[-2]))
    group: Any = None
    try:
        while True:
            message = receive(channel)
            try:
                if message["do"] == "make":
                    group = group_of(message)
                    answer = group.describe()
                elif message["do"] == "map":
                    memory = mmap.mmap(int(sys.argv[-1]), message["bytes"])
                    group.arrays = views(memory, layout(*message["sizes"]))
                    answer = None
                else:
                    answer = answer_to(group, message)
            except Exception as error:
                answer = explained(error)
            send(channel, answer)
    except (EOFError, ConnectionError):
        pass
    os._exit(0)  # not a second more: threads and viewers of a suite may hang when they are closed


def _follow(parent: int) -> None:
    """End with the process that started this one, also in the middle of a step that never ends."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
