"""A sweep whose chunks are scored by ranks: the same loop, decisions and reports as in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.engine import guarded
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Estimated,
    Event,
    Failed,
    Finished,
    StepScored,
    Stopped,
)
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.running import RunningSweep
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.fidelity.tops import SENT
from mqf_tui.reports.text import counted
from mqf_tui.scale.crew import Crew, Job, Keep, Notice
from mqf_tui.scale.dealing import Dealer
from mqf_tui.scale.hosts import Fleet
from mqf_tui.scale.messages import arrays_to_bytes, bytes_to_arrays, settings_to_json

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.text.chunking import Chunks, TokenStore
    from mqf_tui.fidelity.text.corpus import Corpus


def sweep(
    settings: SweepSettings,
    facts: ModelFacts,
    control: Control,
    fleet: Fleet,
    *,
    known: Mapping[int, Sequence[Positions]] | None = None,
    store: TokenStore | None = None,
    keep: Keep | None = None,
    notice: Notice | None = None,
) -> Iterator[Event]:
    """As ``engine.sweep``, with the chunks scored by the ranks of ``fleet``: bit for bit the same per chunk.

    ``keep`` gets every whole chunk when it comes in, which may be before its turn in the events; ``notice``
    the mlx.launch line at the start, and a sentence when a rank has died. Where one died and the others went
    on, the reports say so.
    """
    crew = Crew(fleet, control, notice or _nobody, keep or _nowhere)
    for event in guarded(DealtSweep(settings, facts, control, crew, known or {}, store)):
        yield _completed(event, crew)


class DealtSweep(RunningSweep):
    """A running sweep that has no model itself: see ``running.RunningSweep``."""

    def __init__(
        self,
        settings: SweepSettings,
        facts: ModelFacts,
        control: Control,
        crew: Crew,
        known: Mapping[int, Sequence[Positions]],
        store: TokenStore | None,
    ) -> None:
        super().__init__(settings, facts, control, known=known, store=store)
        self._crew = crew
        self._cut: Chunks | None = None
        self._began: float | None = None

    def run(self) -> Iterator[Event]:
        """As in one process, with the ranks there from the beginning to the end."""
        self.settings.check()
        with self._crew:
            yield from super().run()

    def _estimated(self, device: Device) -> Estimated:
        from mqf_tui.fidelity.planning import plan_memory

        # What one rank needs. Each looks for itself whether it has that: other machines are not known here.
        # Neither is their pace; and ranks on one machine share its processors, so a time divided by their
        # number would be too short.
        fleet, n = self._crew.fleet, len(self._crew.fleet)
        limit = min(filter(None, (self.settings.memory_limit, device.memory_bytes)), default=0)
        device = replace(device, memory_bytes=limit // n if fleet.is_local else 0)
        settings, parts = replace(self.settings, memory_limit=None), 1 if fleet.split == "chunks" else n
        return Estimated(plan_memory(self.facts, settings, device, n_parts=parts))

    def _chunks(self, corpus: Corpus) -> Generator[Event, None, Chunks]:
        self._cut = yield from super()._chunks(corpus)
        return self._cut

    def _model(self, device: Device) -> Generator[Event, None, Any]:
        assert self._cut is not None
        what = f"starting {counted(len(self._crew.fleet), 'rank')}"
        last: float | None = -1.0
        for share in self._crew.agree(self._job(self._cut), self._cut.part_names):
            if share != last:
                last = share
                yield self._doing(what if share is None else "loading the weights on all ranks", share)
        yield self._doing("all ranks are ready")

    def _job(self, chunks: Chunks) -> Job:
        settings, fleet = self.settings, self._crew.fleet
        fields = {
            "settings": settings_to_json(_found_anywhere(settings, self.facts)),
            "model": self.facts.name,
            "backend": fleet.backend,
            "split": fleet.split,
            "n": len(fleet),
            "part_names": list(chunks.part_names),
            "provenance": chunks.provenance.model_dump_json(),
            "warnings": list(chunks.warnings),
        }
        arrays = {"tokens": chunks.tokens, "token_class": chunks.token_class, "part": chunks.part}
        masks = {"lengths": chunks.lengths, "scored": chunks.scored}
        arrays |= {name: array for name, array in masks.items() if array is not None}
        return Job(fields, arrays_to_bytes(**arrays))

    def _attending(self, model: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def _begin(self, model: Any, device: Device, chunks: Chunks) -> None:
        # How many ranks there are is for the reports: a sweep may be resumed on more or fewer of a kind.
        name, fleet = " and ".join(dict.fromkeys(self._crew.devices)), self._crew.fleet
        if fleet.split != "chunks":
            name += f", model split ({fleet.split}) over {counted(len(fleet), 'rank')}"
        ours = zip(self._crew.plans, self.settings.variants, strict=True)
        self._planned_as([replace(plan, settings=one, device=name) for plan, one in ours], chunks)
        self._crew.dealer = Dealer(i for i in self._order(chunks) if i not in self.known)

    def _chunk(self, model: Any, chunks: Chunks, index: int) -> Iterator[Event]:
        active = [i for i, one in enumerate(self.measured) if one.active]
        scored = dict.fromkeys(active, 0)
        self._clock()
        for i, step, positions in self._crew.steps(index, active):
            if i in scored:
                scored[i] += len(positions)
                n = self.measured[i].n_positions + scored[i]
                positions = self.measured[i].spelled(positions)
                yield StepScored(index, step, positions, n, self._clock(), i)
        self._take(index, active)

    def _take(self, index: int, active: Sequence[int]) -> None:
        """All that is there of a chunk: the steps of the rank that had it last."""
        result = self._crew.dealer.results.pop(index, None)
        if result is None:
            return
        lists = bytes_to_arrays(result.lists) if result.lists else {}
        for i in active:
            one = self.measured[i]
            for positions in result.of(i):
                one.add(positions)
            if one.keeper is not None:
                own = {name: lists[f"{i}.{name}"] for name in SENT if f"{i}.{name}" in lists}
                one.keeper.take(Positions.concatenate(result.of(i)), own)
            one.seconds += result.seconds.get(i, 0.0) / max(1, self._crew.n_alive)
            one.bytes_measured = result.bytes_measured.get(i, one.bytes_measured)
        if result.whole:
            self.reference_passes += result.references
            self.variant_passes += len(active)

    def _rest(self) -> Iterator[Event]:
        """Whole chunks whose turn has not come when the sweep ends early."""
        results = self._crew.dealer.results
        for index in sorted(results):
            if not results[index].whole:
                continue
            active = [i for i, one in enumerate(self.measured) if one.active]
            before = [len(one.pieces) for one in self.measured]
            self._take(index, active)
            for i in active:
                one = self.measured[i]
                pieces = one.pieces[before[i] :]
                n = one.n_positions
                positions = one.spelled(Positions.concatenate(pieces))
                yield StepScored(index, 0, positions, n, self.seconds, i)
                yield ChunkFinished(index, one.plan.n_chunks, one.look(pieces), i)

    def stopped(self) -> Iterator[Event]:
        """The last events of a sweep that was stopped on request, with all that any rank has finished."""
        yield from self._rest()
        yield from super().stopped()

    def failed(self, error: FidelityError) -> Iterator[Event]:
        """The last events of a sweep that cannot go on, with all that any rank has finished."""
        yield from self._rest()
        yield from super().failed(error)

    def _clock(self) -> float:
        """Seconds since the first chunk, pauses left out."""
        now = time.perf_counter() - self.control.waited
        self._began = now if self._began is None else self._began
        self.seconds = now - self._began
        return self.seconds


def _completed(event: Event, crew: Crew) -> Event:
    """The last events with what only the crew knows: memory taken elsewhere, and ranks that died."""
    if isinstance(event, Finished | Stopped | Failed) and event.report is not None:
        deaths = [] if isinstance(event, Failed) else crew.deaths  # a failure says itself who is left
        ranks = f", {counted(len(crew.fleet), 'rank')}" if crew.fleet.split == "chunks" else ""
        found = {
            "device": event.report.device + ranks,
            "peak_memory_bytes": crew.peak_bytes or None,
            "warnings": [*event.report.warnings, *deaths],
        }
        return replace(event, report=event.report.model_copy(update=found))
    return event


def _found_anywhere(settings: SweepSettings, facts: ModelFacts) -> SweepSettings:
    """The settings with a model that is found wherever a rank is started: a name, or a whole path."""
    given = settings.first.model
    if given == "demo" or not os.path.exists(os.path.expanduser(given)):
        return settings
    whole = str(facts.folder.absolute())
    return replace(settings, variants=tuple(replace(one, model=whole) for one in settings.variants))


def _nobody(_sentence: str) -> None:
    pass


def _nowhere(_chunk: int, _positions: Mapping[int, Positions]) -> None:
    pass
