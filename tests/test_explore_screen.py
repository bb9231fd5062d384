"""The Explore screen, walked by keyboard: what it shows is what the run's own positions say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.explore import ExploreScreen
from mqf_tui.app.tops import TopsRequest
from mqf_tui.app.widgets.token_details import TokenDetails
from mqf_tui.app.widgets.token_text import TokenText
from mqf_tui.app.widgets.top_tokens import TopTokens
from mqf_tui.cli import main
from mqf_tui.fidelity.errors import MeasurementError
from mqf_tui.fidelity.events import Stopped
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.tops import Tops
from mqf_tui.library.runs import SavedRun, list_runs, save_run
from mqf_tui.reports.token_text import named
from tests import makers
from tests.hostile import HOSTILE

EXTRA = (
    "\n",
    "\n\n",
    "漢字",
    "e\u0301",
    "\t",
    "\udce5",
    "\udcad",
    "\udc97",
    " " * 40,
    HOSTILE,
    *HOSTILE[:12],
)


def made(factor: float = 1.0) -> Positions:
    """Of 6 chunks of 40: some tokens are hostile; the worst and the flips are known."""
    found = makers.positions(6, 40)
    rng = np.random.default_rng(11)
    kl = np.sort(rng.lognormal(-4, 1, len(found)))[rng.permutation(len(found))] * factor
    token = np.where(
        rng.random(len(found)) < 0.4, rng.integers(1000, 1000 + len(EXTRA), len(found)), found.token
    )
    texts = {**found.texts, **{1000 + i: text for i, text in enumerate(EXTRA)}}
    return replace(found, kl=kl.astype(np.float32), token=token.astype(np.int32), texts=texts)


def save(positions: Positions | None, **changes: Any) -> SavedRun:
    return save_run(makers.report(**changes), positions)


@asynccontextmanager
async def opened(
    run: SavedRun,
    rival: SavedRun | None = None,
    position: int | None = None,
    size: tuple[int, int] = (80, 24),
) -> AsyncIterator[tuple[Pilot[None], ExploreScreen]]:
    app = MqfTuiApp()
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            app.explore(run, rival, position)
            await settled(pilot)
            screen = app.screen
            assert isinstance(screen, ExploreScreen)
            yield pilot, screen
    finally:
        await asyncio.to_thread(app.bridge.close)


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        await pilot.pause(0.05)
    raise AssertionError("it never came")


def details(screen: ExploreScreen) -> str:
    return str(screen.query_one(TokenDetails).query_one(Static).render())


def lists(screen: ExploreScreen) -> str:
    return screen.query_one(TopTokens).render().plain


def legend(screen: ExploreScreen) -> str:
    return str(screen.query_one("#explore-legend", Static).render())


def rows(screen: ExploreScreen) -> list[str]:
    text = screen.query_one(TokenText)
    return [text.render_line(y).text for y in range(text.size.height)]


def said(pilot: Pilot[None]) -> list[str]:
    return [str(note.message) for note in pilot.app._notifications]


async def test_walking_by_keyboard() -> None:
    p = made()
    run = save(p)
    worst = np.argsort(-p.kl, kind="stable")
    flips = np.flatnonzero(p.top1_ref != p.top1_quant)
    sure = np.flatnonzero((p.top1_ref != p.top1_quant) & (p.prob_ref >= 0.5))
    assert len(flips) > 2
    assert len(sure) > 1
    async with opened(run) as (pilot, screen):
        text = screen.query_one(TokenText)

        async def at(keys: str, place: int) -> None:
            await pilot.press(*keys.split())
            await pilot.pause()
            assert text.cursor == place, keys
            chunk, depth = int(p.chunk[place]), int(p.depth[place])
            assert f"{place + 1} of 240 · chunk {chunk + 1}, depth {depth} · part" in details(screen)
            assert any(row.startswith("▶") for row in rows(screen)), "the cursor is out of sight"

        assert "240 positions" in legend(screen)
        await at("right l right", 3)
        await at("left h", 1)
        await at("right_square_bracket right_square_bracket", 80)
        await at("right left_square_bracket", 80)
        await at("left_square_bracket", 40)
        await at("G", 239)
        await at("right", 239)
        await at("g", 0)
        await at("left", 0)
        await at("w", int(worst[0]))
        await at("w w", int(worst[2]))
        await at("W", int(worst[1]))
        assert "KL" in details(screen)
        await at("home n", int(flips[flips > 0][0]))
        await at("n", int(flips[flips > 0][1]))
        await at("N", int(flips[flips > 0][0]))
        await at("end F", int(sure[sure < 239][-1]))
        await at("home f", int(sure[sure > 0][0]))
        assert "confident flip" in details(screen)
        await at("number_sign 1 2 3 enter", 122)
        await at("number_sign 9 9 9 enter", 122)
        assert said(pilot) == ["Positions are numbered from 1 to 240."]
        # In a burst, as over a slow line: each key goes where it would go alone.
        for key in ("number_sign", "1", "1", "0", "enter", "right", "right"):
            pilot.app.post_message(events.Key(key, None))
        await pilot.pause()
        await until(pilot, lambda: text.cursor == 111)
        # Line by line, over the rules between chunks: down to the last row and up again to the first.
        await pilot.press("home", "j")
        seen = [0, text.cursor]
        while seen[-1] != seen[-2]:
            text.action_down()
            seen.append(text.cursor)
        assert seen[:-1] == sorted(set(seen))
        await pilot.pause()
        assert [row for row in rows(screen) if row.strip()][-1].startswith("▶")
        for _ in seen:
            text.action_up()
        await pilot.pause()
        assert [row.startswith("▶") for row in rows(screen)[:2]] == [False, True]
        place = text.cursor
        await pilot.press("ctrl+d")
        assert text.cursor > place + 20
        await pilot.press("pageup")
        assert text.cursor <= place


async def test_filter_colour_and_sizes() -> None:
    p = made()
    run = save(p)
    kept = np.flatnonzero(p.kl > 0.05)
    async with opened(run, position=int(kept[3])) as (pilot, screen):
        text = screen.query_one(TokenText)
        assert text.cursor == kept[3]
        await pilot.press("slash", *"kl", "greater_than_sign", *"0.05", "enter", "home", "n")
        await pilot.pause()
        assert f"{len(kept)} of 240 positions" in legend(screen)
        both = [i for i in kept.tolist() if p.top1_ref[i] != p.top1_quant[i]]
        assert text.cursor == both[0]
        await pilot.press("slash", "x")
        await pilot.pause()
        assert "'0.05x' is no number" in str(screen.query_one("#explore-filter .said", Static).render())
        assert f"{len(kept)} of 240 positions" in legend(screen)  # what was understood stays
        await pilot.press("escape")
        await pilot.pause()
        assert screen.focused is text
        assert "240 positions" in legend(screen)
        assert not screen.query_one("#explore-filter").display
        titles = [legend(screen).split()[0]]
        for _ in range(4):
            await pilot.press("v")
            await pilot.pause()
            titles.append(legend(screen).split()[0])
        assert titles == ["KL", "Δp", "entropy", "flips", "KL"]
        for columns, height in ((200, 60), (60, 20), (80, 24)):
            await pilot.resize_terminal(columns, height)
            await pilot.press("z", "w")
            await pilot.pause()
            assert any(row.startswith("▶") for row in rows(screen)), (columns, height)
            assert "KL" in details(screen)
            panel = screen.query_one(TokenDetails).region
            assert (panel.x > 0) == (columns >= 116)
        # A click on a token goes there: the first of some row that can be seen.
        await pilot.press("home")
        await pilot.pause()
        place = text._layout_found.place_at(text.scroll_offset.y + 2, 0) if text._layout_found else None
        assert await pilot.click(TokenText, offset=(2, 2))
        assert text.cursor == place
        assert not any(c in "".join(rows(screen)) for c in "\x1b\x07\u202e\x00")
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is not screen


async def test_two_runs_and_lists_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    p = made()
    q = replace(p, kl=p.kl[::-1].copy(), top1_quant=p.top1_ref)
    one, two = save(p), save(q, kv_bits=8)
    difference = q.kl.astype(float) - p.kl.astype(float)
    order = np.argsort(-np.abs(difference), kind="stable")
    async with opened(one) as (pilot, screen):
        text = screen.query_one(TokenText)
        await pilot.press("d")  # there is no second run yet
        assert text.cursor == 0
        await pilot.press("c")
        await settled(pilot)
        assert pilot.app.screen.query_one(OptionList).option_count == 1
        await pilot.press("enter")
        await settled(pilot)
        assert legend(screen).startswith("KL 2 − 1")
        await pilot.press("d", "d")
        await pilot.pause()
        place = int(order[1])
        assert text.cursor == place
        assert "1: 4-bit g64" in lists(screen)
        assert "2: 8-bit g64" in lists(screen)
        await pilot.press("x")
        await pilot.pause()
        assert text.cursor == place
        assert "1: 8-bit g64" in lists(screen)
        asked: list[TopsRequest] = []

        def tops(run: SavedRun, chunk: int, depths: list[int], k: int = 10) -> TopsRequest:
            asked.append(TopsRequest(run, chunk, depths, k))
            return asked[-1]

        monkeypatch.setattr(pilot.app.bridge, "tops", tops)  # type: ignore[attr-defined]
        await pilot.press("t")
        await pilot.pause()
        assert [request.run.id for request in asked] == [two.id, one.id]
        await pilot.press("c")
        await settled(pilot)
        await pilot.press("enter")  # none: this run alone
        await settled(pilot)
        assert legend(screen).startswith("KL ")

        await pilot.press("t")
        await until(pilot, lambda: "Waits for its turn" in lists(screen))
        assert len(asked) == 2
        request = asked[0]
        assert (request.run.id, request.chunk) == (two.id, int(p.chunk[place]))
        assert int(p.depth[place]) in request.depths
        request.begin()
        await until(pilot, lambda: "Loading the model" in lists(screen))
        request.fail(MeasurementError("the model is not there any more."))
        await until(pilot, lambda: "the model is not there any more." in lists(screen))
        await pilot.press("t")
        await until(pilot, lambda: len(asked) == 3)
        index = np.flatnonzero((p.chunk == request.chunk) & np.isin(p.depth, request.depths))
        ids = np.tile(np.arange(290, 280, -1, dtype=np.int32), (len(index), 1))
        probs = np.tile(np.linspace(0.3, 0.01, 10, dtype=np.float32), (len(index), 1))
        found = Tops(
            index.astype(np.int32), ids, probs, ids[:, ::-1], probs, {i: f" top{i}" for i in range(281, 291)}
        )
        asked[2].begin()
        asked[2].take(replace(Stopped(None, p), tops=found))
        await until(pilot, lambda: "␣top281" in lists(screen))
        assert lists(screen).count("␣top") == 20
        await pilot.press("t")
        await pilot.pause()
        assert len(asked) == 3
        assert said(pilot)[-1].startswith("The likeliest tokens are known already")


async def test_a_measured_run_and_its_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the demo model: saved lists at the worst position, lists of a second scoring elsewhere."""
    assert main(["demo", "--no-app", "--max-chunks", "1"]) == 0
    capsys.readouterr()
    run = list_runs()[0]
    p, saved = run.positions(), run.tops()
    assert saved is not None
    without = int(np.setdiff1d(np.arange(len(p)), saved.index)[-1])

    def said_of(place: int, screen: ExploreScreen) -> bool:
        """Ten rows, the first of them being what the run itself kept as the likeliest of both sides."""
        head, *found = lists(screen).split("\n")
        half = head.index("variant")
        firsts = [named(int(column[place]), p.texts)[:6] for column in (p.top1_ref, p.top1_quant)]
        tens = len([row for row in found if row[:3].strip().isdigit()])
        return tens == 10 and firsts[0] in found[0][:half] and firsts[1] in found[0][half:]

    async with opened(run) as (pilot, screen):
        await pilot.press("w")
        await pilot.pause()
        worst = screen.query_one(TokenText).cursor
        assert worst == int(np.argmax(p.kl))
        assert said_of(worst, screen)
        screen.query_one(TokenText).go(without)
        await pilot.pause()
        assert "only the likeliest token was saved" in lists(screen)
        await pilot.press("t")
        await until(pilot, lambda: said_of(without, screen))
        await pilot.press("y")
        await pilot.pause()
        copied = pilot.app.clipboard
        assert f"{without + 1} of {len(p)} · chunk 1" in copied
        assert all(row.rstrip() in copied for row in lists(screen).split("\n"))


async def test_what_cannot_be_walked_in_is_told() -> None:
    imported = save(None, origin={"tool": "llama.cpp", "form": "log", "file": "kl.txt"})
    async with opened(imported) as (pilot, screen):
        problem = str(screen.query_one("#explore-problem", Static).render())
        assert "was imported from llama.cpp without its positions" in problem
        assert not screen.query_one("#explore-halves").display
        await pilot.press("w", "n", "v", "t", "slash", "c", "x", "z", "number_sign")
        assert pilot.app.screen is screen
        assert not isinstance(screen.focused, Input)
    one, other = save(made()), save(made(), kv_bits=8, model_hash="ff", model="two")
    async with opened(one, other, position=5) as (pilot, screen):
        assert "different reference models" in said(pilot)[0]
        assert screen.query_one(TokenText).cursor == 5
        assert legend(screen).startswith("KL ")


async def test_a_text_of_which_no_words_were_kept_says_so_and_shows_numbers() -> None:
    found = replace(made(), texts={})
    async with opened(save(found, text_kept=False)) as (pilot, screen):
        said = [toast.message for toast in pilot.app._notifications]
        assert any("no words were kept" in words and "--keep-text" in words for words in said)
        first = int(found.token[np.lexsort((found.depth, found.chunk))[0]])
        assert f"#{first}" in "".join(rows(screen))
        assert f"#{first}" in details(screen)
