"""At the end of a measurement: a sentence where it was not watched, the bell, a desktop notification."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mqf_tui.app.clipboard import through_screen, through_tmux
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.reports.text import inert, verdict_words

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp
    from mqf_tui.app.measurement import Measurement
    from mqf_tui.app.snapshots import Snapshot

SECONDS = 0.5  # between two looks
TIMEOUT = 15.0  # seconds that the sentence stands
LONGEST = 200  # characters of a notification of the desktop
# Consoles that show what they do not know of such a notification.
PLAIN = ("", "dumb", "unknown", "linux", "cons25", "ansi", "vt100", "vt102", "vt220", "vt320")


class Alerts:
    """Tells the end of each measurement once."""

    def __init__(self, app: MqfTuiApp) -> None:
        self._app = app
        self._told: set[Measurement] = set()
        app.set_interval(SECONDS, self.look)

    def look(self) -> None:
        """Whether one has ended since the last look."""
        for one in self._app.bridge.measurements:
            if one not in self._told and not (s := one.snapshot()).running:
                self._told.add(one)
                self._tell(one, s)

    def _tell(self, one: Measurement, s: Snapshot) -> None:
        words = ended_words(s)
        if isinstance(self._app.screen, BaseScreen):
            self._app.screen.measured()
        if not words:
            return
        if not (one.watched or getattr(self._app.screen, "measurement", None) is one):
            severity = "error" if s.state == "failed" else "information"
            title = f"Measurement {s.state}"
            self._app.notify(words, title=title, severity=severity, timeout=TIMEOUT, markup=False)
        if s.state != "stopped":  # who stopped it knows
            self._call(f"mqf-tui: {s.state}: {words}")

    def _call(self, words: str) -> None:
        call(self._app, words)


def call(app: MqfTuiApp, words: str) -> None:
    """The bell and the notification that the user wants, by the terminal's own driver: also over ssh."""
    wanted, driver = app.settings.app, app._driver  # pyright: ignore[reportPrivateUsage]
    if wanted.bell:
        app.bell()
    if wanted.notify and driver is not None and not (driver.is_web or driver.is_headless):
        sequence = notification(words, os.environ)
        if sequence:
            driver.write(sequence)


def notification(words: str, environ: Mapping[str, str]) -> str:
    """OSC 9, which terminals show on the desktop; handed through tmux and screen. "" for bare consoles."""
    if environ.get("TERM", "").lower() in PLAIN:
        return ""
    plain = " ".join(inert(words).split())[:LONGEST]
    return _through(f"\x1b]9;{plain}\x07", environ)


def _through(sequence: str, environ: Mapping[str, str]) -> str:
    """Wrapped alone, unlike what goes to the clipboard: tmux does nothing with a bare one, some others do."""
    term = environ.get("TERM", "").lower()
    if environ.get("TMUX") or term.startswith("tmux"):
        return through_tmux(sequence)
    if environ.get("STY") or term.startswith("screen"):
        return through_screen(sequence)
    return sequence


def ended_words(s: Snapshot) -> str:
    """How a measurement ended, in a sentence; empty for one that never began."""
    from mqf_tui.app.live_words import measured_name

    name = measured_name(s)
    if s.state == "failed":
        return f"{name}: {s.problem or 'it failed'}"
    if s.sweep is not None:
        return f"{name}: {s.sweep.answer}"
    if s.reports:
        partial = ", partial" if s.reports[0].partial else ""
        return f"{name}: {verdict_words(s.reports[0])}{partial}"
    return "" if s.doing == "cancelled" else f"{name}: stopped before anything was scored"
