"""``hf:owner/name[:config][/split][#column]``: data sets of the hub by a word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadCorpusError

PREFIX = "hf:"
FORM = "hf:owner/name[:config][/split][#column]"
_WORD = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^/#\s]+))?(?:/(?P<split>[\w.-]+))?(?:#(?P<column>[^#]+))?"
)


@dataclass(frozen=True)
class HubWord:
    """A data set and what of it is wanted; None: what there is by default."""

    repo: str
    config: str | None = None
    split: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        config = f":{self.config}" if self.config else ""
        split = f"/{self.split}" if self.split else ""
        return f"{PREFIX}{self.repo}{config}{split}" + (f"#{self.column}" if self.column else "")


NAMED = {
    "wikitext-2": HubWord("Salesforce/wikitext", "wikitext-2-raw-v1", "test", "text"),
    "wikitext-103": HubWord("Salesforce/wikitext", "wikitext-103-raw-v1", "test", "text"),
}


def hub_word(word: str) -> HubWord:
    """What a word that begins with ``hf:`` or stands in NAMED means; raises BadCorpusError."""
    if word in NAMED:
        return NAMED[word]
    found = _WORD.fullmatch(word)
    if found is None:
        raise BadCorpusError(
            f"the corpus {word!r} names no data set; write {FORM}, such as "
            "hf:Salesforce/wikitext:wikitext-2-raw-v1/test#text."
        )
    return HubWord(**found.groupdict())
