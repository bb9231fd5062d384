"""What the Compare screen shows, without the screen: settings, figures with their tests, places, pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mqf_tui.app import comparing
from mqf_tui.app.comparing import Cell, Compared, Row, explained, figure_rows
from mqf_tui.app.comparing_cells import laid_out
from mqf_tui.app.comparing_frontier import frontier
from mqf_tui.app.comparing_pictures import curves, part_lines, seen, spreads
from mqf_tui.app.comparing_settings import setting_rows
from mqf_tui.app.comparing_words import in_full, summary
from mqf_tui.app.comparing_work import Reading, begun, compared, gap
from mqf_tui.app.tally import HISTOGRAM_EDGES
from mqf_tui.fidelity.bootstrap import REPLICATES, SEED
from mqf_tui.fidelity.comparison_details import beyond_error, details, widest_gap
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.comparison_schema import Difference
from mqf_tui.reports.text import UNKNOWN
from tests import makers
from tests.hostile import HOSTILE, hostile_report

N_CHUNKS, PER_CHUNK = 6, 30


def made(factor: float = 1.0, seed: int = 0) -> Positions:
    """Positions that share chunks, depths and tokens with all others; ``factor`` moves KL and flips."""
    base, rng = makers.positions(N_CHUNKS, PER_CHUNK), np.random.default_rng(seed)
    right = np.arange(len(base)) % 5 < 3
    base = replace(base, top1_ref=np.where(right, base.token, base.top1_ref).astype(np.int32))
    flips = rng.random(len(base)) < 0.2 * factor
    return replace(
        base,
        kl=(base.kl * factor * rng.lognormal(0, 0.3, len(base))).astype(np.float32),
        top1_quant=np.where(flips, (base.top1_ref + 1) % 50, base.top1_ref).astype(np.int32),
        nll_quant=(base.nll_ref + rng.normal(0.1 * factor, 0.1, len(base))).astype(np.float32),
    )


def save(positions: Positions | None = None, **changes: Any) -> SavedRun:
    p = made() if positions is None else positions
    kl = {"mean": float(p.kl.mean(dtype=np.float64)), "p99": float(np.quantile(p.kl, 0.99)), "max": 2.0}
    told = {"n_positions": len(p), "n_chunks": N_CHUNKS, "kl": kl, "flip_rate": float(p.flip.mean())}
    return save_run(makers.report(**(told | changes)), p)


def whole(runs: list[SavedRun], baseline: int = 0) -> Compared:
    *_, last = compared(Reading(runs), baseline)
    return last


def by_name(found: Compared) -> dict[str, Row]:
    return {row.name: row for row in figure_rows(found)}


def chunk_means(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(np.float64).reshape(N_CHUNKS, PER_CHUNK).mean(axis=1)


def test_settings_that_differ_and_all_of_them() -> None:
    text = makers.report_data()["corpus"] | {"content_hash": "cc" * 8}
    versions = makers.report_data()["versions"] | {"mlx": "", "mlx_lm": "0.40"}
    reports = [
        makers.report(),
        makers.report(kv_bits=8, mode="deployment", quantize_start=64, corpus=text),
        makers.report(kv_bits=None, kv_format="k8v4g64", versions=versions, device=""),
    ]
    rows = {row.name: row for row in setting_rows(reports)}
    # What one of them does not know (the mlx of the third, its device) is no difference.
    assert set(rows) == {"bits", "mode", "quantized from", "corpus", "mlx-lm"}
    assert [cell.value for cell in rows["bits"].cells] == ["4", "8", "k8v4g64"]
    assert [cell.value for cell in rows["quantized from"].cells] == [
        "position 0",
        "position 64",
        "position 0",
    ]
    assert [cell.value for cell in rows["corpus"].cells] == [f"notes.txt {h * 4}" for h in ("aa", "cc", "aa")]
    everything = {row.name: row for row in setting_rows(reports, everything=True)}
    assert set(everything) > set(rows) | {"model", "group", "chunks", "device"}
    assert not everything["model"].differs
    assert [cell.value for cell in everything["device"].cells][2] == UNKNOWN


def test_one_thing_under_two_names_does_not_differ() -> None:
    reports = [makers.report(model="org/a"), makers.report(model="/folders/a")]
    assert not setting_rows(reports)
    other = makers.report(model="org/a", model_hash="ff")
    (row,) = setting_rows([reports[0], other])
    assert [cell.value for cell in row.cells] == ["org/a 01234567", "org/a ff"]


@pytest.mark.parametrize("baseline", [0, 1])
def test_every_figure_has_its_difference_from_the_baseline(baseline: int) -> None:
    """Chunks are equally long, so that the clustered test is the paired t test of chunk means."""
    pieces = [made(2.0, 1), made(0.5, 2)]
    found = whole([save(pieces[0]), save(pieces[1], kv_bits=8)], baseline)
    rows, other = by_name(found), 1 - baseline
    a, b = pieces[baseline], pieces[other]
    for name, x, y, unit in (
        ("KL mean", a.kl, b.kl, 1),
        ("flips", a.flip, b.flip, 100),
        ("mean NLL", a.nll_quant, b.nll_quant, 1),
        ("accuracy", a.top1_quant == a.token, b.top1_quant == b.token, 100),
        ("confident flips", a.flip & (a.prob_ref >= 0.5), b.flip & (b.prob_ref >= 0.5), 100),
    ):
        test = stats.ttest_rel(chunk_means(y), chunk_means(x))
        cell = rows[name].cells[other]
        moved = float(cell.difference.split()[0])
        assert moved == pytest.approx(unit * (chunk_means(y) - chunk_means(x)).mean(), rel=0.02, abs=0.01), (
            name
        )
        assert (cell.sign == "beyond") == (test.pvalue < 0.05), name
        low, high = (float(end) for end in cell.interval.removesuffix("pp").split(" to "))
        expected = test.confidence_interval(0.95)
        assert [low, high] == pytest.approx([unit * expected.low, unit * expected.high], rel=0.02, abs=0.01)
        assert not rows[name].cells[baseline].difference
    kl = rows["KL mean"].cells[other]
    assert (kl.word, kl.tone) == (("less", "good") if baseline == 0 else ("more", "bad"))
    perplexities = [math.exp(float(p.nll_quant.mean(dtype=np.float64))) for p in (a, b)]
    moved = float(rows["perplexity"].cells[other].difference)
    assert moved == pytest.approx(perplexities[1] - perplexities[0], abs=0.001)
    assert rows["KL max"].cells[other].word == "the same"
    words = explained(rows["KL mean"], other, baseline)
    assert words.startswith(f"KL mean: {other + 1} has {kl.value}, {baseline + 1} has ")
    assert f"({'95 % interval ' + kl.interval}, {kl.p})" in words
    assert words.endswith("beyond the error")


def test_percentiles_against_redrawn_chunks() -> None:
    """Whole chunks put together again, as often as each was drawn, and NumPy's quantile of that."""
    a, b = made(1.0, 1), made(1.6, 2)
    found = details(a, b)
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(N_CHUNKS - 1, np.full(N_CHUNKS, 1 / N_CHUNKS), REPLICATES)
    rows = [np.repeat(np.arange(N_CHUNKS), counts) for counts in drawn]
    for name, share in (("median", 0.5), ("p95", 0.95), ("p999", 0.999)):
        x, y = (
            np.array([np.quantile(p.kl.astype(np.float64).reshape(N_CHUNKS, -1)[row], share) for row in rows])
            for p in (a, b)
        )
        d = found[name]
        value = np.quantile(b.kl.astype(np.float64), share) - np.quantile(a.kl.astype(np.float64), share)
        assert d.value == pytest.approx(value)
        # Six chunks: as far out as Student's t with 5 degrees of freedom is for the normal distribution.
        tail = round(float(stats.norm.cdf(stats.t.ppf(0.025, N_CHUNKS - 1))), 12)
        low, high = np.quantile(y - x, [tail, 1 - tail], method="inverted_cdf")
        assert d.ci == pytest.approx((min(low, value), max(high, value)))
        assert beyond_error(d) == (not d.ci[0] <= 0 <= d.ci[1])
    assert found["top5"].value == 0


def test_percentiles_of_one_chunk_and_of_infinite_kl() -> None:
    one = makers.positions(1, 40)
    other = replace(one, kl=one.kl * 2)
    found = details(one, other)
    assert found["p99"].ci is None
    assert beyond_error(found["p99"]) is None
    endless = replace(made(), kl=np.where(np.arange(180) % 3 == 0, np.inf, made().kl).astype(np.float32))
    both = details(endless, endless)["p99"]
    assert (both.value, both.ci) == (0.0, (0.0, 0.0))
    assert details(made(), endless)["p99"].value == math.inf


def test_the_widest_gap_by_looking_everywhere() -> None:
    a, b = made(1.0, 1), made(1.3, 2)
    part = b.where(np.flatnonzero((b.chunk >= 2) & (b.depth > 4))[::-1])
    best = max(
        (abs(float(part.kl[j]) - float(a.kl[i])), i, j)
        for i in range(len(a))
        for j in range(len(part))
        if a.chunk[i] == part.chunk[j] and a.depth[i] == part.depth[j]
    )
    found = widest_gap(a, part)
    assert found is not None
    assert (found.first, found.second) == best[1:]
    assert abs(found.value) == pytest.approx(best[0])
    back = widest_gap(part, a)
    assert back == (found.second, found.first, -found.value)
    assert widest_gap(a, a) is None
    endless = replace(b, kl=b.kl.copy())
    endless.kl[7] = np.inf
    assert widest_gap(a, endless) == (7, 7, math.inf)
    assert widest_gap(endless, endless) is None


def test_runs_that_cannot_be_compared_show_what_they_are(tmp_path: Path) -> None:
    bare = makers.report(
        origin={"tool": "llama.cpp", "form": "summary", "file": "a"}, flip_rate="nan", kl={"mean": 0.02}
    )
    text = makers.report_data()["corpus"] | {"content_hash": "ff" * 8, "name": "x.txt"}
    runs = [
        save(made(2.0, 1)),
        save(made(1.0, 2), model="two", model_hash="ff"),
        SavedRun("imported", tmp_path, bare),
        save(made(1.0, 3), corpus=text, partial=True),
    ]
    start = begun(runs, 0)
    assert start.pending
    assert set(start.refused) == {1}
    found = whole(runs)
    rows = by_name(found)
    assert [cell.sign for cell in rows["KL mean"].cells] == ["", "", "untested", "beyond"]
    # Of another text the perplexities mean nothing beside each other; what quantization adds does.
    assert "mean NLL" not in rows
    assert "perplexity" not in rows
    assert rows["ln PPL ratio"].cells[3].difference
    assert "different reference models" in summary(found, 1)
    assert "has no positions" in summary(found, 2)
    assert "the corpus is another" in summary(found, 3)
    assert "beyond the error differ 4. 2 cannot be compared" in summary(found, 0)
    told = dict(in_full(found))
    assert any("4 is partial" in line for line in told["4 against 1"])
    reading = Reading(runs)
    for other, why in ((1, "share"), (2, "no positions"), (3, "share")):
        if other == 2:
            with pytest.raises(FidelityError, match=why):
                gap(reading, 0, other)
    shifted = replace(made(), token=(made().token + 1) % 50)
    with pytest.raises(FidelityError, match="cannot be set side by side"):
        gap(Reading([runs[0], save(shifted)]), 0, 1)


def test_a_run_and_itself_and_damaged_positions() -> None:
    run, damaged = save(), save(made(2.0, 4))
    (damaged.folder / "positions.npz").write_bytes(b"no zip")
    found = whole([run, run, damaged])
    assert by_name(found)["KL mean"].cells[1].word == "the same"
    assert summary(found, 1) == "1 and 2 are the same run, so there is nothing to compare."
    assert len(found.problems) == 1
    assert "cannot be read" in found.problems[0]
    assert "Not paired" in summary(found, 2)
    assert dict(in_full(found))["What could not be read"] == found.problems
    pinned = whole([save(), save(made(2.0, 1)), save(made(3.0, 1))], 2)
    assert "1 (4-bit g64) moves less than 3 (4-bit g64)" in summary(pinned, 0)
    assert any("Only 3 flips at" in line for line in dict(in_full(pinned))["1 against 3"])


@pytest.mark.parametrize("room", [58, 78, 118, 198])
def test_cells_keep_to_their_columns(room: int) -> None:
    found = whole([save(made(2.0, 1)), save(made(1.0, 2), kv_bits=8), save(made(2.1, 3)), save(made(9.0, 4))])
    rows = [*setting_rows(found.reports, everything=True), *figure_rows(found)]
    layout = laid_out(rows, [2, 0, 1, 3], room, unicode=False)
    assert layout.name_width + 2 + 4 * (layout.width + 2) <= room
    for lines, row in zip(layout.rows, rows, strict=True):
        assert max(map(len, lines.name.split("\n"))) <= layout.name_width
        for words, place in zip(lines.cells, [2, 0, 1, 3], strict=True):
            assert max(map(len, words.split("\n"))) <= layout.width
            assert words.count("\n") < lines.height
            flat = "".join(words.split())
            assert flat.startswith("".join(row.cells[place].value.split()))
            assert row.cells[place].difference.removesuffix(" pp").replace(" ", "") in flat
    mean = next(lines for lines in layout.rows if lines.row.name == "KL mean")
    assert "!" in mean.cells[2]
    assert "!" in mean.cells[0] or "~" in mean.cells[0]


def test_pictures_are_of_the_positions_and_the_reports() -> None:
    a = made()
    (one,) = spreads([None, a, None])
    assert one.place == 1
    edges = 10.0**HISTOGRAM_EDGES
    counted = [((a.kl >= lo) & (a.kl < hi)).mean() for lo, hi in pairwise(edges)]
    assert one.shares == pytest.approx(np.array(counted), abs=2 / len(a))
    assert one.shares.sum() == pytest.approx(1)
    first, last = seen([one])
    assert one.shares[:first].sum() + one.shares[last + 1 :].sum() < 0.05
    bare = makers.report(kl_by_depth=[], by_part=[])
    (curve,) = curves([bare, makers.report()])
    assert curve.place == 1
    assert [(p.x, p.kl) for p in curve.points] == [(32.0, 0.01), (95.5, 0.037)]
    lines = part_lines([bare, makers.report(), hostile_report(HOSTILE)])
    assert [line.name for line in lines[:2]] == ["prose", "code"]
    assert not {"\x1b", "\u202e", "\n"} & set(lines[2].name)
    assert lines[1].means[1].kl == 0.03


def test_the_frontier_of_all_runs_measured_alike() -> None:
    kv = makers.report_data()["kv_bytes_per_token"]

    def run(size: float, mean: float, **changes: Any) -> SavedRun:
        kl = makers.report_data()["kl"] | {"mean": mean, "ci_low": mean * 0.99, "ci_high": mean * 1.01}
        report = makers.report(kl=kl, kv_bytes_per_token=kv | {"variant_16bit": size}, **changes)
        return save_run(report, makers.positions())

    chosen = [run(100, 0.2, kv_bits=4), run(200, 0.01, kv_bits=8), run(150, 0.9, kv_bits=6)]
    run(50, 0.5, kv_bits=2)
    run(120, 0.3, kv_bits=5, kv_group_size=32)
    text = makers.report_data()["corpus"] | {"content_hash": "ff" * 8}
    run(40, 0.1, kv_bits=2, corpus=text)
    run(30, 0.1, kv_bits=3, partial=True)
    run(20, 0.1, kv_bits=3, model="two", model_hash="ff")
    found = frontier(chosen, 0)
    points = {p.bytes: (p.kl, p.frontier, p.marked) for p in found.points}
    assert points == {
        100: (0.2, True, True),
        200: (0.01, True, True),
        150: (0.9, False, True),
        50: (0.5, True, False),
        120: (0.3, False, False),
    }
    assert [r.report.kl.mean for r in found.runs] == [p.kl for p in found.points]
    assert found.limits == (0.01, 0.1)
    assert "5 runs of this model over notes.txt; 2 other runs are partial" in found.words


def test_hostile_words_are_inert() -> None:
    reports = [hostile_report(HOSTILE), hostile_report(f"x{HOSTILE}")]
    rows = setting_rows(reports, everything=True)
    said = "".join(cell.value for row in rows for cell in row.cells)
    assert not {"\x1b", "\u202e", "\x07", "\n"} & set(said)


@pytest.mark.parametrize(
    ("value", "harm", "word", "tone"),
    [(0.2, 1, "up", "bad"), (-0.2, 1, "down", "good"), (0.2, -1, "up", "good"), (-0.2, -1, "down", "bad")],
)
def test_what_is_worse_depends_on_the_figure(value: float, harm: int, word: str, tone: str) -> None:
    d = Difference(first=1.0, second=1.0 + value, value=value, ci=(value - 0.1, value + 0.1), p=0.01)
    cell = comparing.tested(d, "1.2", str, harm, ("up", "down"))
    assert (cell.sign, cell.word, cell.tone) == ("beyond", word, tone)
    unsure = comparing.tested(d.model_copy(update={"p": 0.06}), "1.2", str, harm, ("up", "down"))
    assert (unsure.sign, unsure.word, unsure.tone) == ("within", "within error", "plain")


def test_a_cell_without_an_error_is_not_tested() -> None:
    cell = Cell("1")
    assert explained(Row("x", (cell, cell)), 1, 0) == "x: 2 has 1"
    assert beyond_error(Difference(first=0.0, second=1.0, value=1.0)) is None
