"""A headless Chromium, driven through its DevTools protocol: opens a page, asks it, takes its picture."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 60.0


def find() -> str | None:
    """The program, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in the browser."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Any) -> None:
        self._loop, self._socket, self._number = loop, socket, 0
        self.errors: list[str] = []
        """Exceptions and console errors so far"""
        self.call("Runtime.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), PATIENCE_S))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = await self._socket.read_message()
            if message is None:
                raise ConnectionError("the browser is gone")
            answer = json.loads(message)
            self._look_for_errors(answer)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _look_for_errors(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(event["params"]["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
            self.errors.append(json.dumps(event["params"]["args"]))

    def ask(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """The expression, which gives something plain, once it is true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.ask(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} never came true; the page says {self.ask('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def look(self, width: int, height: int, dark: bool = False, dense: float = 1.0) -> None:
        """Set the window's size and the colour scheme that the page is asked for."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=dense, mobile=False
        )
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the whole page, or of what the window shows."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def opened(program: str, address: str) -> Iterator[Page]:
    """Open a page in a browser of its own; it is closed with the context."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its helpers may write to the last
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        command = [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(folder) / "DevToolsActivePort", process)
            with urlopen(Request(f"http://127.0.0.1:{port}/json/new?{address}", method="PUT")) as answer:
                target = json.load(answer)["webSocketDebuggerUrl"]
            socket = loop.run_until_complete(_connect(target))
            page = Page(loop, socket)
            page.until("location.href !== 'about:blank' && document.readyState === 'complete'")
            yield page
            with contextlib.suppress(ConnectionError):
                page.call("Browser.close")
            process.wait(PATIENCE_S)
        finally:
            process.terminate()
            process.wait()
            loop.close()


async def _connect(target: str) -> Any:
    return await websocket_connect(target, max_message_size=2**27)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + PATIENCE_S
    while not (file.exists() and file.read_text().strip()):
        if process.poll() is not None or time.monotonic() > end:
            raise ConnectionError(f"{process.args[0]} did not start")  # type: ignore[index]
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
