"""The report of a sweep in its formats: the numbers, the pictures, and that nothing from outside acts."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.fidelity.choosing import Limits
from mqf_tui.reports.chart_labels import Box, placed
from mqf_tui.reports.chart_parts import Chart
from mqf_tui.reports.grid_picture import grid_picture
from mqf_tui.reports.heatmap import heat_level
from mqf_tui.reports.layer_strip import Scale, layer_strip
from mqf_tui.reports.pareto import pareto
from mqf_tui.reports.sensitivity_schema import Sensitivity
from mqf_tui.reports.sweep_report import CSV_COLUMNS, FORMATS, from_json, render_sweep
from mqf_tui.reports.sweep_schema import SweepReport
from mqf_tui.reports.text import kl
from tests import browser, github, made_sweeps, test_pictures
from tests.conftest import ROOT
from tests.hostile import HOSTILE
from tests.made_sweeps import subject, summary

WIDTHS = (832.0, 358.0)


@pytest.fixture(scope="module")
def six() -> SweepReport:
    return summary(made_sweeps.six(), command="mqf-tui sweep org/tiny-llama", memory="all beside one pass")


@pytest.fixture(scope="module")
def grid() -> SweepReport:
    return summary(made_sweeps.grid())


@pytest.fixture(scope="module")
def full() -> SweepReport:
    """A report with something of everything."""
    subjects = [
        *made_sweeps.grid(("16", "8", "4")),
        subject("4g64", 0.0198, run="plain", kernel="dequantized"),
        subject("3g64", 0.3, n_chunks=4, flips=0.1, dropped="surely bad", partial=True, warnings=["a tail"]),
    ]
    limits = Limits(max_kv_bytes=made_sweeps.bytes_of("k16v4g64"))
    found = summary(
        subjects, limits=limits, budget="8 GB", memory="it fits", command="mqf-tui sweep x", warnings=["w"]
    )
    return found.model_copy(
        update={"sensitivity": made_sweeps.sensitivity(), "ended": "stopped", "partial": True}
    )


# --- Markdown


def test_the_answer_comes_first(six: SweepReport) -> None:
    lines = render_sweep("md", six).split("\n\n")
    assert lines[0] == "### org/tiny-llama: 6 settings in one sweep"
    assert lines[1] == "**Use 6-bit, group 64: 2.5× smaller than fp16, still good (99 %).**"


def test_the_table_has_each_setting_in_the_order_of_its_rank(six: SweepReport) -> None:
    page = github.Page(render_sweep("md", six))
    assert page.balanced
    head, *rows = page.tables[0]
    assert head == [
        *("rank", "setting", "KL mean (nats)", "flips", "verdict", "KV bytes per token (16-bit)"),
        *("frontier", "next cheaper", "positions", "run"),
    ]
    assert [row[1] for row in rows] == [row.side.setting for row in six.ranking.rows]
    by_run = {v.run: v for v in six.variants}
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        v = by_run[cells["run"]]
        assert cells["KL mean (nats)"].startswith(f"{kl(v.kl.value)} ")
        assert cells["verdict"].startswith(v.verdict)
        assert cells["KV bytes per token (16-bit)"].startswith(f"{v.kv_bytes:,.0f} (")
        assert cells["positions"] == "1,016"
        if v.next_cheaper is None:
            assert cells["next cheaper"] == "—"
        else:
            moved = v.next_cheaper.difference
            assert cells["next cheaper"].startswith(f"+{kl(moved.value)} (")
    assert [row[6] for row in rows].count("yes, the answer") == 1
    assert page.blocks["pre"] == ["mqf-tui sweep org/tiny-llama"]


def test_the_grid_is_a_table_with_the_cheapest_good_cell_bold(grid: SweepReport) -> None:
    text = render_sweep("md", grid)
    page = github.Page(text)
    head, *rows = page.tables[1]
    assert head == ["", "values 8-bit", "values 6-bit", "values 4-bit"]
    assert [row[0] for row in rows] == ["keys 8-bit", "keys 6-bit", "keys 4-bit"]
    for cell in grid.grids[0].cells:
        shown = rows[cell.row][cell.column + 1]
        assert shown.startswith(f"{kl(cell.kl.value)}, {cell.verdict}, {cell.kv_bytes:,.0f}")
        assert shown.endswith("← cheapest good") == cell.cheapest_good
    (bold,) = re.findall(r"\*\*([\d.]+, good, [\d,]+) ← cheapest good\*\*", text)
    assert page.blocks["strong"][1].startswith(bold)


def test_everything_has_its_place_in_markdown(full: SweepReport) -> None:
    page = github.Page(render_sweep("md", full))
    assert page.balanced
    shown = " ".join(page.blocks["p"] + page.blocks["li"])
    for words in (
        "Positions that each setting got",
        "The sweep did not come to its end: stopped.",
        "it fits",
    ):
        assert words.lower() in " ".join([shown, *page.blocks["blockquote"]]).lower()
    assert "the kernel" in page.blocks["li"][0]
    cells = [cell for table in page.tables for row in table for cell in row]
    assert any("dropped: surely bad" in cell for cell in cells)
    assert any("control, not ranked" in cell for cell in cells)
    assert any("left out: it takes" in cell for cell in cells)
    assert page.visible_tables < len(page.tables)


# --- JSON and CSV


def test_json_reads_back(full: SweepReport) -> None:
    text = render_sweep("json", full)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert from_json(text) == full
    assert render_sweep("json", from_json(text)) == text
    with pytest.raises(ValueError, match="it is no whole JSON"):
        from_json(text[:-20])
    with pytest.raises(ValueError, match="it lacks"):
        from_json("{}")


def test_json_keeps_what_a_newer_version_wrote(six: SweepReport) -> None:
    data = json.loads(render_sweep("json", six))
    data["newer"] = {"a": 1}
    data["variants"][0]["newer"] = 2
    assert json.loads(render_sweep("json", from_json(json.dumps(data)))) == data


def test_csv_marks_the_answer(six: SweepReport) -> None:
    rows = list(csv.DictReader(io.StringIO(render_sweep("csv", six)), strict=True))
    assert [row["run"] for row in rows if row["chosen"] == "1"] == ["run-6g64"]


def test_csv_has_the_numbers_as_they_are(full: SweepReport) -> None:
    rows = list(csv.DictReader(io.StringIO(render_sweep("csv", full), newline=""), strict=True))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == len(full.variants)
    by_run = {v.run: v for v in full.variants}
    for row in rows:
        v = by_run[row["run"]]
        assert float(row["kl_mean"]) == v.kl.value
        assert v.kl.ci is None or float(row["kl_ci_high"]) == v.kl.ci[1]
        assert float(row["kv_bytes_per_token"]) == v.kv_bytes
        assert int(row["n_positions"]) == v.n_positions
        assert (row["keys"], row["values"]) == (v.keys, v.values)
        step = v.next_cheaper
        assert row["next_cheaper"] == (step.run if step else "")
        assert row["next_cheaper_kl"] == (str(step.difference.value) if step else "")
    assert sum(int(row["chosen"]) for row in rows) == 0  # the question was about layers
    assert [row["control_of"] for row in rows if row["control_of"]] == ["run-4g64"]


# --- pictures


def drawn(chart: Chart) -> ET.Element:
    root = ET.fromstring(chart.inline("wide"))
    assert root.attrib["viewBox"] == f"0 0 {chart.width:g} {chart.height:g}"
    for node in root.iter():
        for name in ("x", "cx", "x1", "x2"):
            assert 0 <= float(node.attrib.get(name, 0)) <= chart.width
        for name in ("y", "cy", "y1", "y2"):
            assert 0 <= float(node.attrib.get(name, 0)) <= chart.height
    return root


def marked(root: ET.Element, class_: str) -> list[ET.Element]:
    return [node for node in root.iter() if class_ in node.attrib.get("class", "").split()]


@pytest.mark.parametrize("width", WIDTHS)
def test_each_setting_is_a_point_at_its_bytes_and_its_kl(six: SweepReport, width: float) -> None:
    root = drawn(pareto(six, width))
    signs = marked(root, "sign")
    assert len(signs) == 6
    by_name = {"".join(node.itertext()).split(": ")[0]: node for node in signs}
    places = []
    for v in six.variants:
        node = by_name[v.setting]
        assert f"v-{v.verdict}" in node.attrib["class"]
        if node.tag == "circle":
            places.append((v, float(node.attrib["cx"]), float(node.attrib["cy"])))
        else:
            x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)", node.attrib["d"]).groups())  # type: ignore[union-attr]
            places.append((v, x, y + 7))
    # Linear in bytes, and linear in the logarithm of KL: two points give the scale, the others lie on it.
    (a, ax, ay), (b, bx, by), *rest = places
    for v, x, y in rest:
        share = (v.kv_bytes - a.kv_bytes) / (b.kv_bytes - a.kv_bytes)
        assert x == pytest.approx(ax + share * (bx - ax), abs=0.1)
        share = math.log(v.kl.value / a.kl.value) / math.log(b.kl.value / a.kl.value)
        assert y == pytest.approx(ay + share * (by - ay), abs=0.1)
    (ring,) = marked(root, "mark")
    chosen = next(x for v, x, _ in places if v.run == "run-6g64")
    assert float(ring.attrib["cx"]) == pytest.approx(chosen, abs=0.01)


def test_the_verdict_has_a_shape_of_its_own() -> None:
    runs = [
        subject("8g64", 0.0004),
        subject("4g64", 0.02, flips=0.01),
        subject("3g64", 0.3, flips=0.1),
    ]
    root = drawn(pareto(summary(runs), 832.0))
    shapes = {node.attrib["class"].split()[1]: node.tag for node in marked(root, "sign")}
    assert shapes == {"v-good": "circle", "v-marginal": "path", "v-bad": "rect"}
    words = "".join(root.itertext())
    assert "good: mean KL ≤ 0.01" in words
    assert "marginal: ≤ 0.1" in words


@pytest.mark.parametrize("width", WIDTHS)
def test_no_name_lies_on_another_or_on_a_point(grid: SweepReport, width: float) -> None:
    root = drawn(pareto(grid, width))
    boxes = []
    for node in marked(root, "name"):
        x, y = float(node.attrib["x"]), float(node.attrib["y"])
        # Digits and letters of a sans-serif font of 12 px are at least 5 px wide.
        boxes.append(Box(x, y - 9, x + 5 * len(node.text or ""), y))
    assert len(boxes) >= 4
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    for node in marked(root, "v-good"):
        x, y = float(node.attrib["cx"]), float(node.attrib["cy"])
        assert not any(box.meets(Box(x - 5, y - 5, x + 5, y + 5)) for box in boxes)


def test_a_name_without_room_is_left_out() -> None:
    inside = Box(0, 0, 100, 30)
    found = list(placed([(50.0, 15.0)] * 8, ["a long name"] * 8, [Box(44, 9, 56, 21)], inside))
    assert len(found) < 8
    assert all(label.box.within(inside) for label in found)


def test_settings_without_bytes_or_with_infinite_kl_are_borne() -> None:
    runs = [
        subject("8g64", 0.0004, kv_bytes_per_token=None),
        subject("4g64", 0.02, kv_bytes_per_token=None, kl={"mean": "inf"}),
    ]
    report = summary(runs)
    assert "are not known" in "".join(drawn(pareto(report, 832.0)).itertext())
    for name in FORMATS:
        assert "None" not in render_sweep(name, report).replace('"None"', "")
    infinite = [subject("8g64", 0.0004), subject("4g64", 0.02, kl={"mean": "inf"})]
    drawn(pareto(summary(infinite), 832.0))
    one = summary([subject("8g64", 0.0004)])
    assert len(marked(drawn(pareto(one, 358.0)), "sign")) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_the_grid_is_drawn_cell_by_cell(grid: SweepReport, width: float) -> None:
    (made,) = grid.grids
    root = drawn(grid_picture(made, width))
    cells = marked(root, "cell")
    assert len(cells) == 9
    for node, cell in zip(cells, made.cells, strict=True):
        assert f"h{heat_level(cell.kl.value)}" in node.attrib["class"].split()
    words = [node.text for node in root.iter("text")]
    for cell in made.cells:
        assert kl(cell.kl.value) in words
    (framed,) = marked(root, "framed")
    (best,) = [c for c in made.cells if c.cheapest_good]
    lefts = sorted({float(node.attrib["x"]) for node in cells})
    assert lefts[best.column] == pytest.approx(float(framed.attrib["x"]) - 1, abs=0.02)
    signs = Counter(word[0] for word in words if word and word[0] in "●▲■" and len(word) < 12)
    assert signs == Counter({"good": "●", "marginal": "▲", "bad": "■"}[c.verdict] for c in made.cells)


@pytest.mark.parametrize("width", WIDTHS)
def test_cells_of_fewer_chunks_bear_a_sign(grid: SweepReport, width: float) -> None:
    *others, last = made_sweeps.grid()
    word = last.run.removeprefix("run-")
    report = summary([*others, subject(word, 0.3, n_chunks=4, flips=0.1, dropped="surely bad")])
    (cell,) = [cell for cell in report.grids[0].cells if cell.fewer]
    assert cell.run == last.run
    root = drawn(grid_picture(report.grids[0], width))
    (figure,) = [node.text for node in root.iter("text") if node.text and node.text.endswith(" †")]
    assert float(figure.removesuffix(" †")) == pytest.approx(cell.kl.value, rel=0.05)
    assert "† fewer chunks: less of the text" in "".join(root.itertext())
    page = github.Page(render_sweep("md", report))
    shown = [words for row in page.tables[1] for words in row if "†" in words]
    assert shown == [f"{kl(cell.kl.value)}, bad, {cell.kv_bytes:,.0f} †"]
    assert any("† fewer chunks (out of the race" in words for words in page.blocks["p"])
    assert "fewer chunks" in render_sweep("html", report)
    for name in ("md", "html"):
        assert "†" not in render_sweep(name, grid)
    cells = json.loads(render_sweep("json", report))["grids"][0]["cells"]
    assert [c["fewer"] for c in cells if c["run"] == last.run] == [True]


def test_a_wide_grid_cuts_no_number_on_a_phone() -> None:
    report = summary(made_sweeps.grid(("16", "8", "6", "4", "3")))
    root = drawn(grid_picture(report.grids[0], 358.0))
    assert not any("…" in (node.text or "") for node in root.iter("text"))


def test_the_strip_darkens_with_what_a_layer_costs() -> None:
    found = made_sweeps.sensitivity(12)
    for width in WIDTHS:
        root = drawn(layer_strip(found, width))
        cells = [node for node in marked(root, "cell") if list(node)]
        assert len(cells) == 24
        levels = {}
        for node in cells:
            words = "".join(node.itertext())
            layer, side, value = re.match(r"layer (\d+), (\w+): (\S+) nats", words).groups()  # type: ignore[union-attr]
            level = int(re.search(r"h(\d)", node.attrib["class"])[1])  # type: ignore[index]
            levels[int(layer), side] = level, float(value)
        ordered = sorted(levels.values(), key=lambda pair: pair[1])
        assert [level for level, _ in ordered] == sorted(level for level, _ in ordered)
        assert {ordered[0][0], ordered[-1][0]} == {0, 8}
        assert len(marked(root, "framed")) == 1


def test_costs_that_are_nearly_alike_look_alike() -> None:
    found = made_sweeps.sensitivity(6)
    alike = [c.model_copy(update={"kl": c.kl.model_copy(update={"value": 0.01})}) for c in found.layers]
    scale = Scale.over(alike)
    assert {scale.level(c.kl.value) for c in alike} == {8}
    assert scale.level(0.0) == 0
    nothing = Sensitivity(format="4g64", n_layers=6, layers=[])
    assert "no layer was tried" in "".join(drawn(layer_strip(nothing, 832.0)).itertext())


# --- the page


def test_the_page_has_everything(full: SweepReport, six: SweepReport) -> None:
    page = test_pictures.Page(render_sweep("html", six))
    assert six.answer[1:] in page.text
    assert "mqf-tui sweep org/tiny-llama" in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 2
    page = test_pictures.Page(render_sweep("html", full))
    assert sum(tag == "svg" for tag, _ in page.elements) == 4  # layers and grid
    for words in (
        "the kernel",
        "surely bad",
        "Layer by layer",
        "All settings",
        "Positions that each setting got",
    ):
        assert words in page.text
    assert page.tables() == 3


def test_no_class_of_the_page_is_without_a_rule(full: SweepReport, six: SweepReport) -> None:
    text = render_sweep("html", full) + render_sweep("html", six)
    style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]  # type: ignore[index]
    used = {word for found in re.findall(r'class="([^"]+)"', text) for word in found.split()}
    assert {word for word in used if f".{word}" not in style} <= {"c"}


# --- what comes from outside

CHOSEN = {
    *("verdict", "kernel", "mode", "side", "cost", "least", "kv_basis", "method", "rule"),
    *("bounds", "ci"),
}


def named(report: SweepReport, word: str) -> SweepReport:
    """The report with ``word`` wherever it carries text from outside; runs stay apart by a number."""

    def changed(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: changed(v, k) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [changed(v, key) for v in value]
        if not isinstance(value, str) or key in CHOSEN or value in ("inf", "-inf", "nan"):
            return value
        return f"{word} {value}" if key in ("run", "control_run", "control_of", "short_setting") else word

    data = report.model_dump(mode="json")
    return SweepReport.model_validate({k: changed(v, k) for k, v in data.items()})


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_text_cannot_drive_a_terminal(full: SweepReport, name: str) -> None:
    text = render_sweep(name, named(full, HOSTILE))
    assert not {c for c in text if unicodedata.category(c)[0] == "C"} - {"\n", "\u200c", "\u200d"}
    assert not {"\u2028", "\u2029"} & set(text)


def test_hostile_names_change_nothing_but_the_words(full: SweepReport) -> None:
    bad, plain = (github.Page(render_sweep("md", named(full, word))) for word in (HOSTILE, "name"))
    assert bad.balanced
    assert [[len(row) for row in table] for table in bad.tables] == [
        [len(row) for row in table] for table in plain.tables
    ]
    for kind in ("h3", "h4", "details", "blockquote", "pre", "li"):
        assert len(bad.blocks[kind]) == len(plain.blocks[kind])
    allowed = {"th.align", "td.align", "code.class", "pre.lang"}
    assert {attribute for attribute, _ in bad.attributes} <= allowed
    assert not bad.tags & {"a", "img", "script"}
    for report in (full, full.model_copy(update={"sensitivity": None})):
        pages = [test_pictures.Page(render_sweep("html", named(report, word))) for word in (HOSTILE, "name")]
        # Names of settings may find room in the picture or not; all else stays as it is.
        one, other = (
            Counter((tag, tuple(sorted(a))) for tag, a in page.elements if tag not in ("text", "line"))
            for page in pages
        )
        assert one == other
    rows = list(csv.reader(io.StringIO(render_sweep("csv", named(full, "=evil")), newline=""), strict=True))
    assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


def test_a_browser_runs_and_loads_nothing(full: SweepReport, tmp_path: Path) -> None:
    with browser.listening() as (address, asked):
        word = test_pictures.HOSTILE.replace("ADDRESS", address)
        report = named(full, word).model_copy(update={"sensitivity": None})
        text = render_sweep("html", report).replace("Content-Security-Policy", "nothing")
        page = tmp_path / "page.html"
        page.write_text(text, "utf-8")
        dom = browser.opened(page, tmp_path / "profile")
    assert "owned</title>" not in dom.replace("&lt;/title&gt;", "")
    assert asked == []
    assert Counter(re.findall(r"<([a-z]+)[\s>]", dom)) == Counter(re.findall(r"<([a-z]+)[\s>]", text))


def test_the_columns_are_documented() -> None:
    text = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    (columns,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert tuple(columns.split()) == CSV_COLUMNS
