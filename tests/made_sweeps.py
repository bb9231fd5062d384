"""Made runs of a sweep: positions with a known mean KL and flip rate, and the reports that belong to them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.events import Swept
from mqf_tui.fidelity.intervals import Clusters, percentile, rate_interval
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import Quantizer, parsed
from mqf_tui.fidelity.sweep_summary import sweep_summary
from mqf_tui.fidelity.verdict import verdict
from mqf_tui.reports.schema import Estimate
from mqf_tui.reports.sensitivity_schema import LayerCost, Sensitivity
from mqf_tui.reports.sweep_schema import SweepReport
from tests import makers

N_CHUNKS, PER_CHUNK = 8, 127
LAYERS, KV_HEADS, HEAD_DIM = 30, 3, 64
FULL_BYTES = LAYERS * KV_HEADS * HEAD_DIM * 4.0
CREATED = "2026-03-04T05:06:07.000+00:00"
ENDED = Swept("20260304-made", N_CHUNKS, 6 * N_CHUNKS, 42.0)
MEANS = {"16": 0.0, "8": 0.0004, "6": 0.002, "4": 0.02, "3": 0.3}


def bytes_of(word: str) -> float:
    """KV bytes per token in a 16-bit cache: bits / 8, and two 16-bit numbers a group."""

    def one(q: Quantizer | None) -> float:
        return 2.0 if q is None else q.bits / 8 + 4 / q.group_size

    found = parsed(word)
    return LAYERS * KV_HEADS * HEAD_DIM * (one(found.keys) + one(found.values))


def kl_values(word: str, mean: float) -> NDArray[np.float32]:
    """KL (n,) with that mean: mostly what all settings share at a position and in a chunk."""
    shared = np.random.default_rng(7)
    values = shared.lognormal(0, 1, N_CHUNKS * PER_CHUNK)
    values *= np.repeat(np.exp(shared.normal(0, 0.2, N_CHUNKS)), PER_CHUNK)
    values *= np.exp(np.random.default_rng(zlib.crc32(word.encode())).normal(0, 0.1, len(values)))
    return (values / values.mean() * mean).astype(np.float32)


def positions(word: str, mean: float, flips: float = 0.002, n_chunks: int = N_CHUNKS) -> Positions:
    made = makers.positions(N_CHUNKS, PER_CHUNK, seed=1)
    n = round(flips * len(made))
    flipped = np.zeros(len(made), bool)
    flipped[np.random.default_rng(zlib.crc32(b"f" + word.encode())).permutation(len(made))[:n]] = True
    top = made.top1_ref
    moved = np.where(flipped, (top + 1) % makers.VOCAB, top).astype(np.int32)
    whole = replace(made, kl=kl_values(word, mean), top1_quant=moved)
    return whole.where(whole.chunk < n_chunks)


def subject(
    word: str, mean: float, *, run: str = "", flips: float = 0.002, n_chunks: int = N_CHUNKS, **changes: Any
) -> Subject:
    """A run of ``word`` as the engine would report it."""
    scored = positions(word, mean, flips, n_chunks)
    return of_positions(word, scored, run=run, **changes)


def of_positions(word: str, scored: Positions, *, run: str = "", **changes: Any) -> Subject:
    """The bootstrap is left out: what it gives is taken for 99 % on whatever the verdict is."""
    q, clusters = parsed(word), Clusters.of(scored.chunk)
    one = q.keys if q.keys == q.values and q.keys is not None and q.keys.mode == "affine" else None
    mean, p99, flips = (
        float(scored.kl.mean(dtype=float)),
        percentile(scored.kl, 0.99),
        float(scored.flip.mean()),
    )
    kl_ci, flip_ci = clusters.interval(scored.kl), rate_interval(clusters.sums(scored.flip), clusters.counts)
    said = verdict(mean, p99, flips)
    found = {
        "schema_version": 3,
        "kv_bits": one.bits if one else None,
        "kv_group_size": one.group_size if one else None,
        "kv_format": q.word,
        "kernel": "quantized",
        "sweep_id": ENDED.sweep_id,
        "kl": {"mean": mean, "p99": p99}
        | (dict(zip(("ci_low", "ci_high"), kl_ci, strict=True)) if kl_ci else {}),
        "flip_rate": flips,
        "flip_ci_low": flip_ci[0] if flip_ci else None,
        "flip_ci_high": flip_ci[1] if flip_ci else None,
        "n_positions": len(scored),
        "n_chunks": clusters.n_clusters,
        "n_chunks_planned": N_CHUNKS,
        "verdict": said,
        "confidence": {"good": 0.0, "marginal": 0.01, "bad": 0.0, "replicates": 1000} | {said: 0.99},
        "kv_bytes_per_token": {
            "reference": 2 * FULL_BYTES,
            "variant": 2 * bytes_of(word),
            "number_bytes": 4,
            "reference_16bit": FULL_BYTES,
            "variant_16bit": bytes_of(word),
        },
    }
    return Subject(run or f"run-{q.word}", makers.report(**found | changes), lambda: scored)


def six() -> list[Subject]:
    """8, 6 and 4 bits by groups of 32 and 64: all 8 and 6 are good, 4 bits are not."""
    return [
        subject(f"{bits}g{group}", MEANS[bits] * (1 if group == 32 else 1.35), flips=0.01 * (bits == "4"))
        for bits in ("8", "6", "4")
        for group in (32, 64)
    ]


def grid(bits: Sequence[str] = ("8", "6", "4")) -> list[Subject]:
    """Keys by values, group 64; what keys cost weighs more."""
    return [
        subject(f"k{k}v{v}g64", MEANS[k] + 0.4 * MEANS[v])
        for k in bits
        for v in bits
        if (k, v) != ("16", "16")
    ]


def sensitivity(n_layers: int = 30) -> Sensitivity:
    rng = np.random.default_rng(1)
    costs = [
        LayerCost(layer=i, side=side, kl=Estimate(value=v, ci=(0.8 * v, 1.2 * v)), bytes_saved=276.0)
        for i in range(n_layers)
        for side, v in zip(("keys", "values"), np.exp(rng.normal((-7, -9), 1)).tolist(), strict=True)
    ]
    return Sensitivity(format="4g64", n_layers=n_layers, n_positions=1016, n_chunks=8, layers=costs)


def summary(subjects: Sequence[Subject], **options: Any) -> SweepReport:
    return sweep_summary(subjects, **{"ended": ENDED, "created": CREATED} | options)
