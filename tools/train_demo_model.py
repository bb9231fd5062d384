"""Train the bundled demo model from scratch, on text that Debian packages carry.

Run it on any Debian machine that can reach its package mirror::

    apt-get install libopenblas0-pthread
    python tools/train_demo_model.py --work build/demo-model

It downloads the packages with ``apt-get download``, unpacks them into the work folder, splits the
documents into a training and a held-out part, trains a tokenizer and a small Llama on the first, and
measures perplexity and the damage of quantized KV caches on the second. Everything random is seeded.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import gzip
import hashlib
import html.parser
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

with contextlib.suppress(OSError):  # MLX's CPU matrix product is many times faster with OpenBLAS loaded first
    ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import QuantizedKVCache
from mlx_lm.models.llama import Model, ModelArgs
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

REPO = Path(__file__).resolve().parent.parent
END = "<|endoftext|>"
CHUNK = 512
SNIPPET_MARK = "----\n"

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "intermediate_size": 512,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float16",
}


@dataclasses.dataclass(frozen=True)
class Document:
    """One piece of text that is either trained on or held out, never both."""

    source: str
    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A Debian package, what its text may be used under, and how to read it."""

    package: str
    licence: str
    read: Callable[[Path], Iterator[tuple[str, str]]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers that decide a training run."""

    seed: int = 7
    steps: int = 2400
    batch: int = 4
    learning_rate: float = 4e-3
    warmup: int = 60
    weight_decay: float = 0.05
    clip: float = 1.0
    heldout_share: float = 0.04


# ---------------------------------------------------------------- reading the packages


def tidy(text: str) -> str:
    """Strip trailing spaces and squeeze runs of blank lines."""
    text = re.sub(r"[ \t]+\n", "\n", text.replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def read_python(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the reStructuredText sources of the Python manual's main parts."""
    base = root / "usr/share/doc/python3.11/html/_sources"
    for part in ("tutorial", "howto", "faq", "reference", "library", "extending", "using", "c-api"):
        for path in sorted((base / part).glob("*.txt")):
            yield f"{part}/{path.name}", path.read_text(encoding="utf-8")


class PageText(html.parser.HTMLParser):
    """Collect the readable text of an HTML page."""

    SKIP = ("script", "style", "svg", "button", "title")

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Enter a skipped element, or mark a list item."""
        self.depth += tag in self.SKIP
        if tag == "li" and not self.depth:
            self.parts.append("\n* ")

    def handle_endtag(self, tag: str) -> None:
        """Leave a skipped element."""
        self.depth -= tag in self.SKIP and self.depth > 0

    def handle_data(self, data: str) -> None:
        """Keep text outside skipped elements."""
        if not self.depth:
            self.parts.append(data)


def read_sqlite(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the prose pages of the SQLite documentation without their shared page header."""
    indexes = (
        "capi3ref",
        "doc_",
        "keyword_",
        "requirements",
        "syntaxdiagrams",
        "hlr",
        "releaselog",
        "search",
    )
    for path in sorted((root / "usr/share/doc/sqlite3").glob("*.html")):
        if path.name.startswith(indexes):
            continue
        page = PageText()
        page.feed(path.read_text(encoding="utf-8", errors="replace").rpartition("antiRobotDefense();\n")[2])
        text = tidy("".join(page.parts).replace("</script>", ""))
        if len(text) > 500:
            yield path.name, text


def read_dictionary(name: str, root: Path) -> Iterator[tuple[str, str]]:
    """Yield runs of about 8,000 characters of consecutive dictionary entries."""
    text = gzip.decompress((root / f"usr/share/dictd/{name}.dict.dz").read_bytes()).decode("utf-8", "replace")
    run: list[str] = []
    number = 0
    for entry in re.split(r"\n(?=\n?[^\s])", text):
        run.append(entry)
        if sum(map(len, run)) >= 8000:
            yield f"{name}-{number:04d}", "\n".join(run)
            run, number = [], number + 1
    yield f"{name}-{number:04d}", "\n".join(run)


SOURCES = (
    Source("python3.11-doc", "PSF-2.0", read_python),
    Source("sqlite3-doc", "public domain", read_sqlite),
    Source("dict-jargon", "public domain", partial(read_dictionary, "jargon")),
    Source("dict-devil", "public domain", partial(read_dictionary, "devil")),
)


def unpack(package: str, work: Path) -> tuple[Path, str]:
    """Download a Debian package into the work folder, unpack it there, and return the place and version."""
    debs = work / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=debs, check=True)
    deb = sorted(debs.glob(f"{package}_*.deb"))[-1]
    root = work / "unpacked" / package
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    version = subprocess.run(
        ["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True
    )
    return root, version.stdout.strip()


def gather(work: Path) -> tuple[list[Document], dict[str, str]]:
    """Read every document of every source, and the versions of the packages."""
    documents: list[Document] = []
    versions: dict[str, str] = {}
    for source in SOURCES:
        root, versions[source.package] = unpack(source.package, work)
        documents += [Document(source.package, name, tidy(text)) for name, text in source.read(root)]
    return documents, versions


def is_heldout(document: Document, share: float) -> bool:
    """Decide by the document's name alone, so that the split never moves."""
    digest = hashlib.sha256(f"{document.source}/{document.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < share


# ---------------------------------------------------------------- tokens


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the training documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[Document]) -> np.ndarray:
    """Turn documents into one stream of token ids, each document opened by the end marker."""
    stream: list[int] = []
    for encoding in tokenizer.encode_batch([document.text for document in documents]):
        stream.append(0)
        stream.extend(encoding.ids)
    return np.array(stream, dtype=np.int32)


def chunks(stream: np.ndarray) -> np.ndarray:
    """Cut a stream into whole chunks, dropping the rest."""
    count = len(stream) // CHUNK
    return stream[: count * CHUNK].reshape(count, CHUNK)


# ---------------------------------------------------------------- training


def named_weights(model: Model) -> list[tuple[str, mx.array]]:
    """All weights with their names."""
    flat: Any = tree_flatten(model.parameters())
    return flat


def new_model(seed: int) -> Model:
    """Build the model with seeded weights, the residual projections scaled down by depth."""
    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(CONFIG))
    depth_scale = 1 / math.sqrt(2 * CONFIG["num_hidden_layers"])

    def draw(name: str, weight: mx.array) -> mx.array:
        if weight.ndim == 1:
            return weight
        scale = 0.02 if "embed" in name else 1 / math.sqrt(weight.shape[1])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            scale *= depth_scale
        return mx.random.normal(weight.shape, scale=scale)

    model.load_weights([(name, draw(name, weight)) for name, weight in named_weights(model)])
    mx.eval(model.parameters())
    return model


def mean_loss(model: Model, rows: mx.array) -> mx.array:
    """Mean cross-entropy of each row's next tokens."""
    return nn.losses.cross_entropy(model(rows[:, :-1]), rows[:, 1:], reduction="mean")


def batches(stream: np.ndarray, plan: Plan) -> Iterator[mx.array]:
    """Yield shuffled batches for ever; each pass over the text starts at another offset."""
    random = np.random.default_rng(plan.seed)
    width = CHUNK + 1
    while True:
        offset = int(random.integers(0, CHUNK))
        starts = random.permutation(np.arange(offset, len(stream) - width, CHUNK))
        for first in range(0, len(starts) - plan.batch + 1, plan.batch):
            picked = starts[first : first + plan.batch]
            yield mx.array(np.stack([stream[start : start + width] for start in picked]))


def heldout_loss(model: Model, rows: np.ndarray, batch: int = 4) -> float:
    """Mean next-token loss over held-out chunks, in nats."""
    total = 0.0
    for first in range(0, len(rows), batch):
        part = mx.array(rows[first : first + batch])
        total += float(mean_loss(model, part)) * part.shape[0]
    return total / len(rows)


def train(
    model: Model, stream: np.ndarray, rows: np.ndarray, plan: Plan, checkpoint: Path
) -> dict[str, float]:
    """Train, saving a checkpoint as it goes, and return the closing loss and what it took."""
    warm = optim.linear_schedule(0.0, plan.learning_rate, plan.warmup)
    cool = optim.cosine_decay(plan.learning_rate, plan.steps - plan.warmup, plan.learning_rate * 0.02)
    rate = optim.join_schedules([warm, cool], [plan.warmup])
    optimizer = optim.AdamW(rate, betas=[0.9, 0.98], weight_decay=plan.weight_decay)
    optimizer.init(model.trainable_parameters())
    loss_and_gradient = nn.value_and_grad(model, mean_loss)
    state = [model.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(part: mx.array) -> mx.array:
        loss, gradient = loss_and_gradient(model, part)
        gradient, _ = optim.clip_grad_norm(gradient, plan.clip)
        optimizer.update(model, gradient)
        return loss

    began = time.monotonic()
    recent: list[float] = []
    feed = batches(stream, plan)
    for number in range(1, plan.steps + 1):
        loss = step(next(feed))
        mx.eval(loss, state)
        recent = [*recent[-49:], float(loss)]
        if number % 25 == 0 or number == plan.steps:
            speed = number * plan.batch * CHUNK / (time.monotonic() - began)
            print(
                f"step {number}/{plan.steps} loss {np.mean(recent[-25:]):.4f} {speed:.0f} tok/s", flush=True
            )
        if number % 200 == 0 or number == plan.steps:
            mx.save_safetensors(str(checkpoint), dict(tree_flatten(model.parameters())))
            print(
                f"  held-out sample {heldout_loss(model, rows[:: max(1, len(rows) // 24)]):.4f}", flush=True
            )
    return {"final_loss": round(float(np.mean(recent)), 4), "seconds": round(time.monotonic() - began)}


# ---------------------------------------------------------------- measuring


def unigram_perplexity(counts: np.ndarray, rows: np.ndarray) -> float:
    """Perplexity of an add-one-smoothed unigram model on the tokens the real model has to predict."""
    logprobs = np.log((counts + 1) / (counts.sum() + len(counts)))
    return float(np.exp(-logprobs[rows[:, 1:]].mean()))


def cache_divergence(model: Model, rows: np.ndarray, bits: int) -> float:
    """Mean KL divergence, in nats a token, of a quantized KV cache from the full-precision one."""
    total = 0.0
    for row in rows:
        part = mx.array(row[None])
        cache = [QuantizedKVCache(group_size=64, bits=bits) for _ in model.layers]
        full = nn.log_softmax(model(part).astype(mx.float32))
        quantized = nn.log_softmax(model(part, cache=cache).astype(mx.float32))
        total += (mx.exp(full) * (full - quantized)).sum(-1).mean().item()
    return total / len(rows)


# ---------------------------------------------------------------- writing the folder


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer's two files, compactly."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people to read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_model(model: Model, folder: Path) -> None:
    """Write the configuration and the weights, in half precision."""
    write_json(folder / "config.json", CONFIG)
    weights = tree_map(lambda weight: weight.astype(mx.float16), model.parameters())
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(weights)), metadata={"format": "mlx"}
    )


def write_snippet(tokenizer: Tokenizer, heldout: list[Document], path: Path) -> None:
    """Write about 2,000 held-out tokens, of the public-domain sources only."""
    pieces: list[str] = []
    names: list[str] = []
    for source, budget in (("sqlite3-doc", 1400), ("dict-jargon", 700)):
        for document in heldout:
            encoding = tokenizer.encode(document.text)
            if document.source == source and len(encoding.ids) >= budget:
                pieces.append(document.text[: encoding.offsets[budget][0]].rstrip() + "\n")
                names.append(f"{document.source} ({document.name})")
                break
    header = f"Held out from the demo model's training. From the Debian packages {', '.join(names)}.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "Licence: public domain.\n" + SNIPPET_MARK + "\n".join(pieces), encoding="utf-8")


def report(model: Model, stream: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Measure the half-precision weights as they are shipped."""
    perplexity = math.exp(heldout_loss(model, rows))
    unigram = unigram_perplexity(counts, rows)
    sample = rows[:: max(1, len(rows) // 16)][:16]
    return {
        "training_tokens_available": len(stream),
        "heldout_tokens": int(rows.size),
        "heldout_perplexity": round(perplexity, 2),
        "unigram_perplexity": round(unigram, 2),
        "perplexity_ratio": round(unigram / perplexity, 2),
        "kv_cache_mean_kl": {
            str(bits): float(f"{cache_divergence(model, sample, bits):.3g}") for bits in (8, 4, 2)
        },
    }


def main() -> None:
    """Gather, train, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads and checkpoints")
    parser.add_argument("--out", type=Path, default=REPO / "mqf_tui/demo/model", help="model folder to write")
    parser.add_argument("--tests", type=Path, default=REPO / "tests/data", help="folder for the test's data")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument(
        "--from-checkpoint", action="store_true", help="export the last checkpoint, do not train"
    )
    options = parser.parse_args()

    plan = Plan(steps=options.steps)
    documents, versions = gather(options.work)
    heldout = [document for document in documents if is_heldout(document, plan.heldout_share)]
    training = [document for document in documents if not is_heldout(document, plan.heldout_share)]
    tokenizer = train_tokenizer([document.text for document in training])
    stream, rows = encode(tokenizer, training), chunks(encode(tokenizer, heldout))
    counts = np.bincount(stream, minlength=CONFIG["vocab_size"])
    print(f"{len(training)} + {len(heldout)} documents, {len(stream)} + {rows.size} tokens", flush=True)

    model = new_model(plan.seed)
    checkpoint = options.work / "checkpoint.safetensors"
    log = options.work / "run.json"
    if options.from_checkpoint:
        model.load_weights(str(checkpoint))
    else:
        write_json(log, train(model, stream, rows, plan, checkpoint))

    write_tokenizer(tokenizer, options.out)
    write_model(model, options.out)
    model.load_weights(str(options.out / "model.safetensors"))
    # As shipped, but computed in float32: half-precision products are very slow on a CPU.
    model.update(tree_map(lambda weight: weight.astype(mx.float32), model.parameters()))
    write_snippet(tokenizer, heldout, options.tests / "demo_heldout.txt")
    np.savez_compressed(options.tests / "demo_unigram.npz", counts=counts.astype(np.uint32))
    facts = {
        "sources": [
            {
                "package": source.package,
                "version": versions[source.package],
                "licence": source.licence,
                "documents": sum(document.source == source.package for document in documents),
                "characters": sum(
                    len(document.text) for document in documents if document.source == source.package
                ),
            }
            for source in SOURCES
        ],
        "plan": dataclasses.asdict(plan),
        "parameters": sum(weight.size for _, weight in named_weights(model)),
        "trained_tokens": plan.steps * plan.batch * CHUNK,
        "run": json.loads(log.read_text(encoding="utf-8")) if log.exists() else None,
        **report(model, stream, rows, counts),
        "heldout_documents": [f"{document.source}/{document.name}" for document in heldout],
    }
    write_json(options.out / "training.json", facts)
    print(json.dumps(facts, indent=2), flush=True)


if __name__ == "__main__":
    main()
