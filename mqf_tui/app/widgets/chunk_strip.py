"""The chunks of a measurement in a strip that fills: height and colour of a cell are its mean KL."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from mqf_tui.app.capabilities import mark, tall
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.app.widgets.tiles import level
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import Thresholds

WIDEST = 4  # columns of a chunk where there are few
MOST_ROWS = 3
LEAST = 1e-9  # nats


class ChunkStrip(Widget):
    """A cell a chunk, or several chunks a cell where there are more than cells."""

    DEFAULT_CSS = """
    ChunkStrip { height: auto; padding: 0 2; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chunks: NDArray[np.float64] = np.zeros(0)
        self._n_chunks = 0
        self._limits = KV_POLICY

    def show(self, chunks: NDArray[np.float64], n_chunks: int, limits: Thresholds) -> None:
        """Mean KL (n,) of the chunks scored so far of ``n_chunks``."""
        grown = n_chunks != self._n_chunks
        if not grown and np.array_equal(chunks, self._chunks):
            return
        self._chunks, self._n_chunks, self._limits = chunks, n_chunks, limits
        self.refresh(layout=grown)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row; more where there is room and one would not do."""
        del container
        most = MOST_ROWS if viewport.height >= 32 else 1
        return min(most, max(1, math.ceil(self._n_chunks / width))) if width > 0 else 1

    def render(self) -> Text:
        """The cells, in the order of scoring."""
        width, height = self.content_size
        text = Text(no_wrap=True, end="")
        if not (width and height and self._n_chunks):
            return text
        n_cells = min(self._n_chunks, width * height)
        columns = min(WIDEST, max(1, width // n_cells))
        colours, unicode = self.app.theme_variables, unicode_of(self)
        for number, value in enumerate(in_cells(self._chunks, self._n_chunks, n_cells).tolist()):
            if number and number % width == 0 and columns == 1:
                text.append("\n")
            gap = " " if columns > 2 else ""
            if math.isnan(value):
                text.append(mark("waiting", unicode) * (columns - len(gap)) + gap, colours["secondary"])
            else:
                sign = tall(height_of(value, self._limits), unicode)
                colour = colours[COLOURS[level(value, self._limits.kl_mean) or "bad"]]
                text.append(sign * (columns - len(gap)) + gap, colour)
        return text


def in_cells(chunks: NDArray[np.float64], n_chunks: int, n_cells: int) -> NDArray[np.float64]:
    """The mean of the chunks of each cell (n_cells,), NaN where none of them is scored.

    ``chunks`` (n,) are the first of ``n_chunks``, at least ``n_cells``.
    """
    cell = np.arange(len(chunks)) * n_cells // n_chunks
    counts = np.bincount(cell, minlength=n_cells)[:n_cells]
    sums = np.bincount(cell, chunks, n_cells)[:n_cells]
    with np.errstate(invalid="ignore"):
        return sums / np.where(counts, counts, np.nan)


def height_of(kl: float, limits: Thresholds) -> float:
    """How high a mean KL stands, from just over 0 to 1 on a log scale: up to 3/8 it is good, up to 6/8
    marginal."""
    good, marginal = (math.log10(max(limit, LEAST)) for limit in limits.kl_mean)
    value = math.log10(max(kl, LEAST)) if kl < math.inf else math.inf
    decade = max(marginal - good, 0.5)
    if value <= good:
        eighths = max(1.0, 3 + (value - good) / decade)
    elif value <= marginal:
        eighths = min(6.0, 4 + 2 * (value - good) / decade)
    else:
        eighths = 7.0 if value < marginal + decade else 8.0
    return eighths / 8
