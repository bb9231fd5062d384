"""Every way in which the hub can fail one, each with its sentence: what, why, and what would work."""

from __future__ import annotations

import contextlib
import email.utils
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mqf_tui.fidelity.errors import CancelledError, HubError
from mqf_tui.library.hub import calls as hub_calls
from mqf_tui.library.hub.search import search_hub
from tests.hub_environment import point_at
from tests.hub_models import FILES, LARGE, NAME, Watched, contents, fetch, partials, refused
from tests.hub_repos import Blob
from tests.hub_server import WEB_LOGIN, Fault, LocalHub, closed_port, unwilling_proxy
from tests.makers import environment

TOKEN = "hf_neverToBeSeen"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again comes at once, and so does giving up on silence."""
    from huggingface_hub import constants

    monkeypatch.setattr(hub_calls, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)


@pytest.fixture
def filled(hub: LocalHub) -> LocalHub:
    hub.add_model(NAME, FILES)
    return hub


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a test that points at hubs of its own."""
    from huggingface_hub.utils import close_session

    yield
    close_session()


def search_refused(text: str = "tiny") -> str:
    with pytest.raises(HubError) as caught:
        search_hub(text)
    return str(caught.value)


def log_in(token: str = TOKEN) -> None:
    """Put a token where huggingface_hub keeps it."""
    from huggingface_hub import constants

    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(token)


# Who may


def test_a_token_that_is_not_accepted(filled: LocalHub) -> None:
    log_in("hf_expired")
    for said in (refused(), search_refused()):
        assert "does not accept the token" in said
        assert "hf auth login" in said


def test_a_private_model_needs_a_token(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES, private=True)
    said = refused()
    assert f"there is no model {NAME} on the hub, or it is private" in said
    assert "hf auth login" in said
    hub.add_token(TOKEN)
    log_in()
    assert contents(fetch()) == FILES


def test_a_gated_model(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES, gated="manual")
    page = f"{hub.endpoint}/{NAME}"
    said = refused()
    assert f"accept them at {page}" in said
    assert "hf auth login" in said
    hub.add_token(TOKEN)
    log_in()
    said = refused()
    assert f"accept its conditions at {page}" in said
    assert "hf auth login" not in said
    assert not hub.asked("*/model.safetensors")
    hub.add_token(TOKEN, accepted=[NAME])
    assert contents(fetch()) == FILES


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("Access to this resource is disabled.", "is disabled on the hub"),
        (
            "Your token lacks the right to read gated repositories.",
            "Your token lacks the right to read gated",
        ),
        ("", "403 Forbidden"),
    ],
)
def test_other_refusals_of_access(filled: LocalHub, message: str, why: str) -> None:
    headers = {"X-Error-Message": message} if message else {}
    filled.fault("/api/models/*", Fault(403, headers))
    assert why in refused()


def test_the_token_is_in_no_sentence(filled: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the hub sends it back, or where it is one that cannot be sent."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    filled.fault("/api/models/*", Fault(403, {"X-Error-Message": f"token {TOKEN} is bad"}), times=1)
    assert TOKEN not in refused()
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}ü")
    said = refused()
    assert TOKEN not in said
    assert "holds characters that no token has" in said


def test_a_password_in_the_address_of_the_hub_is_in_no_sentence(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_model(NAME, FILES, gated="auto")
    hub.fault("/*/resolve/*", Fault(403, {"X-Error-Code": "GatedRepo"}))
    point_at(hub.endpoint.replace("//", "//me:verysecret@"), tmp_path / "hf-home", monkeypatch)
    assert f"at {hub.endpoint}/{NAME}" in refused()
    for status in (403, 503, 400):
        hub.mend()
        hub.fault("/api/*", Fault(status))
        assert "verysecret" not in refused()


# What there is


def test_a_model_that_does_not_exist_has_near_ones_named(filled: LocalHub) -> None:
    filled.add_model("mlx-community/other-8bit", FILES)
    filled.add_model("someone/tiny-4bit", FILES)
    for log in (False, True):
        if log:
            filled.add_token(TOKEN)
            log_in()
        said = refused("mlx-comunity/tiny-4bit")
        assert "there is no model mlx-comunity/tiny-4bit on the hub" in said
        assert f"near to it are {NAME}, someone/tiny-4bit." in said
        said = refused("mlx-community/tiny-3bit")
        first, *others = said.partition("near to it are ")[2].rstrip(".").split(", ")
        assert first == NAME
        assert set(others) == {"someone/tiny-4bit", "mlx-community/other-8bit"}


def test_with_nothing_near_the_sentence_stands_alone(hub: LocalHub) -> None:
    assert refused("no/thing").endswith("log in with `hf auth login` if it is yours.")
    before = len(hub.requests)
    hub.fault("/api/models", Fault(500))
    assert refused("no/thing").endswith("log in with `hf auth login` if it is yours.")
    assert len(hub.requests) == before + 2  # what is only a help is not asked for again and again


def test_a_revision_that_does_not_exist_has_those_named_that_do(filled: LocalHub) -> None:
    filled.add_model(NAME, FILES, revision="dev", tag="v1.0")
    assert refused(f"{NAME}@v2") == f"{NAME} has no revision v2; name one that it has: main, dev, v1.0."
    filled.fault("/api/models/*/refs", Fault(404))
    assert refused(f"{NAME}@v2") == f"{NAME} has no revision v2; name another."


def test_a_file_that_goes_away_meanwhile(filled: LocalHub) -> None:
    gone = Fault(404, {"X-Error-Code": "EntryNotFound"})
    filled.fault("/*/resolve/*/model.safetensors", gone)
    assert "is gone from the hub; fetch it again" in refused()


# Patience


def later(seconds: int) -> Mapping[str, str]:
    return {"Retry-After": email.utils.formatdate(time.time() + seconds, usegmt=True)}


@pytest.mark.parametrize("path", ["/api/models/*", LARGE])
@pytest.mark.parametrize(
    "headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}, later(2)], ids=["s", "limit", "date"]
)
def test_too_many_requests_are_waited_for_as_long_as_the_hub_asks(
    filled: LocalHub, path: str, headers: Mapping[str, str]
) -> None:
    filled.fault(path, Fault(429, headers), times=1)
    watched = Watched()
    assert contents(watched.fetch()) == FILES
    if "Retry-After" in headers and headers["Retry-After"] != "1":
        return  # the second may have passed before it was asked
    assert watched.waits[0] == "the hub asks to wait 1 s; trying again (2 of 5)" or path == LARGE
    assert "the hub asks to wait 1 s; trying again (2 of 5)" in watched.waits


@pytest.mark.parametrize("path", ["/api/models/*", LARGE])
def test_that_wait_can_be_cancelled_and_is_counted_down(filled: LocalHub, path: str) -> None:
    filled.fault(path, Fault(429, {"Retry-After": "300"}))
    watched = Watched(lambda progress: "4 min 59 s" in progress.waiting)
    with pytest.raises(CancelledError):
        watched.fetch()
    assert "the hub asks to wait 5 min 00 s; trying again (2 of 5)" in watched.waits


def test_a_wait_of_hours_is_left_to_the_user(filled: LocalHub) -> None:
    filled.fault("/api/models*", Fault(429, {"Retry-After": "7200"}))
    for said in (refused(), search_refused()):
        assert "too many requests from here and asks to wait 2 h 00 min" in said
    assert len(filled.asked("/api/models*")) == 2


@pytest.mark.parametrize(
    ("status", "path"),
    [
        *[(status, "/api/models/*") for status in (500, 502, 503, 504, 408)],
        (503, LARGE),
        (504, "/api/resolve-cache/*"),
    ],
)
def test_a_hub_in_trouble_is_asked_again(filled: LocalHub, status: int, path: str) -> None:
    filled.fault(path, Fault(status, body=b"<html>sorry</html>"), times=4)
    watched = Watched()
    assert contents(watched.fetch()) == FILES
    assert any(f"the hub answered {status}" in wait and "(5 of 5)" in wait for wait in watched.waits)


@pytest.mark.parametrize("path", ["/api/models*", LARGE])
def test_but_not_for_ever(filled: LocalHub, path: str) -> None:
    filled.fault(path, Fault(503))
    assert "the hub has trouble of its own (503 Service Unavailable)" in refused()
    assert len(filled.asked(path)) == 5


def test_a_search_is_patient_too(filled: LocalHub) -> None:
    filled.fault("/api/models", Fault(502), times=2)
    filled.fault("/api/models", Fault(cut_after=3), times=1)
    waits: list[str] = []
    assert [model.name for model in search_hub("tiny", on_waiting=waits.append)] == [NAME]
    assert [wait for wait in waits if wait] == [
        "the hub answered 502 Bad Gateway; trying again (2 of 5)",
        "the hub answered 502 Bad Gateway; trying again (3 of 5)",
        "the connection was cut; trying again (4 of 5)",
    ]
    assert waits[-1] == ""
    filled.fault("/api/models", Fault(silent=True))
    before = len(filled.requests)
    with pytest.raises(CancelledError):
        search_hub("tiny", cancelled=lambda: len(filled.requests) > before)


@pytest.mark.parametrize("path", ["/api/models/*", LARGE])
def test_silence(filled: LocalHub, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.4)
    filled.fault(path, Fault(silent=True))
    watched = Watched()
    with pytest.raises(HubError, match=r"did not answer in time.*HF_HUB_DOWNLOAD_TIMEOUT"):
        watched.fetch()
    assert watched.waits[-1] == "the hub did not answer in time; trying again (5 of 5)"


# What is not the hub


@pytest.mark.parametrize("path", ["/api/models*", "/*/resolve/*"])
def test_a_page_of_a_networks_login(filled: LocalHub, path: str, tmp_path: Path) -> None:
    filled.fault(path, WEB_LOGIN)
    said = refused()
    assert "is not the hub" in said
    assert "if this network wants a login, open a page in a browser first" in said
    if path.startswith("/api"):
        assert "text/html that is no JSON" in said
        assert "is not the hub" in search_refused()
    assert not [
        name for name in contents(tmp_path / "hf-home") if "blobs" in name and "incomplete" not in name
    ]
    filled.mend()
    assert contents(fetch()) == FILES


@pytest.mark.parametrize("body", [b"{}", b"[1, null]", b"null", b'"x"', b"[[]]", b"{", b"\xff", b""])
def test_json_of_another_kind(filled: LocalHub, body: bytes) -> None:
    filled.fault("/api/models*", Fault(200, {"Content-Type": "application/json"}, body))
    assert "is not the hub" in refused()
    if body.startswith(b"["):
        assert search_hub("tiny") == ()
    else:
        assert "is not the hub" in search_refused()


@pytest.mark.parametrize("body", [b"", b"short", bytes(700_000)])
def test_a_file_of_another_size(filled: LocalHub, body: bytes) -> None:
    filled.fault(LARGE, Fault(200, body=body))
    assert "bytes where the file has 600,000" in refused()


def test_a_file_longer_than_it_should_be_with_no_length_said(filled: LocalHub) -> None:
    chunk = b"%x\r\n" % 700_000 + bytes(700_000) + b"\r\n0\r\n\r\n"
    filled.fault(LARGE, Fault(200, {"Transfer-Encoding": "chunked"}, chunk))
    assert "it sent more than the file holds" in refused()


def test_another_part_than_was_asked_for(filled: LocalHub) -> None:
    filled.fault(LARGE, Fault(cut_after=100_000), times=1)
    filled.fault(LARGE, Fault(206, {"Content-Range": "bytes 5-599999/600000"}, bytes(599_995)))
    assert "it sent another part of the file than was asked for" in refused()


def test_a_part_that_the_server_does_not_have_begins_anew(filled: LocalHub) -> None:
    filled.fault(LARGE, Fault(cut_after=100_000), times=1)
    filled.fault(LARGE, Fault(416, {"Content-Range": "bytes */600000"}), times=1)
    assert contents(fetch()) == FILES
    assert [one.part is not None for one in filled.asked(LARGE)] == [False, True, False]


def test_redirects_in_a_circle(filled: LocalHub) -> None:
    filled.fault("/round/*", Fault(302, {"Location": "/round/and/round"}))
    filled.fault("/*/resolve/*", Fault(302, {"Location": "/round/and"}))
    assert "lead round in a circle" in refused()


def test_a_model_that_was_renamed_is_followed(filled: LocalHub) -> None:
    there = f"/api/models/{NAME}/revision/main?blobs=true"
    filled.fault("/api/models/old/name/*", Fault(307, {"Location": there}))
    filled.fault(
        "/old/name/resolve/*/*", Fault(301, {"Location": f"/{NAME}/resolve/main/config.json"}), times=1
    )
    filled.fault("/old/name/resolve/*/README.md", Fault(301, {"Location": f"/{NAME}/resolve/main/README.md"}))
    for file in ("tokenizer.json", "model.safetensors"):
        moved = Fault(301, {"Location": f"/{NAME}/resolve/main/{file}"})
        filled.fault(f"/old/name/resolve/*/{file}", moved)
    assert contents(fetch("old/name")) == FILES


@pytest.mark.parametrize("status", [400, 410, 418, 451])
def test_other_answers(filled: LocalHub, status: int) -> None:
    filled.fault("/api/models*", Fault(status, {"X-Error-Message": "for reasons\x1b[31m"}))
    said = refused()
    assert f"({status}" in said
    assert "for reasons" in said
    assert "\x1b" not in said


# The way there


def test_nobody_listens(elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    point_at(f"http://127.0.0.1:{port}", tmp_path, monkeypatch)
    for said in (refused(), search_refused()):
        assert f"127.0.0.1:{port} cannot be reached (connection refused)" in said
        assert "HF_ENDPOINT" in said


def test_a_host_that_nobody_knows(elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://hub.invalid", tmp_path, monkeypatch)
    said = refused()
    assert "hub.invalid" in said
    assert "(DNS)" in said


def test_large_files_on_a_host_that_nobody_knows(filled: LocalHub) -> None:
    filled.fault("/*/resolve/*/model.safetensors", Fault(302, {"Location": "http://cdn.invalid/x"}))
    said = refused()
    assert "cdn.invalid" in said
    assert "(DNS)" in said


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1", "http://", "http://[::1", "https://a b"])
def test_an_address_that_is_none(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    point_at(address, tmp_path, monkeypatch)
    assert "HF_ENDPOINT" in refused()


def test_https_where_none_is_spoken(
    filled: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(filled.tls_endpoint, tmp_path, monkeypatch)
    said = refused()
    assert "no secure connection to 127.0.0.1" in said
    assert "TLS" in said


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _self_signed(folder: Path) -> Iterator[int]:
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_trusted(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _self_signed(tmp_path) as port:
        point_at(f"https://127.0.0.1:{port}", tmp_path, monkeypatch)
        said = refused()
    assert f"the certificate of 127.0.0.1:{port} is not trusted (self-signed certificate)" in said
    assert "SSL_CERT_FILE" in said


def test_certificates_that_are_not_there(
    filled: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(filled.tls_endpoint, tmp_path, monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert "SSL_CERT_FILE names cannot be read" in refused()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    point_at(f"{scheme}://hub.invalid", tmp_path, monkeypatch)
    with unwilling_proxy() as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:verysecret@{proxy}")
        said = refused()
    assert f"the proxy {proxy} lets nothing through without a password (407)" in said
    assert f"{scheme.upper()}_PROXY" in said
    assert "verysecret" not in said


def test_a_proxy_that_does_not_answer(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at("https://hub.invalid", tmp_path, monkeypatch)
    port = closed_port()
    monkeypatch.setenv("https_proxy", f"http://me:verysecret@127.0.0.1:{port}")
    said = refused()
    assert f"the proxy 127.0.0.1:{port} does not answer (connection refused)" in said
    assert "verysecret" not in said


def test_offline_mode(filled: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for said in (refused(), search_refused()):
        assert "HF_HUB_OFFLINE" in said
        assert "mqf-tui models" in said
    assert not filled.requests


def test_a_token_that_cannot_be_read(filled: LocalHub) -> None:
    from huggingface_hub import constants

    Path(constants.HF_TOKEN_PATH).mkdir(parents=True)
    said = refused()
    assert f"the token in {constants.HF_TOKEN_PATH} cannot be read" in said


def _without_network() -> bool:
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, timeout=60).returncode == 0


@pytest.mark.skipif(not _without_network(), reason="may not run a process without a network")
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://192.0.2.1", "192.0.2.1 cannot be reached (network is unreachable)"),
        (
            "https://huggingface.co",
            "huggingface.co cannot be looked up, since there is no network here or no",
        ),
    ],
)
def test_no_network(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    point_at(address, tmp_path, monkeypatch)
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", "mqf_tui", "models", "search", "tiny"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=200,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"mqf-tui: {why}")
    assert len(done.stderr.splitlines()) == 1


# The disk


def test_a_disk_too_small_is_known_before(hub: LocalHub, tmp_path: Path) -> None:
    hub.add_model(NAME, {**FILES, "model.safetensors": Blob(b"x", claimed_size=10**17)})
    said = refused()
    assert f"{NAME} needs 100000.0 TB more" in said
    assert "HF_HUB_CACHE" in said
    assert not hub.asked("*/resolve/*")
    assert not (tmp_path / "hf-home").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up(filled: LocalHub, tmp_path: Path) -> None:
    """The file grows on a device of the kernel's that has no room for anything."""
    hub = filled
    hub.fault(LARGE, Fault(cut_after=1000))
    refused()
    (partial,) = partials(tmp_path)
    partial.unlink()
    partial.symlink_to("/dev/full")
    hub.mend()
    assert "is full; make room there, then fetch it again" in refused()
    partial.unlink(missing_ok=True)
    assert contents(fetch()) == FILES


def test_a_cache_that_is_a_file(filled: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "hf-home").mkdir()
    (tmp_path / "hf-home" / "hub").write_text("not a folder")
    said = refused()
    assert "cannot be written" in said
    assert "HF_HUB_CACHE" in said
