"""Fetching models from a hub on loopback: what is fetched, where it lies, and going on after a break."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from mqf_tui.fidelity.errors import BadSettingError, CancelledError
from mqf_tui.library.hub import calls as hub_calls
from mqf_tui.library.hub import meter as hub_meter
from mqf_tui.library.hub.download import Progress, download_model
from tests.hub_models import FILES, LARGE, NAME, WEIGHTS, Watched, contents, fetch, partials, refused
from tests.hub_repos import Blob
from tests.hub_server import Fault, LocalHub

SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again comes at once."""
    monkeypatch.setattr(hub_calls, "FIRST_PAUSE", 0.001)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf-home" / "hub"


def test_huggingface_hub_finds_what_was_fetched(hub: LocalHub, home: Path) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

    sha = hub.add_model(NAME, FILES)
    folder = fetch()
    assert contents(folder) == FILES
    assert folder.name == sha
    asked = len(hub.requests)
    assert Path(snapshot_download(NAME, local_files_only=True)) == folder
    scanned = scan_cache_dir(home)
    assert not scanned.warnings
    (repo,) = scanned.repos
    assert (repo.repo_id, repo.nb_files, set(repo.refs)) == (NAME, 4, {"main"})
    # Asked for by its own way, each file is known by its ETag: nothing is fetched a second time.
    for name in FILES:
        assert Path(hf_hub_download(NAME, name)) == folder / name
    files = [one for one in hub.requests[asked:] if "resolve" in one.path or one.at_cdn]
    assert {one.method for one in files} == {"HEAD"}


def test_only_what_a_model_is_loaded_from_is_fetched(hub: LocalHub) -> None:
    more = {
        "model.safetensors.index.json": b"{}",
        "model-00002-of-00002.safetensors": b"b",
        "chat_template.jinja": b"{{ x }}",
        "additional_chat_templates/tools.jinja": b"{{ y }}",
        "tokenizer.model": b"sp",
        "merges.txt": b"a b",
        "LICENSE": b"MIT",
    }
    never = {
        "pytorch_model.bin": b"pickle",
        "model.pt": b"pickle",
        "modeling_tiny.py": b"import os",
        "consolidated.safetensors": b"the same again",
        "tiny.gguf": b"GGUF",
        "original/params.json": b"{}",
        "original/consolidated.00.pth": b"pickle",
        "onnx/config.json": b"{}",
        ".gitattributes": b"*.bin",
        "picture.png": b"png",
    }
    hub.add_model(NAME, {**FILES, **more, **never})
    assert set(contents(fetch())) == {*FILES, *more}
    assert not hub.asked("*.py") + hub.asked("*.bin") + hub.asked("*.pt*") + hub.asked("*.gguf")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "pickle files only, which can run code"),
        ({"config.json": b"{}", "tiny.Q4_K_M.gguf": b"x"}, "GGUF files and no safetensors"),
        ({"config.json": b"{}", "consolidated.safetensors": b"x"}, "none named model"),
        ({"adapter_model.safetensors": b"x"}, "has no config.json"),
        ({"config.json": b"{}", "sub/model.safetensors": b"x"}, "none named model"),
        ({"README.md": b"x", "config.json": b"{}"}, "has no weights in safetensors"),
        ({}, "has no config.json"),
    ],
)
def test_what_is_no_model_is_refused_before_anything_is_fetched(
    hub: LocalHub, home: Path, files: dict[str, bytes | Path | Blob], why: str
) -> None:
    hub.add_model(NAME, files)
    said = refused()
    assert why in said
    assert "mqf-tui models search tiny-4bit" in said
    assert not hub.asked("*/resolve/*")
    assert not home.exists()


def test_a_revision(hub: LocalHub, home: Path) -> None:
    old = hub.add_model(NAME, FILES, tag="v1")
    new = hub.add_model(NAME, {**FILES, "config.json": b'{"new": true}'})
    pull = hub.add_model(NAME, {**FILES, "config.json": b'{"pull": true}'}, revision="refs/pr/1")
    refs = home / "models--mlx-community--tiny-4bit" / "refs"
    assert fetch(f"{NAME}@v1").name == old
    assert (refs / "v1").read_text() == old
    assert not (refs / "main").exists()
    assert fetch().name == new
    assert fetch(f"{NAME}@refs/pr/1").name == pull
    assert fetch(f"{NAME}@{old}").name == old
    assert fetch(f"{NAME}@{old[:8]}").name == old
    assert (fetch() / "config.json").read_bytes() == b'{"new": true}'
    assert {str(f.relative_to(refs)) for f in refs.rglob("*") if f.is_file()} == {"v1", "main", "refs/pr/1"}
    assert len(hub.asked(LARGE)) == 1  # the same weights, whatever revision asks for them


def test_the_newest_revision_is_asked_for_each_time(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    fetch()
    hub.add_model(NAME, {**FILES, "config.json": b'{"second": 2}'})
    assert (fetch() / "config.json").read_bytes() == b'{"second": 2}'


def test_an_impossible_name_is_not_asked_for(hub: LocalHub) -> None:
    with pytest.raises(BadSettingError):
        fetch("../../etc/passwd")
    assert not hub.requests


def test_progress_grows_to_the_end(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_meter, "TELL_SECONDS", 0.0)
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(drip=(60_000, 0.05)))
    watched = Watched()
    watched.fetch()
    planned = [one for one in watched.seen if one.n_files]
    done = [one.bytes_done for one in planned]
    total = sum(len(content) for content in FILES.values() if isinstance(content, bytes))
    assert done == sorted(done)
    assert len({n for n in done if 1000 < n < total}) > 2  # told on the way, not at the ends alone
    assert {(one.n_files, one.bytes_total) for one in planned} == {(4, total)}
    assert planned[0].files_done == 0
    assert (planned[-1].files_done, planned[-1].bytes_done, planned[-1].waiting) == (4, total, "")
    assert max(one.bytes_per_second for one in planned) > 0
    assert [one.file for one in planned][-1] == "model.safetensors"


def test_what_is_here_is_not_fetched_again(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    fetch()
    before = len(hub.requests)
    watched = Watched()
    watched.fetch()
    assert [one.path for one in hub.requests[before:]] == [f"/api/models/{NAME}/revision/main"]
    assert watched.seen[0].bytes_done == watched.seen[0].bytes_total


def _cancelled_at(hub: LocalHub, n_bytes: int) -> None:
    hub.fault(LARGE, Fault(hold_after=n_bytes), times=1)
    watched = Watched(lambda progress: progress.bytes_done >= n_bytes)
    with pytest.raises(CancelledError):
        watched.fetch()


def test_a_cancelled_download_goes_on_where_it_was(hub: LocalHub, home: Path) -> None:
    hub.add_model(NAME, FILES)
    _cancelled_at(hub, 200_000)
    (partial,) = partials(home)
    assert partial.read_bytes() == WEIGHTS[: partial.stat().st_size]
    kept = partial.stat().st_size
    assert kept >= 199_000
    watched = Watched()
    folder = watched.fetch()
    assert contents(folder) == FILES
    assert hub.asked(LARGE)[-1].part == f"bytes={kept}-"
    assert hub.asked(LARGE)[-1].status == 206
    assert watched.seen[0].bytes_done >= kept
    assert "what was fetched before is checked" in watched.waits
    assert not partials(home)


def test_until_the_weights_are_whole_the_revision_before_stays_the_newest(hub: LocalHub, home: Path) -> None:
    old = hub.add_model(NAME, FILES)
    fetch()
    hub.add_model(NAME, {**FILES, "model.safetensors": WEIGHTS[::-1]})
    _cancelled_at(hub, 200_000)
    assert (home / "models--mlx-community--tiny-4bit" / "refs" / "main").read_text() == old


@pytest.mark.parametrize("path", ["/api/models/*", "/*/resolve/*", LARGE])
def test_cancelling_waits_for_no_answer(hub: LocalHub, path: str) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(path, Fault(silent=True))
    with pytest.raises(CancelledError):
        download_model(NAME, on_progress=Watched().tell, cancelled=lambda: bool(hub.asked(path)))
    assert not hub.go.is_set()  # nobody has let the server go


def test_a_cut_connection_is_gone_on_with(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(cut_after=250_000), times=1)
    watched = Watched()
    assert contents(watched.fetch()) == FILES
    first, second = hub.asked(LARGE)
    assert (first.part, second.status) == (None, 206)
    assert second.part is not None
    assert 0 < int(second.part.removeprefix("bytes=").removesuffix("-")) <= 250_000
    assert any("the connection was cut; trying again (2 of 5)" in wait for wait in watched.waits)


def test_cuts_that_bring_something_each_time_are_no_reason_to_give_up(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(cut_after=80_000), times=7)
    assert contents(fetch()) == FILES
    assert len(hub.asked(LARGE)) == 8


@pytest.mark.parametrize("n_bytes", [0, 10])
def test_cuts_that_bring_next_to_nothing_are(hub: LocalHub, home: Path, n_bytes: int) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(cut_after=100_000), times=1)
    hub.fault(LARGE, Fault(cut_after=n_bytes))
    assert "was cut, again and again" in refused()
    assert len(hub.asked(LARGE)) == 5
    (partial,) = partials(home)
    assert partial.stat().st_size > 0
    hub.mend()
    assert contents(fetch()) == FILES
    assert hub.asked(LARGE)[-1].part is not None


def test_a_server_that_knows_no_parts_sends_the_whole(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(cut_after=250_000, ignore_range=True), times=1)
    hub.fault(LARGE, Fault(ignore_range=True))
    watched = Watched()
    assert contents(watched.fetch()) == FILES
    assert max(one.bytes_done for one in watched.seen) == watched.seen[-1].bytes_total


@pytest.mark.parametrize("path", [LARGE, "/api/resolve-cache/*/config.json"])
def test_wrong_bytes_are_thrown_away(hub: LocalHub, home: Path, path: str) -> None:
    """Both kinds of hashes: SHA-256 of large files, git's own of small ones."""
    hub.add_model(NAME, FILES)
    hub.fault(path, Fault(corrupt=True), times=1)
    said = refused()
    assert "its hash differs" in said
    assert Path(path).name in said
    assert not partials(home)
    assert SHA256 not in {file.name for file in home.rglob("*")}
    assert contents(fetch()) == FILES


def test_a_partial_file_of_something_else_is_found_out(hub: LocalHub, home: Path) -> None:
    hub.add_model(NAME, FILES)
    _cancelled_at(hub, 100_000)
    (partial,) = partials(home)
    partial.write_bytes(bytes(50_000))
    assert "its hash differs" in refused()
    assert contents(fetch()) == FILES


def test_a_partial_file_longer_than_the_file_begins_anew(hub: LocalHub, home: Path) -> None:
    hub.add_model(NAME, FILES)
    _cancelled_at(hub, 100_000)
    (partial,) = partials(home)
    partial.write_bytes(WEIGHTS + b"more")
    assert contents(fetch()) == FILES


def test_a_whole_partial_file_needs_no_more_than_its_check(hub: LocalHub, home: Path) -> None:
    hub.add_model(NAME, FILES)
    _cancelled_at(hub, 100_000)
    (partial,) = partials(home)
    partial.write_bytes(WEIGHTS)
    before = len(hub.asked(LARGE))
    assert contents(fetch()) == FILES
    assert len(hub.asked(LARGE)) == before


def test_a_file_that_another_process_fetches_is_waited_for(hub: LocalHub, home: Path) -> None:
    from huggingface_hub.utils import WeakFileLock

    hub.add_model(NAME, FILES)
    fetch()
    blob = next(home.rglob(SHA256))
    blob.unlink()
    busy = "another download of this file is at work"
    lock = home / ".locks" / "models--mlx-community--tiny-4bit" / f"{SHA256}.lock"
    with WeakFileLock(lock):
        watched = Watched(lambda progress: progress.waiting == busy)
        with pytest.raises(CancelledError):
            watched.fetch()
    assert contents(fetch()) == FILES


def test_large_files_come_without_the_token(hub: LocalHub) -> None:
    hub.add_token("hf_secret")
    hub.add_model(NAME, FILES, private=True)
    (Path(_hf_home()) / "token").write_text("hf_secret")
    fetch()
    assert {one.token for one in hub.requests if one.at_cdn} == {None}
    assert {one.token for one in hub.requests if not one.at_cdn} == {"hf_secret"}


def _hf_home() -> str:
    from huggingface_hub import constants

    Path(constants.HF_HOME).mkdir(exist_ok=True)
    return constants.HF_HOME


def test_files_of_any_depth_and_odd_names_stay_inside(hub: LocalHub, tmp_path: Path) -> None:
    odd = {"../../outside.json": b"{}", "/etc/x.json": b"{}", "a\\..\\b.json": b"{}", "..json": b"{}"}
    hub.add_model(NAME, {**FILES, **odd, "x\x1b[31m.json": b"{}"})
    assert set(contents(fetch())) == set(FILES)
    assert not list(tmp_path.rglob("outside.json"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sha": "', '"sha": "../../'),
        (SHA256, "../../../../outside"),
        (f'"{SHA256}"', "17"),
        ('"siblings": [', '"siblings": [1, '),
        ('"siblings"', '"others"'),
        (f'"size": {len(WEIGHTS)}', '"size": -1'),
        (f'"size": {len(WEIGHTS)}', '"size": "many"'),
    ],
)
def test_a_listing_that_leads_elsewhere_is_not_followed(
    hub: LocalHub, home: Path, tmp_path: Path, old: str, new: str
) -> None:
    import json

    sha = hub.add_model(NAME, FILES)
    said = json.dumps(hub.repos["models", NAME].info(sha, blobs=True))
    assert old in said
    spoilt = said.replace(old, new).encode()
    hub.fault("/api/models/*", Fault(200, {"Content-Type": "application/json"}, spoilt))
    assert "it sent no list of files" in refused()
    assert not home.exists()
    assert not list(tmp_path.rglob("outside*"))


def test_progress_is_told_while_nothing_comes(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(hold_after=100_000), times=1)
    held: list[Progress] = []

    def tell(progress: Progress) -> bool:
        if progress.bytes_done >= 100_000:
            held.append(progress)
        if len(held) == 3:
            hub.let_go()
        return False

    assert contents(Watched(tell).fetch()) == FILES


def test_a_disk_that_knows_no_links(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object, target_is_directory: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add_model(NAME, FILES)
    folder = fetch()
    assert contents(folder) == FILES
    assert not any(file.is_symlink() for file in folder.iterdir())
    fetch()
    assert len(hub.asked(LARGE)) == 1
