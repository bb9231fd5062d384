"""Reports in a notebook and in print: a short fragment of HTML that loads and runs nothing; a few lines.

The HTML reads well without any style, since some viewers take all of it away, and takes colours and fonts
from the notebook around it, whichever its theme. The picture is an image with its own background and words.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mqf_tui.reports.markup import Markup, element, together
from mqf_tui.reports.text import UNKNOWN, counted, inert, kl, percent

if TYPE_CHECKING:
    from mqf_tui.reports.chart_parts import Chart
    from mqf_tui.reports.comparison_schema import Comparison, Ranking, Side
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_schema import Tuning

WIDTH = 640.0
PAD = 14.0
FOLDED = 12  # rows of a table beyond which it is folded
BESIDE = ("perplexity difference", "KV cache", "weights")  # figures that are shown beside those that decide


def fragment(part: object) -> str | None:
    """The report as HTML without a document around it; None where ``part`` is no whole report."""
    from mqf_tui.reports.comparison_schema import Comparison, Ranking
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_schema import Tuning

    match part:
        case Report():
            blocks = _report(part)
        case SweepReport():
            blocks = _sweep(part)
        case Comparison():
            blocks = _comparison(part)
        case Ranking():
            blocks = _ranking(part)
        case Tuning():
            blocks = _tuning(part)
        case _:
            return None
    return element("div", *blocks, class_="mqf-tui")


def in_short(part: object) -> str | None:
    """The report as a line or two of plain text; None where ``part`` is no whole report."""
    from mqf_tui.reports.comparison_report import sentence
    from mqf_tui.reports.comparison_schema import Comparison, Ranking
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_rows import heading
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_report import goal_words
    from mqf_tui.reports.tuning_schema import Tuning

    match part:
        case Report():
            return _verdict_lines(part)
        case SweepReport():
            return f"{inert(part.model)}: {heading(part)}\n{inert(part.answer)}"
        case Comparison():
            pairs = (sentence(part.baseline, pair, n) for n, pair in enumerate(part.pairs, 2))
            return "\n".join([inert(part.baseline.model), *map(inert, pairs)])
        case Ranking():
            return f"{inert(part.model)}: {inert(part.answer)}"
        case Tuning():
            return f"{inert(part.model)}: a recipe for {goal_words(part)}\n{inert(part.answer)}"
        case _:
            return None


def _verdict_lines(report: Report) -> str:
    from mqf_tui.reports.deciding import SIGNS, mean_interval, setting_line
    from mqf_tui.reports.rows import bounds, known, spread
    from mqf_tui.reports.text import verdict_words

    flips = bounds(report.flip_ci_low, report.flip_ci_high)
    figures = [
        f"mean KL {spread(report.kl.mean, mean_interval(report), kl)} nats",
        f"p99 {spread(report.kl.p99, report.kl.p99_ci, kl)}" if report.kl.p99 is not None else "",
        f"flips {spread(report.flip_rate, flips, percent)}" if known(report.flip_rate) else "",
    ]
    what = f"{inert(report.model) or 'unnamed model'}: {setting_line(report)}"
    said = f"{SIGNS[report.verdict]} {verdict_words(report)}: {', '.join(filter(None, figures))}"
    doubts = [f"⚠ {inert(warning)}" for warning in report.warnings]
    return "\n".join([what, said, *doubts])


def _report(report: Report) -> Iterator[Markup]:
    from mqf_tui.reports.deciding import SIGNS, setting_line
    from mqf_tui.reports.distribution import distribution
    from mqf_tui.reports.setting_words import notes
    from mqf_tui.reports.text import stopping_words, verdict_words

    yield _heading(report.model, setting_line(report))
    yield element("p", element("strong", f"{SIGNS[report.verdict]} {verdict_words(report)}"))
    yield _table(("", "value", "95 % interval", "verdict"), _figures(report))
    stopped = stopping_words(report)
    yield from _sentences([*([stopped] if stopped else []), *notes(report)])
    yield from _doubts(report.warnings)
    yield _picture(distribution(report, None, WIDTH))
    yield from _small([report.compute, report.device, *_versions(report)])


def _figures(report: Report) -> Iterator[tuple[str, str, str, str]]:
    from mqf_tui.reports.chart_parts import level
    from mqf_tui.reports.deciding import SIGNS, deciding
    from mqf_tui.reports.rows import figures

    for name, value, words, interval, limits, allowed in deciding(report):
        reached = UNKNOWN if value is None else level(value, limits)
        sign = f"{SIGNS[reached]} {reached} ({allowed})" if reached != UNKNOWN else allowed
        yield name, words, interval.removeprefix("95 %: "), sign
    for row in figures(report):
        if row.name.startswith(BESIDE):
            yield row.name, row.value, row.interval, ""


def _versions(report: Report) -> Iterator[str]:
    v = report.versions
    named = (("mqf-tui", v.mqf_tui), ("mlx", v.mlx), ("mlx-lm", v.mlx_lm))
    yield from (f"{name} {version}" for name, version in named if version)


def _sweep(report: SweepReport) -> Iterator[Markup]:
    from mqf_tui.reports.sweep_rows import doubts, heading, material, sensitivity_rows, sensitivity_sides

    yield _heading(report.model, heading(report))
    yield _answer(report.answer)
    yield from _sentences([*material(report), *([report.evidence] if report.evidence else [])])
    if report.sensitivity is not None:
        head = ("layer", *sensitivity_sides(report), "bytes saved per token")
        yield _table(head, sensitivity_rows(report))
    else:
        yield _settings(report)
    yield from _doubts(doubts(report))
    yield from _small([report.compute, report.device])


def _settings(report: SweepReport) -> Markup:
    """The settings, ranked; columns in which nothing stands are left out."""
    from mqf_tui.reports.comparison_report import kv_head
    from mqf_tui.reports.deciding import SIGNS
    from mqf_tui.reports.sweep_rows import HEAD, ordered, rows

    head = HEAD._replace(kv_bytes=kv_head(report.ranking.kv_basis))
    body = [
        row._replace(verdict=f"{SIGNS[variant.verdict]} {row.verdict}", run="")
        for row, (variant, _) in zip(rows(report), ordered(report), strict=True)
    ]
    used = [i for i in range(len(head)) if i == 1 or any(row[i] not in ("", UNKNOWN) for row in body)]
    order = [1, *(i for i in used if i != 1)]  # the setting names the row
    return _table([head[i] for i in order], ([row[i] for i in order] for row in body))


def _comparison(comparison: Comparison) -> Iterator[Markup]:
    from mqf_tui.reports.comparison_report import basis, more_differs, sentence

    base, pairs = comparison.baseline, comparison.pairs
    yield _heading(base.model, f"{counted(1 + len(pairs), 'run')} compared")
    sides = (base, *(pair.other for pair in pairs))
    rows = ([f"{n}: {_setting(side)}", *_side(side)] for n, side in enumerate(sides, 1))
    yield _table(("run", "KL mean (nats)", "flips", "verdict", "KV bytes per token"), rows)
    for number, pair in enumerate(pairs, 2):
        yield _answer(sentence(base, pair, number))
        yield from _sentences([basis(pair)])
        yield from _doubts([*filter(None, [more_differs(base, pair)]), *pair.warnings])


def _side(side: Side) -> tuple[str, ...]:
    from mqf_tui.reports.comparison_report import kv_words, verdict_of
    from mqf_tui.reports.rows import known, spread

    flips = spread(side.flip_rate, side.flip_ci, percent) if known(side.flip_rate) else UNKNOWN
    verdict = verdict_of(side)
    return (
        spread(side.kl_mean, side.kl_ci, kl),
        flips,
        verdict,
        kv_words(side.kv_bytes, side.kv_reference),
    )


def _setting(side: Side) -> str:
    marks = [word for word, on in (("imported", side.imported), ("partial", side.partial)) if on]
    return ", ".join([side.setting, *marks])


def _ranking(ranking: Ranking) -> Iterator[Markup]:
    from mqf_tui.reports.ranking_report import rank_words

    yield _heading(ranking.model, f"{counted(len(ranking.rows), 'setting')} ranked")
    yield _answer(ranking.answer)
    yield from _sentences(filter(None, [ranking.advice, ranking.group]))
    rows = ([_setting(row.side), rank_words(row), *_side(row.side)] for row in ranking.rows)
    yield _table(("setting", "rank", "KL mean (nats)", "flips", "verdict", "KV bytes per token"), rows)
    left_out = [f"left out: {out.setting}, {out.why}" for out in ranking.left_out]
    yield from _doubts([*ranking.warnings, *left_out])


def _tuning(tuning: Tuning) -> Iterator[Markup]:
    from mqf_tui.reports.rows import spread
    from mqf_tui.reports.tuning_report import goal_words

    yield _heading(tuning.model, f"a recipe for {goal_words(tuning)}")
    yield _answer(tuning.answer)
    head = ("setting", "KV bytes per token (16-bit)", "KL mean (nats)", "flips", "verdict", "within the goal")
    rows = (
        (
            one.setting + (" for all layers" if one.uniform else ""),
            f"{one.kv_bytes:,.0f}",
            spread(one.kl.value, one.kl.ci, kl),
            spread(one.flips.value, one.flips.ci, percent),
            one.verdict,
            "no" if not one.within else "yes" if one.surely else "not surely",
        )
        for one in (tuning.recipe, *tuning.uniform, *tuning.tried)
    )
    yield _table(head, rows)
    ended = [f"partial: {tuning.ended}"] if tuning.partial else []
    yield from _doubts([*ended, *tuning.warnings])
    lines = "\n".join(inert(line) for line in tuning.toml.splitlines())
    yield element("pre", element("code", lines))
    yield from _small([tuning.compute, tuning.device])


def _heading(model: str, words: str) -> Markup:
    name = element("strong", element("bdi", inert(model) or "unnamed model"))
    return element("p", name, ": ", element("bdi", inert(words)))


def _answer(words: str) -> Markup:
    said = inert(words)
    return element("p", element("strong", element("bdi", said[:1].upper() + said[1:])))


def _sentences(clauses: Iterable[str | None]) -> Iterator[Markup]:
    """Clauses of plain text as the sentences of one paragraph; nothing where there are none."""
    said = [inert(clause).rstrip(".") for clause in clauses if clause]
    if said:
        yield element("p", element("bdi", " ".join(f"{words[:1].upper()}{words[1:]}." for words in said)))


def _doubts(warnings: Iterable[str]) -> Iterator[Markup]:
    items = [element("li", element("bdi", f"⚠ {inert(warning)}")) for warning in warnings]
    if items:
        yield element("ul", *items)


def _small(words: Iterable[str]) -> Iterator[Markup]:
    said = " · ".join(filter(None, map(inert, words)))
    if said:
        yield element("p", element("small", element("bdi", said)))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """A table whose first column names the rows; a long one is folded."""
    body: list[Markup] = []
    for first, *rest in rows:
        cells = (element("td", element("bdi", inert(cell))) for cell in rest)
        body.append(element("tr", element("th", element("bdi", inert(first)), scope="row"), *cells))
    head = element("thead", element("tr", *(element("th", word, scope="col") for word in header)))
    made = element("table", head, element("tbody", *body))
    if len(body) <= FOLDED:
        return made
    return element("details", element("summary", f"all {len(body)} rows"), made)


def _picture(chart: Chart) -> Markup:
    """The chart as an image: of an SVG element some viewers leave the words, and nothing else."""
    from mqf_tui.reports.colours import DARK, LIGHT, chart_style

    width, height = chart.width + 2 * PAD, chart.height + 2 * PAD
    dark = f"@media (prefers-color-scheme:dark){{{_sheet(DARK)}{chart_style(DARK)}}}"
    picture = element(
        "svg",
        element("style", Markup(_sheet(LIGHT) + chart_style(LIGHT) + dark)),
        element("rect", width=width, height=height, rx=8, class_="sheet"),
        chart.placed(PAD, PAD),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        class_="c",
    )
    source = "data:image/svg+xml;base64," + b64encode(picture.encode()).decode()
    return together([element("img", src=source, alt=chart.description, width=width)])


def _sheet(colours: dict[str, str]) -> str:
    return f".c .sheet{{fill:{colours['background']}}}"
