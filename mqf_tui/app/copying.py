"""An app that copies in every way there is, and says which."""

from __future__ import annotations

import os
from functools import partial

from textual.app import App

from mqf_tui.app.clipboard import Copied, copy


class CopyingApp(App[None]):
    """``copy`` for the screens; Textual's own copying (of selected text) goes the same way."""

    def copy(self, text: str, what: str = "it") -> None:
        """Hand ``text`` to the clipboard beside the screen, then say how; ``what`` names it there."""
        self._clipboard = text  # what Textual's own inputs paste
        self.run_worker(partial(self._copied, text, what), thread=True, group="copy", exit_on_error=False)

    def copy_to_clipboard(self, text: str) -> None:
        """Textual's name for it."""
        self.copy(text, "The selected text")

    def _copied(self, text: str, what: str) -> None:
        driver = self._driver
        # In a browser the clipboard is the browser's, and nothing around this process stands in between.
        environ = {} if driver is not None and driver.is_web else os.environ
        write = None if driver is None else lambda signs: self.call_from_thread(driver.write, signs)
        self.call_from_thread(self._tell, copy(text, write, environ), what)

    def _tell(self, copied: Copied, what: str) -> None:
        said = copied_words(copied, what)
        severity = "error" if copied.ok is False else "information"
        self.notify(said, severity=severity, timeout=12 if copied.advice else 5, markup=False)


def copied_words(copied: Copied, what: str) -> str:
    """What became of it, in a sentence or two."""
    if copied.ok is False:
        return f"{what} was not copied: {copied.advice}."
    verb = "copied by" if copied.ok else "sent to"
    advice = f" {copied.advice[0].upper()}{copied.advice[1:]}." if copied.advice else ""
    return f"{what} {verb} {copied.how}.{advice}"
