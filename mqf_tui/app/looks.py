"""How the app looks: the theme and its files, and what the terminal cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.binding import Binding
from textual.color import Color
from textual.filter import LineFilter

from mqf_tui.app.capabilities import Capabilities
from mqf_tui.app.filters import filters
from mqf_tui.app.served import orphaned
from mqf_tui.app.themes import DEFAULT, stamp, themes, unknown_theme
from mqf_tui.library.remembered import remember, remembered

EVERY = 1.0  # seconds between two looks at the user's theme files, and at who still looks at the app
KEY_WORDS = {"⏎": "enter", "␣": "space", "⌫": "backspace", "↑↓": "up/down", "←→": "left/right"}


class Looks(App[None]):
    """The part of the app that looks after themes and poor terminals."""

    capabilities = Capabilities()

    def start_looks(self, wanted: str) -> list[str]:
        """Set the theme: the one chosen last, else ``wanted``, else the default; watch the user's files.

        Returns sentences about what cannot be used.
        """
        self._plain: list[LineFilter] = filters(self.capabilities, lambda: self._base)
        self._wanted = wanted
        self.set_class(not self.capabilities.unicode, "-ascii")
        self.set_class(self.capabilities.colour == "none", "-no-colour")
        self._stamp = stamp()
        found, problems = themes()
        self._ours = {theme.name for theme in found}
        for theme in found:
            self.register_theme(theme)
        if said := unknown_theme(wanted, self.available_themes):
            problems.append(said)
        kept = remembered()
        # A setting that was changed after the choice is the later word.
        chosen = kept.get("theme", "") if kept.get("theme_wanted", "") == wanted else ""
        self.theme = next(name for name in (chosen, wanted, DEFAULT, "textual-dark") if name in self._known())
        self._base = self._background()
        self.theme_changed_signal.subscribe(self, lambda _: self._put_by())
        self.set_interval(EVERY, self._look_for_changes)
        return problems

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and those for what this terminal cannot show."""
        return [*super().get_line_filters(), *getattr(self, "_plain", ())]

    def get_key_display(self, binding: Binding) -> str:
        """What the footer and the help call a key: where there are no signs for keys, words."""
        shown = super().get_key_display(binding)
        if not self.capabilities.unicode:
            for sign, word in KEY_WORDS.items():
                shown = shown.replace(sign, word)
        return shown

    def watch_theme(self) -> None:
        """The filters go by the theme's background."""
        self._base = self._background()

    def _known(self) -> set[str]:
        return set(self.available_themes)

    def _background(self) -> Color:
        colour = Color.parse(self.get_css_variables()["background"])
        if colour.ansi is not None:
            return Color(0, 0, 0) if self.current_theme.dark else Color(255, 255, 255)
        return colour

    def _put_by(self) -> None:
        if remembered().get("theme") != self.theme:
            remember(theme=self.theme, theme_wanted=self._wanted)

    def _look_for_changes(self) -> None:
        if orphaned():
            self.exit(return_code=1)
        now = stamp()
        if now == self._stamp:
            return
        self._stamp = now
        before = self.current_theme
        found, problems = themes()
        for theme in found:
            self.register_theme(theme)
        names = {theme.name for theme in found}
        if not problems:
            for gone in self._ours - names - {self.theme}:
                self.unregister_theme(gone)
            self._ours = names | (self._ours & {self.theme})
        for problem in problems:
            self.notify(f"{problem}. What it was stays.", severity="warning", markup=False)
        if self.current_theme != before:
            self.mutate_reactive(App.theme)
