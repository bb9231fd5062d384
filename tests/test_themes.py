from __future__ import annotations

from pathlib import Path

import pytest

from mqf_tui.app.themes import DEFAULT, read_theme, themes


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_bundled_themes_can_be_read() -> None:
    found, problems = themes()
    assert problems == []
    assert DEFAULT in [theme.name for theme in found]
    for theme in found:
        assert theme.background
        for colour in (theme.foreground, theme.success, theme.warning, theme.error, theme.secondary):
            assert colour
            assert contrast(colour, theme.background) >= 4.0, (theme.name, colour)


def test_a_users_theme_is_found_and_a_bad_one_named(data_home: Path) -> None:
    folder = data_home / "themes"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('name = "mine"\nprimary = "#336699"\n')
    (folder / "bad.toml").write_text('name = "bad"\nprimary = "not a colour"\n')
    (folder / "worse.toml").write_text("name = [")
    found, problems = themes()
    assert "mine" in [theme.name for theme in found]
    assert len(problems) == 2
    assert "bad.toml" in problems[0]
    assert "worse.toml" in problems[1]


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('name = "t"\nprimary = "#fff"\ncolour = "#000"\n')
    with pytest.raises(ValueError, match="colour"):
        read_theme(path)
