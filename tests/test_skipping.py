"""A sweep that goes on without a setting that nobody wants any more; and the texts of each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.fidelity import planning
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Dropped,
    Event,
    Finished,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.model.loading import load_tokenizer
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread
from mqf_tui.fidelity.sweep_summary import sweep_summary
from mqf_tui.fidelity.text.chunking import make_chunks
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.library.spool import Spool
from mqf_tui.library.spooling import Spooling
from mqf_tui.reports.setting_words import notes

BASE = KVSettings("demo", chunk_length=272, max_chunks=3)  # three steps a chunk: 128, 128, 15
THREE = SweepSettings(spread(BASE, bits=(8, 4, 2)), sweep_id="s")


def watched(settings: SweepSettings, control: Control, ask: Any, **options: Any) -> list[Event]:
    """All events; ``ask`` is called with each as it comes."""
    found: list[Event] = []
    for event in api.sweep_events(settings, control, **options):
        found.append(event)
        ask(event)
    return found


def of_kind(events: Sequence[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def whole() -> dict[int, Finished]:
    """The same settings with nothing skipped."""
    control = Control()
    return {one.variant: one for one in of_kind(watched(THREE, control, lambda _: None), Finished)}


def assert_beginning(found: Positions, expected: Positions) -> None:
    """``found`` is the first part of ``expected``, bit for bit."""
    for name in ARRAYS:
        column = getattr(expected, name)[: len(found)]
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


@pytest.mark.parametrize("together", [True, False])
def test_a_skipped_setting_leaves_at_a_step_and_the_others_do_not_notice(
    whole: dict[int, Finished], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not together:  # each with a pass of the reference of its own
        real = planning.plan_memory

        def apart(*args: Any, **options: Any) -> planning.MemoryPlan:
            return replace(real(*args, **options), variants_per_pass=1)

        monkeypatch.setattr(planning, "plan_memory", apart)
    control = Control()

    def ask(event: Event) -> None:
        match event:
            case StepScored(chunk=1, step=0, variant=1):
                control.skip(1)
                control.skip(7)  # there is none such
            case _:
                pass

    events = watched(THREE, control, ask)
    (dropped,) = of_kind(events, Dropped)
    assert (dropped.variant, dropped.chunk, dropped.why) == (1, 1, "skipped")
    after = events[events.index(dropped) :]
    assert not [e for e in after if isinstance(e, StepScored | ChunkFinished) and e.variant == 1]
    ends = {e.variant: e for e in [*of_kind(events, Finished), *of_kind(events, Stopped)]}
    assert [type(ends[i]) for i in range(3)] == [Finished, Stopped, Finished]
    for i in (0, 2):
        assert len(ends[i].positions) == len(whole[i].positions)
        assert_beginning(ends[i].positions, whole[i].positions)
    left = ends[1]
    assert len(left.positions) == 271 + 128  # the chunk before, and the step at which it was skipped
    assert_beginning(left.positions, whole[1].positions)
    assert left.report.partial
    assert left.report.dropped == "skipped"
    assert left.report.kv_bytes_per_token.variant_measured == pytest.approx(
        whole[1].report.kv_bytes_per_token.variant_measured
    )
    assert "its sweep went on without it: skipped" in notes(left.report)
    swept = events[-1]
    assert isinstance(swept, Swept)
    assert not swept.stopped
    assert swept.variant_passes == 3 + 1 + 3
    subjects = [Subject(str(i), e.report, lambda e=e: e.positions) for i, e in sorted(ends.items())]
    summary = sweep_summary(subjects, ended=swept)
    assert not summary.partial
    assert "(dropped: skipped)" in summary.evidence


def test_skipping_all_ends_it_as_stopped() -> None:
    control = Control()

    def ask(event: Event) -> None:
        match event:
            case Started():
                control.skip(2)
            case StepScored(chunk=0, step=1, variant=0):
                control.skip(0)
                control.skip(1)
            case _:
                pass

    events = watched(THREE, control, ask)
    assert [e.variant for e in of_kind(events, Dropped)] == [2, 0, 1]
    ends = of_kind(events, Stopped)
    assert [e.variant for e in ends] == [0, 1, 2]
    assert [len(e.positions) for e in ends] == [256, 128, 0]
    assert ends[2].report is None
    swept = events[-1]
    assert (swept.stopped, swept.error) == (True, None)
    assert not control.stopped


def test_a_single_setting_skipped_before_its_first_logits_is_stopped() -> None:
    """Positions that only fill the caches take as long as others; a skip is seen between them too."""
    control = Control()
    alone = SweepSettings((replace(BASE, score_last=8, kv_bits=4),))
    events = watched(alone, control, lambda e: control.skip(0) if isinstance(e, Started) else None)
    assert [type(e) for e in events[-3:]] == [Dropped, Stopped, Swept]
    assert not of_kind(events, StepScored)


def test_a_sweep_that_is_taken_up_again_goes_on_without_it(
    whole: dict[int, Finished], data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mqf_tui import cli
    from mqf_tui.library.runs import list_runs

    arguments = ["sweep", "demo", "--kv-bits", "8,4,2", "--chunk-length", "272", "--max-chunks", "3"]
    control = Control()
    spool = Spool.create("20260101-000000-abcd", arguments)
    spooling = Spooling(spool, 3)

    def ask(event: Event) -> None:
        spooling.take(event)
        match event:
            case StepScored(chunk=1, step=0, variant=2):
                control.skip(1)
            case ChunkFinished(chunk=1, variant=2):
                control.stop()
            case _:
                pass

    watched(THREE, control, ask)
    assert spooling.problem is None
    assert spool.skipped() == {1}
    known = spool.known(3)
    assert [len(p) for p in known[0]] == [271, 271, 271]
    assert [len(p) for p in known[1]] == [271, 0, 271]  # not the step that it had of it

    seen: list[Event] = []
    real = api.sweep_events

    def told(*args: Any, **options: Any) -> Iterator[Event]:
        for event in real(*args, **options):
            seen.append(event)
            yield event

    monkeypatch.setattr(api, "sweep_events", told)
    assert cli.main(["sweep", "--resume", "last"]) == 0
    assert [(e.variant, e.chunk) for e in of_kind(seen, Dropped)] == [(1, 1)]
    runs = {run.report.kv_bits: run for run in list_runs()}
    assert {bits: run.report.n_positions for bits, run in runs.items()} == {8: 813, 4: 271, 2: 813}
    assert runs[4].report.partial
    for i, bits in enumerate((8, 4, 2)):
        assert_beginning(runs[bits].positions(), whole[i].positions)
    assert list((data_home / "spool").iterdir()) == []


def test_steps_come_with_the_texts_of_their_tokens() -> None:
    """Together they are the text that was scored, as the tokenizer itself gives it back."""
    events = list(api.sweep_events(SweepSettings((replace(BASE, max_chunks=1),))))
    steps = of_kind(events, StepScored)
    spelled = ""
    for step in steps:
        p = step.positions
        assert {*p.token.tolist(), *p.top1_ref.tolist(), *p.top1_quant.tolist()} == p.texts.keys()
        spelled += "".join(p.texts[token] for token in p.token.tolist())
    tokenizer = load_tokenizer(api.facts_of(BASE))
    chunks = make_chunks(read_corpus("builtin"), tokenizer, 272, 1, tokenizer_id="")
    whole = spelled.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert whole == tokenizer.decode(chunks.tokens[0][1:].tolist())
    joined = Positions.concatenate([step.positions for step in steps])
    assert joined.texts == of_kind(events, Finished)[0].positions.texts
