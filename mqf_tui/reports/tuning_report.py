"""What a tuning found, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.reports.comparison_report import signed, table, title
from mqf_tui.reports.escaping import fenced, said
from mqf_tui.reports.json_report import seen
from mqf_tui.reports.rows import spread
from mqf_tui.reports.sensitivity_schema import Sensitivity
from mqf_tui.reports.text import counted, inert, kl, percent
from mqf_tui.reports.tuning_schema import TunedSetting, Tuning

FORMATS = ("md", "json")


def render_tuning(name: str, tuning: Tuning) -> str:
    """The tuning in one of ``FORMATS``; raises KeyError for another."""
    return {"md": to_markdown, "json": to_json}[name](tuning)


def to_markdown(tuning: Tuning) -> str:
    """The answer, what was measured as a whole, the recipe as a file and as code; layers folded."""
    return "\n\n".join(_blocks(tuning)) + "\n"


def to_json(tuning: Tuning) -> str:
    """As JSON text; infinities as strings."""
    return seen(tuning.model_dump_json(indent=2)) + "\n"


def _blocks(tuning: Tuning) -> Iterator[str]:
    yield f"### {title(tuning.model)}: a recipe for {said(goal_words(tuning))}"
    yield f"**{said(tuning.answer[:1].upper() + tuning.answer[1:])}**"
    if tuning.partial:
        why = said(tuning.ended.rstrip("."))
        yield f"> ⚠ Partial ({why}): recipes that were still to be tried were not."
    yield (
        f"Measured as a whole over {counted(tuning.n_positions, 'position')} in "
        f"{counted(tuning.n_chunks, 'chunk')} of {said(tuning.corpus.name)}; predicted: what its parts cost "
        "alone, added up."
    )
    yield said(_same_text(tuning))
    yield _settings(tuning)
    if tuning.warnings:
        yield "\n>\n".join(f"> ⚠ {said(warning + '.')}" for warning in tuning.warnings)
    yield "As a file for `mqf-tui kv --recipe FILE`:"
    yield _block(tuning.toml, "toml")
    if tuning.code:
        yield "With mlx-lm:"
        yield _block(tuning.code, "python")
    else:
        yield "No code can apply it with mlx-lm, which has no cache for quantized layers of this kind."
    if tuning.command:
        yield fenced(tuning.command, "sh")
    for found in tuning.sensitivity:
        yield from _alone(found)
    if tuning.rule:
        yield said(tuning.rule)


def _same_text(tuning: Tuning) -> str:
    """That choosing and measuring were not apart."""
    n = 1 + len(tuning.tried)
    best = f", and it is the best of {n} recipes there" if n > 1 else ""
    return (
        f"The recipe was chosen and measured on the same text{best}, so it may cost more elsewhere: "
        "measure it on other text before relying on it (mqf-tui kv MODEL --recipe FILE --corpus FILE)."
    )


def goal_words(tuning: Tuning) -> str:
    """``at most 4,000 KV bytes per token``, ``a mean KL of at most 0.02 nats``."""
    if tuning.max_kl is not None:
        return f"a mean KL of at most {tuning.max_kl:g} nats"
    return f"at most {tuning.max_kv_bytes or 0:,.0f} KV bytes per token"


def _settings(tuning: Tuning) -> str:
    head = ("setting", "KV bytes per token (16-bit)", "KL predicted", "KL mean (nats)", "less the recipe's")
    rows = [_row(one, bold=one is tuning.recipe) for one in (tuning.recipe, *tuning.uniform, *tuning.tried)]
    return table((*head, "flips", "verdict", "within the goal"), rows, "lrrrrrll")


def _row(one: TunedSetting, *, bold: bool) -> list[str]:
    name = said(one.setting + (" for all layers" if one.uniform else ""))
    difference = ""
    if one.difference is not None:
        difference = spread(one.difference.value, one.difference.ci, lambda value: signed(value, kl))
    return [
        f"**{name}**" if bold else name,
        f"{one.kv_bytes:,.0f}",
        kl(one.predicted_kl),
        spread(one.kl.value, one.kl.ci, kl),
        difference,
        spread(one.flips.value, one.flips.ci, percent),
        one.verdict,
        "no" if not one.within else "yes" if one.surely else "not surely",
    ]


def _alone(found: Sensitivity) -> Iterator[str]:
    sides = [s for s in ("keys", "values", "both") if any(c.side == s for c in found.layers)]
    cells: dict[int, dict[str, str]] = {}
    for cost in found.layers:
        cells.setdefault(cost.layer, {})[cost.side] = spread(cost.kl.value, cost.kl.ci, kl)
    yield f"<details>\n<summary>Each layer alone at {inert(found.format)}</summary>"
    rows = [[str(layer), *(each.get(side, "") for side in sides)] for layer, each in sorted(cells.items())]
    yield table(("layer", *sides), rows, "r" * (1 + len(sides)))
    yield "</details>"


def _block(text: str, language: str) -> str:
    """Lines of code whose own words come from outside."""
    lines = "\n".join(_inert(line) for line in text.splitlines())
    ticks = "```"
    while ticks in lines:
        ticks += "`"
    return f"{ticks}{language}\n{lines}\n{ticks}"


def _inert(line: str) -> str:
    """A line as it is, but for signs that could drive a terminal."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + inert(line[len(indent) :])
