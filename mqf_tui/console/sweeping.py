"""``mqf-tui sweep``: several settings beside one pass of the reference, and which of them to take."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.console.budgeting import allowed_bytes
from mqf_tui.console.judging import FAILED_VERDICT
from mqf_tui.console.measuring import check_output, interrupts, settings_from
from mqf_tui.console.output import notice, say, sweep_format_of, tell, write_file
from mqf_tui.console.sweep_progress import SweepProgress
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, BadSettingError, FidelityError
from mqf_tui.fidelity.events import Event
from mqf_tui.fidelity.recipes import names_all_formats
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.schema import VERDICTS
from mqf_tui.scale.options import NAMES as RANKS
from mqf_tui.scale.options import fleet_from

if TYPE_CHECKING:
    from mqf_tui.console.delivering import Delivery
    from mqf_tui.fidelity.choosing import Limits
    from mqf_tui.library.spool import Spool
    from mqf_tui.reports.sweep_schema import SweepReport


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Sweep, save a run for each variant, print what to take; return the exit code.

    ``arguments``: the whole command, so that it can be taken up again.
    """
    from mqf_tui.library.runs import check_writable
    from mqf_tui.library.spool import Spool, new_sweep_id

    settings = sweep_settings(options, new_sweep_id())
    settings.check()
    if options.output == "-":
        options.output = None
    options.format = sweep_format_of(options.format, options.output)
    if options.output is not None:
        check_output(Path(options.output))
    limits = limits_of(options, settings)
    settings = within(settings, limits)
    options.fleet = fleet_from(options)
    spool = None
    if not options.no_save:
        check_writable()
        spool = options.spool or Spool.create(settings.sweep_id, arguments)
        spool.hold()
    return _swept(settings, limits, spool, options, arguments)


def resumed(options: argparse.Namespace) -> tuple[Spool, list[str]]:
    """The sweep that ``--resume`` names, and the arguments that began it."""
    from mqf_tui.library.spool import Spool

    spool = Spool.open(options.resume)
    return spool, list(spool.arguments)


def check_resuming(now: argparse.Namespace, bare: argparse.Namespace) -> None:
    """Raise BadSettingError where ``--resume`` stands with what the sweep began with, and cannot change."""
    free = {"resume", "format", "output", "fail_on", "debug", *RANKS}
    given = vars(now).items()
    other = [name for name, value in given if name not in free and value != getattr(bare, name, None)]
    if other:
        names = {"sweep_bits": "kv_bits", "sweep_groups": "kv_group_size", "formats": "kv"}
        words = (names.get(name, name).replace("_", "-") for name in other)
        raise BadSettingError(
            "--resume goes on with what the sweep began with; leave out "
            + ", ".join("the model" if word == "model" else f"--{word}" for word in words)
            + "."
        )


def sweep_settings(options: argparse.Namespace, sweep_id: str) -> SweepSettings:
    """The settings of all variants that the options name; of ``kv --control``, its one setting twice."""
    from mqf_tui.fidelity.spreading import with_control

    variants = (settings_from(options),) if options.command == "kv" else _several(options)
    if options.control:
        variants = with_control(variants)
    if options.spool is not None:
        sweep_id = options.spool.sweep_id
    return SweepSettings(variants, race=options.race, memory_limit=options.memory_limit, sweep_id=sweep_id)


def _several(options: argparse.Namespace) -> tuple[KVSettings, ...]:
    from mqf_tui.fidelity.spreading import spread

    base = settings_from(options)
    bits = options.sweep_bits
    named = bits or options.formats or options.k_bits or options.v_bits or base.recipe
    if not (named or names_all_formats(base.layers)):
        bits = (8, 6, 4)
    variants = () if base.recipe is None else (base,)
    return variants + spread(
        replace(base, recipe=None),
        bits=bits,
        groups=options.sweep_groups or (64,),
        formats=options.formats,
        k_bits=options.k_bits,
        v_bits=options.v_bits,
    )


def limits_of(options: argparse.Namespace, settings: SweepSettings) -> Limits:
    """What the setting to take must keep to."""
    from mqf_tui.fidelity.choosing import Limits

    return Limits(allowed_bytes(options, settings.first))


def within(settings: SweepSettings, limits: Limits) -> SweepSettings:
    """The settings without those that are known to take more than the limit, before any work.

    Raises BadSettingError where none is left.
    """
    if limits.max_kv_bytes is None:
        return settings
    from mqf_tui import api
    from mqf_tui.fidelity.budget import variant_bytes_per_token

    facts = api.facts_of(settings.first)
    costs = {one: variant_bytes_per_token(facts, one) for one in settings.variants}
    kept = tuple(one for one, cost in costs.items() if cost <= limits.max_kv_bytes)
    if not kept:
        least = min(costs, key=lambda one: costs[one])
        raise BadSettingError(
            f"no setting fits into {limits.max_kv_bytes:,.0f} bytes of KV cache per token; the smallest "
            f"here, {least.word}, takes {costs[least]:,.0f}, so allow more or use fewer bits."
        )
    if left := [f"{one.word} ({cost:,.0f} bytes)" for one, cost in costs.items() if one not in kept]:
        tell(f"left out, because more than {limits.max_kv_bytes:,.0f} bytes per token: {', '.join(left)}")
    return replace(settings, variants=kept)


def _swept(
    settings: SweepSettings,
    limits: Limits,
    spool: Spool | None,
    options: argparse.Namespace,
    arguments: Sequence[str],
) -> int:
    from mqf_tui.console.delivering import Delivery

    control = Control()
    delivery = Delivery(settings, spool, keeps=options.fleet is None)
    about = {"budget": budget_words(options), "command": command_words(arguments)}
    with SweepProgress(settings) as progress, interrupts(control):
        for event in delivery.kept(_events(settings, control, delivery, options)):
            progress.show(event)
    if delivery.saved:
        tell("saved as runs " + ", ".join(delivery.saved))
    ended = delivery.ended
    if ended is None:
        raise FidelityError("the sweep ended without a result; run it again.")
    whole = ended.error is None and not ended.stopped and not delivery.problem
    if spool is not None and whole:
        spool.remove()
        _tidy(delivery)
    report = delivery.report(limits, **about) if delivery.subjects else None
    if report is not None:
        _deliver(report, options, saved=spool is not None)
    if spool is not None and not whole:
        if delivery.subjects:
            tell(f"to go on with this sweep: mqf-tui sweep --resume {spool.sweep_id}")
        elif not spool.known(len(settings.variants)):
            spool.remove()
    if ended.error is not None:
        raise ended.error
    if ended.stopped:
        what = "what was scored is marked partial" if delivery.subjects else "nothing was scored yet"
        tell(f"mqf-tui: interrupted; {what}.")
        return INTERRUPTED
    if delivery.problem is not None:
        raise delivery.problem
    for setting, error in delivery.failures:
        tell(f"mqf-tui: {setting}: {error}")
    if delivery.failures:
        return delivery.failures[0][1].exit_code
    return _judged(delivery, options.fail_on)


def _judged(delivery: Delivery, fail_on: str | None) -> int:
    """4 where no setting is better than the verdict that ``--fail-on`` names."""
    verdicts = [subject.report.verdict for subject in delivery.subjects]
    if fail_on is None or any(VERDICTS.index(v) < VERDICTS.index(fail_on) for v in verdicts):
        return 0
    tell(f"mqf-tui: no setting of the sweep is better than {fail_on}.")
    return FAILED_VERDICT


def budget_words(options: argparse.Namespace) -> str:
    """What must fit, as it was asked for: ``8.0 GB at 32,768 tokens``; "" where nothing was."""
    from mqf_tui.reports.text import size

    return "" if options.context is None else f"{size(options.memory)} at {options.context:,} tokens"


def command_words(arguments: Sequence[str]) -> str:
    """The command as it was given, without its output; files and folders by their last part only."""
    kept = list(arguments)
    while "--output" in kept:
        place = kept.index("--output")
        del kept[place : place + 2]
    named = (
        Path(word).name if os.path.exists(os.path.expanduser(word)) else word
        for word in kept
        if not word.startswith("--output=")
    )
    return shlex.join(["mqf-tui", *named])


def _events(
    settings: SweepSettings, control: Control, delivery: Delivery, options: argparse.Namespace
) -> Iterator[Event]:
    from mqf_tui import api

    known = delivery.spool.known(len(settings.variants)) if delivery.spool is not None else {}
    for variant in delivery.spool.skipped() if delivery.spool is not None else ():
        control.skip(variant)
    return api.sweep_events(
        settings, control, known=known, fleet=options.fleet, keep=delivery.keep, notice=notice
    )


def _tidy(delivery: Delivery) -> None:
    """Of a sweep that was taken up again, the partial runs of when it broke off are not needed any more."""
    from mqf_tui.library.runs import list_runs
    from mqf_tui.library.trash import delete_runs

    whole = {s.report.short_setting for s in delivery.subjects if not s.report.partial}
    gone = [
        run.id
        for run in list_runs()
        if run.report.partial
        and run.report.sweep_id == delivery.settings.sweep_id
        and run.report.short_setting in whole
    ]
    if gone:
        delete_runs(gone)
        tell(f"in the trash, because they are whole now: {', '.join(gone)}")


def _deliver(report: SweepReport, options: argparse.Namespace, *, saved: bool) -> None:
    from mqf_tui.reports.sweep_report import render_sweep

    try:
        if saved:
            from mqf_tui.library.sweeps import save_sweep

            save_sweep(report)
            tell(f"saved as sweep {report.sweep_id} (mqf-tui sweeps show {report.sweep_id})")
    finally:
        text = render_sweep(options.format, report)
        if options.output is not None:
            write_file(Path(options.output), text)
        else:
            with suppress(BrokenPipeError):
                say(text)
