"""Text -> chunks of token ids, and where they came from."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadCorpusError, BrokenWeightsError
from mqf_tui.fidelity.vocabulary import Vocabulary
from mqf_tui.reports.schema import CorpusProvenance
from mqf_tui.reports.text import readable

BUILTIN_VERSION = "1"
BUILTIN_PARTS = ("prose", "dialogue", "code", "tables", "languages")
WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")
ALTERNATIVES = "use --corpus builtin or a text file of your own"


@dataclass(frozen=True)
class Corpus:
    """Text in named parts; ``join`` says how the pieces of a part were put together."""

    name: str
    version: str
    parts: tuple[tuple[str, str], ...]
    split: str | None = None
    join: str = "none"

    @property
    def content_hash(self) -> str:
        """SHA-256 (16 digits) of the text of all parts."""
        digest = hashlib.sha256()
        for name, text in self.parts:
            digest.update(f"{name}\0{text}\0".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Chunks:
    """``tokens`` (n, L) int32, the class of each token, and the part of each chunk (n,), an index into
    ``part_names``."""

    tokens: NDArray[np.int32]
    token_class: NDArray[np.int8]
    part: NDArray[np.int16]
    part_names: tuple[str, ...]
    provenance: CorpusProvenance
    vocabulary: Vocabulary
    warnings: tuple[str, ...] = ()


class TokenStore(Protocol):
    """Keeps the tokens of texts for one tokenizer from one measurement to the next.

    It must give back for a text what was put for it, or None, and raise nothing: a store that fails costs
    time and nothing else.
    """

    def get(self, text: str) -> NDArray[np.int32] | None:
        """The tokens of ``text``, shape (n,); None where they are not there."""
        ...

    def put(self, text: str, tokens: NDArray[np.int32]) -> None:
        """Keep the tokens of ``text``."""
        ...


def corpus_names() -> tuple[str, ...]:
    """The corpora that have a name; any other word is a file's path."""
    return ("builtin", "wikitext-2")


def read_corpus(name: str) -> Corpus:
    """Read a corpus by name or path; raises BadCorpusError."""
    if name == "builtin":
        return _builtin()
    if name == "wikitext-2":
        return _wikitext()
    if not name:
        raise BadCorpusError(f"no corpus is named; {ALTERNATIVES}.")
    # Path.expanduser raises where there is no such user.
    return _file(Path(os.path.expanduser(name)))


def make_chunks(
    corpus: Corpus,
    tokenizer: Any,
    chunk_length: int,
    max_chunks: int | None,
    *,
    tokenizer_id: str,
    vocab_size: int = 0,
    store: TokenStore | None = None,
) -> Chunks:
    """Cut each part into whole chunks of ``chunk_length`` tokens and take them from the parts in turn.

    Each part is encoded whole with the tokenizer's defaults, unless ``store`` has its tokens; its last,
    partial chunk is dropped.
    Raises BadCorpusError where not one chunk comes out, BrokenWeightsError where a token id lies
    outside the model's vocabulary.
    """
    streams = [_tokens(tokenizer, text, store) for _, text in corpus.parts]
    pieces = [s[: len(s) // chunk_length * chunk_length].reshape(-1, chunk_length) for s in streams]
    order = [
        (row, part)
        for row in range(max(map(len, pieces), default=0))
        for part, piece in enumerate(pieces)
        if row < len(piece)
    ][:max_chunks]
    if not order:
        raise _too_short(corpus, max(map(len, streams), default=0), chunk_length)
    tokens = np.stack([pieces[part][row] for row, part in order])
    if vocab_size and int(tokens.max()) >= vocab_size:
        raise BrokenWeightsError(
            f"the tokenizer gives token {int(tokens.max())}, but the model knows only {vocab_size}; "
            "tokenizer and weights do not belong together, so download the model again."
        )
    provenance = CorpusProvenance(
        name=corpus.name,
        version=corpus.version,
        split=corpus.split,
        n_tokens=int(tokens.size),
        chunk_length=chunk_length,
        stride=chunk_length,
        tokenizer_id=tokenizer_id,
        bos_policy=_bos_policy(tokenizer),
        final_chunk_policy="dropped",
        normalization="none",
        join=corpus.join,
        content_hash=corpus.content_hash,
        token_hash=hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()[:16],
    )
    names = tuple(name for name, _ in corpus.parts)
    short = [name for name, piece in zip(names, pieces, strict=True) if not len(piece)]
    warnings = (f"shorter than a chunk and left out: {', '.join(short)}",) if short else ()
    vocabulary = Vocabulary(tokenizer)
    parts = np.array([part for _, part in order], np.int16)
    return Chunks(tokens, vocabulary.classes(tokens), parts, names, provenance, vocabulary, warnings)


def _tokens(tokenizer: Any, text: str, store: TokenStore | None) -> NDArray[np.int32]:
    if store is None:
        return _encode(tokenizer, text)
    tokens = store.get(text)
    if tokens is None:
        tokens = _encode(tokenizer, text)
        store.put(text, tokens)
    return tokens


def _encode(tokenizer: Any, text: str) -> NDArray[np.int32]:
    # "longer than the maximum length of this model" is no news here: the stream is cut into chunks.
    log = logging.getLogger("transformers.tokenization_utils_base")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return np.asarray(tokenizer.encode(text), dtype=np.int32)
    finally:
        log.setLevel(level)


def _bos_policy(tokenizer: Any) -> str:
    # Asked with a word of its own: the text may itself begin with the characters of that token.
    bos = getattr(tokenizer, "bos_token_id", None)
    starts = bos is not None and _encode(tokenizer, "a")[:1].tolist() == [bos]
    return "once at the start of each part" if starts else "none"


def _builtin() -> Corpus:
    folder = resources.files("mqf_tui.demo") / "corpus"
    parts = tuple((name, (folder / f"{name}.txt").read_text(encoding="utf-8")) for name in BUILTIN_PARTS)
    return Corpus("builtin", BUILTIN_VERSION, parts, join="parts encoded apart, chunks taken in turn")


def _wikitext() -> Corpus:
    path, config, split = WIKITEXT
    try:
        import datasets

        datasets.disable_progress_bars()
        for name in ("datasets", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with contextlib.nullcontext() if _reachable() else _offline():
            rows = datasets.load_dataset(path, config, split=split)
        text = "\n\n".join(rows["text"])
        version = str(getattr(rows.info, "version", "") or "")
    except Exception as error:
        raise BadCorpusError(
            f"wikitext-2 could not be had from the Hugging Face hub ({type(error).__name__}), which needs a "
            f"network the first time; without one, {ALTERNATIVES}."
        ) from error
    words = " ".join(word for word in (config, version) if word)
    return Corpus("wikitext-2", words, (("wikitext-2", text),), split, join="rows joined by blank lines")


@contextlib.contextmanager
def _offline() -> Generator[None]:
    """Keep the libraries from trying for half a minute to reach what is not there."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _reachable() -> bool:
    """Whether the hub's host answers at all; behind a proxy only the library can know."""
    if urllib.request.getproxies():
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((host.hostname, host.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def _file(path: Path) -> Corpus:
    shown = readable(path.name or str(path))
    try:
        if not path.exists():
            raise BadCorpusError(f"there is no corpus or file {str(path)!r}; {ALTERNATIVES}.")
        if not path.is_file():
            raise BadCorpusError(f"{shown} is not a file; name one UTF-8 text file, or use --corpus builtin.")
        raw = path.read_bytes()
    except OSError as error:
        raise BadCorpusError(
            f"{shown} cannot be read ({error.strerror}); check its permissions, or {ALTERNATIVES}."
        ) from error
    text = _decoded(raw, shown)
    if not text.strip():
        raise BadCorpusError(f"{shown} has no text in it; {ALTERNATIVES}.")
    return Corpus(shown, "file", ((shown, text),))


def _decoded(raw: bytes, shown: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadCorpusError(f"{shown} is UTF-16 text; save it as UTF-8.")
    if b"\0" in raw:
        raise BadCorpusError(f"{shown} is a binary file, not text; name a UTF-8 text file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadCorpusError(
            f"{shown} is not UTF-8 text (byte {error.start}); save it as UTF-8, or name another file."
        ) from error


def _too_short(corpus: Corpus, longest: int, chunk_length: int) -> BadCorpusError:
    what = "the longest part of the built-in corpus" if corpus.name == "builtin" else corpus.name
    fits = 1 << max(4, longest.bit_length() - 1)
    hint = f"use --chunk-length {fits} or a longer text" if longest >= 16 else "use a longer text"
    return BadCorpusError(f"{what} has {longest} tokens, fewer than one chunk of {chunk_length}; {hint}.")
