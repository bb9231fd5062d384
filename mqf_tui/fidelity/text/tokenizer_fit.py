"""How well a tokenizer handles a text: tokens that are unknown, or only pieces of characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.vocabulary import Vocabulary
from mqf_tui.reports.text import percent

# An unknown token stands for text that the model never sees; a good tokenizer needs none.
MOST_UNKNOWN = 0.001
# English, code and the languages that a vocabulary was made for stay below 2 %; a script that it does not
# have gives two or three such tokens a character.
MOST_PIECES = 0.20


@dataclass(frozen=True)
class Fit:
    """Shares of all tokens: ``unknown`` ones, and ``pieces`` that are no whole character;
    ``tokens_per_character`` of the text they spell (None: of none)."""

    unknown: float
    pieces: float
    tokens_per_character: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences' beginnings for a report, where the text is handled badly."""
        found: list[str] = []
        if self.unknown > MOST_UNKNOWN:
            found.append(
                f"{percent(self.unknown)} of the tokens are unknown to this model's tokenizer, so the model "
                "does not see that text"
            )
        if self.pieces > MOST_PIECES:
            per = self.tokens_per_character
            found.append(
                f"{percent(self.pieces)} of the tokens are no whole character"
                f"{f' ({per:.2g} tokens a character)' if per else ''}: this model's tokenizer hardly knows "
                "the script of the text"
            )
        return tuple(found)


def fit_of(
    tokens: NDArray[np.int32], lengths: NDArray[np.int32], tokenizer: Any, vocabulary: Vocabulary
) -> Fit:
    """How well the tokens (n, L), of which ``lengths`` (n,) are text, spell it."""
    text = tokens[np.arange(tokens.shape[1]) < lengths[:, None]]
    ids, counts = np.unique(text, return_counts=True)
    spelled = vocabulary.texts(ids)
    special = vocabulary.special
    words = [("" if i in special else spelled.get(i, "")) for i in ids.tolist()]
    n = int(counts.sum())
    pieces = np.array([any("\udc80" <= c <= "\udcff" for c in word) for word in words], bool)
    unknown = np.array([i == _unknown(tokenizer) for i in ids.tolist()], bool)
    # The bytes of a character count as one together, so what leads one counts and what continues it does not.
    n_characters = sum(
        count * sum(not "\udc80" <= c <= "\udcbf" for c in word)
        for word, count in zip(words, counts.tolist(), strict=True)
    )
    return Fit(
        float(counts[unknown].sum() / n) if n else 0.0,
        float(counts[pieces].sum() / n) if n else 0.0,
        n / n_characters if n_characters else None,
    )


def _unknown(tokenizer: Any) -> int | None:
    """The id of what is unknown; none where the same token begins, ends or pads a text."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    others = (getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad"))
    return unknown if isinstance(unknown, int) and unknown not in others else None
