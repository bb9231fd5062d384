"""How long a measurement will take, before it is started: an estimate with a range, and said to be one."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import Literal

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.planning import MemoryPlan, kernel_of
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted, duration, size

Basis = Literal["runs", "measured", "table"]
# How far off it may be, either way: from runs of the same model here, from a measured product, from a table.
SPREAD: dict[Basis, float] = {"runs": 1.3, "measured": 2.0, "table": 4.0}
LAST_RUNS = 3


@dataclass(frozen=True)
class Pace:
    """What a machine takes: products a second (as floating-point operations), and seconds for one attention
    score, one number of a layer's widest row, one logit, one number dequantized."""

    flops: float
    score: float
    element: float
    logit: float
    dequantized: float


# Two cores of a CPU with OpenBLAS; a laptop's GPU.
CPU = Pace(flops=100e9, score=5e-9, element=15e-9, logit=6e-9, dequantized=1.5e-9)
ACCELERATOR = Pace(flops=3e12, score=1e-10, element=2e-11, logit=2e-11, dequantized=0.0)
USEFUL = 0.4  # of what one large product reaches, in a model's many smaller ones


@dataclass(frozen=True)
class TimeEstimate:
    """``n_positions`` are those of one variant; ``low`` and ``high`` bound the ``seconds`` in all likelihood.

    ``basis``: earlier runs of this model on this device, a product measured on it, or a table.
    """

    n_chunks: int
    n_positions: int
    seconds: float
    low: float
    high: float
    basis: Basis


def estimate_time(
    facts: ModelFacts,
    sweep: SweepSettings,
    plan: MemoryPlan,
    n_chunks: int,
    is_cpu: bool,
    *,
    runs: Sequence[Report] = (),
    measured_flops: float | None = None,
    shape: Shape | None = None,
) -> TimeEstimate:
    """Seconds of scoring for all variants of a sweep, weights in memory already.

    ``runs``: saved reports of this machine, newest first; those of the same model set the pace. Else
    ``measured_flops`` (see that function), else a table does.
    """
    shape = shape or read_shape(facts)
    pace = _pace(is_cpu, measured_flops)
    first = sweep.first
    seconds = _seconds(shape, first, len(sweep.variants), plan.reference_passes, n_chunks, plan.step, pace)
    factor = _factor(facts, shape, runs, is_cpu)
    basis: Basis = "table" if measured_flops is None else "measured"
    if factor is not None:
        basis = "runs"
        seconds = factor * _seconds(
            shape, first, len(sweep.variants), plan.reference_passes, n_chunks, plan.step, _pace(is_cpu, None)
        )
    positions = n_chunks * (first.chunk_length - 1 - first.first_scored)
    spread = SPREAD[basis]
    return TimeEstimate(n_chunks, positions, seconds, seconds / spread, seconds * spread, basis)


def expected_time(
    facts: ModelFacts, sweep: SweepSettings, plan: MemoryPlan, device: Device, past: Sequence[Report]
) -> TimeEstimate | None:
    """``estimate_time`` before the text is read, in the thread that measures; None where only the text tells.

    Without an earlier run of the model the device is asked for a product.
    """
    chunks = likely_chunks(facts, sweep.first)
    if chunks is None:
        return None
    found = estimate_time(facts, sweep, plan, chunks, device.is_cpu, runs=past)
    if found.basis == "runs":
        return found
    return estimate_time(facts, sweep, plan, chunks, device.is_cpu, measured_flops=measured_flops())


def likely_chunks(facts: ModelFacts, settings: KVSettings) -> int | None:
    """Chunks that will be scored at most, before the text is read; None where only the text can tell."""
    if settings.corpus != "builtin":
        return settings.max_chunks
    room = _builtin_chunks(facts, settings.chunk_length, settings.text)
    return min(settings.max_chunks, room) if settings.max_chunks else room


def _builtin_chunks(facts: ModelFacts, chunk_length: int, text: TextOptions) -> int:
    """Chunks of the built-in corpus, from how many characters a token of such a vocabulary takes.

    A line through two vocabularies: 2.35 characters with 4,096 entries, 2.96 with 49,152.
    """
    per_token = 0.3 + 0.17 * math.log2(max(2, facts.vocab_size))
    step, rest = text.stride or chunk_length, text.rest == "pad" or text.documents == "apart"
    tokens = [int(size / per_token) for size in _builtin_sizes()]
    found = sum(1 + (n - chunk_length) // step if n >= chunk_length else 0 for n in tokens)
    return max(1, found + rest * len(tokens))


@functools.cache
def _builtin_sizes() -> tuple[int, ...]:
    """Bytes of each part of the built-in corpus."""
    folder = resources.files("mqf_tui.demo") / "corpus"
    return tuple(len(part.read_bytes()) for part in folder.iterdir() if part.name.endswith(".txt"))


def _pace(is_cpu: bool, flops: float | None) -> Pace:
    usual = CPU if is_cpu else ACCELERATOR
    if flops is None:
        return usual
    share = usual.flops / (USEFUL * flops)
    return Pace(
        USEFUL * flops,
        usual.score * share,
        usual.element * share,
        usual.logit * share,
        usual.dequantized * share,
    )


def _seconds(
    shape: Shape,
    settings: KVSettings,
    n_variants: int,
    references: float,
    n_chunks: int,
    step: int,
    pace: Pace,
) -> float:
    """Seconds of ``references`` passes of the reference and one of each variant over each chunk."""
    end, start, scored = settings.chunk_length - 1, settings.quantize_start, settings.first_scored
    reference = _body(shape, 0, end, step, pace) + _head(shape, end - scored, pace)
    variant = _body(shape, start, end, step, pace) + _head(shape, end - scored, pace)
    if kernel_of(settings, is_cpu=pace.dequantized > 0) == "dequantized":
        numbers = sum(layer.keys + layer.values for layer in shape.cache)
        variant += pace.dequantized * numbers * sum(_seen(start, end, step, None)) / step
    return n_chunks * (references * reference + n_variants * variant)


def _body(shape: Shape, start: int, end: int, step: int, pace: Pace) -> float:
    """Seconds of one pass over the positions from ``start`` to ``end``, without logits."""
    each = 2 * shape.body_parameters / pace.flops + len(shape.cache) * shape.inner * pace.element
    bounds = Counter(layer.bound for layer in shape.cache)
    scores = sum(n * sum(_seen(start, end, step, bound)) for bound, n in bounds.items())
    return (end - start) * each + shape.n_heads * scores * pace.score


def _seen(start: int, end: int, step: int, bound: int | None) -> list[float]:
    """Tokens that the positions of each step see, all of the step together: scores are made in blocks."""
    found: list[float] = []
    for a in range(start, end, step):
        b = min(a + step, end)
        found.append((b - a) * (b if bound is None else min(b, bound + step)))
    return found


def _head(shape: Shape, positions: int, pace: Pace) -> float:
    return positions * (2 * shape.head_parameters / pace.flops + shape.vocab_size * pace.logit)


def _factor(facts: ModelFacts, shape: Shape, runs: Sequence[Report], is_cpu: bool) -> float | None:
    """How much slower than the table this machine is, from its last runs of the same model; None: unknown.

    A run of a sweep was charged with its own passes and its share of the reference's.
    """
    runs = _each_once(run for run in runs if run.seconds > 0 and run.n_positions)
    found: list[float] = []
    for run in runs:
        same = run.kind == "kv" and run.model_hash == facts.content_hash and run.origin is None
        # The seconds of ranks are divided among them; of a resumed run they are of a part only.
        whole = abs(run.positions_per_second * run.seconds - run.n_positions) < 0.01 * run.n_positions
        alone, even = " ranks" not in run.device, run.n_positions_planned is None
        if not (same and whole and alone and even and run.device.startswith("CPU") == is_cpu):
            continue
        settings = KVSettings(
            "",
            chunk_length=run.corpus.chunk_length,
            quantize_start=run.quantize_start,
            score_last=run.score_last,
        )
        each = settings.chunk_length - 1 - settings.first_scored
        share = _reference_share(run, [r for r in runs if r.sweep_id == run.sweep_id and r.sweep_id])
        expected = _seconds(shape, settings, 1, share, 1, 128, _pace(is_cpu, None)) * run.n_positions / each
        found.append(run.seconds / expected)
        if len(found) == LAST_RUNS:
            break
    return median(found) if found else None


def _each_once(runs: Iterable[Report]) -> list[Report]:
    """The runs without what a resumed sweep left of a variant before: the whole ones, or the longest."""
    found: dict[Hashable, Report] = {}
    for i, run in enumerate(runs):
        layers = tuple((part.layers, part.format) for part in run.layers.recipe) if run.layers else ()
        key = (run.sweep_id, run.setting, run.kernel, layers) if run.sweep_id else i
        other = found.setdefault(key, run)
        if (not run.partial, run.n_positions) > (not other.partial, other.n_positions):
            found[key] = run
    return list(found.values())


def _reference_share(run: Report, sweep: Sequence[Report]) -> float:
    """How much of the reference's passes over its chunks a run was charged with: those who were still in
    shared each pass alike."""
    passed, shared = 0, 0.0
    ends = sorted(min(other.n_positions, run.n_positions) for other in sweep)
    for left, end in zip(range(len(ends), 0, -1), ends, strict=True):
        shared += (end - passed) / left
        passed = end
    return shared / run.n_positions if sweep else 1.0


def measured_flops() -> float:
    """Floating-point operations a second of one product on this device, the best of a few; takes about 20 ms.

    Only in the thread that measures, and after ``device.prepare()``.
    """
    import mlx.core as mx

    cpu = mx.default_device() == mx.cpu
    n, dtype = (384, mx.float32) if cpu else (2048, mx.float16)
    a = mx.ones((n, n), dtype=dtype)
    mx.eval(a @ a)
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        mx.eval(a @ a)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


BASIS_WORDS: dict[Basis, str] = {
    "runs": "from earlier runs of this model",
    "measured": "a rough estimate",
    "table": "a rough guess",
}


def estimate_words(plan: MemoryPlan, time: TimeEstimate | None = None) -> str:
    """The plan for the console, in one or two lines: passes, time with its range, memory, and advice."""
    references = (
        "1 reference pass" if plan.reference_passes == 1 else f"{plan.reference_passes} reference passes"
    )
    variants = "1 variant pass" if plan.n_variants == 1 else f"{plan.n_variants} variant passes"
    words = f"{references} and {variants}"
    if time is not None:
        words += f" over {counted(time.n_chunks, 'chunk')} of {plan.chunk_length:,} tokens"
        low, high = duration(time.low), duration(time.high)
        between = f"{low} to {high}, " if time.high >= 2 and low != high else ""
        words += f": about {duration(max(1.0, time.seconds))} ({between}{BASIS_WORDS[time.basis]})"
    words += f"; about {size(plan.need_bytes)} of memory"
    words += f", {size(plan.limit_bytes)} free" if plan.limit_bytes else ""
    return words + (f"\n{plan.advice}" if plan.advice else "")
