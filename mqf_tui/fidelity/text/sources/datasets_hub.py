"""Data sets of the hub as parts, through ``datasets``: small ones whole, of others what is needed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Corpus, Document, Part
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.hub_faults import NO_ANSWER, OFFLINE, hub_fault, listed
from mqf_tui.fidelity.text.sources.hub_words import NAMED, HubWord
from mqf_tui.fidelity.text.sources.parquet import BATCH
from mqf_tui.fidelity.text.sources.rows import Notices, Rows, chosen_field, has_field, names_of
from mqf_tui.reports.text import inert

SMALL = 50_000_000  # bytes of a configuration; what is larger is not fetched whole
SPLITS = ("test", "validation", "train")  # the first of these that there is
KINDS = ("parquet", "json", "csv", "text", "arrow", "cache")  # modules of datasets; the last: kept before
RETRIES, PAUSE = 3, 2  # of a connection that breaks, and seconds between


def hub_corpus(name: str, word: HubWord, options: TextOptions) -> Corpus:
    """Open a data set; raises BadCorpusError, now or when its rows are read."""
    shown = name if name in NAMED else str(word)
    with _told(shown, word.repo):
        opened = _Opened.of(word, shown)
        column = opened.column(word.column, options, shown)
        rows = opened.rows(column)
    if name not in NAMED:
        shown = str(replace(word, split=opened.split, column=column))
    notices = Notices()
    documents = Rows(_Numbered(rows), shown, options, column, notices, keeps_empty=True)
    part = Part(shown, _Told(documents, shown, word.repo), complete=opened.complete, notices=notices)
    public = name in NAMED or opened.public
    return Corpus(shown, opened.version, (part,), opened.split, public=public)


@dataclass(frozen=True)
class _Opened:
    """A builder of ``datasets``, and the split that is taken.

    ``kept``: it is on this machine, or small enough to be put there; else rows come as they are needed.
    ``complete``: reading all of it is cheap. ``public``: the hub says that anyone can read it.
    """

    builder: Any
    split: str
    kept: bool
    complete: bool
    public: bool

    @classmethod
    def of(cls, word: HubWord, shown: str) -> _Opened:
        """Asks the hub, or the cache; raises what ``datasets`` raises, and BadCorpusError."""
        library = _library()
        reachable = _reachable()
        with contextlib.nullcontext() if reachable else _unreached():
            builder = library.load_dataset_builder(word.repo, word.config)
            _check_kind(builder, shown)
            splits = _splits(builder)
            split = word.split or next((one for one in SPLITS if one in splits), None)
            split = split or (splits[0] if len(splits) == 1 else None)
            if split not in splits:
                what = f"no split {inert(word.split)!r}" if word.split else "none of the usual splits"
                config = f":{word.config}" if word.config else ""
                raise BadCorpusError(
                    f"{shown} has {what}; name one as hf:{word.repo}{config}/SPLIT, of {listed(splits)}."
                )
            n_bytes = _size(builder)
            small = n_bytes is not None and n_bytes <= SMALL
            kept = small or os.path.isdir(str(builder.cache_dir))
            if kept:
                builder.download_and_prepare()
        return cls(builder, split, kept, small, reachable and _is_public(word.repo))

    @property
    def version(self) -> str:
        """The configuration and the commit, as far as they are known."""
        commit = str(getattr(self.builder, "hash", None) or "")[:10]
        return " ".join(word for word in (str(self.builder.config.name), commit) if word)

    def column(self, wanted: str | None, options: TextOptions, shown: str) -> str:
        """The column that holds the text; raises BadCorpusError where there is none, or not one alone."""
        wanted = wanted or options.field
        row: Mapping[str, Any] = {}
        if self.builder.info.features is None:  # the owner says nothing of them; files by column do
            rows = self.builder.as_streaming_dataset(split=self.split)
            if self.builder.info.features is None:
                row = next(iter(rows), {})
        if self.builder.info.features is not None:
            row = {name: _example(feature) for name, feature in self.builder.info.features.items()}
        if wanted is None:
            return chosen_field(row, options, shown, how="name one behind #")
        if not has_field(row, wanted):
            raise BadCorpusError(f"{shown} has no column {inert(wanted)!r}; there is {names_of(row)}.")
        return wanted

    def rows(self, column: str) -> Any:
        """The rows, which may be iterated again; of files by column only those that are needed."""
        if self.kept:
            return self.builder.as_dataset(split=self.split)
        files = getattr(self.builder.config, "data_files", None)
        if type(self.builder.config).__name__ != "ParquetConfig" or not files:
            return self.builder.as_streaming_dataset(split=self.split)
        features = self.builder.info.features or {}
        columns = tuple(name for name in features if name in (column, "tools", "system"))
        return _ParquetFiles(tuple(map(str, files[self.split])), columns if column in columns else None)


@dataclass(frozen=True)
class _ParquetFiles:
    """Rows of parquet files that lie on the hub, a row group and the columns that are needed at a time.

    The library's own streaming reads ahead in threads of Arrow's, which go on when nobody asks any more and
    end a process that ends meanwhile with an abort.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...] | None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        import pyarrow.parquet
        from huggingface_hub import HfFileSystem

        hub = HfFileSystem()
        for name in self.files:
            with hub.open(name, "rb") as raw, pyarrow.parquet.ParquetFile(raw, pre_buffer=False) as file:
                for group in range(file.num_row_groups):
                    batches = file.iter_batches(
                        BATCH, [group], list(self.columns) if self.columns else None, use_threads=False
                    )
                    for batch in batches:
                        yield from batch.to_pylist()


@dataclass(frozen=True)
class _Numbered:
    """Rows, each with where it stands."""

    rows: Any

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, row in enumerate(self.rows, 1):
            yield f"row {number:,}", row


@dataclass(frozen=True)
class _Told:
    """Documents that come from far; what goes wrong on the way is told in a sentence."""

    documents: Rows
    shown: str
    repo: str

    def __iter__(self) -> Iterator[Document]:
        with _told(self.shown, self.repo):
            yield from self.documents


@contextlib.contextmanager
def _told(shown: str, repo: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        raise hub_fault(error, shown, repo) from error


def _library() -> Any:
    """``datasets``, silent, and not patient for minutes with a connection that broke."""
    import datasets
    from datasets import config
    from huggingface_hub.utils import disable_progress_bars

    datasets.disable_progress_bars()
    disable_progress_bars()  # they would draw over the app's screen
    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for kind in ("STREAMING_READ", "STREAMING_OPEN"):
        _at_most(config, f"{kind}_MAX_RETRIES", RETRIES)
    for name in ("RETRY_INTERVAL", "SERVER_UNAVAILABLE_RETRY_INTERVAL", "RATE_LIMIT_RETRY_INTERVAL"):
        _at_most(config, f"STREAMING_READ_{name}", PAUSE)
    _at_most(config, "STREAMING_OPEN_RETRY_INTERVAL", PAUSE)
    return datasets


def _at_most(config: Any, name: str, most: int) -> None:
    if getattr(config, name, 0) > most:
        setattr(config, name, most)


def _is_public(repo: str) -> bool:
    """Whether a data set can be read by who is not logged in and has accepted nothing."""
    from huggingface_hub import HfApi, constants

    try:
        found = HfApi(endpoint=constants.ENDPOINT).dataset_info(repo, timeout=10)
    except Exception:  # not knowing is no reason to fail: then its words are not repeated
        return False
    return not found.private and not found.gated


def _check_kind(builder: Any, shown: str) -> None:
    """Raise BadCorpusError for files of other kinds than rows; some of those are pickled, and so run code."""
    modules = [one.__module__ for one in type(builder).__mro__]
    kinds = [module.split(".")[2] for module in modules if module.startswith("datasets.packaged_modules.")]
    if not kinds or kinds[0] not in KINDS:
        found = f"{kinds[0]} files" if kinds else "files of another kind"
        raise BadCorpusError(
            f"{shown} is made of {found}, and only {', '.join(KINDS[:-1])} are read; choose another data set."
        )


def _splits(builder: Any) -> list[str]:
    files = getattr(builder.config, "data_files", None)
    return [str(name) for name in (files or builder.info.splits or ())]


def _size(builder: Any) -> int | None:
    """Bytes of a configuration, by what its owner says, or else its files; None where neither tells."""
    known = [n for n in (builder.info.dataset_size, builder.info.download_size) if n]
    if known:
        return max(known)
    files = getattr(builder.config, "data_files", None)
    if not files:
        return None
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem()
    try:
        return sum(int(hub.info(path)["size"]) for paths in files.values() for path in paths)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _example(feature: Any) -> Any:
    """A value as the rows of a column have it, as far as it tells texts, conversations and the rest apart."""
    if isinstance(feature, Mapping):
        return {name: _example(one) for name, one in feature.items()}
    if isinstance(feature, list):
        return [_example(feature[0])]
    if getattr(feature, "dtype", None) in ("string", "large_string"):
        return ""
    inner = getattr(feature, "feature", None)
    return None if inner is None else [_example(inner)]


@contextlib.contextmanager
def _unreached() -> Generator[None]:
    """Take what is on this machine: the libraries would try for half a minute to reach what is not there."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    except BadCorpusError:
        raise
    except Exception as error:
        raise ConnectionError(OFFLINE if any(before) else NO_ANSWER) from error
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _reachable() -> bool:
    """Whether the hub's host answers at all; behind a proxy only the library can know."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    host = urlsplit(constants.ENDPOINT)
    try:
        port = host.port or (80 if host.scheme == "http" else 443)
        socket.create_connection((host.hostname or "", port), timeout=3).close()
    except OSError:
        return False
    return True
