"""What reports are to a person: the value of a notebook's cell, and a setting in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Report


class Shown:
    """Base of every part of a report."""

    def _repr_html_(self) -> str | None:
        """A fragment of HTML for notebooks; None of a part that is no report of its own."""
        from mqf_tui.reports.notebook import fragment

        return fragment(self)

    def __str__(self) -> str:
        from mqf_tui.reports.notebook import in_short

        words = in_short(self)
        return super().__str__() if words is None else words


class Named:
    """The setting of a Report in words."""

    @property
    def setting(self) -> str:
        """The variant in words: ``8-bit KV cache, group 64``."""
        from mqf_tui.reports import setting_words

        return setting_words.setting(cast("Report", self))

    @property
    def short_setting(self) -> str:
        """The variant for a narrow column: ``4-bit g64``, ``4-bit g64 from 128``, ``4-bit weights``."""
        from mqf_tui.reports import setting_words

        return setting_words.short_setting(cast("Report", self))
