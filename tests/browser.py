"""Drives Debian's Chromium over its debugging pipe: JSON messages, each ended by a zero byte, on descriptors 3 and 4."""

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FLAGS = (
    "--headless=new",
    # What a page draws in 3D is drawn by the processor.
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    # Nothing but this machine has an address: a page that asked for something else would not get it.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
TIMEOUT = 60.0


def chromium() -> str:
    """Path of the browser. Raises: RuntimeError that says how to install it."""
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("these tests need Chromium on PATH (Debian: apt-get install chromium)")
    return path


class Browser:
    """A context with one page. addresses: what the page asked for. problems: its errors and console messages."""

    def __init__(self, profile: Path) -> None:
        self.profile, self.addresses, self.problems = profile, [], []
        self._sent, self._buffer, self._answers = 0, b"", {}
        self._events: list[str] = []

    def __enter__(self) -> "Browser":
        # High descriptors, so that none of them is 3 or 4 itself.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for end in pair]
        read_commands, self._commands, self._messages, write_messages = ends

        def give_ends() -> None:
            os.dup2(read_commands, 3)
            os.dup2(write_messages, 4)

        # Chromium's sandbox refuses to run as root.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [chromium(), *FLAGS, *root, f"--user-data-dir={self.profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, close_fds=False, preexec_fn=give_ends
        )
        os.close(read_commands)
        os.close(write_messages)
        self._session = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        # As in a window that its user looks at; the clipboard is not for others.
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT)
        os.close(self._commands)
        os.close(self._messages)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command. Raises: RuntimeError when the browser refuses it, TimeoutError when it is silent."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        self._until(lambda: self._sent in self._answers, method)
        answer = self._answers.pop(self._sent)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, page: Path | str) -> None:
        """Opens a file, or an address, and waits until it is loaded."""
        self._events.clear()
        self.send("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        self._until(lambda: "Page.loadEventFired" in self._events, str(page))

    def screenshot(self) -> np.ndarray:
        """What is seen of the page, (H, W, 3) uint8."""
        data = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise, as after a user's click."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Waits until an expression is true."""
        limit = time.monotonic() + TIMEOUT
        while not self.run(script):
            if time.monotonic() > limit:
                raise TimeoutError(script)
            time.sleep(0.05)

    def _until(self, condition, what: str) -> None:
        limit = time.monotonic() + TIMEOUT
        while not condition():
            if not select.select([self._messages], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium did not answer within {TIMEOUT:g} s: {what}")
            piece = os.read(self._messages, 1 << 20)
            if not piece:
                raise RuntimeError(f"Chromium ended early: {what}")
            *whole, self._buffer = (self._buffer + piece).split(b"\0")
            for message in whole:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        name, details = message["method"], message["params"]
        self._events.append(name)
        if name == "Network.requestWillBeSent":
            self.addresses.append(details["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.problems.append(details["exceptionDetails"]["exception"]["description"])
        elif name == "Runtime.consoleAPICalled":
            self.problems.append(f"console.{details['type']}: {[arg.get('value') for arg in details['args']]}")
        elif name == "Log.entryAdded":
            self.problems.append(details["entry"]["text"])
