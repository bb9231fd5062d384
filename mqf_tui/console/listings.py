"""``mqf-tui runs`` as a table, JSON and CSV; tables of others."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError

if TYPE_CHECKING:
    from mqf_tui.library.runs import SavedRun

WIDEST = 60
ID_WIDTH = 255  # a run's id stays whole, for it is what one types; file systems allow no longer name


def runs(options: argparse.Namespace) -> int:
    """List the saved runs that the options choose, newest first; damaged ones are named on standard error."""
    from mqf_tui.library.runs import all_runs
    from mqf_tui.reports.text import inert

    chosen = _Filter.of(options)
    saved, broken = all_runs()
    for name, why in broken:
        sys.stderr.write(f"mqf-tui: run {inert(name)} cannot be read: {inert(why)}\n")
    for run in saved:
        if run.labels.problem is not None:
            sys.stderr.write(
                f"mqf-tui: tags and note of run {inert(run.id)} cannot be read: {inert(run.labels.problem)}\n"
            )
    found = [run for run in saved if chosen.takes(run)]
    if options.filter:
        fitting = _fitting(options.filter)
        found = [run for run in found if run.id in fitting]
    if options.format == "json":
        rows = [
            {
                **run.report.model_dump(mode="json"),
                "id": run.id,
                "tags": list(run.tags),
                "note": run.note,
                "imported": run.report.origin is not None,
            }
            for run in found
        ]
        say(json.dumps(rows, indent=2) + "\n")
    elif options.format == "csv":
        say(_csv(found))
    elif not saved:
        say("no runs yet; `mqf-tui demo` makes one.\n")
    elif not found:
        say(f"none of {len(saved)} runs fits; leave out some of the filters.\n")
    else:
        print_table([_HEADER, *map(_row, found)])
    return 0


def deleted(options: argparse.Namespace) -> int:
    """List what is in the trash, deleted last first; the same filters hold for what can be read."""
    from mqf_tui.library.trash import deleted_runs
    from mqf_tui.reports.text import inert, verdict_words

    if options.filter:
        raise BadSettingError("--filter finds no deleted runs; leave it out, or leave out --trash.")
    chosen = _Filter.of(options)
    found = [gone for gone in deleted_runs() if isinstance(gone.run, str) or chosen.takes(gone.run)]
    if options.format != "table":
        rows = [
            {
                "id": gone.id,
                "deleted": gone.deleted.isoformat(),
                "gone_after": gone.gone_after.isoformat(),
                "model": "" if isinstance(gone.run, str) else gone.run.report.model,
                "verdict": "" if isinstance(gone.run, str) else gone.run.report.verdict,
            }
            for gone in found
        ]
        say(json.dumps(rows, indent=2) + "\n" if options.format == "json" else _plain_csv(rows))
        return 0
    if not found:
        say("the trash is empty.\n")
        return 0
    table = [("RUN", "MODEL", "SETTING", "VERDICT", "DELETED", "GONE AFTER")]
    for gone in found:
        days = f"{gone.deleted.astimezone():%Y-%m-%d}", f"{gone.gone_after.astimezone():%Y-%m-%d}"
        if isinstance(gone.run, str):
            table.append((inert(gone.id), "cannot be read", "", "", *days))
            continue
        r = gone.run.report
        table.append((inert(gone.id), inert(r.model), r.short_setting, verdict_words(r), *days))
    print_table(table)
    return 0


def _fitting(text: str) -> set[str]:
    """The ids of the runs that fit a filter as in the app; raises BadFilterError."""
    from mqf_tui.library.filtering import parse
    from mqf_tui.library.index import run_rows

    wanted = parse(text)
    return {row.id for row in run_rows().rows if wanted.takes(row)}


@dataclass(frozen=True)
class _Filter:
    """Which runs to list; days are those of UTC, as in the ids."""

    model: str
    verdict: str | None
    tag: str | None
    since: date | None
    until: date | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> _Filter:
        """The filter that the options name; raises BadSettingError."""
        since, until = _date("--since", options.since), _date("--until", options.until)
        if since and until and since > until:
            raise BadSettingError(f"--since {since} is after --until {until}; swap the two.")
        return cls((options.model or "").casefold(), options.verdict, options.tag, since, until)

    def takes(self, run: SavedRun) -> bool:
        """Whether to list a run."""
        r = run.report
        return (
            (self.model in r.model.casefold() or self.model in r.variant_model.casefold())
            and self.verdict in (None, r.verdict)
            and (self.tag is None or self.tag in run.tags)
            and self._dated(r.created)
        )

    def _dated(self, created: str) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            when = datetime.fromisoformat(created)
            day = (when.astimezone(UTC) if when.tzinfo else when).date()
        except (ValueError, OverflowError):
            return False
        return (self.since or date.min) <= day <= (self.until or date.max)


def _date(option: str, word: str | None) -> date | None:
    if word is None:
        return None
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise BadSettingError(f"{option} {word!r} is no date; write it as 2026-11-25.") from None


_HEADER = ("RUN", "MODEL", "SETTING", "KL MEAN", "FLIPS", "VERDICT", "TAGS", "FROM")


def _row(run: SavedRun) -> tuple[str, ...]:
    from mqf_tui.reports.rows import bounds, spread
    from mqf_tui.reports.text import inert, kl, percent, verdict_words

    r = run.report
    return (
        inert(run.id),
        inert(r.variant_model or r.model),
        r.short_setting,
        spread(r.kl.mean, bounds(r.kl.ci_low, r.kl.ci_high), kl),
        spread(r.flip_rate, bounds(r.flip_ci_low, r.flip_ci_high), percent),
        verdict_words(r) + (" (partial)" if r.partial else ""),
        " ".join(map(inert, run.tags)),
        f"imported from {inert(r.origin.tool)}" if r.origin else "",
    )


def _csv(found: Sequence[SavedRun]) -> str:
    """The columns of a report as CSV, with tags and note behind them."""
    from mqf_tui.reports.csv_report import to_csv

    labels = {"tags": [" ".join(run.tags) for run in found], "note": [run.note for run in found]}
    return to_csv([run.report for run in found], [run.id for run in found], labels)


def _plain_csv(rows: Sequence[dict[str, str]]) -> str:
    from mqf_tui.reports.csv_report import written

    header = ("id", "deleted", "gone_after", "model", "verdict")
    return written(header, ([row[name] for name in header] for row in rows))


def print_table(table: Sequence[Sequence[str]], widest: Mapping[int, int] | None = None) -> None:
    """A table of columns as wide as they need, at most WIDEST or what ``widest`` says of a column."""
    limits = {0: ID_WIDTH} | dict(widest or {})
    table = [[shortened(cell, limits.get(i, WIDEST)) for i, cell in enumerate(row)] for row in table]
    shown = [i for i in range(len(table[0])) if i == 0 or any(row[i] for row in table[1:])]
    widths = {i: max(len(row[i]) for row in table) for i in shown}
    lines = ("  ".join(row[i].ljust(widths[i]) for i in shown).rstrip() for row in table)
    say("\n".join(lines) + "\n")


def shortened(text: str, width: int) -> str:
    """The text, or its beginning and end with … between: names of models differ at their ends."""
    if len(text) <= width:
        return text
    end = (width - 1) // 3
    return f"{text[: width - 1 - end]}…{text[-end:]}"
