"""A real browser for pages and pictures: what does a page do once it is open?"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest


def opened(page: Path, profile: Path) -> str:
    """The document as HTML after the browser has loaded it and run what it would run."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return done.stdout.decode()


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback: its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Page:
    """One page of a headless Chromium, driven over its debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.asked: list[str] = []  # the addresses of everything that the page loaded

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command; its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=30)
            if message.get("method") in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                told = message["params"]
                self.asked.append(told["request"]["url"] if "request" in told else told["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def press(self, *keys: str) -> None:
        """Keys as a keyboard sends them, by their names in the browser."""
        for key in keys:
            code, number = KEYS.get(key, ("", ord(key.upper()[0])))
            named = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **named)


KEYS = {
    "Enter": ("Enter", 13),
    "Escape": ("Escape", 27),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
}


@contextlib.asynccontextmanager
async def browsing(profile: Path, first: str) -> AsyncIterator[Page]:
    """A browser with an empty page, in which the script ``first`` runs before any page's own."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    process = await asyncio.create_subprocess_exec(
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--remote-debugging-port=0", "--window-size=1200,800"),
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told = profile / "DevToolsActivePort"
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not (told.exists() and "\n" in told.read_text()):
                await asyncio.sleep(0.05)
            port = told.read_text().split()[0]
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                target = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.call("Network.enable")
                await page.call("Page.enable")
                await page.call("Page.addScriptToEvaluateOnNewDocument", source=first)
                yield page
    finally:
        process.terminate()
        await process.wait()
