"""What a measurement says while it runs. One generator yields these; everything else listens.

Order: Loading* -> Started -> (StepScored* ChunkFinished)* -> Finished | Failed. A stopped
measurement yields Stopped (with a partial report) in place of Finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqf_tui.fidelity.errors import FidelityError
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.reports.schema import CorpusProvenance, KVBytes, Report, Stopping


@dataclass(frozen=True)
class Loading:
    """Progress before scoring: what is being done, and the share done (0..1, None: unknown)."""

    what: str
    share: float | None = None


@dataclass(frozen=True)
class Plan:
    """What will be scored, known after loading. ``memory_bytes``: all that the device has (0: unknown)."""

    settings: KVSettings
    model: str
    architecture: str
    corpus: CorpusProvenance
    n_chunks: int
    positions_per_chunk: int
    device: str
    compute: str
    cache: str
    kv_bytes: KVBytes
    memory_bytes: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def n_positions(self) -> int:
        """Positions to score in all."""
        return self.n_chunks * self.positions_per_chunk


@dataclass(frozen=True)
class Started:
    """Scoring begins."""

    plan: Plan


@dataclass(frozen=True)
class StepScored:
    """One step of one chunk went through both caches; ``positions`` holds its new numbers.

    ``seconds`` and ``n_positions`` count the whole measurement so far (time paused is left out).
    """

    chunk: int
    step: int
    positions: Positions
    n_positions: int
    seconds: float


@dataclass(frozen=True)
class ChunkFinished:
    """All steps of a chunk are done. ``stopping``: what the rule says now, where one may end it early."""

    chunk: int
    n_chunks: int
    stopping: Stopping | None = None


@dataclass(frozen=True)
class Finished:
    """The whole plan was scored."""

    report: Report
    positions: Positions


@dataclass(frozen=True)
class Stopped:
    """Stopped on request. ``report`` is partial, or None where nothing was scored yet."""

    report: Report | None
    positions: Positions


@dataclass(frozen=True)
class Failed:
    """The measurement cannot go on. ``report`` is a partial one where anything was scored."""

    error: FidelityError
    report: Report | None = None
    positions: Positions | None = None


Event = Loading | Started | StepScored | ChunkFinished | Finished | Stopped | Failed
