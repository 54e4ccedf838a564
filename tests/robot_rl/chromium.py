"""A headless Chromium, driven over its own debugging protocol: no driver package is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--window-size=900,900", "--remote-debugging-port=0",
)  # fmt: skip


def installed() -> str | None:
    """The program, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page, opened at `url`; `profile` is an empty folder."""

    def __init__(self, url: str, profile: Path, seconds: float = 60.0) -> None:
        program = installed()
        assert program is not None
        self._deadline, self._calls = time.monotonic() + seconds, 0
        command = [program, *FLAGS, f"--user-data-dir={profile}", url]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = profile / "DevToolsActivePort"
            self.wait(lambda: told.exists() and told.read_text().strip())
            port = told.read_text().split()[0]
            address = self.wait(lambda: self._address(port))
            self._socket = connect(address, max_size=None)
        except BaseException:
            self._process.kill()
            raise

    def wait(self, condition: Any) -> Any:
        """What `condition()` gives once it is true."""
        while time.monotonic() < self._deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.2)
        raise TimeoutError("Chromium did not get there in time")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._calls:
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def press(self, key: str, code: int, times: int = 1) -> None:
        for kind in ("rawKeyDown", "keyUp") * times:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    @staticmethod
    def _address(port: str) -> str | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=20) as answer:
            pages = [p for p in json.load(answer) if p["type"] == "page"]
        return pages[0]["webSocketDebuggerUrl"] if pages else None
