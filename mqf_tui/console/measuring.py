"""``mqf-tui kv`` and ``mqf-tui demo``: run a measurement and print its report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mqf_tui.console.judging import judged
from mqf_tui.console.output import format_of, say, write_file
from mqf_tui.console.progress import Progress
from mqf_tui.console.text_arguments import corpus_of, text_of
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, BadSettingError, FidelityError, SaveError
from mqf_tui.fidelity.events import Failed, Finished, Stopped, Swept
from mqf_tui.fidelity.recipes import names_all_formats
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.text import counted, stopping_words

if TYPE_CHECKING:
    from collections.abc import Generator

    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.tops import Tops
    from mqf_tui.reports.schema import Report


def settings_from(options: argparse.Namespace) -> KVSettings:
    """The settings that the options name; of a sweep, what all its variants have in common."""
    from mqf_tui.library.recipes import read_recipe

    base = KVSettings(
        model=options.model,
        layers=options.layers,
        recipe=read_recipe(options.recipe) if options.recipe is not None else None,
        kernel=options.kernel,
        quantize_start=options.quantize_start,
        chunk_length=options.chunk_length,
        max_chunks=options.max_chunks,
        score_last=options.score_last,
        corpus=corpus_of(options),
        trust_remote_code=options.trust_remote_code,
        until_sure=options.until_sure,
        precision=options.precision,
        max_kl=options.max_kl,
        max_flips=options.max_flips,
        keep_top=options.keep_top,
        text=text_of(options),
    )
    if not hasattr(options, "kv_bits"):
        return base
    from mqf_tui.api import one_variant

    bits = options.kv_bits
    if bits is not None and (options.kv is not None or base.recipe or names_all_formats(base.layers)):
        other = "--kv" if options.kv is not None else "--recipe" if base.recipe else "--layers"
        raise BadSettingError(f"{other} says what keys and values get already; leave out --kv-bits.")
    base = replace(base, kv_bits=8 if bits is None else bits, kv_group_size=options.kv_group_size)
    return one_variant(base, options.kv, options.k_bits, options.v_bits)


def run(options: argparse.Namespace) -> int:
    """Measure, print or write the report, save the run; return the exit code."""
    from mqf_tui import api
    from mqf_tui.library.runs import check_writable

    settings = settings_from(options)
    settings.check()
    if options.output == "-":
        options.output = None
    options.format = format_of(options.format, options.output)
    if options.output is not None:
        check_output(Path(options.output))
    if not options.no_save:
        check_writable()
    control = Control()
    last = None
    with Progress() as progress, interrupts(control):
        for event in api.sweep_events(SweepSettings((settings,), memory_limit=options.memory_limit), control):
            if isinstance(event, Swept):
                break
            progress.show(event)
            last = event
    match last:
        case Finished(report=report, positions=positions, tops=tops):
            _deliver(report, positions, tops, options)
            if words := stopping_words(report):
                sys.stderr.write(f"{words}\n")
            return judged(report, options.fail_on)
        case Stopped(report=report, positions=positions, tops=tops):
            if report is not None:
                _deliver(report, positions, tops, options)
            sys.stderr.write(
                "mqf-tui: interrupted; "
                + (
                    "nothing was scored yet.\n"
                    if report is None
                    else ("what was scored is marked partial.\n")
                )
            )
            return INTERRUPTED
        case Failed(error=error, report=report, positions=positions, tops=tops):
            # Why it failed matters more than a partial run that cannot be kept either.
            with suppress(SaveError):
                if report is not None and positions is not None and not options.no_save:
                    _save(report, positions, tops)
            raise error
    raise FidelityError("the measurement ended without a result; run it again.")


def _deliver(report: Report, positions: Positions, tops: Tops | None, options: argparse.Namespace) -> None:
    from mqf_tui.reports.formats import render

    # First the run: a report that cannot be printed can be shown again from it.
    try:
        if not options.no_save:
            _save(report, positions, tops)
    finally:
        text = render(options.format, report, positions)
        if options.output is not None:
            write_file(Path(options.output), text)
        else:
            # The reader may go away (`| head`, or the same Ctrl+C): the run's own exit code stands.
            with suppress(BrokenPipeError):
                say(text)


def _save(report: Report, positions: Positions, tops: Tops | None) -> None:
    from mqf_tui.library.runs import save_run

    run = save_run(report, positions, tops=tops)
    sys.stderr.write(f"saved as run {run.id} (mqf-tui runs show {run.id})\n")
    if tops is not None and tops.left_out:
        sys.stderr.write(
            f"the likeliest tokens are kept of {counted(len(tops), 'position')}; {tops.left_out:,} more, "
            "confident flips of a lower KL, would be too many\n"
        )


def check_output(path: Path) -> None:
    """Raise SaveError where a report could not be written there: before the work, not after it."""
    try:
        if path.is_dir():
            raise SaveError(f"{str(path)!r} is a folder; name a file with --output.")
        if not path.parent.is_dir():
            raise SaveError(f"the folder {path.parent} does not exist; create it or choose another --output.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise SaveError(f"{path} cannot be written (no permission); choose another --output.")
    except OSError as error:
        raise SaveError(f"{path} cannot be written ({error.strerror}); choose another --output.") from error


@contextmanager
def interrupts(control: Control) -> Generator[None]:
    """Ctrl+C asks for a stop between steps; a second one breaks the step off. Both keep what is scored."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if control.stopped:
            raise KeyboardInterrupt
        control.stop()
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        with suppress(OSError):
            os.write(2, "\nstopping after this step …\n".encode())

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
