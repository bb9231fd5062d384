"""What the set-up says of what was chosen: what will run, what it will take, how sure it will make."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text

from mqf_tui.app.preflight import Preflight, choice_words
from mqf_tui.app.setup_choices import Lines, Subject
from mqf_tui.app.text_sight import Sight
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.fidelity.timing import BASIS_WORDS
from mqf_tui.library.expected_interval import ExpectedInterval
from mqf_tui.library.last_used import Value
from mqf_tui.reports.setting_words import KERNELS
from mqf_tui.reports.text import counted, duration, inert, size

MOST_NAMED = 3


def subject_words(subjects: Sequence[Subject]) -> str:
    """What is set up: ``demo``, ``demo, org/tiny and 3 more``."""
    names = [inert(one.model.name) for one in subjects]
    more = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{shown}: KV-cache quantization"


def estimate_text(found: Sequence[Preflight], lines: Lines, colour: Callable[[str], str]) -> Text:
    """What will run, and what it will take; ``colour``: of a name in the theme."""
    first, n = found[0], len(found[0].sweep.variants)
    text = Text()
    if len(found) > 1 or n > 1:
        words = choice_words(lines["bits"], lines["group"], lines["formats"], n)
        models = f"{len(found)} models, one after the other; " if len(found) > 1 else ""
        text.append(f"{models}{words}", style="bold")
        text.append(f"; {first.passes}\n")
    text.append(first.positions, style="bold" if len(found) == n == 1 else "")
    text.append(" each" if len(found) > 1 and n == 1 else "")
    cost = first.cost if len(found) == 1 else _total(found)
    text.append(f", {cost}" if cost else "")
    if len(found) == 1 and first.layers:
        text.append(f"\n{first.layers}")
    if any(one.sweep.first.kernel == "emulated" for one in found):
        text.append(f"\n{KERNELS['emulated']}")
    for one in found:
        if one.memory is not None and one.memory.advice:
            name = f"{inert(one.sweep.first.model.rsplit('/', 1)[-1])}: " if len(found) > 1 else ""
            text.append(f"\n{name}{without_flags(one.memory.advice)}", style=colour("warning"))
    if len(found) == 1:
        text.append(f"\n{first.cache}", style="dim")
    return text


def _total(found: Sequence[Preflight]) -> str:
    """Time of all, memory of the largest."""
    parts: list[str] = []
    times = [one.time for one in found if one.time is not None]
    if len(times) == len(found):
        early = any(one.sweep.first.stops_early or one.sweep.race for one in found)
        rough = max(times, key=lambda time: tuple(BASIS_WORDS).index(time.basis))
        total = duration(sum(time.seconds for time in times))
        parts.append(f"{'at most ' if early else ''}about {total} in all ({BASIS_WORDS[rough.basis]})")
    needs = [one.memory for one in found if one.memory is not None]
    if needs:
        most = max(needs, key=lambda plan: plan.need_bytes)
        free = f" ({size(most.limit_bytes)} free)" if most.limit_bytes else ""
        parts.append(f"up to {size(most.need_bytes)} of memory{free}")
    return ", ".join(parts)


def interval_words(
    found: Sequence[ExpectedInterval | None], sweep: SweepSettings, n_chunks: int | None
) -> str:
    """How wide the interval of mean KL should become over so many chunks."""
    if n_chunks is None:
        return "as many as the text has; more chunks, tighter intervals"
    if n_chunks == 1:
        return "one chunk gives no interval; take two or more"
    known = [one for one in found if one is not None]
    if not known:
        return "no earlier run of this model and setting to tell the interval from"
    widest = max(known, key=lambda one: one.share)
    most = "up to " if len(known) > 1 else ""
    some = f" for {len(known)} of {len(found)} settings" if len(known) < len(found) else ""
    other = "" if widest.same_text else ", on another text"
    early = ", if it does not stop before" if sweep.first.stops_early or sweep.race else ""
    told = f"from an earlier run of {counted(widest.chunks, 'chunk')}{other}"
    share = float(f"{100 * widest.share:.2g}")  # two digits, and never with an exponent
    return f"mean KL to about {most}±{share:,g} %{some}{early} ({told})"


def sight_text(
    sight: Sight | None,
    word: str,
    length: Value,
    n_lines: int,
    width: int,
    warning: str,
    *,
    chosen: bool = False,
) -> Text:
    """What is known of a text in ``n_lines`` or some more: how much there is of it, what is wrong, and how it
    begins, in lines of at most ``width`` columns.

    ``warning``: the colour of what should be known. ``chosen``: it is read in a way of the user's own.
    """
    if not word:
        return Text("name a text above: a path, hf:owner/name, or a mixture of corpora.toml")
    if sight is None:
        return Text("looking at the text …")
    text = Text(sight.problem or (sight_words(sight, word, length) if isinstance(length, int) else ""))
    if sight.problem and chosen:
        text.append(" See with t how it is read.")
    more = [] if sight.problem or sight.chunks is None else list(map(inert, sight.chunks.warnings))
    if more:
        text.append(f"\n{more[0]}{f' (and {len(more) - 1} more)' if len(more) > 1 else ''}", style=warning)
    lines = sight.beginning.lines if sight.beginning is not None else ()
    for line in lines[: max(1, n_lines - 1 - bool(more))]:
        begun = Text(line, style="italic")
        begun.truncate(max(1, width), overflow="ellipsis")
        text.append("\n").append_text(begun)
    return text


def sight_words(sight: Sight, word: str, length: int) -> str:
    """``notes.txt: 18,204 tokens, 35 chunks of 512; text not kept in reports``."""
    kept = "" if sight.kept else "; text not kept in reports"
    found = sight.chunks
    if found is None:
        return f"{last_parts(word)} is fetched from the hub where it is not on this machine yet{kept}"
    least = "" if found.whole else "at least "
    chunks = counted(found.n_chunks, "chunk")
    some = "" if found.n_scored >= found.n_tokens - found.n_chunks else f", {found.n_scored:,} scored"
    name = inert(found.provenance.name)
    return f"{name}: {least}{found.n_tokens:,} tokens{some}, {chunks} of {length:,}{kept}"


def last_parts(word: str) -> str:
    """A word with the last parts of its paths."""
    parts = (
        one if one.startswith("hf:") else one.rstrip("/").rpartition("/")[2] for one in word.split(" + ")
    )
    return inert(" + ".join(parts))
