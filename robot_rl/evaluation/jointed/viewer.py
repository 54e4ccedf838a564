"""The viewer in the browser: a robot in 3-D, sliders to steer it, a button to push it, numbers to read."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from robot_rl.errors import MissingDependency
from robot_rl.evaluation.jointed.session import Session

STREAM = 30.0  # pictures per second sent to the browser
READ = 4.0  # updates of the numbers per second
BEHIND = 0.25  # s by which the simulation may lag before it gives up catching up
HELD = 0.5  # s after the last movement of the mouse in which a dragged goal is left where it is
_GRID: dict[str, Any] = {"infinite_grid": True, "cell_size": 0.25, "section_size": 1.0, "fade_distance": 12.0}


class Viewer:
    """Serves one session to any number of browsers.

    Args:
        session: what runs. host, port: where the page is; the next free port where this one is taken.

    Attributes:
        url: address of the page. stop: set it from another thread to end `run`.

    Raises:
        MissingDependency: viser is not installed.
    """

    def __init__(self, session: Session, host: str = "127.0.0.1", port: int = 8080) -> None:
        try:
            import viser
        except ImportError as error:
            raise MissingDependency("viser", "the viewer in the browser", "pip install 'robot-rl[view]'") from error
        self.session, self.stop = session, threading.Event()
        self.server = viser.ViserServer(host=host, port=port, label="robot_rl", verbose=False)
        self.url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{self.server.get_port()}"
        self._last, self._follow = session.time, bool(session.env.robot.base)
        self._goal: Any = None
        self._dragged = 0.0  # when the goal was last dragged, s
        self.sliders: dict[str, Any] = {}
        self._build_scene()
        self._build_controls()

    def run(self) -> None:
        """Simulate in real time until `stop` is set."""
        dt, due, sent, read = self.session.env.control_dt, time.monotonic(), 0.0, time.monotonic()
        while not self.stop.is_set():
            self.session.advance()
            now = time.monotonic()
            if now - sent >= 1 / STREAM - 0.5 * dt:
                self._show_poses()
                sent = now
            if now - read >= 1 / READ:
                self._show_numbers(now - read)
                read = now
            due += dt
            if now - due > BEHIND:
                due = now
            time.sleep(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """End the server."""
        self.stop.set()
        self.server.stop()

    def _build_scene(self) -> None:
        from robot_rl.sim.articulated.shapes import BodyPoses, drawn_shapes

        scene, model = self.server.scene, self.session.env.model
        scene.set_up_direction("+z")
        self._poses = BodyPoses(model)
        self._world = scene.add_frame("/world", show_axes=False)
        scene.add_grid("/world/floor", **_GRID)
        self._bodies = [scene.add_frame(f"/world/body{i}", show_axes=False) for i in range(model.nbody)]
        for shape in drawn_shapes(model):
            scene.add_mesh_simple(
                f"/world/body{shape.body}/{shape.name}", shape.corners.astype(np.float32),
                shape.triangles.astype(np.uint32), color=shape.colour, position=shape.pos, wxyz=shape.quat,
                opacity=None if shape.opacity >= 1 else shape.opacity, flat_shading=shape.flat,
            )  # fmt: skip
        reach = 3.0 * max(0.3, float(model.stat.extent) if self.session.env.robot.base == "" else 0.5)
        self.server.initial_camera.position = (0.6 * reach, -0.7 * reach, 0.45 * reach)
        self.server.initial_camera.look_at = (0.0, 0.0, 0.25)
        if self.session.goal is not None:
            self._build_goal(self.session.goal)

    def _build_goal(self, pose: Any) -> None:
        self._goal = self.server.scene.add_transform_controls(
            "/world/goal", scale=0.12, position=pose[:3], wxyz=pose[3:7]
        )
        handle = self._goal

        @handle.on_update
        def _(_: Any) -> None:
            self._dragged = time.monotonic()
            wanted = np.concatenate([handle.position, handle.wxyz])
            self.session.ask(lambda: self.session.move_goal(wanted))

    def _build_controls(self) -> None:
        gui, session = self.server.gui, self.session
        with gui.add_folder("Steering"):
            for name, control in session.controls().items():
                label = f"{name} [{control.unit}]" if control.unit else name
                step = (control.high - control.low) / 200
                slider = gui.add_slider(label, control.low, control.high, step, float(control.value))
                self.sliders[name] = slider
                self._on_update(slider, lambda s, n=name: session.set(n, s.value))
        if session.env.pushable:
            with gui.add_folder("Push"):
                speed = gui.add_slider("speed [m/s]", 0.0, 3.0, 0.05, 0.8)
                angle = gui.add_slider("direction [deg, left is +90]", -180, 180, 5, 90)
                button = gui.add_button("Push")
                self._on_click(button, lambda: session.push(speed.value, math.radians(angle.value)))
        with gui.add_folder("Simulation"):
            self._on_click(gui.add_button("Reset"), session.reset)
            self._on_update(gui.add_checkbox("Pause", False), lambda s: setattr(session, "paused", bool(s.value)))
            follow = gui.add_checkbox("Follow", self._follow)
            self._on_update(follow, lambda s: setattr(self, "_follow", bool(s.value)))
            self._add_physics()
        with gui.add_folder("Numbers"):
            self._numbers = gui.add_markdown("…")

    def _add_physics(self) -> None:
        from robot_rl.registry import names

        now = self.session.env.options.physics
        if now in names("physics"):
            choice = self.server.gui.add_dropdown("Physics", names("physics"), initial_value=now)
            self._on_update(choice, lambda s: self.session.use_physics(s.value))

    def _on_update(self, handle: Any, action: Callable[[Any], None]) -> None:
        @handle.on_update
        def _(_: Any) -> None:
            self.session.ask(lambda: action(handle))

    def _on_click(self, button: Any, action: Callable[[], None]) -> None:
        @button.on_click
        def _(_: Any) -> None:
            self.session.ask(action)

    def _show_poses(self) -> None:
        pos, quat = self._poses.at(self.session.qpos, self.session.placed)
        base = self.session.env.robot.base
        with self.server.atomic():
            for frame, p, q in zip(self._bodies, pos, quat, strict=True):
                frame.position, frame.wxyz = p, q
            goal = self.session.goal
            if self._goal is not None and goal is not None and time.monotonic() - self._dragged > HELD:
                self._goal.position, self._goal.wxyz = goal[:3], goal[3:7]
            if self._follow and base:
                x, y, _ = pos[self.session.env.model.body(base).id]
                self._world.position = (-x, -y, 0.0)
            else:
                self._world.position = (0.0, 0.0, 0.0)

    def _show_numbers(self, passed: float) -> None:
        session = self.session
        speed, self._last = (session.time - self._last) / passed, session.time
        rows = {**session.readouts(), "physics": session.env.options.physics, "real time": f"×{speed:.2f}"}
        lines = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
        self._numbers.content = "\n".join(lines)
        while session.troubles:
            self._complain(session.troubles.pop(0))

    def _complain(self, text: str) -> None:
        for client in self.server.get_clients().values():
            client.add_notification("That did not work", text, auto_close_seconds=8.0)
