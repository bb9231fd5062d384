"""Which formats need a cache to be tried anew: all but those that differ in the width of a number alone."""

from __future__ import annotations

from mqf_tui.fidelity.quantizers import parsed

DISTINCT = ("8g64", "6g64", "8g32", "k8v4g64", "k8v6g64", "k16v8g64", "k8v16g64", "mxfp4", "nvfp4", "16")


def test_widths_alone_make_no_difference() -> None:
    assert parsed("8g64").layout == parsed("4g64").layout
    assert parsed("6g32").layout == parsed("3g32").layout
    assert parsed("k8v4g64").layout == parsed("k4v2g64").layout


def test_what_another_cache_holds_is_another_layout() -> None:
    assert len({parsed(word).layout for word in DISTINCT}) == len(DISTINCT)
