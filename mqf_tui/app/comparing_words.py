"""What a comparison of several runs says in sentences; runs go by their numbers, which count from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mqf_tui.app.comparing import Compared
from mqf_tui.reports.comparison_report import basis, more_differs, one_sided, sentence, shortened
from mqf_tui.reports.comparison_schema import Pair, Side
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted, inert

LONGEST_MODEL = 32


def about(reports: Sequence[Report]) -> str:
    """Which models on which texts, each once: ``org/model on notes.txt, 6 chunks of 128``."""
    models = _each([shortened(inert(r.model), LONGEST_MODEL) for r in reports])
    texts = _each([inert(r.corpus.name) for r in reports])
    chunks = {(r.n_chunks, r.corpus.chunk_length) for r in reports}
    n, length = next(iter(chunks))
    size = f", {counted(n, 'chunk')} of {length:,}" if len(chunks) == 1 and n and length else ""
    return f"{models} on {texts}{size}"


def _each(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, names))) or "unknown"


def summary(compared: Compared, place: int) -> str:
    """How the run differs from the baseline, and how many doubts there are; of the baseline, what it is."""
    if place == compared.baseline:
        return _of_baseline(compared)
    if place in compared.refused:
        return (
            f"{place + 1} cannot be compared with {compared.baseline + 1}: {inert(compared.refused[place])}"
        )
    if place not in compared.pairs:
        return f"comparing {place + 1} with {compared.baseline + 1} …"
    said = " ".join(part for part in (difference(compared, place), _basis(compared, place)) if part)
    n = len(list(doubts(compared, place)))
    return f"{said} ⚠ {counted(n, 'doubt')}: see words." if n else said


def in_full(compared: Compared) -> Iterator[tuple[str, tuple[str, ...]]]:
    """For each run but the baseline a heading, and all that is to be said of it against that one."""
    for place in range(len(compared.reports)):
        if place == compared.baseline:
            continue
        heading = f"{place + 1} against {compared.baseline + 1}"
        if place in compared.refused:
            yield heading, (summary(compared, place), "What each of them is by itself stands in the table.")
        elif place in compared.pairs:
            lines = (difference(compared, place), _basis(compared, place), _one_sided(compared, place))
            yield heading, (*filter(None, lines), *(f"⚠ {doubt}" for doubt in doubts(compared, place)))
    if len(compared.pairs) > 1:
        yield "Of all", ("Each p value is of its own pair; none is corrected for how many pairs there are.",)
    if compared.problems:
        yield "What could not be read", compared.problems


def difference(compared: Compared, place: int) -> str:
    """The difference of mean KL in a sentence."""
    pair, base = compared.pairs[place], compared.side(compared.baseline)
    assert base is not None
    if pair.same_run:
        return f"{compared.baseline + 1} and {place + 1} are the same run, so there is nothing to compare."
    named = pair.model_copy(update={"other": _numbered(pair.other, place)})
    return sentence(_numbered(base, compared.baseline), named, place + 1)


def doubts(compared: Compared, place: int) -> Iterator[str]:
    """What speaks against taking the difference at its word."""
    pair, base = compared.pairs[place], compared.side(compared.baseline)
    assert base is not None
    if differs := more_differs(base, pair):
        yield differs
    for number, report in ((compared.baseline, compared.reports[compared.baseline]), (place, pair.other)):
        if report.partial and not pair.same_run:
            yield f"{number + 1} is partial: it was stopped before its end."
    yield from (f"{inert(warning)[:1].upper()}{inert(warning)[1:]}." for warning in pair.warnings)


def _of_baseline(compared: Compared) -> str:
    number = compared.baseline + 1
    if len(compared.reports) == 2:
        other = 1 - compared.baseline
        return summary(compared, other)
    apart = [place for place in compared.pairs if compared.pairs[place].kl.beyond_error]
    if compared.comparison is None:
        return f"comparing the others with {number} …"
    told = ", ".join(str(place + 1) for place in apart)
    n = counted(len(compared.pairs), "other run")
    said = f"beyond the error differ {told}" if apart else "none of them differs beyond the error"
    refused = ", ".join(str(place + 1) for place in compared.refused)
    cannot = f" {refused} cannot be compared with it: another reference model." if refused else ""
    return f"{number} is the baseline of {n}; by mean KL, {said}.{cannot}"


def _numbered(side: Side, place: int) -> Side:
    return side.model_copy(update={"short_setting": f"{place + 1} ({side.short_setting})"})


def _basis(compared: Compared, place: int) -> str:
    return basis(compared.pairs[place])


def _one_sided(compared: Compared, place: int) -> str:
    pair: Pair = compared.pairs[place]
    if pair.same:
        return ""
    # The sentence of the report takes the baseline for the first of them.
    return one_sided(pair, place + 1).replace("Only 1 flips", f"Only {compared.baseline + 1} flips", 1)
