"""The values that each line of the set-up offers for some models, what they mean, and why some cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mqf_tui.app.widgets.choice import Option
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import Shape
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import ALL, BOUNDED, FULL_ATTENTION, KIND_WORDS
from mqf_tui.fidelity.settings import KV_BITS, KV_GROUP_SIZES
from mqf_tui.library.profiles import ALIKE, Profile
from mqf_tui.reports.text import inert

FILE = "a file"
NAMED_CORPORA = ("builtin", "wikitext-2", "wikitext-103")
APART = ("k8v6", "k8v4", "k6v4", "k4v8")
FORMATS = ("mxfp8", "mxfp4", "nvfp4")
CHUNK_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 16384, 32768)
STARTS = (128, 256, 384)
WHEN_SURE = "sure"
PRECISIONS = (5, 2)  # per cent
OWN = ""  # the value of the line of profiles that none is the value of


class Measured(Protocol):
    """One of the models that are set up."""

    @property
    def facts(self) -> ModelFacts:
        """What its headers say."""
        ...

    @property
    def shape(self) -> Shape:
        """What its configuration says of its caches."""
        ...

    @property
    def special(self) -> bool:
        """Whether not all of its caches are of the plain kind."""
        ...


def refused(models: Sequence[Measured], why: Callable[[Measured], str | None]) -> str | None:
    """Why a value cannot be chosen for one of the models, which is named where there are several."""
    for model in models:
        reason = why(model)
        if reason is not None:
            return reason if len(models) == 1 else f"{reason} ({inert(model.facts.name)})"
    return None


def profiles(found: Sequence[Profile]) -> list[Option]:
    """Those of the package and of the user."""
    own = Option(OWN, "own", "values of your own, as they were chosen last")
    return [own, *(Option(one.name, one.name, one.words or "from settings.toml") for one in found)]


def bits() -> list[Option]:
    """Bits of keys and values alike."""
    words = {8: "usually safe", 6: "often safe", 5: "a compromise", 4: "small, with visible damage"}
    return [Option(n, str(n), words.get(n, "smallest, heavy damage")) for n in reversed(KV_BITS)]


def groups(models: Sequence[Measured]) -> list[Option]:
    """Group sizes."""
    words = {
        32: "finest scales, largest cache",
        64: "mlx-lm's default",
        128: "coarsest scales, smallest cache",
    }

    def unfit(group: int) -> Callable[[Measured], str | None]:
        def why(one: Measured) -> str | None:
            fits = one.facts.latent or group in one.facts.valid_groups
            return None if fits else f"does not divide the head size of {one.facts.head_dim}"

        return why

    return [Option(n, str(n), words[n], refused(models, unfit(n))) for n in KV_GROUP_SIZES]


def formats(models: Sequence[Measured], more: Sequence[str] = ()) -> list[Option]:
    """Keys and values alike, apart, or in formats of fixed bits and groups; ``more``: others of profiles."""
    words = {
        ALIKE: "bits and groups above, for both",
        "mxfp8": "8-bit floats in groups of 32",
        "mxfp4": "4-bit floats in groups of 32",
        "nvfp4": "4-bit floats in groups of 16",
    }
    usual = (ALIKE, *APART, *FORMATS)
    found: list[Option] = []
    for name in dict.fromkeys((*usual, *more)):
        apart = f"{name[1]}-bit keys, {name[3]}-bit values" if name in APART else "from a profile"
        refusal = refused(models, _unfit(name)) if name not in (ALIKE, *APART) else None
        found.append(Option(name, name, words.get(name) or apart, refusal))
    return found


def _unfit(name: str) -> Callable[[Measured], str | None]:
    # Where a side has no group of its own it gets those of the line above, which has its own refusals.
    sides = parsed(name)

    def why(one: Measured) -> str | None:
        dims = ((sides.keys, one.facts.head_dim), (sides.values, one.facts.v_head_dim))
        fixed = [(q, dim) for q, dim in dims if q is not None and (q.mode != "affine" or "g" in name)]
        if one.facts.latent or all(q.fits(dim) for q, dim in fixed):
            return None
        return f"its groups do not divide the head size of {one.facts.head_dim}"

    return why


def layers(models: Sequence[Measured]) -> list[Option]:
    """Which layers of models whose caches are not all of the plain kind."""
    special = [one for one in models if one.special]
    kinds = special[0].shape.kinds
    full, others = kinds.count("full"), sorted({KIND_WORDS[kind] for kind in kinds if kind != "full"})
    bounded = all(kind in BOUNDED for kind in kinds if kind != "full")
    stay = "are bounded and stay" if bounded else "stay in full precision"
    several = f"those of {len(special)} models; the others stay in full precision"

    def no_full(one: Measured) -> str | None:
        return None if "full" in one.shape.kinds else "this model has no full-attention layers"

    def recurrent(one: Measured) -> str | None:
        only = all(kind == "recurrent" for kind in one.shape.kinds if kind != "full")
        return "recurrent states are never quantized" if only else None

    return [
        Option(
            FULL_ATTENTION,
            "full attention",
            f"{full} of {len(kinds)}; the others {stay}" if len(special) == 1 else several,
            refused(special, no_full),
        ),
        Option(
            ALL,
            "all, emulated",
            f"{' and '.join(others)} ones too: the quantizer alone",
            refused(special, recurrent),
        ),
    ]


def lengths(models: Sequence[Measured]) -> list[Option]:
    """Chunk lengths within the models' context."""

    def too_long(length: int) -> Callable[[Measured], str | None]:
        def why(one: Measured) -> str | None:
            context = one.facts.context
            fits = context is None or length <= context
            return None if fits else f"longer than this model's context of {context:,}"

        return why

    words = "tokens in one cache; depth may add damage"
    return [Option(n, f"{n:,}", words, refused(models, too_long(n))) for n in CHUNK_LENGTHS]


def stops() -> list[Option]:
    """When to stop."""
    within = "as soon as mean KL is known to within ±{} % of itself"
    return [
        Option(None, "at the end", "every chunk asked for is scored; the tightest intervals"),
        Option(WHEN_SURE, "when sure", "as soon as one verdict is left; wrong in at most 5 % of runs"),
        *(Option(share, f"within {share} %", within.format(share)) for share in PRECISIONS),
    ]


def races() -> list[Option]:
    """Whether several settings race."""
    return [
        Option(0, "no", "every setting gets every chunk"),
        Option(1, "yes", "what is surely bad or surely worse drops out on the way"),
    ]


def modes() -> list[Option]:
    """Stress and deployment."""
    late = [Option(n, f"from {n}", "deployment: full at first, then converted") for n in STARTS]
    return [Option(0, "stress", "quantized from the first token on; hardest"), *late]


def corpora(mixtures: Sequence[str] = (), problem: str = "") -> list[Option]:
    """What text; ``mixtures``: the names of the user's, ``problem``: why they cannot be read."""
    return [
        Option("builtin", "builtin", "prose, dialogue, code, tables, languages; results by part"),
        Option("wikitext-2", "wikitext-2", "the usual test text; needs a network the first time"),
        Option("wikitext-103", "wikitext-103", "its longer kin; needs a network the first time"),
        *(Option(name, inert(name), "a mixture of corpora.toml") for name in mixtures),
        *([Option("corpora.toml", "corpora.toml", "", problem)] if problem else []),
        Option(FILE, "own", "your own text, the best judge: file, folder, hf:owner/name; name it below"),
    ]


def documents() -> list[Option]:
    """Where documents of a text meet."""
    return [
        Option("auto", "as usual", "texts are joined, conversations kept apart"),
        Option("join", "joined", "one behind the other, then cut; no text is lost between them"),
        Option("apart", "apart", "each begins in a chunk of its own"),
    ]


def bos() -> list[Option]:
    """Where the token stands that begins a text."""
    return [
        Option("auto", "as usual", "at the start of each chunk, where the tokenizer itself puts one"),
        Option("chunk", "each chunk", "at the start of each chunk"),
        Option("part", "each part", "once at the start of each part"),
        Option("none", "none", "nowhere; some models then do badly at a chunk's start"),
    ]


def strides(length: int) -> list[Option]:
    """From one chunk's start to the next one's."""
    words = "chunks overlap; what was seen before is context and scored once"
    shares = sorted({length // 4, length // 2, 3 * length // 4} - {0})
    return [
        Option(None, "none", "chunks do not overlap"),
        *(Option(n, f"{n:,}", words) for n in shares),
    ]


def rests() -> list[Option]:
    """What becomes of what is left at an end."""
    return [
        Option("auto", "as usual", "dropped where texts are joined, padded where they are apart"),
        Option("drop", "dropped", "only whole chunks are scored"),
        Option("pad", "padded", "scored too, in a chunk that is not full"),
    ]


def scored(refusal: str | None) -> list[Option]:
    """Which tokens; ``refusal``: why there is no assistant."""
    return [
        Option(0, "all", "every token that has one before it"),
        Option(1, "assistant", "of conversations what the assistant says; the rest is context", refusal),
    ]


def keeps() -> list[Option]:
    """Whether reports carry words of the text."""
    return [
        Option(None, "as usual", "reports quote built-in and public texts, never your own files"),
        Option("yes", "yes", "runs keep the words, reports quote them; Explore can show the text"),
        Option("no", "no", "neither runs nor reports hold words of it; Explore shows tokens by number"),
    ]
