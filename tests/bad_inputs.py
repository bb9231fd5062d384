"""Everything that can be wrong with the input: how to make it, the exit code, and what must be said."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import makers


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

    def own_code(self, file: str) -> Path:
        """A copy of the model that names a file of code, and has it."""
        folder = self.config(model_file=file)
        (folder / file).touch()
        return folder

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

    def settings(self, content: str | bytes) -> list[str]:
        """A measurement by a user with this settings file."""
        path = Path(os.environ["MQF_TUI_CONFIG_DIR"]) / "settings.toml"
        path.parent.mkdir()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.kv()

    def verdict(self, content: str) -> list[str]:
        return self.settings(f"[verdict]\n{content}\n")

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
    weight = "model.layers.1.mlp.up_proj.weight"
    return p.kv(model=makers.spoil_weights(p.copy(), weight, (3, 5), float("nan")))


def zero_drift(p: Place) -> list[str]:
    return p.kv(model=makers.model_folder(p.home / "blind", scale={"o_proj": 0.0}))


def too_large(p: Place) -> list[str]:
    """A terabyte of weights, none of it on the disk."""
    n = 10**12
    big = {"dtype": "F32", "shape": [n // 4000, 1000], "data_offsets": [0, n]}
    header = json.dumps({"big.weight": big}).encode()
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


def settings_folder(p: Place) -> list[str]:
    (Path(os.environ["MQF_TUI_CONFIG_DIR"]) / "settings.toml").mkdir(parents=True)
    return p.kv()


def data_file(p: Place) -> list[str]:
    Path(os.environ["MQF_TUI_DATA_DIR"]).touch()
    return ["runs", "list"]


def empty_folder(p: Place) -> list[str]:
    (p.home / "empty").mkdir()
    return p.kv(corpus=p.home / "empty")


def pipe(p: Place) -> list[str]:
    os.mkfifo(p.home / "pipe")
    return p.kv(corpus=p.home / "pipe")


LIMITS = (
    r"settings.toml cannot be used: {} is .*; use two .*, good first and no more than marginal, such as \["
)
JUDGING: dict[str, tuple[Callable[[Place], list[str]], int, str]] = {
    **{
        f"precision of {given}": (lambda p, given=given: p.kv(f"--precision={given}"), 2, says)
        for given, says in {
            "-5%": r"precision is -0.05; use a share .* such as 5% or 0.05",
            "0%": "precision is 0.0; use a share of mean KL between 0 and 100 %",
            "100%": "precision is 1.0; use a share",
            "150%": "precision is 1.5; use a share",
            "nan": "precision is nan; use a share",
            "inf": "precision is inf; use a share",
            "five": "'five' is no share; use 5% or 0.05; see `mqf-tui kv --help`",
            "%": "'%' is no share",
            "": "'' is no share",
        }.items()
    },
    **{
        f"most KL of {given}": (lambda p, given=given: p.kv("--max-kl", given), 2, says)
        for given, says in {
            "-1": "max KL is -1.0; use a mean KL in nats above 0, such as 0.02",
            "0": "max KL is 0.0; use a mean KL",
            "nan": "max KL is nan; use a mean KL",
            "1e999": "max KL is inf; use a mean KL",
            "1%": "argument --max-kl: invalid float value: '1%'",
        }.items()
    },
    **{
        f"most flips of {given}": (lambda p, given=given: p.kv(f"--max-flips={given}"), 2, says)
        for given, says in {
            "-1%": "max flips is -0.01; use a share from 0 to 100 %, such as 1% or 0.01",
            "200%": "max flips is 2.0; use a share from 0 to 100 %",
            "nan%": "max flips is nan; use a share",
            "some": "'some' is no share; use 5% or 0.05",
        }.items()
    },
    "precision without a value": (lambda p: p.kv("--precision"), 2, "--precision: expected one argument"),
    "fail on good": (lambda p: p.kv("--fail-on", "good"), 2, "invalid choice: 'good'"),
    "settings are a folder": (
        settings_folder,
        2,
        r"settings.toml cannot be read \(Is a directory\); make it",
    ),
    "settings are no TOML": (lambda p: p.settings("[verdict"), 2, r"it is not valid TOML \(.*\); mend it"),
    "settings are not text": (
        lambda p: p.settings(b"\xff\xfe["),
        2,
        r"not UTF-8 text \(byte 0\); save it as UTF-8",
    ),
    "settings are too deep": (lambda p: p.settings("a = " + "[" * 99_999), 2, "it is not valid TOML"),
    "unknown table": (lambda p: p.settings("[verdcit]"), 2, "unknown key 'verdcit'; there is only verdict"),
    "hostile table": (lambda p: p.settings('"\\u001b[2J\\n" = 1'), 2, "it has an unknown key"),
    "no table": (lambda p: p.settings("verdict = 3"), 2, r"verdict is 3; make it a table .*\[verdict\]"),
    "unknown limit": (
        lambda p: p.verdict("mean_kl = [0.1, 0.2]"),
        2,
        r"\[verdict\] has an unknown key 'mean_kl'; there is only policy, kl_mean, kl_p99, flip_rate",
    ),
    "a policy of nothing": (
        lambda p: p.verdict('policy = "mine"'),
        2,
        r"sets no limit; give it one of kl_mean",
    ),
    "a policy by number": (
        lambda p: p.verdict("policy = 7\nkl_p99 = [1, 2]"),
        2,
        "policy is 7; use a name of 1",
    ),
    "a policy without a name": (
        lambda p: p.verdict('policy = "\\t"\nkl_p99 = [1, 2]'),
        2,
        "use a name of 1 to 40",
    ),
    "a policy in the default's name": (
        lambda p: p.verdict('policy = "kv-1"\nkl_p99 = [1, 2]'),
        2,
        "policy is 'kv-1', which names the default; choose another name",
    ),
    **{
        f"limit {line}": (lambda p, line=line: p.verdict(line), 2, LIMITS.format(line.split()[0]))
        for line in (
            "kl_mean = 0.01",
            "kl_mean = [0.01]",
            "kl_mean = [0.01, 0.1, 1]",
            "kl_mean = ['0.01', '0.1']",
            "kl_mean = [true, true]",
            "kl_p99 = [0.2, 0.1]",
            "kl_p99 = [-0.1, 0.1]",
            "kl_p99 = [0.1, nan]",
            "kl_p99 = [0.1, inf]",
            f"kl_p99 = [0, 1{'0' * 400}]",
            "flip_rate = [1, 5]",
            "flip_rate = {good = 0.01}",
        )
    },
}

CASES: dict[str, tuple[Callable[[Place], list[str]], int, str]] = {
    **JUDGING,
    "no such folder": (
        lambda p: p.kv(model="/no/such/folder"),
        2,
        "there is no folder /no/such/folder; check",
    ),
    "no such name": (
        lambda p: p.kv(model="org/nothing-here"),
        2,
        "`mqf-tui models download org/nothing-here`",
    ),
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
    "weights of another architecture": (
        lambda p: p.kv(model=p.config(model_type="gemma3_text")),
        2,
        "do not fit",
    ),
    "no KV cache": (lambda p: p.kv(model=p.config(model_type="mamba")), 2, "choose|cannot quantize"),
    "head of 48": (lambda p: p.kv(model=p.config(head_dim=48)), 2, "head size of 48 is not divisible"),
    "weights of another shape": (
        lambda p: p.kv(model=p.config(num_hidden_layers=3)),
        2,
        "do not fit its configuration",
    ),
    "custom code": (custom_code, 2, r"own Python code \(modeling_own.py\).*--trust-remote-code"),
    "custom model file": (lambda p: p.kv(model=p.own_code("own.py")), 2, "--trust-remote-code"),
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
        "no corpus, file or folder '/no/such.txt'; use --corpus",
    ),
    "text name too long": (lambda p: p.kv(corpus="t" * 5000), 2, "File name too long"),
    "text of an unknown user": (lambda p: p.kv(corpus="~no-such-user/t"), 2, "no corpus, file or folder"),
    "text is an empty folder": (empty_folder, 2, "empty has no text file in it"),
    "text is a pipe that nobody writes to": (pipe, 2, "pipe is a named pipe, not a file"),
    "text is no data set": (lambda p: p.kv(corpus="hf:data"), 2, "write hf:owner/name"),
    "broken line of JSON": (
        lambda p: p.kv(corpus=p.file("a.jsonl", b'{"text": "a"}\n{"text": "b"')),
        2,
        "line 2 of a.jsonl is not valid JSON",
    ),
    "mixture of nothing": (
        lambda p: p.kv(corpus=p.file("m.toml", b"[m]")),
        2,
        "m.toml, line 1 cannot be used: m has 0 parts; use 1 to 64",
    ),
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
    "cut UTF-16 text": (lambda p: p.kv(corpus=p.file("a.txt", b"\xff\xfeG")), 2, "is not UTF-16 text"),
    "Latin-1 text": (
        lambda p: p.kv(corpus=p.file("a.txt", b"caf\xe9")),
        2,
        r"not UTF-8 text \(byte 3, line 1\)",
    ),
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
    "unknown format": (lambda p: p.kv("--format", "docx"), 2, "invalid choice: 'docx'"),
    "no model named": (lambda p: ["kv"], 2, "required: MODEL; see `mqf-tui kv --help`"),
    "no action named": (lambda p: ["runs"], 2, "required: ACTION"),
    "no terminal for the app": (lambda p: [], 2, "the app needs a terminal"),
}
