"""What charts are put together from."""

from __future__ import annotations

from dataclasses import dataclass

from mqf_tui.reports.markup import Markup, element, fitting, together
from mqf_tui.reports.schema import VERDICTS, Verdict


@dataclass(frozen=True)
class Chart:
    """A drawn chart: the content of an ``svg`` of this size, and what it shows in a sentence."""

    content: Markup
    width: float
    height: float
    description: str

    def placed(self, x: float, y: float) -> Markup:
        """The chart as a group of a bigger picture."""
        return element(
            "g", element("desc", self.description), self.content, transform=f"translate({x:g} {y:g})"
        )

    def inline(self, class_: str) -> Markup:
        """The chart as an ``svg`` element inside a page."""
        return element(
            "svg",
            element("desc", self.description),
            self.content,
            class_=f"c {class_}",
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=self.description,
        )


def frame(heading: str, said: str, width: float) -> Markup:
    """Heading and the line below it."""
    return together(
        [
            element("text", heading, x=0, y=14, class_="heading"),
            element("text", fitting(said, 12, width), x=0, y=33, class_="small"),
        ]
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """A filled rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, class_=class_)


def label(x: float, y: float, words: str, anchor: str = "start", *, small: bool = False) -> Markup:
    """A word or number at a place."""
    return element("text", words, x=x, y=y, text_anchor=anchor, class_="small" if small else None)


def level(value: float, limits: tuple[float, float]) -> Verdict:
    """What one figure by itself would be; not a number is bad."""
    return VERDICTS[0] if value <= limits[0] else VERDICTS[1] if value <= limits[1] else VERDICTS[2]
