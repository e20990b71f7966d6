"""A headless Chromium, driven over the DevTools protocol. Where there is none, its tests are skipped."""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 60.0
WAIT_SECONDS = 20.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)


class PageError(Exception):
    """Something in the page went wrong."""


def installed_browser() -> str:
    """The browser's program; skips the test where none is installed."""
    for program in PROGRAMS:
        if path := shutil.which(program):
            return path
    pytest.skip(f"needs a browser: one of {', '.join(PROGRAMS)} on the PATH")


@dataclass
class Page:
    """A tab.

    Attributes:
        complaints: what the page wrote to its console as errors, and exceptions that nothing caught.
    """

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Take what the browser sends, until it closes the tab."""
        async for message in self.socket:
            content = message.json()
            if "id" in content:
                self._answers.pop(content["id"]).set_result(content)
            elif content["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(content["params"]["exceptionDetails"]))
            elif content["method"] == "Log.entryAdded" and content["params"]["entry"]["level"] == "error":
                self.complaints.append(content["params"]["entry"]["text"])

    async def call(self, method: str, **parameters: Any) -> Any:
        """One call of the protocol."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        content = await asyncio.wait_for(answer, WAIT_SECONDS)
        if "error" in content:
            raise PageError(f"{method}: {content['error']}")
        return content["result"]

    async def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise PageError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Return as soon as an expression is true, looked at before each frame."""
        look = (
            f"(resolve) => {{ const look = () => ({condition}) ? resolve() : setTimeout(look, 5); look(); }}"
        )
        try:
            await self.evaluate(f"new Promise({look})")
        except TimeoutError:
            body = await self.evaluate("document.body.innerText")
            raise PageError(f"not within {WAIT_SECONDS:g} s: {condition}\n{body}") from None

    async def text(self, selector: str) -> str:
        """The visible text of the first element that a selector finds."""
        text: str = await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return text

    async def fill(self, selector: str, text: str) -> None:
        """Type into a field, in place of what is there."""
        await self.evaluate(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)});"
            " field.focus(); field.select(); })()"
        )
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        stroke = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        if key == "Enter":
            stroke["text"] = "\r"
        await self.call("Input.dispatchKeyEvent", type="keyDown", **stroke)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **stroke)

    async def hover(self, selector: str) -> None:
        """Move the mouse to the middle of an element."""
        x, y = await self._middle(selector)
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        x, y = await self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def resize(self, width: int, height: int) -> None:
        """Give the window a size, pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def screenshot(self, path: Path) -> None:
        """Write what the page looks like as PNG."""
        shot = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(shot["data"]))  # noqa: ASYNC240 - nothing else runs meanwhile

    async def _middle(self, selector: str) -> tuple[float, float]:
        box = await self.evaluate(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return box[0], box[1]


@contextlib.asynccontextmanager
async def open_tab() -> AsyncIterator[Page]:
    """A tab of a browser with an empty profile; the browser ends with the block."""
    program = installed_browser()
    with tempfile.TemporaryDirectory(prefix="tgi-browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            port = await asyncio.wait_for(_devtools_port(process), START_SECONDS)
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
                page = Page(await session.ws_connect(await _tab_address(session, port), max_msg_size=0))
                listening = tasks.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                yield page
                listening.cancel()
        finally:
            process.kill()
            await process.communicate()


async def _devtools_port(process: asyncio.subprocess.Process) -> int:
    """The port that the browser names when it is ready."""
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        said.append(line.decode(errors="replace"))
        _, found, address = said[-1].partition("DevTools listening on ws://")
        if found:
            return int(address.partition("/")[0].rpartition(":")[2])
    raise PageError(f"the browser ended at once:\n{''.join(said)}")


async def _tab_address(session: aiohttp.ClientSession, port: int) -> str:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
        tabs = await reply.json()
    return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
