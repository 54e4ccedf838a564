"""Input devices: the bytes that the kernel and terminals send, and what becomes of them."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import termios

import numpy as np
import pytest

from robot_rl.errors import ConfigError, DriverError, UnknownName
from robot_rl.teleop import event_device, spacemouse
from robot_rl.teleop.device import Controls
from robot_rl.teleop.event_device import EVENT, EventDevice
from robot_rl.teleop.human import LINGER_S, PersonAtDevice
from robot_rl.teleop.keyboard import HELD, TerminalKeyboard
from robot_rl.teleop.mapping import MAPS, DeviceMap, Entry, read_map
from robot_rl.teleop.spacemouse import SpaceMouse

ARM = ("dx", "dy", "dz", "gripper")


def event(kind: int, code: int, value: int) -> bytes:
    return EVENT.pack(1_700_000_000, 123_456, kind, code, value)


SYN = event(0, 0, 0)


@pytest.fixture
def pipe():
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_an_event_is_laid_out_as_the_kernel_does(pipe):
    # struct input_event of a 64-bit kernel, little-endian: 8 + 8 bytes of time, type, code, value.
    raw = bytes.fromhex("00f15365 00000000 40e20100 00000000 0300 0100 0080ffff 00f15365 00000000 40e20100 00000000")
    os.write(pipe[1], raw + bytes.fromhex("0000 0000 00000000"))
    assert EventDevice(pipe[0], "gamepad").read().axes == {"left_y": -1.0}


def test_a_gamepads_sticks_triggers_hat_and_buttons(pipe):
    device = EventDevice(pipe[0], "gamepad")
    os.write(pipe[1], event(3, 0, 16384) + event(3, 5, 255) + event(3, 16, -1) + event(1, 0x130, 1) + SYN)
    found = device.read()
    assert found.axes["left_x"] == pytest.approx(0.5, abs=1e-4)
    assert found.axes["right_trigger"] == 1.0 and found.axes["hat_x"] == -1.0
    assert found.buttons == {"south"}
    os.write(pipe[1], event(3, 0, 0) + event(1, 0x130, 0) + SYN)
    found = device.read()
    assert abs(found.axes["left_x"]) < 1e-4 and not found.buttons


def test_events_may_arrive_in_pieces(pipe):
    device, whole = EventDevice(pipe[0], "gamepad"), event(1, 0x131, 1) + SYN
    os.write(pipe[1], whole[:30])
    assert device.read().buttons == {"east"}
    os.write(pipe[1], whole[30:] + event(1, 0x131, 0))
    assert device.read().buttons == set()


def test_where_the_kernel_lost_events_nothing_stays_pressed(pipe):
    device = EventDevice(pipe[0], "gamepad")
    os.write(pipe[1], event(3, 1, -32768) + SYN + event(0, 3, 0) + event(3, 1, -20000) + SYN)
    assert device.read().axes == {}
    os.write(pipe[1], event(3, 1, 32767) + SYN)
    assert device.read().axes == {"left_y": 1.0}


def test_an_unplugged_device_is_an_error(pipe):
    device = EventDevice(pipe[0], "gamepad")
    os.close(pipe[1])
    with pytest.raises(DriverError, match="gamepad is gone"):
        device.read()


def test_a_keyboards_own_file_knows_releases(pipe):
    device = EventDevice(pipe[0], "keyboard")
    os.write(pipe[1], event(1, 17, 1) + event(1, 57, 1) + event(1, 17, 2) + SYN)
    assert device.read().buttons == {"w", "space"}
    os.write(pipe[1], event(1, 17, 0) + SYN)
    assert device.read().buttons == {"space"}


def test_devices_are_found_in_the_kernels_list(tmp_path):
    listing = tmp_path / "devices"
    listing.write_text(
        'I: Bus=0011\nN: Name="AT keyboard"\nH: Handlers=sysrq kbd event3 leds\n\n'
        'I: Bus=0003\nN: Name="Wireless Controller"\nH: Handlers=event17 js0\n'
    )
    assert event_device.find("js", "gamepad", listing) == "/dev/input/event17"
    assert event_device.find("kbd", "keyboard", listing) == "/dev/input/event3"
    listing.write_text("")
    with pytest.raises(DriverError, match="no gamepad was found"):
        event_device.find("js", "gamepad", listing)


def test_a_missing_device_file_says_what_to_do(tmp_path):
    with pytest.raises(DriverError, match="plug it in"):
        EventDevice(str(tmp_path / "event9"), "gamepad")


@pytest.fixture
def mouse():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield SpaceMouse(ours.fileno()), theirs
    ours.close()
    theirs.close()


def test_a_spacemouse_pushed_pulled_turned_and_pressed(mouse):
    device, sender = mouse
    sender.send(bytes.fromhex("01 0000 a2fe 5e01"))  # 350 away from the user, 350 down
    sender.send(bytes.fromhex("02 0000 0000 51ff"))  # −175 about the axis that points down
    sender.send(bytes.fromhex("03 02"))
    found = device.read()
    assert found.axes == {"x": 1.0, "y": 0.0, "z": -1.0, "roll": 0.0, "pitch": 0.0, "yaw": 0.5}
    assert found.buttons == {"right"}
    sender.send(bytes.fromhex("01 5e01 0000 0000 0000 0000 0000"))  # a newer one: six axes in one report
    assert device.read().axes == dict.fromkeys(("x", "z", "roll", "pitch", "yaw"), 0.0) | {"y": -1.0}


def test_a_spacemouse_is_found_by_its_maker(tmp_path):
    for name, number in (("hidraw0", "0003:0000046D:0000C52B"), ("hidraw4", "0003:0000256F:0000C635")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device" / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID={number}\n")
    assert spacemouse.find(tmp_path) == "/dev/hidraw4"
    with pytest.raises(DriverError, match="no SpaceMouse"):
        spacemouse.find(tmp_path / "empty")


def test_keys_of_a_terminal_are_held_for_a_moment_and_the_terminal_is_put_back():
    master, terminal = pty.openpty()
    before, now = termios.tcgetattr(terminal), [0.0]
    device = TerminalKeyboard(terminal, clock=lambda: now[0])
    os.write(master, b"w\x1b[A ")
    assert device.read().buttons == {"w", "up", "space"}
    now[0] = 0.9 * HELD
    os.write(master, b"W")
    assert device.read().buttons == {"w", "up", "space"}
    now[0] = 1.1 * HELD
    assert device.read().buttons == {"w"}
    assert termios.tcgetattr(terminal) != before
    device.close()
    device.close()
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_without_a_terminal_the_keyboard_says_so(pipe):
    with pytest.raises(DriverError, match="from a terminal"):
        TerminalKeyboard(pipe[0])


def test_behind_the_dead_zone_nothing_jumps():
    entry = Entry("x", scale=-0.5, dead_zone=0.2)
    values = [entry.value(Controls({"x": x})) for x in (-0.2, 0.2, 0.2001, 0.6, 1.0, -1.0)]
    np.testing.assert_allclose(values, [0.0, 0.0, 0.0, -0.25, -0.5, 0.5], atol=1e-4)
    both = Entry(plus="w", minus="s")
    assert both.value(Controls(buttons={"w", "s"})) == 0.0


@pytest.mark.parametrize("device", MAPS)
def test_every_device_moves_arms_and_gives_velocities(device):
    assert tuple(MAPS[device].for_action(ARM).entries) == ARM
    assert tuple(MAPS[device].for_action(("forward", "left", "turn")).entries) == ("forward", "left", "turn")
    with pytest.raises(UnknownName, match="elbow"):
        MAPS[device].for_action(("dx", "elbow"))


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("hold: right_bumper\ndx: {axis: right_y, scale: 0.25}\nwrist: {plus: north, minus: west}\n")
    table = read_map("gamepad", str(path)).for_action(("dx", "dy", "wrist"))
    assert table.hold == "right_bumper" and table.entries["dx"].scale == 0.25
    active, action = table.read(Controls({"right_y": 1.0}, {"west"}), np.zeros(3, np.float32))
    assert not active
    np.testing.assert_allclose(action, [0.25, 0.0, -1.0])
    for text, wrong in (
        ("dx: 1\n", "write dx"),
        ("dx: {stick: left}\n", "stick"),
        ("dx: {axis: x, scale: 3}\n", "scale"),
    ):
        path.write_text(text)
        with pytest.raises((ConfigError, UnknownName), match=wrong):
            read_map("gamepad", str(path))


class Held:
    """A device that somebody else moves."""

    def __init__(self) -> None:
        self.controls, self.closed = Controls(), False

    def read(self) -> Controls:
        return self.controls

    def close(self) -> None:
        self.closed = True


def person(device: Held, times: list[float]) -> PersonAtDevice:
    def sleep(seconds: float) -> None:
        times[0] += seconds

    table: DeviceMap = MAPS["gamepad"].for_action(ARM)
    return PersonAtDevice(device, table, 0.1, clock=lambda: times[0], sleep=sleep)


def test_a_person_takes_over_lingers_and_hands_back():
    device, times, asked = Held(), [0.0], np.array([False])
    human, proposed = person(device, times), np.array([[0.1, 0.2, 0.3, -0.4]], np.float32)
    rows, action = human.act({}, proposed, asked)
    assert not rows[0]
    np.testing.assert_array_equal(action, proposed)
    device.controls = Controls({"left_y": -1.0})
    rows, action = human.act({}, proposed, asked)
    assert rows[0]
    np.testing.assert_allclose(action, [[1.0, 0.0, 0.0, -0.4]])  # the gripper stays as the policy had it
    device.controls = Controls(buttons={"east"})
    np.testing.assert_allclose(human.act({}, proposed, asked).action, [[0.0, 0.0, 0.0, 1.0]])
    device.controls = Controls()
    steps = [human.act({}, proposed, asked) for _ in range(round(LINGER_S / 0.1))]
    assert [bool(s.rows[0]) for s in steps] == [True] * (len(steps) - 1) + [False]
    np.testing.assert_allclose(steps[0].action, [[0.0, 0.0, 0.0, 1.0]])  # as it was left
    assert human.act({}, proposed, np.array([True])).rows[0]
    human.close()
    assert device.closed


def test_the_loop_keeps_the_robots_pace_but_does_not_hurry_after_a_pause():
    device, times, asked = Held(), [0.0], np.array([False])
    human, proposed = person(device, times), np.zeros((1, 4), np.float32)
    for _ in range(5):
        human.act({}, proposed, asked)
    assert times[0] == pytest.approx(0.4)
    times[0] += 3.0  # a round of learning
    human.act({}, proposed, asked)
    human.act({}, proposed, asked)
    assert times[0] == pytest.approx(3.5)
