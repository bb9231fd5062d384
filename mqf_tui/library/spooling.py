"""The whole chunks of a running sweep into its spool as its events come, and how to say that it can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.events import SKIPPED, ChunkFinished, Dropped, Event, Plan, Started, StepScored
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.provenance import versions
from mqf_tui.library.spool import Spool


class Spooling:
    """Takes a sweep's events in and puts every whole chunk by.

    ``keeps`` False: whole chunks come to ``keep`` from elsewhere. A full disk ends no sweep: ``problem`` is
    the first thing that could not be written, and nothing is put by after it.
    """

    def __init__(self, spool: Spool, n_variants: int, *, keeps: bool = True) -> None:
        self.spool = spool
        self.problem: SaveError | None = None
        self._keeps = keeps
        self._active = set(range(n_variants))
        self._at = -1
        self._chunk: dict[int, list[Positions]] = {}
        self._done: set[int] = set()

    def take(self, event: Event) -> None:
        """Take in one event; raises SaveError where the spool is of something else."""
        match event:
            case Started(plans=plans):
                self.spool.belongs(identity(plans))
            case StepScored(chunk=chunk, positions=positions, variant=i):
                if chunk != self._at:  # the one before was not finished
                    self._at, self._chunk, self._done = chunk, {}, set()
                self._chunk.setdefault(i, []).append(positions)
            case ChunkFinished(chunk=chunk, variant=i):
                self._done.add(i)
                if self._done >= self._active:
                    self._finish(chunk)
            case Dropped(variant=i, why=why):
                self._active.discard(i)
                if i not in self._done:  # it left in the middle, so it has no whole chunk
                    self._chunk.pop(i, None)
                if why == SKIPPED:
                    self._skip(i)
            case _:
                pass

    def keep(self, chunk: int, whole: Mapping[int, Positions]) -> None:
        """Put a whole chunk by, to resume from."""
        if self.problem is not None:
            return
        try:
            self.spool.add(chunk, whole)
        except SaveError as error:
            self.problem = error

    def _skip(self, variant: int) -> None:
        try:
            self.spool.skip(variant)
        except SaveError as error:
            self.problem = self.problem or error

    def _finish(self, chunk: int) -> None:
        whole = {i: Positions.concatenate(pieces) for i, pieces in self._chunk.items()}
        self._chunk, self._done = {}, set()
        if self._keeps:
            self.keep(chunk, whole)


def identity(plans: Sequence[Plan]) -> dict[str, str]:
    """What scored chunks belong to: they are of use only where all of this is the same."""
    first = plans[0]
    v, settings = versions(), first.settings
    return {
        "model": f"{first.model} {first.model_hash}",
        "text": first.corpus.token_hash,
        "settings": " ".join(f"{plan.recipe.sets}/{plan.kernel}" for plan in plans),
        "chunk length, start or last positions": f"{settings.chunk_length} {settings.first_scored} "
        f"{settings.quantize_start}",
        "thresholds": settings.policy.model_dump_json(),
        "device": f"{first.device}, {first.compute}",
        "versions": f"mqf-tui {v.mqf_tui}, mlx {v.mlx}, mlx-lm {v.mlx_lm}",
    }


def resume_words(sweep_id: str) -> str:
    """How to go on with a sweep that broke off; "" where there is nothing to go on from."""
    try:
        there = bool(sweep_id) and Spool.open(sweep_id).sweep_id == sweep_id
    except SaveError:
        return ""
    return f"to go on with this sweep: mqf-tui sweep --resume {sweep_id}" if there else ""
