"""Depth within a chunk: its buckets, and where KL begins to grow with it. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.intervals import LEVEL, p_value, student_t
from mqf_tui.reports.comparison_schema import ALPHA
from mqf_tui.reports.schema import Drift

BUCKETS = 8
LONG = 4096  # tokens of a chunk above which buckets double
FIRST = 128
_SPAN = 16  # how many times the first depth the last must be, for doubling to say more than equal parts


def depth_edges(chunk_length: int, first_depth: int = 0) -> NDArray[np.int64]:
    """The edges (K + 1,) of the depth buckets of chunks scored from ``first_depth``: bucket k holds
    ``edges[k] <= depth < edges[k + 1]``.

    Up to 4,096 tokens there are eight equal parts. Above, the edges are powers of two from 128 on, so each
    bucket is as wide as all before it; eight equal parts again where scoring begins so late that there
    would be few (``--score-last``). A last bucket of under a quarter of its octave joins the one before it.
    """
    end = chunk_length - 1
    if not doubling(chunk_length, first_depth):
        return np.linspace(first_depth, end, BUCKETS + 1).round().astype(np.int64)
    edges, edge = [first_depth], FIRST
    while edge < end:
        # A first bucket of a few positions only would be the measure of all others.
        if edge >= 1.5 * first_depth:
            edges.append(edge)
        edge *= 2
    if end - edges[-1] < edges[-1] / 4:
        edges.pop()
    return np.array([*edges, end])


def doubling(chunk_length: int, first_depth: int = 0) -> bool:
    """Whether the buckets of such chunks double."""
    return chunk_length > LONG and chunk_length - 1 >= _SPAN * max(first_depth, FIRST)


def drift(
    kl: NDArray[Any], chunk: NDArray[Any], depth: NDArray[Any], chunk_length: int, first_depth: int = 0
) -> Drift | None:
    """Where mean KL begins to stay above that of the first bucket; None in short windows.

    ``kl``, ``chunk`` (the index of each position's chunk, from 0) and ``depth`` are (n,). The bucket looked
    for is the first from which on, to the last, mean KL is more than the first one's beyond the error. What
    is tested is the logarithm of the ratio of both means (delta method), for KL is skewed and its level is
    the chunk's; both are over the same chunks, so the residual of chunk g, with sum S, count N and mean m of
    a bucket, is (S_g - N_g·m)/(m·ΣN), less that of the first bucket; standard error and Student's t are then
    as in ``intervals.interval_of_sums``.
    """
    if len(kl) == 0 or not doubling(chunk_length, first_depth):
        return None
    edges = depth_edges(chunk_length, first_depth)
    n_chunks, n = int(chunk.max()) + 1, len(edges) - 1
    label = np.searchsorted(edges, depth, side="right") - 1
    here = (label >= 0) & (label < n)
    cells = label[here] * n_chunks + chunk[here]
    counts = np.bincount(cells, minlength=n * n_chunks).reshape(n, n_chunks)
    added = np.bincount(cells, kl[here].astype(np.float64), n * n_chunks)
    sums: NDArray[np.float64] = added.astype(np.float64, copy=False).reshape(n, n_chunks)
    used = np.flatnonzero(counts.sum(axis=1)).tolist()
    if len(used) < 2:
        return None
    first = used[0]
    baseline: dict[str, Any] = {"first": int(edges[first]), "end": int(edges[first + 1])}
    if n_chunks < 2:
        return Drift(known=False, **baseline)
    start: dict[str, Any] = {}
    for k in reversed(used[1:]):
        ratio, error = _log_ratio(sums, counts, first, k)
        p = p_value(ratio, error, n_chunks - 1)
        if not ratio > 0 or (p is not None and p >= ALPHA):
            break
        half = None if error is None else student_t(0.5 + LEVEL / 2, n_chunks - 1) * error
        ci = None if half is None else tuple(np.exp([ratio - half, ratio + half]).tolist())
        start = {"start": int(edges[k]), "times": float(np.exp(ratio)), "times_ci": ci}
    return Drift(known=True, **start, **baseline)


def _log_ratio(
    sums: NDArray[np.float64], counts: NDArray[np.int64], first: int, other: int
) -> tuple[float, float | None]:
    """ln of the ratio of two buckets' mean KL, and its standard error (None where there is none)."""
    n_chunks = sums.shape[1]
    totals = [int(counts[k].sum()) for k in (first, other)]
    base, mean = (float(sums[k].sum() / total) for k, total in zip((first, other), totals, strict=True))
    if not np.isfinite([base, mean]).all() or base == 0:
        return (np.inf if mean > base else 0.0), None
    if mean == 0:
        return -np.inf, None
    moved = (sums[other] - counts[other] * mean) / (mean * totals[1])
    moved -= (sums[first] - counts[first] * base) / (base * totals[0])
    error = float(np.sqrt(n_chunks / (n_chunks - 1) * np.sum(moved**2)))
    return float(np.log(mean / base)), error
