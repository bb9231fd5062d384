"""Logits -> the likeliest tokens of a few rows (mlx)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.tops import Likeliest

PARTS = 64  # of a row, of which the maxima are looked at first
BLOCK = 2**20  # logits that NumPy looks at at a time, so that they stay in the cache


def likeliest(logits: mx.array, rows: NDArray[np.intp], k: int, top: Any, prob: Any) -> Likeliest:
    """The ``k`` likeliest tokens of the ``rows`` (n,) of logits (T, V), or all where there are fewer.

    ``top`` and ``prob`` (T,): each row's likeliest token and its probability, which are known already.
    """
    top, prob = np.asarray(top)[rows], np.asarray(prob)[rows]
    k = min(k, logits.shape[-1])
    if mx.default_device() == mx.cpu:
        whole, many = np.asarray(logits.astype(mx.float32)), max(1, BLOCK // logits.shape[-1])
        pairs = [_largest(whole[rows[i : i + many]], k) for i in range(0, len(rows), many)]
        ids, values = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    else:
        ids, values = on_accelerator(logits, rows, k)
    for row in np.flatnonzero(ids[:, 0] != top):  # more were equally likely than there is room for
        others = ids[row][ids[row] != top[row]]
        ids[row] = np.concatenate([top[row : row + 1], others])[:k]
    return Likeliest(ids.astype(np.int32), _probabilities(values, prob))


def on_accelerator(logits: mx.array, rows: NDArray[np.intp], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids and values (n, k) of the largest of each row, the largest first."""
    chosen = logits[mx.array(rows.astype(np.int32))].astype(mx.float32)
    ids = mx.argpartition(-chosen, kth=k - 1, axis=-1)[:, :k]
    values = mx.take_along_axis(chosen, ids, axis=-1)
    mx.eval(ids, values)
    found, sizes = np.array(ids).astype(np.int32), np.array(values)
    order = np.lexsort((found, -sizes), axis=-1)
    return np.take_along_axis(found, order, -1), np.take_along_axis(sizes, order, -1)


def _largest(rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and values (n, k) of the largest of each row (n, V), those first; of equal ones the lowest id.

    Sorting out all of a row of 50,000 would take ten times as long: at least ``k`` of it are as large as the
    k-th largest of its parts' maxima, so only those that are come into question.
    """
    n, width = rows.shape
    length = width // PARTS
    few = rows if length < 2 * k else rows[:, : PARTS * length].reshape(n, PARTS, length).max(axis=1)
    place = few.shape[1] - k
    candidates = np.flatnonzero(rows >= np.partition(few, place, axis=1)[:, place, None])
    row, ids = np.divmod(candidates, width)
    values = rows[row, ids]
    order = np.lexsort((ids, -values, row))
    first = np.searchsorted(row, np.arange(n))
    chosen = order[first[:, None] + np.arange(k)]
    return ids[chosen].astype(np.int32), values[chosen]


def _probabilities(values: NDArray[Any], prob: NDArray[Any]) -> NDArray[np.float32]:
    """From the largest value of each row, which is the first, and its probability."""
    shares = np.exp(values.astype(np.float64) - values[:, :1].astype(np.float64))
    return (prob[:, None].astype(np.float64) * shares).astype(np.float32)
