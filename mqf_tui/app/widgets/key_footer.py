"""The line of keys at the bottom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Footer
from textual.widgets._footer import FooterKey


class Shown(NamedTuple):
    """One key of the footer."""

    key: str
    display: str
    words: str
    action: str
    enabled: bool
    tooltip: str
    palette: bool = False


class KeyFooter(Footer):
    """Textual's footer, put up anew only where it would show other keys.

    Textual's own is put up anew whenever keys may have changed, several times for each screen that opens, and
    styles each key three times, which takes longer than all the rest of a screen.
    """

    _up: tuple[Shown, ...] | None = None

    def compose(self) -> ComposeResult:
        """The keys that do something now, and the palette's at the right end."""
        self._up = tuple(self._keys()) if self._bindings_ready else None
        for one in self._up or ():
            compact = self.compact or one.palette
            classes = f"{'-compact' if compact else ''} {'-command-palette' if one.palette else ''}"
            key = FooterKey(
                *(one.key, one.display, one.words, one.action),
                disabled=not one.enabled,
                tooltip=one.tooltip,
                classes=classes,
            )
            # Else each key would be styled anew for a class that it has already.
            key.set_reactive(FooterKey.compact, compact)
            yield key

    async def recompose(self) -> None:
        """Put the keys up, where they are not those that stand there."""
        if self.is_attached and self._up != tuple(self._keys()):
            await super().recompose()

    def watch_compact(self, compact: bool) -> None:
        """Keys stand closer, or less close."""
        for key in self.query(FooterKey).exclude(".-command-palette"):
            key.compact = compact

    def _keys(self) -> Iterator[Shown]:
        active = self.screen.active_bindings
        seen: set[str] = set()
        for _, binding, enabled, tooltip in active.values():
            if binding.show and binding.action not in seen:
                seen.add(binding.action)
                yield self._shown(binding, enabled, tooltip)
        palette = active.get(self.app.COMMAND_PALETTE_BINDING)
        if palette is not None and self.show_command_palette and self.app.ENABLE_COMMAND_PALETTE:
            shown = self._shown(palette.binding, palette.enabled, palette.binding.tooltip)
            yield shown._replace(palette=True, tooltip=shown.tooltip or shown.words)

    def _shown(self, binding: Binding, enabled: bool, tooltip: str) -> Shown:
        display = self.app.get_key_display(binding)
        return Shown(binding.key, display, binding.description, binding.action, enabled, tooltip)
