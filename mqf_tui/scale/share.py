"""What one rank does of a sweep: it holds the model, or a share of it, and scores the chunks it is dealt."""

from __future__ import annotations

import queue
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import Event, Loading, Plan, StepScored
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.prefixes import Sharing
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import LayerKind, Recipe
from mqf_tui.fidelity.running import RunningSweep
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.scale.hosts import Split
from mqf_tui.scale.messages import arrays_to_bytes, packed, plan_to_json
from mqf_tui.scale.wire import Line, Message

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.planning import MemoryPlan
    from mqf_tui.fidelity.quantizers import Kernel
    from mqf_tui.fidelity.replaying import Replay
    from mqf_tui.fidelity.text.chunking import Chunks

ELSEWHERE = "not asked for"


class Share(RunningSweep):
    """A running sweep whose chunks are dealt to it one by one.

    ``group``: MLX's, None for a single rank. ``beside``: ranks on this machine, which share its memory. Where
    the model is split all ranks must run the same passes, so there ``control`` may not stop or pause.
    """

    def __init__(
        self,
        settings: SweepSettings,
        facts: ModelFacts,
        control: Control,
        text: Chunks,
        line: Line,
        *,
        split: Split = "chunks",
        group: Any = None,
        speaks: bool = True,
        beside: int = 1,
    ) -> None:
        super().__init__(settings, facts, control)
        self._text, self._line = text, line
        self._split: Split = split
        self._ranks, self._speaks, self._beside = group, speaks, beside
        self._own: slice | None = None  # the cache layers that a stage of a pipeline holds
        self._all_sharing = Sharing()
        self._all_kinds: tuple[LayerKind, ...] = ()  # the kinds of all layers of a pipeline

    def work(self, inbox: queue.SimpleQueue[Message], device: Device) -> None:
        """Load, then score what is asked for until "end" is; raises what goes wrong.

        ``device``: as it was before any rank on this machine began to load.
        """
        from mqf_tui.fidelity.device import reset_peak_memory

        reset_peak_memory()
        device = self._with_own_memory(device)
        self._estimated(device)
        if self._splits:
            self._spare = 0.0  # which beginnings are kept would be each rank's own decision
        loading = self._model(device)
        while True:
            try:
                event = next(loading)
            except StopIteration as ended:
                model = ended.value
                break
            if isinstance(event, Loading) and event.share is not None:
                self._line.send("loading", share=event.share)
        with self._attending(model):
            self._begin(model, device, self._text)
            self._line.send("ready", plans=[plan_to_json(one.plan) for one in self.measured])
            for one in self.measured:
                one.plan = replace(one.plan, recipe=self._own_layers(one.plan.recipe))
            self._all_sharing = self._shared(self._text, range(len(self._text.tokens)))
            while (message := inbox.get()).word == "score":
                self._dealt(model, message.fields["chunk"], message.fields["variants"])

    @property
    def _splits(self) -> bool:
        """Whether this rank holds a share of the model only."""
        return self._split != "chunks" and self._ranks is not None

    def _with_own_memory(self, device: Device) -> Device:
        """The device with this rank's part of what is free, or may be used, on its machine."""
        if self._beside == 1:
            return device
        most = min(filter(None, (self.settings.memory_limit, device.memory_bytes)), default=0)
        self.settings = replace(self.settings, memory_limit=most // self._beside or None)
        return replace(device, memory_bytes=most // self._beside)

    def _memory(self, device: Device) -> MemoryPlan:
        if not self._splits:
            plan = super()._memory(device)
            if not plan.fits and plan.advice and self._beside > 1:
                return replace(plan, advice=f"{plan.advice[:-1]}, or use fewer ranks on this machine.")
            return plan
        from mqf_tui.fidelity.planning import plan_memory

        plan = plan_memory(self.facts, self.settings, device, n_parts=self._ranks.size())
        return self._agreed(plan) if plan.fits else plan

    def _agreed(self, plan: MemoryPlan) -> MemoryPlan:
        """The plan with the passes that all ranks have room for: they must run the same ones."""
        import mlx.core as mx

        own = mx.array([[plan.variants_per_pass, plan.step]], mx.uint32)
        gathered = mx.distributed.all_gather(own, group=self._ranks, stream=mx.cpu)
        mx.eval(gathered)  # with Python's lock given up: this may be ended while it waits
        together, step = np.array(gathered).min(axis=0).tolist()
        return replace(plan, variants_per_pass=together, step=step)

    def _model(self, device: Device) -> Generator[Event, None, Any]:
        if not self._splits:
            return (yield from super()._model(device))
        from mqf_tui.scale.splitting import load_split, whole_kinds

        trusted = self.settings.first.trust_remote_code
        assert self._split != "chunks"
        if self._split == "pipeline":
            self._all_kinds = whole_kinds(self.facts, trust_remote_code=trusted)
        model: Any = None
        for loaded in load_split(self.facts, device, self._split, self._ranks, trust_remote_code=trusted):
            model = loaded.model
            yield Loading("loading the weights", loaded.share)
        if self._split == "pipeline":
            self._own = slice(model.model.start_idx, model.model.end_idx)
        return model

    def _sharing_of(self, chunk: int) -> int:
        """Let a chunk use, or leave, what it shares with others; the first of them, which names the group.

        The first that this rank gets leaves its prefix to the others, whichever they are.
        """
        whole = self._all_sharing
        for done in [group for group in self._prefixes if whole.last[group] < chunk]:
            del self._prefixes[done]
        group = whole.source.get(chunk, chunk)
        if group in self._prefixes:
            self._sharing = Sharing(source={chunk: group})
        else:
            self._sharing = Sharing(keep={chunk: whole.keep[group]} if group in whole.keep else {})
        return group

    def _kinds(self, model: Any) -> tuple[LayerKind, ...]:
        return self._all_kinds or super()._kinds(model)

    def _try(self, model: Any, recipe: Recipe, kernel: Kernel) -> None:
        if self._own is None:
            super()._try(model, recipe, kernel)
        else:
            from mqf_tui.fidelity.caches import check_cache

            check_cache(model, self._own_layers(recipe), kernel, self.facts.vocab_size)

    def _own_layers(self, recipe: Recipe) -> Recipe:
        # The last entry of a stage's caches is no layer's: see splitting.Relay.
        return recipe if self._own is None else Recipe((*recipe.layers[self._own], LayerQuantizers()))

    def _replayer(self, model: Any, plans: Sequence[Plan]) -> Replay | None:
        # Ranks that share a model must run the same passes, whatever each finds out about its share.
        return super()._replayer(model, plans) if self._split == "chunks" else None

    def _dealt(self, model: Any, chunk: int, variants: Sequence[int]) -> None:
        for i, one in enumerate(self.measured):
            one.dropped = None if i in variants else ELSEWHERE
            one.seconds = 0.0
            one.pieces.clear()
        group, passes = self._sharing_of(chunk), self.reference_passes
        for event in self._chunk(model, self._text, chunk):
            if self._speaks and isinstance(event, StepScored):
                self._line.send(
                    "step", packed(event.positions), chunk=chunk, variant=event.variant, step=event.step
                )
        if self.control.stopped:
            return
        if chunk in self._prefixes:
            self._prefixes[group] = self._prefixes.pop(chunk)
        import mlx.core as mx

        took = {i: (one.seconds, one.bytes_measured) for i, one in enumerate(self.measured) if one.active}
        passes, peak = self.reference_passes - passes, int(mx.get_peak_memory())
        lists = self._lists_of(chunk) if self._speaks else b""
        self._line.send("scored", lists, chunk=chunk, variants=took, references=passes, peak=peak)

    def _lists_of(self, chunk: int) -> bytes:
        """The likeliest tokens that are kept of a chunk, of all variants that have it."""
        keepers = {i: one.keeper for i, one in enumerate(self.measured) if one.active and one.keeper}
        found = {i: keeper.of_chunk(chunk) for i, keeper in keepers.items()}
        arrays = {f"{i}.{name}": array for i, lists in found.items() for name, array in lists.items()}
        return arrays_to_bytes(**arrays) if arrays else b""
