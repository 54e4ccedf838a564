"""Messages between actor and learner: framed, versioned, checked; plain numbers only, so reading them runs no code.

A frame is a header (magic with the version, length of the description, length of the body, CRC32 of both), a
description in JSON (kind, fields, and name, dtype and shape of each array) and the arrays, little-endian, in order.
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, RobotRlError

MAGIC = b"rrl\x01"
"""The last byte is the version of the protocol."""
_HEADER = struct.Struct("<4sIQI")
LARGEST = 512 * 2**20
_DTYPES = {"<f4", "<f8", "<i8", "|u1", "|b1"}
Arrays = Mapping[str, NDArray[Any]]


class WireError(RobotRlError):
    """What came is not a message of this protocol, or is damaged; the connection is of no use any more."""


class Gone(RobotRlError):
    """The other side closed the connection or has given no sign of life."""


@dataclass(frozen=True)
class Message:
    """One message: what it is, plain values, arrays by name."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The frame of a message; ValueError where an array is of a dtype that is never sent."""
    body: list[bytes] = []
    described: list[tuple[str, str, tuple[int, ...]]] = []
    for name, value in message.arrays.items():
        array = np.ascontiguousarray(value)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.str not in _DTYPES:
            raise ValueError(f"'{name}' is {array.dtype}; sent are {', '.join(sorted(_DTYPES))}")
        described.append((name, array.dtype.str, np.shape(value)))
        body.append(array.tobytes())
    head = json.dumps([message.kind, dict(message.fields), described]).encode()
    data = b"".join([head, *body])
    return _HEADER.pack(MAGIC, len(head), len(data) - len(head), zlib.crc32(data)) + data


def sizes(header: bytes) -> tuple[int, int, int]:
    """Length of description and body, and the check sum, of a frame's first `HEADER_SIZE` bytes.

    Raises:
        WireError: another program or version, or an absurd length.
    """
    magic, head, body, checksum = _HEADER.unpack(header)
    if magic[:3] != MAGIC[:3]:
        raise WireError("what answers there does not speak this protocol; is the port right?")
    if magic != MAGIC:
        raise WireError(f"the other side speaks version {magic[3]} of the protocol, this one {MAGIC[3]}; update one")
    if head + body > LARGEST:
        raise WireError(
            f"a message of {(head + body) / 1e6:.0f} MB was announced; at most {LARGEST / 1e6:.0f} are read"
        )
    return head, body, checksum


HEADER_SIZE = _HEADER.size


def decode(header: bytes, data: bytes) -> Message:
    """The message of a frame: its header, and all that follows.

    Raises:
        WireError: a wrong check sum, or a description that does not fit what follows.
    """
    head, _, checksum = sizes(header)
    if zlib.crc32(data) != checksum:
        raise WireError("the check sum of a message does not match")
    try:
        kind, fields, described = json.loads(data[:head])
        arrays, at = {}, head
        for name, dtype, shape in described:
            if dtype not in _DTYPES:
                raise ValueError(f"dtype {dtype}")
            size = math.prod(shape) * np.dtype(dtype).itemsize
            arrays[str(name)] = np.frombuffer(data[at : at + size], dtype).reshape(shape)
            at += size
        if at != len(data) or not isinstance(fields, dict):
            raise ValueError("lengths differ")
    except (ValueError, TypeError) as error:
        raise WireError(f"a message cannot be read: {error}") from error
    return Message(str(kind), fields, arrays)


def frames_in(data: bytes) -> list[bytes]:
    """The whole frames at the beginning of `data`, as a file of them holds; a torn or damaged one ends the list."""
    frames: list[bytes] = []
    at = 0
    while at + HEADER_SIZE <= len(data):
        try:
            head, body, _ = sizes(data[at : at + HEADER_SIZE])
            decode(data[at : at + HEADER_SIZE], data[at + HEADER_SIZE : at + HEADER_SIZE + head + body])
        except WireError:
            break
        frames.append(data[at : at + HEADER_SIZE + head + body])
        at += HEADER_SIZE + head + body
    return frames


def read(connection: socket.socket, patience: float) -> Message:
    """The next message.

    Raises:
        Gone: closed, or nothing for `patience` s. WireError: what came is not a message.
    """
    header = _exactly(connection, HEADER_SIZE, patience)
    head, body, _ = sizes(header)
    return decode(header, _exactly(connection, head + body, patience))


def _exactly(connection: socket.socket, count: int, patience: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            if not select.select([connection], [], [], patience)[0]:
                raise Gone(f"silent for {patience:g} s")
            part = connection.recv(min(count - len(data), 2**20))
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from error
        if not part:
            raise Gone("it closed the connection")
        data += part
    return bytes(data)


def send(connection: socket.socket, frame: bytes) -> None:
    """Raises Gone where nobody takes it."""
    try:
        connection.sendall(frame)
    except OSError as error:
        raise Gone(str(error)) from error


def address_of(text: str) -> tuple[str, int]:
    """(host, port) of `HOST:PORT` or `PORT`, which is on this machine.

    Raises:
        ConfigError: it is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 <= int(port) < 65536:
        raise ConfigError(f"'{text}' is no address; give PORT or HOST:PORT, for example 127.0.0.1:5600")
    return host or "127.0.0.1", int(port)
