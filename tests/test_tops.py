"""The likeliest tokens that are kept: of the right positions, the right ones, and found again on disk."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import load
from mlx_lm.models.cache import KVCache

from mqf_tui import api, cli
from mqf_tui.fidelity import scoring
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, SaveError
from mqf_tui.fidelity.events import Finished, StepScored
from mqf_tui.fidelity.likeliest import likeliest, on_accelerator
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.prefixes import sharing
from mqf_tui.fidelity.scoring import ChunkScorer, Text, boundaries
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread
from mqf_tui.fidelity.tops import Keeper, Likeliest, Tops
from mqf_tui.fidelity.vocabulary import Vocabulary
from mqf_tui.library import tops as files
from mqf_tui.library.runs import list_runs, load_run, save_run
from mqf_tui.library.verifying import verify
from tests import makers
from tests.test_scoring import VOCAB, tiny, uniform

SETTINGS = KVSettings("demo", kv_bits=2, kernel="quantized", chunk_length=272, max_chunks=3)


@pytest.fixture(scope="module")
def finished() -> Finished:
    *_, last = api.events(SETTINGS)
    assert isinstance(last, Finished)
    return last


def hardest(kl: np.ndarray, n: int) -> set[int]:
    """The n places of highest KL, of equal ones the first."""
    return set(sorted(range(len(kl)), key=lambda i: (-float(kl[i]), i))[:n])


def float64(logits: mx.array) -> np.ndarray:
    x = np.array(logits.astype(mx.float32)).astype(np.float64)
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def test_the_worst_positions_and_confident_flips_have_lists(finished: Finished) -> None:
    p, tops = finished.positions, finished.tops
    assert tops is not None
    flips = {i for i in range(len(p)) if p.top1_ref[i] != p.top1_quant[i] and p.prob_ref[i] >= 0.5}
    assert flips
    assert set(tops.index.tolist()) == hardest(p.kl, 200) | flips
    assert (np.diff(tops.index) > 0).all()
    assert (tops.k, tops.left_out) == (10, 0)
    np.testing.assert_array_equal(tops.ids_ref[:, 0], p.top1_ref[tops.index])
    np.testing.assert_array_equal(tops.ids_quant[:, 0], p.top1_quant[tops.index])
    assert {*tops.ids_ref.ravel().tolist(), *tops.ids_quant.ravel().tolist()} == tops.texts.keys()
    place = int(tops.index[7])
    found = tops.at(place)
    assert found is not None
    np.testing.assert_array_equal(found[1].ids, tops.ids_quant[7])
    other = next(i for i in range(len(p)) if i not in tops.index)
    assert tops.at(other) is None
    assert tops.at(10**6) is None


def test_lists_are_those_of_whole_passes_of_mlx_lms_own(finished: Finished, demo_model: Path) -> None:
    """mlx-lm's model with its own caches, a whole chunk at once; softmax and sorting in float64."""
    model, tokenizer, *_ = load(str(demo_model))
    model.set_dtype(mx.float32)
    p, tops = finished.positions, finished.tops
    assert tops is not None
    here = np.flatnonzero(p.chunk[tops.index] == 1)
    assert len(here) > 20
    whole = p.where(p.chunk == 1)
    text = Path(str(demo_model)).parent / "corpus" / "dialogue.txt"  # the part whose turn is second
    ids = tokenizer.encode(text.read_text())[:272]
    assert ids[1:] == whole.token.tolist()
    caches = [KVCache() for _ in model.layers]
    ref = float64(model(mx.array(ids)[None], cache=caches)[0])
    quantized = [KVCache().to_quantized(group_size=64, bits=2) for _ in model.layers]
    quant = float64(model(mx.array(ids)[None], cache=quantized)[0])
    for row in here.tolist():
        depth = int(p.depth[tops.index[row]])
        for log, own_ids, probs, tolerance in (
            (ref, tops.ids_ref[row], tops.probs_ref[row], 1e-3),
            (quant, tops.ids_quant[row], tops.probs_quant[row], 0.03),
        ):
            expected = np.sort(np.exp(log[depth]))[::-1][:10]
            np.testing.assert_allclose(probs, expected, rtol=tolerance, atol=1e-5)
            np.testing.assert_allclose(np.exp(log[depth])[own_ids], probs, rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("width", [7, 300, 40_000])
def test_the_largest_of_rows(width: int) -> None:
    """Both ways to find them give what sorting all of a row gives; of equal ones the lowest id first."""
    rng = np.random.default_rng(width)
    logits = np.round(rng.normal(size=(6, width)) * 3, 1 if width < 1000 else 2).astype(np.float32)
    logits[1, ::2] = -np.inf
    logits[2] = 0.5
    shares = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    total = shares.sum(-1)
    rows = np.array([0, 1, 2, 5])
    order = np.argsort(-logits, axis=-1, kind="stable")
    found = likeliest(mx.array(logits), rows, 12, order[:, 0], 1 / total)
    k = min(12, width)
    np.testing.assert_array_equal(found.ids, order[rows, :k])
    np.testing.assert_allclose(
        found.probs, np.take_along_axis(shares / total[:, None], order, -1)[rows, :k], 1e-5
    )
    assert found.ids.dtype == np.int32
    ids, values = on_accelerator(mx.array(logits), rows, k)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, order, -1)[rows, :k])
    np.testing.assert_array_equal(np.take_along_axis(logits[rows], ids, -1), values)


def stepped(n: int, seed: int) -> Positions:
    """Positions with equal KLs, infinite ones and confident flips among them."""
    made = makers.positions(n // 127 + 1, seed=seed).where(np.arange(n))
    rng = np.random.default_rng(seed)
    kl = np.round(made.kl * 50) / 50
    kl[rng.random(n) < 0.01] = np.inf
    return replace(made, kl=kl.astype(np.float32))


@pytest.mark.parametrize("worst", [1, 20, 1000])
def test_a_keeper_keeps_what_sorting_would(worst: int) -> None:
    """In steps, in chunks that come out of order, and by way of keepers elsewhere."""
    whole = stepped(600, 5)
    flips = np.flatnonzero((whole.top1_ref != whole.top1_quant) & (whole.prob_ref >= 0.5))
    assert len(flips) > 8
    keeper, elsewhere = Keeper(3, worst, 8), [Keeper(3, worst, 8), Keeper(3, worst, 8)]
    for chunk in (1, 0, 2, 3, 4):
        piece = whole.where(whole.chunk == chunk)
        rank = elsewhere[chunk % 2]
        for start in range(0, len(piece), 50):
            step = piece.where(np.arange(start, min(start + 50, len(piece))))
            rows = rank.wanted(step)
            named = (step.chunk * 1000 + step.depth).astype(np.int32)[rows, None] + np.zeros(3, np.int32)
            probs = np.full((len(rows), 3), 0.1, np.float32)
            rank.add(step, rows, Likeliest(named, probs), Likeliest(named + 1, probs))
        keeper.take(piece, rank.of_chunk(chunk))
    tops = keeper.tops(whole, Vocabulary(None))
    assert tops is not None
    best_flips = {int(flips[i]) for i in hardest(whole.kl[flips], 8)}
    expected = hardest(whole.kl, worst) | best_flips
    assert set(tops.index.tolist()) == expected
    np.testing.assert_array_equal(tops.ids_ref[:, 2], (whole.chunk * 1000 + whole.depth)[tops.index])
    np.testing.assert_array_equal(tops.ids_quant, tops.ids_ref + 1)
    assert tops.left_out == len((hardest(whole.kl, 200) | {*flips.tolist()}) - expected)


def test_a_beginning_that_chunks_share_has_its_lists_in_each() -> None:
    model, variants = tiny(64), [uniform(4), uniform(2)]
    tokens = np.random.default_rng(4).integers(0, VOCAB, 170).astype(np.int32)
    other = tokens.copy()
    other[130:] = tokens[130:][::-1]
    end = sharing(np.stack([tokens, other]), [0, 1], boundaries(170, 0, 0, 24)).keep[0]

    def kept(shared: bool) -> list[Tops | None]:
        keepers, found = [Keeper(4), Keeper(4)], [list[Positions](), list[Positions]()]
        prefix = None
        for chunk, ids in enumerate((tokens, other)):
            keep = end if shared and chunk == 0 else 0
            scorer = ChunkScorer(
                *(model, Text(ids, chunk), variants, Control()),
                **{"step_size": 24, "prefix": prefix, "keep": keep, "keepers": keepers},
            )
            for index, positions in scorer:
                found[index].append(positions)
            prefix = scorer.left
        assert (prefix is None) or not shared or end > 100
        return [
            keeper.tops(Positions.concatenate(pieces), Vocabulary(None))
            for keeper, pieces in zip(keepers, found, strict=True)
        ]

    for one, alone in zip(kept(True), kept(False), strict=True):
        assert one is not None
        assert alone is not None
        assert len(alone) >= 200
        for name in ("index", "ids_ref", "probs_ref", "ids_quant", "probs_quant"):
            np.testing.assert_array_equal(getattr(one, name), getattr(alone, name), err_msg=name)


def test_they_are_saved_with_the_run_and_damage_is_told(finished: Finished) -> None:
    run = save_run(finished.report, finished.positions, tops=finished.tops)
    read = load_run(run.id).tops()
    assert read is not None
    assert finished.tops is not None
    for name in ("index", "ids_ref", "probs_ref", "ids_quant", "probs_quant"):
        column = getattr(read, name)
        np.testing.assert_array_equal(column, getattr(finished.tops, name))
        assert column.dtype == getattr(finished.tops, name).dtype
    assert (read.texts, read.left_out) == (finished.tops.texts, 0)
    assert "tops.npz" in json.loads((run.folder / "files.json").read_text())["sha256"]
    assert verify(run.folder).differences == ()
    path = run.folder / "tops.npz"
    whole = path.read_bytes()
    path.write_bytes(files.packed(replace(read, left_out=5)))
    assert any("tops.npz" in line for line in verify(run.folder).differences)
    with pytest.raises(SaveError, match="do not match"):
        run.tops()
    path.write_bytes(whole[:-30])
    with pytest.raises(SaveError, match="cannot be read"):
        run.tops()
    path.unlink()
    assert any("tops.npz is missing" in line for line in verify(run.folder).differences)
    assert run.tops() is None


def changed(tops: Tops, **arrays: Any) -> bytes:
    with np.load(io.BytesIO(files.packed(tops))) as stored:
        columns = {name: stored[name] for name in stored.files} | arrays
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def test_files_that_hold_something_else_are_refused(finished: Finished) -> None:
    tops = finished.tops
    assert tops is not None
    assert len(files.unpacked(changed(tops))) == len(tops)
    for arrays in (
        {"index": tops.index[::-1]},
        {"index": tops.index - 10**6},
        {"index": tops.index.astype(float)},
        {"ids_ref": tops.ids_ref[:, :3]},
        {"ids_quant": tops.ids_quant - 10**6},
        {"ids_quant": tops.ids_quant[0]},
        {"probs_ref": tops.probs_ref + 1},
        {"probs_quant": tops.probs_quant * np.nan},
        {"probs_ref": tops.ids_ref},
        {"texts": np.frombuffer(b"[1]", np.uint8)},
    ):
        with pytest.raises((ValueError, AttributeError)):
            files.unpacked(changed(tops, **arrays))


def test_how_many_is_chosen_and_none_costs_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--chunk-length", "128", "--max-chunks", "2"]
    assert cli.main(["kv", "demo", "--kv-bits", "4", "--keep-top", "3", *small]) == 0
    assert cli.main(["sweep", "demo", "--kv-bits", "4,2", "--keep-top", "0", *small]) == 0
    assert cli.main(["demo", "--kv-bits", "4", "--no-app", *small]) == 0
    usual, none, three = (run for run in list_runs() if run.report.kv_bits == 4)
    tops, ten = three.tops(), usual.tops()
    assert tops is not None
    assert ten is not None
    assert (tops.k, ten.k) == (3, 10)
    np.testing.assert_array_equal(tops.ids_ref, ten.ids_ref[:, :3])
    assert "--keep-top" not in usual.report.command
    assert "--keep-top 3" in three.report.command
    assert none.tops() is None
    assert not (none.folder / "tops.npz").exists()
    assert none.report.kl == three.report.kl
    capsys.readouterr()
    for bad in ("-1", "101"):
        assert cli.main(["kv", "demo", "--keep-top", bad, *small]) == 2
        assert "use 0 (none) to 100" in capsys.readouterr().err
    with pytest.raises(BadSettingError, match="whole number"):
        api.measure_kv_fidelity("demo", keep_top=2.5)  # type: ignore[arg-type]
    with pytest.raises(BadSettingError, match="differ in keep top"):
        SweepSettings((SETTINGS, replace(SETTINGS, kv_bits=4, keep_top=3))).check()


def test_what_was_scored_before_a_break_has_none_and_says_so(finished: Finished) -> None:
    """Positions are put by chunk by chunk to go on from, their lists are not."""
    settings = SweepSettings((SETTINGS,))
    known = {0: [finished.positions.where(finished.positions.chunk == 0)]}
    *_, last, _ = api.sweep_events(settings, known=known)
    assert isinstance(last, Finished)
    assert finished.tops is not None
    assert last.tops is not None
    assert 0 not in last.positions.chunk[last.tops.index]
    lost = np.isin(finished.positions.chunk[finished.tops.index], 0).sum()
    assert last.tops.left_out == lost > 0
    shared = np.intersect1d(last.tops.index, finished.tops.index)
    assert len(shared) == len(finished.tops) - lost


def test_lists_come_only_from_rows_that_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would cost more than the scoring's own reductions."""
    looked: list[int] = []
    real = scoring.likeliest

    def counted(logits: Any, rows: Any, *rest: Any) -> Likeliest:
        looked.append(len(rows))
        return real(logits, rows, *rest)

    monkeypatch.setattr(scoring, "likeliest", counted)
    sweep = SweepSettings(spread(replace(SETTINGS, max_chunks=12), bits=(8,)))
    n = sum(len(e.positions) for e in api.sweep_events(sweep) if isinstance(e, StepScored))
    assert 400 <= sum(looked) < n  # two lists for each row that is looked at
