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

    def at(self, n_chunks: int) -> ExpectedInterval:
        """The same over so many chunks: an error falls with the square root of their number."""
        share = self.share * math.sqrt(self.chunks / n_chunks)
        return ExpectedInterval(share, self.chunks, self.same_text)


def expected_intervals(
    rows: Sequence[RunRow], model_hash: str, settings: Iterable[KVSettings], n_chunks: int
) -> list[ExpectedInterval | None]:
    """For each setting what its interval over ``n_chunks`` chunks will be; None: no earlier run tells.

    Runs of the same model, format and mode tell, best those on the same text in chunks of the same length,
    and of these the longest.
    """
    found: list[ExpectedInterval | None] = []
    for one in settings:
        told = [_told(row, one) for row in rows if _alike(row, model_hash, one)]
        best = max(told, key=lambda e: (e.same_text, e.chunks), default=None)
        found.append(best.at(n_chunks) if best else None)
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


def _told(row: RunRow, settings: KVSettings) -> ExpectedInterval:
    assert row.kl_ci is not None
    share = (row.kl_ci[1] - row.kl_ci[0]) / 2 / row.kl
    same_length = row.chunk_length == settings.chunk_length
    same = same_length and row.corpus in (settings.corpus, settings.corpus.rsplit("/", 1)[-1])
    # Chunks of another length: so many of these as have the same number of tokens.
    chunks = row.n_chunks if same_length else max(1, row.n_chunks * row.chunk_length // settings.chunk_length)
    return ExpectedInterval(share, chunks, same)
