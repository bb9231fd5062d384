"""Whatever is wrong with the input: one sentence, the right exit code, and never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import main
from tests import makers
from tests.conftest import ROOT

NOBODY = 65534


@dataclass
class Place:
    """A good model and a good text, and a folder of the test's own to spoil copies of them in."""

    tiny: Path
    notes: Path
    home: Path

    def kv(self, *more: str, model: str | Path | None = None, corpus: str | Path | None = None) -> list[str]:
        words = [
            "kv",
            str(model or self.tiny),
            "--kv-bits",
            "2",
            "--no-save",
            "--corpus",
            str(corpus or self.notes),
        ]
        return [*words, "--chunk-length", "64", "--max-chunks", "2", *more]

    def copy(self) -> Path:
        return Path(shutil.copytree(self.tiny, self.home / "copy"))

    def config(self, **changes: Any) -> Path:
        return makers.rewrite_config(self.copy(), **changes)

    def with_file(self, name: str, content: bytes) -> Path:
        """A copy of the model with one file replaced or added."""
        folder = self.copy()
        (folder / name).write_bytes(content)
        return folder

    def without(self, *names: str) -> Path:
        folder = self.copy()
        for name in names:
            (folder / name).unlink()
        return folder

    def file(self, name: str, content: bytes) -> Path:
        path = self.home / name
        path.write_bytes(content)
        return path

    def folder(self, name: str) -> Path:
        path = self.home / name
        path.mkdir()
        return path

    def runs(self, *names: str, content: str | None = None) -> None:
        for name in names:
            folder = Path(os.environ["MQF_TUI_DATA_DIR"]) / "runs" / name
            folder.mkdir(parents=True)
            (folder / "report.json").write_text(content or json.dumps(makers.report_data()))


def truncated(p: Place) -> list[str]:
    whole = (p.tiny / "model.safetensors").read_bytes()
    return p.kv(model=p.with_file("model.safetensors", whole[: len(whole) // 2]))


def gguf(p: Place) -> list[str]:
    folder = p.without("model.safetensors")
    (folder / "model-q4.gguf").write_bytes(b"GGUF\x03\0\0\0")
    return p.kv(model=folder)


def missing_shard(p: Place) -> list[str]:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    return p.kv(model=p.with_file("model.safetensors.index.json", json.dumps(index).encode()))


def escaping_shard(p: Place) -> list[str]:
    index = {"weight_map": {"a": "../../etc/passwd"}}
    return p.kv(model=p.with_file("model.safetensors.index.json", json.dumps(index).encode()))


def custom_code(p: Place) -> list[str]:
    folder = p.config(auto_map={"AutoModel": "modeling_own.Model"})
    (folder / "modeling_own.py").write_text("raise SystemExit('it ran')")
    return p.kv(model=folder)


def nan_weights(p: Place) -> list[str]:
    import mlx.core as mx

    folder = p.copy()
    arrays = dict(mx.load(str(folder / "model.safetensors")))
    arrays["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    return p.kv(model=folder)


def zero_drift(p: Place) -> list[str]:
    return p.kv(model=makers.model_folder(p.home / "blind", scale={"o_proj": 0.0}))


def too_large(p: Place) -> list[str]:
    """A terabyte of weights, none of it on the disk."""
    n = 10**12
    header = json.dumps({"big.weight": {"dtype": "F32", "shape": [n // 4], "data_offsets": [0, n]}}).encode()
    folder = p.with_file("model.safetensors", struct.pack("<Q", len(header)) + header)
    os.truncate(folder / "model.safetensors", 8 + len(header) + n)
    return p.kv(model=folder)


def foreign_tokenizer(p: Place) -> list[str]:
    text = (p.tiny / "tokenizer.json").read_text()
    data = json.loads(text)
    data["model"]["vocab"]["\u0120"] = 5000
    data["model"]["merges"] = []
    return p.kv(model=p.with_file("tokenizer.json", json.dumps(data).encode()))


def unknown_run(p: Place) -> list[str]:
    p.runs("20260101-a")
    return ["runs", "show", "20270101"]


def ambiguous_run(p: Place) -> list[str]:
    p.runs("20260101-a", "20260101-b")
    return ["runs", "show", "20260101"]


def damaged_run(p: Place) -> list[str]:
    p.runs("20260101-a", content="{")
    return ["runs", "show", "20260101-a"]


def data_file(p: Place) -> list[str]:
    Path(os.environ["MQF_TUI_DATA_DIR"]).touch()
    return ["runs", "list"]


CASES: dict[str, tuple[Callable[[Place], list[str]], int, str]] = {
    "no such folder": (
        lambda p: p.kv(model="/no/such/folder"),
        2,
        "there is no folder /no/such/folder; check",
    ),
    "no such name": (lambda p: p.kv(model="org/nothing-here"), 2, "`hf download org/nothing-here`"),
    "a typo": (lambda p: p.kv(model="demoo"), 2, r"did you mean demo\?"),
    "hostile name": (lambda p: p.kv(model="\x1b[2J\nevil\x07"), 2, "there is no model"),
    "unknown user": (
        lambda p: p.kv(model="~no-such-user/model"),
        2,
        "there is no folder ~no-such-user/model",
    ),
    "name too long": (lambda p: p.kv(model="m" * 5000), 2, "File name too long"),
    "empty name": (lambda p: ["kv", ""], 2, "there is no model ''"),
    "empty folder": (lambda p: p.kv(model=p.folder("empty")), 2, "empty is empty, so it is no model folder"),
    "no config": (lambda p: p.kv(model=p.without("config.json")), 2, "copy has no config.json"),
    "no weights": (
        lambda p: p.kv(model=p.without("model.safetensors")),
        2,
        "no weights; finish the download",
    ),
    "no tokenizer": (lambda p: p.kv(model=p.without("tokenizer.json")), 2, "has no tokenizer"),
    "a file for a folder": (lambda p: p.kv(model=p.tiny / "model.safetensors"), 2, "name the model's folder"),
    "truncated weights": (truncated, 2, "model.safetensors is truncated or damaged"),
    "garbage weights": (
        lambda p: p.kv(model=p.with_file("model.safetensors", os.urandom(999))),
        2,
        "truncated or damaged",
    ),
    "LFS pointer": (
        lambda p: p.kv(
            model=p.with_file("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n")
        ),
        2,
        "git lfs pull",
    ),
    "missing shard": (missing_shard, 2, "model-00002-of-00002.safetensors is missing"),
    "escaping shard": (escaping_shard, 2, "points outside its folder"),
    "GGUF": (gguf, 2, "GGUF weights; only MLX's safetensors"),
    "NaN weights": (nan_weights, 1, r"not-a-number values \(in .*up_proj.weight\)"),
    "zero drift": (zero_drift, 1, "exactly zero over 126 positions, so the quantization never engaged"),
    "too large": (too_large, 3, "close other programs or take a smaller model"),
    "config is no JSON": (lambda p: p.kv(model=p.with_file("config.json", b"{")), 2, "is not valid JSON"),
    "config is a list": (lambda p: p.kv(model=p.with_file("config.json", b"[]")), 2, "is not an object"),
    "config is not text": (
        lambda p: p.kv(model=p.with_file("config.json", b"\xff\xfe{")),
        2,
        "not valid JSON",
    ),
    "config is too deep": (
        lambda p: p.kv(model=p.with_file("config.json", b"[" * 99999)),
        2,
        "not valid JSON",
    ),
    "impossible value": (lambda p: p.kv(model=p.config(max_position_embeddings="x")), 2, "impossible value"),
    "unknown architecture": (
        lambda p: p.kv(model=p.config(model_type="quantum_llama")),
        2,
        "does not know the architecture 'quantum_llama'; upgrade mlx-lm",
    ),
    "no architecture": (lambda p: p.kv(model=p.config(model_type="")), 2, "names no model_type"),
    "sliding window": (lambda p: p.kv(model=p.config(model_type="gemma3_text")), 2, "cannot quantize"),
    "no KV cache": (lambda p: p.kv(model=p.config(model_type="mamba")), 2, "choose|cannot quantize"),
    "head of 48": (lambda p: p.kv(model=p.config(head_dim=48)), 2, "head size of 48 is not divisible"),
    "weights of another shape": (
        lambda p: p.kv(model=p.config(num_hidden_layers=3)),
        2,
        "do not fit its configuration",
    ),
    "custom code": (custom_code, 2, r"own Python code \(modeling_own.py\).*--trust-remote-code"),
    "custom model file": (lambda p: p.kv(model=p.config(model_file="own.py")), 2, "--trust-remote-code"),
    "broken tokenizer": (
        lambda p: p.kv(model=p.with_file("tokenizer.json", b"{")),
        2,
        "the tokenizer of copy cannot be loaded",
    ),
    "foreign tokenizer": (foreign_tokenizer, 2, "gives token 5000, but the model knows only 300"),
    "7 bits": (lambda p: p.kv("--kv-bits", "7"), 2, "choose one of 2, 3, 4, 5, 6 or 8"),
    "negative bits": (lambda p: p.kv("--kv-bits", "-4"), 2, "-4 bits do not exist"),
    "bits as text": (lambda p: p.kv("--kv-bits", "four"), 2, "invalid int value: 'four'"),
    "group of 48": (lambda p: p.kv("--kv-group-size", "48"), 2, "choose one of 32, 64 or 128"),
    "group beyond the head": (
        lambda p: p.kv("--kv-group-size", "128"),
        2,
        "does not divide the head size of 64 of this model; use --kv-group-size 32 or 64",
    ),
    "chunk length 1": (lambda p: p.kv("--chunk-length", "1"), 2, "use at least 16"),
    "negative chunk length": (lambda p: p.kv("--chunk-length", "-64"), 2, "use at least 16"),
    "longer than the context": (lambda p: p.kv("--chunk-length", "1025"), 2, "--chunk-length 1024 or less"),
    "no chunks": (lambda p: p.kv("--max-chunks", "0"), 2, "max chunks is 0; use 1 or more"),
    "negative chunks": (lambda p: p.kv("--max-chunks", "-2"), 2, "max chunks is -2; use 1 or more"),
    "negative start": (lambda p: p.kv("--quantize-start", "-1"), 2, "quantize start is -1; use 0"),
    "start at the end": (lambda p: p.kv("--quantize-start", "63"), 2, "use at most 62, or longer chunks"),
    "no such text": (
        lambda p: p.kv(corpus="/no/such.txt"),
        2,
        "no corpus or file '/no/such.txt'; use --corpus",
    ),
    "text name too long": (lambda p: p.kv(corpus="t" * 5000), 2, "File name too long"),
    "text of an unknown user": (lambda p: p.kv(corpus="~no-such-user/t"), 2, "no corpus or file"),
    "text is a folder": (lambda p: p.kv(corpus=p.home), 2, "is not a file; name one UTF-8 text file"),
    "empty text": (lambda p: p.kv(corpus=p.file("a.txt", b"")), 2, "a.txt has no text in it"),
    "blank text": (
        lambda p: p.kv(corpus=p.file("a.txt", b"\xef\xbb\xbf \n\t")),
        2,
        "a.txt has no text in it",
    ),
    "short text": (
        lambda p: p.kv(corpus=p.file("a.txt", b"Z9 " * 15)),
        2,
        "a.txt has .. tokens, fewer than one chunk of 64; use --chunk-length 32 or a longer text",
    ),
    "binary file": (
        lambda p: p.kv(corpus=p.file("a.png", b"\x89PNG\r\n\x1a\n\0\0")),
        2,
        "binary file, not text",
    ),
    "UTF-16 text": (lambda p: p.kv(corpus=p.file("a.txt", "text".encode("utf-16"))), 2, "save it as UTF-8"),
    "Latin-1 text": (lambda p: p.kv(corpus=p.file("a.txt", b"caf\xe9")), 2, r"not UTF-8 text \(byte 3\)"),
    "output in no folder": (lambda p: p.kv("--output", "/no/such/r.md"), 2, "folder /no/such does not exist"),
    "output is a folder": (lambda p: p.kv("--output", str(p.home)), 2, "is a folder; name a file"),
    "output name too long": (lambda p: p.kv("--output", "o" * 5000), 2, "choose another --output"),
    "unknown run": (unknown_run, 2, "there is no run '20270101'; `mqf-tui runs list`"),
    "ambiguous run": (ambiguous_run, 2, "2 runs begin with '20260101'; name more of it"),
    "damaged run": (damaged_run, 2, "run 20260101-a cannot be read"),
    "no last run": (lambda p: ["runs", "show", "last"], 2, "there are no runs yet"),
    "data folder is a file": (data_file, 2, "cannot be read"),
    "unknown command": (lambda p: ["measure"], 2, r"'measure' \(choose from .*mqf-tui --help"),
    "unknown option": (lambda p: p.kv("--bits", "4"), 2, "unrecognized arguments: --bits 4"),
    "unknown format": (lambda p: p.kv("--format", "html"), 2, "invalid choice: 'html'"),
    "no model named": (lambda p: ["kv"], 2, "required: MODEL; see `mqf-tui kv --help`"),
    "no action named": (lambda p: ["runs"], 2, "required: ACTION"),
    "no terminal for the app": (lambda p: [], 2, "the app needs a terminal"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("bad") / "tiny-llama")


@pytest.fixture(scope="module")
def notes(tiny: Path) -> Path:
    return makers.text_file(tiny.parent / "notes.txt")


@pytest.fixture
def place(tiny: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    # No model of this machine's own cache may come up as what was meant.
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "home"
    home.mkdir()
    return Place(tiny, notes, home)


def exit_code(words: list[str]) -> int:
    """What the process would exit with; argparse leaves by an exception of its own."""
    try:
        return main(words)
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code


def one_sentence(err: str) -> bool:
    line, rest = err.split("\n", 1)
    return rest == "" and line.isprintable() and re.fullmatch(r"mqf-tui: \S.*\S[.?]", line) is not None


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    make, code, says = CASES[name]
    words = make(place)
    got = exit_code(words)
    out, err = capfd.readouterr()
    assert (got, out) == (code, "")
    assert one_sentence(err), err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert re.search(says, err), err


def process(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("environment", {})
    return subprocess.run(
        [sys.executable, "-m", "mqf_tui", *words],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=200,
        **options,
    )


@pytest.mark.parametrize("name", ["truncated weights", "NaN weights", "bits as text", "ambiguous run"])
def test_bad_input_to_a_real_process(name: str, place: Place) -> None:
    make, code, says = CASES[name]
    done = process(make(place))
    assert (done.returncode, done.stdout) == (code, "")
    assert one_sentence(done.stderr), done.stderr
    assert re.search(says, done.stderr)


def test_wikitext_without_a_network(place: Place, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = process(place.kv(corpus="wikitext-2"), environment=offline)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_sentence(done.stderr), done.stderr
    assert "wikitext-2 could not be had" in done.stderr
    assert "use --corpus builtin or a text file of your own" in done.stderr


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("command", ["kv", "doctor", "list"])
def test_output_to_a_full_disk(command: str, place: Place) -> None:
    place.runs("20260101-a")
    words = {"kv": place.kv(), "doctor": ["doctor"], "list": ["runs", "list"]}[command]
    with FULL.open("w") as full:
        done = process(words, stdout=full)
    assert done.returncode == 2
    assert one_sentence(done.stderr), done.stderr
    assert "could not be written (No space left on device)" in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_report_file_on_a_full_disk(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(place.kv("--output", str(FULL))) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert one_sentence(err), err
    assert "choose another --output" in err


def test_a_run_on_a_full_disk(place: Place, data_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [word for word in place.kv("--max-chunks", "8") if word != "--no-save"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The printed report, which pytest puts into a file as well, is smaller than this; its run is not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        code = exit_code(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    out, err = capfd.readouterr()
    assert code == 2
    assert out.startswith("### tiny-llama: 2-bit")
    assert one_sentence(err), err
    assert "the run could not be saved" in err
    assert list((data_home / "runs").iterdir()) == []


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything; for a while be a user who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("model", "cannot be read (Permission denied); check its permissions"),
        ("model/config.json", "config.json of model cannot be read (Permission denied)"),
        ("model/model.safetensors", "model.safetensors cannot be read (Permission denied)"),
        ("text/notes.txt", "notes.txt cannot be read (Permission denied); check its permissions"),
        ("text", "notes.txt cannot be read (Permission denied); check its permissions"),
    ],
)
def test_no_permission(
    what: str, says: str, place: Place, public: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Imported now: the other user may not be able to read this Python.
    from mqf_tui.console import measuring
    from mqf_tui.fidelity import corpora, engine

    assert measuring
    assert corpora
    assert engine
    shutil.copytree(place.tiny, public / "model")
    (public / "text").mkdir()
    shutil.copy(place.notes, public / "text" / "notes.txt")
    (public / what).chmod(0)
    try:
        with nobody():
            code = exit_code(place.kv(model=public / "model", corpus=public / "text" / "notes.txt"))
    finally:
        (public / what).chmod(0o700)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert one_sentence(err), err
    assert says in err
