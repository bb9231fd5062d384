"""A report that warns about itself: each doubt where it is due, with what would help, and none where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui import api
from mqf_tui.fidelity import running
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.doubts import BUSY, ENOUGH_CHUNKS, carrying_half, doubts
from mqf_tui.fidelity.events import Finished, Plan
from mqf_tui.fidelity.load import Counters, Load, read_counters
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.reports.schema import CorpusProvenance, KVBytes, Stopping
from tests import makers


def plan(n_chunks: int = 40, **settings: Any) -> Plan:
    made = KVSettings("a model", **settings)
    return Plan(
        settings=made,
        model="a model",
        architecture="llama",
        corpus=CorpusProvenance(name="notes.txt"),
        n_chunks=n_chunks,
        positions_per_chunk=made.chunk_length - 1,
        device="a device",
        compute="float32 weights",
        cache="a cache",
        kv_bytes=KVBytes(reference=2, variant=1),
        recipe=Recipe.uniform(2, made.quantizers),
        kinds=("full", "full"),
        kernel="quantized",
    )


def with_kl(kl: np.ndarray) -> Positions:
    n = len(kl)
    return replace(makers.positions(1, n), kl=kl.astype(np.float32))


EVEN = makers.positions(4, 500)
ANYTIME = Stopping(rule="verdict", settled=False, alpha=0.05, n_chunks=6, method="a method")


def load(*counters: Counters | None) -> Load:
    """The load over spans between pairs of counters."""
    found = Load(iter(counters).__next__)
    for _ in range(len(counters) // 2):
        found.begin()
        found.end()
    return found


def test_a_sound_measurement_is_not_doubted() -> None:
    quiet = load(Counters(100, 400, 10), Counters(195, 500, 95))
    assert doubts(plan(), EVEN, n_chunks=40, load=quiet) == []


@pytest.mark.parametrize(
    ("settings", "n_chunks", "planned", "says"),
    [
        ({}, 1, 1, ["only one chunk, so no interval", "a longer text or shorter chunks"]),
        ({"max_chunks": 1}, 1, 1, ["only one chunk, so no interval", "--max-chunks"]),
        ({"max_chunks": 3}, 3, 3, ["only 3 chunks", f"score {ENOUGH_CHUNKS} chunks or more (--max-chunks)"]),
        # The limit was 100 and the text gave 3: another limit would not help.
        ({"max_chunks": 100}, 3, 3, ["only 3 chunks", "a longer text or shorter chunks"]),
        ({}, ENOUGH_CHUNKS - 1, ENOUGH_CHUNKS - 1, ["the intervals may be too narrow"]),
        ({"chunk_length": 64}, 40, 40, ["chunks of 64 tokens only", "--chunk-length 512 or more"]),
    ],
)
def test_too_little_text(settings: dict[str, Any], n_chunks: int, planned: int, says: list[str]) -> None:
    (doubt,) = doubts(plan(planned, **settings), EVEN, n_chunks=n_chunks)
    assert all(words in doubt for words in says), doubt


def test_enough_is_enough() -> None:
    assert doubts(plan(ENOUGH_CHUNKS), EVEN, n_chunks=ENOUGH_CHUNKS) == []
    assert doubts(plan(chunk_length=256), EVEN, n_chunks=40) == []


def test_a_measurement_that_was_broken_off() -> None:
    (doubt,) = doubts(plan(60), EVEN, n_chunks=30, partial=True)
    assert "broken off in chunk 30 of 60" in doubt
    assert "let it run to its end" in doubt


def test_a_measurement_that_was_broken_off_between_two_chunks() -> None:
    found = doubts(plan(60, chunk_length=501), EVEN, n_chunks=4, partial=True)
    assert "broken off after 4 of 60 chunks" in found[0]
    one_less = EVEN.where(np.arange(len(EVEN)) < len(EVEN) - 1)
    found = doubts(plan(60, chunk_length=501), one_less, n_chunks=4, partial=True)
    assert "broken off in chunk 4 of 60" in found[0]


def test_an_unsettled_end() -> None:
    made = plan(6, max_chunks=6, until_sure=True)
    doubt, few = doubts(made, EVEN, n_chunks=6, stopping=ANYTIME)
    assert few.startswith("only 6 chunks")
    assert doubt == "6 chunks did not settle the verdict; score more chunks (--max-chunks)"
    precise = ANYTIME.model_copy(update={"rule": "precision", "precision": 0.05})
    by_text = replace(made, settings=replace(made.settings, max_chunks=None))
    doubt, _ = doubts(by_text, EVEN, n_chunks=6, stopping=precise)
    assert "did not settle mean KL to the precision asked for" in doubt
    assert "a longer text" in doubt
    doubt, _ = doubts(by_text, EVEN, n_chunks=6, stopping=precise.model_copy(update={"rule": "both"}))
    assert "did not settle both the verdict and mean KL to the precision asked for" in doubt


def test_what_left_a_race_is_not_told_to_score_more_chunks() -> None:
    raced = ANYTIME.model_copy(update={"rule": "race"})
    (doubt,) = doubts(plan(30), EVEN, n_chunks=6, stopping=raced)
    assert doubt.startswith("it left the race after 6 chunks with its verdict not settled")
    assert "measure it alone" in doubt
    assert doubts(plan(6, max_chunks=6), EVEN, n_chunks=6, stopping=raced) == doubts(
        plan(6, max_chunks=6), EVEN, n_chunks=6, stopping=ANYTIME
    )


def test_few_chunks_that_settled_it_are_enough_for_what_it_looked_at() -> None:
    settled = ANYTIME.model_copy(update={"settled": True})
    (said,) = doubts(plan(60, until_sure=True), EVEN, n_chunks=6, stopping=settled)
    assert said.startswith("stopped after 6 chunks: that supposes a text of one kind")
    assert doubts(plan(60, until_sure=True), EVEN, n_chunks=20, stopping=settled) == []


def test_infinite_kl_is_told_by_count() -> None:
    kl = EVEN.kl.copy()
    kl[[5, 77]] = np.inf
    (doubt,) = doubts(plan(), with_kl(kl), n_chunks=40)
    assert "infinite at 2 positions of 2,000" in doubt
    assert "use more bits" in doubt


def brute_force(kl: np.ndarray) -> int:
    """Take the largest away one by one until half is gone."""
    left, taken, total = sorted(map(float, kl)), 0, sum(map(float, kl))
    gone = 0.0
    while gone < total / 2:
        gone += left.pop()
        taken += 1
    return taken


def test_a_mean_that_rests_on_few_positions() -> None:
    rng = np.random.default_rng(8)
    kl = np.concatenate([rng.uniform(0, 1e-4, 5000), [1.0] * 24])
    rng.shuffle(kl)
    carriers = brute_force(kl)
    assert carriers == 13  # 24 and at most 0.5 in all the rest
    (doubt,) = doubts(plan(), with_kl(kl), n_chunks=40)
    assert "half of the mean rests on 13 positions of 5,024" in doubt
    assert "score more text" in doubt


def test_few_positions_are_no_heavy_tail() -> None:
    assert doubts(plan(), with_kl(np.full(40, 0.01)), n_chunks=40) == []


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=60),
    st.integers(1, 70),
)
def test_the_fewest_positions_that_carry_half(values: list[int], most: int) -> None:
    kl = np.array(values, np.float32)
    wanted = brute_force(kl) if kl.any() else None
    assert carrying_half(kl, most) == (wanted if wanted is not None and wanted <= most else None)


def test_no_half_of_an_infinite_sum() -> None:
    assert carrying_half(np.array([1.0, np.inf], np.float32), 30) is None


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        # Two processors, 10 s: 20 in all, of which 12 were busy and 9 our own.
        ([Counters(50, 100, 5), Counters(62, 120, 14)], 3 / 20),
        ([Counters(0, 0, 0), Counters(8, 10, 2)], 6 / 10),
        # Two spans; what happened between them (a pause) does not count.
        ([Counters(0, 0, 0), Counters(8, 10, 2), Counters(90, 100, 3), Counters(100, 110, 13)], 6 / 20),
        # Counters tick: a span may seem to have been more our own than busy at all.
        ([Counters(0, 0, 0), Counters(1.9, 2, 2.0)], 0.0),
        # Too short to tell; or a system that does not tell.
        ([Counters(0, 0, 0), Counters(0.5, 0.6, 0.1)], None),
        ([None, Counters(8, 10, 2)], None),
        ([Counters(0, 0, 0), None], None),
        ([], None),
    ],
)
def test_the_share_that_others_took(spans: list[Counters | None], share: float | None) -> None:
    assert load(*spans).others == (None if share is None else pytest.approx(share))


def test_a_span_that_is_not_ended_counts_nothing() -> None:
    read = iter([Counters(0, 0, 0), Counters(100, 100, 0), Counters(110, 120, 10)])
    found = Load(read.__next__)
    found.begin()
    found.begin()
    found.end()
    assert found.others == 0.0


def test_a_busy_machine() -> None:
    others = load(Counters(0, 0, 0), Counters(90, 100, 56))
    (doubt,) = doubts(plan(), EVEN, n_chunks=40, load=others)
    assert "other programs took 34% of its processor time" in doubt
    assert "close them" in doubt
    at_the_limit = load(Counters(0, 0, 0), Counters(100 * BUSY, 100, 0))
    assert doubts(plan(), EVEN, n_chunks=40, load=at_the_limit) == []


class Held(Control):
    """Held for a second in its first chunk, or so it says."""

    def wait(self) -> None:
        self.waited = 1.0


@pytest.mark.parametrize(("control", "spans"), [(Control(), 3), (Held(), 2)])
def test_the_engine_looks_once_a_chunk_and_leaves_pauses_out(
    control: Control, spans: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    class Recorded(Load):
        def begin(self) -> None:
            looked.append("begin")
            super().begin()

        def end(self) -> None:
            looked.append("end")
            super().end()

    def read() -> Counters:
        """Ten processor seconds between two looks, seven of them others'."""
        n = float(len(looked))
        return Counters(9 * n, 10 * n, 2 * n)

    monkeypatch.setattr(running, "Load", lambda: Recorded(read))
    folder = makers.model_folder(tmp_path / "tiny-llama")
    corpus = str(makers.text_file(tmp_path / "notes.txt"))
    settings = KVSettings(str(folder), kv_bits=4, chunk_length=300, max_chunks=3, corpus=corpus)
    *_, last = api.events(settings, control)
    assert isinstance(last, Finished)
    assert (looked.count("begin"), looked.count("end")) == (3, spans)
    (busy,) = (doubt for doubt in last.report.warnings if "busy" in doubt)
    assert "other programs took 70% of its processor time" in busy


def test_memory_that_was_short() -> None:
    swapped = load(Counters(0, 0, 0, 10**9), Counters(9, 10, 9, 10**9 + 700_000_000))
    (doubt,) = doubts(plan(), EVEN, n_chunks=40, load=swapped)
    assert "700 MB were swapped out" in doubt
    assert "close other programs or use shorter chunks" in doubt


def test_the_systems_counters_grow_with_what_runs() -> None:
    first = read_counters()
    spent = 0
    while (second := read_counters()) == first:
        spent += sum(range(10_000))
    assert first is not None
    assert second is not None
    assert 0 <= first.busy <= second.busy
    assert first.total <= second.total
    assert first.own < second.own
    assert first.busy <= first.total


def test_what_counts_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    times = psutil.cpu_times()
    fake = times._replace(**dict.fromkeys(times._fields, 0.0))._replace(user=30.0, system=4.0, idle=60.0)
    if "iowait" in times._fields:
        fake = fake._replace(iowait=6.0, steal=2.0, guest=20.0)  # guest time is user time, too
    monkeypatch.setattr(psutil, "cpu_times", lambda: fake)
    found = read_counters()
    assert found is not None
    assert (found.busy, found.total) == ((36.0, 102.0) if "iowait" in times._fields else (34.0, 94.0))


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(psutil, "cpu_times", refuse)
    assert read_counters() is None
