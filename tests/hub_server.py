"""A hub on loopback: a real HTTP server for what ``huggingface_hub`` and ``datasets`` ask, with faults.

Start it with ``LocalHub()`` as a context manager (the fixture ``hub`` does), fill it with ``add_model`` and
``add_dataset``, break it with ``fault``, and look into ``requests`` for what was asked. By hand::

    python -m tests.hub_server          # serves the demo model until Ctrl+C, and says what to set
"""

from __future__ import annotations

import fnmatch
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_repos import Blob, Repo, is_lfs

PIECE = 64 * 1024
PAGE_SIZE = 100
LONGEST_HOLD = 60.0  # seconds: a test that forgot to let go must not hang
WEB_PAGE = b"<!DOCTYPE html><html><body>Welcome to the airport's network. Please log in.</body></html>"


@dataclass(frozen=True)
class Fault:
    """What is done in place of, or to, the real answer."""

    status: int = 0  # answer with this status and ``body``; 0: the real answer, spoilt by what follows
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    hold_after: int | None = None  # bytes of the body, then nothing until ``let_go``
    corrupt: bool = False  # the last byte is another
    ignore_range: bool = False  # the whole file, whatever part was asked for
    drip: tuple[int, float] | None = None  # so many bytes, then so many seconds of nothing, over and over
    silent: bool = False  # no answer at all until ``let_go``


WEB_LOGIN = Fault(status=200, headers={"Content-Type": "text/html"}, body=WEB_PAGE)


@dataclass(frozen=True)
class Asked:
    """A request as it came in, and the status of its answer; ``part`` is the Range header."""

    method: str
    path: str
    query: dict[str, list[str]]
    token: str | None
    part: str | None
    status: int
    at_cdn: bool


@dataclass
class _Armed:
    pattern: str
    method: str
    fault: Fault
    left: int | None  # None: for ever
    skip: int


class LocalHub:
    """The hub, and the server of large files that it redirects to, each on a port of its own."""

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens: dict[str, frozenset[str]] = {}  # each with the gated repositories it may read
        self.requests: list[Asked] = []
        self.go = threading.Event()
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._servers = [_Server(self, port), _Server(self, 0)]
        self._threads = [threading.Thread(target=server.run, daemon=True) for server in self._servers]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go whatever is held, and stop."""
        self.go.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def tls_endpoint(self) -> str:
        """The same by https, which this server does not speak."""
        return self.endpoint.replace("http:", "https:")

    @property
    def cdn(self) -> str:
        """Where large files come from."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def add_model(
        self,
        name: str,
        files: Mapping[str, bytes | Path | Blob],
        *,
        revision: str = "main",
        tag: str | None = None,
        gated: str | bool = False,
        private: bool = False,
        **facts: Any,
    ) -> str:
        """Add a model, or another commit of one; returns the commit's id. ``facts``: fields of ``Repo``."""
        return self._add("models", name, files, revision, tag, {"gated": gated, "private": private, **facts})

    def add_dataset(
        self,
        name: str,
        files: Mapping[str, bytes | Path | Blob],
        *,
        revision: str = "main",
        tag: str | None = None,
        gated: str | bool = False,
        private: bool = False,
        **facts: Any,
    ) -> str:
        """Add a data set, or another commit of one; returns the commit's id."""
        return self._add(
            "datasets", name, files, revision, tag, {"gated": gated, "private": private, **facts}
        )

    def _add(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes | Path | Blob],
        revision: str,
        tag: str | None,
        facts: Mapping[str, Any],
    ) -> str:
        repo = self.repos.setdefault((kind, name), Repo(name, kind))
        for fact, value in facts.items():
            setattr(repo, fact, value)
        return repo.commit(revision, files, tag=tag)

    def add_token(self, token: str, *, accepted: Iterable[str] = ()) -> None:
        """A token that is good; ``accepted`` names the gated repositories that it may read."""
        self.tokens[token] = frozenset(accepted)

    def fault(
        self, path: str, fault: Fault, *, method: str = "*", times: int | None = None, skip: int = 0
    ) -> None:
        """Spoil the answers to what fits ``path`` (with * and ?), after ``skip`` good ones, ``times`` times.

        Large files are asked for as ``/OWNER/NAME/resolve/…`` first and then as ``/cdn/SHA256/NAME``.
        """
        with self._lock:
            self._armed.append(_Armed(path, method, fault, times, skip))

    def mend(self) -> None:
        """No faults any more."""
        with self._lock:
            self._armed.clear()

    def let_go(self) -> None:
        """End what ``hold_after`` and ``silent`` hold, now and later."""
        self.go.set()

    def asked(self, path: str, method: str = "*") -> list[Asked]:
        """The requests so far whose path fits."""
        with self._lock:
            return [
                one
                for one in self.requests
                if fnmatch.fnmatchcase(one.path, path) and fnmatch.fnmatchcase(one.method, method)
            ]

    def note(self, asked: Asked) -> None:
        """Keep what was asked."""
        with self._lock:
            self.requests.append(asked)

    def fault_for(self, method: str, path: str) -> Fault:
        """The fault that is due, used up by one; one that does nothing where none is."""
        with self._lock:
            for armed in self._armed:
                if not (
                    fnmatch.fnmatchcase(path, armed.pattern) and fnmatch.fnmatchcase(method, armed.method)
                ):
                    continue
                if armed.skip > 0:
                    armed.skip -= 1
                    continue
                if armed.left == 0:
                    continue
                if armed.left is not None:
                    armed.left -= 1
                return armed.fault
        return Fault()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LocalHub, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub = hub

    def run(self) -> None:
        self.serve_forever(poll_interval=0.02)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or does not speak HTTP at all, is what some tests are about."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def _json(data: Any, status: int = 200, **headers: str) -> _Answer:
    return _Answer(status, json.dumps(data).encode(), {"Content-Type": "application/json", **headers})


def _refusal(status: int, message: str, code: str | None = None) -> _Answer:
    headers = {"X-Error-Message": message, "Content-Type": "application/json"}
    if code is not None:
        headers["X-Error-Code"] = code
    return _Answer(status, json.dumps({"error": message}).encode(), headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer would wait for the client's next word
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        hub = self.server.hub
        fault = hub.fault_for(self.command, path)
        if fault.status:
            answer = _Answer(fault.status, fault.body, fault.headers)
        else:
            answer = _Router(hub, self, query, body).answer(url.path)
            answer = replace(answer, headers={**answer.headers, **fault.headers})
            if not fault.ignore_range:
                answer = _part(answer, self.headers.get("Range"))
        if fault.corrupt and answer.body:
            answer = replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 0xFF]))
        hub.note(
            Asked(
                self.command,
                path,
                query,
                _token(self.headers.get("Authorization")),
                self.headers.get("Range"),
                answer.status,
                self.server is not hub._servers[0],
            )
        )
        if fault.silent:
            hub.go.wait(LONGEST_HOLD)
            self._hang_up()
            return
        with suppress(ConnectionError):
            self._send(answer, fault)

    def _send(self, answer: _Answer, fault: Fault) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.headers.keys().isdisjoint({"Content-Length", "Transfer-Encoding"}):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = 0
        for piece in _pieces(answer.body, fault):
            self.wfile.write(piece)
            sent += len(piece)
            if fault.drip is not None:
                time.sleep(fault.drip[1])
            if sent == fault.cut_after:
                self._hang_up()
                return
            if sent == fault.hold_after:
                self.server.hub.go.wait(LONGEST_HOLD)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def _pieces(body: bytes, fault: Fault) -> Iterator[bytes]:
    """The body in pieces that end where the fault wants something done."""
    ends = {len(body)} | {end for end in (fault.cut_after, fault.hold_after) if end is not None}
    if 0 in ends:
        yield b""
    start = 0
    for end in sorted(ends - {0}):
        step = fault.drip[0] if fault.drip else PIECE
        for at in range(start, end, step):
            yield body[at : min(at + step, end)]
        start = end


def _part(answer: _Answer, asked: str | None) -> _Answer:
    """The part of a file that a Range header asks for."""
    if answer.status != 200 or not asked or "Accept-Ranges" not in answer.headers:
        return answer
    first, _, last = asked.removeprefix("bytes=").partition("-")
    size = len(answer.body)
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size:
        return _Answer(416, b"", {**answer.headers, "Content-Range": f"bytes */{size}"})
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return _Answer(206, answer.body[start:end], headers)


def _token(header: str | None) -> str | None:
    return header.removeprefix("Bearer ") if header and header.startswith("Bearer ") else None


class _Router:
    """One request to its answer."""

    def __init__(self, hub: LocalHub, request: _Handler, query: dict[str, list[str]], body: bytes) -> None:
        self.hub = hub
        self.request = request
        self.query = query
        self.form = parse_qs(body.decode("utf-8", "replace"))
        self.token = _token(request.headers.get("Authorization"))

    def answer(self, path: str) -> _Answer:
        if self.token is not None and self.token not in self.hub.tokens and not path.startswith("/cdn/"):
            return _refusal(401, "Invalid credentials in Authorization header")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["cdn", sha, _]:
                return self._large(sha)
            case ["api", "whoami-v2"]:
                return _json({"name": "someone", "type": "user"}) if self.token else _refusal(401, "Who?")
            case ["api", "resolve-cache", kind, owner, name, sha, *file]:
                return self._content(kind, f"{owner}/{name}", sha, "/".join(file))
            case ["api", ("models" | "datasets") as kind]:
                return self._search(kind)
            case ["api", ("models" | "datasets") as kind, owner, name, *rest]:
                return self._api(kind, f"{owner}/{name}", rest)
            case ["datasets", owner, name, "resolve", revision, *file]:
                return self._resolve("datasets", f"{owner}/{name}", revision, "/".join(file))
            case [owner, name, "resolve", revision, *file]:
                return self._resolve("models", f"{owner}/{name}", revision, "/".join(file))
            case _:
                return _refusal(404, "Sorry, we can't find the page you are looking for.")

    def _repo(self, kind: str, name: str) -> Repo | _Answer:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self.token is None):
            # As the hub does: who is not logged in cannot tell what is missing from what is private.
            if self.token is None:
                return _refusal(401, "Invalid username or password.")
            return _refusal(404, "Repository not found", "RepoNotFound")
        return repo

    def _api(self, kind: str, name: str, rest: Sequence[str]) -> _Answer:
        repo = self._repo(kind, name)
        if isinstance(repo, _Answer):
            return repo
        if list(rest) == ["refs"]:
            return _json(repo.refs())
        revision = rest[1] if len(rest) > 1 else "main"
        sha = repo.resolve(revision)
        if sha is None:
            return _refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        match rest:
            case [] | ["revision", _]:
                return _json(repo.info(sha, blobs=self._flag("blobs")))
            case ["tree", _, *folder]:
                found = repo.tree(sha, "/".join(folder), recursive=self._flag("recursive"))
                if found is None:
                    return _refusal(404, f"{'/'.join(folder)} does not exist", "EntryNotFound")
                return _json(found)
            case ["paths-info", _]:
                infos = (repo.path_info(sha, path) for path in self.form.get("paths", []))
                return _json([info for info in infos if info is not None])
            case _:
                return _refusal(404, "Sorry, we can't find the page you are looking for.")

    def _flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    def _search(self, kind: str) -> _Answer:
        words = self.query.get("search", [""])[0].lower().split()
        author = self.query.get("author", [None])[0]
        found = [
            repo
            for (of, name), repo in self.hub.repos.items()
            if of == kind
            and all(word in name.lower() for word in words)
            and author in (None, name.partition("/")[0])
            and not (repo.private and self.token is None)
        ]
        if self.query.get("sort", [""])[0] == "downloads":
            found.sort(key=lambda repo: repo.downloads, reverse=True)
        start = int(self.query.get("cursor", ["0"])[0])
        end = start + min(PAGE_SIZE, int(self.query.get("limit", [str(PAGE_SIZE)])[0]))
        rows = [self._row(repo) for repo in found[start:end]]
        if end >= len(found):
            return _json(rows)
        after = f"{self.hub.endpoint}{urlsplit(self.request.path).path}?cursor={end}"
        after += "".join(f"&{k}={v}" for k, vs in self.query.items() if k != "cursor" for v in vs)
        return _json(rows, Link=f'<{after}>; rel="next"')

    def _row(self, repo: Repo) -> dict[str, Any]:
        row = repo.summary()
        wanted = self.query.get("expand", [])
        if not wanted:
            row.pop("safetensors", None)  # only where it is asked for
            return row
        return {k: v for k, v in row.items() if k in ("_id", "id", "modelId", *wanted)}

    def _resolve(self, kind: str, name: str, revision: str, file: str) -> _Answer:
        repo = self._repo(kind, name)
        if isinstance(repo, _Answer):
            return repo
        if repo.gated and file != "README.md" and name not in self.hub.tokens.get(self.token or "", ()):
            if self.token is None:
                return _refusal(401, f"Access to model {name} is restricted. Please log in.", "GatedRepo")
            why = f"Access to model {name} is restricted and you are not in the authorized list."
            return _refusal(403, why, "GatedRepo")
        sha = repo.resolve(revision)
        if sha is None:
            return _refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        blob = repo.files(sha).get(file)
        if blob is None:
            missing = _refusal(404, "Entry not found", "EntryNotFound")
            return replace(missing, headers={**missing.headers, "X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha}
        if not is_lfs(file, blob):
            location = f"/api/resolve-cache/{kind}/{name}/{sha}/{file}"
            return _Answer(307, b"", {**headers, "Location": location, "ETag": f'"{blob.git_oid}"'})
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
        return _Answer(
            302, b"", {**headers, "Location": f"{self.hub.cdn}/cdn/{blob.sha256}/{Path(file).name}"}
        )

    def _content(self, kind: str, name: str, sha: str, file: str) -> _Answer:
        blob = self.hub.repos[kind, name].files(sha)[file]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob.git_oid}"', "Accept-Ranges": "bytes"}
        return _Answer(200, blob.read(), headers)

    def _large(self, sha256: str) -> _Answer:
        for repo in self.hub.repos.values():
            for files in repo.commits.values():
                for name, blob in files.items():
                    if is_lfs(name, blob) and blob.sha256 == sha256:
                        return _Answer(200, blob.read(), {"Accept-Ranges": "bytes", "ETag": f'"{sha256}"'})
        return _refusal(404, "No such object")


class _Unwilling(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._refuse()

    def do_CONNECT(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="office"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def unwilling_proxy() -> Iterator[str]:
    """The address of a proxy that wants a password which nobody gave."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Unwilling)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main() -> None:
    """Serve the demo model, and what is in the folders named, until Ctrl+C."""
    import sys

    home = Path(__file__).parent.parent / "mqf_tui" / "demo" / "model"
    with LocalHub(port=8001) as hub:
        for folder in (home, *map(Path, sys.argv[1:])):
            name = f"mlx-community/{'demo-tiny' if folder == home else folder.name}"
            hub.add_model(
                name, {file.name: file for file in folder.iterdir() if file.is_file()}, downloads=12
            )
            print(f"serving {name}")
        hub.fault("/cdn/*", Fault(drip=(PIECE, 0.02)))
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
