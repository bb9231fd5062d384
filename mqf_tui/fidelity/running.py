"""A sweep while it runs: loading, then all variants chunk by chunk, then a report for each."""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, OutOfMemoryError
from mqf_tui.fidelity.events import (
    SKIPPED,
    ChunkFinished,
    Dropped,
    Estimated,
    Event,
    Loading,
    Plan,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.load import Load
from mqf_tui.fidelity.measured import Measured, are_whole, broken_off, ended, is_known, round_ends
from mqf_tui.fidelity.model.facts import ModelFacts, check_length, check_setting
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import STEP, KVSettings, SweepSettings
from mqf_tui.fidelity.tops import Keeper

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.planning import MemoryPlan
    from mqf_tui.fidelity.prefixes import Prefix, Sharing
    from mqf_tui.fidelity.quantizers import Kernel
    from mqf_tui.fidelity.racing import Race
    from mqf_tui.fidelity.recipes import LayerKind, Recipe
    from mqf_tui.fidelity.replaying import Replay
    from mqf_tui.fidelity.scoring import ChunkScorer
    from mqf_tui.fidelity.text.chunking import Chunks, TokenStore
    from mqf_tui.fidelity.text.corpus import Corpus
    from mqf_tui.fidelity.watchdog import Watchdog
    from mqf_tui.reports.schema import Report


class StopAskedError(Exception):
    """A stop was asked for before anything was scored."""


class RunningSweep:
    """The state of one running measurement of one or more variants: see ``engine.sweep``."""

    def __init__(
        self,
        settings: SweepSettings,
        facts: ModelFacts,
        control: Control,
        *,
        chunks: Sequence[int] | None = None,
        known: Mapping[int, Sequence[Positions]] | None = None,
        store: TokenStore | None = None,
        past: Sequence[Report] = (),
    ) -> None:
        self.settings, self.facts, self.control = settings, facts, control
        self.chosen, self.known, self.store, self.past = chunks, known or {}, store, past
        self.measured: list[Measured] = []
        self.load = Load()
        self.seconds = 0.0
        self.reference_passes = self.variant_passes = 0
        self._race: Race | None = None
        self._tried: set[Any] = set()  # what was tried: kernel, kind of layer, layout
        self._replay: Replay | None = None
        self._per_pass = len(settings.variants)
        self._step = STEP
        self._watchdog: Watchdog | None = None
        self._sharing: Sharing | None = None
        self._prefixes: dict[int, Prefix] = {}
        self._spare = 0.0  # bytes that the plan leaves free
        self._all_skipped = False

    def run(self) -> Iterator[Event]:
        """Load and score; raises what goes wrong, for ``engine.sweep`` to turn into events."""
        self.settings.check()
        for variant in self.settings.variants:
            check_setting(self.facts, variant)
        check_length(self.facts, self.settings.first.chunk_length)
        yield self._doing("reading the text")
        from mqf_tui.fidelity.text.corpora import read_corpus

        first = self.settings.first
        corpus = read_corpus(first.corpus, first.text, first.mixture)
        yield self._doing("preparing the device")
        from mqf_tui.fidelity import device as devices

        device = devices.prepare()
        devices.reset_peak_memory()
        yield self._estimated(device)
        chunks = yield from self._chunks(corpus)
        model = yield from self._model(device)
        with self._attending(model):
            self._begin(model, device, chunks)
            yield Started(tuple(one.plan for one in self.measured))
            yield from self._score(model, chunks)
        if self.control.stopped and any(one.active for one in self.measured):
            yield from self.stopped()
        else:
            yield from self._finished()

    def _estimated(self, device: Device) -> Estimated:
        """How to go through memory; raises OutOfMemoryError where no way fits."""
        from mqf_tui.fidelity.device import keep_for_reuse
        from mqf_tui.fidelity.timing import expected_time
        from mqf_tui.fidelity.watchdog import Watchdog

        plan = self._memory(device)
        if not plan.fits:
            raise OutOfMemoryError(plan.advice or "this does not fit into memory; use shorter chunks.")
        self._per_pass, self._step = plan.variants_per_pass, plan.step
        self._spare = max(0.0, plan.limit_bytes - plan.need_bytes)
        keep_for_reuse(plan.step_bytes)
        self._watchdog = Watchdog(self.settings.memory_limit, plan.step_bytes)
        return Estimated(plan, expected_time(self.facts, self.settings, plan, device, self.past))

    def _memory(self, device: Device) -> MemoryPlan:
        from mqf_tui.fidelity.planning import plan_memory

        return plan_memory(self.facts, self.settings, device)

    def _attending(self, model: Any) -> AbstractContextManager[None]:
        from mqf_tui.fidelity.attention import installed

        return installed(model)

    def _doing(self, what: str, share: float | None = None) -> Loading:
        if self.control.stopped:
            raise StopAskedError
        return Loading(what, share)

    def _chunks(self, corpus: Corpus) -> Generator[Event, None, Chunks]:
        yield self._doing("loading the tokenizer")
        from mqf_tui.fidelity.model import loading
        from mqf_tui.fidelity.text.checks import check_positions
        from mqf_tui.fidelity.text.chunking import make_chunks

        first = self.settings.first
        tokenizer = loading.load_tokenizer(self.facts, trust_remote_code=first.trust_remote_code)
        yield self._doing("cutting the text into chunks")
        chunks = make_chunks(
            corpus,
            tokenizer,
            first.chunk_length,
            first.max_chunks,
            tokenizer_id=self.facts.name,
            options=first.text,
            vocab_size=self.facts.vocab_size,
            store=self.store,
        )
        check_positions(self.settings, chunks)
        return chunks

    def _model(self, device: Device) -> Generator[Event, None, Any]:
        yield self._doing("loading the weights", 0.0)
        from mqf_tui.fidelity.model import loading

        model = None
        trusted = self.settings.first.trust_remote_code
        for loaded in loading.load_model(self.facts, device, trust_remote_code=trusted):
            model = loaded.model
            yield self._doing("loading the weights", loaded.share)
        yield self._doing("trying the caches")
        return model

    def _begin(self, model: Any, device: Device, chunks: Chunks) -> None:
        """Everything that is known only with the model in memory: the plans, and what may be shared."""
        from mqf_tui.fidelity.model.shapes import read_shape
        from mqf_tui.fidelity.planned import Here, planned

        kinds, order, tried = self._kinds(model), self._order(chunks), functools.partial(self._try, model)
        here = Here(self.facts, model, kinds, device, chunks, order, read_shape(self.facts), tried)
        plans = [planned(one, here, self.settings.sweep_id) for one in self.settings.variants]
        self._planned_as(plans, chunks)
        self._replay = self._replayer(model, plans)

    def _kinds(self, model: Any) -> tuple[LayerKind, ...]:
        from mqf_tui.fidelity.caches import layer_kinds

        return layer_kinds(model)

    def _try(self, model: Any, recipe: Recipe, kernel: Kernel) -> None:
        from mqf_tui.fidelity.caches import check_cache

        # Layers of a kind are alike, a sweep may quantize each of many layers alone, and each try reads all
        # weights: how many bits a number has makes no difference to whether it works.
        pairs = zip(self._kinds(model), recipe.layers, strict=True)
        wanted: set[Any] = {(kernel, kind, layer.layout) for kind, layer in pairs if not layer.full}
        new = wanted - self._tried
        if new:
            converts = self.settings.first.quantize_start > 0
            check_cache(model, recipe, kernel, self.facts.vocab_size, deployment=converts)
            self._tried |= new

    def _replayer(self, model: Any, plans: Sequence[Plan]) -> Replay | None:
        from mqf_tui.fidelity.replaying import Replay

        if any(plan.recipe.first_quantized for plan in plans):
            return Replay.of(model, self.facts.vocab_size)
        return None

    def _planned_as(self, plans: Sequence[Plan], chunks: Chunks) -> None:
        """Nothing is scored yet of these variants."""
        for plan in plans:
            one = Measured(plan, self.facts, chunks.vocabulary, self._sureness(plan.settings))
            one.keeper = Keeper(plan.settings.keep_top) if plan.settings.keep_top else None
            self.measured.append(one)
        if self.settings.race and len(plans) > 1:
            from mqf_tui.fidelity.racing import Race

            self._race = Race.of(plans)

    def _sureness(self, settings: KVSettings) -> Any:
        from mqf_tui.fidelity.stopping import Sureness

        return Sureness.of(settings, race=self.settings.race and len(self.settings.variants) > 1)

    def _order(self, chunks: Chunks) -> Sequence[int]:
        """The chunks that are scored, in turn: those with any position to score."""
        counts = chunks.positions(self.settings.first.first_scored)
        wanted = range(len(chunks.tokens)) if self.chosen is None else self.chosen
        return [i for i in wanted if counts[i]]

    def _score(self, model: Any, chunks: Chunks) -> Iterator[Event]:
        order = self._order(chunks)
        self._sharing = self._shared(chunks, order)
        for place, index in enumerate(order):
            yield from self._skips(index, self.known.get(index, ()))
            before = [len(one.pieces) for one in self.measured]
            if is_known(self.measured, self.known.get(index)):
                yield from self._known(index)
            else:
                yield from self._chunk(model, chunks, index)
            if self.control.stopped and not are_whole(self.measured, before, index):
                return
            scored = {
                i: one.pieces[n:]
                for i, (one, n) in enumerate(zip(self.measured, before, strict=True))
                if one.active
            }
            for i, pieces in scored.items():
                yield ChunkFinished(index, len(order), self.measured[i].look(pieces), i)
            if self._race is not None:
                self._race.add({i: Positions.concatenate(pieces) for i, pieces in scored.items()})
            if round_ends(chunks.part[order], place, chunks.round_length):
                yield from self._leaving(index, last=index == order[-1])
            if not any(one.active for one in self.measured):
                return

    def _shared(self, chunks: Chunks, order: Sequence[int]) -> Sharing:
        """Chunks that begin alike, where all variants go through the model side by side."""
        from mqf_tui.fidelity.prefixes import Sharing, sharing
        from mqf_tui.fidelity.scoring import boundaries

        first = self.settings.first
        if self._per_pass < len(self.measured):
            return Sharing()
        starts = boundaries(first.chunk_length, first.quantize_start, first.first_scored, self._step)
        return sharing(chunks.begun_alike(), [i for i in order if i not in self.known], starts)

    def _known(self, index: int) -> Iterator[Event]:
        for i, (one, positions) in enumerate(zip(self.measured, self.known[index], strict=True)):
            if one.active and len(positions):
                one.add(positions)
                one.n_known += len(positions)
                yield StepScored(index, 0, one.spelled(positions), one.n_positions, self.seconds, i)

    def _chunk(self, model: Any, chunks: Chunks, index: int) -> Iterator[Event]:
        """One chunk through the model: the reference once for as many variants as memory holds."""
        from mqf_tui.fidelity.prefixes import Sharing
        from mqf_tui.fidelity.scoring import ChunkScorer, Text, Variant

        first = self.settings.first
        active = [i for i, one in enumerate(self.measured) if one.active]
        shared = self._sharing or Sharing()
        for start in range(0, len(active), self._per_pass):
            group = [i for i in active[start : start + self._per_pass] if self.measured[i].active]
            plans = [self.measured[i].plan for i in group]
            scorer = ChunkScorer(
                model,
                Text.of(chunks, index),
                [Variant(plan.recipe, plan.kernel) for plan in plans],
                self.control,
                quantize_start=first.quantize_start,
                first_scored=first.first_scored,
                step_size=self._step,
                replay=self._replay,
                prefix=self._prefixes.get(shared.source.get(index, -1)),
                keep=self._kept_until(index),
                watch=self._watchdog.check if self._watchdog else None,
                numbers=group,
                keepers=[self.measured[i].keeper for i in group],
            )
            yield from self._group(scorer, group, index)
            if self.control.stopped:
                return
            if scorer.left is not None:
                self._prefixes[index] = scorer.left
        if shared.last.get(source := shared.source.get(index, -1)) == index:
            self._prefixes.pop(source, None)

    def _kept_until(self, index: int) -> int:
        """Where to leave this chunk's beginning for others that share it; 0 where there is no room."""
        end = self._sharing.keep.get(index, 0) if self._sharing else 0
        plans = [one.plan.kv_bytes for one in self.measured]
        each = end * (plans[0].reference + sum(plan.variant for plan in plans))
        return end if (len(self._prefixes) + 1) * each <= self._spare else 0

    def _group(self, scorer: ChunkScorer, group: Sequence[int], index: int) -> Iterator[Event]:
        from mqf_tui.fidelity.caches import bytes_per_token

        step, held = dict.fromkeys(group, 0), self.control.waited
        self.load.begin()
        scored = iter(scorer)
        while any(self.measured[i].active for i in group):
            self.control.wait()
            began, waited = time.perf_counter(), self.control.waited
            found = next(scored, None)
            self.seconds += time.perf_counter() - began - (self.control.waited - waited)
            if found is not None:
                i, one = group[found[0]], self.measured[group[found[0]]]
                one.add(found[1])
                yield StepScored(index, step[i], one.spelled(found[1]), one.n_positions, self.seconds, i)
                step[i] += 1
            yield from self._skips(index)
            if found is None:
                break
        if self.control.waited == held:  # what others do in a pause slows nothing down
            self.load.end()
        if not self.control.stopped:
            whole = sum(self.measured[i].active for i in group)
            self.reference_passes += bool(whole)
            self.variant_passes += whole
        for place, i in enumerate(group):
            one = self.measured[i]
            one.seconds += scorer.seconds[place] + scorer.reference_seconds / len(group)
            if step[i] and one.plan.kernel != "emulated":
                caches = scorer.reference, scorer.whole_cache(place)
                one.bytes_measured = bytes_per_token(caches[0]), bytes_per_token(caches[1])

    def _skips(self, index: int, known: Sequence[Positions] = ()) -> Iterator[Event]:
        """Variants that nobody wants any more; those that had this chunk before stay for it."""
        for i in sorted(self.control.skipped & {*range(len(self.measured))}):
            one = self.measured[i]
            if one.active and not (known and len(known[i])):
                one.dropped = SKIPPED
                self._all_skipped = not any(other.active for other in self.measured)
                yield Dropped(i, index, SKIPPED)

    def _leaving(self, index: int, *, last: bool) -> Iterator[Event]:
        """Variants that are settled, or out of the race, after a whole round of the corpus's parts."""
        for i, one in enumerate(self.measured):
            rule = one.sureness if one.plan.settings.stops_early else None
            if one.active and rule is not None and rule.settled:
                one.settled = True
                if len(self.measured) > 1:
                    yield Dropped(i, index, "settled")
        if self._race is None or last:  # who has come to the end has not left
            return
        from mqf_tui.fidelity.racing import SETTLED

        for i, why in self._race.out().items():
            one = self.measured[i]
            if one.active:
                one.settled = why == SETTLED
                one.dropped = None if one.settled else why
                yield Dropped(i, index, why)

    def _finished(self) -> Iterator[Event]:
        for i, one in enumerate(self.measured):
            yield ended(i, one, self.load, stopped=False)
        yield self._swept(stopped=self._all_skipped)

    def stopped(self) -> Iterator[Event]:
        """The last events of a measurement that was stopped on request."""
        for i, one in enumerate(self.measured):
            yield ended(i, one, self.load, stopped=one.active)
        if not self.measured:
            yield Stopped(None, Positions.empty())
        yield self._swept(stopped=True)

    def failed(self, error: FidelityError) -> Iterator[Event]:
        """The last events of a measurement that cannot go on."""
        yield from broken_off(self.measured, self.load, error)
        yield self._swept(error=error)

    def _swept(self, *, stopped: bool = False, error: FidelityError | None = None) -> Swept:
        passes = self.reference_passes, self.variant_passes
        return Swept(self.settings.sweep_id, *passes, self.seconds, stopped, error)
