"""What passes between actor and learner, and what an actor keeps of it."""

from __future__ import annotations

import json
import socket
import struct
import zlib

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from robot_rl.policies.asynchronous.backlog import Backlog
from robot_rl.policies.asynchronous.transitions import from_message, to_message
from robot_rl.policies.asynchronous.wire import (
    HEADER_SIZE,
    Gone,
    Message,
    WireError,
    address_of,
    decode,
    encode,
    frames_in,
    read,
)
from robot_rl.policies.off_policy.replay import RUNNING, TRUNCATED, RingReplay
from robot_rl.protocols import Step

MESSAGE = Message(
    "weights", {"updates": 3, "note": "ä"},
    {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False]), "n": np.array(2.5)},
)  # fmt: skip


def taken_apart(frame: bytes) -> Message:
    return decode(frame[:HEADER_SIZE], frame[HEADER_SIZE:])


def test_a_message_comes_out_as_it_went_in() -> None:
    back = taken_apart(encode(MESSAGE))
    assert (back.kind, back.fields) == (MESSAGE.kind, MESSAGE.fields)
    assert back.arrays.keys() == MESSAGE.arrays.keys()
    for name, value in MESSAGE.arrays.items():
        np.testing.assert_array_equal(back.arrays[name], value)
        assert (back.arrays[name].dtype, back.arrays[name].shape) == (value.dtype, value.shape)


@pytest.mark.parametrize("at", [0, 3, 5, HEADER_SIZE, HEADER_SIZE + 3, -1])
def test_any_flipped_byte_is_noticed(at: int) -> None:
    frame = bytearray(encode(MESSAGE))
    frame[at] ^= 0x40
    with pytest.raises(WireError):
        taken_apart(bytes(frame))


def test_another_version_is_named() -> None:
    frame = bytearray(encode(MESSAGE))
    frame[3] = 9
    with pytest.raises(WireError, match="version 9"):
        taken_apart(bytes(frame))


@pytest.mark.parametrize(
    "described",
    [
        ["x", {}, [["a", "|O", [1]]]],  # objects would be pickles
        ["x", {}, [["a", "<f4", [2]]]],  # longer than what follows
        ["x", {}, []],  # shorter
        ["x", {}, [["a", "<f4", [-1]]]],
        ["x", 3, [["a", "<f4", [1]]]],
        {"kind": "x"},
    ],
)
def test_what_does_not_describe_its_arrays_is_refused(described: object) -> None:
    head, body = json.dumps(described).encode(), np.zeros(1, np.float32).tobytes()
    header = struct.pack("<4sIQI", b"rrl\x01", len(head), len(body), zlib.crc32(head + body))
    with pytest.raises(WireError, match="cannot be read"):
        decode(header, head + body)


def test_nothing_large_is_read_because_somebody_says_so() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(struct.pack("<4sIQI", b"rrl\x01", 10, 2**40, 0))
        with pytest.raises(WireError, match="MB was announced"):
            read(here, 1.0)


def test_who_closes_or_is_silent_is_gone() -> None:
    here, there = socket.socketpair()
    with here, there:
        with pytest.raises(Gone, match="silent"):
            read(here, 0.01)
        there.sendall(encode(MESSAGE)[:-2])
        there.close()
        with pytest.raises(Gone, match="closed"):
            read(here, 1.0)


def test_addresses() -> None:
    assert address_of("5600") == ("127.0.0.1", 5600)
    assert address_of("robot:80") == ("robot", 80)
    for wrong in ("robot", "robot:", "a:70000", "1:2:x"):
        with pytest.raises(ConfigError, match="no address"):
            address_of(wrong)


def numbered(count: int, capacity: int = 100) -> Backlog:
    backlog = Backlog("me", capacity)
    for number in range(1, count + 1):
        backlog.add(encode(Message("transition", {"actor": "me", "number": number})))
    return backlog


def sent(backlog: Backlog) -> list[int]:
    frames = iter(lambda: backlog.take(0.0), None)
    return [int(taken_apart(frame).fields["number"]) for frame in frames]


def test_the_oldest_is_dropped_and_only_what_nobody_got_counts_as_lost() -> None:
    backlog = numbered(8, capacity=5)
    assert (backlog.dropped, backlog.unsent, len(backlog)) == (3, 5, 5)
    assert sent(backlog) == [4, 5, 6, 7, 8]
    backlog.add(encode(Message("transition", {"actor": "me", "number": 9})))
    assert (backlog.dropped, backlog.unsent) == (3, 1)


def test_what_was_sent_and_dropped_is_lost_when_the_learner_turns_out_not_to_have_it() -> None:
    backlog = numbered(5, capacity=5)
    assert sent(backlog) == [1, 2, 3, 4, 5]
    for number in range(6, 10):  # drops 1 to 4, which were sent
        backlog.add(encode(Message("transition", {"actor": "me", "number": number})))
    assert backlog.dropped == 0
    backlog.forget(1)  # 1 is in a checkpoint
    backlog.go_on_after(2)  # and 2 in another learner's memory, but 3 and 4 never arrived
    assert backlog.dropped == 2
    assert sent(backlog) == [5, 6, 7, 8, 9]


def test_it_goes_on_where_the_learner_is() -> None:
    backlog = numbered(6)
    assert sent(backlog) == [1, 2, 3, 4, 5, 6]
    backlog.forget(2)
    backlog.go_on_after(3)  # a learner that went back to a checkpoint
    assert sent(backlog) == [4, 5, 6]
    backlog.go_on_after(0)  # it says that it knows nothing of us, but 1 and 2 are gone
    assert sent(backlog) == [3, 4, 5, 6]
    backlog.go_on_after(1000)
    assert sent(backlog) == []


def test_an_actor_goes_on_with_the_file_of_another_one_up_to_where_it_is_torn(tmp_path) -> None:
    backlog, path = numbered(4), tmp_path / "steps.bin"
    backlog.forget(1)
    assert backlog.write(path) == 3
    path.write_bytes(path.read_bytes()[:-5])
    other = Backlog("other", 100)
    assert other.take_over(path) == 2
    assert (other.actor, other.last, sent(other)) == ("me", 3, [2, 3])
    other.forget(3)
    assert other.write(path) == 0
    assert not path.exists()
    assert other.take_over(path) == 0
    assert frames_in(b"something else entirely, long enough") == []


def ring(steps: int = 8) -> RingReplay:
    replay = RingReplay(steps, 2, {"policy": 1}, 1, torch.device("cpu"))
    replay.begin({"policy": torch.tensor([[0.0], [100.0]])})
    return replay


def stepped(value: float, ended: tuple[bool, bool] = (False, False)) -> Step:
    obs = {"policy": torch.tensor([[value], [100.0 + value]])}
    return Step(obs, torch.ones(2), {}, torch.tensor(ended), torch.zeros(2, dtype=torch.bool), obs)


def test_a_gap_in_the_replay_is_no_transition() -> None:
    replay = ring()
    replay.add(torch.zeros(2, 1), stepped(1.0))
    replay.add(torch.zeros(2, 1), stepped(2.0, (False, True)))
    replay.cut()
    replay.begin({"policy": torch.tensor([[50.0], [150.0]])})
    replay.add(torch.zeros(2, 1), stepped(51.0))
    batch = replay.windows(torch.arange(len(replay)), 3, 0.5)
    assert batch.next_obs["policy"][0] == 2.0  # what was seen last, not what was seen after the gap
    assert batch.reward[0] == 1.5
    assert batch.discount[0] == 0.25
    assert batch.discount[1] == 0.0
    assert (batch.obs["policy"][4], batch.next_obs["policy"][4]) == (50.0, 51.0)


def test_a_gap_before_anything_was_stored_is_none() -> None:
    replay = ring()
    replay.cut()
    assert len(replay) == 0
    assert int(replay.ended.max()) == RUNNING < TRUNCATED


def test_a_transition_must_fit_the_learner() -> None:
    step = stepped(1.0, (True, False))
    message = to_message("me", 7, True, {"policy": torch.zeros(2, 1)}, torch.zeros(2, 1), step, ("policy",))
    obs, action, back = from_message(taken_apart(encode(message)), {"policy": 1}, 1, 2, torch.device("cpu"))
    assert torch.equal(back.obs["policy"], step.obs["policy"])
    assert torch.equal(back.terminated, step.terminated)
    assert (obs["policy"].shape, action.shape) == ((2, 1), (2, 1))
    with pytest.raises(WireError, match=r"policy \(2, 3\)"):
        from_message(message, {"policy": 3}, 1, 2, torch.device("cpu"))
