"""What each cache layer alone costs: every layer, keys and values apart, in one sweep.

All share the reference, and a layer's variant repeats none of the reference's work on the layers before it
(see replaying.py), so 2·N variants of N layers cost about N passes and 2·N output heads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, UnsupportedModelError, ZeroDriftError
from mqf_tui.fidelity.events import Event, Failed, Finished, Plan, Started, StepScored, Stopped, Swept
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import BOUNDED
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.sensitivity_schema import CacheSide, LayerCost, Sensitivity

if TYPE_CHECKING:
    from mqf_tui.fidelity.tops import Tops
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

    @property
    def format(self) -> str:
        """The quantizer as a word, as Sensitivity has it."""
        return LayerQuantizers(self.quantizer, self.quantizer).word

    def settings(self, base: KVSettings) -> KVSettings:
        """``base`` with this layer alone quantized, and scored to the end."""
        return replace(
            base,
            kv=self.quantizers,
            layers=str(self.layer),
            recipe=None,
            until_sure=False,
            precision=None,
            keep_top=0,
        )


@dataclass(frozen=True)
class Sensed:
    """The last event: one Sensitivity for each quantizer.

    ``outcomes``: of everything that was measured, in order. ``partial``: it was stopped, or it failed on the
    way (``ended.error``), and only chunks that every layer had whole count.
    """

    sensitivities: tuple[Sensitivity, ...]
    outcomes: tuple[tuple[Alone, Outcome], ...] = ()
    ended: Swept = field(default_factory=lambda: Swept("", 0, 0, 0.0))

    @property
    def partial(self) -> bool:
        """Whether it ended early."""
        return self.ended.stopped or self.ended.error is not None

    def each(self) -> list[Sensed]:
        """One for each quantizer, with its own outcomes and its share of the passes."""
        found: list[Sensed] = []
        for one in self.sensitivities:
            own = tuple(pair for pair in self.outcomes if pair[0].format == one.format)
            passes = self.ended.variant_passes * len(own) // max(1, len(self.outcomes))
            found.append(Sensed((one,), own, replace(self.ended, variant_passes=passes)))
        return found


@dataclass(frozen=True)
class Outcome:
    """What a sweep found of one variant. ``report`` None: none can be made.

    ``still``: all ``positions`` were scored and nothing moved at any of them; otherwise no positions means
    that it was not reached. ``tops``: the likeliest tokens that were kept.
    """

    report: Report | None
    positions: Positions
    still: bool = False
    tops: Tops | None = None


@dataclass(frozen=True)
class Ending:
    """What a sweep found of all variants, in order, and its last event.

    ``plan``: which positions a whole chunk has; None where none was begun.
    """

    outcomes: tuple[Outcome, ...]
    last: Swept
    plan: Plan | None

    def whole(self) -> list[Positions]:
        """Of each variant the chunks of which every variant has all positions."""
        counts = [Counter(outcome.positions.chunk.tolist()) for outcome in self.outcomes]
        plan = self.plan
        chunks = [c for c in counts[0] if plan and all(each[c] == plan.positions_of(c) for each in counts)]
        return [o.positions.where(np.isin(o.positions.chunk, chunks)) for o in self.outcomes]


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

    Yields the events of the sweep and then Sensed; where no chunk was scored whole it ends with Failed or
    Stopped. What ``settings`` say of bits and layers does not count. ``run`` measures a sweep;
    None: this process's engine does.
    """
    try:
        tried = alone(settings, facts, quantizers, apart)
    except UnsupportedModelError as error:
        yield Failed(error)
        return
    shape = read_shape(facts)
    sweep = SweepSettings(tuple(one.settings(settings) for one in tried), sweep_id=sweep_id)
    ended = yield from swept(sweep, run or engine_of(facts, control), n_layers=len(shape.cache))
    kept, error = ended.whole(), ended.last.error
    if not len(kept[0]):
        yield Stopped(None, Positions.empty()) if error is None else Failed(error)
        return
    each = list(zip(tried, kept, strict=True))
    yield Sensed(
        tuple(_summary([(one, p) for one, p in each if one.quantizer == q], shape) for q in quantizers),
        tuple(zip(tried, ended.outcomes, strict=True)),
        ended.last,
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


def swept(sweep: SweepSettings, run: Run, *, n_layers: int | None = None) -> Generator[Event, None, Ending]:
    """Pass a sweep's events on but for its ends; return what it found of each variant, and its last event.

    What ended it early is that event's ``error``, and what was scored until then is there. A variant that
    moved nothing is no error unless none moved anything. ``n_layers``: how many the cache must turn out to
    have.
    """
    found: dict[int, Outcome] = {}
    still: dict[int, FidelityError] = {}
    steps: dict[int, list[Positions]] = {}  # of variants that have moved nothing yet
    plan: Plan | None = None
    moved = set[int]()
    failed: FidelityError | None = None
    last = Swept(
        sweep.sweep_id, 0, 0, 0.0, error=FidelityError("the sweep ended without a result; run it again.")
    )
    for event in run(sweep):
        match event:
            case Finished(variant=i) | Stopped(variant=i):
                found[i] = Outcome(event.report, event.positions, tops=event.tops)
            case Started(plan=begun) if n_layers not in (None, len(begun.recipe.layers)):
                last = replace(last, error=_other_layers(n_layers, len(begun.recipe.layers)))
                break
            case Failed(error=ZeroDriftError() as error, variant=i):
                still[i] = error
            case Failed(report=report, positions=positions, variant=i):
                failed = event.error
                if positions is not None:
                    found[i] = Outcome(report, positions, tops=event.tops)
            case Swept():
                last = replace(event, error=event.error or failed)
            case _:
                if isinstance(event, Started):
                    plan = event.plan
                if isinstance(event, StepScored) and event.variant not in moved:
                    _look(event, steps, moved)
                yield event
    if any(outcome.report for outcome in found.values()):
        found |= {i: Outcome(None, _once(steps.get(i, [])), still=True) for i in still}
    elif still:
        last = replace(last, error=next(iter(still.values())))
    never = Outcome(None, Positions.empty())
    return Ending(tuple(found.get(i, never) for i in range(len(sweep.variants))), last, plan)


def _look(event: StepScored, steps: dict[int, list[Positions]], moved: set[int]) -> None:
    """Keep the positions of a variant as long as none has moved: no other event has them then."""
    if event.positions.kl.any() or event.positions.flip.any():
        moved.add(event.variant)
        steps.pop(event.variant, None)
    else:
        steps.setdefault(event.variant, []).append(event.positions)


def _once(pieces: Sequence[Positions]) -> Positions:
    """All positions, each once: a chunk is scored anew where the rank that had it died."""
    scored = Positions.concatenate(pieces)
    places = np.stack([scored.chunk, scored.depth])
    return scored.where(np.sort(np.unique(places, axis=1, return_index=True)[1]))


def _other_layers(told: int | None, found: int) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the cache of this model has {found} layers and its configuration tells of {told}, so layers cannot "
        "be told apart before it is loaded; measure with --layers instead."
    )


def _summary(found: Sequence[tuple[Alone, Positions]], shape: Shape) -> Sensitivity:
    some = found[0][1]  # all have the same
    return Sensitivity(
        format=found[0][0].format,
        n_layers=len(shape.cache),
        n_positions=len(some),
        n_chunks=len(np.unique(some.chunk)),
        layers=[_cost(one, positions, shape) for one, positions in found],
    )


def _cost(one: Alone, positions: Positions, shape: Shape) -> LayerCost:
    from mqf_tui.fidelity.intervals import clustered_interval, within
    from mqf_tui.fidelity.statistics import mean
    from mqf_tui.reports.schema import Estimate

    estimate = Estimate(value=0.0)  # a layer that moves nothing has no spread either
    if positions.kl.any():
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
