"""Scoring only some of the positions: the same numbers, bit for bit, and everything that counts positions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import ChunkFinished, Failed, Finished, Plan, Started, StepScored, Stopped
from mqf_tui.fidelity.pairing import shared_places
from mqf_tui.fidelity.positions import ARRAYS
from mqf_tui.fidelity.rescoring import Rescored
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.library.runs import save_run
from mqf_tui.library.verifying import verify
from mqf_tui.rescoring_api import rescore
from tests import chat_models

LENGTH = 256
ASSISTANT = TextOptions(assistant_only=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_models.chat_model(tmp_path_factory.mktemp("masks") / "model")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_models.chat_file(
        tmp_path_factory.mktemp("chats") / "chats.jsonl", chat_models.conversations(5)
    )


def asked(model: Path, chats: Path, **more: Any) -> KVSettings:
    wanted = {
        "kv_bits": 3,
        "kv_group_size": 32,
        "chunk_length": LENGTH,
        "corpus": str(chats),
        "text": ASSISTANT,
    }
    return KVSettings(str(model), **(wanted | more))


def run(settings: KVSettings | SweepSettings, control: Control | None = None) -> list[Any]:
    sweep = settings if isinstance(settings, SweepSettings) else SweepSettings((settings,))
    return list(api.sweep_events(sweep, control))


def finished(events: list[Any]) -> Finished:
    found = [event for event in events if isinstance(event, Finished)]
    assert found, [event.error for event in events if isinstance(event, Failed)]
    return found[0]


def plan_of(events: list[Any]) -> Plan:
    return next(event.plan for event in events if isinstance(event, Started))


@pytest.fixture(scope="module")
def both(model: Path, chats: Path) -> tuple[list[Any], list[Any]]:
    """The events of the assistant's tokens alone, and of all."""
    return run(asked(model, chats)), run(asked(model, chats, text=TextOptions()))


def test_the_numbers_are_those_without_a_mask(both: tuple[list[Any], list[Any]]) -> None:
    some, whole = (finished(events).positions for events in both)
    assert 0 < len(some) < len(whole)
    places = shared_places(some, whole)
    assert len(places.first) == len(some)
    for name in ARRAYS:
        assert np.array_equal(getattr(some, name), getattr(whole, name)[places.second]), name


def test_scored_is_what_the_assistant_said(both: tuple[list[Any], list[Any]], chats: Path) -> None:
    steps = [event.positions for event in both[0] if isinstance(event, StepScored)]
    text = "".join(step.texts[token] for step in steps for token in step.token.tolist())
    said = [
        message["content"] + "<|eot_id|>"
        for messages in chat_models.conversations(5)
        for message in messages
        if message["role"] == "assistant"
    ]
    assert text == "".join(said)


def test_what_is_planned_is_what_comes(both: tuple[list[Any], list[Any]]) -> None:
    for events in both:
        plan, last = plan_of(events), finished(events)
        steps = [event for event in events if isinstance(event, StepScored)]
        assert all(len(step.positions) for step in steps)
        assert steps[-1].n_positions == plan.n_positions == len(last.positions) == last.report.n_positions
        assert last.report.n_positions_planned == plan.n_positions
        for chunk in range(plan.n_chunks):
            assert plan.positions_of(chunk) == (last.positions.chunk == chunk).sum()
        assert [e.chunk for e in events if isinstance(e, ChunkFinished)] == [*range(plan.n_chunks)]


def test_steps_that_nobody_asks_about_make_no_logits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of a long question come before the answer, and one of silence after it."""
    from tests import makers

    turns = [
        chat_models.turn("user", makers.words(150)),
        chat_models.turn("assistant", "ka lo mi"),
        chat_models.turn("user", makers.words(150, 1)),
    ]
    file = chat_models.chat_file(tmp_path / "one.jsonl", [turns])
    from mqf_tui.fidelity import scoring

    seen: list[int] = []
    reference = scoring.ReferenceStep

    def counted(logits: Any, targets: Any) -> Any:
        seen.append(len(targets))
        return reference(logits, targets)

    monkeypatch.setattr(scoring, "ReferenceStep", counted)
    last = finished(run(asked(model, file, chunk_length=1024)))
    with_answer = np.unique(last.positions.depth // 128)
    assert with_answer[0] >= 2
    assert with_answer[-1] < last.report.corpus.n_tokens // 128
    assert seen == [128] * len(with_answer)


def test_where_only_the_end_or_the_rest_of_a_conversation_counts(model: Path, chats: Path) -> None:
    whole = finished(run(asked(model, chats)))
    for more, first in (({"score_last": 100}, LENGTH - 101), ({"quantize_start": 128}, 128)):
        events = run(asked(model, chats, **more))
        plan, found = plan_of(events), finished(events)
        expected = whole.positions.where(whole.positions.depth >= first)
        for name in ("chunk", "depth", "token"):
            assert np.array_equal(getattr(found.positions, name), getattr(expected, name)), name
        assert np.allclose(found.positions.nll_ref, expected.nll_ref, atol=1e-4)  # the steps are others
        assert plan.n_chunks == len(np.unique(expected.chunk)) == found.report.n_chunks
        assert plan.n_positions == len(expected)


def test_nothing_left_to_score_is_a_sentence_before_weights_are_loaded(model: Path, tmp_path: Path) -> None:
    file = chat_models.chat_file(tmp_path / "short.jsonl", chat_models.conversations(1, 2))
    events = run(asked(model, file, quantize_start=LENGTH - 2))
    error = events[0].error if isinstance(events[0], Failed) else events[-2].error
    assert "has anything to score after its first 254 positions" in str(error)
    assert not any(getattr(event, "what", "") == "loading the weights" for event in events)


@pytest.mark.parametrize(
    ("more", "race", "said"),
    [
        ({"until_sure": True}, False, "--until-sure cannot be used"),
        ({"precision": 0.1, "until_sure": True}, False, "--until-sure and --precision cannot be used"),
        ({}, True, "--race cannot be used"),
    ],
)
def test_what_goes_by_means_of_equal_chunks_is_refused(
    model: Path, chats: Path, more: dict[str, Any], race: bool, said: str
) -> None:
    one = asked(model, chats, **more)
    events = run(SweepSettings((one, replace(one, kv_bits=4)), race=race))
    failed = [event for event in events if isinstance(event, Failed)]
    assert str(failed[0].error).startswith(said)
    assert not any(getattr(event, "what", "") == "loading the weights" for event in events)


def test_chunks_that_are_equal_may_stop_early(model: Path, tmp_path: Path) -> None:
    from tests import makers

    text = makers.text_file(tmp_path / "text.txt", 300)
    settings = asked(model, text, text=TextOptions(), until_sure=True, chunk_length=64, max_chunks=5)
    assert finished(run(settings)).report.stopping is not None


def test_chunks_that_begin_alike_share_it_only_where_the_masks_are_alike(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long system prompt in each conversation, and the same tokens said once by the user."""
    from mqf_tui.fidelity import running
    from tests import makers

    head = chat_models.turn("system", makers.words(60))
    tails = chat_models.conversations(3)
    same = [chat_models.turn("assistant", makers.words(60)), *tails[0]]
    file = chat_models.chat_file(tmp_path / "alike.jsonl", [*([head, *tail] for tail in tails), same, same])
    settings = asked(model, file, chunk_length=512)
    shared = finished(run(settings)).positions

    from mqf_tui.fidelity.prefixes import Sharing

    used: list[Any] = []
    sharing = running.RunningSweep._shared

    def watched(self: Any, chunks: Any, order: Any) -> Any:
        used.append(sharing(self, chunks, order))
        return Sharing()

    monkeypatch.setattr(running.RunningSweep, "_shared", watched)
    alone = finished(run(settings)).positions
    assert used[0].source  # there was something to share
    for name in ARRAYS:
        assert np.array_equal(getattr(shared, name), getattr(alone, name)), name


def test_the_likeliest_tokens_are_those_of_their_positions(both: tuple[list[Any], list[Any]]) -> None:
    some, whole = map(finished, both)
    assert some.tops is not None
    assert whole.tops is not None
    places = shared_places(some.positions, whole.positions)
    compared = 0
    for index in some.tops.index.tolist():
        ours = some.tops.at(index)
        theirs = whole.tops.at(int(places.second[np.flatnonzero(places.first == index)[0]]))
        assert ours is not None
        assert ours[0].ids[0] == some.positions.top1_ref[index]
        assert ours[1].ids[0] == some.positions.top1_quant[index]
        if theirs is not None:
            compared += 1
            for side in (0, 1):
                assert np.array_equal(ours[side].ids, theirs[side].ids)
                assert np.array_equal(ours[side].probs, theirs[side].probs)
    assert compared > 50


def test_a_stopped_measurement_keeps_whole_chunks_and_says_what_is_missing(model: Path, chats: Path) -> None:
    control = Control()
    events: list[Any] = []
    for event in api.sweep_events(SweepSettings((asked(model, chats),)), control):
        events.append(event)
        if isinstance(event, ChunkFinished) and event.chunk == 1:
            control.stop()
    last = next(event for event in events if isinstance(event, Stopped))
    assert last.report is not None
    assert (last.report.n_chunks, last.report.partial) == (2, True)
    n = plan_of(events).n_chunks
    assert any(f"broken off after 2 of {n} chunks" in warning for warning in last.report.warnings)


def test_a_sweep_goes_on_from_its_chunks(model: Path, chats: Path) -> None:
    from mqf_tui.fidelity import engine

    one = asked(model, chats)
    sweep = SweepSettings((one, replace(one, kv_bits=4)))
    facts = api.facts_of(one)
    first = {e.variant: e for e in engine.sweep(sweep, facts, Control()) if isinstance(e, Finished)}
    known = {
        chunk: [first[i].positions.where(first[i].positions.chunk == chunk) for i in (0, 1)]
        for chunk in (0, 1, 3)
    }
    again = {
        e.variant: e for e in engine.sweep(sweep, facts, Control(), known=known) if isinstance(e, Finished)
    }
    for i in (0, 1):
        assert np.array_equal(first[i].positions.kl, again[i].positions.kl)
        assert np.array_equal(first[i].positions.depth, again[i].positions.depth)


def test_a_saved_run_verifies_and_can_be_scored_again(model: Path, chats: Path) -> None:
    done = finished(run(asked(model, chats)))
    saved = save_run(done.report, done.positions, tops=done.tops)
    assert verify(saved.folder).differences == ()
    rows = np.flatnonzero(done.positions.chunk == 2)[[0, 5, -1]]
    depths = [int(done.positions.depth[row]) for row in rows]
    *_, found = rescore(saved, 2, depths, model=str(model), corpus=str(chats))
    assert isinstance(found, Rescored), found
    assert np.array_equal(found.kl, done.positions.kl[rows])
    assert found.tops.index.tolist() == rows.tolist()


def test_the_interval_is_that_of_unequal_clusters(both: tuple[list[Any], list[Any]]) -> None:
    """The clustered standard error written out in plain Python, over chunks of unequal sizes."""
    from scipy import stats

    done = finished(both[0])
    groups: dict[int, list[float]] = {}
    for chunk, kl in zip(done.positions.chunk.tolist(), done.positions.kl.astype(np.float64), strict=True):
        groups.setdefault(chunk, []).append(float(kl))
    assert len({len(group) for group in groups.values()}) > 2
    n, g = sum(map(len, groups.values())), len(groups)
    mean = sum(itertools.chain.from_iterable(groups.values())) / n
    squares = sum(sum(x - mean for x in group) ** 2 for group in groups.values())
    half = float(stats.t.ppf(0.975, g - 1)) * (g / (g - 1) * squares) ** 0.5 / n
    kl = done.report.kl
    assert kl.mean == pytest.approx(mean, rel=1e-9)
    assert kl.ci_high == pytest.approx(mean + half, rel=1e-9)


def test_a_heat_map_shows_where_nothing_was_scored(model: Path, chats: Path) -> None:
    from mqf_tui.reports.heatmap import heatmap, worst_chunks, worst_positions

    found = finished(run(asked(model, chats, text=replace(ASSISTANT, keep_text=True)))).positions
    gaps = 0
    for chunk in worst_chunks(found):
        depths = sorted(found.depth[found.chunk == chunk].tolist())
        gaps += sum(b - a > 1 for a, b in itertools.pairwise(depths))
    assert gaps >= 2
    assert str(heatmap(found)).count("not scored") == gaps
    first = {
        (int(c) + 1, int(d))
        for c, d in zip(found.chunk, found.depth, strict=True)
        if not ((found.chunk == c) & (found.depth == d - 1)).any()
    }
    for place, before, *_ in worst_positions(found):
        chunk, depth = (int(word) for word in place.replace(",", "").split(" / "))
        assert ((chunk, depth) in first) == (before == "")


def test_ranks_score_the_same_positions(both: tuple[list[Any], list[Any]], model: Path, chats: Path) -> None:
    from mqf_tui.scale.hosts import fleet_of

    alone = finished(both[0])
    one = asked(model, chats)
    events = list(api.sweep_events(SweepSettings((one,)), fleet=fleet_of(ranks=2)))
    found = finished(events)
    assert plan_of(events).uneven == plan_of(both[0]).uneven
    for name in ("chunk", "depth", "part", "token", "token_class"):
        assert np.array_equal(getattr(found.positions, name), getattr(alone.positions, name)), name
    assert np.allclose(found.positions.kl, alone.positions.kl, rtol=1e-4, atol=1e-6)
    assert found.report.text_kept is False
    assert found.tops is not None
    assert alone.tops is not None
    assert len(found.tops) == len(alone.tops)


def test_runs_of_other_masks_are_not_paired_and_it_says_why(both: tuple[list[Any], list[Any]]) -> None:
    from mqf_tui.fidelity.pairing import UnpairedError, check_streams, differences

    some, whole = (finished(events).report for events in both)
    check_streams(some, some)
    with pytest.raises(UnpairedError) as caught:
        check_streams(some, whole)
    assert "only what the assistant says against all of the text" in str(caught.value)
    assert "scored of the text: only what the assistant says against all of it" in differences(some, whole)
    strided = whole.model_copy(
        update={"corpus": whole.corpus.model_copy(update={"stride": 17, "token_hash": "0" * 16})}
    )
    with pytest.raises(UnpairedError, match=rf"the stride is another \({LENGTH - 1} against 17\)"):
        check_streams(whole, strided)
    assert f"stride: {LENGTH - 1} against 17" in differences(whole, strided)


def test_every_format_tells_how_the_text_was_cut(both: tuple[list[Any], list[Any]]) -> None:
    import csv
    import io
    import json

    from mqf_tui.reports.formats import render

    report = finished(both[0]).report
    pages = {name: render(name, report) for name in ("md", "html", "card", "json", "csv")}
    for name in ("md", "html"):
        assert "only what the assistant says" in pages[name], name
        assert f"stride {LENGTH - 1}" in pages[name], name
        assert "padded" in pages[name], name
        assert "at the start of each chunk" in pages[name], name
        assert "each document in chunks of its own" in pages[name], name
    assert "assistant_only: true" in pages["card"]
    corpus = json.loads(pages["json"])["corpus"]
    assert corpus["reading"]["assistant_only"] is True
    assert (corpus["stride"], corpus["final_chunk_policy"]) == (LENGTH - 1, "padded")
    (row,) = csv.DictReader(io.StringIO(pages["csv"]))
    assert row["corpus_reading_assistant_only"] == "1"
    assert (row["corpus_stride"], row["corpus_final_chunk_policy"]) == (str(LENGTH - 1), "padded")
    assert row["n_positions_planned"] == str(report.n_positions)
    assert "--assistant-only" in report.command
    assert f"--max-chunks {report.corpus.n_chunks}" in report.command


def test_explore_marks_what_was_not_scored(both: tuple[list[Any], list[Any]]) -> None:
    from mqf_tui.app.exploring.spelling import spelled

    found = finished(both[0]).positions
    text = spelled(found).text(0, len(found))
    gaps = (np.diff(found.chunk) == 0) & (np.diff(found.depth) > 1)
    assert text.count(" … ") == gaps.sum() > 0
    assert " … " not in spelled(finished(both[1]).positions).text(0, len(found))
