"""A real browser that shows a page at a given width, light or dark: Chromium, through its debugging pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Page", "browser_page", "find_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """A Chromium on this machine."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One tab; sizes are CSS pixels."""

    _to: int
    _from: int
    _session: str
    _number: int = 0
    _left: bytes = b""

    def show(self, html: Path, width: int, scheme: Literal["light", "dark"] = "light") -> None:
        """Load a file at a width, with the system's colours light or dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=html.resolve().as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done()"
            " : addEventListener('load', () => done()))"
        )

    def evaluate(self, script: str) -> Any:
        """The value of a script's expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """PNG of the whole page."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as it would be printed, on A4 with colours."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.call("Page.printToPDF", **size)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the devtools protocol and its answer."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        while True:
            message = json.loads(self._message())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])

    def _message(self) -> bytes:
        while b"\0" not in self._left:
            more = os.read(self._from, 1 << 16)
            if not more:
                raise RuntimeError("the browser is gone")
            self._left += more
        message, self._left = self._left.split(b"\0", 1)
        return message


@contextmanager
def browser_page(browser: str, folder: Path) -> Iterator[Page]:
    """A new browser with one page; its files are in `folder`."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # The browser has the pipe at 3 and 4, so these numbers must not be in the way.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, from_write)]
    silent = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
    process = os.posix_spawn(
        browser,
        [browser, *options, f"--user-data-dir={folder}", "about:blank"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, theirs[0], 3),
            (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            (os.POSIX_SPAWN_DUP2, silent, 1),
            (os.POSIX_SPAWN_DUP2, silent, 2),
        ],
    )
    for end in (to_read, from_write, silent, *theirs):
        os.close(end)
    try:
        root = Page(to_write, from_read, "")
        target = root.call("Target.createTarget", url="about:blank")["targetId"]
        session = root.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(to_write, from_read, session, 1000)
        page.call("Page.enable")
        yield page
    finally:
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
        os.close(to_write)
        os.close(from_read)
