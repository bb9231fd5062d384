"""The app in a real browser, from the real server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from mqf_tui.app import served
from mqf_tui.app.serving import check
from mqf_tui.cli import main
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import list_runs
from tests.browser import Page, browsing
from tests.conftest import ROOT

# xterm.js draws on a canvas; its own buffer is what the page shows. The page keeps the terminal as a
# property of that name of an object of its own.
SEE_THE_TERMINAL = """
Object.defineProperty(Object.prototype, "terminal", { configurable: true, set(value) {
  Object.defineProperty(this, "terminal", { value, writable: true, enumerable: true, configurable: true });
  if (value && value.buffer) { window.shown = value; }
} });
"""
SCREEN = """(() => {
  if (!window.shown) { return ""; }
  const b = window.shown.buffer.active, lines = [];
  for (let y = 0; y < window.shown.rows; y++) {
    const line = b.getLine(b.viewportY + y);
    lines.push(line ? line.translateToString(true) : "");
  }
  return lines.join("\\n");
})()"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def wait(page: Page, *texts: str) -> str:
    """The terminal's text as soon as it holds all of these."""
    shown = ""
    for _ in range(600):
        shown = await page.js(SCREEN)
        if all(text in shown for text in texts):
            return shown
        await asyncio.sleep(0.1)
    raise AssertionError(f"{texts} never appeared; the page shows\n{shown}")


@pytest.fixture
async def server(data_home: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The address and the process of ``mqf-tui --serve``."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mqf_tui", "--serve", "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    assert process.stdout is not None
    said = [(await process.stdout.readline()).decode() for _ in range(3)]
    assert said[0] == f"mqf-tui is served at http://127.0.0.1:{port}\n"
    assert "Only this machine" in said[1]
    assert "Ctrl+C" in said[2]
    await listening(port)
    yield f"http://127.0.0.1:{port}", process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def listening(port: int) -> None:
    """The address is told just before the server listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@pytest.mark.slow
async def test_a_run_in_the_browser(server, data_home: Path, tmp_path: Path) -> None:
    address, process = server
    async with browsing(tmp_path / "profile", SEE_THE_TERMINAL) as page:
        await page.call("Page.navigate", url=address)
        await wait(page, "Models", "demo", "llama")
        assert await page.js("document.body.classList.contains('-first-byte')")
        await page.js("document.querySelector('.xterm-helper-textarea').focus()")
        await page.press("Enter")
        await wait(page, "Set-up")
        await few_chunks(page)
        await page.press("Enter")
        shown = await wait(page, "Result", "saved as")
        [run] = list_runs()
        assert run.report.verdict.upper() in shown
        assert run.id in shown
        # It works without a network: nothing was asked of another host.
        assert len(page.asked) > 3
        assert {url.split("/")[2] for url in page.asked if not url.startswith("data:")} == {address[7:]}
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        assert [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
        async with asyncio.timeout(20):
            while not await page.js("document.querySelector('#ended').offsetHeight"):
                await asyncio.sleep(0.05)
        assert "What was scored is kept" in await page.js("document.querySelector('#ended').innerText")


async def few_chunks(page: Page) -> None:
    """In the set-up: chunks of the shortest length, and few of them."""
    await page.press(*["ArrowDown"] * 3, *["ArrowLeft"] * 2)


@pytest.mark.slow
async def test_strangers_are_refused_and_a_killed_server_leaves_nothing(server) -> None:
    address, process = server
    port = address.rpartition(":")[2]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((other_address(), int(port)), timeout=5)
    async with aiohttp.ClientSession() as session:
        for headers, status in (
            ({}, 200),
            ({"Host": "localhost:9000"}, 200),  # through a forwarded port
            ({"Host": "evil.example"}, 403),
        ):
            async with session.get(address, headers=headers) as answer:
                assert answer.status == status, headers
        for origin in ("http://evil.example", f"http://127.0.0.1:{int(port) + 1}", "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"{address}/ws", headers={"Origin": origin})
        async with session.ws_connect(f"{address}/ws", headers={"Origin": address}) as ws:
            first = await ws.receive(timeout=60)
            assert b"\x1b[" in first.data
            [app] = psutil.Process(process.pid).children()
            process.kill()
            await process.wait()
            async with asyncio.timeout(30):
                while app.is_running() and app.status() != psutil.STATUS_ZOMBIE:
                    await asyncio.sleep(0.1)


def other_address() -> str:
    """An address of this machine that is not 127.0.0.1."""
    return "127.0.0.2"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_such_port(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--serve", "--port", str(port)]) == 2
    assert "there is no port" in capsys.readouterr().err


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--serve", "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert f"port {port} " in said
        assert "--port" in said
        assert said.count("\n") == 1
        with pytest.raises(FidelityError):
            check(port)


@pytest.mark.parametrize("words", [["--serve", "models"], ["--port", "9000"], ["--port", "9000", "models"]])
def test_options_that_do_not_go_together(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--serve" in capsys.readouterr().err


def test_who_is_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not served.orphaned()
    monkeypatch.setenv("TEXTUAL_DRIVER", "textual.drivers.web_driver:WebDriver")
    assert not served.orphaned()  # started by `textual serve`, which told nothing
    monkeypatch.setenv(served.PARENT, str(os.getppid()))
    assert not served.orphaned()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setenv(served.PARENT, str(gone.pid))
    assert served.orphaned()
