"""A headless Chromium of the distribution, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).

In: a page's address, keys, a size. Out: what the page shows, what it asked the network for, what it complained of, and pictures.
Must not: download a browser. `python -m lab.browser` prints the program that would be used, or says how to get one and exits 1.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from lab.netns import LabError

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
HOW = "no Chromium here: apt-get install --no-install-recommends chromium-headless-shell fonts-dejavu-core (`make page` does it)"
START_S = 60.0
ANSWER_S = 30.0
_FLAGS = (
    "--headless",
    # As root Chromium starts only without its sandbox; it shows nothing here but the page under test, without a network.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-lcd-text",
    "--remote-debugging-port=0",
    "about:blank",
)


def find() -> str:
    """The program; "" = there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), "")


class Tab:
    """One page."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        """What the page asked the network for, by URL."""
        self.complaints: list[str] = []
        """Exceptions, errors on the console, and what the browser refused."""
        self._connection = connection
        self._session: str | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def attach(self) -> None:
        """Open the page, empty."""
        target = await self.call("Target.createTarget", url="about:blank")
        self._session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """A command of the protocol. Raises LabError for one that fails."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._connection.send_str(json.dumps(message))
        async with asyncio.timeout(ANSWER_S):
            answer = await future
        if "error" in answer:
            raise LabError(f"{method}: {answer['error'].get('message')}")
        return answer.get("result", {})  # type: ignore[no-any-return]

    async def listen(self) -> None:
        """Take answers and events until the browser is gone."""
        async for message in self._connection:
            told = json.loads(message.data)
            if "id" in told:
                future = self._waiting.pop(told["id"], None)
                if future is not None and not future.done():
                    future.set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['source']}: {params['entry']['text']}")

    async def look(self, *, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """The size of the window, in CSS pixels, and what the reader prefers."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def at_start(self, script: str) -> None:
        """Run this before any page's own script."""
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    async def open(self, url: str) -> None:
        """Go there."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:  # noqa: ANN401 whatever JSON can hold
        """What a JavaScript expression is on the page; its exception is a LabError."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise LabError(found["exceptionDetails"].get("exception", {}).get("description", expression))
        return found["result"].get("value")

    async def until(self, expression: str, *, within_s: float = 20.0) -> None:
        """Wait until it is true."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not await self.value(expression):  # noqa: ASYNC110 the page tells nobody
                    await asyncio.sleep(0.05)
                return
        raise LabError(f"not so within {within_s:g} s: {expression}; the page: {await self.value('document.body.innerText')!r:.2000}")

    async def press(self, key: str, text: str = "") -> None:
        """One key, as a keyboard sends it; `text`: the character that it makes."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}
        common: dict[str, object] = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        more: dict[str, object] = {"text": text} if text else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **more)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def write(self, text: str) -> None:
        """Into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def picture(self, path: Path) -> None:
        """The window as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def browsing(program: str) -> AsyncIterator[Tab]:
    """A browser of its own, with one empty page; it ends with the block. Raises LabError when it does not start."""
    with tempfile.TemporaryDirectory(prefix="kvip-browser-", ignore_cleanup_errors=True) as profile:
        said = Path(profile) / "stderr"
        with said.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                program,
                f"--user-data-dir={profile}/profile",
                *_FLAGS,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "HOME": profile},
            )
        try:
            url = await _address(process, said)
            async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as connection:
                tab = Tab(connection)
                listening = asyncio.create_task(tab.listen(), name="devtools")
                try:
                    await tab.attach()
                    yield tab
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _said(path: Path) -> str:
    return path.read_text(errors="replace")


async def _address(process: asyncio.subprocess.Process, said: Path) -> str:
    """Where it listens, as it says on stderr."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                found = re.search(r"DevTools listening on (ws://\S+)", _said(said))
                if found:
                    return found[1]
                await asyncio.sleep(0.05)
    raise LabError(f"the browser does not start ({process.returncode}): {_said(said)[-2000:]}")


if __name__ == "__main__":
    program = find()
    print(program or HOW, file=sys.stdout if program else sys.stderr)
    sys.exit(0 if program else 1)
