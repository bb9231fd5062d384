"""The Python API on a tiny real model: events in order, and a report that the events themselves bear out."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mqf_tui import FidelityError, Report, measure_kv_fidelity
from mqf_tui import api as engine_api
from mqf_tui.fidelity import errors
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Estimated,
    Event,
    Finished,
    Loading,
    Started,
    StepScored,
    Stopped,
)
from mqf_tui.fidelity.settings import KVSettings
from tests import makers

LENGTH, CHUNKS, STEP = 300, 5, 128


@dataclass(frozen=True)
class Measured:
    """A report, its events, and the numbers of all steps one after another."""

    report: Report
    events: list[Event]

    def column(self, name: str) -> np.ndarray:
        steps = [event.positions for event in self.events if isinstance(event, StepScored)]
        return np.concatenate([getattr(positions, name) for positions in steps])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def tiny(home: Path) -> Path:
    return makers.model_folder(home / "tiny-llama")


@pytest.fixture(scope="module")
def notes(home: Path) -> Path:
    return makers.text_file(home / "notes.txt", 700)


def measured(tiny: Path | str, notes: Path | str, **options: Any) -> Measured:
    events: list[Event] = []
    usual: dict[str, Any] = {"kv_bits": 3, "kv_group_size": 32, "chunk_length": LENGTH, "max_chunks": CHUNKS}
    report = measure_kv_fidelity(tiny, corpus=notes, on_event=events.append, **(usual | options))
    return Measured(report, events)


@pytest.fixture(scope="module")
def stress(tiny: Path, notes: Path) -> Measured:
    return measured(tiny, notes)


@pytest.fixture(scope="module")
def deployment(tiny: Path, notes: Path) -> Measured:
    return measured(tiny, notes, quantize_start=150)


@pytest.mark.parametrize(("which", "start"), [("stress", 0), ("deployment", 150)])
def test_events_come_in_order(which: str, start: int, request: pytest.FixtureRequest) -> None:
    events = request.getfixturevalue(which).events
    kinds = [type(event) for event in events]
    loading = kinds.index(Started)
    assert loading > 0
    assert set(kinds[:loading]) == {Loading, Estimated}
    assert kinds.count(Estimated) == 1
    steps = math.ceil((LENGTH - 1 - start) / STEP)
    assert kinds[loading:] == [Started, *([StepScored] * steps + [ChunkFinished]) * CHUNKS, Finished]
    scored = [event for event in events if isinstance(event, StepScored)]
    assert [(event.chunk, event.step) for event in scored] == [
        (c, s) for c in range(CHUNKS) for s in range(steps)
    ]
    assert [event.n_positions for event in scored] == np.cumsum([len(e.positions) for e in scored]).tolist()
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(scored))
    shares = [e.share for e in events if isinstance(e, Loading) and e.share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    plan = next(event.plan for event in events if isinstance(event, Started))
    assert (plan.n_chunks, plan.n_positions) == (CHUNKS, CHUNKS * (LENGTH - 1 - start))


@pytest.mark.parametrize("which", ["stress", "deployment"])
def test_the_report_is_what_its_events_say(which: str, request: pytest.FixtureRequest) -> None:
    made: Measured = request.getfixturevalue(which)
    report = made.report
    kl = made.column("kl").astype(np.float64)
    chunk, depth = made.column("chunk"), made.column("depth")
    flip = made.column("top1_ref") != made.column("top1_quant")
    assert report.kl.mean == pytest.approx(kl.mean(), rel=1e-9)
    assert report.kl.max == kl.max()
    for name, share in {"median": 50, "p90": 90, "p95": 95, "p99": 99}.items():
        assert getattr(report.kl, name) == pytest.approx(np.percentile(kl, share), rel=1e-9)
    assert report.flip_rate == pytest.approx(np.count_nonzero(flip) / len(flip), rel=1e-12)
    ppl = [float(np.exp(made.column(name).astype(np.float64).mean())) for name in ("nll_ref", "nll_quant")]
    assert [report.perplexity_ref, report.perplexity_quant] == pytest.approx(ppl, rel=1e-9)
    assert report.perplexity_delta == pytest.approx(ppl[1] - ppl[0], rel=1e-6)
    # Chunks of one size: the clustered interval is Student's of the chunk means.
    means = [kl[chunk == c].mean() for c in range(CHUNKS)]
    low, high = stats.t.interval(0.95, CHUNKS - 1, np.mean(means), stats.sem(means))
    assert (report.kl.ci_low, report.kl.ci_high) == pytest.approx((max(low, 0), high), rel=1e-6)
    assert (report.n_positions, report.n_chunks, report.partial) == (len(kl), CHUNKS, False)
    assert sum(bucket.n_positions for bucket in report.kl_by_depth) == len(kl)
    for bucket in report.kl_by_depth:
        here = (depth >= bucket.start) & (depth < bucket.end)
        assert bucket.n_positions == here.sum()
        assert bucket.kl_mean == pytest.approx(kl[here].mean(), rel=1e-9)
        assert bucket.flip_rate == pytest.approx(flip[here].mean(), rel=1e-9)
    assert report.kl.mean > 0.10
    assert report.verdict == "bad"


def test_stress_scores_every_position(stress: Measured) -> None:
    assert stress.report.mode == "stress"
    for c in range(CHUNKS):
        depth = stress.column("depth")[stress.column("chunk") == c]
        np.testing.assert_array_equal(depth, np.arange(LENGTH - 1))


def test_deployment_scores_only_after_the_start(stress: Measured, deployment: Measured) -> None:
    report = deployment.report
    assert (report.mode, report.quantize_start) == ("deployment", 150)
    for c in range(CHUNKS):
        depth = deployment.column("depth")[deployment.column("chunk") == c]
        np.testing.assert_array_equal(depth, np.arange(150, LENGTH - 1))
    assert (report.kl_by_depth[0].start, report.kl_by_depth[-1].end) == (150, LENGTH - 1)
    # The reference does not know of the mode.
    late = stress.column("depth") >= 150
    np.testing.assert_allclose(
        deployment.column("nll_ref"), stress.column("nll_ref")[late], rtol=2e-3, atol=1e-4
    )


def test_the_tokens_are_the_texts_own(stress: Measured, tiny: Path, notes: Path) -> None:
    from tokenizers import Tokenizer

    text = notes.read_text()
    ids = Tokenizer.from_file(str(tiny / "tokenizer.json")).encode(text).ids
    assert len(ids) > LENGTH * CHUNKS
    chunks = np.array(ids[: LENGTH * CHUNKS], dtype="<i4").reshape(CHUNKS, LENGTH)
    np.testing.assert_array_equal(stress.column("token"), chunks[:, 1:].ravel())
    corpus = stress.report.corpus
    assert corpus.token_hash == hashlib.sha256(chunks.tobytes()).hexdigest()[:16]
    assert corpus.content_hash == hashlib.sha256(f"notes.txt\0{text}\0".encode()).hexdigest()[:16]
    assert (corpus.name, corpus.split, corpus.n_tokens) == ("notes.txt", None, LENGTH * CHUNKS)
    assert (corpus.chunk_length, corpus.stride) == (LENGTH, LENGTH)
    assert (corpus.tokenizer_id, corpus.bos_policy) == ("tiny-llama", "none")
    assert (corpus.final_chunk_policy, corpus.normalization) == ("dropped", "none")


def test_the_report_names_what_was_measured(stress: Measured, tiny: Path) -> None:
    from importlib.metadata import version

    report = stress.report
    assert (report.model, report.architecture, report.weights) == ("tiny-llama", "llama", "float32")
    assert (report.kv_bits, report.kv_group_size, report.schema_version) == (3, 32, 3)
    assert (report.versions.mlx, report.versions.mlx_lm) == (version("mlx"), version("mlx-lm"))
    # Keys and values, 2 layers, 1 head of 64; float32, or 3 bits and two float32 a group of 32.
    kv = report.kv_bytes_per_token
    assert kv.reference == kv.reference_measured == 2 * 2 * 64 * 4
    assert kv.variant == kv.variant_measured == 2 * 2 * 64 * (3 / 8 + 2 * 4 / 32)


def test_more_bits_drift_less(tiny: Path, notes: Path) -> None:
    means = [measured(tiny, notes, kv_bits=bits, max_chunks=2).report.kl.mean for bits in (2, 4, 8)]
    assert means[0] > 2 * means[1] > 20 * means[2] > 0


def test_the_same_again_is_the_same(stress: Measured, tiny: Path, notes: Path) -> None:
    again = measured(str(tiny), str(notes))
    for name in ("kl", "nll_ref", "nll_quant"):
        np.testing.assert_allclose(again.column(name), stress.column(name), rtol=1e-3, atol=1e-5)
    assert again.report.model_hash == stress.report.model_hash


def test_nothing_is_saved(stress: Measured, tiny: Path, notes: Path, data_home: Path) -> None:
    measured(tiny, notes, max_chunks=1)
    assert not data_home.exists()


def test_a_stop_gives_a_partial_report(stress: Measured, tiny: Path, notes: Path) -> None:
    control = Control()
    settings = KVSettings(str(tiny), 3, 32, chunk_length=LENGTH, max_chunks=CHUNKS, corpus=str(notes))
    events: list[Event] = []
    for event in engine_api.events(settings, control):
        events.append(event)
        if isinstance(event, StepScored) and (event.chunk, event.step) == (1, 1):
            control.stop()
    last = events[-1]
    assert isinstance(last, Stopped)
    assert last.report is not None
    assert last.report.partial
    assert len(last.positions) == last.report.n_positions == LENGTH - 1 + 2 * STEP
    assert (last.report.n_chunks, last.report.n_chunks_planned) == (2, CHUNKS)
    before = stress.column("kl")[: len(last.positions)]
    np.testing.assert_allclose(last.positions.kl, before, rtol=1e-3, atol=1e-5)


def test_a_stop_while_loading_has_no_report(tiny: Path, notes: Path) -> None:
    control = Control()
    events: list[Event] = []
    for event in engine_api.events(KVSettings(str(tiny), chunk_length=64, corpus=str(notes)), control):
        events.append(event)
        control.stop()
    last = events[-1]
    assert isinstance(last, Stopped)
    assert last.report is None
    assert len(last.positions) == 0


BAD = [
    ({"kv_bits": 7}, errors.BadSettingError),
    ({"kv_group_size": 128}, errors.UnsupportedModelError),
    ({"chunk_length": 2000}, errors.BadSettingError),
    ({"quantize_start": LENGTH - 1}, errors.BadSettingError),
    ({"max_chunks": 0}, errors.BadSettingError),
    ({"corpus": Path("no") / "such.txt"}, errors.BadCorpusError),
    ({"corpus": "x" * 5000}, errors.BadCorpusError),
    ({"corpus": "~no-such-user/x"}, errors.BadCorpusError),
    ({"model": Path("no") / "such" / "model"}, errors.ModelNotFoundError),
    ({"model": "~no-such-user/x"}, errors.ModelNotFoundError),
]


@pytest.mark.parametrize(("changes", "kind"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_raises_a_fidelity_error(
    changes: dict[str, Any], kind: type[FidelityError], tiny: Path, notes: Path
) -> None:
    options = {"model": tiny, "corpus": notes, "chunk_length": LENGTH} | changes
    with pytest.raises(kind):
        measure_kv_fidelity(**options)


def test_a_model_that_attends_to_nothing_gives_no_number(home: Path, notes: Path) -> None:
    folder = makers.model_folder(home / "blind", scale={"o_proj": 0.0})
    events: list[Event] = []
    with pytest.raises(errors.ZeroDriftError, match=r"exactly zero over 126 positions"):
        measure_kv_fidelity(
            folder, kv_bits=2, chunk_length=64, max_chunks=2, corpus=notes, on_event=events.append
        )
    failed = events[-1]
    assert getattr(failed, "report", 0) is None


def test_nan_on_the_way_keeps_the_scored_part(tiny: Path, home: Path, notes: Path) -> None:
    """One token whose embedding overflows: the chunks before it are scored, then the run fails."""
    folder = Path(shutil.copytree(tiny, home / "overflowing"))
    rare = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["Q"]
    makers.spoil_weights(folder, "model.embed_tokens.weight", (rare, 0), math.inf)
    text = notes.read_text()
    corpus = home / "with-q.txt"
    corpus.write_text(text[: len(text) // 2] + " Q " + text[len(text) // 2 :])
    events: list[Event] = []
    with pytest.raises(errors.NotANumberError, match="not-a-number at chunk"):
        measure_kv_fidelity(folder, kv_bits=4, chunk_length=64, corpus=corpus, on_event=events.append)
    report = getattr(events[-1], "report", None)
    scored = sum(len(event.positions) for event in events if isinstance(event, StepScored))
    assert scored > 0
    assert report is not None
    assert (report.partial, report.n_positions) == (True, scored)
    assert math.isfinite(report.kl.mean)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"corpus": None}, {"corpus": b"builtin"}, {"kv_bits": 4.0}, {"max_chunks": 2.5}),
        *({"chunk_length": None}, {"layers": 3}, {"recipe": 3}, {"trust_remote_code": "no"}, {"kv": 4}),
    ],
    ids=str,
)
def test_values_of_the_wrong_kind_are_named(tiny: Path, wrong: dict[str, Any]) -> None:
    from mqf_tui.fidelity.errors import BadSettingError

    with pytest.raises(BadSettingError, match=next(iter(wrong))):
        measure_kv_fidelity(tiny, **wrong)
