"""Reports in a notebook: what the fragment says, without style, and that nothing from outside acts in it."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.api import Sweep
from mqf_tui.fidelity.comparison import compare
from mqf_tui.fidelity.ranking import rank
from mqf_tui.reports.comparison_schema import Comparison, Ranking
from mqf_tui.reports.markup import clean
from mqf_tui.reports.schema import Estimate, Report
from mqf_tui.reports.sweep_schema import SweepReport
from mqf_tui.reports.tuning_schema import TunedSetting, Tuning
from tests import browser, made_sweeps, makers
from tests.hostile import HOSTILE, hostile_report
from tests.made_sweeps import subject, summary

VOID = {"br", "img"}
KNOWN = (
    *("div", "p", "strong", "bdi", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "img", "small"),
    *("details", "summary", "pre", "code"),
)
# What GitHub's viewer of notebooks leaves of a fragment has no style; colours are the notebook's own.
ALLOWED = {"class", "scope", "src", "alt", "width"}


class Fragment(HTMLParser):
    """The words, cells and pictures of a fragment; fails where an element is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.used: set[str] = set()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.used.add(tag)
        assert {name for name, _ in attrs} <= ALLOWED, (tag, attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def shown(part: Any) -> Fragment:
    html = part._repr_html_()
    assert html is not None
    found = Fragment(html)
    assert found.used <= set(KNOWN)
    return found


def tuning(word: str = "tiny", **changes: Any) -> Tuning:
    one = TunedSetting(
        setting="recipe",
        uniform=False,
        layers=[],
        kv_bytes=4000,
        predicted_kl=0.01,
        kl=Estimate(value=0.0123, ci=(0.011, 0.0136)),
        flips=Estimate(value=0.02),
        verdict="marginal",
        within=True,
        surely=True,
    )
    made = Tuning(
        created="2026-03-04T05:06:07+00:00",
        model=word,
        corpus=makers.report().corpus,
        chunk_length=128,
        n_positions=254,
        n_chunks=2,
        max_kl=0.02,
        met=True,
        answer=f"the recipe of {word} keeps to it",
        n_layers=2,
        full_bytes=9000,
        recipe=one,
        tried=[],
        uniform=[one.model_copy(update={"setting": "4g64", "uniform": True, "within": False})],
        sensitivity=[],
        thresholds=makers.report().thresholds,
        versions=makers.report().versions,
        toml=f'# {word}\n[layers]\n"0" = "8g64"\n',
        code="",
        warnings=[word],
    )
    return made.model_copy(update=changes)


def comparison(**changes: Any) -> Comparison:
    return compare([subject("4g64", 0.0198, run="a", **changes), subject("8g64", 0.0004, run="b", **changes)])


def ranking(**changes: Any) -> Ranking:
    return rank([subject("4g64", 0.0198, run="a", **changes), subject("8g64", 0.0004, run="b", **changes)])


def test_a_report_in_short() -> None:
    report = makers.report(
        warnings=["a doubt"],
        confidence={"good": 0.1, "marginal": 0.9, "bad": 0.0, "replicates": 1000},
    )
    found = shown(report)
    said = found.text
    assert "org/tiny-llama : 4-bit KV cache, group 64 · stress · notes.txt · 2 chunks of 128 tokens" in said
    assert "254 positions" in said
    assert "▲ on the edge between good and marginal (marginal, 90 %)" in said
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["mean KL (nats)"][:2] == ["0.0234", "0.0200 to 0.0270"]
    assert rows["mean KL (nats)"][2] == "▲ marginal (good ≤ 0.01, marginal ≤ 0.1)"
    assert rows["top-1 flips"][:2] == ["2.50 %", "1.00 to 4.00 %"]
    assert rows["perplexity difference"][0] == "+0.250"
    assert rows["KV cache per token (16-bit)"][0] == "512 B → 144 B (28 %)"
    assert "⚠ a doubt" in said
    assert "float32 weights · CPU (x86_64, 2 cores) · mqf-tui 0.1.0 · mlx 0.32.4" in said


def test_a_report_in_print() -> None:
    assert str(makers.report(warnings=["a doubt"])).splitlines() == [
        "org/tiny-llama: 4-bit KV cache, group 64 · stress · notes.txt · 2 chunks of 128 tokens"
        " · 254 positions",
        "▲ marginal: mean KL 0.0234 (0.0200 to 0.0270) nats, p99 0.210, flips 2.50 ± 1.50 %",
        "⚠ a doubt",
    ]
    assert str(report := summary(made_sweeps.six())).splitlines()[1] == report.answer
    assert str(found := ranking()) == f"{found.model}: {found.answer}"
    assert "moves less than" in str(comparison())
    assert str(tuning()).splitlines()[1] == "the recipe of tiny keeps to it"
    assert str(makers.report().corpus).startswith("name='notes.txt' version='file'")
    assert repr(makers.report()).startswith("Report(schema_version=1")
    for make in HOSTILE_PARTS.values():
        assert clean(str(make())) == str(make())


def test_the_picture_is_an_image_of_its_own_with_words_beside_it() -> None:
    (image,) = shown(makers.report()).images
    source, alt = image["src"], image["alt"]
    assert source is not None
    assert alt is not None
    assert alt.startswith("Distribution of KL: mean 0.0234, median 0.0112, p99 0.210 nats")
    kind, _, data = source.partition(";base64,")
    assert kind == "data:image/svg+xml"
    picture = ET.fromstring(base64.b64decode(data))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    background = next(picture.iter("{http://www.w3.org/2000/svg}rect"))
    assert background.get("class") == "sheet"
    assert background.get("width") == picture.get("width")
    style = next(picture.iter("{http://www.w3.org/2000/svg}style")).text or ""
    assert re.search(r"\.c \.sheet\{fill:#ffffff\}", style)
    assert re.search(r"prefers-color-scheme:dark\)\{\.c \.sheet\{fill:#0d1117\}", style)
    assert "url(" not in style


def test_what_must_be_known_of_a_partial_or_stopped_run() -> None:
    report = makers.report(partial=True, n_chunks_planned=9, kernel="emulated", score_last=20)
    said = shown(report).text
    assert "partial: 2 of 9 chunks begun" in said
    assert "Emulated in the model's own cache: what the quantizer would cost" in said
    assert "the last 20 positions of each" in said


def test_a_report_of_which_little_is_known() -> None:
    """As an import from another tool has it, and with figures that are no numbers."""
    bare = {
        "kl": {"mean": "inf"},
        "flip_rate": "nan",
        "perplexity_ref": "nan",
        "perplexity_quant": "nan",
        "perplexity_delta": "nan",
        "kv_bytes_per_token": None,
        "model": "",
        "origin": {"tool": "other", "form": "log", "file": "x.log"},
    }
    found = shown(makers.report(**bare))
    rows = {row[0]: row[1:] for row in found.rows}
    assert "unnamed model" in found.text
    assert rows["mean KL (nats)"][0] == "inf"
    assert rows["top-1 flips"][0] == "—"
    assert not any(name.startswith("perplexity") for name in rows)


def test_a_sweep_is_its_answer_and_its_table() -> None:
    report = summary(made_sweeps.six(), memory="all beside one pass")
    found = shown(report)
    answer = report.answer[:1].upper() + report.answer[1:]
    assert answer in found.text
    head, *rows = found.rows
    assert head[0] == "setting"
    assert {"KL mean (nats)", "flips", "verdict"} <= set(head)
    assert len(rows) == len(report.variants) == 6
    verdicts = [row[head.index("verdict")][0] for row in rows]
    assert set(verdicts) <= set("●▲■")
    assert Sweep(report, ())._repr_html_() == report._repr_html_()


def test_the_layers_of_a_model_are_folded() -> None:
    found = shown(summary(made_sweeps.six(), sensitivity=made_sweeps.sensitivity()))
    assert found.rows[0][:3] == ["layer", "keys", "values"]
    assert len(found.rows) == 31
    assert "all 30 rows" in found.text
    assert "details" in found.used


def test_a_comparison_and_a_ranking() -> None:
    found = shown(comparison())
    assert "2 runs compared" in found.text
    assert re.search(r"moves less than .*: mean KL -0\.\d+ nats \(95 % interval", found.text)
    assert "Paired over" in found.text
    assert [row[0][:2] for row in found.rows] == ["ru", "1:", "2:"]
    ranked = ranking()
    found = shown(ranked)
    assert ranked.answer[1:] in found.text
    assert [row[1] for row in found.rows[1:]] == ["1", "2"]


def test_a_tuning() -> None:
    found = shown(tuning(partial=True, ended="it was stopped on request"))
    assert "tiny : a recipe for a mean KL of at most 0.02 nats" in found.text
    assert "⚠ partial: it was stopped on request" in found.text
    recipe, uniform = found.rows[1:]
    assert recipe == ["recipe", "4,000", "0.0123 ± 0.0013", "2.00 %", "marginal", "yes"]
    assert uniform[0] == "4g64 for all layers"
    assert uniform[-1] == "no"
    assert '[layers] "0" = "8g64"' in found.text


def test_parts_of_a_report_have_no_fragment() -> None:
    report = makers.report()
    for part in (report.kl, report.corpus, report.versions, report.thresholds):
        assert part._repr_html_() is None
    assert "_repr_html_" not in report.model_dump()
    assert Report.model_validate_json(report.model_dump_json()) == report


HOSTILE_PARTS: dict[str, Callable[[], object]] = {
    "report": lambda: hostile_report(HOSTILE, notes=[HOSTILE]),
    "dropped": lambda: hostile_report(HOSTILE, dropped=HOSTILE, partial=True, kernel="emulated"),
    "sweep": lambda: _hostile_sweep(),
    "comparison": lambda: _hostile_comparison(),
    "ranking": lambda: ranking(model=HOSTILE).model_copy(
        update={"answer": HOSTILE, "advice": HOSTILE, "group": HOSTILE, "warnings": [HOSTILE]}
    ),
    "tuning": lambda: tuning(HOSTILE, ended=HOSTILE, partial=True, compute=HOSTILE, device=HOSTILE),
}


def _hostile_sweep() -> SweepReport:
    found = summary(made_sweeps.six())
    words = dict.fromkeys(("model", "answer", "evidence", "memory", "compute", "device", "ended"), HOSTILE)
    variants = [v.model_copy(update={"setting": HOSTILE, "dropped": HOSTILE}) for v in found.variants]
    return found.model_copy(update={**words, "partial": True, "warnings": [HOSTILE], "variants": variants})


def _hostile_comparison() -> Comparison:
    found = comparison()
    side = found.baseline.model_copy(
        update={"model": HOSTILE, "setting": HOSTILE, "short_setting": HOSTILE, "run": HOSTILE}
    )
    pairs = [
        p.model_copy(update={"other": side, "differs": [HOSTILE], "warnings": [HOSTILE]}) for p in found.pairs
    ]
    return found.model_copy(update={"baseline": side, "pairs": pairs, "kv_basis": None})


@pytest.mark.parametrize("what", HOSTILE_PARTS)
def test_words_from_outside_stay_words(what: str) -> None:
    part: Any = HOSTILE_PARTS[what]()
    html = part._repr_html_()
    found = shown(part)
    assert "<script>alert(1)</script>" in found.text
    assert "<script" not in html
    assert "<!--" not in html
    assert clean(html) == html  # no control characters, nothing that turns the line round
    assert "\x1b" not in html
    assert "http://x/y" not in {image["src"] for image in found.images}
    (image,) = found.images or [{"src": ";base64,"}]
    assert b"alert" not in base64.b64decode(str(image["src"]).partition(";base64,")[2])


FIRST = (
    "window.faults = [];"
    "window.addEventListener('error', e => faults.push(String(e.message)), true);"
    "window.addEventListener('securitypolicyviolation', e => faults.push(e.violatedDirective));"
    "console.error = console.warn = (...words) => faults.push(words.join(' '));"
    "window.alert = words => faults.push(words);"
)


async def test_a_browser_shows_it_and_has_nothing_to_say(tmp_path: Path) -> None:
    """In a page as a notebook's is: the fragments stand one below the other, and load nothing."""
    parts: list[Any] = [makers.report(), *(make() for make in HOSTILE_PARTS.values())]
    whole = "".join(part._repr_html_() for part in parts)
    page = tmp_path / "notebook.html"
    page.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>n</title><body>{whole}", encoding="utf-8")
    async with browser.browsing(tmp_path / "profile", FIRST) as tab:
        await tab.call("Page.navigate", url=page.as_uri())
        images = "[...document.images]"
        for _ in range(600):
            if await tab.js(f"document.readyState === 'complete' && {images}.every(i => i.complete)"):
                break
        assert await tab.js("document.querySelectorAll('body > div.mqf-tui').length") == len(parts)
        widths = await tab.js(f"{images}.map(i => i.naturalWidth)")
        assert len(widths) == 3
        assert min(widths) > 600
        assert await tab.js("document.scripts.length") == 0
        assert await tab.js("faults") == []
        assert {url.split(":")[0] for url in tab.asked} <= {"file", "data"}
