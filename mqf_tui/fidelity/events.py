"""What a measurement says while it runs. One generator yields these; everything else listens.

Order: Loading* (Estimated among them) -> Started -> (StepScored* ChunkFinished+)* -> Finished | Failed.
A stopped measurement yields Stopped (with a partial report) in place of Finished.

In a sweep, steps and chunks name the variant (an index into ``Started.plans``); Dropped says that a variant
goes no further; at the end each variant has its Finished, Stopped or Failed, and Swept is the last. Where
nothing was scored yet there is one Failed or Stopped for all, and then Swept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqf_tui.fidelity.errors import FidelityError
    from mqf_tui.fidelity.planning import MemoryPlan
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.quantizers import Kernel
    from mqf_tui.fidelity.recipes import LayerKind, Recipe
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.fidelity.timing import TimeEstimate
    from mqf_tui.fidelity.tops import Tops
    from mqf_tui.reports.schema import CorpusProvenance, KVBytes, Report, Stopping


SKIPPED = "skipped"  # why a variant goes no further where the user asked for that


@dataclass(frozen=True)
class Loading:
    """Progress before scoring: what is being done, and the share done (0..1, None: unknown)."""

    what: str
    share: float | None = None


@dataclass(frozen=True)
class Estimated:
    """What the measurement will take, worked out before anything large is loaded.

    ``time`` None where the number of chunks is not known before the text is read.
    """

    memory: MemoryPlan
    time: TimeEstimate | None = None


@dataclass(frozen=True)
class Plan:
    """What will be scored for one variant, known after loading.

    ``memory_bytes``: all that the device has (0: unknown). ``recipe`` and ``kinds`` have an entry per layer
    of the cache; ``kernel`` is what "auto" came to. ``layers``: which layers are quantized, in words, where
    it is not all. ``sweep_id``: "" outside a sweep. ``positions_per_chunk``: of most chunks; ``uneven``: of
    each chunk of the text, where they do not all have as many (0: not scored). ``text_kept``: what is kept of
    it, a report and positions, may have words of the text.
    """

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
    recipe: Recipe
    kinds: tuple[LayerKind, ...]
    kernel: Kernel
    model_hash: str = ""
    layers: str | None = None
    sweep_id: str = ""
    memory_bytes: int = 0
    warnings: tuple[str, ...] = ()
    uneven: tuple[int, ...] = ()
    text_kept: bool = True

    @property
    def n_positions(self) -> int:
        """Positions to score in all."""
        return sum(self.uneven) if self.uneven else self.n_chunks * self.positions_per_chunk

    def positions_of(self, chunk: int) -> int:
        """Positions to score of one chunk."""
        return self.uneven[chunk] if self.uneven else self.positions_per_chunk


@dataclass(frozen=True)
class Started:
    """Scoring begins. ``plans``: one per variant."""

    plans: tuple[Plan, ...]

    @property
    def plan(self) -> Plan:
        """The first variant's; what all have in common can be read from it."""
        return self.plans[0]


@dataclass(frozen=True)
class StepScored:
    """One step of one chunk went through the caches of reference and variant; ``positions``: its new numbers,
    with the texts of their tokens.

    ``n_positions`` counts this variant's so far; ``seconds`` the whole measurement, all variants and their
    reference together (time paused is left out).
    """

    chunk: int
    step: int
    positions: Positions
    n_positions: int
    seconds: float
    variant: int = 0


@dataclass(frozen=True)
class ChunkFinished:
    """All steps of a chunk are done. ``stopping``: what the rule says now, where one may end it early."""

    chunk: int
    n_chunks: int
    stopping: Stopping | None = None
    variant: int = 0


@dataclass(frozen=True)
class Dropped:
    """A variant goes no further: ``why`` in words (surely bad, surely worse than another, settled, skipped).

    ``chunk``: the one that it left after, or in.
    """

    variant: int
    chunk: int
    why: str


@dataclass(frozen=True)
class Finished:
    """The whole plan was scored, or as much of it as was needed. ``tops``: the likeliest tokens, where any
    are kept."""

    report: Report
    positions: Positions
    variant: int = 0
    tops: Tops | None = None


@dataclass(frozen=True)
class Stopped:
    """Stopped or skipped on request. ``report`` is partial, or None where nothing was scored yet."""

    report: Report | None
    positions: Positions
    variant: int = 0
    tops: Tops | None = None


@dataclass(frozen=True)
class Failed:
    """The measurement cannot go on. ``report`` is a partial one where anything was scored."""

    error: FidelityError
    report: Report | None = None
    positions: Positions | None = None
    variant: int = 0
    tops: Tops | None = None


@dataclass(frozen=True)
class Swept:
    """The end of a sweep. ``reference_passes`` and ``variant_passes`` count chunks that went through the
    model; ``error`` is what ended it early, where something did. ``stopped``: on request, or because all that
    was left of it was skipped."""

    sweep_id: str
    reference_passes: int
    variant_passes: int
    seconds: float
    stopped: bool = False
    error: FidelityError | None = None


Event = (
    Loading | Estimated | Started | StepScored | ChunkFinished | Dropped | Finished | Stopped | Failed | Swept
)
