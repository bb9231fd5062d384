"""The text of an issue for somebody's tracker, to be pasted there by hand: nothing is sent from here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.reports.comparison_report import shortened
from mqf_tui.reports.deciding import deciding
from mqf_tui.reports.escaping import fenced, said
from mqf_tui.reports.heatmap import worst_positions
from mqf_tui.reports.markdown import headline, thresholds
from mqf_tui.reports.markdown_details import details, table
from mqf_tui.reports.setting_words import notes
from mqf_tui.reports.text import UNKNOWN, counted, inert, kl, verdict_words

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.reports.schema import Report, Versions

HOST = "github.com"
LONGEST_TITLE = 200  # GitHub takes 256
WORST = 8
_TRACKER = re.compile(
    r"(?:(?:https?://|git@|ssh://git@)?(?P<host>[\w-]+(?:\.[\w-]+)+)[:/])?"
    r"(?P<owner>[A-Za-z0-9][\w.-]*)/(?P<name>[\w.-]+?)(?:\.git)?(?:/(?:issues|-/issues|discussions|tree)\b\S*)?/?",
    re.ASCII,
)


@dataclass(frozen=True)
class Tracker:
    """Where issues of a repository are kept."""

    owner: str
    name: str
    host: str = HOST

    @property
    def word(self) -> str:
        """``owner/name``, with the host before it where that is not GitHub."""
        return f"{self.owner}/{self.name}" if self.host == HOST else f"{self.host}/{self.owner}/{self.name}"

    @property
    def address(self) -> str:
        """The page on which one writes a new issue."""
        inner = "/-" if "gitlab" in self.host else ""
        return f"https://{self.host}/{self.owner}/{self.name}{inner}/issues/new"


@dataclass(frozen=True)
class IssueText:
    """``title`` is plain text on one line, ``body`` Markdown."""

    title: str
    body: str

    def whole(self, tracker: Tracker) -> str:
        """Where to paste it, the title, the body."""
        return f"Paste into {tracker.address}\n\nTitle: {self.title}\n\n{self.body}"


def parse_tracker(words: str) -> Tracker:
    """The tracker that ``owner/name`` or a repository's address means; raises BadSettingError."""
    found = _TRACKER.fullmatch(words.strip())
    if found is None or found["name"] in (".", ".."):
        raise BadSettingError(
            f"{inert(words.strip())[:60]!r} names no tracker; write owner/name, such as "
            "ml-explore/mlx-lm, or a repository's address."
        )
    return Tracker(found["owner"], found["name"], (found["host"] or HOST).lower())


def run_issue(report: Report, positions: Positions | None = None) -> IssueText:
    """The verdict and what it was taken from, the setting, versions, the command, what is folded.

    ``positions``: their worst are quoted with the text around them; None where it is not to be shown.
    """
    name = shortened(inert(report.variant_model or report.model)) or "unnamed model"
    title = f"{name}: {report.setting}: {verdict_words(report)}, mean KL {kl(report.kl.mean)} nats"
    return IssueText(_title(title), "\n\n".join(_run_blocks(report, positions)) + "\n")


def other_issue(title: str, markdown: str) -> IssueText:
    """``markdown``: a report that begins with a heading of its own, which ``title`` takes the place of."""
    head, _, body = markdown.partition("\n\n")
    return IssueText(_title(title), body if head.startswith("#") else markdown)


def _title(words: str) -> str:
    line = inert(words)
    return line if len(line) <= LONGEST_TITLE else f"{line[: LONGEST_TITLE - 1]}…"


def _run_blocks(report: Report, positions: Positions | None) -> Iterator[str]:
    yield headline(report)
    rows = [(d.name, d.words, d.interval.removeprefix("95 %: "), d.allowed) for d in deciding(report)]
    yield table(("", "value", "95 % interval", "thresholds"), rows, "lrrl")
    yield thresholds(report)
    yield table(("", ""), list(_facts(report)), "ll")
    if report.warnings:
        yield "\n>\n".join(f"> ⚠ {said(warning)}" for warning in report.warnings)
    if report.command:
        yield "To measure it again:"
        yield fenced(report.command, "sh")
    if positions is not None and len(positions) and report.text_kept is not False:
        yield from _worst(positions)
    yield from details(report)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    c = report.corpus
    chunks = f"{counted(report.n_chunks, 'chunk')} of {c.chunk_length} tokens" if report.n_chunks else ""
    mode = {"stress": "stress", "deployment": f"deployment from position {report.quantize_start}"}
    for name, words in (
        ("model", [report.model]),
        ("variant", [report.variant_model]),
        ("setting", [report.setting, mode.get(report.mode or "", "")]),
        ("read", list(notes(report))),
        ("text", [c.name, chunks, counted(report.n_positions, "position") if report.n_positions else ""]),
        ("device", [report.device, report.compute]),
        ("software", list(software(report.versions))),
    ):
        if told := ", ".join(said(word) for word in words if word):
            yield name, told


def software(versions: Versions) -> Iterator[str]:
    """Name and version of what the numbers hang on, then the system; what is not known is left out."""
    v = versions
    for name, version in (("mqf-tui", v.mqf_tui), ("mlx", v.mlx), ("mlx-lm", v.mlx_lm), ("Python", v.python)):
        if version:
            yield f"{name} {version}"
    if v.system:
        yield v.system


def _worst(positions: Positions) -> Iterator[str]:
    head = ("chunk / depth", "text before", "next token", "KL", "reference", "variant")
    cells = [[said(cell) or UNKNOWN for cell in row] for row in worst_positions(positions)][:WORST]
    yield "Where it moved most:"
    yield table(head, cells, "lllrll")
