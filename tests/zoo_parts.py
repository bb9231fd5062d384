"""What the animals of the zoo are made with: a copy of a good model, and one thing done to it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import makers

ABSENT = "not in the list"
MEASURED = "measured"
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
Q = "model.layers.0.self_attn.q_proj.weight"


@dataclass(frozen=True)
class Animal:
    """One folder: ``make`` turns a copy of the good model into it.

    ``listed`` is what the list says of it (a pattern; None: nothing is wrong as far as headers tell; ABSENT),
    ``chosen`` what a measurement says, and ``code`` how it exits; MEASURED: it is measured, with the numbers
    of the good model where ``same``. ``name`` is the folder's, where it matters.
    """

    make: Callable[[Path], object]
    listed: str | None
    chosen: str
    code: int = 2
    same: bool = False
    name: str | None = None


def broken(make: Callable[[Path], object], words: str, chosen: str | None = None, **more: Any) -> Animal:
    """The list says it and a measurement says it, in the same words unless ``chosen`` has others."""
    return Animal(make, words, chosen or words, **more)


def at_load(make: Callable[[Path], object], words: str, code: int = 2) -> Animal:
    """What only reading the weights or the tokenizer tells."""
    return Animal(make, None, words, code)


def fine(make: Callable[[Path], object], *, same: bool = True, name: str | None = None) -> Animal:
    return Animal(make, None, MEASURED, 0, same, name)


def parts(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of the weights."""
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(**changes: Any) -> Callable[[Path], None]:
    """The header's entry of one matrix changed, the data as they are."""

    def make(folder: Path) -> None:
        header, data = parts(folder)
        header[Q] |= changes
        put(folder, header, data)

    return make


def tensors(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """The arrays changed and saved anew."""

    def make(folder: Path) -> None:
        import mlx.core as mx

        loaded: Any = mx.load(str(folder / WEIGHTS))
        arrays = dict(loaded)
        mx.eval(arrays)
        change(arrays)
        mx.save_safetensors(str(folder / WEIGHTS), arrays, metadata={"format": "mlx"})

    return make


def without_tensor(name: str) -> Callable[[Path], None]:
    return tensors(lambda arrays: arrays.pop(name))


def extra(arrays: dict[str, Any]) -> None:
    arrays["model.surprise.weight"] = arrays["model.norm.weight"]


def whole_numbers(arrays: dict[str, Any]) -> None:
    import mlx.core as mx

    arrays[Q] = arrays[Q].astype(mx.int32)


def value(number: float) -> Callable[[Path], object]:
    return lambda folder: makers.spoil_weights(folder, "model.layers.1.mlp.up_proj.weight", (3, 5), number)


def shift(folder: Path) -> None:
    """Two tensors of a size at the same place, the file as long as it was."""
    header, data = parts(folder)
    header["model.layers.1.self_attn.q_proj.weight"]["data_offsets"] = header[Q]["data_offsets"]
    put(folder, header, data)


def twice(folder: Path) -> None:
    header, data = parts(folder)
    text = json.dumps(header)
    put(folder, (text[:-1] + f", {json.dumps(Q)}: {json.dumps(header[Q])}}}").encode(), data)


def backwards(folder: Path) -> None:
    header, data = parts(folder)
    begin, end = header[Q]["data_offsets"]
    header[Q]["data_offsets"] = [end, begin]
    put(folder, header, data)


def cut(file: str, keep: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / file, keep((folder / file).stat().st_size))


def content(file: str, text: Any) -> Callable[[Path], object]:
    """One file replaced or added; anything but text and bytes as JSON."""
    raw = text if isinstance(text, bytes) else (text if isinstance(text, str) else json.dumps(text)).encode()
    return lambda folder: replaced(folder / file).write_bytes(raw)


def replaced(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def large(file: str, n_bytes: int, start: bytes = b"") -> Callable[[Path], None]:
    """A file of that size with nothing of it on the disk."""

    def make(folder: Path) -> None:
        replaced(folder / file).write_bytes(start)
        os.truncate(folder / file, n_bytes)

    return make


def configured(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: makers.rewrite_config(folder, **changes)


def config_without(*keys: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        held = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({k: v for k, v in held.items() if k not in keys}))

    return make


def tokenizer_configured(**changes: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        held = json.loads((folder / TOKENIZER_CONFIG).read_text())
        (folder / TOKENIZER_CONFIG).write_text(json.dumps(held | changes))

    return make


def tokenizer_with(**changes: Any) -> Callable[[Path], None]:
    """The tokenizer's model changed."""

    def make(folder: Path) -> None:
        held = json.loads((folder / TOKENIZER).read_text())
        held["model"] |= changes
        (folder / TOKENIZER).write_text(json.dumps(held))

    return make


def link(file: str, target: str) -> Callable[[Path], None]:
    return lambda folder: replaced(folder / file).symlink_to(target)


def pipe(file: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        os.mkfifo(replaced(folder / file))

    return make


def listening(file: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket may have a hundred characters
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(replaced(Path(file))))
        finally:
            os.chdir(here)

    return make


def directory(file: str) -> Callable[[Path], None]:
    return lambda folder: replaced(folder / file).mkdir()


def gone(*files: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return make


def both(*makes: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def index_of(folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in parts(folder)[0] if name != "__metadata__"]
    return {"metadata": {}, "weight_map": dict.fromkeys(names, WEIGHTS) | more}


def indexed(**more: Any) -> Callable[[Path], None]:
    """An index that says of a tensor ``model.more.weight`` in which file it is."""

    def make(folder: Path) -> None:
        (folder / INDEX).write_text(
            json.dumps(index_of(folder, {f"model.{k}.weight": v for k, v in more.items()}))
        )

    return make


def moved_away(folder: Path) -> None:
    """The weights lie elsewhere, and a link leads there."""
    target = folder.parent / ".elsewhere.safetensors"
    (folder / WEIGHTS).rename(target)
    (folder / WEIGHTS).symlink_to(target)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._target,)


def ran(folder: Path) -> Path:
    """What is there once code of the folder ran."""
    return folder / "it-ran"


def payload(folder: Path, after: str = "") -> str:
    return f"import pathlib\npathlib.Path({str(ran(folder))!r}).mkdir(exist_ok=True)\n{after}"


def pickled(file: str) -> Callable[[Path], object]:
    return lambda folder: replaced(folder / file).write_bytes(pickle.dumps(Bomb(ran(folder)), protocol=4))


def code(file: str, after: str = "") -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text(payload(folder, after))


MODEL_CODE = "from mlx_lm.models.llama import Model, ModelArgs\n"
TOKENIZER_CODE = "from transformers import PreTrainedTokenizerFast as Own\n"
OWN_TOKENIZER = {"AutoTokenizer": ["tokenization_own.Own", None]}


def tokenizer_code(**changes: Any) -> Callable[[Path], None]:
    made = tokenizer_configured(**({"auto_map": OWN_TOKENIZER} | changes))
    return both(made, code("tokenization_own.py", TOKENIZER_CODE))


def escaped(folder: Path) -> None:
    """The same with the key written so that it cannot be searched for."""
    tokenizer_code()(folder)
    path = folder / TOKENIZER_CONFIG
    path.write_text(path.read_text().replace('"auto_map"', '"\\u0061uto\\u005fmap"'))


def large_ids(folder: Path) -> None:
    data = json.loads((folder / TOKENIZER).read_text())
    data["model"] |= {"vocab": data["model"]["vocab"] | {"\u0120": 5000}, "merges": []}
    (folder / TOKENIZER).write_text(json.dumps(data))


def small_vocabulary(folder: Path) -> None:
    data = json.loads((folder / TOKENIZER).read_text())
    data["model"]["merges"] = []
    known = sorted(data["model"]["vocab"].items(), key=lambda pair: pair[1])
    data["model"]["vocab"] = {token: i for token, i in known if len(token) == 1 or i < 2}
    (folder / TOKENIZER).write_text(json.dumps(data))


def quantized(
    predicate: Callable[[str, Any], bool | dict[str, Any]] | None = None,
    *,
    config: dict[str, Any] | None = None,
    drop: tuple[str, ...] = (),
) -> Callable[[Path], None]:
    """Packed and described by mlx-lm itself, in 8 bits and groups of 32 unless ``predicate`` says otherwise;
    then ``config`` is said of it, and what ends with one of ``drop`` is left out."""

    def make(folder: Path) -> None:
        import contextlib
        import io

        import mlx.core as mx
        from mlx.utils import tree_flatten
        from mlx_lm.utils import load_model, quantize_model

        with contextlib.redirect_stdout(io.StringIO()):
            model, described = quantize_model(*load_model(folder), 32, 8, quant_predicate=predicate)
        pairs: Any = tree_flatten(model.parameters())
        arrays = {name: array for name, array in pairs if not name.endswith(drop)}
        mx.eval(arrays)
        mx.save_safetensors(str(folder / WEIGHTS), arrays, metadata={"format": "mlx"})
        if config is not None:
            described = {k: v for k, v in described.items() if not k.startswith("quantization")} | config
        (folder / CONFIG).write_text(json.dumps(described))

    return make


def own(**changes: int) -> dict[str, Any]:
    """A configuration in which one layer is quantized otherwise than it is."""
    every = {"group_size": 32, "bits": 8}
    return {"quantization": every | {"model.layers.0.mlp.up_proj": every | changes}}


def mixed(path: str, module: Any) -> bool | dict[str, int]:
    if path.endswith(("o_proj", "down_proj")):
        return False
    return {"group_size": 64, "bits": 6} if "layers.1" in path else True


def generation_code(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(payload(folder))


def config_with(old: str, new: str) -> Callable[[Path], object]:
    """The configuration with a piece of its text written otherwise."""

    def make(folder: Path) -> None:
        text = (folder / CONFIG).read_text()
        assert old in text
        (folder / CONFIG).write_text(text.replace(old, new))

    return make


def marked(folder: Path) -> None:
    """The configuration with a byte order mark."""
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())


def vision(folder: Path) -> None:
    """A model that sees and reads, as mlx-vlm converts one: the part that reads is the good model."""

    def renamed(arrays: dict[str, Any]) -> None:
        for name in list(arrays):
            arrays[f"language_model.{name}"] = arrays.pop(name)
        norm = arrays["language_model.model.norm.weight"]
        arrays["vision_tower.transformer.layers.7.norm.weight"] = norm
        arrays["multi_modal_projector.norm.weight"] = norm

    tensors(renamed)(folder)
    text = json.loads((folder / CONFIG).read_text())
    outer = {"model_type": "mistral3", "vision_config": {"hidden_size": 3, "num_hidden_layers": 7}}
    (folder / CONFIG).write_text(json.dumps(outer | {"text_config": text}))
    (folder / "preprocessor_config.json").write_text("{}")


def adapter(folder: Path) -> None:
    empty(folder)
    (folder / "adapter_config.json").write_text('{"lora_parameters": {"rank": 8}}')
    (folder / "adapters.safetensors").write_bytes(b"")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)


def denied(folder: Path) -> None:
    (folder / WEIGHTS).chmod(0)


def template(text: str) -> Callable[[Path], None]:
    return both(tokenizer_configured(chat_template=text), content("chat_template.jinja", text))


def keep(folder: Path) -> None:
    """As it is."""
