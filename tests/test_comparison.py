"""The difference of two runs against SciPy, brute force and properties."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mqf_tui.fidelity.comparison import Figure, compare, figures, welch
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.pairing import UNKNOWN_MODEL, Subject, UnpairedError, shared_places
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.ranking import rank
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.reports.comparison_report import figures as rows_of
from mqf_tui.reports.comparison_report import to_markdown, verdict_of
from mqf_tui.reports.comparison_schema import Comparison, Pair
from mqf_tui.reports.foreign import llama_cpp
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import ratio
from tests import makers

FIELDS = ("kl", "flips", "nll", "accuracy", "delta_p")


def subject(positions: Positions | None, name: str = "run", **changes: Any) -> Subject:
    n = 0 if positions is None else len(positions)
    return Subject(name, makers.report(**{"n_positions": n} | changes), lambda: positions)


def pair(
    a: Positions | None, b: Positions | None, first: dict | None = None, second: dict | None = None
) -> Pair:
    (found,) = compare([subject(a, "a", **(first or {})), subject(b, "b", **(second or {}))]).pairs
    return found


def moved(run: Positions, seed: int = 8, by: float = 0.01) -> Positions:
    """Another variant at the same positions of the same reference."""
    rng = np.random.default_rng(seed)
    n = len(run)
    nll = run.nll_quant + rng.normal(0, 0.1, n)
    columns: dict[str, Any] = {
        "kl": (run.kl + rng.exponential(by, n)).astype(np.float32),
        "nll_quant": nll.astype(np.float32),
        "delta_p": (run.delta_p + rng.normal(0, 0.01, n)).astype(np.float32),
        "top1_quant": np.where(rng.random(n) < 0.3, run.token, run.top1_ref).astype(np.int32),
    }
    return replace(run, **columns)


def drop_depths(run: Positions, start: int) -> Positions:
    return run.where(run.depth >= start)


def per_position(run: Positions) -> dict[str, np.ndarray]:
    """Each figure of each position, in plain Python loops."""
    n = len(run)
    return {
        "kl": np.array([float(run.kl[i]) for i in range(n)]),
        "flips": np.array([float(run.top1_ref[i] != run.top1_quant[i]) for i in range(n)]),
        "nll": np.array([float(run.nll_quant[i]) for i in range(n)]),
        "accuracy": np.array([float(run.top1_quant[i] == run.token[i]) for i in range(n)]),
        "delta_p": np.array([float(run.delta_p[i]) for i in range(n)]),
    }


@pytest.mark.parametrize("name", FIELDS)
def test_paired_equals_scipys_paired_t_test_of_chunk_means(name: str) -> None:
    """With chunks of one length, the clustered test is the paired t test of the chunks' means."""
    a = makers.positions(n_chunks=7, per_chunk=40, seed=1)
    b = moved(a)
    found = getattr(pair(a, b), name)
    one, two = (per_position(run)[name].reshape(7, 40).mean(axis=1) for run in (a, b))
    expected = stats.ttest_rel(two, one)
    interval = expected.confidence_interval(0.95)
    assert found.value == pytest.approx(two.mean() - one.mean(), rel=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.ci == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert (found.first, found.second) == pytest.approx((one.mean(), two.mean()))


def test_chunks_of_several_lengths_equal_the_formula() -> None:
    a = makers.positions(n_chunks=5, per_chunk=30, seed=4)
    a = a.where(~((a.chunk == 2) & (a.depth > 9)))  # one chunk was broken off
    b = moved(a)
    found = pair(a, b).kl
    delta = [float(y) - float(x) for x, y in zip(a.kl, b.kl, strict=True)]
    mean, n = sum(delta) / len(delta), len(delta)
    sums = [sum(d - mean for d, c in zip(delta, a.chunk, strict=True) if c == g) for g in range(5)]
    error = math.sqrt(5 / 4 * sum(s * s for s in sums)) / n
    half = stats.t.ppf(0.975, 4) * error
    assert found.value == pytest.approx(mean)
    assert found.ci == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, 4))


def test_one_sided_flips_and_correlation() -> None:
    a = makers.positions(n_chunks=4, per_chunk=50, seed=2)
    b = moved(a)
    found = pair(a, b)
    only_a = only_b = both = 0
    for ref, x, y in zip(a.top1_ref, a.top1_quant, b.top1_quant, strict=True):
        only_a += x != ref and y == ref
        only_b += x == ref and y != ref
        both += x != ref and y != ref
    flips = found.one_sided_flips
    assert (flips.first_only, flips.second_only, flips.both) == (only_a, only_b, both)
    assert only_a > 0
    assert only_b > 0
    assert flips.mcnemar_p == pytest.approx(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)
    assert found.kl_correlation == pytest.approx(stats.pearsonr(a.kl.astype(float), b.kl.astype(float))[0])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pairing_equals_brute_force(data: st.DataObject) -> None:
    def places() -> list[tuple[int, int]]:
        cells = st.tuples(st.integers(0, 4), st.integers(0, 5))
        return data.draw(st.lists(cells, unique=True, max_size=20))

    def run(cells: list[tuple[int, int]], other_token: bool) -> Positions:
        made = makers.positions(1, max(1, len(cells))).where(np.arange(len(cells)))
        chunk, depth = (np.array([cell[k] for cell in cells], np.int32) for k in (0, 1))
        token = chunk * 7 + depth * 3
        if other_token and len(token):
            token[-1] += 1
        return replace(made, chunk=chunk, depth=depth, token=token.astype(np.int32))

    one, two = places(), places()
    spoiled = data.draw(st.booleans())
    a, b = run(one, other_token=False), run(two, other_token=spoiled)
    common = {(i, j) for i, x in enumerate(one) for j, y in enumerate(two) if x == y}
    if not common or (spoiled and two[-1] in one):
        with pytest.raises(UnpairedError):
            shared_places(a, b)
        return
    found = shared_places(a, b)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == common


def test_another_order_of_positions_changes_nothing() -> None:
    a = makers.positions(n_chunks=4, per_chunk=20)
    b = moved(a)
    turned = b.where(np.random.default_rng(1).permutation(len(b)))
    one, two = pair(a, turned), pair(a, b)
    assert one.one_sided_flips == two.one_sided_flips
    assert one.kl_correlation == pytest.approx(two.kl_correlation)
    for name in FIELDS:
        x, y = getattr(one, name).model_dump(), getattr(two, name).model_dump()
        assert x.pop("ci") == pytest.approx(y.pop("ci"))
        assert x == pytest.approx(y)


def test_chunks_that_only_one_has_change_nothing() -> None:
    a = makers.positions(n_chunks=6, per_chunk=20)
    b = moved(a)
    short = a.where(a.chunk < 4)
    found = pair(short, b)
    assert found.paired
    assert (found.n_positions, found.n_chunks) == (80, 4)
    alone = pair(short, b.where(b.chunk < 4))
    for name in (*FIELDS, "one_sided_flips", "kl_correlation"):
        assert getattr(found, name) == getattr(alone, name)
    assert any("positions that the other has not" in warning for warning in found.warnings)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(2, 9))
def test_swapping_changes_signs_only(seed: int, n_chunks: int, per_chunk: int) -> None:
    a = makers.positions(n_chunks, per_chunk, seed)
    b = moved(a, seed + 1)
    one, two = pair(a, b), pair(b, a)
    for name in FIELDS:
        x, y = getattr(one, name), getattr(two, name)
        assert x.value == pytest.approx(-y.value, abs=1e-15)
        assert x.ci == pytest.approx((-y.ci[1], -y.ci[0]), abs=1e-12)
        assert x.p == pytest.approx(y.p)
    assert one.one_sided_flips.first_only == two.one_sided_flips.second_only
    assert one.one_sided_flips.mcnemar_p == two.one_sided_flips.mcnemar_p


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 4), st.booleans())
def test_a_run_and_itself_are_the_same(seed: int, n_chunks: int, infinite: bool) -> None:
    run = makers.positions(n_chunks, 12, seed)
    if infinite:
        run = replace(run, kl=np.where(np.arange(len(run)) == 3, np.inf, run.kl).astype(np.float32))
    found = pair(run, run)
    assert found.same
    assert found.paired
    for name in FIELDS:
        assert getattr(found, name).value == 0.0
        assert not getattr(found, name).beyond_error
    assert found.one_sided_flips.first_only == found.one_sided_flips.second_only == 0


def test_one_position_that_differs_is_not_the_same() -> None:
    a = makers.positions(2, 20)
    nll = a.nll_quant.copy()
    nll[7] = np.nextafter(nll[7], np.float32(9))
    assert not pair(a, replace(a, nll_quant=nll)).same


def test_rates_that_agree_everywhere_still_have_an_interval() -> None:
    a = makers.positions(4, 25)
    b = replace(a, kl=a.kl + np.float32(0.1))
    z = stats.norm.ppf(0.975)
    margin = z * z / (100 + z * z)  # Wilson's limit where none of 100 was seen
    assert pair(a, b).flips.ci == pytest.approx((-margin, margin))
    assert pair(a, b).flips.p == 1.0


def test_one_shared_chunk_gives_no_interval() -> None:
    a = makers.positions(1, 30)
    found = pair(a, moved(a))
    assert found.paired
    assert (found.kl.ci, found.kl.p) == (None, None)
    assert found.kl.value != 0
    assert "only one shared chunk: no interval can be given, nor a p value" in found.warnings


def test_infinite_kl() -> None:
    a = makers.positions(3, 20)
    spoiled = replace(a, kl=np.where(np.arange(60) == 3, np.inf, a.kl).astype(np.float32))
    found = pair(a, spoiled)
    assert (found.kl.value, found.kl.ci, found.kl.p) == (np.inf, None, None)
    assert "mean KL is infinite in one run" in found.warnings
    both = pair(spoiled, replace(moved(a), kl=(spoiled.kl + np.float32(0.5))))
    assert both.kl.value == pytest.approx(0.5 * 59 / 60, rel=1e-5)  # infinite in both: no difference there
    assert "mean KL is infinite in both runs" in both.warnings
    assert (
        Comparison.model_validate_json(Comparison(baseline=found.other, pairs=[found]).model_dump_json())
        .pairs[0]
        .kl.value
        == np.inf
    )


def corpus(**changes: Any) -> dict[str, Any]:
    return {"corpus": makers.report_data()["corpus"] | changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            corpus(content_hash="cc" * 8, name="other.txt"),
            r"the corpus is another \(notes.txt .* against other.txt",
        ),
        (corpus(chunk_length=256), r"the chunk length is another \(128 against 256\)"),
        (corpus(bos_policy="once at the start of each part"), "the BOS policy is another"),
        (corpus(join="rows joined by blank lines"), "the way the text is joined is another"),
        (corpus(token_hash="dd" * 8), "the tokenizer is another"),
    ],
)
def test_what_the_reports_say_forbids_pairing(changes: dict, why: str) -> None:
    a = makers.positions(3, 20)
    found = pair(a, moved(a), second=changes)
    assert not found.paired
    assert found.one_sided_flips is None
    assert re.search(why, found.why_unpaired)
    assert found.kl.p is not None


def test_other_tokens_are_not_paired() -> None:
    a = makers.positions(3, 20)
    token = a.token.copy()
    token[[4, 44]] += 1
    found = pair(a, replace(a, token=token))
    assert found.why_unpaired == (
        "the text's own tokens differ at 2 of 60 shared positions, so the text or the tokenizer is another"
    )
    nothing = pair(a, replace(a, chunk=a.chunk + 10))
    assert nothing.why_unpaired == "they share no position"


def test_deployment_pairs_on_common_depths_and_says_that_two_things_differ() -> None:
    a = makers.positions(3, 40)
    b = drop_depths(moved(a), 16)
    found = pair(
        a, b, {"kv_bits": 8}, {"kv_bits": 4, "mode": "deployment", "quantize_start": 16, "cache": "another"}
    )
    assert found.paired
    assert found.n_positions == 3 * 24
    assert found.kl.first == pytest.approx(a.kl[a.depth >= 16].astype(float).mean())
    assert found.differs == [
        "mode: stress against deployment from position 16",
        "cache: QuantizedKVCache of mlx-lm against another",
    ]


@pytest.mark.parametrize("name", FIELDS)
def test_unpaired_equals_scipys_welch_test_of_chunk_means(name: str) -> None:
    a, b = moved(makers.positions(5, 30, seed=3)), moved(makers.positions(9, 30, seed=4))
    found = getattr(pair(a, b, second=corpus(content_hash="ff" * 8)), name)

    def chunk_means(run: Positions) -> np.ndarray:
        values = per_position(run)[name]
        if name == "nll":  # what is added to the reference's
            values = values - run.nll_ref.astype(float)
        if name == "accuracy":
            values = values - (run.top1_ref == run.token)
        return values.reshape(-1, 30).mean(axis=1)

    expected = stats.ttest_ind(chunk_means(b), chunk_means(a), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.value == pytest.approx(chunk_means(b).mean() - chunk_means(a).mean(), abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.ci == pytest.approx((interval.low, interval.high), rel=1e-6)


def reported(run: Positions, **changes: Any) -> Report:
    """A report that knows its positions' figures, as version 2 writes them."""
    found = summarise(run, 128)
    low, high = found.flip_interval
    return makers.report(
        kl=found.kl.model_dump(),
        flip_rate=found.flip_rate,
        flip_ci_low=low,
        flip_ci_high=high,
        flips=found.flips.model_dump(),
        delta_p=found.delta_p.model_dump(),
        perplexity=found.perplexity.model_dump(),
        n_chunks=found.n_chunks,
        **changes,
    )


def test_the_report_alone_gives_the_errors_of_its_positions() -> None:
    run = makers.positions(6, 50, seed=11)
    whole, bare = figures(makers.report(), run), figures(reported(run), None)
    assert whole.keys() == bare.keys()
    for name, figure in whole.items():
        assert bare[name].value == pytest.approx(figure.value, rel=1e-6)
        assert bare[name].error == pytest.approx(figure.error, rel=1e-6)
        assert bare[name].degrees == figure.degrees == 5


def imported(**changes: Any) -> dict[str, Any]:
    return {"origin": {"tool": "llama.cpp", "form": "summary", "file": "log.txt"}} | changes


def test_imports_are_compared_by_their_normal_intervals() -> None:
    kl = {"kl": {"mean": 0.03, "ci_low": 0.03 - 1.96 * 0.002, "ci_high": 0.03 + 1.96 * 0.002}}
    found = pair(None, None, imported(**kl), imported(kl=kl["kl"] | {"mean": 0.03}, flip_rate="nan"))
    assert not found.paired
    assert found.why_unpaired == "run a was imported and has no positions"
    assert found.kl.value == 0
    assert found.kl.ci[1] == pytest.approx(stats.norm.ppf(0.975) * math.hypot(0.002, 0.002), rel=1e-4)
    assert found.flips is None
    assert any("as its tool gives it" in warning for warning in found.warnings)


def test_an_import_without_an_interval_has_a_difference_without_one() -> None:
    a = makers.positions(4, 30)
    found = pair(a, None, second=imported(kl={"mean": 0.5}))
    assert found.kl.value == pytest.approx(0.5 - a.kl.astype(float).mean())
    assert (found.kl.ci, found.kl.p) == (None, None)
    assert any("may be chance" in warning for warning in found.warnings)


@settings(deadline=None)
@given(
    *[st.floats(0, 5), st.floats(0, 5)] * 2,
    st.integers(1, 50),
)
def test_welch_turns_round(x: float, e: float, y: float, f: float, degrees: int) -> None:
    one, two = Figure(x, e, degrees), Figure(y, f, float("inf"))
    there, back = welch(one, two), welch(two, one)
    assert there.value == -back.value
    assert there.p == back.p
    if there.ci is not None:
        assert there.ci == pytest.approx((-back.ci[1], -back.ci[0]))


def test_the_reference_must_be_one() -> None:
    a = makers.positions()

    def check(first: dict, second: dict) -> None:
        compare([subject(a, **first), subject(a, **second)])

    with pytest.raises(BadSettingError, match=r"different reference models.*contents differ \(aa and bb\)"):
        check({"model_hash": "aa"}, {"model_hash": "bb"})
    with pytest.raises(BadSettingError, match="'org/one' and 'org/two': their names differ"):
        check({"model_hash": "", "model": "org/one"}, {"model": "org/two"})
    with pytest.raises(BadSettingError, match="their names differ"):
        check({"model_hash": "", "model": "a/one"}, {"model": "b/one"})
    with pytest.raises(BadSettingError, match="is not known"):
        check({"model_hash": "", "model": UNKNOWN_MODEL}, {"model": "b/one"})
    check({"model": "one"}, {"model": "two"})  # one content under two names
    check({"model_hash": "", "model": "ONE"}, {"model": "b/one"})
    check({"kind": "weights", "variant_model": "q4"}, {"kind": "kv"})
    assert UNKNOWN_MODEL == llama_cpp.UNKNOWN_MODEL


def test_more_bits_that_measure_worse_are_doubted() -> None:
    a = makers.positions(6, 40)
    worse = replace(a, kl=a.kl + np.float32(0.1) + a.kl)
    doubts = pair(a, worse, {"kv_bits": 4}, {"kv_bits": 8}).warnings
    assert any(
        doubt.startswith("8-bit g64 measures worse than 4-bit g64, beyond the error") for doubt in doubts
    )
    turned = pair(worse, a, {"kv_bits": 8}, {"kv_bits": 4}).warnings
    assert any("8-bit g64 measures worse" in doubt for doubt in turned)
    assert not any("worse" in doubt for doubt in pair(a, worse, {"kv_bits": 8}, {"kv_bits": 4}).warnings)
    for one, other, finer in (
        *(("k8v4g64", "4g64", True), ("k8v4g64", "k4v8g64", False), ("k16v4g64", "8g64", False)),
        *(("k16v8g64", "k8v4g64", True), ("5g128", "4g32", False), ("8g128", "4g32", True)),
        *(("8g64", "mxfp4", False), ("6g32", "5g128", True)),
    ):
        said = pair(a, worse, {"kv_format": other}, {"kv_format": one}).warnings
        assert any("measures worse than" in doubt for doubt in said) == finer, (one, other)
    some = {"n_layers": 4, "n_quantized": 2}
    parts = [some | {"recipe": [{"layers": span, "format": "8g64"}]} for span in ("0-1", "2-3")]
    ours = {"kv_bits": 4, "layers": parts[0]}
    for layers, doubted in zip(parts, (True, False), strict=True):
        said = pair(a, worse, ours, {"kv_bits": 8, "layers": layers}).warnings
        assert any("measures worse than" in doubt for doubt in said) == doubted
    rng = np.random.default_rng(2)
    chance = replace(a, kl=a.kl[rng.permutation(len(a))])
    assert not any("worse" in doubt for doubt in pair(a, chance, {"kv_bits": 4}, {"kv_bits": 8}).warnings)


def test_stopping_when_sure_is_named() -> None:
    a = makers.positions(6, 40)
    stopping = {"rule": "verdict", "settled": True, "alpha": 0.05, "n_chunks": 6, "method": "m"}
    found = pair(a, moved(a), {"stopping": stopping})
    assert any("stopped when it was sure" in warning for warning in found.warnings)
    unsettled = pair(a, moved(a), {"stopping": stopping | {"settled": False}})
    assert not any("stopped" in warning for warning in unsettled.warnings)


def test_a_run_compared_with_itself_is_said_to_be_the_same_run() -> None:
    a = makers.positions(6, 40)
    stopping = {"rule": "verdict", "settled": True, "alpha": 0.05, "n_chunks": 6, "method": "m"}
    run = subject(a, stopping=stopping)
    found = compare([run, run])
    assert found.pairs[0].same_run
    assert found.pairs[0].warnings == []
    assert "**1 and 2 are the same run, so there is nothing to compare.**" in to_markdown(found)
    twin = pair(a, a, {"stopping": stopping}, {"stopping": stopping})
    assert twin.same
    assert not twin.same_run


def test_what_did_not_settle_is_never_sure() -> None:
    """Older versions wrote a confidence all the same."""
    a = makers.positions(6, 40)
    sure = {"good": 1.0, "marginal": 0.0, "bad": 0.0}
    stopping = {"rule": "verdict", "settled": False, "alpha": 0.05, "n_chunks": 6, "method": "m"}
    known = {"verdict": "good", "confidence": sure}
    found = compare([subject(a, "a", **known, stopping=stopping), subject(moved(a), "b", **known)])
    assert (found.baseline.sure, found.baseline.settled) == (None, False)
    assert found.pairs[0].other.sure == 1.0
    assert verdict_of(found.baseline) == "good, not settled"


def test_kv_bytes_have_one_basis() -> None:
    kv = {"reference": 1024.0, "variant": 160.0, "number_bytes": 4}
    usual = kv | {"reference_16bit": 512.0, "variant_16bit": 144.0}
    a = makers.positions(3, 20)

    def sides(first: dict[str, Any], second: dict[str, Any]) -> tuple[str | None, list[float | None]]:
        found = compare(
            [subject(a, "a", kv_bytes_per_token=first), subject(a, "b", kv_bytes_per_token=second)]
        )
        return found.kv_basis, [found.baseline.kv_bytes, found.pairs[0].other.kv_bytes]

    assert sides(usual, usual | {"variant_16bit": 272.0}) == ("16-bit", [144.0, 272.0])
    assert sides(usual, kv) == ("as run", [160.0, 160.0])
    markdown = to_markdown(compare([subject(a, "a"), subject(moved(a), "b")]))
    assert "KV bytes per token (16-bit)" in markdown
    assert "144 (3.6× smaller)" in markdown


def test_no_hit_anywhere_is_no_certainty() -> None:
    """Unpaired: two runs that neither flip nor change any answer, and old reports that gave no width."""
    a = makers.positions(4, 25)
    right = replace(a, top1_quant=a.top1_ref)
    found = pair(right, right, second=corpus(content_hash="ff" * 8))
    for d in (found.flips, found.accuracy):
        assert d.value == 0
        assert d.ci is not None
        assert d.ci[0] < 0 < d.ci[1]
    old = {"kl": {"mean": 0.0, "ci_low": 0.0, "ci_high": 0.0}}
    bare = pair(None, None, imported(**old), imported(**old))
    assert (bare.kl.value, bare.kl.ci, bare.kl.p) == (0.0, None, None)


def test_what_differs_nowhere_has_no_interval_of_no_width() -> None:
    a = makers.positions(4, 25)
    b = replace(a, nll_quant=(a.nll_quant + np.float32(0.1)))
    shown = {row[0]: row[4] for row in rows_of(pair(a, b))}
    assert shown["KL mean (nats)"] == "no difference at any position"
    assert shown["flips"].startswith("-3.70 to +3.70")
    assert shown["mean NLL"] != "no difference at any position"


def test_other_thresholds_are_said() -> None:
    a = makers.positions(4, 25)
    own = makers.report_data()["thresholds"] | {"policy": "mine"}
    assert not any("thresholds" in w for w in pair(a, moved(a), second={"thresholds": own}).warnings)
    found = pair(a, moved(a), second={"thresholds": own | {"kl_p99": [0.2, 1.0]}})
    assert "the verdicts were taken from different thresholds (kv-1 against mine)" in found.warnings


def test_an_import_without_an_error_is_not_said_to_have_one() -> None:
    found = pair(None, None, imported(kl={"mean": 0.2}), imported(kl={"mean": 0.3}))
    assert any("has no error of its mean KL, for its tool gives none" in w for w in found.warnings)
    assert not any("as its tool gives it" in w for w in found.warnings)


def test_nothing_is_not_less_than_nothing() -> None:
    assert ratio(-1e-9) == "0.0000"
    assert ratio(-0.00006) == "-0.0001"


def test_long_model_names_are_shortened_in_headings() -> None:
    name = "org/" + "a" * 80 + "-4bit"
    a = makers.positions(2, 20)
    heading = to_markdown(compare([subject(a, model=name), subject(moved(a), "b", model=name)])).split("\n")[
        0
    ]
    assert heading.startswith("### `org/aaa")
    assert heading.endswith("aaa-4bit`: 2 runs compared")
    assert len(heading) < 80


def test_what_stopped_early_is_said_to_have() -> None:
    """The p values suppose that the number of chunks was fixed."""
    rule = {"alpha": 0.05, "n_chunks": 6, "method": "a method", "settled": True}
    a, b = makers.positions(6, 40, seed=1), makers.positions(6, 40, seed=2)
    for changes, early in (
        ({}, False),
        ({"stopping": rule | {"rule": "verdict"}}, True),
        ({"stopping": rule | {"rule": "race"}, "n_chunks_planned": 6}, False),
        ({"stopping": rule | {"rule": "race"}, "n_chunks_planned": 9}, True),
        ({"stopping": rule | {"rule": "race", "settled": False}, "n_chunks_planned": 9}, False),
        ({"stopping": rule | {"rule": "race", "settled": False}, "dropped": "surely worse than x"}, True),
    ):
        said = [pair(a, b, {}, changes).warnings, pair(b, a, changes, {}).warnings]
        said.append(rank([subject(a), subject(b, "other", **changes)]).warnings)
        assert [any("fixed beforehand" in doubt for doubt in found) for found in said] == [early] * 3
