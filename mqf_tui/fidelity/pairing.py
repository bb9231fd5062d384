"""Which runs may be compared at all, and which positions two of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.model.loaded import IN_MEMORY
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import Report
from mqf_tui.reports.setting_words import SAID, assistant_only
from mqf_tui.reports.text import counted, inert

UNKNOWN_MODEL = "unknown model"  # of an import that does not name it


@dataclass(frozen=True)
class Subject:
    """A run to compare: its id, its report, and how to read its positions (None: it has none)."""

    run: str
    report: Report
    load: Callable[[], Positions | None]


class Places(Protocol):
    """Anything with a chunk, a depth and a predicted token for each position, all (n,)."""

    @property
    def chunk(self) -> NDArray[Any]:
        """The chunk each is in."""
        ...

    @property
    def depth(self) -> NDArray[Any]:
        """Its depth within the chunk."""
        ...

    @property
    def token(self) -> NDArray[Any]:
        """The token predicted."""
        ...


@dataclass(frozen=True)
class Shared:
    """The shared positions: indices (m,) into the first and into the second run, in the same order."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]


class UnpairedError(Exception):
    """Two runs cannot be paired; ``str(error)`` says why, to follow "not paired: "."""


def check_reference(first: Report, second: Report) -> None:
    """Raise BadSettingError where the two have different reference models: no difference would mean anything.

    The models' hashes decide where both are known, and are of the same kind: that of a model which was
    in memory already is not one of files. Else their names do, of which one may lack its owner. Two imports
    that name no model are taken for alike. ``doubts`` says so.
    """
    if first.model_hash and second.model_hash and not one_in_memory((first, second)):
        if first.model_hash == second.model_hash:
            return
        why = f"their contents differ ({first.model_hash} and {second.model_hash})"
    elif same_name(first.model, second.model):
        return
    elif UNKNOWN_MODEL in (first.model, second.model):
        why = "the one of an imported run is not known"
    else:
        why = "their names differ"
    raise BadSettingError(
        f"these runs have different reference models, {first.model!r} and {second.model!r}: {why}; each KL "
        "is a distance from its own reference, so compare runs of one model."
    )


def one_in_memory(reports: Sequence[Report]) -> bool:
    """Whether some of these were measured on a model that was in memory already, and others were not."""
    return len({IN_MEMORY in report.compute for report in reports}) > 1


def doubts(reports: Sequence[Report], pairs_known: bool) -> Iterator[str]:
    """What one must know of imported and other runs before one believes a difference; ``pairs_known``: all
    paired."""
    if one_in_memory(reports):
        yield (
            f"of one run the model was {IN_MEMORY}, and its contents cannot be compared with those of files: "
            "by its name it is taken for the same"
        )
    if any(report.model == UNKNOWN_MODEL for report in reports):
        yield "an imported run does not name its model, which is taken for the same"
    imported = [] if pairs_known else [report for report in reports if report.origin is not None]
    with_error = [r for r in imported if r.kl.ci_low is not None and r.kl.ci_high is not None]
    if len(with_error) < len(imported):
        yield "an imported run has no error of its mean KL, for its tool gives none"
    if with_error:
        yield (
            "the error of an imported run is as its tool gives it; where that takes positions for "
            "independent, it is too small"
        )


def same_name(first: str, second: str) -> bool:
    """``org/Model`` is ``org/model`` and ``Model``, but not ``other/Model``."""
    a, b = first.lower(), second.lower()
    return a == b or (not ("/" in a and "/" in b) and a.rsplit("/", 1)[-1] == b.rsplit("/", 1)[-1])


def check_streams(first: Report, second: Report) -> None:
    """Raise UnpairedError where the reports already say that the tokens are not the same."""
    a, b = first.corpus, second.corpus
    if a.content_hash and b.content_hash and a.content_hash != b.content_hash:
        raise UnpairedError(f"the corpus is another ({_corpus(first)} against {_corpus(second)})")
    for name, what in (
        ("chunk_length", "the chunk length"),
        ("stride", "the stride"),
        ("bos_policy", "the BOS policy"),
        ("join", "the way the text is joined"),
        ("normalization", "the text's normalization"),
    ):
        x, y = getattr(a, name), getattr(b, name)
        if x and y and x != y:
            raise UnpairedError(f"{what} is another ({_word(x)} against {_word(y)})")
    if assistant_only(a) != assistant_only(b):
        x, y = (SAID if assistant_only(c) else "all of the text" for c in (a, b))
        raise UnpairedError(f"what is scored is another ({x} against {y})")
    as_many = a.n_tokens and a.n_tokens == b.n_tokens and a.token_hash and b.token_hash
    if as_many and a.token_hash != b.token_hash:
        raise UnpairedError("the tokens are others (their hashes differ), so the tokenizer is another")


def shared_places(first: Places, second: Places) -> Shared:
    """Where both have the same chunk and depth; raises UnpairedError where there is no such place, or where
    one of them holds another token."""
    if len(first.chunk) == len(second.chunk) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("chunk", "depth")
    ):
        everywhere = np.arange(len(first.chunk))
        found = Shared(everywhere, everywhere)
    else:
        _, x, y = np.intersect1d(keys(first), keys(second), return_indices=True)
        found = Shared(x, y)
    if len(found.first) == 0:
        raise UnpairedError("they share no position")
    n_other = int((first.token[found.first] != second.token[found.second]).sum())
    if n_other:
        raise UnpairedError(
            f"the text's own tokens differ at {n_other:,} of {counted(len(found.first), 'shared position')}, "
            "so the text or the tokenizer is another"
        )
    return found


def keys(places: Places) -> NDArray[np.int64]:
    """One number for each place (n,)."""
    return places.chunk.astype(np.int64) << 32 | places.depth.astype(np.int64)


def differences(first: Report, second: Report) -> Iterator[str]:
    """What differs besides the setting, each as ``what: one against the other``; what is not known is not."""
    a, b = first, second
    for what, x, y in (
        ("kind", a.kind, b.kind),
        ("mode", mode_word(a), mode_word(b)),
        ("corpus", *_corpora(a, b)),
        ("chunk length", a.corpus.chunk_length, b.corpus.chunk_length),
        ("BOS policy", a.corpus.bos_policy, b.corpus.bos_policy),
        ("joining of the text", a.corpus.join, b.corpus.join),
        ("normalization", a.corpus.normalization, b.corpus.normalization),
        ("stride", a.corpus.stride, b.corpus.stride),
        ("scored of the text", *_scored_of_text(a, b)),
        ("last chunk", a.corpus.final_chunk_policy, b.corpus.final_chunk_policy),
        ("scored of each chunk", _scored(a, b), _scored(b, a)),
        ("cache", *_caches(a, b)),
        ("compute", a.compute, b.compute),
        ("device", a.device, b.device),
        ("tool", a.origin.tool if a.origin else "mqf-tui", b.origin.tool if b.origin else "mqf-tui"),
        ("mqf-tui", a.versions.mqf_tui, b.versions.mqf_tui),
        ("mlx", a.versions.mlx, b.versions.mlx),
        ("mlx-lm", a.versions.mlx_lm, b.versions.mlx_lm),
        ("transformers", a.versions.transformers, b.versions.transformers),
    ):
        if x and y and x != y:
            yield f"{what}: {_word(x)} against {_word(y)}"


def _scored_of_text(a: Report, b: Report) -> tuple[str, str]:
    if assistant_only(a.corpus) == assistant_only(b.corpus):
        return "", ""
    first, second = (SAID if assistant_only(r.corpus) else "all of it" for r in (a, b))
    return first, second


def _scored(report: Report, other: Report) -> str:
    if report.score_last == other.score_last:
        return ""
    return f"the last {report.score_last} positions" if report.score_last else "all positions"


def mode_word(report: Report) -> str:
    """``stress``, ``deployment from position 128``; empty where the report does not know."""
    if report.quantize_start:
        return f"deployment from position {report.quantize_start}"
    return report.mode or ""


def _caches(a: Report, b: Report) -> tuple[str, str]:
    """How attention read the caches where both know it: their classes are part of the setting."""
    return (a.kernel, b.kernel) if a.kernel and b.kernel else (a.cache, b.cache)


def _corpora(a: Report, b: Report) -> tuple[str, str]:
    """The corpora in words, alike where the texts are the same under two names."""
    if a.corpus.content_hash and a.corpus.content_hash == b.corpus.content_hash:
        return "", ""
    if a.corpus.content_hash and b.corpus.content_hash:
        return _corpus(a), _corpus(b)
    return a.corpus.name, b.corpus.name


def _corpus(report: Report) -> str:
    return inert(f"{report.corpus.name} {report.corpus.content_hash}".strip())


def _word(value: object) -> str:
    return inert(str(value))
