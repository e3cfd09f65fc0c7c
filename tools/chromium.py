"""A headless Chromium, driven by its own protocol: for tests in a browser, and for pictures."""

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from turnmill_worker.stack.process import wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_START_WITHIN = timedelta(seconds=30)
_ANSWER_WITHIN = 30.0
_FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"),
    *("--disable-extensions", "--disable-background-networking", "--hide-scrollbars"),
    *("--disable-dev-shm-usage", "--no-default-browser-check", "--disable-component-update"),
)


def find_chromium() -> str | None:
    """Return the program, or None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Tab:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []  #: of scripts, and of what could not be loaded

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if (answer := self._answers.pop(said.get("id", 0), None)) is not None:
                answer.set_result(said)
            self._hear(said.get("method"), said.get("params", {}))

    def _hear(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"].get("text")))
        elif method == "Network.loadingFailed" and not told.get("canceled"):
            self.errors.append(str(told.get("errorText")))

    async def call(self, method: str, **told: Any) -> dict[str, Any]:
        """Give a command and return what came of it; raises RuntimeError where it is refused."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": told}))
        said = await asyncio.wait_for(answer, _ANSWER_WITHIN)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        found: dict[str, Any] = said["result"]
        return found

    async def set_up(self, login: str) -> None:
        """Listen to what happens, and send a login along."""
        for domain in ("Page", "Runtime", "Network"):
            await self.call(f"{domain}.enable")
        header = "Basic " + base64.b64encode(login.encode()).decode()
        await self.call("Network.setExtraHTTPHeaders", headers={"Authorization": header})

    async def look(self, *, width: int, height: int, dark: bool) -> None:
        """Be a screen of this size, light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), _ANSWER_WITHIN)

    async def follow(self, expression: str) -> None:
        """Do what leads to another page, and wait until that is loaded."""
        self._loaded.clear()
        await self.evaluate(expression)
        await asyncio.wait_for(self._loaded.wait(), _ANSWER_WITHIN)

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to on the page."""
        said = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"]["text"])
        return said["result"].get("value")

    async def press(self, key: str, *, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        told = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **told)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    async def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as PNG; the whole page, or as much of it as the screen shows."""
        said = await self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=whole,
            **({"clip": await self._whole()} if whole else {}),
        )
        await asyncio.to_thread(path.write_bytes, base64.b64decode(said["data"]))

    async def _whole(self) -> dict[str, float]:
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


@asynccontextmanager
async def chromium(login: str) -> AsyncIterator[Tab]:
    """Run a browser with a profile that is thrown away."""
    program = find_chromium()
    if program is None:
        raise RuntimeError(f"none of {', '.join(PROGRAMS)} is installed")
    folder = Path(tempfile.mkdtemp(prefix="turnmill-chromium-"))
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process = await asyncio.create_subprocess_exec(
        program,
        *flags,
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await asyncio.to_thread(_port, folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session, _first_page(session, port) as socket:
            tab = Tab(socket)
            reading = asyncio.create_task(tab.read())
            await tab.set_up(login)
            yield tab
            reading.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _port(file: Path) -> int:
    """Wait until the browser has written where it listens."""
    if not wait_until(lambda: file.exists() and file.read_text() != "", timeout=_START_WITHIN):
        raise RuntimeError("the browser did not start")
    return int(file.read_text().splitlines()[0])


@asynccontextmanager
async def _first_page(
    session: aiohttp.ClientSession, port: int
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [one for one in await answer.json() if one["type"] == "page"]
    async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
        yield socket
