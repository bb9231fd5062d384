"""What the app says of models on the hub and of downloads, without a screen; its threads without a hub."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from rich.cells import cell_len

from mqf_tui.app.hub_downloads import Downloads, Standing
from mqf_tui.app.hub_searches import Query, Searches
from mqf_tui.app.hub_words import (
    HubRow,
    Taken,
    about_download,
    about_words,
    cells_of,
    columns_for,
    download_text,
    fitting_models,
    memory_bytes,
    nothing_words,
    page_of,
    progress_words,
    query_of,
    room_words,
    rows_of,
    sentence,
    status_words,
)
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.hub.download import Progress
from mqf_tui.library.hub.search import HubModel
from tests.hostile import HOSTILE

GB = 10**9
COLOURS = {"good": "green", "marginal": "yellow", "bad": "red", "bar": "blue"}


def model(name: str = "mlx-community/a-4bit", **changes: object) -> HubModel:
    fields = {
        **{"downloads": 12_345, "likes": 6, "updated": "2026-03-01", "gated": False, "private": False},
        **{"size_bytes": 351_000_000, "here": False},
        **changes,
    }
    return HubModel(name, **fields)  # type: ignore[arg-type]


def progress(**changes: object) -> Progress:
    fields = {
        **{"file": "model.safetensors", "n_files": 7, "files_done": 1, "bytes_done": 150_000_000},
        **{"bytes_total": 350_000_000, "bytes_per_second": 2e7},
        **changes,
    }
    return Progress(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "author", "query"),
    [
        ("  qwen3 4bit ", "mlx-community", Query("qwen3 4bit", "mlx-community")),
        ("qwen", "  ", Query("qwen", None)),
        ("Qwen/Qwen3", "mlx-community", Query("Qwen3", "Qwen")),
        ("Qwen/Qwen3-0.6B@v1.0", "mlx-community", Query("Qwen3-0.6B", "Qwen")),
        ("Qwen/", "mlx-community", Query("", "Qwen")),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "x", Query("Qwen3-0.6B", "Qwen")),
    ],
)
def test_what_is_searched_for(typed: str, author: str, query: Query) -> None:
    assert query_of(typed, author) == query


def test_what_was_found_before_is_narrowed_until_the_answer_is_there() -> None:
    before = tuple(map(model, ("org/Qwen3-4bit", "org/Qwen3-8bit", "other/qwen-4bit")))
    assert [one.name for one in fitting_models(Query("4bit QWEN", "org"), before)] == ["org/Qwen3-4bit"]
    assert len(fitting_models(Query("qwen", None), before)) == 3


def test_a_whole_name_stands_before_the_hits_once() -> None:
    hits = (model("org/a"), model("org/b"))
    assert [row.name for row in rows_of("a", hits, ())] == ["org/a", "org/b"]
    assert [row.name for row in rows_of("ORG/A", hits, ())] == ["org/a", "org/b"]
    assert [row.name for row in rows_of("org/a@dev", hits, ())] == ["org/a@dev", "org/a", "org/b"]
    assert [row.name for row in rows_of("org/", hits, ())] == ["org/a", "org/b"]
    there = Standing("org/b", "finished", folder=Path("x"))
    assert [row.here for row in rows_of("", hits, [there])] == [False, True]


@pytest.mark.parametrize("width", [58, 78, 118, 198])
@pytest.mark.parametrize("unicode", [True, False])
def test_rows_fit_and_keep_what_tells_models_apart(width: int, unicode: bool) -> None:
    long = "mlx-community/" + "many-words-" * 7 + "4bit"
    rows = [HubRow(long, model(long, gated=True, downloads=123_456_789)), HubRow("a/b", model("a/b"))]
    columns = columns_for(width)
    assert 1 + sum(column.width + column.gap for column in columns) <= width + 2  # the last gap may be cut
    for row in rows:
        cells = cells_of(row, columns, unicode)
        assert all(cell_len(words) <= column.width for (words, _), column in zip(cells, columns, strict=True))
    shown = {
        column.name: words
        for column, (words, _) in zip(columns, cells_of(rows[0], columns, unicode), strict=True)
    }
    assert shown["name"].endswith("4bit")
    assert width < 78 or shown["access"] == "gated"
    assert width < 118 or shown["updated"] == "2026-03-01"
    assert len(cells_of(HubRow("x/typed"), columns, unicode)) == 2


def test_progress_in_words() -> None:
    running = Standing("a/b", "running", progress())
    assert progress_words(running) == "file 2 of 7, 150 MB of 350 MB, 20.0 MB/s, 10 s left"
    assert status_words([running, Standing("c/d")], True) == "↓ 42 % b, 1 waiting"
    held = Standing("a/b", "running", progress(waiting="the hub asks to wait 12 s"))
    assert "left" not in progress_words(held)
    assert "held up" in status_words([held], False)
    said = download_text(held, 78, True, COLOURS).plain
    assert "The hub asks to wait 12 s." in said
    assert "42 %" in said
    # Nothing is known yet, all is here but the last file's end, and a hub that tells no sizes.
    assert progress_words(Standing("a/b", "running")) == "asking the hub for its files …"
    assert "file 7 of 7" in progress_words(Standing("a/b", "running", progress(files_done=7)))
    unsized = Standing("a/b", "running", progress(bytes_total=0, bytes_per_second=0.0))
    assert progress_words(unsized) == "file 2 of 7, 150 MB"
    held_at_once = Progress("", 0, 0, 0, 0, 0.0, waiting="the hub asks to wait 8 s")
    assert progress_words(Standing("a/b", "running", held_at_once)) == ""
    assert unsized.share is None
    nearly = Standing("a/b", "running", progress(bytes_done=349_999_999))
    assert " 99 %" in download_text(nearly, 78, True, COLOURS).plain


def test_what_came_of_it_and_what_to_do() -> None:
    def said(s: Standing) -> str:
        return " ".join(download_text(s, 60, True, COLOURS).plain.split())

    assert said(Standing("a/b", "finished", folder=Path("x"))).startswith("✓ a/b")
    assert "cancelled at 42 %; R goes on" in said(Standing("a/b", "cancelled", progress()))
    assert "R begins again" in said(Standing("a/b", "cancelled"))
    failed = said(Standing("a/b", "failed", problem="the hub has no such repository; look at its name"))
    assert "The hub has no such repository; look at its name. R tries again." in failed
    assert sentence("did you mean x?") == "Did you mean x?"


def test_what_a_download_takes() -> None:
    cpu = Device("CPU", True, None, 8 * GB, all_memory_bytes=16 * GB)
    chip = Device("M4", False, None, 12 * GB, all_memory_bytes=16 * GB)
    taken = Taken(4_310_000_000, 4_300_000_000, 4_310_000_000, 120 * GB)
    words = room_words(taken, chip, "mlx-community/x-4bit")
    assert words == "4.3 GB; 120 GB free on disk; needs about 4.7 GB of memory of 16.0 GB"
    # 4 bits, and half a bit for scales and biases of groups of 64, become float32 on a CPU: 32 / 4.5.
    assert memory_bytes(4_500_000, "a/x-4bit", on_cpu=True) == pytest.approx(1.1 * 32e6)
    assert memory_bytes(2_000_000, "a/x", on_cpu=True) == pytest.approx(1.1 * 4e6)
    assert memory_bytes(2_000_000, "a/x-14b-bf16", on_cpu=True) == pytest.approx(1.1 * 4e6)
    begun = room_words(Taken(3 * GB, 2 * GB, GB, 10 * GB), cpu, "a/x")
    assert begun.startswith(
        "3.0 GB, of which 2.0 GB are here already; 10.0 GB free on disk; needs about 4.4 GB"
    )
    assert room_words(Taken(), None, "a/x") == ""
    assert not Taken(3 * GB, 2 * GB, 3 * GB, 2 * GB).fits
    assert Taken(3 * GB, 2 * GB, GB, 2 * GB).fits


def test_a_page_is_that_of_the_hub_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert page_of("a/b") == "https://huggingface.co/a/b"
    assert page_of("a/b@v1") == "https://huggingface.co/a/b/tree/v1"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    assert page_of("a/b") == "http://127.0.0.1:9/a/b"


def test_nothing_found_says_what_may_help() -> None:
    assert "empty the author" in nothing_words(Query("zzz", "me"), "zzz")
    assert "author" not in nothing_words(Query("zzz", None), "zzz")
    assert "Enter downloads it" in nothing_words(Query("b", "a"), "a/b")


def test_nothing_from_outside_drives_the_terminal() -> None:
    text = HOSTILE
    row = HubRow(text, model(text, updated=text))
    columns = columns_for(118)
    shown = "".join(words for words, _ in cells_of(row, columns, True))
    failed = download_text(Standing(text, "failed", problem=text), 78, True, COLOURS).plain
    waiting = download_text(Standing(text, "running", progress(waiting=text)), 78, True, COLOURS).plain
    for words in (
        shown,
        failed,
        waiting,
        about_words(row, page_of("a/b")),
        status_words([Standing(text)], True),
    ):
        assert not any(ord(sign) < 32 and sign != "\n" for sign in words)
        assert not set(words) & {"\x7f", "\x9b", "\u202e", "\u2066", "\u2028"}


def test_one_after_the_other_and_none_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun, together, most = threading.Event(), threading.Event(), 0, 0

    def fetching(name: str, *, on_progress: object, cancelled: object) -> Path:
        nonlocal together, most
        together += 1
        most = max(most, together)
        begun.set()
        go.wait(30)
        together -= 1
        if name == "a/bad":
            raise HubError("it does not come.")
        return Path(name)

    monkeypatch.setattr("mqf_tui.library.hub.download.download_model", fetching)
    downloads = Downloads()
    first, bad, third, last = (downloads.start(name) for name in ("a/1", "a/bad", "a/3", "a/4"))
    assert downloads.start("a/1") is first  # not twice
    begun.wait(30)
    assert [one.standing().state for one in downloads.all] == ["running", "waiting", "waiting", "waiting"]
    last.cancel()
    assert last.standing().state == "cancelled"
    go.set()
    while not third.standing().ended:
        threading.Event().wait(0.01)
    assert [one.standing().state for one in (first, bad, third)] == ["finished", "failed", "finished"]
    assert (bad.standing().problem, most) == ("it does not come.", 1)
    again = downloads.start("a/bad")
    assert again is not bad
    assert [one.name for one in downloads.all] == ["a/1", "a/3", "a/4", "a/bad"]
    downloads.close()
    assert not downloads.alive


def test_only_what_was_typed_last_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begun = threading.Event()

    def searching(
        text: str, author: str | None, limit: int, *, on_waiting, cancelled
    ) -> tuple[HubModel, ...]:
        asked.append(text)
        if text == "slow":
            begun.set()
            while not cancelled():
                threading.Event().wait(0.01)
            raise HubError("given up")
        return (model(f"a/{text}"),)

    monkeypatch.setattr("mqf_tui.library.hub.search.search_hub", searching)
    searches = Searches()
    searches.ask(Query("slow", None))
    begun.wait(30)
    assert searches.busy
    searches.ask(Query("between", None))
    searches.ask(Query("last", None))
    while searches.busy:
        threading.Event().wait(0.01)
    answer = searches.answer
    assert answer is not None
    assert [one.name for one in answer.models] == ["a/last"]
    assert asked[-1] == "last"
    searches.close()


def test_what_to_do_stands_before_where_it_lies() -> None:
    """Two lines of a window are shown, and folders of the hub's cache have long names."""
    here = Standing("mlx-community/tiny-4bit", "finished", folder=Path("/home") / ("deep/" * 60))
    assert "Enter sets it up" in about_download(here)[:76]
