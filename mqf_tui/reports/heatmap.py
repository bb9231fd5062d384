"""The tokens of the worst chunks, coloured by KL, flips ringed; and the worst positions as a list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from mqf_tui.fidelity.flips import CONFIDENT
from mqf_tui.reports.colours import HEAT_DARK, HEAT_LIGHT, MONO
from mqf_tui.reports.markup import Markup, element, together
from mqf_tui.reports.text import counted, inert, kl, percent
from mqf_tui.reports.token_text import named, shown

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

# Level 0 lies under the first edge (nats), each further one starts at its own: about three a decade apart.
EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CHUNKS = 3
TOKENS = 1024  # of a chunk; the page of a long chunk would be too heavy for a phone
WORST = 15
_CONTEXT = 8


def heat_style() -> str:
    """The rules for elements of class ``tokens``; light, and dark where the reader prefers it."""
    return (
        f".tokens{{font:14px/1.9 {MONO};white-space:pre-wrap;overflow-wrap:anywhere;direction:ltr}}\n"
        ".tokens span,.key span{unicode-bidi:isolate;border-radius:3px;padding:1px 0}\n"
        ".key span{padding:2px 7px;white-space:nowrap}\n"
        ".tokens .cut{padding:1px 2px;box-shadow:inset 0 0 0 1px var(--grid)}\n"
        # Two rings, so that one of them stands out on every level.
        ".f,.s{outline:1px solid var(--ink);box-shadow:inset 0 0 0 1px currentcolor}\n"
        ".s{font-weight:700;text-decoration:underline double;text-underline-offset:3px}\n"
        f"{_levels(HEAT_LIGHT)}@media (prefers-color-scheme:dark){{{_levels(HEAT_DARK)}}}\n"
        # Paper is white, whatever the screen was.
        f"@media print{{{_levels(HEAT_LIGHT)}}}\n"
    )


def _levels(heat: tuple[tuple[str, str], ...]) -> str:
    return "".join(f".k{i}{{background:{back};color:{ink}}}" for i, (back, ink) in enumerate(heat)) + "\n"


def heat_level(value: float) -> int:
    """Which of the nine colours a KL (nats) has."""
    return sum(value >= edge for edge in EDGES)


def heatmap(positions: Positions) -> Markup:
    """Up to three chunks of the highest mean KL as text, with a legend. At least one position."""
    return together([_legend(positions), *(_chunk(positions, chunk) for chunk in worst_chunks(positions))])


def worst_chunks(positions: Positions) -> list[int]:
    """The chunks of the highest mean KL, the worst first, at most three."""
    import numpy as np

    chunks, place = np.unique(positions.chunk, return_inverse=True)
    means = np.bincount(place, positions.kl.astype(np.float64)) / np.bincount(place)
    return [int(chunks[i]) for i in np.argsort(-means, kind="stable")[:CHUNKS]]


def _legend(positions: Positions) -> Markup:
    names = [f"under {EDGES[0]:g}", *(f"{edge:g}" for edge in EDGES[1:]), f"{EDGES[-1]:g} or more"]
    names[1:-1] = [f"{low:g}–{high:g}" for low, high in pairwise(EDGES)]
    swatches = [element("span", name, class_=f"k{i}") for i, name in enumerate(names)]
    flips = [element("span", "flip", class_="f")]
    if positions.detailed:
        flips.append(element("span", f"confident flip (top-1 had ≥ {100 * CONFIDENT:g} %)", class_="s"))
    return element("p", "KL in nats: ", *_spaced(swatches), " · ", *_spaced(flips), class_="key")


def _spaced(words: list[Markup]) -> Iterator[str]:
    for word in words:
        yield word
        yield " "


def _chunk(positions: Positions, chunk: int) -> Markup:
    import numpy as np

    whole = positions.where(np.flatnonzero(positions.chunk == chunk))
    whole = whole.where(np.argsort(whole.depth, kind="stable"))
    part = _window(whole)
    said = f"mean KL {kl(float(whole.kl.mean(dtype=np.float64)))}, flips {percent(float(whole.flip.mean()))}"
    name = f"Chunk {chunk + 1}"
    if positions.part_names and 0 <= int(whole.part[0]) < len(positions.part_names):
        name += f", {inert(positions.part_names[int(whole.part[0])])}"
    if len(part) < len(whole):
        said += f"; its worst {counted(len(part), 'token')}, from depth {int(part.depth[0]):,}"
    return element(
        "section",
        element("h3", element("bdi", name), element("small", f" {said}")),
        element("p", *_tokens(part), class_="tokens"),
        class_="chunk",
    )


def _window(chunk: Positions) -> Positions:
    """The whole chunk, or of a long one the stretch of TOKENS with the highest mean KL."""
    import numpy as np

    if len(chunk) <= TOKENS:
        return chunk
    # +inf would make every stretch that holds one equal, and differences of sums NaN.
    bounded = np.minimum(chunk.kl.astype(np.float64), 1e6)
    sums = np.concatenate(([0.0], np.cumsum(bounded)))
    start = int(np.argmax(sums[TOKENS:] - sums[:-TOKENS]))
    return chunk.where(np.arange(start, start + TOKENS))


def _tokens(part: Positions) -> Iterator[Markup]:
    texts = shown(part.token.tolist(), part.texts)
    flips, values = part.flip.tolist(), part.kl.tolist()
    gaps = {i for i, (a, b) in enumerate(pairwise(part.depth.tolist()), 1) if b != a + 1}
    for i, (text, flip, value) in enumerate(zip(texts, flips, values, strict=True)):
        if i in gaps:
            yield element("span", " … ", class_="gap", title="not scored")
        marks = [f"k{heat_level(value)}"]
        if flip:
            marks.append("s" if float(part.prob_ref[i]) >= CONFIDENT else "f")
        if not text:
            marks.append("cut")
        yield element("span", text, class_=" ".join(marks), title=_tip(part, i))


def _tip(part: Positions, i: int) -> str:
    token = named(int(part.token[i]), part.texts)
    tops = f"reference: {_top(part, i, 'ref')}\nvariant: {_top(part, i, 'quant')}"
    return f"{token}\nKL {kl(float(part.kl[i]))}\n{tops}"


def _top(part: Positions, i: int, side: str) -> str:
    """The top-1 of one side and, where it is known, its probability."""
    token = named(int(getattr(part, f"top1_{side}")[i]), part.texts)
    probability = float(getattr(part, f"prob_{side}")[i])
    if math.isnan(probability):
        return token
    return f"{token} ({percent(probability)})".replace(" %", "\u00a0%")


def worst_positions(positions: Positions) -> Iterator[tuple[str, str, str, str, str, str]]:
    """The positions of the highest KL: where, the text before, token, KL, both top-1 with probabilities."""
    import numpy as np

    order = np.lexsort((positions.depth, positions.chunk))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    worst = np.lexsort((positions.depth, positions.chunk, -positions.kl.astype(np.float64)))[:WORST]
    for i in worst.tolist():
        before = order[max(0, int(place[i]) - _CONTEXT) : int(place[i])]
        before = before[positions.chunk[before] == positions.chunk[i]]
        back = np.arange(len(before), 0, -1)  # of a token that is not scored nothing is known
        before = before[positions.depth[before] == positions.depth[i] - back]
        text = "".join(shown(positions.token[before].tolist(), positions.texts))
        yield (
            f"{int(positions.chunk[i]) + 1} / {int(positions.depth[i]):,}",
            " ".join(text.split()),
            named(int(positions.token[i]), positions.texts),
            kl(float(positions.kl[i])),
            _top(positions, i, "ref"),
            _top(positions, i, "quant"),
        )
