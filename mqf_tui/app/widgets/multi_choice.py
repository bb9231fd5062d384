"""A choice of one or more values on one line: space keeps the value under the cursor, and adds others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.reactive import reactive

from mqf_tui.app.actions import bindings
from mqf_tui.app.widgets.choice import Choice


class MultiChoice(Choice):
    """While nothing is kept it is a choice of one, which the arrows move; then they move a cursor only."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("multi_choice")
    kept: reactive[frozenset[int]] = reactive(frozenset(), layout=True)

    @property
    def values(self) -> tuple[int | str | None, ...]:
        """The values chosen, in the order of the options; at least one."""
        return tuple(option.value for place, option in enumerate(self.options) if self.is_chosen(place))

    def is_chosen(self, place: int) -> bool:
        """Whether this option is one of the chosen."""
        return place in self.kept if self.kept else place == self.chosen

    def mark(self, place: int) -> str:
        """A tick before what is kept, so that colour is not all that tells it."""
        return "✓" if place in self.kept else " "

    def choose_all(self, values: Iterable[int | str | None]) -> None:
        """Keep these, as far as they can be chosen."""
        wanted = set(values)
        allowed = [i for i, o in enumerate(self.options) if o.value in wanted and o.refusal is None]
        if allowed:
            self.chosen = allowed[0]
            self.kept = frozenset(allowed if len(allowed) > 1 else ())

    def action_keep(self) -> None:
        """Keep the value under the cursor, or give it up; without any the cursor's is the choice again."""
        self.kept = self.kept ^ {self.chosen}

    def click(self, place: int) -> None:
        """Add this option to the chosen ones, or take it out; one stays."""
        before = self.kept or frozenset({self.chosen})
        self.chosen = place
        self.kept = (before ^ {place}) or before

    def watch_kept(self) -> None:
        """Tell the screen."""
        if self.is_mounted:
            self.post_message(self.Changed(self))

    @property
    def hint(self) -> str:
        """What the option under the cursor means, and what space would do."""
        if not self.has_focus:
            return super().hint if len(self.values) == 1 else self._listed
        if not self.kept:
            return f"{super().hint}; space: keep it, add others"
        does = "takes it out" if self.chosen in self.kept else "adds it"
        return f"{super().hint}; space {does}"

    @property
    def _listed(self) -> str:
        labels = [option.label for place, option in enumerate(self.options) if self.is_chosen(place)]
        return f"each of {', '.join(labels)}"
