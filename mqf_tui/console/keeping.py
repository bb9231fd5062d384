"""``mqf-tui runs``: what is saved, and what to do with it."""

from __future__ import annotations

import argparse
from datetime import datetime

from mqf_tui.console.output import say


def run(options: argparse.Namespace) -> int:
    """Do what ``options.action`` names; return the exit code."""
    match options.action:
        case "list":
            from mqf_tui.console import listings

            return listings.deleted(options) if options.trash else listings.runs(options)
        case "show" | "export":
            from mqf_tui.console import rendering

            return rendering.show(options) if options.action == "show" else rendering.export(options)
        case "import":
            from mqf_tui.console import importing

            return importing.run(options)
        case "tag" | "note":
            return _label(options)
        case "delete":
            return _delete(options)
        case "restore":
            return _restore(options)
        case _:
            return _verify(options)


def _label(options: argparse.Namespace) -> int:
    from mqf_tui.library.labels import add_tags, remove_tags, set_note
    from mqf_tui.library.runs import load_run
    from mqf_tui.reports.text import inert

    run = load_run(options.run)
    if options.action == "note":
        labels = set_note(run.folder, options.text)
        said = f"note: {inert(labels.note)}" if labels.note else "no note"
    else:
        change = remove_tags if options.remove else add_tags
        labels = change(run.folder, options.tags)
        said = f"tags: {' '.join(map(inert, labels.tags))}" if labels.tags else "no tags"
    say(f"{inert(run.id)}: {said}\n")
    return 0


def _delete(options: argparse.Namespace) -> int:
    from mqf_tui.library.trash import delete_runs
    from mqf_tui.reports.text import inert

    for gone in delete_runs(options.runs):
        until = day(gone.gone_after)
        say(f"{inert(gone.id)}: deleted; `mqf-tui runs restore {inert(gone.id)}` until {until}\n")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from mqf_tui.library.trash import restore_runs
    from mqf_tui.reports.text import inert

    for run_id in restore_runs(options.runs):
        say(f"{inert(run_id)}: restored\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mqf_tui.library.runs import find_run, run_folders
    from mqf_tui.library.verifying import verify
    from mqf_tui.reports.text import inert

    folders = list(dict.fromkeys(map(find_run, options.runs))) if options.runs else run_folders()
    if not folders:
        say("no runs yet; `mqf-tui demo` makes one.\n")
    failed = False
    for folder in folders:
        found = verify(folder)
        failed = failed or bool(found.differences)
        aside = f"; not checked: {inert(', '.join(found.unchecked))}" if found.unchecked else ""
        say(f"{inert(found.id)}: {'DIFFERS' if found.differences else 'ok'}{aside}\n")
        say("".join(f"  {inert(line)}\n" for line in found.differences))
        if found.computed_otherwise:
            say(f"  computed otherwise by version {inert(found.saved_by)[:40]}, from files as they were:\n")
            say("".join(f"    {inert(line)}\n" for line in found.computed_otherwise))
    return 1 if failed else 0


def day(when: datetime) -> str:
    """A day of the user's own calendar."""
    return f"{when.astimezone():%Y-%m-%d}"
