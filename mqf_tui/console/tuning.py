"""``mqf-tui sensitivity`` and ``mqf-tui tune``: layers apart, and the recipe that comes of it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui.console.budgeting import allowed_bytes
from mqf_tui.console.measuring import check_output, interrupts
from mqf_tui.console.output import notice, say, sweep_format_of, write_file
from mqf_tui.console.tuning_progress import TuningProgress
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, FidelityError
from mqf_tui.fidelity.events import Failed, Stopped
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.scale.options import fleet_from

if TYPE_CHECKING:
    from mqf_tui.fidelity.sensitivity import Sensed
    from mqf_tui.fidelity.tuning import Tuned, TuneSettings

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
        case Sensed():
            _deliver_sensed(last, options)
            return INTERRUPTED if last.partial else 0
        case _:
            return _ended(last)


def tune(options: argparse.Namespace) -> int:
    """Find a recipe, measure it, print and save it; return the exit code."""
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
    last = _followed(tune_events(settings, control, memory_limit=limit, fleet=fleet, notice=notice), control)
    match last:
        case Tuned(tuning=tuning):
            _deliver_tuned(last, options)
            return 0 if tuning.met else MISSED
        case _:
            return _ended(last)


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
        corpus=options.corpus,
        trust_remote_code=options.trust_remote_code,
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


def _followed(events: Iterator[Any], control: Control) -> Any:
    """Draw the events; return the last."""
    last = None
    with TuningProgress() as progress, interrupts(control):
        for event in events:
            progress.show(event)
            last = event
    return last


def _ended(last: Any) -> int:
    """The exit code of work that came to no result; raises what it failed with."""
    match last:
        case Failed(error=error):
            raise error
        case Stopped():
            sys.stderr.write("mqf-tui: interrupted; nothing to report yet.\n")
            return INTERRUPTED
        case _:
            raise FidelityError("the measurement ended without a result; run it again.")


def _deliver_sensed(sensed: Sensed, options: argparse.Namespace) -> None:
    from mqf_tui.library.sweeps import save_sweep
    from mqf_tui.reports.sweep_report import render_sweep
    from mqf_tui.tuning_api import sensitivity_report

    model = next(outcome.report.model for _, outcome in sensed.outcomes if outcome.report is not None)
    report = sensitivity_report(sensed, _command(options, model))
    try:
        if not options.no_save:
            save_sweep(report)
            sys.stderr.write(f"saved as sweep {report.sweep_id} (mqf-tui sweeps show {report.sweep_id})\n")
    finally:
        _print(render_sweep(sweep_format_of(options.format, options.output), report), options)
    if sensed.partial:
        sys.stderr.write("mqf-tui: interrupted; what was scored is marked partial.\n")


def _deliver_tuned(tuned: Tuned, options: argparse.Namespace) -> None:
    from mqf_tui.library.runs import save_run
    from mqf_tui.library.tunings import save_recipe
    from mqf_tui.reports.tuning_report import render_tuning

    try:
        if options.save_recipe is not None:
            write_file(Path(options.save_recipe), tuned.tuning.toml)
            sys.stderr.write(f"recipe written to {options.save_recipe}\n")
        if not options.no_save:
            run = save_run(tuned.report, tuned.positions)
            sys.stderr.write(f"saved as run {run.id} (mqf-tui runs show {run.id})\n")
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


def _command(options: argparse.Namespace, model: str) -> str:
    """The command line that measures the same again; files and folders by their last part only."""
    words = ["mqf-tui", "sensitivity", model, "--kv-bits", str(options.kv_bits)]
    words += ["--kv-group-size", str(options.kv_group_size), *(["--together"] * options.together)]
    words += ["--chunk-length", str(options.chunk_length), "--max-chunks", str(options.max_chunks)]
    words += ["--corpus", Path(options.corpus).name or options.corpus]
    words += ["--kernel", options.kernel] if options.kernel != "auto" else []
    if options.quantize_start:
        words += ["--quantize-start", str(options.quantize_start)]
    return shlex.join(words)
