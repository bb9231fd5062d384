"""``mqf-tui models`` and ``mqf-tui runs``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from mqf_tui.console.output import say


def models(form: str) -> int:
    """List the models on this machine."""
    from mqf_tui.library.models import local_models
    from mqf_tui.reports.text import inert, size

    found = local_models()
    if form == "json":
        rows = [
            {
                "name": model.name,
                "source": model.source,
                "problem": model.problem,
                **(
                    {
                        "architecture": model.facts.architecture,
                        "weights": model.facts.weights,
                        "head_dim": model.facts.head_dim,
                        "size_bytes": model.facts.size_bytes,
                    }
                    if model.facts
                    else {}
                ),
            }
            for model in found
        ]
        say(json.dumps(rows, indent=2) + "\n")
        return 0
    table: list[tuple[str, ...]] = [("MODEL", "ARCHITECTURE", "WEIGHTS", "HEAD", "SIZE", "")]
    for model in found:
        facts = model.facts
        columns = (
            (facts.architecture, facts.weights, str(facts.head_dim), size(facts.size_bytes))
            if facts
            else ("-",) * 4
        )
        table.append(tuple(inert(text) for text in (model.name, *columns, model.problem or "")))
    _print(table)
    return 0


def runs(form: str) -> int:
    """List the saved runs, newest first; damaged ones are named on standard error."""
    from mqf_tui.library.runs import broken_runs, list_runs
    from mqf_tui.reports.text import inert, kl, percent

    saved = list_runs()
    for name, why in broken_runs():
        sys.stderr.write(f"mqf-tui: run {inert(name)} cannot be read: {inert(why)}\n")
    if form == "json":
        rows = [{"id": run.id, **run.report.model_dump(mode="json")} for run in saved]
        say(json.dumps(rows, indent=2) + "\n")
        return 0
    if not saved:
        say("no runs yet; `mqf-tui demo` makes one.\n")
        return 0
    table = [("RUN", "MODEL", "BITS", "GROUP", "KL MEAN", "FLIPS", "VERDICT")]
    for run in saved:
        r = run.report
        verdict = r.verdict + (" (partial)" if r.partial else "")
        table.append(
            (
                inert(run.id),
                inert(r.model),
                str(r.kv_bits),
                str(r.kv_group_size),
                kl(r.kl.mean),
                percent(r.flip_rate),
                verdict,
            )
        )
    _print(table)
    return 0


def show(run_id: str, form: str) -> int:
    """Print one saved run."""
    from mqf_tui.library.runs import load_run
    from mqf_tui.reports.json_report import to_json
    from mqf_tui.reports.markdown import to_markdown

    report = load_run(run_id).report
    say((to_json(report) if form == "json" else to_markdown(report)).rstrip("\n") + "\n")
    return 0


def _print(table: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in table)
    say("\n".join(lines) + "\n")
