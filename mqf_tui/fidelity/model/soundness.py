"""Whether a model folder can be what it says, before any library opens it.

Its files, its counts, and whether configuration and weights fit: what is wrong here would hang mlx-lm or
transformers, or have them take all memory, before they say that something is wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BrokenWeightsError
from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.bounded import no_file, parsed, read_plain
from mqf_tui.fidelity.model.headers import MAX_CONFIG, WIDTHS, Tensor, Weights, folder_name
from mqf_tui.fidelity.model.heads import HIDDEN, LARGEST, LAYERS
from mqf_tui.fidelity.model.trust import MAX_TOKENIZER_CONFIG
from mqf_tui.reports.text import size

# Files that mlx-lm and transformers read whole, and bytes that they may have. Tokenizers have up to 40 MB.
LIMITS = {
    **dict.fromkeys(("config.json", "generation_config.json", "hf_quant_config.json"), MAX_CONFIG),
    **dict.fromkeys(
        ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json",
         "chat_template.jinja", "processor_config.json"),
        MAX_TOKENIZER_CONFIG,
    ),
    **dict.fromkeys(
        ("tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json", "spiece.model",
         "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "merges.txt"),
        128_000_000,
    ),
}  # fmt: skip
TEMPLATES = "additional_chat_templates"
LEAST_COUNT = 1024
# mlx-lm makes as many objects as these say; the largest models have 130 layers and some hundred experts.
COUNTS = (
    (re.compile(r"(?:^|_)(?:num|n)_(?:\w*_)?(?:layer|loop|block)s?$"), LEAST_COUNT),
    (re.compile(r"(?:^|_)(?:num|n)_(?:\w*_)?(?:expert|group)s?(?:_per_tok|_per_token)?$"), 4096),
    (re.compile(r"(?:^|_)(?:num|n)_(?:\w*_)?heads?$"), 65_536),
)
VOCABULARY = ("vocab_size", "padded_vocab_size")
EMBEDDINGS = (
    *("embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "word_embeddings.weight"),
    *("token_embeddings.weight", "backbone.embeddings.weight", "embed_in.weight"),
    *("model.embeddings.weight", "model.embedding.weight"),
)
OTHER_EMBEDDINGS = re.compile(r"vision|visual|audio|per_layer|mtp")
NUMBERED = re.compile(r"^(.*?)\.(\d+)\.")
ENDS = 256  # bytes


def check_files(folder: Path) -> None:
    """Raise BrokenWeightsError where a file that will be read is none, too large, or a tokenizer cut off.

    Raises OSError where the folder cannot be read.
    """
    name = folder_name(folder)
    for file, about in _files(folder):
        limit = LIMITS.get(file, MAX_TOKENIZER_CONFIG)
        if (other := no_file(about)) is not None:
            raise BrokenWeightsError(
                f"{file[:80]} of {name} cannot be read (it is {other}, not a file); download the model again."
            )
        if about.st_size > limit:
            raise BrokenWeightsError(
                f"{file[:80]} of {name} has {size(about.st_size)}, more than that of any model; "
                "download the model again."
            )
        if file == "generation_config.json" and (why := _no_settings(folder / file)):
            raise BrokenWeightsError(f"{file} of {name} {why}; remove it or download the model again.")
        if file == "tokenizer.json" and (why := _no_object(folder / file, about.st_size)):
            raise BrokenWeightsError(
                f"the tokenizer of {name} cannot be loaded (tokenizer.json {why}); download the model again."
            )


def check_counts(config: dict[str, Any]) -> None:
    """Raise ValueError where the configuration counts more of something than any model has."""
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("_config"):
            check_counts(value)
        # Some give one number a layer.
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, (int, float)) and number > LEAST_COUNT:
                _check_count(key, number)


def _check_count(key: str, number: float) -> None:
    limit = next((limit for form, limit in COUNTS if form.search(key)), None)
    if limit is not None and number > limit:
        raise ValueError(f"{key[:80]} is {str(number)[:40]}")
    if isinstance(number, int) and number > LARGEST:
        raise ValueError(f"{key[:80]} has more than {len(str(LARGEST)) - 1} digits")


def check_fit(name: str, config: dict[str, Any], weights: Weights) -> None:
    """Raise BrokenWeightsError where the weights have fewer layers, or another embedding, than they should.

    ``name`` is what the model is called. Weights that number no layers are left to mlx-lm.
    """
    inner = architectures.language_config(config)
    asked = next((n for n in (_whole(inner, key) for key in LAYERS) if n), 0)
    layers = _layers(weights.tensors, asked)
    if not layers:
        return
    if asked > layers:
        raise _unfit(name, f"{asked} layers are configured and {layers} are there")
    embedding = next((t for t in weights.tensors if t.name.endswith(EMBEDDINGS)), None)
    if embedding is None or OTHER_EMBEDDINGS.search(embedding.name) or len(embedding.shape) != 2:
        return
    rows, columns = embedding.shape
    # Wrapped models may say it twice; some pad the embedding, none is short of it.
    tokens = [n for part in (config, inner) for key in VOCABULARY if (n := _whole(part, key))]
    if tokens and rows < min(tokens):
        raise _unfit(name, f"a vocabulary of {min(tokens)} is configured and the embedding has {rows} rows")
    hidden = [n for part in (config, inner) for key in HIDDEN if (n := _whole(part, key))]
    if hidden and not any(_width_fits(embedding, columns, n) for n in hidden):
        raise _unfit(name, f"a hidden size of {hidden[-1]} is configured and the embedding's is {columns}")


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What transformers and mlx-lm will open beside the weights, as far as it is there."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.name in LIMITS), key=lambda entry: entry.name)
    if (folder / TEMPLATES).is_dir():
        with os.scandir(folder / TEMPLATES) as entries:
            found += sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        try:
            yield entry.name, entry.stat()
        except OSError:
            continue  # a link to nothing; what needs the file will say so


def _no_settings(path: Path) -> str | None:
    """What is wrong with a file that mlx-lm reads though no number depends on it; it forgives wrong JSON."""
    try:
        found = parsed(read_plain(path, MAX_CONFIG))
    except json.JSONDecodeError:
        return None
    except (OSError, ValueError, RecursionError):
        return "cannot be read"
    return None if isinstance(found, dict) else "is not an object"


def _no_object(path: Path, n_bytes: int) -> str | None:
    """What is wrong with a file that should hold a JSON object, as far as its ends tell."""
    if not n_bytes:
        return "is empty"
    with path.open("rb") as file:
        first = file.read(ENDS).strip()
        file.seek(max(0, n_bytes - ENDS))
        last = file.read(ENDS).strip()
    if not first.startswith(b"{"):
        return "holds no object"
    return None if last.endswith(b"}") else "is cut off"


def _layers(tensors: Sequence[Tensor], asked: int) -> int:
    """Layers that the names tell of: ``asked`` where its last is there, 0 where none has a number."""
    last = f".{asked - 1}."
    if asked and any(last in tensor.name for tensor in tensors):
        return asked
    numbered = {found.groups() for tensor in tensors if (found := NUMBERED.search(tensor.name))}
    # Some models number several lists of layers, and leave out layers that do nothing.
    return max((len(numbered), *(int(number[:9]) + 1 for _, number in numbered)), default=0)


def _width_fits(embedding: Tensor, columns: int, hidden: int) -> bool:
    if embedding.dtype != "U32":
        return columns == hidden
    return any(columns * 32 == hidden * bits for bits in WIDTHS)


def _whole(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and value > 0 else 0


def _unfit(name: str, why: str) -> BrokenWeightsError:
    return BrokenWeightsError(
        f"the weights of {name} do not fit its configuration ({why}); download the model again or convert it "
        "anew."
    )
