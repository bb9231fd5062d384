"""Plans of memory and time: against what MLX really took, sums worked out by hand, and what is advised."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from mqf_tui import api
from mqf_tui.fidelity import device
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.engine import sweep
from mqf_tui.fidelity.events import Estimated, Finished
from mqf_tui.fidelity.model.facts import ModelFacts, read_facts
from mqf_tui.fidelity.model.loading import load_tokenizer
from mqf_tui.fidelity.planning import MemoryPlan, plan_memory, step_size
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.chunking import make_chunks
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.timing import (
    TimeEstimate,
    estimate_time,
    estimate_words,
    likely_chunks,
    measured_flops,
)
from mqf_tui.library.recent import recent_reports
from mqf_tui.library.runs import save_run
from mqf_tui.reports.schema import Report
from tests.makers import report_data
from tests.test_budget import GB, LLAMA, PER_TOKEN, SHAPE

MB = 10**6
CPU = Device("CPU (test, 2 cores)", True, None, 64 * GB)
GPU = Device("GPU", False, None, 64 * GB)
WORDS = ("8g64", "6g64", "4g64", "3g64", "8g32", "4g32")


def settings(*words: str, model: str = "x", **more: int) -> SweepSettings:
    return SweepSettings(tuple(KVSettings(model, kv=parsed(word), **more) for word in words))  # pyright: ignore[reportArgumentType]


def plan(sweep: SweepSettings, where: Device, free: float = 64 * GB) -> MemoryPlan:
    return plan_memory(LLAMA, sweep, replace(where, memory_bytes=int(free)), shape=SHAPE)


def parts(found: MemoryPlan) -> dict[str, float]:
    return dict(found.parts)


def taken(asked: SweepSettings, facts: ModelFacts) -> float:
    """Bytes that MLX held at most beyond what it held before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    *_, last, _ = sweep(asked, facts, Control())
    assert isinstance(last, Finished)
    return mx.get_peak_memory() - before


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("4g64",), {"chunk_length": 256}),
        (("8g64", "4g64", "k8v4g32"), {"chunk_length": 512}),
        (("4g64",), {"chunk_length": 512, "score_last": 64}),
        (("8g64", "2g64"), {"chunk_length": 512, "quantize_start": 300}),
    ],
    ids=["one", "three", "last", "deployment"],
)
def test_peak_against_a_real_run_of_the_demo(
    demo_model: Path, words: tuple[str, ...], more: dict[str, int]
) -> None:
    facts = read_facts(demo_model, "demo")
    asked = settings(*words, model="demo", max_chunks=1, **more)
    expected = plan_memory(facts, asked, device.prepare())
    assert expected.fits
    assert expected.variants_per_pass == len(words)
    assert taken(asked, facts) == pytest.approx(expected.peak_bytes, rel=0.2)


@pytest.mark.smollm
def test_peak_against_a_real_run_of_smollm2(smollm2: Path) -> None:
    facts = read_facts(smollm2)
    asked = settings("4g64", model=str(smollm2), max_chunks=1, chunk_length=193)
    expected = plan_memory(facts, asked, device.prepare())
    assert taken(asked, facts) == pytest.approx(expected.peak_bytes, rel=0.1)


def test_caches_and_weights_by_hand() -> None:
    found = parts(plan(settings("4g64", "8g64", chunk_length=32768), GPU))
    assert found["weights"] == LLAMA.size_bytes
    assert found["the reference's cache"] == 32768 * PER_TOKEN
    assert found["the variants' caches"] == 32768 * PER_TOKEN / 16 * (4.5 + 8.5)
    # Scores of mlx-lm's quantized attention: heads x step x window, of 16 bits.
    assert found["attention scores"] == 3 * 32 * 128 * 32768 * 2
    cpu = parts(plan(settings("4g64", chunk_length=32768), CPU))
    assert cpu["weights"] == 4 * LLAMA.n_parameters
    assert cpu["the reference's cache"] == 2 * 32768 * PER_TOKEN
    # Scales and biases are float32 there: 5 bits a number with 4-bit groups of 64.
    assert cpu["the variants' caches"] == 32768 * PER_TOKEN / 16 * 5


def test_emulated_variants_hold_full_precision() -> None:
    one = KVSettings("x", kv=parsed("4g64"), kernel="emulated", chunk_length=32768)
    found = parts(plan(SweepSettings((one,)), GPU))
    assert found["the variants' caches"] == found["the reference's cache"]
    assert "attention scores" not in found


def test_recipes_count_layer_by_layer() -> None:
    four = parsed("4g64")
    recipe = Recipe((four,) * 8 + (LayerQuantizers(),) * 24)
    one = KVSettings("x", recipe=recipe, chunk_length=32768)
    found = parts(plan(SweepSettings((one,)), GPU))
    assert found["the variants' caches"] == 32768 * PER_TOKEN / 16 * (4.5 * 8 + 16 * 24) / 32


def test_all_variants_share_one_reference_pass_where_they_fit() -> None:
    found = plan(settings(*WORDS, chunk_length=4096), GPU)
    assert (found.variants_per_pass, found.reference_passes, found.advice) == (6, 1, None)
    assert found.fits


def test_fewer_share_one_where_memory_is_short_and_the_largest_count() -> None:
    asked = settings(*WORDS, chunk_length=32768)
    everything = plan(asked, GPU).need_bytes
    found = plan(asked, GPU, everything / 0.95 - GB)
    assert found.fits
    assert 1 <= found.variants_per_pass < 6
    assert found.reference_passes == -(-6 // found.variants_per_pass)
    assert found.advice is not None
    assert f"{found.variants_per_pass} of 6 settings fit beside one reference pass" in found.advice
    assert f"runs {found.reference_passes} times" in found.advice
    # One more would not have fitted, whichever variants come together.
    more = plan(
        settings(*sorted(WORDS, reverse=True)[: found.variants_per_pass + 1], chunk_length=32768), GPU
    )
    assert more.need_bytes > everything - GB - 0.5 * GB


def test_what_fits_instead_is_named_and_does_fit() -> None:
    asked = settings("4g64", chunk_length=131072)
    found = plan(asked, GPU, 16 * GB)
    assert not found.fits
    assert found.advice is not None
    assert found.advice.startswith("131,072 tokens need about ")
    assert "16.0 GB are free; --chunk-length 32768 fits." in found.advice
    # 4.5 GB of weights; 131,072 bytes a token for the reference, 36,864 for 4 bits; 3.2 GB of scores.
    assert plan(settings("4g64", chunk_length=32768), GPU, 16 * GB).fits
    assert not plan(settings("4g64", chunk_length=65536), GPU, 16 * GB).fits


def test_weights_that_do_not_fit_are_said_to_be_it() -> None:
    found = plan(settings("4g64"), CPU, 16 * GB)
    assert not found.fits
    assert found.advice is not None
    assert "the weights alone take 32.1 GB" in found.advice
    assert "chunk-length" not in found.advice


def test_processes_that_share_a_model_hold_a_share_each() -> None:
    asked, where = settings("4g64", "8g64", chunk_length=32768), replace(GPU, memory_bytes=64 * GB)
    whole = plan(asked, GPU)
    shared = plan_memory(LLAMA, asked, where, shape=SHAPE, n_parts=4)
    held = ("weights", "the reference's cache", "the variants' caches")
    assert sum(parts(shared)[name] for name in held) == sum(parts(whole)[name] for name in held) / 4
    assert shared.step_bytes == whole.step_bytes
    assert shared.step == whole.step


def test_the_users_own_limit_goes_before_what_is_free() -> None:
    asked = replace(settings("4g64", chunk_length=32768), memory_limit=8 * GB)
    found = plan(asked, GPU)
    assert found.limit_bytes == 8 * GB
    assert not found.fits
    assert found.advice is not None
    assert "the limit is 8.0 GB" in found.advice
    more = plan(replace(asked, memory_limit=900 * GB), GPU, 16 * GB)
    assert more.limit_bytes == 16 * GB


@pytest.mark.parametrize(
    ("length", "is_cpu", "step"),
    [(512, False, 128), (32768, False, 128), (131072, False, 64), (131072, True, 128), (1 << 20, False, 16)],
)
def test_steps_are_shorter_only_where_scores_would_be_large(length: int, is_cpu: bool, step: int) -> None:
    assert step_size(LLAMA, length, is_cpu) == step
    asked = settings("4g64", chunk_length=length)
    for free in (8 * GB, 640 * GB):
        assert plan(asked, CPU if is_cpu else GPU, free).step == step


def timed(asked: SweepSettings, n_chunks: int = 10, **more: object) -> TimeEstimate:
    found = plan(asked, CPU, 640 * GB)
    return estimate_time(LLAMA, asked, found, n_chunks, True, shape=SHAPE, **more)  # pyright: ignore[reportArgumentType]


def test_variants_cost_a_pass_each_and_the_reference_one() -> None:
    one, two, six = (timed(settings(*WORDS[:n])).seconds for n in (1, 2, 6))
    assert two - one == pytest.approx((six - one) / 5)
    assert 1.4 < two / one < 1.6  # 3 passes to 2
    assert timed(settings("4g64"), 20).seconds == pytest.approx(2 * one)


def test_products_dominate_short_windows_and_attention_long_ones() -> None:
    short = timed(settings("4g64", chunk_length=512))
    products = 2 * 2 * (LLAMA.n_parameters - 128256 * 4096) * short.n_positions / 100e9
    assert products < short.seconds < 1.5 * products
    per_position = [
        timed(settings("4g64", chunk_length=length)).seconds / length
        for length in (512, 32768, 65536, 131072)
    ]
    assert per_position == sorted(per_position)
    # Where attention is most of it, twice the depth costs near twice as much.
    deep = [b - a for a, b in itertools.pairwise(per_position[1:])]
    assert deep[1] == pytest.approx(2 * deep[0], rel=0.01)


def test_scoring_the_last_positions_saves_the_head_alone() -> None:
    whole = timed(settings("4g64", chunk_length=4096))
    last = timed(settings("4g64", chunk_length=4096, score_last=128))
    assert last.n_positions == 10 * 128
    head = 2 * (2 * 128256 * 4096 / 100e9 + 128256 * 6e-9) * 10 * (4095 - 128)
    assert whole.seconds - last.seconds == pytest.approx(head)


def past(**changes: object) -> Report:
    data = report_data(model_hash=LLAMA.content_hash, seconds=50.0, n_positions=5110)
    data["corpus"]["chunk_length"] = 512
    data |= changes
    data["positions_per_second"] = data["n_positions"] / max(data["seconds"], 1e-9)
    return Report.model_validate(data)


def test_runs_whose_seconds_are_of_a_part_set_no_pace() -> None:
    asked = settings("4g64", chunk_length=512)
    resumed = past().model_copy(update={"positions_per_second": 200.0})
    ranks = past().model_copy(update={"device": f"{past().device}, 2 ranks"})
    assert timed(asked, runs=[resumed, ranks]).basis != "runs"


def test_earlier_runs_of_the_same_model_set_the_pace() -> None:
    asked = settings("4g64", chunk_length=512)
    found = timed(asked, runs=[past()])
    assert found.basis == "runs"
    assert found.n_positions == 5110
    assert found.seconds == pytest.approx(50)  # the same measurement again
    assert found.low < 50 < found.high
    assert timed(asked, runs=[past(seconds=100.0)]).seconds == pytest.approx(100)
    odd = [past(seconds=49.0), past(seconds=900.0), past(), past(seconds=1.0)]
    assert timed(asked, runs=odd).seconds == pytest.approx(50)  # the median of the last three


def test_a_run_of_a_sweep_was_charged_its_share_of_the_reference() -> None:
    alone, asked = 50.0, settings("4g64", chunk_length=512)
    reference = timed(settings(*WORDS[:2], chunk_length=512)).seconds / timed(asked).seconds
    # Two variants beside one reference: each was charged one pass and a half, of two.
    each = alone * reference / 2
    runs = [past(sweep_id="s", seconds=each), past(sweep_id="s", seconds=each, kv_bits=8, kv_format="8g64")]
    assert timed(asked, runs=runs).seconds == pytest.approx(alone)


def test_a_resumed_sweep_counts_each_of_its_variants_once() -> None:
    """What it left when it was stopped, and a run of unknown seconds, are no variants of their own."""
    alone, asked = 50.0, settings("4g64", chunk_length=512)
    reference = timed(settings(*WORDS[:2], chunk_length=512)).seconds / timed(asked).seconds
    each = alone * reference / 2
    eight = {"kv_bits": 8, "kv_format": "8g64"}
    assert past(**eight).setting != past().setting
    whole = [past(sweep_id="s", seconds=each), past(sweep_id="s", seconds=each, **eight)]
    part = {"sweep_id": "s", "seconds": 3 * each, "n_positions": 511, "partial": True}
    left = [past(**part), past(**part, **eight)]
    unknown = past(sweep_id="s", seconds=0.0, kv_bits=6, kv_format="6g64")
    for runs in ([*whole, *left], [*left, *whole], [unknown, *whole]):
        assert timed(asked, runs=runs).seconds == pytest.approx(alone)


def test_who_stays_in_a_race_bears_more_of_the_reference() -> None:
    """10 chunks for one and 5 for the other: the first was charged 5 halves of a pass and 5 whole ones."""
    alone, asked = 50.0, settings("4g64", chunk_length=512)
    two = timed(settings(*WORDS[:2], chunk_length=512)).seconds / timed(asked).seconds * alone
    variant = two - alone
    reference = alone - variant
    runs = [
        past(sweep_id="s", seconds=variant + reference * 3 / 4),
        past(
            sweep_id="s", kv_bits=2, kv_format="2g64", n_positions=2555, seconds=(variant + reference / 2) / 2
        ),
    ]
    for one in (runs, runs[:1] + runs):
        assert timed(asked, runs=one).seconds == pytest.approx(alone)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_hash": "another"},
        {"device": "Apple M9"},
        {"seconds": 0.0},
        {"kind": "weights"},
    ],
)
def test_other_runs_say_nothing(changes: dict[str, object]) -> None:
    asked = settings("4g64")
    found = timed(asked, runs=[past(**changes)])
    assert found.basis == "table"
    assert found.seconds == timed(asked).seconds


def test_a_measured_product_sets_the_pace_without_runs() -> None:
    asked = settings("4g64")
    fast, slow = timed(asked, measured_flops=400e9), timed(asked, measured_flops=100e9)
    assert fast.basis == slow.basis == "measured"
    assert slow.seconds == pytest.approx(4 * fast.seconds)
    assert measured_flops() > 1e8


def test_chunks_before_the_text_is_read(demo_model: Path, smollm2: Path) -> None:
    for folder in (demo_model, smollm2):
        facts = read_facts(folder)
        real = len(
            make_chunks(read_corpus("builtin"), load_tokenizer(facts), 512, None, tokenizer_id="").tokens
        )
        found = likely_chunks(facts, KVSettings("x", chunk_length=512))
        assert found is not None
        assert found == pytest.approx(real, rel=0.1)
    assert likely_chunks(LLAMA, KVSettings("x", max_chunks=3)) == 3
    assert likely_chunks(LLAMA, KVSettings("x", corpus="mine.txt")) is None
    assert likely_chunks(LLAMA, KVSettings("x", corpus="mine.txt", max_chunks=7)) == 7


def test_words() -> None:
    found = MemoryPlan(512, 2, 128, 2, (), 900 * MB, 100 * MB, 0, 64 * GB)
    words = estimate_words(found, TimeEstimate(10, 5110, 600.0, 460.0, 780.0, "runs"))
    assert words == (
        "1 reference pass and 2 variant passes over 10 chunks of 512 tokens: about 10 min 00 s "
        "(7 min 40 s to 13 min 00 s, from earlier runs of this model); about 1.0 GB of memory, 64.0 GB free"
    )
    twice = replace(found, variants_per_pass=1, advice="1 of 2 settings fits.")
    assert estimate_words(twice).splitlines() == [
        "2 reference passes and 2 variant passes; about 1.0 GB of memory, 64.0 GB free",
        "1 of 2 settings fits.",
    ]


def test_the_newest_reports_and_no_others(tmp_path: Path) -> None:
    assert recent_reports(tmp_path) == ()
    for day in range(1, 5):
        save_run(past(created=f"2026-03-0{day}T05:06:07+00:00", seconds=float(day)), None, tmp_path)
    broken = tmp_path / "runs" / "20260309-000000-broken"
    broken.mkdir()
    (broken / "report.json").write_text("{")
    assert [report.seconds for report in recent_reports(tmp_path, 3)] == [4.0, 3.0]
    assert [report.seconds for report in recent_reports(tmp_path)] == [4.0, 3.0, 2.0, 1.0]
    (tmp_path / "file").write_text("")
    assert recent_reports(tmp_path / "file") == ()


def test_a_measurement_says_what_it_will_take_before_it_loads(tmp_path: Path) -> None:
    one = KVSettings("demo", kv_bits=4, chunk_length=128, max_chunks=1)
    for basis in ("measured", "runs"):
        told = list(api.events(one))
        (index,) = (i for i, event in enumerate(told) if isinstance(event, Estimated))
        estimated = told[index]
        assert isinstance(estimated, Estimated)
        assert estimated.time is not None
        assert (estimated.time.basis, estimated.time.n_positions) == (basis, 127)
        loading = [i for i, event in enumerate(told) if getattr(event, "what", "") == "loading the weights"]
        assert index < loading[0]
        last = told[-1]
        assert isinstance(last, Finished)
        save_run(last.report, last.positions)
