"""Conversations through a model's own chat template: its tokens, and which of them the assistant said.

Where the template marks them itself (``{% generation %}``) its own marks count. Else the template writes the
conversation once more for each of the assistant's turns, with a word in it that occurs nowhere else: what
stands before and after that word stands before and after the turn.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadCorpusError, brief
from mqf_tui.fidelity.text.corpus import Document
from mqf_tui.fidelity.vocabulary import special_ids

ASSISTANT = ("assistant", "model")
MARKS_ITSELF = re.compile(r"\{%-?\s*generation\s*-?%\}")
TODAY = datetime(2024, 7, 26)  # for templates that write the date: what Llama's own falls back to
DATED = "the chat template asks for today's date and is given 26 July 2024, so that the tokens stay the same"
PROBE = "\ue0f3said\ue0f4"  # of a private area of Unicode
ANOTHER = "use another model, or score all tokens (without --assistant-only)"

Span = tuple[int, int]
Turns = list[dict[str, Any]]


class RefusedConversationError(BadCorpusError):
    """A template does not take a conversation, or it cannot be told apart in what it writes."""


class Conversations:
    """What a tokenizer's chat template makes of conversations.

    ``dated``: the template asked for the date. Raises BadCorpusError where there is no template.
    """

    def __init__(self, tokenizer: Any) -> None:
        # mlx-lm's wrapper cannot be called; what it wraps can.
        self._tokenizer: Any = tokenizer if callable(tokenizer) else tokenizer._tokenizer
        self._template = self._found()
        self._special = special_ids(self._tokenizer)
        self.dated = False

    def tokens(self, document: Document) -> NDArray[np.int32]:
        """The template's tokens of a whole conversation (n,)."""
        text = self._written(_turns(document), document)
        return np.asarray(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)

    def assistant(self, document: Document) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The same tokens (n,), and which of them the assistant said: its words and what ends its turn."""
        if not getattr(self._tokenizer, "is_fast", False):
            raise BadCorpusError(
                "this model's tokenizer does not tell which characters its tokens are of, so the assistant's "
                f"cannot be told apart; {ANOTHER}."
            )
        if MARKS_ITSELF.search(self._template):
            return self._marked(document)
        turns = _turns(document)
        text = self._written(turns, document)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens, offsets = np.asarray(found["input_ids"], np.int32), found["offset_mapping"]
        said = np.zeros(len(tokens), bool)
        for place, turn in enumerate(turns):
            if turn.get("role") in ASSISTANT:
                self._mark(said, tokens, offsets, *self._span(turns, place, text, document))
        return tokens, said

    def _found(self) -> str:
        try:
            return str(self._tokenizer.get_chat_template())
        except Exception as error:  # ValueError, or AttributeError where a tokenizer is none of transformers'
            raise BadCorpusError(
                "this model has no chat template, so a conversation cannot be put to it; use an instruct "
                "model, or plain text."
            ) from error

    def _marked(self, document: Document) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        found = self._apply(_turns(document), document, return_dict=True, return_assistant_tokens_mask=True)
        return np.asarray(found["input_ids"], np.int32), np.asarray(found["assistant_masks"], bool)

    def _written(self, turns: Turns, document: Document, *, prompt: bool = False) -> str:
        return str(self._apply(turns, document, tokenize=False, add_generation_prompt=prompt))

    def _apply(self, turns: Turns, document: Document, **how: Any) -> Any:
        tools = [*document.tools] or None
        try:
            template = str(self._tokenizer.get_chat_template(None, tools))
            with self._date_kept(template):
                return self._tokenizer.apply_chat_template(turns, tools, chat_template=template, **how)
        except Exception as error:  # a template may raise anything, on purpose or not
            raise RefusedConversationError(
                f"this model's chat template does not take such a conversation ({brief(error)}); change the "
                "conversation, or use another model."
            ) from error

    @contextmanager
    def _date_kept(self, template: str) -> Generator[None]:
        """Have a template that asks for the date write the same at any time."""

        def now(form: str) -> str:
            self.dated = True
            return TODAY.strftime(form)

        if "strftime_now" not in template:
            yield
            return
        from transformers.utils import chat_template_utils

        # What a template is given by name is made plain data of, so a function has to be put where it lies.
        known: Any = chat_template_utils._compile_jinja_template(template).globals  # pyright: ignore[reportPrivateUsage]
        known["strftime_now"] = now
        try:
            yield
        finally:
            del known["strftime_now"]

    def _span(self, turns: Turns, place: int, text: str, document: Document) -> tuple[Span, Span]:
        """The characters of one turn of the assistant's, and of what the template writes to end it."""
        probe = [*turns[:place], {"role": turns[place]["role"], "content": PROBE}, *turns[place + 1 :]]
        before, after = _around(self._written(probe, document))
        start = (
            len(before) if text.startswith(before) else self._headed(turns[:place], before, text, document)
        )
        end = len(text) - len(after)
        if start is None or end < start or not text.endswith(after):
            raise _inseparable()
        _, closing = _around(self._written(probe[: place + 1], document))
        return (start, end), (end, end + _common(closing, after))

    def _headed(self, earlier: Turns, before: str, text: str, document: Document) -> int | None:
        """Where a turn begins that the template writes otherwise than the probe: behind its header."""
        prompted = self._written(earlier, document, prompt=True) if earlier else ""
        plain = self._written(earlier, document) if earlier else ""
        header = prompted[len(plain) :] if prompted.startswith(plain) else ""
        common = _common(before, text)
        place = text.rfind(header, 0, common) if header else -1
        return None if place < 0 else place + len(header)

    def _mark(
        self,
        said: NDArray[np.bool_],
        tokens: NDArray[np.int32],
        offsets: Sequence[Span],
        words: Span,
        closing: Span,
    ) -> None:
        for i, (start, end) in enumerate(offsets):
            if end > words[0] and start < words[1]:
                said[i] = True
            elif closing[0] <= start < closing[1] and int(tokens[i]) in self._special:
                said[i] = True
                return  # what follows is between turns


def _turns(document: Document) -> Turns:
    return [dict(message) for message in document.messages]


def _around(written: str) -> tuple[str, str]:
    """What stands before and after the probe."""
    before, *after = written.split(PROBE)
    if len(after) != 1:
        raise _inseparable()
    return before, after[0]


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _inseparable() -> RefusedConversationError:
    return RefusedConversationError(
        "this model's chat template writes a conversation so that the assistant's words cannot be told from "
        f"the rest; {ANOTHER}."
    )
