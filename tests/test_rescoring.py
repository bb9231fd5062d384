"""One chunk scored again: the same numbers and lists as of the run, from its report alone; or why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import Failed, Finished, Loading, Stopped
from mqf_tui.fidelity.model import loading
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.rescoring import Rescored, Rescorer
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library import places
from mqf_tui.library.runs import SavedRun, save_run
from tests import makers

DEMO = KVSettings("demo", chunk_length=272, max_chunks=2, keep_top=10)


def measured(settings: KVSettings, **changes: Any) -> SavedRun:
    *_, last = api.events(settings)
    assert isinstance(last, Finished), last
    return save_run(last.report.model_copy(update=changes), last.positions, tops=last.tops)


def rescored(run: SavedRun, chunk: int, depths: Sequence[int], **options: Any) -> Rescored:
    *loading, last = api.rescore(run, chunk, depths, **options)
    assert all(isinstance(event, Loading) for event in loading)
    assert isinstance(last, Rescored), last
    return last


def refused(run: SavedRun, chunk: int = 0, depths: Sequence[int] = (5,), **options: Any) -> str:
    *_, last = api.rescore(run, chunk, depths, **options)
    assert isinstance(last, Failed), last
    return str(last.error)


VARIANTS = {
    "plain": replace(DEMO, kv_bits=3),
    "deployment": replace(DEMO, kv_bits=4, quantize_start=30),
    "last": replace(DEMO, kv_bits=2, score_last=140, quantize_start=7),
    "apart": replace(DEMO, kv=parsed("k8v4g32"), layers="0", kernel="quantized"),
    "emulated": replace(DEMO, kv=parsed("mxfp4"), kernel="emulated"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_again_bit_for_bit(name: str) -> None:
    """The lists that the run kept are an oracle for those that are found from its report."""
    run = measured(VARIANTS[name])
    kept, positions = run.tops(), run.positions()
    assert kept is not None
    rows = np.flatnonzero(positions.chunk[kept.index] == 1)
    chosen = rows[[3, len(rows) // 2, -5]]
    depths = positions.depth[kept.index[chosen]]
    found = rescored(run, 1, depths[::-1].tolist(), k=10)
    np.testing.assert_array_equal(found.tops.index, kept.index[chosen])
    np.testing.assert_array_equal(found.kl, positions.kl[kept.index[chosen]])
    np.testing.assert_array_equal(found.kl_stored, found.kl)
    assert found.agrees()
    for column in ("ids_ref", "probs_ref", "ids_quant", "probs_quant"):
        np.testing.assert_array_equal(getattr(found.tops, column), getattr(kept, column)[chosen], column)
    assert all(found.tops.texts[i] == kept.texts[i] for i in found.tops.ids_quant.ravel().tolist())


def test_a_position_without_a_list_gets_one_and_only_what_is_needed_is_scored() -> None:
    run = measured(replace(DEMO, kv_bits=8, keep_top=0))
    assert run.tops() is None
    *events, last = api.rescore(run, 0, [130], 5)
    assert isinstance(last, Rescored)
    assert last.tops.k == 5
    place = run.positions().where(last.tops.index)
    assert (place.chunk.tolist(), place.depth.tolist()) == ([0], [130])
    assert last.tops.ids_ref[0, 0] == place.top1_ref[0]
    np.testing.assert_allclose(last.tops.probs_quant[0, 0], place.prob_quant[0].astype(float), rtol=1e-3)
    steps = [e for e in events if isinstance(e, Loading) and e.what == "scoring chunk 1 again"]
    assert len(steps) == 1  # positions 128 to 255: those before only fill the caches


def test_a_model_and_a_text_are_found_where_they_lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, text = makers.model_folder(tmp_path / "here" / "tiny"), makers.text_file(tmp_path / "text.txt")
    base = KVSettings(str(folder), kv_bits=4, chunk_length=64, max_chunks=3, corpus=str(text))
    run = measured(base)
    assert (run.report.model, run.report.corpus.name) == ("tiny", "text.txt")  # and no places
    loads: list[int] = []
    real = loading.load_model

    def counted(*args: Any, **options: Any) -> Any:
        loads.append(1)
        return real(*args, **options)

    monkeypatch.setattr(loading, "load_model", counted)
    rescorer = Rescorer()
    for chunk in (0, 2):
        assert rescored(run, chunk, [3, 60], rescorer=rescorer).agrees(0)
    assert len(loads) == 1
    rescorer.close()
    assert rescored(run, 1, [7], rescorer=rescorer).agrees(0)
    assert len(loads) == 2

    mixed = measured(replace(base, recipe=Recipe((parsed("8g32"), parsed("k16v2g64")))))
    assert rescored(mixed, 2, [62]).agrees(0)
    old = measured(base, layers=None, kernel=None, kv_format="", schema_version=1)
    assert rescored(old, 1, [5]).agrees(0)

    stop = Control()
    stop.stop()
    *_, last = api.rescore(run, 0, [5], control=stop)
    assert isinstance(last, Stopped)
    assert "depths 0 to 62 were scored" in refused(run, 0, [63])
    assert "nothing was scored" in refused(run, 3, [5])
    assert "use 1 to 100" in refused(run, 0, [5], k=0)
    gone = run.report.model_copy(update={"corpus": run.report.corpus.model_copy(update={"n_tokens": 0})})
    assert "does not say what was scored" in refused(save_run(gone, run.positions()))

    text.write_text(text.read_text().replace("a", "o", 1))
    assert "text.txt is not the text that this run was measured on" in refused(run)
    text.unlink()
    assert "was a file, and where it lies is not known" in refused(run)
    other = makers.text_file(tmp_path / "text.txt")
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert "tiny is not what it was" in refused(run, corpus=str(other))
    folder.rename(folder.with_name("moved"))
    assert "there is no model 'tiny' on this machine" in refused(run)
    assert "is not what it was" in refused(run, model=str(folder.with_name("moved")))
    imported = save_run(run.report.model_copy(update={"origin": None}), None)
    assert "cannot be read" in refused(imported)


def test_places_survive_damage(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("x")
    for broken in (None, "", "[]", '{"models": 3, "texts": [1]}', "{"):
        if broken is not None:
            (tmp_path / "cache-home" / "places.json").write_text(broken)
        assert places.find("texts", "ab") is None
        places.note("texts", "ab", file)
        assert places.find("texts", "ab") == str(file)
        assert places.find("models", "ab") is None
    places.note("texts", "", file)
    assert places.find("texts", "") is None
    file.unlink()
    assert places.find("texts", "ab") is None
