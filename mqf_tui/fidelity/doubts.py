"""The tool's own doubts about a measurement: each a clause that says what is wrong and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.reports.text import counted, size

if TYPE_CHECKING:
    from mqf_tui.fidelity.events import Plan
    from mqf_tui.fidelity.load import Load
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.reports.schema import Stopping

ENOUGH_CHUNKS = 20
FEW_POSITIONS, FEW_SHARE = 30, 0.1  # that carry half of all KL
SHORT_CHUNK = 256
BUSY = 0.25
SWAPPED = 64_000_000


def doubts(
    plan: Plan,
    positions: Positions,
    *,
    n_chunks: int,
    partial: bool = False,
    stopping: Stopping | None = None,
    load: Load | None = None,
) -> list[str]:
    """All doubts, about what the numbers mean first. ``n_chunks`` were scored, at least in part."""
    planned = sum(map(plan.positions_of, np.unique(positions.chunk).tolist()))
    whole = len(positions) >= planned
    broken_off = [*_broken_off(plan, n_chunks, whole)] if partial else [*_unsettled(plan, n_chunks, stopping)]
    found = [*_infinite(positions.kl), *broken_off]
    if stopping is not None and stopping.settled:
        found += _early_stop(n_chunks) if n_chunks < ENOUGH_CHUNKS else ()
    elif partial or not _left(plan, n_chunks, stopping):
        found += _few_chunks(plan, n_chunks)
    found += [*_heavy_tail(positions.kl), *_short_chunks(plan)]
    return [*found, *(_busy(load) if load else ())]


def carrying_half(kl: NDArray[Any], most: int) -> int | None:
    """The fewest positions that carry half of all KL; None where that takes more than ``most`` of them.

    ``kl`` (n,) in nats. Looks at the largest ``most`` only, so it costs O(n).
    """
    largest = np.partition(kl, len(kl) - most)[len(kl) - most :] if len(kl) > most else kl
    carried = np.cumsum(np.sort(largest.astype(np.float64))[::-1])
    half = kl.sum(dtype=np.float64) / 2
    if not 0 < half < np.inf or carried[-1] < half:
        return None
    return int(np.searchsorted(carried, half)) + 1


def _infinite(kl: NDArray[Any]) -> Iterator[str]:
    n = int(np.isinf(kl).sum())
    if n:
        yield (
            f"KL is infinite at {counted(n, 'position')} of {len(kl):,}: the variant rules out what the "
            "reference holds possible; go by the median and the percentiles, or use more bits"
        )


def _broken_off(plan: Plan, n_chunks: int, whole: bool) -> Iterator[str]:
    """``whole``: the last of ``n_chunks`` was scored to its end."""
    where = f"after {n_chunks}" if whole else f"in chunk {n_chunks}"
    of = counted(plan.n_chunks, "chunk") if whole else str(plan.n_chunks)
    yield f"it was broken off {where} of {of}, and the rest of the text may differ; let it run to its end"


def _unsettled(plan: Plan, n_chunks: int, stopping: Stopping | None) -> Iterator[str]:
    if stopping is None or stopping.settled:
        return
    if _left(plan, n_chunks, stopping):
        yield (
            f"it left the race after {counted(n_chunks, 'chunk')} with its verdict not settled, and "
            "intervals other than those of mean KL and flips may be too narrow; measure it alone where it "
            "matters"
        )
        return
    wanted = {
        "verdict": "the verdict",
        "race": "the verdict",
        "precision": "mean KL to the precision asked for",
        "both": "both the verdict and mean KL to the precision asked for",
    }[stopping.rule]
    yield f"{counted(n_chunks, 'chunk')} did not settle {wanted}; {_more(plan, 'more chunks')}"


def _left(plan: Plan, n_chunks: int, stopping: Stopping | None) -> bool:
    """Whether it left a race although its verdict was not settled, for it was worse than another."""
    return stopping is not None and not stopping.settled and n_chunks < plan.n_chunks


def _few_chunks(plan: Plan, n_chunks: int) -> Iterator[str]:
    more = _more(plan, f"{ENOUGH_CHUNKS} chunks or more")
    if n_chunks == 1:
        yield f"only one chunk, so no interval can be given; {more}"
    elif n_chunks < ENOUGH_CHUNKS:
        yield f"only {n_chunks} chunks, so the intervals may be too narrow; {more}"


def _early_stop(n_chunks: int) -> Iterator[str]:
    """What settled it allows for how few chunks there are, but only in what it looks at."""
    yield (
        f"stopped after {counted(n_chunks, 'chunk')}: that supposes a text of one kind, and intervals other "
        "than those of mean KL and flips may be too narrow; score the whole text where either matters"
    )


def _more(plan: Plan, wanted: str) -> str:
    """What would give more chunks: the user's own limit lifted, or more text."""
    limit = plan.settings.max_chunks
    way = (
        "--max-chunks" if limit is not None and limit <= plan.n_chunks else "a longer text or shorter chunks"
    )
    return f"score {wanted} ({way})"


def _heavy_tail(kl: NDArray[Any]) -> Iterator[str]:
    n = carrying_half(kl, FEW_POSITIONS)
    if n is not None and n < FEW_POSITIONS and n < FEW_SHARE * len(kl):
        yield (
            f"KL is heavy-tailed: half of the mean rests on {counted(n, 'position')} of {len(kl):,}; "
            "score more text, and go by the percentiles too"
        )


def _short_chunks(plan: Plan) -> Iterator[str]:
    length = plan.settings.chunk_length
    if length < SHORT_CHUNK:
        yield (
            f"chunks of {length} tokens only, so damage that builds up over a longer context does not show; "
            f"use --chunk-length {2 * SHORT_CHUNK} or more"
        )


def _busy(load: Load) -> Iterator[str]:
    others = load.others
    if others is not None and others > BUSY:
        yield (
            f"the machine was busy: other programs took {others:.0%} of its processor time, so the speed is "
            "no fair figure (KL and flips are not touched); close them where speed matters"
        )
    if load.swapped_bytes > SWAPPED:
        yield (
            f"memory was short: {size(load.swapped_bytes)} were swapped out meanwhile, so the speed is no "
            "fair figure; close other programs or use shorter chunks"
        )
