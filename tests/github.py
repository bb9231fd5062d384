"""Markdown as GitHub shows it: through its own renderer, taken apart again."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import cmarkgfm
from cmarkgfm.cmark import Options

VOID = ("br", "hr", "img", "input")


def html(markdown: str) -> str:
    """The page's HTML; raw HTML stays, as on GitHub, where `<details>` works."""
    return cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE)


@dataclass
class Page(HTMLParser):
    """What stands where. ``blocks``: text of each element of a kind, folded or not, in order."""

    markdown: str
    tags: set[str] = field(default_factory=set[str])
    tables: list[list[list[str]]] = field(default_factory=list)
    visible_tables: int = 0
    blocks: dict[str, list[str]] = field(default_factory=dict)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    balanced: bool = True

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(html(self.markdown))
        self.close()
        self.balanced = self.balanced and not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(f"{tag}.{name}", value) for name, value in attrs]
        if tag in VOID:
            return
        if tag == "table":
            self.tables.append([])
            self.visible_tables += "details" not in self._open
        elif tag == "tr":
            self.tables[-1].append([])
        self._open.append(tag)
        self._texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.balanced = False
            return
        self._open.pop()
        text = self._texts.pop()
        self.blocks.setdefault(tag, []).append(text.strip())
        if tag in ("td", "th"):
            self.tables[-1][-1].append(text.strip())
        if self._texts:
            self._texts[-1] += text

    def handle_data(self, data: str) -> None:
        if self._texts:
            self._texts[-1] += data
