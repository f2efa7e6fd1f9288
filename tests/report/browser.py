"""Drive a headless Chromium over its debugging pipe, without a driver or a package for it."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium here: apt-get install chromium"


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in a headless Chromium.

    Raises:
        RuntimeError: from any call, the browser's own error or its early end.
    """

    def __enter__(self) -> "Browser":
        self.profile = tempfile.mkdtemp(prefix="report-browser-")
        to_browser, our_end = os.pipe()
        from_browser, their_end = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        flags += ["--no-first-run", f"--user-data-dir={self.profile}", "about:blank"]
        # The browser reads commands from its descriptor 3 and answers on 4.
        moved = f'exec "$0" "$@" 3<&{to_browser} 4>&{their_end}'
        self.process = subprocess.Popen(
            ["bash", "-c", moved, find_browser(), *flags],
            pass_fds=(to_browser, their_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(their_end)
        self.send, self.answers = os.fdopen(our_end, "wb", 0), os.fdopen(from_browser, "rb")
        self.number, self.session = 0, None
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self.session = attached["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.send.close()
        self.answers.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def read(self) -> dict:
        """Return the browser's next message."""
        message = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            message += byte
        return json.loads(message)

    def call(self, method: str, **parameters) -> dict:
        """Call a method of the DevTools protocol and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.send.write(json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, page: Path, width: int, scheme: str, height: int = 900) -> None:
        """Load a page at a width in pixels, in the "light" or "dark" scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=page.resolve().as_uri())
        while self.read().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, script: str):
        """Return the value of a JavaScript expression; of a promise, what it resolves to."""
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["exception"].get("description", script))
        return done["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def screenshot(self) -> bytes:
        """Return a PNG of what fits into the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
