"""How a text is read and cut into chunks: the choices beside chunk length and number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mqf_tui.fidelity.errors import BadSettingError

if TYPE_CHECKING:
    from mqf_tui.reports.schema import CorpusProvenance, TextReading

Documents = Literal["auto", "join", "apart"]
Bos = Literal["auto", "chunk", "part", "none"]
Rest = Literal["auto", "drop", "pad"]
DOCUMENTS: tuple[Documents, ...] = ("auto", "join", "apart")
BOS: tuple[Bos, ...] = ("auto", "chunk", "part", "none")
REST: tuple[Rest, ...] = ("auto", "drop", "pad")


@dataclass(frozen=True)
class TextOptions:
    """Choices about a text; the defaults are right for most.

    ``field``: the field of JSON lines that holds the text (None: ``text``, ``messages`` or the one there is).
    ``glob``: the files of a folder (None: those that hold text). ``documents``: "join" puts the documents of
    a part one behind the other before it is cut, "apart" begins each in a chunk of its own; "auto" joins
    texts and keeps conversations apart. ``bos``: where the token that begins a text stands: at the start of
    each "chunk", of each "part", or nowhere; "auto": of each chunk, where the tokenizer itself puts it in
    front. ``stride``: tokens from one chunk's start to the next one's (None: no overlap); what overlaps is
    context and scored once. ``rest``: what is left of a part or document at its end is dropped or padded;
    "auto" pads where documents are apart. ``assistant_only``: of conversations only the assistant's tokens
    are scored. ``keep_text``: whether reports and runs carry words of the text; None: of public texts only.
    ``seed``: of what a mixture takes from its parts.

    Raises BadSettingError from ``check()``.
    """

    field: str | None = None
    glob: str | None = None
    documents: Documents = "auto"
    bos: Bos = "auto"
    stride: int | None = None
    rest: Rest = "auto"
    assistant_only: bool = False
    keep_text: bool | None = None
    seed: int = 0

    def check(self, chunk_length: int) -> None:
        """Raise BadSettingError on the first value that cannot be."""
        for name, values in (("documents", DOCUMENTS), ("bos", BOS), ("rest", REST)):
            value = getattr(self, name)
            if value not in values:
                raise BadSettingError(f"{name} is {value!r}; choose one of {', '.join(values)}.")
        for name in ("field", "glob"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise BadSettingError(f"{name} is {value!r}; use a word, or leave it out.")
        if type(self.seed) is not int or self.seed < 0:
            raise BadSettingError(f"seed is {self.seed!r}; use a whole number from 0.")
        if type(self.assistant_only) is not bool:
            raise BadSettingError(f"assistant_only is {self.assistant_only!r}; use True or False.")
        if self.keep_text not in (None, True, False):
            raise BadSettingError(f"keep_text is {self.keep_text!r}; use True, False or None.")
        if self.stride is not None and (type(self.stride) is not int or not 1 <= self.stride <= chunk_length):
            raise BadSettingError(
                f"stride is {self.stride!r}; use 1 to {chunk_length} tokens (the chunk length), or leave it "
                "out."
            )


def text_choices(given: TextOptions | None) -> TextOptions:
    """What a caller of the Python API asked for; raises BadSettingError where it is something else."""
    if given is None:
        return TextOptions()
    if not isinstance(given, TextOptions):
        raise BadSettingError(f"text is {given!r}; use TextOptions(…), or leave it out.")
    return given


def options_of(corpus: CorpusProvenance) -> TextOptions:
    """The choices that a report was made with. Before there were any, the token that begins a text stood once
    at the start of each part."""
    reading = corpus.reading
    if reading is None:
        return TextOptions(bos="part" if "each part" in corpus.bos_policy else "auto")
    told: dict[str, Any] = {name: getattr(reading, name) for name in type(reading).model_fields}
    return TextOptions(**told)


def reading_of(options: TextOptions) -> TextReading:
    """The choices that a report tells of."""
    from mqf_tui.reports.schema import TextReading

    return TextReading.model_validate({name: getattr(options, name) for name in TextReading.model_fields})
