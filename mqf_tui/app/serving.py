"""``mqf-tui --serve``: the app in a browser, on the loopback address only.

textual-serve starts the app anew for each page that is opened, and ends it with the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

from mqf_tui.app.served import PARENT
from mqf_tui.fidelity.errors import FidelityError

HOST = "127.0.0.1"
PORT = 8000
HOSTS = (HOST, "localhost", "::1")
PAGE = Path(__file__).parent / "page"
# The page gets what it needs from here; nothing is asked of other hosts.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self' ws://127.0.0.1:* ws://localhost:*; frame-ancestors 'none'"
)


class LoopbackServer(Server):
    """The server of textual-serve, for this machine's browsers and our own page alone."""

    def __init__(self, port: int) -> None:
        # exec, so that the app is this process's own child, without a shell between them.
        command = f"exec {shlex.join([sys.executable, '-m', 'mqf_tui'])}"
        super().__init__(command, host=HOST, port=port, title="mqf-tui", templates_path=PAGE)
        self._pages: set[asyncio.Task[object]] = set()

    def initialize_logging(self) -> None:
        """Only what went wrong."""
        logging.basicConfig(level=logging.WARNING, format="mqf-tui: %(message)s")

    async def on_startup(self, app: web.Application) -> None:
        """Say where it is, and end as on Ctrl+C when the terminal goes."""
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.request_exit)
        print(
            f"mqf-tui is served at {self.public_url}\n"
            "Only this machine can open it, with every user it has. Each page is an app of its own.\n"
            "Ctrl+C ends it; what was scored until then is kept.",
            flush=True,
        )

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        refuse_strangers(request)
        page: web.StreamResponse = await super().handle_index(request)
        page.headers["Content-Security-Policy"] = POLICY
        page.headers["Cache-Control"] = "no-store"
        return page

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """The connection that the app's keys and pictures go through."""
        refuse_strangers(request)
        if (page := asyncio.current_task()) is not None:
            self._pages.add(page)
            page.add_done_callback(self._pages.discard)
        return await super().handle_websocket(request)

    async def on_shutdown(self, app: web.Application) -> None:
        """End the pages, and with them their apps; aiohttp would wait a minute for them to go."""
        for page in tuple(self._pages):
            page.cancel()

    async def handle_download(self, request: web.Request) -> web.StreamResponse:
        """A file that the app hands to the browser."""
        refuse_strangers(request)
        return await super().handle_download(request)


def refuse_strangers(request: web.Request) -> None:
    """Pages of other sites in this machine's browser can reach the loopback too; HTTPForbidden for them."""
    named = urlsplit(f"//{request.host}").hostname
    origin = request.headers.get("Origin")
    if named not in HOSTS or (origin is not None and urlsplit(origin).netloc != request.host):
        raise web.HTTPForbidden(text="mqf-tui can be opened from this machine only.")


def serve(port: int = PORT) -> int:
    """Serve until Ctrl+C; return the exit code. Raises FidelityError where the port cannot be had."""
    check(port)
    os.environ[PARENT] = str(os.getpid())
    try:
        LoopbackServer(port).serve()
    except OSError as error:  # taken since it was looked at
        raise _no_port(port, error) from error
    return 0


def check(port: int) -> None:
    """Whether the port can be had; raises FidelityError."""
    if not 0 < port < 65536:
        raise FidelityError(f"there is no port {port}; use one from 1 to 65535, such as --port {PORT}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            raise _no_port(port, error) from error


def _no_port(port: int, error: OSError) -> FidelityError:
    other = port + 1 if 1024 <= port < 65535 else PORT
    return FidelityError(
        f"port {port} of {HOST} cannot be had ({error.strerror}); use another, such as --port {other}."
    )
