"""What the screen says of a position and of the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mqf_tui.app.exploring.answer import Answer, Beside
from mqf_tui.app.exploring.measures import DELTA_P, DIFFERENCE, ENTROPY, KL, Colouring, described, difference
from mqf_tui.app.exploring.spelling import fitted
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.text import inert, kl
from mqf_tui.reports.token_text import named

NOT_KNOWN = "not known"
LONGEST_NAME = 24
FLIPS = ("no flip", "flip", "confident flip")


def run_words(run: SavedRun) -> str:
    """A run in a few words: its setting, the model where that is another one."""
    r = run.report
    name = f" of {inert(r.variant_model.rsplit('/', 1)[-1])}" if r.variant_model else ""
    return r.short_setting + name


def place_words(answer: Answer, place: int) -> str:
    """Where a position is, and what kind of token stands there."""
    p = answer.positions
    words = [
        f"position {place + 1:,} of {len(answer):,}",
        f"chunk {int(p.chunk[place]) + 1}, depth {int(p.depth[place]):,}",
    ]
    if part := inert(answer.part_name(place)):
        words.append(f"part {part}")
    words.append(class_word(answer, place))
    return " · ".join(words)


def class_word(answer: Answer, place: int) -> str:
    """The class of a token."""
    number = int(answer.positions.token_class[place])
    return TOKEN_CLASSES[number] if 0 <= number < len(TOKEN_CLASSES) else f"class {NOT_KNOWN}"


def numbers(answer: Answer, place: int, colouring: Colouring, beside: Beside | None) -> list[tuple[str, str]]:
    """The numbers of a position, each with its name; the one that colours the text with its level."""
    p = answer.positions
    other = beside.at[place] if beside is not None else -1
    q = beside.answer.positions if beside is not None and other >= 0 else None
    first = float(p.kl[place])
    found = [("KL", kl(first)), ("Δp", signed(float(p.delta_p[place])))]
    if beside is not None:
        second = float(q.kl[other]) if q is not None else math.nan
        moved = float(difference(p.kl[place : place + 1], beside.kl[place : place + 1])[0])
        found = [("KL 1", kl(first)), ("KL 2", number(second)), ("KL 2 − 1", signed(moved))]
        of_second = signed(float(q.delta_p[other])) if q is not None else NOT_KNOWN
        found.append(("Δp", f"1: {signed(float(p.delta_p[place]))}, 2: {of_second}"))
    found += [("entropy", number(float(p.entropy[place]))), ("margin", share(float(p.margin[place])))]
    nll = f"{float(p.nll_ref[place]):.3f} → {float(p.nll_quant[place]):.3f}"
    if q is not None:
        nll = f"{float(p.nll_ref[place]):.3f} → 1: {float(p.nll_quant[place]):.3f}, 2: "
        nll += f"{float(q.nll_quant[other]):.3f}"
    found += [("NLL", nll), ("top 1", flip_words(answer, place, beside))]
    name = {KL: "KL", DELTA_P: "Δp", ENTROPY: "entropy", DIFFERENCE: "KL 2 − 1"}.get(colouring)
    level = level_words(answer, place, colouring, beside)
    return [(n, f"{word} ({level})" if n == name and level else word) for n, word in found]


def level_words(answer: Answer, place: int, colouring: Colouring, beside: Beside | None) -> str:
    """The level of a position in words, for whoever sees no colours."""
    p = answer.positions
    if colouring is DIFFERENCE:
        if beside is None:
            return ""
        values = difference(p.kl[place : place + 1], beside.kl[place : place + 1])
    elif colouring in (KL, DELTA_P, ENTROPY):
        values = getattr(p, colouring.measure)[place : place + 1]
    else:
        return ""
    level = int(colouring.levels(values)[0])
    return "" if math.isnan(float(values[0])) else described(level, colouring)


def flip_words(answer: Answer, place: int, beside: Beside | None) -> str:
    """Whether the likeliest token is another one, and which."""
    p = answer.positions
    before, after = (short_name(int(column[place]), p.texts) for column in (p.top1_ref, p.top1_quant))
    kind = FLIPS[int(answer.flips[place])]
    words = kind if before == after else f"{kind} {before} → {after}"
    if beside is not None and beside.at[place] >= 0:
        at = int(beside.at[place])
        q = beside.answer.positions
        second = short_name(int(q.top1_quant[at]), q.texts)
        also = FLIPS[int(beside.answer.flips[at])]
        words = f"1: {words}, 2: {also}" + (f" → {second}" if beside.answer.flips[at] else "")
    return words


def context(answer: Answer, place: int, before: int, after: int) -> tuple[str, str, str]:
    """The text before a position in its chunk, its own token, and the text after it, each on one line.

    ``before`` and ``after`` are in tokens.
    """
    start, end = answer.bounds(answer.chunk_at(place))
    spelling = answer.spelling
    left = spelling.text(max(start, place - before), place)
    right = spelling.text(place + 1, min(end, place + 1 + after))
    return one_line(left), own_word(answer, place), one_line(right)


def own_word(answer: Answer, place: int) -> str:
    """The text's own next token at a position."""
    return short_name(int(answer.positions.token[place]), answer.positions.texts)


def short_name(token: int, texts: Mapping[int, str]) -> str:
    """A token by itself, its middle left out where it is very long."""
    name = named(token, texts)
    return (
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 + 1 :]}"
    )


def one_line(text: str) -> str:
    """Text without its line ends and with no more than one blank in a row."""
    return fitted(" ".join(text.replace("\n", " ").split())) if text.split() else ""


def number(value: float) -> str:
    """A number that may not be known."""
    return NOT_KNOWN if math.isnan(value) else kl(value)


def share(value: float) -> str:
    """A share that may not be known."""
    return NOT_KNOWN if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    if math.isnan(value):
        return NOT_KNOWN
    said = kl(abs(value))
    return f"−{said}" if value < 0 else f"+{said}" if value > 0 else "0"


def counted_words(kept: int, total: int) -> str:
    """How many positions the filter keeps."""
    return f"{kept:,} of {total:,} positions" if kept != total else f"{total:,} positions"
