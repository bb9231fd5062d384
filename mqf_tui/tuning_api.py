"""Sensitivity and tuning in Python: the same engine that the command line uses."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from mqf_tui.argument_values import path_words, real, several, whole, whole_or_none
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.events import Event, Failed
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import TextOptions, text_choices
from mqf_tui.listening import result_of
from mqf_tui.model_argument import Model, asked_model

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.quantizers import Kernel, Quantizer
    from mqf_tui.fidelity.sensitivity import Run, Sensed
    from mqf_tui.fidelity.tuning import Stage, Tuned, TuneSettings
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_schema import Tuning
    from mqf_tui.scale.crew import Notice
    from mqf_tui.scale.hosts import Fleet


def sensitivity_events(
    settings: KVSettings,
    quantizers: Sequence[Quantizer],
    control: Control | None = None,
    *,
    apart: bool = True,
    memory_limit: int | None = None,
    fleet: Fleet | None = None,
    notice: Notice | None = None,
    sweep_id: str = "",
    facts: ModelFacts | None = None,
) -> Generator[Event | Sensed]:
    """Find the model and measure each layer alone (see ``fidelity.sensitivity.sense``); never raises.

    ``facts`` as in ``api.sweep_events``.
    """
    control = control or Control()
    try:
        settings.check()
        from mqf_tui.api import facts_of
        from mqf_tui.fidelity.sensitivity import sense

        found = facts_of(settings) if facts is None else facts
    except FidelityError as error:
        yield Failed(error)
        return
    run = _runner(control, memory_limit, fleet, notice, facts)
    yield from sense(settings, found, control, quantizers, apart=apart, run=run, sweep_id=sweep_id)


def tune_events(
    settings: TuneSettings,
    control: Control | None = None,
    *,
    memory_limit: int | None = None,
    fleet: Fleet | None = None,
    notice: Notice | None = None,
    facts: ModelFacts | None = None,
) -> Generator[Event | Stage | Sensed | Tuned]:
    """Find the model and a recipe for it (see ``fidelity.tuning.tune``); never raises.

    ``facts`` as in ``api.sweep_events``.
    """
    control = control or Control()
    try:
        settings.check()
        from mqf_tui.api import facts_of
        from mqf_tui.fidelity.tuning import tune

        found = facts_of(settings.base) if facts is None else facts
    except FidelityError as error:
        yield Failed(error)
        return
    yield from tune(settings, found, control, run=_runner(control, memory_limit, fleet, notice, facts))


def measure_kv_sensitivity(
    model: Model,
    *,
    kv_bits: int = 4,
    kv_group_size: int = 64,
    apart: bool = True,
    kernel: Kernel = "auto",
    quantize_start: int = 0,
    chunk_length: int = 512,
    max_chunks: int | None = 4,
    corpus: str | PathLike[str] = "builtin",
    trust_remote_code: bool = False,
    text: TextOptions | None = None,
    memory_limit: int | None = None,
    fleet: Fleet | None = None,
    on_event: Callable[[Event | Sensed], None] | None = None,
) -> SweepReport:
    """Measure which layers, and whether their keys or values, hurt most when they alone are quantized.

    ``report.sensitivity`` has each layer and side with its mean KL. ``apart`` False: keys and values as one.
    The rest as in ``measure_kv_fidelity``. Nothing is saved.

    Raises FidelityError (or a subclass) with a message that says what would work.
    """
    from mqf_tui.fidelity.quantizers import Quantizer
    from mqf_tui.fidelity.sensitivity import Sensed

    word, facts = asked_model(model)
    settings = _settings(
        word, kv_group_size, kernel, quantize_start, chunk_length, max_chunks, corpus, trust_remote_code, text
    )
    quantizer = Quantizer(whole(kv_bits), whole(kv_group_size))
    quantizer.check()
    events = sensitivity_events(
        settings,
        [quantizer],
        apart=apart,
        memory_limit=memory_limit,
        fleet=fleet,
        sweep_id="unsaved",
        facts=facts,
    )

    def found(event: Event | Sensed) -> SweepReport | None:
        if not isinstance(event, Sensed):
            return None
        if event.ended.error is not None:
            raise event.ended.error
        return sensitivity_report(event)

    return result_of(events, on_event, found, "measurement")


def tune_kv(
    model: Model,
    *,
    max_kv_bytes_per_token: float | None = None,
    max_kl: float | None = None,
    bits: Sequence[int] = (8, 6, 4, 3, 2),
    kv_group_size: int = 64,
    apart: bool = True,
    sensed_bits: Sequence[int] = (),
    sensed_chunks: int = 4,
    kernel: Kernel = "auto",
    quantize_start: int = 0,
    chunk_length: int = 512,
    max_chunks: int | None = None,
    corpus: str | PathLike[str] = "builtin",
    trust_remote_code: bool = False,
    text: TextOptions | None = None,
    memory_limit: int | None = None,
    fleet: Fleet | None = None,
    on_event: Callable[[Event | Stage | Sensed | Tuned], None] | None = None,
) -> Tuning:
    """Find a mixed recipe: at most ``max_kv_bytes_per_token`` (of a 16-bit cache), or ``max_kl`` nats.

    Each layer is measured alone at ``sensed_bits`` (none named: 4 and the fewest of ``bits``) on
    ``sensed_chunks`` chunks, formats are chosen greedily by KL per byte saved, and the recipe is measured as
    a whole beside settings without a mix. ``tuning.toml`` is the recipe's file, ``tuning.code`` the Python
    that applies it with mlx-lm, ``tuning.met`` whether it keeps to the goal. The rest as in
    ``measure_kv_fidelity``. Nothing is saved.

    Raises FidelityError (or a subclass) with a message that says what would work.
    """
    from mqf_tui.fidelity.tuning import Tuned, TuneSettings

    word, facts = asked_model(model)
    settings = TuneSettings(
        _settings(
            *(word, kv_group_size, kernel, quantize_start, chunk_length, max_chunks, corpus),
            *(trust_remote_code, text),
        ),
        max_kv_bytes=real(max_kv_bytes_per_token),
        max_kl=real(max_kl),
        bits=several(bits),
        sensed_bits=several(sensed_bits),
        sensed_chunks=whole(sensed_chunks),
        apart=apart,
    )
    events = tune_events(settings, memory_limit=memory_limit, fleet=fleet, facts=facts)
    return result_of(
        events, on_event, lambda event: event.tuning if isinstance(event, Tuned) else None, "tuning"
    )


def sensitivity_report(sensed: Sensed, command: str = "") -> SweepReport:
    """What was sensed at one quantizer as a report with its picture; each layer is a setting of it."""
    from mqf_tui.fidelity.pairing import Subject
    from mqf_tui.fidelity.sweep_summary import sweep_summary

    subjects = [
        Subject(f"layer {one.layer} {one.side}", outcome.report, lambda found=outcome.positions: found)
        for one, outcome in sensed.outcomes
        if outcome.report is not None
    ]
    (found,) = sensed.sensitivities
    return sweep_summary(subjects, ended=sensed.ended, sensitivity=found, command=command)


def _runner(
    control: Control,
    memory_limit: int | None,
    fleet: Fleet | None,
    notice: Notice | None,
    facts: ModelFacts | None,
) -> Run:
    def run(sweep: SweepSettings) -> Iterator[Event]:
        from mqf_tui.api import sweep_events

        limited = replace(sweep, memory_limit=whole_or_none(memory_limit))
        return sweep_events(limited, control, fleet=fleet, notice=notice, facts=facts)

    return run


def _settings(
    model: str,
    kv_group_size: int,
    kernel: Kernel,
    quantize_start: int,
    chunk_length: int,
    max_chunks: int | None,
    corpus: str | PathLike[str],
    trust_remote_code: bool,
    text: TextOptions | None,
) -> KVSettings:
    return KVSettings(
        model=model,
        kv_group_size=whole(kv_group_size),
        kernel=kernel,
        quantize_start=whole(quantize_start),
        chunk_length=whole(chunk_length),
        max_chunks=whole_or_none(max_chunks),
        corpus=path_words("corpus", corpus),
        trust_remote_code=trust_remote_code,
        text=text_choices(text),
    )
