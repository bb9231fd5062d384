"""What the lines of the set-up hold, as data: from a profile, and into the settings of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mqf_tui.app.setup_options import ALIKE, FILE, NAMED_CORPORA, WHEN_SURE
from mqf_tui.app.setup_texts import KEEP, TEXT_DEFAULTS, Lines, check_word, corpus_of, options_of_lines
from mqf_tui.fidelity.errors import FidelityError, UnsupportedModelError
from mqf_tui.fidelity.model.facts import ModelFacts, check_length, check_setting
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.recipes import ALL
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread
from mqf_tui.library.last_used import Choices, Value
from mqf_tui.library.models import LocalModel
from mqf_tui.library.profiles import ALL as EVERY_CHUNK
from mqf_tui.library.profiles import Profile


@dataclass(frozen=True)
class Subject:
    """A model that is set up, with what its headers say."""

    model: LocalModel
    facts: ModelFacts
    shape: Shape

    @property
    def special(self) -> bool:
        """Whether not all of its caches are of the plain kind."""
        return set(self.shape.kinds) != {"full"}


def subjects_of(models: Sequence[LocalModel]) -> tuple[Subject, ...]:
    """Those of the models that can be measured."""
    return tuple(Subject(m, m.facts, read_shape(m.facts)) for m in models if m.facts and m.problem is None)


def sweeps_of(subjects: Sequence[Subject], lines: Lines) -> tuple[SweepSettings, ...]:
    """The measurement of each model, checked; raises FidelityError, naming the model where there are more."""
    found: list[SweepSettings] = []
    for subject in subjects:
        try:
            found.append(sweep_of(subject, lines))
        except FidelityError as error:
            if len(subjects) == 1:
                raise
            raise UnsupportedModelError(f"{subject.model.name}: {error}") from error
    return tuple(found)


def sweep_of(subject: Subject, lines: Lines) -> SweepSettings:
    """The measurement of a model, checked; raises FidelityError where it cannot be."""
    variants = variants_of(subject, lines)
    sweep = SweepSettings(variants, race=len(variants) > 1 and bool(_first(lines, "race")))
    sweep.check()
    for one in variants:
        check_setting(subject.facts, one)
    check_length(subject.facts, sweep.first.chunk_length)
    return sweep


def variants_of(subject: Subject, lines: Lines) -> tuple[KVSettings, ...]:
    """All that is to be done to the cache; raises FidelityError."""
    formats = [str(word) for word in lines["formats"]]
    return spread(
        _base(subject, lines),
        bits=[_number(n) for n in lines["bits"]] if ALIKE in formats else (),
        groups=[_number(n) for n in lines["group"]],
        formats=[word for word in formats if word != ALIKE],
    )


def text_settings(subject: Subject, lines: Lines) -> KVSettings:
    """What is scored of which text, and nothing else that may be wrong; raises BadCorpusError."""
    corpus = corpus_of(lines)
    check_word(corpus)
    return KVSettings(
        model=subject.model.word,
        quantize_start=_number(_first(lines, "start")),
        chunk_length=_number(_first(lines, "length")),
        corpus=corpus,
        trust_remote_code=subject.model.trusted,
        text=options_of_lines(lines),
    )


def _base(subject: Subject, lines: Lines) -> KVSettings:
    """All but what is done to keys and values."""
    chunks, stop = _first(lines, "chunks"), _first(lines, "stop")
    layers = _first(lines, "layers") if subject.special else None
    return replace(
        text_settings(subject, lines),
        layers=str(layers) if layers is not None else None,
        kernel="emulated" if layers == ALL else "auto",
        max_chunks=chunks if isinstance(chunks, int) else None,
        until_sure=stop == WHEN_SURE,
        precision=stop / 100 if isinstance(stop, int) else None,
    )


def profile_lines(profile: Profile) -> Choices:
    """What a profile sets, line by line."""
    found: Choices = {}
    for name, values in (("bits", profile.bits), ("group", profile.groups), ("formats", profile.formats)):
        if values is not None:
            found[name] = values
    if profile.chunk_length is not None:
        found["length"] = (profile.chunk_length,)
    if profile.chunks is not None:
        found["chunks"] = (None if profile.chunks == EVERY_CHUNK else profile.chunks,)
    if profile.stop is not None:
        stop = profile.stop.removesuffix("%")
        found["stop"] = (None if stop == "end" else int(stop) if stop.isdigit() else WHEN_SURE,)
    if profile.race is not None:
        found["race"] = (int(profile.race),)
    if profile.quantize_start is not None:
        found["start"] = (profile.quantize_start,)
    if profile.corpus is not None:
        named = profile.corpus in NAMED_CORPORA
        found["corpus"] = (profile.corpus if named else FILE,)
        if not named:
            found["file"] = (profile.corpus,)
    for name in ("documents", "bos", "stride", "rest", "field", "glob", "seed"):
        if (value := getattr(profile, name)) is not None:
            found[name] = (value,)
    if profile.assistant_only is not None:
        found["scored"] = (int(profile.assistant_only),)
    if profile.keep_text is not None:
        found["keep"] = (next(word for word, kept in KEEP.items() if kept is profile.keep_text),)
    return found


def fits(profile: Profile, lines: Lines) -> bool:
    """Whether the lines still hold what the profile sets."""
    held = TEXT_DEFAULTS | dict(lines)
    wanted = profile_lines(profile)
    return all(name in held and set(held[name]) == set(values) for name, values in wanted.items())


def _first(lines: Lines, name: str) -> Value:
    return next(iter(lines.get(name, ())), None)


def _number(value: Value) -> int:
    assert isinstance(value, int)
    return value
