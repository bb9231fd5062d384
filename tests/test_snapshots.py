"""Each screen in three sizes and two themes, against pictures that were looked at.

Draw them anew with ``pytest tests/test_snapshots.py --snapshot-update``, and look at each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mqf_tui.app.app import MqfTuiApp
from tests.scenes import SCENES, still

SIZES = ((80, 24), (120, 40), (200, 60))
THEMES = ("mqf-dusk", "mqf-paper")


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from still(monkeypatch)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("scene", SCENES)
def test_a_screen_looks_as_it_did(
    snap_compare: Callable[..., bool], scene: str, size: tuple[int, int], theme: str
) -> None:
    app = MqfTuiApp()

    async def prepare(pilot) -> None:
        app.theme = theme
        await SCENES[scene](pilot)

    try:
        assert snap_compare(app, terminal_size=size, run_before=prepare)
    finally:
        app.bridge.close()
