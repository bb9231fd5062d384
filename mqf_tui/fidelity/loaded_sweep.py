"""A sweep over a model that is in memory already: its own twin is measured, and nothing is loaded (mlx)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mqf_tui.fidelity.events import Estimated, Event, Plan
from mqf_tui.fidelity.model.facts import kv_bytes
from mqf_tui.fidelity.model.loaded import IN_MEMORY, LoadedFacts
from mqf_tui.fidelity.running import RunningSweep

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.planning import MemoryPlan
    from mqf_tui.fidelity.text.chunking import Chunks

SLOW = (
    "quantized weights that are in memory are measured as they are, which takes a CPU hundreds of times "
    "longer than by the model's path, where they are dequantized first"
)


class LoadedSweep(RunningSweep):
    """A running sweep of LoadedFacts. The user's model and tokenizer, and what MLX keeps, stay as they are.

    On a CPU device the twin of a model that is not quantized is cast to float32, as a model that is loaded by
    its path would be; any other computes in its own format.
    """

    _is_cpu = False

    def run(self) -> Iterator[Event]:
        """As ``RunningSweep.run``."""
        with _limit_kept():
            yield from super().run()

    @property
    def _loaded(self) -> LoadedFacts:
        return cast(LoadedFacts, self.facts)

    def _estimated(self, device: Device) -> Estimated:
        found = super()._estimated(device)
        if device.is_cpu and self._loaded.as_it_is(True):
            return replace(found, time=None)  # quantized products on a CPU have no pace that is known
        return found

    def _memory(self, device: Device) -> MemoryPlan:
        """What is in memory already counts where a limit is set, and needs no free memory."""
        from mqf_tui.fidelity.model.shapes import read_shape
        from mqf_tui.fidelity.planning import plan_memory

        facts, shape = self._loaded, read_shape(self.facts)
        if not device.is_cpu:
            return plan_memory(facts, self.settings, device, shape=shape)
        made = 0 if facts.as_it_is(True) or facts.dtype == "float32" else 4 * facts.n_parameters
        held = replace(facts, n_parameters=(facts.size_bytes + made) // 4)  # as so many numbers of 4 bytes
        roomy = replace(device, memory_bytes=device.memory_bytes + facts.size_bytes)
        return plan_memory(held, self.settings, roomy, shape=shape)

    def _model(self, device: Device) -> Generator[Event, None, Any]:
        yield self._doing("looking through the weights", 0.0)
        import mlx.core as mx

        from mqf_tui.fidelity.model.loading import looked_through
        from mqf_tui.fidelity.model.twins import twin

        model = twin(self._loaded.model, None if self._loaded.as_it_is(device.is_cpu) else mx.float32)
        for loaded in looked_through(model):
            yield self._doing("looking through the weights", loaded.share)
        yield self._doing("trying the caches")
        self._is_cpu = device.is_cpu
        return model

    def _planned_as(self, plans: Sequence[Plan], chunks: Chunks) -> None:
        super()._planned_as([self._told(plan) for plan in plans], chunks)

    def _told(self, plan: Plan) -> Plan:
        """The plan with what is different from a model that is loaded by its path."""
        facts = self._loaded
        words = f"{facts.weights} weights, {IN_MEMORY}"
        if not facts.as_it_is(self._is_cpu):
            what = "as they are" if facts.dtype == "float32" else "cast to float32 in a copy"
            return replace(plan, compute=f"{words}, {what}")
        plan = replace(plan, compute=f"{words}, as they are")
        if not self._is_cpu:
            return plan
        number = 4 if facts.dtype in ("float32", "float64") else 2
        return replace(
            plan,
            kv_bytes=kv_bytes(facts, plan.recipe, plan.kinds, number),
            warnings=(SLOW, *plan.warnings),
        )


@contextmanager
def _limit_kept() -> Generator[None]:
    """A measurement sets how much MLX keeps for use again; afterwards it is what the user had."""
    import mlx.core as mx

    before = mx.set_cache_limit(0)
    mx.set_cache_limit(before)
    try:
        yield
    finally:
        mx.set_cache_limit(before)
