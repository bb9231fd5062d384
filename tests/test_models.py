"""Models on this machine: found by path and by name, and described without loading them."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui.fidelity.errors import FidelityError, ModelNotFoundError
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.library.models import LocalModel, describe_folder, find_model, local_models
from tests import makers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of this test's own."""
    home = tmp_path / "hub"
    home.mkdir()
    # The constant is read when huggingface_hub is imported, so the variable alone would come too late.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    return home


def refused(name: str) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    return str(caught.value)


def test_the_demo_is_found() -> None:
    from mqf_tui import demo

    (package,) = demo.__path__
    assert find_model("demo") == Path(package) / "model"


def test_a_folder_is_found(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(str(tiny)) == tiny
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert find_model("~/tiny-llama") == tiny
    monkeypatch.chdir(tiny.parent)
    assert find_model("tiny-llama") == find_model("./tiny-llama/") == tiny
    monkeypatch.chdir(tiny)
    assert find_model(".") == tiny
    assert read_facts(find_model(".")).name == "tiny-llama"


def test_what_is_not_there(hub: Path, tmp_path: Path) -> None:
    assert "is a file; name the model's folder" in refused(str(makers.text_file(tmp_path / "a.safetensors")))
    assert refused("/no/such/folder").startswith("there is no folder /no/such/folder;")
    assert refused("./nowhere").startswith("there is no folder ./nowhere;")
    assert refused("~no-such-user/x").startswith("there is no folder ~no-such-user/x;")
    assert "`mqf-tui models download org/unknown-model`" in refused("org/unknown-model")
    assert "download" not in refused("unknown-model")
    assert "there is no model ''" in refused("")
    assert "there is no model 'a\\x00b'" in refused("a\0b")
    assert "cannot be read (File name too long)" in refused("x" * 5000)


def test_a_typo_gets_the_nearest_name(hub: Path, tiny: Path) -> None:
    makers.hub_cache(hub, {"mlx-community/Tiny-Llama-4bit": tiny, "other/thing": tiny})
    said = refused("mlx-comunity/Tiny-Lama-4bit")
    assert "did you mean mlx-community/Tiny-Llama-4bit, or" in said
    assert "`mqf-tui models download mlx-comunity/Tiny-Lama-4bit`" in said
    assert refused("dmeo").endswith("did you mean demo?")


def test_models_of_the_hub_cache(hub: Path, tiny: Path) -> None:
    makers.hub_cache(hub, {"org/tiny": tiny, "plain": tiny})
    (hub / "datasets--org--text" / "snapshots").mkdir(parents=True)
    (hub / "models--org--empty" / "snapshots").mkdir(parents=True)
    (hub / "version.txt").write_text("1")
    folder = find_model("org/tiny")
    assert folder.parent.parent == hub / "models--org--tiny"
    assert (folder / "model.safetensors").is_symlink()
    listed = {model.name: model for model in local_models()}
    assert set(listed) == {"demo", "org/tiny", "plain"}
    assert listed["org/tiny"].source == "hub cache"
    assert listed["org/tiny"].problem is None
    facts = listed["org/tiny"].facts
    assert facts is not None
    assert (facts.name, facts.architecture, facts.weights) == ("org/tiny", "llama", "float32")
    assert (facts.head_dim, facts.n_layers, facts.n_heads, facts.n_kv_heads) == (64, 2, 2, 1)
    assert (facts.vocab_size, facts.context, facts.valid_groups) == (300, 1024, (32, 64))


def test_the_main_revision_wins(hub: Path, tiny: Path) -> None:
    makers.hub_cache(hub, {"org/tiny": tiny})
    main = find_model("org/tiny")
    newer = main.parent / ("f" * 40)
    shutil.copytree(tiny, newer)
    makers.rewrite_config(newer, max_position_embeddings=77)
    assert find_model("org/tiny") == main
    (hub / "models--org--tiny" / "refs" / "main").write_text(newer.name)
    assert find_model("org/tiny") == newer


def test_no_hub_cache_at_all(hub: Path) -> None:
    hub.rmdir()
    assert [model.name for model in local_models()] == ["demo"]
    hub.touch()
    assert [model.name for model in local_models()] == ["demo"]


def test_broken_models_are_listed_with_their_problem(hub: Path, tiny: Path) -> None:
    makers.hub_cache(hub, {f"org/{name}": tiny for name in ("cut", "deep", "half", "none", "ok")})

    def change(name: str, file: str, content: bytes | None) -> None:
        path = find_model(f"org/{name}") / file
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    weights = (tiny / "model.safetensors").read_bytes()
    change("cut", "model.safetensors", weights[:-100])
    change("deep", "config.json", b"[" * 100_000)
    change("half", "model.safetensors", None)
    change("none", "tokenizer.json", None)
    problems = {model.name: model.problem for model in local_models()}
    assert problems["org/ok"] is None
    assert "truncated or damaged" in (problems["org/cut"] or "")
    assert "not valid JSON" in (problems["org/deep"] or "")
    begin, end = (
        "the download of org/{} is incomplete, with the ",
        "`mqf-tui models download org/{}` goes on.",
    )
    for name, lacks in {"half": "weights", "none": "tokenizer"}.items():
        said = problems[f"org/{name}"] or ""
        assert said.startswith(f"{begin.format(name)}{lacks} missing")
        assert said.endswith(f"; {end.format(name)}")
        assert (" here; " in said) == (name == "none")
    for problem in problems.values():
        assert problem is None or (problem.endswith(".") and len(problem.splitlines()) == 1)


VALUES: list[dict[str, Any]] = [
    {"max_position_embeddings": "long"},
    {"max_position_embeddings": -1},
    {"hidden_size": 1e999, "head_dim": None},
    {"num_attention_heads": [["many"]]},
    {"num_hidden_layers": 2.5},
    {"num_key_value_heads": True},
    {"vocab_size": {}},
    {"head_dim": 48},
    {"head_dim": 0},
    {"model_type": ["llama"]},
    {"model_type": "../utils"},
    {"model_type": None},
    {"text_config": {"model_type": "llama", "head_dim": "x"}},
]


@pytest.mark.parametrize("changes", VALUES, ids=str)
def test_an_impossible_configuration_is_a_problem(changes: dict[str, Any], copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps(makers.config(**changes)))
    described = describe_folder(str(copy))
    problem = described.problem
    assert problem is not None
    assert problem.endswith(".")
    assert len(problem.splitlines()) == 1


def header(content: Any, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes


HEADERS: list[bytes] = [
    b"",
    b"\0" * 4,
    b"\xff" * 64,
    header([]),
    header(None),
    header({"a": 5}),
    header(b"["),
    header(b"[" * 100_000),
    header({"a": tensor(dtype=[])}),
    header({"a": tensor(shape=None)}, b"1234"),
    header({"a": tensor(shape=[1e999])}, b"1234"),
    header({"a": tensor(data_offsets=[0, 9])}, b"1234"),
    header({"a": tensor(data_offsets=[])}, b"1234"),
    header({"x.weight": tensor(dtype="U32", shape=[]), "x.scales": tensor(shape=[])}, b"1234"),
    header({"x.weight": tensor(dtype="U32", shape=[1, 0]), "x.scales": tensor(shape=[1, 0])}, b"1234"),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
]


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_an_impossible_header_is_a_problem(number: int, copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(HEADERS[number])
    problem = describe_folder(str(copy)).problem
    assert problem is not None
    assert problem.endswith(".")
    assert len(problem.splitlines()) == 1


def test_any_mangled_file_is_facts_or_a_problem(copy: Path) -> None:
    """No byte in a folder from elsewhere may end the list of models."""
    rng = np.random.default_rng(8)
    for name in ("config.json", "model.safetensors"):
        path = copy / name
        whole = path.read_bytes()
        for _ in range(60):
            hurt = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 1500), 3):
                hurt[place] = rng.integers(0, 256)
            path.write_bytes(hurt)
            with contextlib.suppress(FidelityError):
                read_facts(copy)
        path.write_bytes(whole)


def test_describe_never_raises(hub: Path, tiny: Path, tmp_path: Path) -> None:
    good = describe_folder(str(tiny))
    assert isinstance(good, LocalModel)
    assert (good.name, good.source, good.problem) == (str(tiny), "folder", None)
    (tmp_path / "empty").mkdir()
    assert "is empty" in (describe_folder(str(tmp_path / "empty")).problem or "")
    assert "there is no model" in (describe_folder("nothing-like-it").problem or "")


def test_a_name_with_undecodable_bytes(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd\udcffname"
    try:
        shutil.copytree(tiny, folder)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert read_facts(folder).name == "odd?name"
