"""Which saved runs belong into one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.pairing import check_reference, mode_word
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.comparison_schema import LeftOut
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted


@dataclass(frozen=True)
class Shortlist:
    """The runs to rank, and those that were left out."""

    runs: tuple[SavedRun, ...]
    left_out: tuple[LeftOut, ...] = ()


def named(runs: Sequence[SavedRun]) -> Shortlist:
    """All of the runs, each once; raises BadSettingError where they are of several models."""
    found = {run.id: run for run in runs}
    _check_one_model(list(found.values()), "rank them apart")
    return Shortlist(tuple(found.values()))


def newest(runs: Sequence[SavedRun]) -> Shortlist:
    """The newest whole run of each setting, of those over one stream of tokens.

    Alike must be: kind, text, chunk length, how the text was joined and begun, and the position from which
    the cache was quantized. Where there are several such families, the one with the most settings is
    ranked, of two the one with the newer run; how many chunks a run has does not matter.
    ``runs`` are newest first. Raises BadSettingError where they are of several models.
    """
    _check_one_model(runs, "choose one with --model, or name the runs")
    families: dict[tuple[object, ...], dict[tuple[object, ...], SavedRun]] = {}
    left_out: list[LeftOut] = []
    for run in runs:
        if run.report.partial:
            left_out.append(_left_out(run, "it is partial; name it to rank it"))
            continue
        family = families.setdefault(_family(run.report), {})
        if _setting(run.report) in family:
            left_out.append(_left_out(run, "there is a newer run of this setting"))
        else:
            family[_setting(run.report)] = run
    if not families:
        return named(runs)
    chosen = max(families.values(), key=len)  # of equals the first, which has the newest run
    shown = next(iter(chosen.values())).report
    for family in families.values():
        if family is not chosen:
            left_out += [_left_out(run, _other(run.report, shown)) for run in family.values()]
    return Shortlist(tuple(chosen.values()), tuple(left_out))


def _family(r: Report) -> tuple[object, ...]:
    c = r.corpus
    return (r.kind, c.content_hash or c.name, c.chunk_length, c.bos_policy, c.join, r.quantize_start)


def _setting(r: Report) -> tuple[object, ...]:
    return r.setting, r.short_setting, r.variant_model


def _other(r: Report, ranked: Report) -> str:
    """Why a run is of another family than the ranked one."""
    a, b = r.corpus, ranked.corpus
    if r.kind != ranked.kind:
        return "it is of another kind"
    if (a.content_hash or a.name) != (b.content_hash or b.name):
        return f"it scored another text ({a.name})"
    if a.chunk_length != b.chunk_length:
        return f"its chunks are of {a.chunk_length} tokens"
    if r.quantize_start != ranked.quantize_start:
        return f"its mode is {mode_word(r) or 'not known'}"
    return "its text was joined or begun another way"


def _left_out(run: SavedRun, why: str) -> LeftOut:
    return LeftOut(run=run.id, setting=run.report.setting, why=why)


def _check_one_model(runs: Sequence[SavedRun], how: str) -> None:
    models: list[Report] = []
    for run in runs:
        if not any(_same_reference(model, run.report) for model in models):
            models.append(run.report)
    if len(models) < 2:
        return
    names = {model.model for model in models}
    shown = [m.model if len(names) == len(models) else f"{m.model} ({m.model_hash})" for m in models]
    raise BadSettingError(
        f"these runs are of {counted(len(models), 'reference model')} ({', '.join(sorted(shown))}), and each "
        f"KL is a distance from its own reference; {how}."
    )


def _same_reference(first: Report, second: Report) -> bool:
    try:
        check_reference(first, second)
    except BadSettingError:
        return False
    return True
