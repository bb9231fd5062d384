"""Asking the hub: patiently where that may help, and so that whoever asked can give up at any moment.

What talks to the network does so in a thread of its own: giving up must not wait for an answer, and neither a
lookup of a name nor a read can be interrupted.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from mqf_tui import __version__
from mqf_tui.fidelity.errors import CancelledError, HubError
from mqf_tui.library.hub.faults import NotTheHubError, RefusedError, offline, passes, told, waiting_words
from mqf_tui.library.hub.names import RepoName
from mqf_tui.reports.text import duration

TRIES = 5
FIRST_PAUSE = 1.0  # seconds, doubled each time
LONGEST_PAUSE = 600.0  # seconds; who is asked to wait longer is told so instead
TICK = 0.1  # seconds between looks at whether it was cancelled
READ_AHEAD = 64  # pieces
PIECE = 1 << 16  # bytes that are unpacked at once
MAX_ANSWER = 64_000_000  # bytes of JSON; a list of 100,000 files has about 30 MB

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Whether to give up, whom to tell what is waited for ("" when it goes on), and how often to try."""

    cancelled: Callable[[], bool]
    on_waiting: Callable[[str], None]
    tries: int = TRIES

    def check(self) -> None:
        """Raise CancelledError where that was asked for."""
        if self.cancelled():
            raise CancelledError(
                "cancelled; what has been fetched is kept, and fetching again goes on there."
            )

    def pause(self, seconds: float, words: Callable[[float], str]) -> None:
        """Wait, saying how long still."""
        end = time.monotonic() + seconds
        said = ""
        while (left := end - time.monotonic()) > 0:
            self.check()
            if (now := words(left)) != said:
                self.on_waiting(now)
                said = now
            time.sleep(min(TICK, left))
        self.on_waiting("")


@dataclass(frozen=True)
class Opened:
    """The head of an answer whose body follows."""

    status: int
    headers: Mapping[str, str]  # by lower-case name


def endpoint() -> str:
    """Where the hub is, as huggingface_hub has it: HF_ENDPOINT, or the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


def check_online() -> None:
    """Raise HubError in offline mode."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise offline()


def get_json(path: str, params: Mapping[str, Any], patience: Patience, name: RepoName | None = None) -> Any:
    """What the hub answers to a question, about ``name`` where it is about one; tried again where that helps.

    Raises HubError and CancelledError.
    """

    def ask() -> Any:
        from huggingface_hub.utils import get_session

        headers = {**_headers(), "accept-encoding": "gzip"}
        url, timeout = endpoint() + path, _timeout()
        with get_session().stream(
            "GET", url, params=params, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            _check(response, headers)
            if response.url.scheme != "https" and url.startswith("https:"):
                raise NotTheHubError("it leads from https to plain http")
            return _json(response)

    check_online()
    attempt = 1
    while True:
        try:
            return _apart(ask, patience)
        except Exception as error:
            wait_or_raise(error, attempt, patience, name, reached=False)
        attempt += 1


def wait_or_raise(
    error: Exception, attempt: int, patience: Patience, name: RepoName | None, *, reached: bool
) -> None:
    """Wait before the next try, as long as the hub asks to; raises the error's sentence where none helps.

    ``reached``: the hub has answered before, so that it can be reached.
    """
    asked = error.wait if isinstance(error, RefusedError) else None
    if attempt >= patience.tries or not passes(error, reached=reached) or (asked or 0.0) > LONGEST_PAUSE:
        # The error may hold the token, among the headers that were sent.
        raise told(error, endpoint(), name) from None
    again = f"trying again ({attempt + 1} of {patience.tries})"
    if asked is not None:
        patience.pause(asked, lambda left: f"the hub asks to wait {duration(math.ceil(left))}; {again}")
    else:
        patience.pause(FIRST_PAUSE * 2 ** (attempt - 1), lambda _: f"{waiting_words(error)}; {again}")


class LostError(Exception):
    """What the thread that reads a body met: ``error`` is of the network, never of the disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Body:
    """The body of a file's answer, read ahead by a thread that stops when this is closed."""

    def __init__(self, path: str, start: int, patience: Patience) -> None:
        self._patience = patience
        self._queue: queue.Queue[Opened | bytes | Exception | None] = queue.Queue(READ_AHEAD)
        self._closed = threading.Event()
        threading.Thread(target=self._read, args=(path, start), daemon=True).start()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def opened(self, on_idle: Callable[[], None]) -> Opened:
        """The answer's head; raises LostError and CancelledError."""
        return cast("Opened", self._next(on_idle))

    def pieces(self, on_idle: Callable[[], None]) -> Iterator[bytes]:
        """The body as it comes, ``on_idle`` called while nothing does; raises as ``opened`` does."""
        while (piece := self._next(on_idle)) is not None:
            yield cast("bytes", piece)

    def _next(self, on_idle: Callable[[], None]) -> Opened | bytes | None:
        while True:
            self._patience.check()
            try:
                came = self._queue.get(timeout=TICK)
            except queue.Empty:
                on_idle()
                continue
            if isinstance(came, Exception):
                raise LostError(came)
            return came

    def _read(self, path: str, start: int) -> None:
        try:
            from huggingface_hub.utils import get_session

            # Packed on the way, a file could not be gone on with from the middle.
            headers = {**_headers(), "accept-encoding": "identity"}
            if start:
                headers["range"] = f"bytes={start}-"
            with get_session().stream(
                "GET", endpoint() + path, headers=headers, timeout=_timeout(), follow_redirects=True
            ) as response:
                _check(response, headers)
                self._put(Opened(response.status_code, dict(response.headers.items())))
                for piece in unpacked(response):
                    if not self._put(piece):
                        return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, came: Opened | bytes | Exception | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(came, timeout=TICK)
                return True
            except queue.Full:
                continue
        return False


def _apart(work: Callable[[], T], patience: Patience) -> T:
    """Do ``work`` in a thread; it is left to itself where the user gives up."""
    done: queue.Queue[tuple[bool, Any]] = queue.Queue(1)

    def run() -> None:
        try:
            done.put((True, work()))
        except BaseException as error:
            done.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        patience.check()
        try:
            good, came = done.get(timeout=TICK)
        except queue.Empty:
            continue
        if good:
            return came
        raise came


def _check(response: Any, headers: Mapping[str, str]) -> None:
    if response.status_code >= 400:
        there = str(response.url.netloc, "ascii").rpartition("@")[2]
        raise RefusedError(
            response.status_code,
            response.reason_phrase,
            response.headers,
            with_token="authorization" in headers,
            host="" if there == urlsplit(endpoint()).netloc.rpartition("@")[2] else there,
        )


def _json(response: Any) -> Any:
    raw = bytearray()
    for piece in unpacked(response):
        raw += piece
        if len(raw) > MAX_ANSWER:
            raise NotTheHubError("its answer has no end")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        kind = str(response.headers.get("content-type", "")).partition(";")[0]
        raise NotTheHubError(f"it sent {kind or 'something'} that is no JSON") from None


def unpacked(response: Any) -> Iterator[bytes]:
    """A body as it comes, unpacked little by little: a few bytes may stand for gigabytes."""
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing in ("", "identity"):
        yield from response.iter_raw()
        return
    if packing != "gzip":
        raise NotTheHubError(f"it sent an answer packed by {packing[:20]}, which nobody asked for")
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for raw in response.iter_raw():
            while raw and not stream.eof:
                yield stream.decompress(raw, PIECE)
                raw = stream.unconsumed_tail
        yield stream.flush()
    except zlib.error:
        raise NotTheHubError("it sent an answer that cannot be unpacked") from None


def _headers() -> dict[str, str]:
    """Who asks, and with which token: the one that huggingface_hub keeps."""
    from huggingface_hub import __version__ as hub_version
    from huggingface_hub import constants, get_token

    headers = {"user-agent": f"mqf-tui/{__version__}; hf_hub/{hub_version}"}
    try:
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, ValueError) else error.strerror or "it is not there"
        raise HubError(
            f"the token in {constants.HF_TOKEN_PATH} cannot be read ({why}); check its permissions, or renew "
            "it with `hf auth login`."
        ) from None
    if token:
        headers["authorization"] = f"Bearer {token}"
    return headers


def _timeout() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
