"""The report as SVG and as HTML: the numbers drawn, inert whatever comes in, and what a browser does with it.

Renew the golden files with ``MQF_TUI_RENEW_GOLDEN=1 pytest tests/test_pictures.py`` and look at them.
"""

from __future__ import annotations

import json
import math
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui.fidelity.positions import ARRAYS, DTYPES, Positions
from mqf_tui.reports import colours
from mqf_tui.reports.heatmap import EDGES, TOKENS, WORST
from mqf_tui.reports.html import POLICY, to_html
from mqf_tui.reports.json_report import from_json
from mqf_tui.reports.markup import element
from mqf_tui.reports.schema import Report
from mqf_tui.reports.svg import to_svg
from tests import browser, makers
from tests.conftest import DATA, HERE

GOLDEN = HERE / "golden"
NS = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br", "hr"}
PAGE_TAGS = set(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "p",
        "b",
        "strong",
        "span",
        "small",
        "div",
        "section",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "pre",
        "code",
        "bdi",
        "footer",
        "svg",
        "desc",
        "g",
        "text",
        "tspan",
        "line",
        "rect",
        "circle",
        "path",
    ]
)
ATTRIBUTES = set(
    [
        "class",
        "title",
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "scope",
        "tabindex",
        "role",
        "aria-label",
        "viewbox",
        "x",
        "y",
        "x1",
        "y1",
        "x2",
        "y2",
        "width",
        "height",
        "rx",
        "r",
        "cx",
        "cy",
        "d",
        "text-anchor",
        "transform",
        "xmlns",
    ]
)


def real() -> tuple[Report, Positions]:
    report = from_json((DATA / "reports" / "v2-smollm2-4bit-g64.json").read_bytes())
    with np.load(DATA / "positions-smollm2-4bit-g64.npz", allow_pickle=False) as stored:
        columns = {name: stored[name] for name in ARRAYS}
        texts = {int(token): text for token, text in json.loads(stored["texts"].tobytes()).items()}
        return report, Positions.of(columns, tuple(map(str, stored["part_names"])), texts)


def version_1(positions: Positions) -> Positions:
    """What a file of version 1 holds: no probabilities, no margins, no texts."""
    kept = ["chunk", "depth", "part", "token", "kl", "nll_ref", "nll_quant", "top1_ref", "top1_quant"]
    return Positions.of({name: getattr(positions, name) for name in kept}, positions.part_names)


def with_kl(positions: Positions, kl: Any) -> Positions:
    return replace(positions, kl=np.asarray(kl, np.float32))


# --- reading pictures and pages back


def parse_svg(text: str) -> ET.Element:
    root = ET.fromstring(text)
    assert root.tag == f"{NS}svg"
    for node in root.iter():
        assert node.tag.removeprefix(NS) in PAGE_TAGS, node.tag
        assert {name.lower() for name in node.attrib} <= ATTRIBUTES, node.attrib
    return root


class Page(HTMLParser):
    """A page as its elements; fails where a tag is not closed in order, or is none of ours."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.tokens: list[tuple[str, dict[str, str]]] = []
        self._token: int | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert tag in PAGE_TAGS, tag
        assert set(attributes) <= ATTRIBUTES, attributes
        self.elements.append((tag, attributes))
        if tag == "span" and "title" in attributes:
            self.tokens.append(("", attributes))
            self._token = len(self.open)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if self._token == len(self.open):
            self._token = None

    def handle_data(self, data: str) -> None:
        if self._token is not None:
            self.tokens[-1] = (self.tokens[-1][0] + data, self.tokens[-1][1])
        if "style" not in self.open:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def tables(self) -> int:
        return sum(tag == "table" for tag, _ in self.elements)


def texts(root: ET.Element) -> list[tuple[float, float, str]]:
    return [
        (float(node.attrib["x"]), float(node.attrib["y"]), "".join(node.itertext()))
        for node in root.iter(f"{NS}text")
    ]


def chart(root: ET.Element, heading: str) -> ET.Element:
    return next(g for g in root.iter(f"{NS}g") if any(words.startswith(heading) for _, _, words in texts(g)))


def as_number(words: str) -> float | None:
    """What a tick says: ``0.01``, ``10⁻⁶``."""
    power = re.fullmatch("10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", words)
    if power:
        return 10.0 ** int(power[1].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    try:
        return float(words)
    except ValueError:
        return None


def x_ticks(group: ET.Element) -> dict[float, float]:
    """KL -> place, from the labels that stand in the row with most numbers."""
    rows: dict[float, dict[float, float]] = {}
    for x, y, words in texts(group):
        value = as_number(words)
        if value:
            rows.setdefault(y, {})[value] = x
    return max(rows.values(), key=len)


def y_ticks(group: ET.Element, unit: str = "") -> dict[float, float]:
    """Value -> place of the label's line, from the labels left of the plot."""
    found = {}
    for x, y, words in texts(group):
        value = as_number(words.removesuffix(unit)) if words.endswith(unit) else None
        if x < 56 and value is not None:
            found[value] = y - 4
    return found


# --- the numbers that are drawn


@pytest.mark.parametrize("scale", [1e-4, 1.0, 50.0])
def test_the_histogram_holds_the_positions(scale: float) -> None:
    positions = makers.positions(6)
    positions = with_kl(positions, positions.kl * scale)
    group = chart(parse_svg(to_svg(makers.report(), positions)), "KL per position")
    ticks, heights = x_ticks(group), y_ticks(group, " %")
    (low, x_low), *_, (high, x_high) = sorted(ticks.items())
    zero, (top, y_top) = heights[0], max(heights.items())
    decades = (math.log10(high) - math.log10(low)) / (x_high - x_low)
    drawn = 0.0
    for bar in group.iter(f"{NS}rect"):
        if bar.attrib["class"] != "bar":
            continue
        x, width, height = (float(bar.attrib[name]) for name in ("x", "width", "height"))
        # Half a pixel at either side is the gap between bars.
        start, end = (
            10 ** (math.log10(low) + (edge - x_low) * decades) for edge in (x - 0.5, x + width + 0.5)
        )
        held = sum(start * 0.999 <= value < end * 1.001 for value in positions.kl.tolist())
        certain = sum(start * 1.001 <= value < end * 0.999 for value in positions.kl.tolist())
        share = 100 * height / (zero - y_top) * top / 100
        assert certain / len(positions) * 100 - 0.7 <= share <= held / len(positions) * 100 + 0.7
        drawn += share
    beside = [rect for rect in group.iter(f"{NS}rect") if rect.attrib["class"] == "side"]
    drawn += sum(float(r.attrib["height"]) for r in beside) / (zero - y_top) * top
    assert drawn == pytest.approx(100, abs=6)  # a bar is at least a pixel high


def test_marks_and_thresholds_stand_where_they_belong() -> None:
    report, positions = real()
    group = chart(parse_svg(to_svg(report, positions)), "KL per position")
    ticks = x_ticks(group)

    def place(value: float) -> float:
        slope = (ticks[1.0] - ticks[0.01]) / 2
        return ticks[1.0] + math.log10(value) * slope

    lines = {
        node.attrib["class"]: float(node.attrib["x1"])
        for node in group.iter(f"{NS}line")
        if node.attrib["class"].startswith("mark")
        and node.attrib["x1"] == node.attrib["x2"]
        and float(node.attrib["y2"]) - float(node.attrib["y1"]) > 100
    }
    assert lines["mark"] == pytest.approx(place(float(positions.kl.mean(dtype=float))), abs=0.1)
    assert lines["mark dashed"] == pytest.approx(place(float(np.median(positions.kl))), abs=0.1)
    assert lines["mark dotted"] == pytest.approx(place(float(np.percentile(positions.kl, 99))), abs=0.1)
    marginal = [
        (float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"]))
        for r in group.iter(f"{NS}rect")
        if r.attrib["class"] == "marginal-zone"
    ]
    assert marginal[0] == pytest.approx((place(0.01), place(0.1)), abs=0.1)
    assert marginal[1] == pytest.approx((place(0.1), place(1.0)), abs=0.1)


def test_the_depth_curve_holds_the_buckets() -> None:
    report, positions = real()
    group = chart(parse_svg(to_svg(report, positions)), "Mean KL by depth")
    ticks = y_ticks(group)
    zero, (top, y_top) = ticks[0], max(ticks.items())
    drawn = [(zero - float(dot.attrib["cy"])) / (zero - y_top) * top for dot in group.iter(f"{NS}circle")]
    expected = [
        float(positions.kl[(positions.depth >= b.start) & (positions.depth < b.end)].mean(dtype=float))
        for b in report.kl_by_depth
    ]
    assert drawn == pytest.approx(expected, abs=0.002)
    bands = [node for node in group.iter(f"{NS}rect") if node.attrib["class"] == "band"]
    assert len(bands) == 8
    ends = [(zero - float(b.attrib["y"])) / (zero - y_top) * top for b in bands]
    assert ends == pytest.approx([min(b.ci_high or 0, top) for b in report.kl_by_depth], abs=0.002)


def test_zeros_and_infinities_are_said() -> None:
    positions = makers.positions(2)
    values = positions.kl.copy()
    values[:20] = 0
    values[30] = math.inf
    svg = to_svg(makers.report(), with_kl(positions, values))
    said = " ".join(words for _, _, words in texts(parse_svg(svg)))
    assert "254 positions; exactly 0: 20 (7.87 %); +inf: 1 (0.39 %)" in said
    assert "exactly 0: none" in to_svg(makers.report(), positions)


def test_one_chunk_says_that_it_has_no_intervals() -> None:
    buckets = [bucket | {"ci_low": None, "ci_high": None} for bucket in makers.report_data()["kl_by_depth"]]
    report = makers.report(n_chunks=1, kl_by_depth=buckets, flip_ci_low=None, flip_ci_high=None)
    for text in (to_svg(report, makers.positions(1)), to_html(report, makers.positions(1))):
        assert "one chunk: no intervals" in text
        assert "no interval<" in text


EXTREMES = {
    "tiny": lambda kl: kl * 1e-12,
    "huge": lambda kl: kl * 1e6,
    "equal": lambda kl: np.full_like(kl, 0.02),
    "zero": np.zeros_like,
    "infinite": lambda kl: np.full_like(kl, math.inf),
    "mixed": lambda kl: np.where(
        np.arange(len(kl)) % 3 == 0, 0, np.where(np.arange(len(kl)) % 7 == 0, math.inf, kl)
    ),
}


@pytest.mark.parametrize("change", EXTREMES.values(), ids=EXTREMES)
def test_extreme_values_stay_inside_the_picture(change: Any) -> None:
    from mqf_tui.fidelity.statistics import summarise

    positions = makers.positions(3)
    positions = with_kl(positions, change(positions.kl))
    found = summarise(positions, 128, 0)
    report = makers.report(schema_version=2).model_copy(
        update={"kl": found.kl, "kl_by_depth": list(found.by_depth), "confidence": found.confidence}
    )
    root = parse_svg(to_svg(report, positions))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert height < 1200
    for node in root.iter():
        for name, limit in (
            ("x", width),
            ("x1", width),
            ("x2", width),
            ("cx", width),
            ("y", height),
            ("y1", height),
        ):
            assert 0 <= float(node.attrib.get(name, 0)) <= limit
    Page(to_html(report, positions))


@pytest.mark.parametrize("n", [1, 2])
def test_one_position_is_enough(n: int) -> None:
    positions = makers.positions(1).where(np.arange(n))
    parse_svg(to_svg(makers.report(), positions))
    assert len(Page(to_html(makers.report(), positions)).tokens) == n


def test_none_at_all_is_as_if_they_were_not_kept() -> None:
    for positions in (None, Positions.empty()):
        assert "no positions kept: percentiles in place of the histogram" in to_svg(
            makers.report(), positions
        )
        assert not Page(to_html(makers.report(), positions)).tokens


def test_percentile_marks_stand_in_for_the_histogram() -> None:
    report, _ = real()
    group = chart(parse_svg(to_svg(report, None)), "KL per position")
    ticks = x_ticks(group)
    slope = (ticks[1.0] - ticks[0.01]) / 2
    drawn = [10 ** ((float(dot.attrib["cx"]) - ticks[1.0]) / slope) for dot in group.iter(f"{NS}circle")]
    k = report.kl
    assert drawn == pytest.approx([k.median, k.mean, k.p90, k.p95, k.p99, k.p999, k.max], rel=0.002)


# --- the page


def test_the_page_has_every_section() -> None:
    report, positions = real()
    page = Page(to_html(report, positions))
    for words in (
        "bad, over 99 %", "0.164 to 0.364", "By depth in the chunk", "By the reference's entropy",
        "(p < 0.0001)",
        "By kind of next token", "By part of the corpus", "word continuation", "Where the text suffers",
        "only 4 chunks", report.command, report.corpus.token_hash, "kv-1", "Python 3.11.7",
    ):  # fmt: skip
        assert words in page.text
    assert page.tables() >= 8
    assert sum(tag == "svg" for tag, _ in page.elements) == 4  # two charts, each for wide and narrow pages
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policy == POLICY == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_heat_map_shows_the_worst_chunks() -> None:
    report, positions = real()
    page = Page(to_html(report, positions))
    means = {c: positions.kl[positions.chunk == c].mean(dtype=float) for c in range(4)}
    order = sorted(means, key=lambda c: -means[c])[:3]
    expected = [i for c in order for i in np.flatnonzero(positions.chunk == c).tolist()]
    assert len(page.tokens) == len(expected)
    for i, (text, attributes) in zip(expected, page.tokens, strict=True):
        marks = attributes["class"].split()
        value = float(positions.kl[i])
        assert f"k{len([edge for edge in EDGES if edge <= value])}" in marks
        flipped = positions.top1_ref[i] != positions.top1_quant[i]
        sure = flipped and positions.prob_ref[i] >= 0.5
        assert ("s" in marks) == sure
        assert ("f" in marks) == (flipped and not sure)
        assert text.replace("↵", "") == positions.texts[int(positions.token[i])]
        lines = attributes["title"].split("\n")
        assert len(lines) == 4
        top = positions.texts[int(positions.top1_quant[i])].strip()
        assert lines[3].startswith("variant: ")
        assert lines[3].endswith(f"({100 * float(positions.prob_quant[i]):.2f}\u00a0%)")
        assert top in lines[3] or not top.isascii() or "\n" in top


def test_the_worst_positions_are_listed() -> None:
    report, positions = real()
    text = to_html(report, positions)
    rows = re.findall(r'<td class="num">(\d+) / ([\d,]+)</td>', text)
    worst = sorted(range(len(positions)), key=lambda i: -positions.kl[i])[:WORST]
    assert [(int(c) - 1, int(d.replace(",", ""))) for c, d in rows] == [
        (int(positions.chunk[i]), int(positions.depth[i])) for i in worst
    ]


def test_of_a_long_chunk_the_worst_stretch_is_shown() -> None:
    positions = makers.positions(1, TOKENS + 900)
    values = np.full(len(positions), 2.0**-7)  # sums of these are exact
    values[700:760] = 4.0
    values[1750] = 64.0
    page = Page(to_html(makers.report(), with_kl(positions, values)))
    assert len(page.tokens) == TOKENS
    sums = [values[s : s + TOKENS].sum() for s in range(901)]
    assert f"from depth {int(np.argmax(sums)):,}" in page.text


@pytest.mark.parametrize("render", [to_svg, to_html])
def test_runs_of_version_1_and_without_texts(render: Any) -> None:
    text = render(makers.report(), version_1(makers.positions()))
    assert not re.search(r"\b(None|nan)\b", text)
    if render is to_html:
        tokens = Page(text).tokens
        assert all(re.fullmatch(r"#\d+", shown) for shown, _ in tokens)
        assert not any("%" in attributes["title"] for _, attributes in tokens)


IMPORTED: dict[str, Any] = {
    "kl": {"mean": 0.02, "p99": 0.4},
    "kl_by_depth": [],
    "by_part": [],
    "mode": None,
    "flip_rate": "nan",
    "flip_ci_low": None,
    "flip_ci_high": None,
    "perplexity_ref": "nan",
    "perplexity_quant": "nan",
    "perplexity_delta": "nan",
    "kv_bits": None,
    "kv_group_size": None,
    "kv_bytes_per_token": None,
    "corpus": {"name": ""},
    "versions": {},
    "command": "",
    "n_positions": 0,
    "n_chunks": 0,
    "origin": {"tool": "llama.cpp", "form": "printed summary", "file": "log.txt"},
}


@pytest.mark.parametrize("render", [to_svg, to_html])
def test_an_import_says_its_origin_and_nothing_that_is_not_known(render: Any) -> None:
    text = render(makers.report(**IMPORTED), None)
    assert "imported from llama.cpp" in text
    assert not re.search(r"\b(None|nan)\b", text)


def test_every_stored_report_can_be_drawn() -> None:
    paths = sorted((DATA / "reports").glob("*.json"))
    assert paths
    for path in paths:
        report = from_json(path.read_bytes())
        parse_svg(to_svg(report, None, dark=True))
        assert not re.search(r"\b(None|nan)\b", Page(to_html(report, None)).text)


# --- what comes from outside


HOSTILE = (
    'evil</title></style></bdi><script>document.title="owned"</script><img src=ADDRESS/img onerror='
    "\"document.title='owned'\">]]>&amp;&lt;<!-- \"' onload='x' \x1b[31m\u202e\u2066\x00\ud800"
    "<svg/onload=document.title='owned'><iframe src=ADDRESS/frame></iframe>"
    "<link rel=stylesheet href=ADDRESS/css>"
)


def hostile(word: str) -> tuple[Report, Positions]:
    data = makers.report_data(
        schema_version=2,
        model=word,
        model_hash=word,
        model_revision=word,
        architecture=word,
        variant_model=word,
        device=word,
        compute=word,
        cache=word,
        created=word,
        command=word,
        warnings=[word, word],
        origin={"tool": word, "form": word, "file": word, "version": word},
        by_token_class=[{"name": word, "n_positions": 3, "kl_mean": 0.1, "flip_rate": 0.1}],
    )
    data["corpus"] |= {
        name: word for name in ("name", "version", "split", "join", "token_hash", "content_hash")
    }
    data["by_part"][0]["name"] = word
    data["thresholds"]["policy"] = word
    data["versions"] = {name: word for name in ("mqf_tui", "mlx", "mlx_lm", "python", "system")}
    data["delta_p"] = {
        "mean": {"value": 0.1}, "rms": {"value": 0.1}, "percentiles": {word: 0.1},
    }  # fmt: skip
    positions = makers.positions(2)
    texts = {token: word for token in positions.texts}
    return Report.model_validate(data), replace(positions, texts=texts, part_names=(word, word))


def shape(text: str) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((tag, tuple(sorted(attributes))) for tag, attributes in Page(text).elements)


def test_hostile_words_change_nothing_but_the_words() -> None:
    plain, bad = hostile("word"), hostile(HOSTILE)
    assert shape(to_html(*bad)) == shape(to_html(*plain))
    for dark in (False, True):
        good_svg, bad_svg = (parse_svg(to_svg(*given, dark=dark)) for given in (plain, bad))
        assert [node.tag for node in bad_svg.iter()] == [node.tag for node in good_svg.iter()]


def test_hostile_words_are_shown_as_words() -> None:
    page = Page(to_html(*hostile(HOSTILE)))
    assert '<script>document.title="owned"</script>' in page.text
    for text in (to_html(*hostile(HOSTILE)), to_svg(*hostile(HOSTILE))):
        assert not set(text) & set("\x1b\x00\u202e\u2066")
        text.encode("utf-8")


def test_nothing_is_loaded_from_elsewhere() -> None:
    for text in (to_html(*real()), to_svg(*real()), to_svg(*real(), dark=True)):
        bare = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"<[^>]*\b(href|src|srcset|action|data|background|poster)\s*=", bare)
        assert not re.search(
            r"url\(|@import|<script|<a\b|<link|<base|<iframe|<object|<embed|<foreignObject", bare
        )


def test_markup_itself_lets_nothing_through() -> None:
    bad = "<i>&\"'\n\x1b\u202e\ud800\uffff]]>"
    made = element("p", bad, title=bad)
    read = ET.fromstring(made)
    assert read.text == "<i>&\"'\n]]>"
    assert read.attrib == {"title": "<i>&\"'\n]]>"}


# --- a real browser


def test_the_browser_runs_scripts_where_they_are_not_escaped(tmp_path: Path) -> None:
    """The control: without it the next tests could not fail."""
    with browser.listening() as (address, asked):
        page = tmp_path / "page.html"
        page.write_text(
            f"<title>still</title><script>document.title='owned'</script><img src={address}/img>", "utf-8"
        )
        dom = browser.opened(page, tmp_path / "profile")
    assert "<title>owned</title>" in dom
    assert "/img" in asked


@pytest.mark.parametrize("form", ["html", "html without its policy", "svg"])
def test_a_browser_runs_and_loads_nothing(tmp_path: Path, form: str) -> None:
    with browser.listening() as (address, asked):
        word = HOSTILE.replace("ADDRESS", address)
        text = to_svg(*hostile(word)) if form == "svg" else to_html(*hostile(word))
        if "without" in form:
            assert POLICY in text.replace("&apos;", "'")
            text = text.replace("Content-Security-Policy", "nothing")
        page = tmp_path / f"page.{form[:4].strip()}"
        page.write_text(text, "utf-8")
        dom = browser.opened(page, tmp_path / "profile")
    titles = re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert titles[0].startswith("evil&lt;/title&gt;&lt;/style&gt;")
    assert "owned</title>" not in dom.replace("&lt;/title&gt;", "")
    assert asked == []


def test_the_policy_alone_would_stop_what_got_through(tmp_path: Path) -> None:
    with browser.listening() as (address, asked):
        through = (
            f"<script>document.title='owned'</script><img src={address}/img onerror=document.title='owned'>"
        )
        page = tmp_path / "page.html"
        page.write_text(to_html(*real()).replace("<main>", f"<main>{through}"), "utf-8")
        dom = browser.opened(page, tmp_path / "profile")
    assert f"{address}/img" in dom
    assert "<title>owned</title>" not in dom
    assert asked == []


@pytest.mark.parametrize("form", ["html", "svg"])
def test_a_browser_reads_the_same_elements(tmp_path: Path, form: str) -> None:
    """A browser's parser mends what is not well formed; here it has nothing to mend."""
    text = to_html(*real()) if form == "html" else to_svg(*real())
    page = tmp_path / f"page.{form}"
    page.write_text(text, "utf-8")
    dom = browser.opened(page, tmp_path / "profile")
    assert Counter(re.findall(r"<([a-z]+)[\s>]", dom)) == Counter(re.findall(r"<([a-z]+)[\s>]", text))


# --- colours


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


THEMES = {"light": colours.LIGHT, "dark": colours.DARK}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_text_and_marks_have_contrast(theme: dict[str, str]) -> None:
    for ground in ("background", "panel"):
        for text in ("ink", "muted", "good", "marginal", "bad"):
            assert contrast(theme[text], theme[ground]) >= 4.5
    for verdict in ("good", "marginal", "bad"):
        assert contrast(theme["on-verdict"], theme[verdict]) >= 4.5
        assert contrast(theme["ink"], theme[f"{verdict}-zone"]) >= 4.5
    assert contrast(theme["bar"], theme["background"]) >= 3
    assert contrast(theme["bar-edge"], theme["band"]) >= 3
    assert contrast(theme["ink"], theme["bar"]) >= 2.5


@pytest.mark.parametrize("heat", [colours.HEAT_LIGHT, colours.HEAT_DARK])
def test_heat_is_legible_and_in_order_without_colour(heat: tuple[tuple[str, str], ...]) -> None:
    assert len(heat) == len(EDGES) + 1
    assert all(contrast(back, ink) >= 4.5 for back, ink in heat)
    grey = [luminance(back) for back, _ in heat]
    assert grey in (sorted(grey), sorted(grey, reverse=True))
    assert len(set(grey)) == len(grey)


# --- golden files


@pytest.mark.parametrize(
    "name", ["smollm2-4bit-g64-light.svg", "smollm2-4bit-g64-dark.svg", "smollm2-4bit-g64.html"]
)
def test_golden(name: str) -> None:
    report, positions = real()
    made = (
        to_html(report, positions)
        if name.endswith("html")
        else to_svg(report, positions, dark="dark" in name)
    )
    path = GOLDEN / name
    if os.environ.get("MQF_TUI_RENEW_GOLDEN"):
        path.write_text(made, "utf-8")
    assert made == path.read_text("utf-8")


def test_the_golden_run_agrees_with_its_positions() -> None:
    report, positions = real()
    assert set(ARRAYS) == set(DTYPES)
    assert len(positions) == report.n_positions
    assert float(positions.kl.mean(dtype=float)) == pytest.approx(report.kl.mean, rel=1e-9)
    assert float(positions.flip.mean()) == pytest.approx(report.flip_rate, rel=1e-12)
