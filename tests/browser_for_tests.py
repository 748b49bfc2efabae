"""A page in headless Chromium, driven through the pipe of its debugging protocol."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--remote-debugging-pipe",
)


def chromium():
    """The path of a Chromium; None where none is installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """A page that has loaded; what it logged and asked for is in `events`."""

    def __init__(self, path: Path, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        pipes = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        words = [chromium(), *_FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, *words],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = os.fdopen(ours[1], "wb", 0), os.fdopen(theirs[0], "rb", 0)
        self._rest, self._count, self._session, self.events = b"", 0, {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.as_uri())
        while not self.of("Page.loadEventFired"):
            self.events.append(self._next())

    def _next(self):
        while b"\0" not in self._rest:
            more = self._read.read(1 << 20)
            if not more:
                raise EOFError("Chromium has ended")
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def call(self, method, **params):
        """The result of a method of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                return answer["result"]
            self.events.append(answer)

    def of(self, method):
        """What events of this kind say."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def js(self, words):
        """The value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=words, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code=0):
        """Presses and leaves a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, code=key
            )

    def scheme(self, name):
        """Prefers light or dark."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def width(self, pixels):
        """Makes the window so wide."""
        size = {"width": pixels, "height": 800, "deviceScaleFactor": 1, "mobile": pixels < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def close(self):
        """Ends Chromium."""
        with contextlib.suppress(OSError):
            self._write.close()
        self._process.terminate()
        self._process.wait()
        self._read.close()
