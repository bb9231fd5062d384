"""How wide the interval of mean KL will be, told from earlier runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.index import RunRow

FEWEST = 3  # chunks: an interval over fewer says next to nothing of the next one


@dataclass(frozen=True)
class ExpectedInterval:
    """``share``: half the width of mean KL's 95 % interval as a share of it. ``chunks``: of the run it is
    told from; ``same_text``: whether that one had the same corpus and chunk length.
    """

    share: float
    chunks: int
    same_text: bool


def expected_intervals(
    rows: Sequence[RunRow], model_hash: str, settings: Iterable[KVSettings], n_chunks: int
) -> list[ExpectedInterval | None]:
    """For each setting what its interval over ``n_chunks`` chunks will be; None: no earlier run tells, or
    there is none (of one chunk).

    Runs of the same model, format and mode tell, best those on the same text in chunks of the same length,
    and of these the longest.
    """
    found: list[ExpectedInterval | None] = []
    for one in settings:
        told = [_told(row, one, n_chunks) for row in rows if n_chunks > 1 and _alike(row, model_hash, one)]
        found.append(max(told, key=lambda e: (e.same_text, e.chunks), default=None))
    return found


def _alike(row: RunRow, model_hash: str, settings: KVSettings) -> bool:
    return (
        row.kind == "kv"
        and row.model_hash == model_hash != ""
        and row.format == settings.quantizers.word
        and row.mode == settings.mode
        and row.n_chunks >= FEWEST
        and row.kl_ci is not None
        and 0 < row.kl < math.inf
        and math.isfinite(row.kl_ci[1])
        and row.kl_ci[1] > row.kl_ci[0]
        and row.chunk_length > 0
    )


def _told(row: RunRow, settings: KVSettings, n_chunks: int) -> ExpectedInterval:
    assert row.kl_ci is not None
    same_length = row.chunk_length == settings.chunk_length
    same = same_length and row.corpus in (settings.corpus, settings.corpus.rsplit("/", 1)[-1])
    # Chunks of another length: so many of these as have the same number of tokens.
    chunks = row.n_chunks if same_length else max(1, row.n_chunks * row.chunk_length // settings.chunk_length)
    # The error falls with the square root of the chunks; over few of them Student's t is far wider besides.
    error = (row.kl_ci[1] - row.kl_ci[0]) / 2 / _t(row.n_chunks)
    share = error * math.sqrt(chunks / n_chunks) * _t(n_chunks) / row.kl
    return ExpectedInterval(share, chunks, same)


def _t(n_chunks: int) -> float:
    from mqf_tui.fidelity.intervals import LEVEL, student_t

    return student_t(0.5 + LEVEL / 2, n_chunks - 1)


def prepare() -> None:
    """Import SciPy, which takes as long as a second: for a thread beside the screen."""
    _t(2)
