"""``mqf-tui sensitivity`` and ``mqf-tui tune``: layers apart, and the recipe that comes of it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui.console.budgeting import allowed_bytes
from mqf_tui.console.measuring import check_output, interrupts
from mqf_tui.console.output import notice, say, sweep_format_of, write_file
from mqf_tui.console.text_arguments import corpus_of, text_of
from mqf_tui.console.tuning_progress import TuningProgress
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, FidelityError, SaveError
from mqf_tui.fidelity.events import Failed, Stopped
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.scale.options import fleet_from

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.sensitivity import Sensed
    from mqf_tui.fidelity.tops import Tops
    from mqf_tui.fidelity.tuning import Tuned, TuneSettings
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_schema import SweepReport

MISSED = 1  # the exit code where no recipe kept to the goal


def sensitivity(options: argparse.Namespace) -> int:
    """Measure each layer alone, print the report, save it as a sweep; return the exit code."""
    from mqf_tui.fidelity.quantizers import Quantizer
    from mqf_tui.fidelity.sensitivity import Sensed
    from mqf_tui.library.runs import check_writable
    from mqf_tui.library.spool import new_sweep_id
    from mqf_tui.tuning_api import sensitivity_events

    settings, quantizer = _base(options), Quantizer(options.kv_bits, options.kv_group_size)
    quantizer.check()
    _prepare(options)
    if not options.no_save:
        check_writable()
    control = Control()
    last = _followed(
        sensitivity_events(
            settings,
            [quantizer],
            control,
            apart=not options.together,
            memory_limit=options.memory_limit,
            fleet=options.fleet,
            notice=notice,
            sweep_id=new_sweep_id(),
        ),
        control,
    )
    match last:
        case Sensed(ended=ended):
            _deliver_sensed(last, options)
            if ended.error is not None:
                raise ended.error
            return INTERRUPTED if last.partial else 0
        case _:
            return _ended(last)


def tune(options: argparse.Namespace) -> int:
    """Find a recipe, measure it, print and save it; return the exit code.

    Each layer alone is saved (as sweeps) before the rest begins, and so are the runs of a round that ends
    early.
    """
    from mqf_tui.fidelity.tuning import Tuned
    from mqf_tui.library.runs import check_writable
    from mqf_tui.tuning_api import tune_events

    settings = tune_settings(options)
    settings.check()
    _prepare(options)
    if options.save_recipe is not None:
        check_output(Path(options.save_recipe))
    if not options.no_save:
        check_writable()
    control = Control()
    limit, fleet = options.memory_limit, options.fleet
    kept = Kept(options)
    events = tune_events(settings, control, memory_limit=limit, fleet=fleet, notice=notice)
    last = _followed(events, control, kept.take)
    match last:
        case Tuned(tuning=tuning, error=error):
            _deliver_tuned(last, options)
            if error is not None:
                raise error
            if tuning.partial:
                sys.stderr.write("mqf-tui: interrupted; the recipe is the best so far.\n")
                return INTERRUPTED
            return 0 if tuning.met else MISSED
        case _:
            return _ended(last, kept.words)


def tune_settings(options: argparse.Namespace) -> TuneSettings:
    """What the options ask for; raises BadSettingError."""
    from mqf_tui.fidelity.tuning import TuneSettings

    base = _base(options)
    return TuneSettings(
        base,
        max_kv_bytes=allowed_bytes(options, base),
        max_kl=options.max_kl,
        bits=tuple(options.bits),
        sensed_bits=tuple(options.sense_bits),
        sensed_chunks=options.sense_chunks,
        apart=not options.together,
    )


def _base(options: argparse.Namespace) -> KVSettings:
    settings = KVSettings(
        model=options.model,
        kv_group_size=options.kv_group_size,
        kernel=options.kernel,
        quantize_start=options.quantize_start,
        chunk_length=options.chunk_length,
        max_chunks=options.max_chunks,
        corpus=corpus_of(options),
        trust_remote_code=options.trust_remote_code,
        text=text_of(options),
    )
    settings.check()
    return settings


def _prepare(options: argparse.Namespace) -> None:
    """Find out before the work whether its report can be written, and who is to do it."""
    options.fleet = fleet_from(options)
    if options.output == "-":
        options.output = None
    if options.output is not None:
        check_output(Path(options.output))


def _followed(
    events: Iterator[Any], control: Control, take: Callable[[Any, TuningProgress], None] | None = None
) -> Any:
    """Draw the events; return the last."""
    last = None
    with TuningProgress() as progress, interrupts(control):
        for event in events:
            progress.show(event)
            if take is not None:
                take(event, progress)
            last = event
    return last


class Kept:
    """Saves what a tuning has found on its way. ``words``: what there is of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.words = "nothing to report yet"

    def take(self, event: Any, progress: TuningProgress) -> None:
        """Save what the event brings. What cannot be saved is no reason to end hours of work."""
        from mqf_tui.fidelity.sensitivity import Sensed

        if self.options.no_save:
            return
        try:
            match event:
                case Sensed():
                    for one in event.each():
                        self._told(progress, _save_sensed(one, self.options))
                case Stopped(report=report, positions=positions) | Failed(report=report, positions=positions):
                    if report is not None and positions is not None:
                        self._told(progress, _save_run(report, positions, event.tops))
                case _:
                    pass
        except SaveError as error:
            progress.say(f"mqf-tui: {error}")

    def _told(self, progress: TuningProgress, words: str) -> None:
        progress.say(words)
        self.words = "what was scored is kept"


def _save_sensed(sensed: Sensed, options: argparse.Namespace) -> str:
    """Save the sensitivity at one width, which is another sweep than that at another."""
    from mqf_tui.library.spool import new_sweep_id
    from mqf_tui.library.sweeps import save_sweep
    from mqf_tui.tuning_api import sensitivity_report

    sensed = replace(sensed, ended=replace(sensed.ended, sweep_id=new_sweep_id()))
    report = sensitivity_report(sensed, _command(options, sensed))
    save_sweep(report)
    return _saved_words(report)


def _saved_words(report: SweepReport) -> str:
    return f"saved as sweep {report.sweep_id} (mqf-tui sweeps show {report.sweep_id})"


def _save_run(report: Report, positions: Positions, tops: Tops | None) -> str:
    from mqf_tui.library.runs import save_run

    run = save_run(report, positions, tops=tops)
    return f"saved as run {run.id} (mqf-tui runs show {run.id})"


def _ended(last: Any, kept: str = "nothing to report yet") -> int:
    """The exit code of work that came to no result; raises what it failed with."""
    match last:
        case Failed(error=error):
            raise error
        case Stopped():
            sys.stderr.write(f"mqf-tui: interrupted; {kept}.\n")
            return INTERRUPTED
        case _:
            raise FidelityError("the measurement ended without a result; run it again.")


def _deliver_sensed(sensed: Sensed, options: argparse.Namespace) -> None:
    from mqf_tui.library.sweeps import save_sweep
    from mqf_tui.reports.sweep_report import render_sweep
    from mqf_tui.tuning_api import sensitivity_report

    report = sensitivity_report(sensed, _command(options, sensed))
    try:
        if not options.no_save:
            save_sweep(report)
            sys.stderr.write(f"{_saved_words(report)}\n")
    finally:
        _print(render_sweep(sweep_format_of(options.format, options.output), report), options)
    if sensed.ended.stopped:
        sys.stderr.write("mqf-tui: interrupted; what was scored is marked partial.\n")


def _deliver_tuned(tuned: Tuned, options: argparse.Namespace) -> None:
    from mqf_tui.library.tunings import save_recipe, save_tuning
    from mqf_tui.reports.tuning_report import render_tuning

    try:
        if options.save_recipe is not None:
            write_file(Path(options.save_recipe), tuned.tuning.toml)
            sys.stderr.write(f"recipe written to {options.save_recipe}\n")
        if not options.no_save:
            sys.stderr.write(f"{_save_run(tuned.report, tuned.positions, tuned.tops)}\n")
            save_tuning(tuned.tuning)
            if options.save_recipe is None:
                path = save_recipe(tuned.tuning)
                sys.stderr.write(f"recipe saved as {path} (mqf-tui kv MODEL --recipe {path})\n")
    finally:
        form = sweep_format_of(options.format, options.output)
        _print(render_tuning(form if form == "json" else "md", tuned.tuning), options)


def _print(text: str, options: argparse.Namespace) -> None:
    if options.output is not None:
        write_file(Path(options.output), text)
    else:
        with suppress(BrokenPipeError):
            say(text)


def _command(options: argparse.Namespace, sensed: Sensed) -> str:
    """The command line that measures the same again; files and folders by their last part only."""
    from mqf_tui.fidelity.quantizers import parsed
    from mqf_tui.fidelity.text.words import text_words

    (found,) = sensed.sensitivities
    quantizer = parsed(found.format).keys
    report = next(outcome.report for _, outcome in sensed.outcomes if outcome.report is not None)
    assert quantizer is not None
    words = ["mqf-tui", "sensitivity", report.model, "--kv-bits", str(quantizer.bits)]
    words += ["--kv-group-size", str(quantizer.group_size), *(["--together"] * options.together)]
    words += ["--chunk-length", str(options.chunk_length), "--max-chunks", str(report.n_chunks_planned)]
    words += text_words(corpus_of(options), text_of(options))
    words += ["--kernel", options.kernel] if options.kernel != "auto" else []
    if options.quantize_start:
        words += ["--quantize-start", str(options.quantize_start)]
    return shlex.join(words)
