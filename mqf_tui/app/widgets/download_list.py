"""The downloads since the app began: what runs, what waits, what came of the others."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from mqf_tui.app.hub_downloads import Standing
from mqf_tui.app.hub_words import download_text
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.model_list import ModelList
from mqf_tui.app.widgets.signs import unicode_of

PADDING = 3  # columns: on both sides, and a scroll bar


class DownloadList(ModelList):
    """Two lines each, more for what went wrong. Hidden while there is none."""

    DEFAULT_CSS = """
    DownloadList { height: auto; max-height: 45%; padding: 0 1; background: $surface; }
    DownloadList > .option-list--option-highlighted,
    DownloadList.-plain > .option-list--option-highlighted {
        background: $surface; color: $foreground; text-style: none;
    }
    DownloadList:focus > .option-list--option-highlighted { background: $panel; }
    DownloadList.-plain:focus > .option-list--option-highlighted {
        background: $primary; color: $background; text-style: bold;
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._standings: tuple[Standing, ...] = ()
        self._texts: list[Text] = []

    @property
    def chosen(self) -> Standing | None:
        """The one under the cursor."""
        at = self.highlighted
        return self._standings[at] if at is not None and at < len(self._standings) else None

    @property
    def texts(self) -> tuple[Text, ...]:
        """What is drawn, one for each."""
        return tuple(self._texts)

    def show(self, standings: Sequence[Standing]) -> None:
        """Draw what has changed; the cursor stays on its download."""
        under = self.chosen
        self.display = bool(standings)
        width = self.size.width or self.app.size.width
        colours = {verdict: self.app.theme_variables[name] for verdict, name in COLOURS.items()}
        colours["bar"] = self.app.theme_variables["primary"]
        texts = [download_text(s, width - PADDING, unicode_of(self), colours) for s in standings]
        names, before = [s.name for s in standings], [s.name for s in self._standings]
        drawn, self._standings, self._texts = self._texts, tuple(standings), texts
        if names == before:
            for place, (text, old) in enumerate(zip(texts, drawn, strict=True)):
                if text != old:
                    self.replace_option_prompt_at_index(place, text)
            return
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options([Option(text) for text in texts])
            at = names.index(under.name) if under is not None and under.name in names else 0
            self.highlighted = at if names else None
