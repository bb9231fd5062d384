"""What each cache layer alone costs: every layer, keys and values apart, in one sweep.

All share the reference, and a layer's variant repeats none of the reference's work on the layers before it
(see replaying.py), so 2·N variants of N layers cost about N passes and 2·N output heads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import UnsupportedModelError, ZeroDriftError
from mqf_tui.fidelity.events import Event, Failed, Finished, Started, Stopped, Swept
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import BOUNDED
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.shapes import Shape, read_shape
from mqf_tui.reports.sensitivity_schema import CacheSide, LayerCost, Sensitivity

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Report

CHUNKS = 4  # of the text, unless told otherwise: many settings are measured
NUMBER_BYTES = 2  # bytes saved are counted for a 16-bit cache, as wherever settings are compared


@dataclass(frozen=True)
class Alone:
    """One side of one layer (``both``: keys and values alike), quantized while all else is not."""

    layer: int
    side: CacheSide
    quantizer: Quantizer

    @property
    def quantizers(self) -> LayerQuantizers:
        """What is done to that layer."""
        keys, values = self.side != "values", self.side != "keys"
        return LayerQuantizers(self.quantizer if keys else None, self.quantizer if values else None)

    def settings(self, base: KVSettings) -> KVSettings:
        """``base`` with this layer alone quantized, and scored to the end."""
        return replace(
            base,
            kv=self.quantizers,
            layers=str(self.layer),
            recipe=None,
            until_sure=False,
            precision=None,
        )


@dataclass(frozen=True)
class Sensed:
    """The last event: one Sensitivity for each quantizer.

    ``outcomes``: of everything that was measured, in order. ``partial``: it was stopped, and only chunks that
    every layer had whole count.
    """

    sensitivities: tuple[Sensitivity, ...]
    outcomes: tuple[tuple[Alone, Outcome], ...] = ()
    ended: Swept = field(default_factory=lambda: Swept("", 0, 0, 0.0))

    @property
    def partial(self) -> bool:
        """Whether it was stopped."""
        return self.ended.stopped


@dataclass(frozen=True)
class Outcome:
    """What a sweep found of one variant. ``report`` None, and no positions: it moved nothing at all."""

    report: Report | None
    positions: Positions


Run = Callable[[SweepSettings], Iterator[Event]]


def sense(
    settings: KVSettings,
    facts: ModelFacts,
    control: Control,
    quantizers: Sequence[Quantizer],
    *,
    apart: bool = True,
    run: Run | None = None,
    sweep_id: str = "",
) -> Iterator[Event | Sensed]:
    """Measure each quantizable layer alone with each of ``quantizers``; keys and values ``apart``, or as one.

    Yields the events of the sweep and then Sensed, or ends with Failed or Stopped. What ``settings`` say of
    bits and layers does not count. ``run`` measures a sweep; None: this process's engine does.
    """
    try:
        tried = alone(settings, facts, quantizers, apart)
    except UnsupportedModelError as error:
        yield Failed(error)
        return
    shape = read_shape(facts)
    sweep = SweepSettings(tuple(one.settings(settings) for one in tried), sweep_id=sweep_id)
    ended = yield from swept(sweep, run or engine_of(facts, control), n_layers=len(shape.cache))
    if ended is None:
        return
    outcomes, last = ended
    found = [outcome.positions for outcome in outcomes]
    kept = _whole_chunks(found) if last.stopped else found
    if not any(map(len, kept)):
        yield Stopped(None, Positions.empty())
        return
    each = list(zip(tried, kept, strict=True))
    yield Sensed(
        tuple(_summary([(one, p) for one, p in each if one.quantizer == q], shape) for q in quantizers),
        tuple(zip(tried, outcomes, strict=True)),
        last,
    )


def alone(
    settings: KVSettings, facts: ModelFacts, quantizers: Sequence[Quantizer], apart: bool
) -> list[Alone]:
    """Everything to measure. Raises UnsupportedModelError where no layer can be quantized."""
    layers = tunable(facts, emulated=settings.kernel == "emulated")
    sides: tuple[CacheSide, ...] = ("keys", "values") if apart else ("both",)
    return [Alone(layer, side, q) for q in quantizers for layer in layers for side in sides]


def tunable(facts: ModelFacts, *, emulated: bool) -> list[int]:
    """Layers that grow with the context and can be quantized; raises UnsupportedModelError for none."""
    kinds = read_shape(facts).kinds
    layers = [i for i, k in enumerate(kinds) if k == "full" or (emulated and k not in BOUNDED)]
    if not layers:
        raise UnsupportedModelError(
            "no layer of this model keeps a growing KV cache that can be quantized"
            + ("; choose another model." if emulated else "; try --kernel emulated, or another model.")
        )
    return layers


def engine_of(facts: ModelFacts, control: Control) -> Run:
    """Sweeps of this model by this process's engine."""

    def run(sweep: SweepSettings) -> Iterator[Event]:
        from mqf_tui.fidelity import engine

        return engine.sweep(sweep, facts, control)

    return run


def swept(
    sweep: SweepSettings, run: Run, *, n_layers: int | None = None
) -> Generator[Event, None, tuple[list[Outcome], Swept] | None]:
    """Pass a sweep's events on but for its ends; return what it found of each variant, and its last event.

    None where it ended with Failed, which was passed on. A variant that moved nothing is no failure unless
    none moved anything. ``n_layers``: how many the cache must turn out to have.
    """
    found: dict[int, Outcome] = {}
    still: Failed | None = None
    for event in run(sweep):
        match event:
            case Finished(variant=i) | Stopped(variant=i):
                found[i] = Outcome(event.report, event.positions)
            case Started(plan=plan) if n_layers not in (None, len(plan.recipe.layers)):
                yield Failed(_other_layers(n_layers, len(plan.recipe.layers)))
                return None
            case Failed(error=ZeroDriftError()):
                still = event
            case Failed():
                yield event
                return None
            case Swept():
                if still is not None and not found:
                    yield still
                    return None
                nothing = Outcome(None, Positions.empty())
                return [found.get(i, nothing) for i in range(len(sweep.variants))], event
            case _:
                yield event
    return None


def _other_layers(told: int | None, found: int) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the cache of this model has {found} layers and its configuration tells of {told}, so layers cannot "
        "be told apart before it is loaded; measure with --layers instead."
    )


def _summary(found: Sequence[tuple[Alone, Positions]], shape: Shape) -> Sensitivity:
    some = max((positions for _, positions in found), key=len)
    quantizer = found[0][0].quantizer
    return Sensitivity(
        format=LayerQuantizers(quantizer, quantizer).word,
        n_layers=len(shape.cache),
        n_positions=len(some),
        n_chunks=len(np.unique(some.chunk)),
        layers=[_cost(one, positions, shape) for one, positions in found],
    )


def _cost(one: Alone, positions: Positions, shape: Shape) -> LayerCost:
    from mqf_tui.fidelity.intervals import clustered_interval, within
    from mqf_tui.fidelity.statistics import mean
    from mqf_tui.reports.schema import Estimate

    estimate = Estimate(value=0.0)  # a layer that moves nothing
    if len(positions):
        ci = within(clustered_interval(positions.kl, positions.chunk), 0.0, np.inf)
        estimate = Estimate(value=mean(positions.kl), ci=ci)
    layer = shape.cache[one.layer]
    full = layer.bytes(1, NUMBER_BYTES)
    return LayerCost(
        layer=one.layer,
        side=one.side,
        kl=estimate,
        bytes_saved=full - layer.bytes(1, NUMBER_BYTES, one.quantizers),
    )


def _whole_chunks(found: Sequence[Positions]) -> list[Positions]:
    """Of a sweep that was stopped half-way: the chunks of which every variant has all positions."""
    counts: list[dict[int, int]] = [
        {int(c): int(n) for c, n in zip(*np.unique(p.chunk, return_counts=True), strict=True)}
        for p in found
        if len(p)
    ]
    most = max((n for each in counts for n in each.values()), default=0)
    whole = [c for c in (counts[0] if counts else ()) if all(each.get(c) == most for each in counts)]
    return [p.where(np.isin(p.chunk, whole)) for p in found]
