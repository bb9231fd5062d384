"""What can be shown, copied and saved: a report in each of its formats, made when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.reports.comparison_schema import Comparison
    from mqf_tui.reports.issue_text import IssueText, Tracker
    from mqf_tui.reports.schema import CorpusProvenance, Report
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_schema import Tuning

Language = Literal["markdown", "html", "json", "csv", "xml", "toml", "python", "text"]
Read = Callable[[], "Positions | None"]
OPEN_TEXTS = ("builtin", "wikitext-2")  # corpora that everybody may read
LONGEST_STEM = 80
LONGEST_BODY = 65_536  # characters of an issue that GitHub takes


@dataclass(frozen=True)
class Form:
    """One format. ``words``: its name on the screen; ``ending``: of its files, without a dot."""

    name: str
    words: str
    ending: str
    language: Language
    make: Callable[[], str]


@dataclass(frozen=True)
class Document:
    """Something to read: ``title`` for a heading, ``stem`` for the names of its files.

    ``issue``: makes the text of an issue, with words of the measured text where it is given True (None: there
    is none to make). ``text_name``: the text that these would be of ("": the document quotes none);
    ``text_open``: whether that text is public. ``note``: what must be said of it beside it.
    """

    title: str
    stem: str
    forms: tuple[Form, ...]
    issue: Callable[[bool], IssueText] | None = None
    text_name: str = ""
    text_open: bool = False
    note: str = ""

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of its formats, the one to begin with first."""
        return tuple(form.name for form in self.forms)

    def form(self, name: str) -> Form:
        """A format by its name; raises KeyError."""
        return {form.name: form for form in self.forms}[name]

    def render(self, name: str) -> str:
        """Its text in a format. Slow for some (positions are read): not for the app's own thread.

        Raises KeyError for a format that there is not, FidelityError where its numbers cannot be read.
        """
        return self.form(name).make()

    def file_name(self, name: str) -> str:
        """What a file of the format is called unless the user says otherwise."""
        return f"{self.stem}.{self.form(name).ending}"


def run_document(report: Report, positions: Positions | Read | None = None, run_id: str = "") -> Document:
    """One run. ``positions``: or what reads them, or None where there are none."""
    from mqf_tui.reports.formats import render

    read: Read = positions if callable(positions) else lambda: positions

    def form(
        name: str, words: str, ending: str, language: Language, *, pictures: bool = False, dark: bool = False
    ) -> Form:
        def make() -> str:
            return render(name, report, read() if pictures else None, dark=dark)

        return Form(ending if dark else name, words, ending, language, make)

    def rows() -> str:
        return render("csv", report, read(), rows="positions")

    def issue(quoted: bool) -> IssueText:
        from mqf_tui.reports.issue_text import run_issue

        return run_issue(report, read() if quoted else None)

    return Document(
        title=f"{inert(report.variant_model or report.model)}: {report.setting}",
        stem=_stem(run_id or f"{report.model.rsplit('/', 1)[-1]}-{report.short_setting}"),
        forms=(
            form("md", "Markdown", "md", "markdown"),
            form("card", "Card", "card.md", "markdown"),
            form("html", "HTML", "html", "html", pictures=True),
            form("json", "JSON", "json", "json"),
            form("csv", "CSV", "csv", "csv"),
            *([Form("positions", "Positions", "positions.csv", "csv", rows)] if positions else []),
            form("svg", "SVG", "svg", "xml", pictures=True),
            form("svg", "Dark SVG", "dark.svg", "xml", pictures=True, dark=True),
            form("badge", "Badge", "badge.svg", "xml"),
            form("badge-json", "Badge JSON", "badge.json", "json"),
        ),
        issue=issue,
        text_name=inert(report.corpus.name)
        if positions is not None and report.text_kept is not False
        else "",
        text_open=_open(report.corpus),
    )


def sweep_document(report: SweepReport) -> Document:
    """A sweep, or a sensitivity."""
    from mqf_tui.reports.sweep_report import render_sweep, to_markdown
    from mqf_tui.reports.sweep_rows import heading

    words: dict[str, tuple[str, Language]] = {
        "md": ("Markdown", "markdown"),
        "html": ("HTML", "html"),
        "json": ("JSON", "json"),
        "csv": ("CSV", "csv"),
    }

    def form(name: str) -> Form:
        said, language = words[name]
        return Form(name, said, name, language, lambda: render_sweep(name, report))

    def issue(_: bool) -> IssueText:
        from mqf_tui.reports.issue_text import other_issue

        return other_issue(f"{report.model}: {report.answer}", to_markdown(report))

    what = "sensitivity" if report.sensitivity is not None else "sweep"
    return Document(
        title=f"{inert(report.model)}: {heading(report)}",
        stem=_stem(f"{what}-{report.sweep_id or 'unsaved'}"),
        forms=tuple(map(form, words)),
        issue=issue,
    )


def sensitivity_document(report: SweepReport) -> Document:
    """What each layer alone costs; it is saved as a sweep."""
    return sweep_document(report)


def comparison_document(comparison: Comparison) -> Document:
    """Two or more runs against the first."""
    from mqf_tui.reports.comparison_report import to_json, to_markdown

    sides = [comparison.baseline, *(pair.other for pair in comparison.pairs)]
    settings = " against ".join(side.short_setting for side in sides)
    title = f"{comparison.baseline.model}: {settings}"

    def issue(_: bool) -> IssueText:
        from mqf_tui.reports.issue_text import other_issue

        return other_issue(title, to_markdown(comparison))

    return Document(
        title=inert(title),
        stem=_stem("compare-" + "-".join(side.short_setting for side in sides)),
        forms=(
            Form("md", "Markdown", "md", "markdown", lambda: to_markdown(comparison)),
            Form("json", "JSON", "json", "json", lambda: to_json(comparison)),
        ),
        issue=issue,
    )


def tuning_document(tuning: Tuning) -> Document:
    """A recipe: the report, the recipe's own file, the Python that applies it."""
    from mqf_tui.reports.tuning_report import goal_words, to_json, to_markdown

    title = f"{tuning.model}: a recipe for {goal_words(tuning)}"

    def issue(_: bool) -> IssueText:
        from mqf_tui.reports.issue_text import other_issue

        return other_issue(title, to_markdown(tuning))

    code = [Form("code", "mlx-lm code", "py", "python", lambda: tuning.code)] if tuning.code else []
    return Document(
        title=inert(title),
        stem=_stem(f"recipe-{tuning.model.rsplit('/', 1)[-1]}-{tuning.created[:10]}"),
        forms=(
            Form("md", "Markdown", "md", "markdown", lambda: to_markdown(tuning)),
            Form("toml", "Recipe file", "toml", "toml", lambda: tuning.toml),
            *code,
            Form("json", "JSON", "json", "json", lambda: to_json(tuning)),
        ),
        issue=issue,
    )


def issue_document(document: Document, tracker: Tracker, *, quoted: bool) -> Document:
    """The text of an issue about ``document``; ``quoted``: with words of the measured text.

    Raises FidelityError where its numbers cannot be read.
    """
    if document.issue is None:
        raise FidelityError("there is no issue to make of this; copy its Markdown instead.")
    text = document.issue(quoted)
    note = f"Nothing is sent: copy it, and paste it at {tracker.address}"
    if len(text.body) > LONGEST_BODY:
        note += f". GitHub takes {LONGEST_BODY:,} characters of the {len(text.body):,}: attach a saved report"
    return Document(
        title=f"An issue for {tracker.word}",
        stem=f"{document.stem}.issue",
        forms=(
            Form("issue", "Title and body", "md", "markdown", lambda: text.whole(tracker)),
            Form("title", "Title alone", "title.txt", "text", lambda: f"{text.title}\n"),
            Form("body", "Body alone", "body.md", "markdown", lambda: text.body),
        ),
        note=note,
    )


def _open(corpus: CorpusProvenance) -> bool:
    """Whether the text is one that comes with the program or from the hub, and no file of the user's."""
    if corpus.public is not None:
        return corpus.public
    return corpus.version != "file" and corpus.name in OPEN_TEXTS


def _stem(words: str) -> str:
    """A file's name of signs that every system takes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", inert(words)).strip("-.")[:LONGEST_STEM] or "report"
