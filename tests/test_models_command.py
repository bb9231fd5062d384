"""`mqf-tui models` and `mqf-tui models show`: tables that fit, all facts as JSON, what is wrong with one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import main
from mqf_tui.console import model_listing
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.library.models import LocalModel
from tests import makers
from tests.hostile import HOSTILE
from tests.test_discovery import NEW, OLD, repository
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, stub_folder

ALL = {**PLAIN, **SPECIAL, **LATENT}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, and an empty hub's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    home = tmp_path / "mine"
    home.mkdir()
    monkeypatch.setenv("MQF_TUI_MODELS", str(home))
    return home


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["models", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_the_list_fits_the_terminal(
    width: int | None, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_folder(mine / "mlx-community" / "Llama-3.2-1B-Instruct-4bit", PLAIN["llama"])
    stub_folder(mine / "a-head-of-80", PLAIN["llama"] | {"head_dim": 80})
    monkeypatch.setattr(model_listing, "_width", lambda: width)
    head, *lines = said(capsys).splitlines()
    assert max(map(len, [head, *lines])) <= (width or 300)
    rows = [line for line in lines if not line.startswith(" ")]
    assert [row.split()[0] for row in rows] == [
        "demo", "a-head-of-80", "mlx-community/Llama-3.2-1B-Instruct-4bit"
    ]  # fmt: skip
    below = " ".join(line.strip() for line in lines if line.startswith("    "))
    assert below == read_facts(mine / "a-head-of-80").refusal
    titles = head.split()
    assert titles[:1] == ["MODEL"]
    assert {"WEIGHTS", "SIZE"} <= set(titles)
    assert ("ARCHITECTURE" in titles) == (width in (120, None))


def test_names_that_two_models_have(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where they lie stays, however narrow it is; two folders are told by their paths."""
    stub = stub_folder(mine / "org" / "tiny", PLAIN["llama"])
    repository(tmp_path / "hub", "org/tiny", stub, NEW, "main")
    shutil.copytree(stub, tmp_path / "others" / "org" / "tiny")
    monkeypatch.setenv("MQF_TUI_MODELS", f"{mine}:{tmp_path / 'others'}")
    monkeypatch.setattr(model_listing, "_width", lambda: 30)
    lines = said(capsys).splitlines()
    assert [line.endswith("hub cache") for line in lines if line.startswith("org/tiny")] == [
        True,
        False,
        False,
    ]
    assert any(line.endswith(str(stub)) for line in lines)
    assert any(line.endswith("others/org/tiny") for line in lines)


def test_all_facts_as_json(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, config in ALL.items():
        stub_folder(mine / name.replace(" ", "-"), config)
    rows = {row["name"]: row for row in json.loads(said(capsys, "--format", "json"))}
    keys = set(rows["llama"])
    for name in ALL:
        row = rows[name.replace(" ", "-")]
        assert set(row) == keys
        assert row["source"] == "folder"
        assert json.loads(said(capsys, "show", row["folder"], "--format", "json")) == row | {
            "name": row["folder"]
        }
    llama, sliding = rows["llama"], rows["llama-sliding"]
    assert (llama["n_layers"], llama["n_heads"], llama["n_kv_heads"], llama["head_dim"]) == (4, 4, 2, 32)
    assert llama["cache_layers"] == {"full": 4}
    # 4 layers, 2 heads of 32, keys and values: 512 numbers of 16 bits, or of 4 bits and 4 bytes a group.
    assert llama["kv_bytes_per_token"]["16-bit"] == 1024
    assert llama["kv_bytes_per_token"]["4-bit, group 32"] == 512 / 2 + 512 / 32 * 4
    assert llama["kv_bytes_per_token"]["mxfp4"] == 512 / 2 + 512 / 32
    assert (sliding["sliding_window"], llama["sliding_window"]) == (16, None)
    assert sliding["kv_bytes_per_token"]["16-bit"] == 512
    assert rows["deepseek_v3"]["latent_attention"] is True


def test_one_model_for_people(mine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stub = stub_folder(mine / "made", PLAIN["llama"])
    (stub / "README.md").write_text("---\nlicense: mit\n---\n")
    repository(tmp_path / "hub", "org/tiny", stub, OLD, "v1")
    repository(tmp_path / "hub", "org/tiny", stub, NEW, "main")
    text = said(capsys, "show", "org/tiny@v1")
    lines = {line[:16].strip(): line[16:] for line in text.splitlines()}
    assert lines["layers"] == "4"
    assert lines["heads"] == "4, 2 of K and V"
    assert (lines["licence"], lines["revision"]) == ("mit", OLD[:12])
    assert lines["4-bit"].split() == ["320", "B"]
    assert text.startswith("org/tiny@v1\nhub cache, ")


def test_one_model_that_cannot_be_measured(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub_folder(mine / "org" / "eighty", PLAIN["llama"] | {"head_dim": 80})
    (stub_folder(mine / "org" / "bare", PLAIN["llama"]) / "model.safetensors").unlink()
    text = said(capsys, "show", "org/eighty")
    assert "cannot be measured: its head size of 80" in " ".join(text.split())
    assert "architecture    llama" in text
    text = said(capsys, "show", "org/bare")
    assert "cannot be measured: bare has a configuration but no weights" in " ".join(text.split())
    assert main(["models", "show", "org/nowhere"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "`mqf-tui models download org/nowhere`" in err


def test_nothing_from_outside_drives_the_terminal(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stub_folder(mine / "odd", PLAIN["llama"])
    (folder / "README.md").write_text(f"---\nlicense: a{HOSTILE}b\n---\n")
    makers.rewrite_config(folder, quantization={"bits": 4, "group_size": 64, "mode": HOSTILE})
    for words in ([], ["show", "odd"]):
        text = said(capsys, *words)
        assert not [c for c in text if c not in "\n" and not c.isprintable()]
    made: Any = LocalModel(f"n{HOSTILE}", "folder", None, f"p{HOSTILE}", Path(f"/tmp/{HOSTILE}"))
    monkeypatch.setattr("mqf_tui.library.models.model_named", lambda name: made)
    text = said(capsys, "show", "n")
    assert not [c for c in text if c not in "\n" and not c.isprintable()]
