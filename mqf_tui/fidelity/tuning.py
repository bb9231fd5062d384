"""A mixed recipe: each layer measured alone, formats chosen greedily, the recipe measured as a whole."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, FidelityError, MeasurementError
from mqf_tui.fidelity.events import Event, Failed, Stopped, Swept
from mqf_tui.fidelity.greedy import Choice, within_bytes, within_kl
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import read_shape
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.sensitivity import (
    CHUNKS,
    NUMBER_BYTES,
    Outcome,
    Run,
    Sensed,
    alone,
    engine_of,
    sense,
    swept,
    tunable,
)
from mqf_tui.fidelity.settings import KVSettings, SweepSettings, is_number
from mqf_tui.fidelity.tops import Tops
from mqf_tui.fidelity.tuning_table import Table
from mqf_tui.reports.schema import Report
from mqf_tui.reports.tuning_schema import Tuning

BITS = (8, 6, 4, 3, 2)
SENSED_BITS = 4  # measured layer by layer, and the fewest bits beside it: where KL is well above rounding
ROUNDS = 3  # of measuring recipes as a whole
FIRST_SHARES = (1.5, 1.0, 0.6)  # of the allowed KL, predicted: the sum is seldom exact
CLOSE = 0.9  # a recipe that uses so much of the allowed KL is as good as it gets
MARGIN = 0.97


@dataclass(frozen=True)
class TuneSettings:
    """What is to be tuned, and to which goal: exactly one of ``max_kv_bytes`` (KV bytes per token of a 16-bit
    cache) and ``max_kl`` (nats, mean).

    ``base``: model, text and chunks of the final measurement, and its kernel; its group size is that of all
    candidates, what it says of bits does not count. ``sensed_bits``: the widths that are measured layer by
    layer, on ``sensed_chunks`` chunks; others follow a rule (see tuning_table). ``apart``: keys and values
    may differ. Raises BadSettingError from ``check()``.
    """

    base: KVSettings
    max_kv_bytes: float | None = None
    max_kl: float | None = None
    bits: tuple[int, ...] = BITS
    sensed_bits: tuple[int, ...] = ()
    sensed_chunks: int = CHUNKS
    apart: bool = True

    def check(self) -> None:
        """Raise BadSettingError on the first value that cannot be."""
        self.base.check()
        goals = {"max KV bytes per token": self.max_kv_bytes, "max KL": self.max_kl}
        if sum(goal is not None for goal in goals.values()) != 1:
            what = "two goals are" if all(goal is not None for goal in goals.values()) else "no goal is"
            raise BadSettingError(
                f"{what} given for the tuning; name one goal, the most KV bytes per token "
                "(--max-kv-bytes-per-token, or --context with --memory) or the most mean KL (--max-kl)."
            )
        for name, goal in goals.items():
            if goal is not None and not (is_number(goal) and goal > 0):
                raise BadSettingError(f"{name} is {goal!r}; use a number above 0.")
        if not self.bits:
            raise BadSettingError("no bits to choose from; name some, such as 8,6,4,3,2.")
        for bits in (*self.bits, *self.sensed_bits):
            Quantizer(bits, self.base.kv_group_size).check()
        if unknown := set(self.sensed_bits) - set(self.bits):
            raise BadSettingError(
                f"{min(unknown)} bits are to be measured but are no candidate; add them to --bits."
            )
        if type(self.sensed_chunks) is not int or self.sensed_chunks < 1:
            raise BadSettingError(f"sensitivity chunks are {self.sensed_chunks!r}; use 1 or more.")
        if self.base.layers is not None or self.base.recipe is not None:
            raise BadSettingError("a tuning chooses the layers itself; leave out --layers and --recipe.")

    @property
    def measured_bits(self) -> tuple[int, ...]:
        """The widths that are measured layer by layer."""
        near = max((b for b in self.bits if b <= SENSED_BITS), default=min(self.bits))
        return self.sensed_bits or tuple(sorted({near, min(self.bits)}, reverse=True))


@dataclass(frozen=True)
class Stage:
    """A new part of the work begins: ``what`` in words, and how many settings are measured in it."""

    what: str
    n_variants: int


@dataclass(frozen=True)
class Tuned:
    """The last event. ``report``, ``positions`` and ``tops`` are those of ``recipe``, measured as a whole.

    ``tuning.partial``: a later round was stopped, or failed with ``error``.
    """

    tuning: Tuning
    recipe: Recipe
    report: Report
    positions: Positions
    error: FidelityError | None = None
    tops: Tops | None = None


@dataclass(frozen=True)
class Candidate:
    """What is measured as a whole."""

    choice: Choice
    recipe: Recipe
    uniform: bool = False


@dataclass
class Trials:
    """All that was measured as a whole so far, by recipe."""

    table: Table
    sensed: Sensed
    candidates: dict[Recipe, Candidate] = field(default_factory=dict[Recipe, Candidate])
    outcomes: dict[Recipe, Outcome] = field(default_factory=dict[Recipe, Outcome])

    def kl(self, candidate: Candidate) -> float:
        """Measured mean KL."""
        report = self.outcomes[candidate.recipe].report
        return report.kl.mean if report else 0.0

    def most(self, candidate: Candidate) -> float:
        """The upper end of its interval; infinite where there is none (one chunk)."""
        report = self.outcomes[candidate.recipe].report
        if report is None:
            return 0.0
        return math.inf if report.kl.ci_high is None else report.kl.ci_high

    @property
    def mixed(self) -> list[Candidate]:
        """Candidates that are no uniform setting, in the order they were tried."""
        return [c for c in self.candidates.values() if not c.uniform and self.outcomes[c.recipe].report]

    @property
    def uniform(self) -> list[Candidate]:
        """The uniform settings."""
        return [c for c in self.candidates.values() if c.uniform and self.outcomes[c.recipe].report]


def tune(
    settings: TuneSettings, facts: ModelFacts, control: Control, *, run: Run | None = None
) -> Iterator[Event | Stage | Sensed | Tuned]:
    """Find a recipe that keeps to the goal; yields events, at the end Tuned, or Failed or Stopped.

    Sensed comes as soon as every layer was measured alone, or as far as that came. A round that ends early
    gives a Stopped or Failed with a partial report for each setting of it, and then the last event: Tuned
    where an earlier round measured a recipe. Where no recipe's interval ends close below ``max_kl`` another
    step follows, at most ROUNDS in all; if none keeps to it the one of least KL is given, and Tuning says so.
    ``run`` measures a sweep; None: this process's engine does.
    """
    try:
        settings.check()
        yield from _tune(settings, facts, run or engine_of(facts, control), control)
    except FidelityError as error:
        yield Failed(error)


def _tune(
    settings: TuneSettings, facts: ModelFacts, run: Run, control: Control
) -> Generator[Event | Stage | Sensed | Tuned, None, None]:
    _check_bytes(settings, facts)
    sensed = yield from _sensed(settings, facts, run, control)
    if sensed is None:
        return
    cache = read_shape(facts).cache
    table = Table.of(sensed.sensitivities, settings.bits, settings.base.kv_group_size, cache)
    trials = Trials(table, sensed)
    limits = _first_limits(settings)
    last: Swept | None = None
    for number in range(ROUNDS):
        wanted = _candidates(settings, trials, limits)
        if not wanted:
            break
        yield Stage(f"measuring recipes as a whole, round {number + 1}", len(wanted))
        last = yield from _measured(settings, trials, wanted, run)
        if _early(last):
            break
        if not trials.mixed:
            raise MeasurementError("the recipe moved nothing at all, so nothing can be said of it.")
        limits = _next_limits(settings, trials)
    if not trials.mixed:
        assert last is not None
        yield _end(last)
        return
    chosen = proposed(settings, trials)
    from mqf_tui.fidelity.tuning_summary import summary

    outcome = trials.outcomes[chosen.recipe]
    assert outcome.report is not None
    tuning = summary(settings, facts, trials, chosen, last)
    error = last.error if last is not None else None
    yield Tuned(tuning, chosen.recipe, outcome.report, outcome.positions, error, outcome.tops)


def _early(last: Swept) -> bool:
    return last.stopped or last.error is not None


def _end(last: Swept) -> Stopped | Failed:
    """The last event where there is nothing else to give."""
    return Stopped(None, Positions.empty()) if last.error is None else Failed(last.error)


def _sensed(
    settings: TuneSettings, facts: ModelFacts, run: Run, control: Control
) -> Generator[Event | Stage | Sensed, None, Sensed | None]:
    base = settings.base
    quantizers = [Quantizer(b, base.kv_group_size) for b in settings.measured_bits]
    n_chunks = min(settings.sensed_chunks, base.max_chunks or settings.sensed_chunks)
    n = len(alone(base, facts, quantizers, settings.apart))
    yield Stage("measuring each layer alone", n)
    found: Sensed | None = None
    for event in sense(
        replace(base, max_chunks=n_chunks), facts, control, quantizers, apart=settings.apart, run=run
    ):
        match event:
            case Sensed() if event.partial:
                yield event
                yield _end(event.ended)
                return None
            case Sensed():
                found = event
            case _:
                pass
        yield event
    return found


def _first_limits(settings: TuneSettings) -> list[float]:
    """What the first round's recipes may cost, predicted: nats, or bytes."""
    if settings.max_kl is None:
        assert settings.max_kv_bytes is not None
        return [settings.max_kv_bytes]
    return [share * settings.max_kl for share in FIRST_SHARES]


def _next_limits(settings: TuneSettings, trials: Trials) -> list[float]:
    """What the next round's recipe may cost, by how far predictions were off; [] to stop.

    Aimed at is the upper end of the interval: a mean of exactly the goal is as likely above it as below.
    """
    if settings.max_kl is None:
        return []
    goal = settings.max_kl
    known = all(math.isfinite(trials.most(c)) for c in trials.mixed)
    found = {c.recipe: trials.most(c) if known else trials.kl(c) for c in trials.mixed}
    if any(CLOSE * goal <= cost <= goal for cost in found.values()):
        return []
    near = min(trials.mixed, key=lambda c: abs(found[c.recipe] - goal))
    cost = found[near.recipe]
    return [MARGIN * goal * near.choice.kl / cost] if cost > 0 else []


def _candidates(settings: TuneSettings, trials: Trials, limits: Sequence[float]) -> list[Candidate]:
    """What to measure next; the first time with uniform settings to compare with."""
    table, found = trials.table, list[Candidate]()
    for limit in limits:
        if settings.max_kl is None:
            choice = within_bytes(table.options, limit - table.fixed_bytes)
        else:
            choice = within_kl(table.options, limit)
        recipe = table.recipe(choice)
        if recipe.n_quantized and recipe not in trials.candidates:
            found.append(Candidate(choice, recipe))
    if not trials.candidates:
        if not found:
            raise MeasurementError(
                f"even the widest of the formats is predicted to cost more than {settings.max_kl:g} nats in "
                "any layer; allow more KL, or more bits (--bits)."
            )
        sizes = [table.bytes(one.choice) for one in found]
        found += _uniform(settings, table, min(sizes), max(sizes))
    unique: dict[Recipe, Candidate] = {}
    for one in found:
        unique.setdefault(one.recipe, one)
    return list(unique.values())


def _check_bytes(settings: TuneSettings, facts: ModelFacts) -> None:
    """Raise BadSettingError where it is plain before any work that no recipe is needed, or none can do."""
    limit, cache = settings.max_kv_bytes, read_shape(facts).cache
    if limit is None:
        return
    tuned = set(tunable(facts, emulated=settings.base.kernel == "emulated"))
    least = min(
        Quantizer(b, settings.base.kv_group_size).bytes_per_value(NUMBER_BYTES) for b in settings.bits
    )
    growing = [(i, layer) for i, layer in enumerate(cache) if layer.bound is None]
    full = sum(layer.bytes(1, NUMBER_BYTES) for _, layer in growing)
    smallest = sum(
        (layer.keys + layer.values) * (least if i in tuned else NUMBER_BYTES) for i, layer in growing
    )
    if full <= limit:
        raise BadSettingError(
            f"the full-precision cache takes {full:,.0f} KV bytes per token, which is within the limit of "
            f"{limit:,.0f}; there is nothing to tune."
        )
    if smallest > limit:
        raise BadSettingError(
            f"the smallest formats need {smallest:,.0f} KV bytes per token and {limit:,.0f} are allowed; "
            "allow more, or fewer bits (--bits)."
        )


def _uniform(settings: TuneSettings, table: Table, low: float, high: float) -> list[Candidate]:
    """Of the settings without a mix: the nearest in size below and above with keys as values, and of those
    no larger with keys and values apart the one of least predicted KL."""
    group = settings.base.kv_group_size
    each = [Quantizer(b, group) for b in sorted(set(settings.bits), reverse=True)]
    alike = [_same(table, LayerQuantizers(q, q)) for q in each]
    split = [_same(table, LayerQuantizers(k, v)) for k in each for v in each if k != v and settings.apart]

    def size(one: Candidate) -> float:
        return table.bytes(one.choice)

    chosen = [
        max((c for c in alike if size(c) <= low), key=size, default=None),
        min((c for c in alike if size(c) >= high), key=size, default=None),
        min((c for c in split if size(c) <= high), key=lambda c: c.choice.kl, default=None),
    ]
    return [c for c in chosen if c is not None]


def _same(table: Table, quantizers: LayerQuantizers) -> Candidate:
    choice = table.choice(quantizers)
    return Candidate(choice, table.recipe(choice), uniform=True)


def _measured(
    settings: TuneSettings, trials: Trials, wanted: Sequence[Candidate], run: Run
) -> Generator[Event, None, Swept]:
    """Measure candidates as a whole, in one sweep; how that ended. Early, and they count for nothing."""
    base = replace(settings.base, kv=None, layers=None, until_sure=False, precision=None)
    sweep = SweepSettings(tuple(replace(base, recipe=one.recipe) for one in wanted))
    ended = yield from swept(sweep, run)
    if _early(ended.last):
        for i, outcome in enumerate(ended.outcomes):
            if outcome.report is not None:
                yield _as_far(ended.last, outcome, outcome.report, i)
        return ended.last
    for one, outcome in zip(wanted, ended.outcomes, strict=True):
        trials.candidates[one.recipe] = one
        trials.outcomes[one.recipe] = outcome
    return ended.last


def _as_far(last: Swept, outcome: Outcome, report: Report, variant: int) -> Stopped | Failed:
    if last.error is None:
        return Stopped(report, outcome.positions, variant, outcome.tops)
    return Failed(last.error, report, outcome.positions, variant, outcome.tops)


def proposed(settings: TuneSettings, trials: Trials) -> Candidate:
    """The recipe of fewest bytes whose whole interval keeps to the goal, or else whose mean does; where none
    does, that of least KL."""
    table, mixed = trials.table, trials.mixed
    if settings.max_kl is None:
        return mixed[0]
    goal = settings.max_kl
    surely = [c for c in mixed if trials.most(c) <= goal]
    within = [c for c in mixed if trials.kl(c) <= goal]
    if surely or within:
        return min(surely or within, key=lambda c: (table.bytes(c.choice), trials.kl(c)))
    return min(mixed, key=trials.kl)
