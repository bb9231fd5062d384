"""What was quantized and how, in every format: keys and values apart, layers, recipes, kernels, sweeps."""

from __future__ import annotations

import csv
import io
import unicodedata
from typing import Any

import pytest

from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.reports.formats import FORMATS, render
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import kv_format_words
from tests import makers
from tests.github import Page
from tests.hostile import HOSTILE, hostile_report


def layers(words: str, *runs: tuple[str, str], n: int = 30) -> dict[str, Any]:
    def size(span: str) -> int:
        first, _, last = span.partition("-")
        return int(last or first) - int(first) + 1

    return {
        "n_layers": n,
        "n_quantized": sum(size(span) for span, format_ in runs if format_ != "16"),
        "words": words,
        "recipe": [{"layers": span, "format": format_} for span, format_ in runs],
    }


def made(kv_format: str, **changes: Any) -> Report:
    plain = kv_format.removesuffix("g64")
    one = int(plain) if plain.isdigit() else None
    group = 64 if one else None
    return makers.report(kv_format=kv_format, kv_bits=one, kv_group_size=group, **changes)


MIXED = layers("all layers quantized (0-3 at 8g64, 4-29 at 4g64)", ("0-3", "8g64"), ("4-29", "4g64"))
SOME = layers(
    "1 of 30 layers quantized, 29 stay in full precision", ("0-6", "16"), ("7", "4g64"), ("8-29", "16")
)
FIRST = layers("4 of 30 layers quantized, 26 stay in full precision", ("0-3", "4g64"), ("4-29", "16"))
APART = layers(
    "2 of 4 layers quantized, the 2 sliding-window ones are bounded and stay",
    *(("0", "16"), ("1", "4g64"), ("2", "16"), ("3", "4g64")),
    n=4,
)


@pytest.mark.parametrize(
    ("report", "setting", "short"),
    [
        (makers.report(), "4-bit KV cache, group 64", "4-bit g64"),
        (made("8g64"), "8-bit KV cache, group 64", "8-bit g64"),
        (made("k8v4g64"), "8-bit keys, 4-bit values, group 64", "k8v4g64"),
        (made("k16v4g32"), "full-precision keys, 4-bit values, group 32", "k16v4g32"),
        (made("k8g64v4g32"), "8-bit keys (group 64), 4-bit values (group 32)", "k8g64v4g32"),
        (made("mxfp4"), "mxfp4 KV cache", "mxfp4"),
        (made("kmxfp8v4g64"), "mxfp8 keys, 4-bit values, group 64", "kmxfp8v4g64"),
        (made("recipe", layers=MIXED), "mixed KV cache (4g64, 8g64)", "recipe"),
        (made("4g64", layers=SOME), "4-bit KV cache, group 64, layer 7 of 30", "4-bit g64 layer 7"),
        (made("4g64", layers=FIRST), "4-bit KV cache, group 64, layers 0-3 of 30", "4-bit g64 layers 0-3"),
        (made("4g64", layers=APART), "4-bit KV cache, group 64, 2 layers of 4", "4-bit g64 2 layers"),
        (
            made("4g64", kernel="emulated", quantize_start=9),
            "4-bit KV cache, group 64 (emulated)",
            "4-bit g64 from 9 emulated",
        ),
        (made("new-in-2030"), "new-in-2030", "new-in-2030"),
    ],
)
def test_the_setting_in_words(report: Report, setting: str, short: str) -> None:
    assert (report.setting, report.short_setting) == (setting, short)
    for name in ("md", "card", "badge", "html", "svg"):
        assert setting in render(name, report)


@pytest.mark.parametrize("word", ["4", "k8v4g32", "mxfp4", "k16v8g64", "nvfp4", "kmxfp4v16", "k8g64v4g32"])
def test_every_word_of_a_format_has_words(word: str) -> None:
    written = parsed(word).word
    assert kv_format_words(written) != written


def test_the_layers_that_stay_are_told() -> None:
    for name in ("md", "card", "html"):
        text = render(name, made("4g64", layers=APART))
        assert "2 of 4 layers quantized, the 2 sliding-window ones are bounded and stay." in text
    text = render("md", made("recipe", layers=MIXED))
    assert "| layers | 0-3 8g64, 4-29 4g64 |" in text


@pytest.mark.parametrize("name", ["md", "card", "html"])
def test_an_emulated_measurement_says_what_it_is(name: str) -> None:
    emulated = render(name, made("4g64", kernel="emulated"))
    assert "what the quantizer would cost, not what mlx-lm gives" in emulated.replace("`", "")
    plain = render(name, made("4g64", kernel="dequantized"))
    assert "dequantized before standard attention" in plain
    assert "emulated" not in plain


@pytest.mark.parametrize("name", ["md", "card", "html", "svg"])
def test_scoring_the_last_positions_only_is_said(name: str) -> None:
    assert "the last 64 positions of each" in render(name, made("4g64", score_last=64))
    assert "of each" not in render(name, made("4g64"))


def test_what_was_dropped_says_so_in_every_format() -> None:
    why = "surely bad"
    for name in ("md", "card", "html", "csv"):
        assert why in render(name, made("4g64", dropped=why))
    for name in ("badge", "badge-json", "svg", "html"):
        assert "dropped" in render(name, made("4g64", dropped=why))


@pytest.mark.parametrize("name", ["md", "card", "html"])
def test_where_kl_drifts_is_said(name: str) -> None:
    drift = {"known": True, "first": 0, "end": 128, "start": 8192, "times": 2.5, "times_ci": (2.0, 3.1)}
    text = render(name, made("4g64", drift=drift))
    assert "KL drifts from depth 8,192 on" in text
    assert "2.5 times as much (2 to 3.1)" in text


def test_the_columns_of_the_table() -> None:
    report = made(
        "k8v4g64", layers=MIXED, kernel="quantized", score_last=9, sweep_id="20260304-x", dropped="=bad"
    )
    (row,) = csv.DictReader(io.StringIO(render("csv", report)), strict=True)
    assert row["kv_bits"] == ""
    assert (row["kv_format"], row["kernel"], row["sweep_id"]) == ("k8v4g64", "quantized", "20260304-x")
    assert (row["layers_n_layers"], row["layers_n_quantized"]) == ("30", "30")
    assert row["layers_recipe"] == "0-3 8g64, 4-29 4g64"
    assert (row["score_last"], row["dropped"], row["drift_start"]) == ("9", "'=bad", "")


@pytest.mark.parametrize("name", list(FORMATS))
def test_hostile_words_of_version_3_are_inert(name: str) -> None:
    def hostile(word: str) -> Report:
        changes: dict[str, Any] = {
            "kv_bits": None,
            "kv_format": word,
            "sweep_id": word,
            "dropped": word,
            "layers": layers(word, ("0", word[:9]), n=2)
            | {"recipe": [{"layers": word, "format": word}, {"layers": "1", "format": "16"}]},
        }
        return hostile_report(word, **changes)

    text = render(name, hostile(HOSTILE))
    assert not {c for c in text if unicodedata.category(c)[0] == "C"} - {"\n", "\u200c", "\u200d"}
    if name == "md":
        bad, plain = Page(to_markdown(hostile(HOSTILE))), Page(to_markdown(hostile("name")))
        assert bad.balanced
        assert [[len(row) for row in table] for table in bad.tables] == [
            [len(row) for row in table] for table in plain.tables
        ]
        assert not bad.tags & {"a", "img", "script"}
