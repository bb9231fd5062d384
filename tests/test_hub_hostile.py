"""A hub that means ill or keeps broken models, and caches that cannot be used."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.server
import io
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.hub import calls as hub_calls
from mqf_tui.library.hub.files import HubFile
from mqf_tui.library.hub.search import search_hub
from mqf_tui.library.hub.store import Store
from mqf_tui.library.models import local_models
from tests.hub_environment import point_at
from tests.hub_models import CONFIG, FILES, LARGE, NAME, WEIGHTS, contents, fetch, refused
from tests.hub_server import Fault, LocalHub

LISTING = f"/api/models/{NAME}/revision/main"
JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}
MODEL = {"id": "good/name"}


@pytest.fixture
def filled(hub: LocalHub) -> LocalHub:
    hub.add_model(NAME, FILES)
    return hub


@pytest.fixture
def home(hub: LocalHub) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def search_refused() -> str:
    with pytest.raises(HubError) as caught:
        search_hub("x")
    return str(caught.value)


# Answers


def test_an_answer_may_come_packed(filled: LocalHub) -> None:
    rows = json.dumps([MODEL, {"id": 7, "much": "x" * 300_000}]).encode()
    filled.fault("/api/models", Fault(200, PACKED, gzip.compress(rows)))
    assert [model.name for model in search_hub("x")] == ["good/name"]
    filled.fault("*/config.json", Fault(200, {"Content-Encoding": "gzip"}, gzip.compress(CONFIG)))
    assert contents(fetch()) == FILES


def test_an_answer_that_unpacks_to_gigabytes_is_given_up(
    filled: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    unpacked = hub_calls.unpacked

    def watched(response: Any) -> Iterator[bytes]:
        for piece in unpacked(response):
            seen.append(len(piece))
            yield piece

    monkeypatch.setattr(hub_calls, "unpacked", watched)
    monkeypatch.setattr(hub_calls, "MAX_ANSWER", 1_000_000)
    bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    filled.fault("/api/*", Fault(200, PACKED, bomb))
    for said in (search_refused(), refused()):
        assert "is not the hub (its answer has no end)" in said
    assert max(seen) <= hub_calls.PIECE
    assert sum(seen) < 3_000_000


def test_a_file_that_unpacks_to_gigabytes_is_given_up(filled: LocalHub, home: Path) -> None:
    filled.fault(LARGE, Fault(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))))
    assert "it sent more than the file holds" in refused()
    assert all(len(data) <= len(WEIGHTS) for data in contents(home).values())


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        (PACKED, b"not packed at all", "cannot be unpacked"),
        (PACKED, gzip.compress(b"[" * 2000)[:-9], "no JSON"),
        (
            {**JSON, "Content-Encoding": "gzip, gzip"},
            gzip.compress(gzip.compress(b"[]")),
            "which nobody asked",
        ),
        ({**JSON, "Content-Encoding": "br\x9b31m"}, b"[]", "which nobody asked"),
        (JSON, b"[" * 200_000, "no JSON"),
    ],
    ids=["not packed", "cut off", "packed twice", "unknown", "deep"],
)
def test_answers_that_make_no_sense(filled: LocalHub, headers: dict[str, str], body: bytes, why: str) -> None:
    filled.fault("/api/*", Fault(200, headers, body))
    for said in (search_refused(), refused()):
        assert "is not the hub" in said
        assert why in said
        assert said.isprintable()


@pytest.mark.parametrize(
    "number", [10**400, -5, True, 2.5, None], ids=["huge", "less", "true", "part", "none"]
)
def test_numbers_that_nothing_has(
    filled: LocalHub, capsys: pytest.CaptureFixture[str], number: object
) -> None:
    row = {**MODEL, "downloads": number, "likes": number, "safetensors": {"parameters": {"F16": number}}}
    filled.fault("/api/models", Fault(200, JSON, json.dumps([row]).encode()))
    assert main(["models", "search", "x"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["good/name", "—", "0"]
    size = {"size": number, "blobId": "a" * 40}
    siblings = [{"rfilename": name, **size} for name in FILES]
    filled.fault(LISTING, Fault(200, JSON, json.dumps({"sha": "b" * 40, "siblings": siblings}).encode()))
    assert "it sent no list of files" in refused()


def test_a_wait_that_is_no_number(filled: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_calls, "FIRST_PAUSE", 0.001)
    filled.fault("/api/*", Fault(429, {"Retry-After": "\xb2"}), times=1)
    assert [model.name for model in search_hub("tiny")] == [NAME]


def _secure(folder: Path, location: str) -> http.server.ThreadingHTTPServer:
    """A server that speaks TLS, by a certificate in the folder, and sends everybody elsewhere."""

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", location + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_way_out_of_tls_is_not_taken(
    filled: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import close_session

    server = _secure(tmp_path, filled.endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_neverToBeSeen")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with contextlib.closing(server.socket):
        point_at(f"https://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", "hf_neverToBeSeen")
        for said in (search_refused(), refused()):
            assert "it leads from https to plain http" in said
        server.shutdown()
    close_session()
    assert filled.requests
    assert {asked.token for asked in filled.requests} == {None}


def test_a_token_that_is_no_text(filled: LocalHub) -> None:
    from huggingface_hub import constants

    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True)
    Path(constants.HF_TOKEN_PATH).write_bytes(b"\xff\xfe\x00h\x00f")
    assert f"the token in {constants.HF_TOKEN_PATH} cannot be read (it is no text)" in refused()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_keeps_the_files_may_refuse_them(
    filled: LocalHub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    filled.add_token("hf_good")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    filled.fault(LARGE, Fault(status))
    said = refused()
    assert f"{filled.cdn.removeprefix('http://')}, to which the hub leads for files, refuses {NAME}" in said
    assert f"({status} " in said
    assert "token" not in said


# Models that are broken on the hub


def test_a_model_without_a_tokenizer_is_refused_before_anything_is_fetched(hub: LocalHub, home: Path) -> None:
    hub.add_model(NAME, {name: data for name, data in FILES.items() if name != "tokenizer.json"})
    said = refused()
    assert "has no tokenizer (tokenizer.json, " in said
    assert "mqf-tui models search tiny-4bit" in said
    assert not hub.asked("*/resolve/*")
    assert not home.exists()


def test_a_model_that_the_hub_itself_has_in_part(hub: LocalHub) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.add_model(NAME, {**files, "model-00001-of-00002.safetensors": WEIGHTS})
    said = refused()
    assert f"{NAME} is incomplete on the hub itself, with 1 of 2 weight files" in said
    assert "model-00002-of-00002.safetensors" in said


@pytest.mark.parametrize("token", [None, "hf_good"])
def test_a_model_of_which_nothing_may_be_fetched_is_not_listed(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    hub.add_model(NAME, FILES, gated="manual")
    if token:
        hub.add_token(token)
        monkeypatch.setenv("HF_TOKEN", token)
    assert "gated" in refused()
    assert NAME not in [model.name for model in local_models()]


def test_the_address_of_a_page_is_told_as_a_name(
    filled: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "download", f"https://huggingface.co/{NAME}/tree/main"]) == 0
    assert f"measure it with `mqf-tui kv {NAME}@main`" in capsys.readouterr().err


# Caches that cannot be used


@pytest.fixture
def closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody may look into, root neither."""
    closed = tmp_path / "closed"
    stat, mkdir = os.stat, os.mkdir

    def refuse(path: Any) -> None:
        if isinstance(path, str | os.PathLike) and str(closed) + os.sep in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def no_stat(path: Any, *args: Any, **options: Any) -> os.stat_result:
        refuse(path)
        return stat(path, *args, **options)

    def no_mkdir(path: Any, *args: Any, **options: Any) -> None:
        refuse(path)
        mkdir(path, *args, **options)

    closed.mkdir()
    monkeypatch.setattr(os, "stat", no_stat)
    monkeypatch.setattr(os, "mkdir", no_mkdir)
    return closed


def test_a_cache_that_may_not_be_looked_into(
    filled: LocalHub, closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = closed_folder / "deeper" / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    assert f"{cache} cannot be written (Permission denied)" in refused()
    assert [model.here for model in search_hub("tiny")] == [False]


class _Small(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_a_disk_that_takes_no_large_files(
    filled: LocalHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = Store.growing

    @contextlib.contextmanager
    def small(self: Store, file: HubFile) -> Generator[BinaryIO]:
        with growing(self, file) as real:
            yield _Small() if file.large else real

    monkeypatch.setattr(Store, "growing", small)
    said = refused()
    assert f"the disk with {home} takes no file as large as this" in said
    assert "HF_HUB_CACHE" in said


@pytest.mark.parametrize("there", [".locks", "models--mlx-community--tiny-4bit/refs"])
def test_a_file_in_the_place_of_a_folder_is_named(filled: LocalHub, home: Path, there: str) -> None:
    (home / there).parent.mkdir(parents=True)
    (home / there).write_text("in the way")
    said = refused()
    assert f"{home} cannot be written (" in said
    assert str(home / there) in said
    assert "move that away" in said


def test_folders_that_no_repository_has_are_not_listed(filled: LocalHub, home: Path) -> None:
    fetch()
    good = home / "models--mlx-community--tiny-4bit"
    odd: Sequence[str] = [
        "models--..--..",
        "models--a--b--c--d",
        "models--",
        "models--a--\x1b[31mb",
        "models--a b",
    ]
    for name in odd:
        shutil.copytree(good, home / name, symlinks=True)
    assert [model.name for model in local_models()] == ["demo", NAME]


def test_a_name_is_not_proposed_in_place_of_itself(hub: LocalHub, home: Path) -> None:
    (home / f"models--{NAME.replace('/', '--')}" / "snapshots").mkdir(parents=True)
    from mqf_tui.fidelity.errors import ModelNotFoundError
    from mqf_tui.library.models import find_model

    with pytest.raises(ModelNotFoundError) as caught:
        find_model(NAME)
    assert "did you mean" not in str(caught.value)
    assert f"fetch it with `mqf-tui models download {NAME}`" in str(caught.value)
