"""Which saved runs belong into one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.pairing import check_reference, mode_word
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.comparison_schema import LeftOut
from mqf_tui.reports.schema import Report
from mqf_tui.reports.setting_words import SAID, assistant_only
from mqf_tui.reports.text import counted

_Family = dict[tuple[object, ...], SavedRun]


@dataclass(frozen=True)
class Shortlist:
    """The runs to rank, those that were left out, and where there was a choice, what decided it."""

    runs: tuple[SavedRun, ...]
    left_out: tuple[LeftOut, ...] = ()
    group: str | None = None


def named(runs: Sequence[SavedRun]) -> Shortlist:
    """All of the runs, each once; raises BadSettingError where they are of several models."""
    found = {run.id: run for run in runs}
    _check_one_model(list(found.values()), "rank them apart")
    return Shortlist(tuple(found.values()))


def newest(runs: Sequence[SavedRun]) -> Shortlist:
    """One whole run of each setting, of those over one stream of tokens: the best evidence there is.

    Alike must be: kind, text, chunk length, how the text was joined and begun, and the position from which
    the cache was quantized. Of each setting the run with the most positions is taken, of equals the newest.
    Of several such families the one with the most settings is ranked, of equals the one whose shortest run
    has the most positions, of equals the one with the newest run.
    ``runs`` are newest first. Raises BadSettingError where they are of several models.
    """
    _check_one_model(runs, "choose one with --model, or name the runs")
    families: dict[tuple[object, ...], _Family] = {}
    left_out: list[LeftOut] = []
    for run in runs:
        if run.report.partial:
            left_out.append(_left_out(run, "it is partial; name it to rank it"))
            continue
        family = families.setdefault(_family(run.report), {})
        other = family.setdefault(_setting(run.report), run)
        if other is run:
            continue
        if run.report.n_positions > other.report.n_positions:
            family[_setting(run.report)], run, other = run, other, run
        more = other.report.n_positions > run.report.n_positions
        why = "one of this setting has more positions" if more else "there is a newer run of this setting"
        left_out.append(_left_out(run, why))
    if not families:
        return named(runs)
    # Of equals the first, which has the newest run.
    chosen = max(families.values(), key=lambda family: (len(family), _least(family)))
    shown = next(iter(chosen.values())).report
    others = [family for family in families.values() if family is not chosen]
    for family in others:
        left_out += [_left_out(run, _other(run.report, shown)) for run in family.values()]
    order = {run.id: place for place, run in enumerate(runs)}
    ranked = sorted(chosen.values(), key=lambda run: order[run.id])
    return Shortlist(tuple(ranked), tuple(left_out), _group(shown, chosen, others) if others else None)


def _least(family: _Family) -> int:
    """The positions of the shortest run, which are those that all can have in common."""
    return min(run.report.n_positions for run in family.values())


def _group(shown: Report, chosen: _Family, others: Sequence[_Family]) -> str:
    """Which runs are ranked, and what decided it, as a sentence of plain text."""
    most = max(map(len, others))
    in_common = max(_least(family) for family in others if len(family) == most)
    if len(chosen) > most:
        why = f"of which there are the most settings ({len(chosen)}, in other groups {most} at most)"
    elif _least(chosen) > in_common:
        why = f"which have the most positions in common ({_least(chosen):,}, in other groups {in_common:,})"
    else:
        why = "which are the newest of groups that have as many settings and positions"
    what = ["KV runs" if shown.kind == "kv" else "weight runs"]
    what.append(f"over {shown.corpus.name}" if shown.corpus.name else "")
    if shown.corpus.chunk_length:
        what.append(f"in chunks of {shown.corpus.chunk_length} tokens")
    what.append(f"({mode_word(shown)})" if mode_word(shown) else "")
    return f"Ranked are the {' '.join(filter(None, what))}, {why}."


def _family(r: Report) -> tuple[object, ...]:
    c = r.corpus
    text = (c.content_hash or c.name, c.chunk_length, c.bos_policy, c.join, assistant_only(c))
    text += (c.stride or c.chunk_length, c.final_chunk_policy == "padded")
    return (r.kind, *text, r.quantize_start, r.score_last)


def _setting(r: Report) -> tuple[object, ...]:
    layers = tuple((part.layers, part.format) for part in r.layers.recipe) if r.layers else ()
    # Of a cache that is alike throughout, the words say all, and runs of earlier versions have no more.
    return r.setting, r.short_setting, r.variant_model, layers if len(layers) > 1 else ()


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
    if r.score_last != ranked.score_last:
        return f"it scored {f'the last {r.score_last} positions' if r.score_last else 'all'} of each chunk"
    if assistant_only(a) != assistant_only(b):
        return f"it scored {SAID if assistant_only(a) else 'all of its text'}"
    return "its text was cut, joined or begun another way"


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
