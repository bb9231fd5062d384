"""Broken and odd model folders, in the list and when chosen: a sentence each, in bounds, and nothing runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import (
    BrokenWeightsError,
    FidelityError,
    ModelNotFoundError,
    UntrustedCodeError,
)
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.loading import load_model, load_tokenizer
from mqf_tui.library.models import describe_folder, local_models
from tests import makers, zoo
from tests.zoo import ANIMALS, GOOD, folder_of
from tests.zoo_parts import ABSENT, CONFIG, MEASURED, Animal, code, configured, ran, tokenizer_code

CPU = Device("a CPU", True, None, 10**12)
MOST = 300 * 2**20  # bytes by which a process may grow over what a good model takes

# Each in a process of its own, which is asked for its peak; a folder that hangs it ends it, by name.
LISTING = """
import contextlib, json, os, resource, signal, sys
from mqf_tui.library.models import local_models

def peak():
    # Linux counts into ru_maxrss what the process had that started this one.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

signal.alarm(120)
home, good = sys.argv[1:]
os.environ["MQF_TUI_MODELS"] = good
assert any(model.facts for model in local_models())
before = peak()
os.environ["MQF_TUI_MODELS"] = home
found = {str(model.folder): (model.facts is not None, model.problem) for model in local_models()}
print(json.dumps([found, peak() - before]))
"""
CHOOSING = """
import contextlib, io, json, resource, signal, sys
from mqf_tui.fidelity import device

device.prepare()
from mqf_tui.cli import main

def peak():
    # Linux counts into ru_maxrss what the process had that started this one.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

notes, *folders = sys.argv[1:]
more = "--kv-bits 2 --no-save --chunk-length 64 --max-chunks 1 --format json --corpus".split()
for folder in folders:
    out, err, before = io.StringIO(), io.StringIO(), peak()
    print(json.dumps(folder), end=" ", flush=True)
    signal.alarm(60)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["kv", folder, *more, notes])
        except SystemExit as left:
            code = left.code
    signal.alarm(0)
    kl = json.loads(out.getvalue())["kl"]["mean"] if code == 0 else None
    printed = out.getvalue() if kl is None else ""
    print(json.dumps([code, kl, printed, err.getvalue(), peak() - before]), flush=True)
"""


def process(program: str, *arguments: str, home: Path) -> str:
    made = {f"MQF_TUI_{what}_DIR": str(home / what.lower()) for what in ("DATA", "CONFIG", "CACHE", "STATE")}
    environment = makers.environment(HF_HUB_CACHE=str(home / "hub"), HF_HUB_OFFLINE="1", **made)
    argv = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build(tmp_path_factory.mktemp("zoo") / "models")


@pytest.fixture(scope="module")
def listed(home: Path) -> dict[str, Any]:
    """What the list says, by folder."""
    words = process(LISTING, str(home), str(home / GOOD), home=home.parent / "listing")
    found, grown = json.loads(words)
    assert grown < MOST
    return found


@pytest.fixture(scope="module")
def chosen(home: Path) -> dict[str, Any]:
    """Exit code, mean KL, what was printed and said, and bytes by which the peak grew, by folder."""
    notes = makers.text_file(home.parent / "notes.txt")
    folders = [str(home / GOOD), *(str(folder_of(home, name)) for name in ANIMALS)]
    out = process(CHOOSING, str(notes), *folders, home=home.parent / "choosing")
    read, found, at = json.JSONDecoder().raw_decode, {}, 0
    while at < len(out):
        folder, at = read(out, at)
        result, at = read(out, at + 1)
        found[folder], at = result, at + 1
    return found


def animal(name: str) -> Animal:
    if name == "no permission" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    return ANIMALS[name]


def one_sentence(said: str) -> bool:
    return said.isprintable() and re.fullmatch(r"\S.*\S\.", said) is not None and len(said) < 700


def test_the_zoo_is_large_enough() -> None:
    assert len(ANIMALS) >= 45
    assert len({folder_of(Path(), name) for name in ANIMALS}) == len(ANIMALS)


@pytest.mark.parametrize("name", ANIMALS)
def test_in_the_list(name: str, home: Path, listed: dict[str, Any]) -> None:
    expected, folder = animal(name).listed, str(folder_of(home, name))
    if expected == ABSENT:
        assert folder not in listed
        return
    has_facts, problem = listed[folder]
    if expected is None:
        assert (has_facts, problem) == (True, None)
    else:
        assert problem is not None
        assert one_sentence(problem), problem
        assert re.search(expected, problem), problem


@pytest.mark.parametrize("name", ANIMALS)
def test_when_chosen(name: str, home: Path, chosen: dict[str, Any]) -> None:
    expected, folder = animal(name), folder_of(home, name)
    code_, kl, out, err, grown = chosen[str(folder)]
    assert grown < MOST
    assert code_ == expected.code, err
    assert out == ""
    if expected.chosen == MEASURED:
        assert kl > 0
        assert (kl == chosen[str(home / GOOD)][1]) == expected.same
    else:
        line, rest = err.split("\n", 1)
        assert rest == "", err
        assert one_sentence(line), err
        assert "unexpected" not in line
        assert re.search(expected.chosen, line), err


def test_no_code_of_any_ran(home: Path, listed: dict[str, Any], chosen: dict[str, Any]) -> None:
    assert len(chosen) == len(ANIMALS) + 1
    assert listed
    carriers = [name for name in ANIMALS if list(folder_of(home, name).rglob("*.py"))]
    assert len(carriers) >= 6
    assert not [path for path in home.glob("*/it-ran")]


def good(home: Path, to: Path) -> Path:
    return Path(shutil.copytree(home / GOOD, to))


def trusted_run(folder: Path, home: Path, *more: str) -> int:
    words = ["kv", str(folder), "--kv-bits", "2", "--no-save", "--chunk-length", "64", "--max-chunks", "1"]
    return main([*words, "--corpus", str(makers.text_file(home / "notes.txt")), *more])


@pytest.mark.parametrize("name", ["model file", "tokenizer code", "tokenizer code, old form"])
def test_code_runs_where_it_is_trusted_and_only_there(
    name: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers copies a model's code to where it keeps such modules.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = good(home, tmp_path / "own")
    ANIMALS[name].make(folder)
    assert describe_folder(str(folder)).problem is not None
    assert trusted_run(folder, tmp_path) == 2
    assert not ran(folder).exists()
    assert trusted_run(folder, tmp_path, "--trust-remote-code") == 0, capfd.readouterr().err
    assert ran(folder).exists()


def test_a_pickle_is_one(home: Path, tmp_path: Path) -> None:
    """What lies in the zoo would do harm: else that it did not would show nothing."""
    import pickle

    folder = good(home, tmp_path / "bomb")
    ANIMALS["pickle beside"].make(folder)
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert ran(folder).exists()


def test_a_dangerous_template_is_kept_in_its_sandbox(home: Path, tmp_path: Path) -> None:
    folder = good(home, tmp_path / "template")
    ANIMALS["template with attributes"].make(folder)
    tokenizer = load_tokenizer(read_facts(folder))
    with pytest.raises(Exception, match=r"unsafe|not safely"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    ANIMALS["template without end"].make(folder)
    tokenizer = load_tokenizer(read_facts(folder))
    with pytest.raises(OverflowError, match="Range too big"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_all_code_is_named(home: Path, tmp_path: Path) -> None:
    folder = good(home, tmp_path / "own")
    configured(model_file="main.py", auto_map={"AutoConfig": "configuration_x.C"})(folder)
    tokenizer_code()(folder)
    (folder / "parts").mkdir()
    files = ("configuration_x.py", "main.py", "tokenization_own.py")
    others = (*(f"more{n:02}.py" for n in range(20)), "parts/deep.py")
    for file in (*files, *others):
        code(file)(folder)
    with pytest.raises(UntrustedCodeError) as caught:
        read_facts(folder)
    assert caught.value.files == files + others
    said = str(caught.value)
    assert all(file in said for file in files)
    assert "and 12 more" in said
    assert one_sentence(said)
    read_facts(folder, trust_remote_code=True)


def test_code_that_came_after_the_look_does_not_run(home: Path, tmp_path: Path) -> None:
    folder = good(home, tmp_path / "late")
    facts = read_facts(folder)
    tokenizer_code()(folder)
    load_tokenizer(facts)
    configured(model_file="own.py")(folder)
    code("own.py")(folder)
    with pytest.raises(BrokenWeightsError, match=r"config\.json of late was changed after it was looked at"):
        list(load_model(facts, CPU))
    assert not ran(folder).exists()


def test_a_configuration_that_changes_after_the_listing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    folder = good(home, models / "changing")
    monkeypatch.setenv("MQF_TUI_MODELS", str(models))

    def heads() -> Any:
        (found,) = (model for model in local_models() if model.folder == folder)
        return found.facts.head_dim if found.facts else found.problem

    assert heads() == 64
    makers.rewrite_config(folder, head_dim=80)
    assert "head size of 80" in next(m.problem or "" for m in local_models() if m.folder == folder)
    (folder / CONFIG).write_text("{")
    assert "not valid JSON" in heads()


def test_a_folder_that_goes_while_it_is_listed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mqf_tui.fidelity.model import facts, headers

    models = tmp_path / "models"
    folder = good(home, models / "going")
    monkeypatch.setenv("MQF_TUI_MODELS", str(models))
    read = headers.read_config

    def last_sight(path: Path) -> dict[str, Any]:
        found = read(path)
        shutil.rmtree(path, ignore_errors=path == folder)
        return found

    monkeypatch.setattr(facts, "read_config", lambda path: last_sight(path) if path == folder else read(path))
    (found,) = (model for model in local_models() if model.folder == folder)
    assert found.problem is not None
    assert one_sentence(found.problem) or found.problem.endswith("check its permissions.")
    with pytest.raises(ModelNotFoundError):
        read_facts(folder)


def test_whatever_the_headers_let_through_mlx_reads_alike(home: Path, tmp_path: Path) -> None:
    """Mangled headers: what is accepted here has the shapes that MLX finds, and no other."""
    import mlx.core as mx
    import numpy as np

    from mqf_tui.fidelity.model.headers import read_header

    whole = (home / GOOD / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    rng, path, accepted = np.random.default_rng(4), tmp_path / "model.safetensors", 0
    for _ in range(300):
        hurt = bytearray(whole)
        for place in rng.integers(8, 8 + length, 2):
            hurt[place] = rng.choice(np.frombuffer(b'0123456789[]{},":-.eFUI \\', np.uint8))
        path.write_bytes(hurt)
        try:
            mine = {t.name: t.shape for t in read_header(path)}
        except FidelityError:
            continue
        accepted += 1
        theirs: Any = mx.load(str(path))
        assert mine == {name: tuple(array.shape) for name, array in theirs.items()}
    assert 5 < accepted < 290
