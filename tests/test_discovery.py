"""Finding models: the hub's cache with its revisions, LM Studio, links, downloads that are not whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir

from mqf_tui.api import facts_of
from mqf_tui.fidelity.errors import BrokenWeightsError, FidelityError, ModelNotFoundError
from mqf_tui.fidelity.model import headers
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.model_places import FOLDER, HUB, LM_STUDIO, places
from mqf_tui.library.models import LocalModel, find_model, fully_described, local_models, model_named
from tests import makers
from tests.conftest import ROOT
from tests.tiny_configs import PLAIN, stub_folder

OLD, OTHER, NEW = "a1b2c3d" + "0" * 33, "a1b2c3e" + "1" * 33, "f" * 40


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What looks like a model; nothing here loads it."""
    return stub_folder(tmp_path_factory.mktemp("stubs") / "stub", PLAIN["llama"])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "hub"
    home.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    return home


@pytest.fixture
def lm_studio(tmp_path: Path) -> Path:
    """The home in which LM Studio leaves word of itself; see conftest."""
    home = tmp_path / "user-home"
    home.mkdir()
    return home


def repository(hub: Path, name: str, source: Path, commit: str = NEW, *refs: str) -> Path:
    """A snapshot of links to blobs, and refs to it; the snapshot's folder."""
    repo = hub / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir(exist_ok=True)
    for file in source.iterdir():
        blob = repo / "blobs" / f"{commit}{file.name}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    for ref in refs:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return snapshot


def listed() -> dict[str, LocalModel]:
    return {model.name: model for model in local_models() if model.name != "demo"}


def refused(name: str) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


WHERE = (
    {},
    {"HF_HOME": "/tmp/x"},
    {"HF_HOME": "~/y", "HF_HUB_CACHE": "$HOME/z"},
    {"HUGGINGFACE_HUB_CACHE": "/tmp/older"},
    {"XDG_CACHE_HOME": "/tmp/xdg"},
    {"HF_HUB_CACHE": "relative/place", "HF_HOME": "/tmp/x"},
)


def test_the_cache_is_where_huggingface_hub_has_it() -> None:
    """It is worked out without the import, so it is held against the import in a fresh process each."""
    code = (
        "from mqf_tui.library.hub.cache import hub_cache; import sys; ours = hub_cache()\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "from huggingface_hub.constants import HF_HUB_CACHE; print(str(ours) == HF_HUB_CACHE)"
    )
    names = {name for case in WHERE for name in case}
    bare = {name: value for name, value in makers.environment().items() if name not in names}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=bare | case, stdout=subprocess.PIPE, cwd=ROOT)
        for case in WHERE
    ]
    assert [process.communicate()[0] for process in running] == [b"True\n"] * len(WHERE)


def test_what_is_in_the_cache_is_what_huggingface_hub_finds(hub: Path, stub: Path) -> None:
    repository(hub, "org/one", stub, NEW, "main")
    repository(hub, "org/two-parts", stub, OLD, "main", "v1")
    repository(hub, "org/two-parts", stub, NEW)
    repository(hub, "plain", stub, OTHER, "main")
    (hub / "datasets--org--text" / "snapshots").mkdir(parents=True)
    (hub / ".locks" / "models--org--one").mkdir(parents=True)
    found = {place.folder for place in places() if place.source == HUB}
    cached = scan_cache_dir(hub)
    assert found == {rev.snapshot_path for r in cached.repos if r.repo_type == "model" for rev in r.revisions}
    names = {place.name.partition("@")[0] for place in places() if place.source == HUB}
    assert names == {r.repo_id for r in cached.repos if r.repo_type == "model"}


def test_each_revision_can_be_chosen(hub: Path, stub: Path) -> None:
    old = repository(hub, "org/tiny", stub, OLD, "v1")
    other = repository(hub, "org/tiny", stub, OTHER, "refs/pr/3")
    new = repository(hub, "org/tiny", stub, NEW, "main", "v2")
    loose = repository(hub, "org/tiny", stub, "0123456" + "9" * 33)
    assert set(listed()) == {"org/tiny", "org/tiny@v1", "org/tiny@refs/pr/3", "org/tiny@0123456"}
    for name, folder in {
        "org/tiny": new, "org/tiny@main": new, "org/tiny@v2": new, f"org/tiny@{NEW}": new,
        "org/tiny@ffff": new, "org/tiny@v1": old, "org/tiny@a1b2c3d": old, "org/tiny@A1B2C3D0": old,
        "org/tiny@refs/pr/3": other, "org/tiny@0123456": loose,
    }.items():  # fmt: skip
        assert find_model(name) == folder, name
    for model in local_models():
        assert model.name == "demo" or find_model(model.name) == model.folder
    facts = facts_of(KVSettings("org/tiny@v1"))
    assert (facts.name, facts.revision) == ("org/tiny@v1", OLD)
    assert listed()["org/tiny@v1"].word == "org/tiny@v1"


def test_revisions_that_are_not_there(hub: Path, stub: Path) -> None:
    repository(hub, "org/tiny", stub, OLD, "v1")
    repository(hub, "org/tiny", stub, OTHER)
    (hub / "models--org--tiny" / "refs" / "gone").write_text("e" * 40)
    said = refused("org/tiny@v9")
    assert "org/tiny has no revision 'v9' on this machine, only v1, a1b2c3e" in said
    assert "`mqf-tui models download org/tiny@v9`" in said
    assert "several revisions" in refused("org/tiny@a1b2")
    assert f"({OLD[:12]} and {OTHER[:12]})" in refused("org/tiny@a1b2c3")
    for rev in ("gone", "a1b", "", "..", "../../x", "v1/..", "*", "\x1b[1m"):
        assert "has no revision" in refused(f"org/tiny@{rev}"), rev
    assert "there is no model" in refused("org/other@v1")
    assert "`mqf-tui models download org/other@feature/x`" in refused("org/other@feature/x")


def test_without_main_the_newest_has_the_name(hub: Path, stub: Path) -> None:
    first, second = repository(hub, "org/tiny", stub, NEW), repository(hub, "org/tiny", stub, OLD)
    os.utime(first, (10**9, 10**9))
    assert (find_model("org/tiny"), set(listed())) == (second, {"org/tiny", "org/tiny@fffffff"})
    os.utime(first, (10**10, 10**10))
    assert find_model("org/tiny") == first


SHARDS = tuple(f"model-0000{k}-of-00004.safetensors" for k in range(1, 5))


def sharded(folder: Path, stub: Path) -> Path:
    """A model of four files with an index, each the stub's weights."""
    shutil.copytree(stub, folder)
    (folder / "model.safetensors").rename(folder / SHARDS[0])
    for shard in SHARDS[1:]:
        shutil.copy(folder / SHARDS[0], folder / shard)
    index = {"weight_map": {f"t{k}": shard for k, shard in enumerate(SHARDS)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def problem_of(name: str) -> str:
    model = listed()[name]
    assert model.incomplete
    assert model.facts is None
    assert model.problem is not None
    assert model.problem.endswith(".")
    if model.source == HUB:
        with pytest.raises(BrokenWeightsError) as caught:
            find_model(name)
        assert str(caught.value) == model.problem
    assert model_named(name).problem == model.problem
    return model.problem


def test_missing_shards_of_the_hub(hub: Path, stub: Path, tmp_path: Path) -> None:
    snapshot = repository(hub, "org/big", sharded(tmp_path / "whole", stub), NEW, "main")
    each = (snapshot / SHARDS[0]).stat().st_size
    (snapshot / SHARDS[2]).unlink()  # not begun
    (snapshot / SHARDS[3]).resolve().unlink()  # its blob was thrown away
    (snapshot.parents[1] / "blobs" / "abc.12345678.incomplete").write_bytes(b"x" * 30_000_000)
    said = problem_of("org/big")
    assert f"2 of 4 weight files ({SHARDS[2]}, {SHARDS[3]}) missing" in said
    assert f"and {(2 * each + 30_000_000) / 1e6:.1f} MB here" in said
    assert said.endswith("`mqf-tui models download org/big` goes on.")


def test_a_download_that_has_just_begun(hub: Path, stub: Path) -> None:
    blobs = hub / "models--org--early" / "blobs"
    blobs.mkdir(parents=True)
    assert not listed()
    (blobs / "abc.incomplete").write_bytes(b"x" * 2_000_000)
    said = problem_of("org/early")
    assert "the weights, config.json and the tokenizer missing and 2.0 MB here" in said
    # Other kinds of repositories are none of ours.
    repository(hub, "org/picture", stub, NEW, "main").joinpath("config.json").unlink()
    assert "org/picture" not in listed()


def test_an_older_revision_stays_whole_while_the_newest_is_fetched(hub: Path, stub: Path) -> None:
    repository(hub, "org/tiny", stub, OLD)
    (repository(hub, "org/tiny", stub, NEW, "main") / "model.safetensors").unlink()
    assert "the weights missing" in problem_of("org/tiny")
    assert listed()["org/tiny@a1b2c3d"].problem is None


def test_other_faults_are_no_incomplete_downloads(hub: Path, stub: Path, tmp_path: Path) -> None:
    def snapshot(name: str) -> Path:
        return repository(hub, name, stub, NEW, "main")

    cut = snapshot("org/cut") / "model.safetensors"
    raw = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(raw[:-9])
    pickled = snapshot("org/pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    away = sharded(tmp_path / "away", stub)
    (away / "model.safetensors.index.json").write_text('{"weight_map": {"t": "../../x.safetensors"}}')
    repository(hub, "org/away", away, NEW, "main")
    for name, words in {"cut": "damaged", "pickled": "pickle", "away": "outside its folder"}.items():
        model = listed()[f"org/{name}"]
        assert words in (model.problem or "")
        assert not model.incomplete


def test_lm_studio_and_its_unfinished_files(lm_studio: Path, hub: Path, stub: Path) -> None:
    models = lm_studio / ".lmstudio" / "models"
    shutil.copytree(stub, models / "maker" / "whole-MLX")
    (models / "maker" / "other-GGUF").mkdir(parents=True)
    (models / "maker" / "other-GGUF" / "other.gguf").touch()
    part = shutil.copytree(stub, models / "maker" / "part-MLX")
    (part / "model.safetensors").rename(part / "downloading_model.safetensors.part")
    begun = models / "maker" / "begun-MLX"
    begun.mkdir()
    (begun / "model-00003-of-00004.safetensors.part").write_bytes(b"x" * 5000)
    older = lm_studio / ".cache" / "lm-studio" / "models"
    shutil.copytree(stub, older / "maker" / "older-MLX")
    found = listed()
    assert {model.source for model in found.values()} == {LM_STUDIO}
    assert set(found) == {f"maker/{name}-MLX" for name in ("whole", "part", "begun", "older")}
    assert found["maker/whole-MLX"].problem is None
    assert found["maker/whole-MLX"].word == str(models / "maker" / "whole-MLX")
    assert find_model("maker/older-MLX") == older / "maker" / "older-MLX"
    assert "the weights missing and 3" in problem_of("maker/part-MLX")
    assert "the weights, config.json and the tokenizer missing and 5.0 kB here" in problem_of(
        "maker/begun-MLX"
    )
    assert "go on in LM Studio, or let `mqf-tui models download maker/begun-MLX`" in problem_of(
        "maker/begun-MLX"
    )


@pytest.mark.parametrize("how", ["pointer", "settings", "both", "link"])
def test_lm_studio_somewhere_else(how: str, lm_studio: Path, hub: Path, stub: Path, tmp_path: Path) -> None:
    home, disk = tmp_path / "volume" / "lm", tmp_path / "disk"
    models = home / "models" if how in ("pointer", "link") else disk
    shutil.copytree(stub, models / "maker" / "far")
    home.mkdir(parents=True, exist_ok=True)
    if how == "link":
        (lm_studio / ".lmstudio").symlink_to(home)
        (lm_studio / ".lmstudio-home-pointer").write_text(str(home))
    else:
        own = home if how != "settings" else lm_studio / ".lmstudio"
        own.mkdir(exist_ok=True)
        (own / "settings.json").write_text(json.dumps({"downloadsFolder": str(models)}))
        if how != "settings":
            (lm_studio / ".lmstudio-home-pointer").write_text(f"{home}\n")
    assert {name: model.source for name, model in listed().items()} == {"maker/far": LM_STUDIO}
    assert find_model("maker/far").samefile(models / "maker" / "far")


@pytest.mark.parametrize("word", ["", "relative/home", "/no/such/home", "\0", "x" * 5000])
@pytest.mark.parametrize(
    "settings", ["", "[", "[1]", '{"downloadsFolder": 5}', '{"downloadsFolder": "a\\u0000"}']
)
def test_what_lm_studio_left_may_be_anything(word: str, settings: str, lm_studio: Path, hub: Path) -> None:
    (lm_studio / ".lmstudio-home-pointer").write_text(word)
    (lm_studio / ".lmstudio").mkdir()
    (lm_studio / ".lmstudio" / "settings.json").write_text(settings)
    (lm_studio / ".lmstudio" / "models").touch()
    assert listed() == {}


def test_a_name_in_several_places(
    lm_studio: Path, hub: Path, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = repository(hub, "org/tiny", stub, NEW, "main")
    shutil.copytree(stub, lm_studio / ".lmstudio" / "models" / "org" / "tiny")
    mine = Path(shutil.copytree(stub, tmp_path / "mine" / "org" / "tiny"))
    monkeypatch.setenv("MQF_TUI_MODELS", str(tmp_path / "mine"))
    found = [model for model in local_models() if model.name == "org/tiny"]
    assert [model.source for model in found] == [HUB, LM_STUDIO, FOLDER]
    assert [find_model(model.word) for model in found] == [model.folder for model in found]
    assert (find_model("org/tiny"), found[2].folder) == (cached, mine)


def test_links_are_followed_and_each_folder_comes_once(
    hub: Path, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    real = Path(shutil.copytree(stub, volume / "org" / "real"))
    mine = tmp_path / "mine"
    (mine / "org").mkdir(parents=True)
    (mine / "a-link").symlink_to(real)
    (mine / "org" / "another").symlink_to(mine / "a-link")
    (mine / "loop").symlink_to(mine)
    (mine / "self").symlink_to("self")
    (mine / "nowhere").symlink_to(tmp_path / "nowhere")
    moved = repository(volume, "org/moved", stub, NEW, "main").parents[1]
    (hub / "models--org--moved").symlink_to(moved)
    (hub / "models--org--self").symlink_to("models--org--self")
    monkeypatch.setenv("MQF_TUI_MODELS", f"{mine}{os.pathsep}{volume / 'org'}")
    assert set(listed()) == {"org/moved", "a-link"}
    assert find_model("org/moved").samefile(moved / "snapshots" / NEW)
    assert find_model("org/another").samefile(real)


def test_a_folder_of_models_may_be_a_hub_cache(
    hub: Path, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "volume" / "hub"
    other.mkdir(parents=True)
    snapshot = repository(other, "org/far", stub, NEW, "main")
    shutil.copytree(stub, other / "beside")
    monkeypatch.setenv("MQF_TUI_MODELS", str(tmp_path / "volume"))
    assert {name: model.source for name, model in listed().items()} == {"org/far": HUB, "hub/beside": FOLDER}
    assert find_model("org/far") == snapshot


def test_what_mlx_lm_converted_here(
    hub: Path, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(stub, tmp_path / "work" / "mlx_model")
    monkeypatch.chdir(tmp_path / "work")
    assert {name: model.source for name, model in listed().items()} == {"mlx_model": FOLDER}
    assert find_model("mlx_model") == tmp_path / "work" / "mlx_model"


def test_a_list_imports_no_library_that_takes_long(hub: Path, stub: Path) -> None:
    repository(hub, "org/tiny", stub, NEW, "main")
    code = (
        "import sys; from mqf_tui.library.models import local_models\n"
        "found = local_models(); print([m.name for m in found], [m.problem for m in found])\n"
        "print(sorted({'mlx', 'mlx.core', 'numpy', 'pydantic', 'huggingface_hub'} & set(sys.modules)))"
    )
    environment = makers.environment(HF_HUB_CACHE=str(hub), HOME=str(hub))
    for _ in range(2):  # without facts on disk, and with them
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert done.stdout.splitlines() == ["['demo', 'org/tiny'] [None, None]", "[]"]


def test_hashes_come_after_the_facts_and_are_kept(
    hub: Path, stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = repository(hub, "org/tiny", stub, NEW, "main")
    first = listed()["org/tiny"].facts
    assert first is not None
    assert first.content_hash == ""
    told = [model for model in fully_described(places()) if model.name == "org/tiny"]
    assert [model.facts and bool(model.facts.content_hash) for model in told] == [False, True]
    assert told[1].facts == read_facts(snapshot, "org/tiny")

    def never(path: Path) -> Any:
        raise AssertionError(path)

    monkeypatch.setattr(headers, "_samples", never)
    assert listed()["org/tiny"] == told[1]
    assert [model for model in fully_described(places()) if model.name == "org/tiny"] == [told[1]]


def test_each_revision_has_its_own_facts(hub: Path, stub: Path) -> None:
    repository(hub, "org/tiny", stub, NEW, "main")
    old = repository(hub, "org/tiny", stub, OLD)

    def contexts() -> list[int | None]:
        return [m.facts.context for _, m in sorted(listed().items()) if m.facts]

    assert contexts() == contexts() == [256, 256]
    # Behind the link, as a fetched file comes; the link itself stays.
    blob = (old / "config.json").resolve()
    blob.write_text(json.dumps(PLAIN["llama"] | {"max_position_embeddings": 77}))
    assert contexts() == contexts() == [256, 77]


def test_places_that_cannot_be_read(
    hub: Path, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir
    snapshot = repository(hub, "org/tiny", stub, NEW, "main")
    repository(hub, "org/open", stub, NEW, "main")

    def closed(path: Any = ".") -> Any:
        if str(path).startswith(str(snapshot.parents[1])):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert set(listed()) == {"org/open"}
    with pytest.raises(FidelityError, match=r"no model 'org/tiny'|did you mean"):
        find_model("org/tiny")
