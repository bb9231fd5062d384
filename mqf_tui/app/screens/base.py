"""What all screens share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import SystemCommand
from textual.binding import ActiveBinding
from textual.screen import Screen
from textual.widgets import Footer

from mqf_tui.app.footers import fitted

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

NARROW = 76  # columns
WIDE_FOOTER = 100  # columns that the longest footer takes


class BaseScreen(Screen[None]):
    """A screen of this app. Subclasses begin with a TitleBar and end with a Footer."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide"), (116, "-broad")]  # noqa: RUF012 (Textual types it so)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012 (Textual types it so)

    # Ids of actions that a footer without room for all leaves out, in this order.
    LESS: ClassVar[tuple[str, ...]] = ()
    _width = 0  # when it was last looked at

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The keys that do something here; the footer shows as many as it has room for."""
        width, display = self.app.size.width, self.app.get_key_display
        room = width - width // 2 if self.helping else width  # see HelpPanel in styles.tcss
        return fitted(super().active_bindings, self.LESS, room, display, compact=width < WIDE_FOOTER)

    def on_resize(self) -> None:
        """Where there is little room, the footer's keys stand closer, so that the last of them are seen."""
        for footer in self.query(Footer):
            footer.compact = self.size.width < WIDE_FOOTER
        if self._width not in (0, self.size.width):
            self.refresh_bindings()
        self._width = self.size.width

    @property
    def mqf(self) -> MqfTuiApp:
        """The app, as what it is."""
        return cast("MqfTuiApp", self.app)

    @property
    def helping(self) -> bool:
        """Whether the help is open."""
        return bool(self.query("HelpPanel"))  # by name: its Markdown takes long to import

    async def action_back(self) -> None:
        """Close the help where it is open; else to the screen before."""
        if self.helping:
            await self.mqf.action_help()
        else:
            self.leave()

    def leave(self) -> None:
        """To the screen before."""
        self.dismiss()

    def measured(self) -> None:
        """A measurement has ended while this screen is seen; screens that list runs read them again."""

    def action_undo(self) -> None:
        """Take back the last removal; screens that remove something do more."""
        self.notify("Nothing was removed here.")

    def commands(self) -> Iterator[SystemCommand]:
        """Every action that can be done here and now, for the command palette."""
        from mqf_tui.app.actions import actions

        seen: set[str] = set()
        for active in self.active_bindings.values():
            one = actions().get(active.binding.id or "")
            if one is None or not one.palette or one.id in seen or not active.enabled:
                continue
            seen.add(one.id)

            async def run(action: str = active.binding.action, node: object = active.node) -> None:
                await self.app.run_action(action, cast("Screen[None]", node))

            yield SystemCommand(one.words, one.help, run)
