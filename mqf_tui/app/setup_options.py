"""The values that each line of the set-up offers for a model, what they mean, and why some cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from mqf_tui.app.widgets.choice import Option
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import ALL, BOUNDED, FULL_ATTENTION, KIND_WORDS, LayerKind
from mqf_tui.fidelity.settings import KV_BITS, KV_GROUP_SIZES

FILE = "a file"
ALIKE = "alike"
APART = ("k8v6", "k8v4", "k6v4", "k4v8")
FORMATS = ("mxfp8", "mxfp4", "nvfp4")
CHUNK_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 16384, 32768)
CHUNKS = (5, 10, 20, 40)
STARTS = (128, 256, 384)
WHEN_SURE = "sure"
PRECISIONS = (5, 2)  # per cent


def bits() -> list[Option]:
    """Bits of keys and values alike."""
    words = {8: "usually safe", 6: "often safe", 5: "a compromise", 4: "small, with visible damage"}
    return [Option(n, str(n), words.get(n, "smallest, heavy damage")) for n in reversed(KV_BITS)]


def groups(facts: ModelFacts) -> list[Option]:
    """Group sizes."""
    words = {
        32: "finest scales, largest cache",
        64: "mlx-lm's default",
        128: "coarsest scales, smallest cache",
    }
    return [
        Option(
            group,
            str(group),
            words[group],
            None
            if facts.latent or group in facts.valid_groups
            else f"does not divide the head size of {facts.head_dim}",
        )
        for group in KV_GROUP_SIZES
    ]


def formats(facts: ModelFacts) -> list[Option]:
    """Keys and values alike, apart, or in a format of fixed bits and groups."""
    words = {
        ALIKE: "bits and groups above, for both",
        "mxfp8": "8-bit floats in groups of 32",
        "mxfp4": "4-bit floats in groups of 32",
        "nvfp4": "4-bit floats in groups of 16",
    }
    found: list[Option] = []
    for name in (ALIKE, *APART, *FORMATS):
        meaning = words.get(name) or f"{name[1]}-bit keys, {name[3]}-bit values"
        found.append(Option(name, name, meaning, _unfit(facts, name) if name in FORMATS else None))
    return found


def _unfit(facts: ModelFacts, name: str) -> str | None:
    one = parsed(name).keys
    if facts.latent or (one and one.fits(facts.head_dim) and one.fits(facts.v_head_dim)):
        return None
    return f"its groups do not divide the head size of {facts.head_dim}"


def layers(kinds: Sequence[LayerKind]) -> list[Option]:
    """Which layers of a model whose caches are not all of the plain kind."""
    full, others = kinds.count("full"), sorted({KIND_WORDS[kind] for kind in kinds if kind != "full"})
    bounded = all(kind in BOUNDED for kind in kinds if kind != "full")
    stay = "are bounded and stay" if bounded else "stay in full precision"
    recurrent = all(kind == "recurrent" for kind in kinds if kind != "full")
    return [
        Option(
            FULL_ATTENTION,
            "full attention",
            f"{full} of {len(kinds)}; the others {stay}",
            None if full else "this model has no full-attention layers",
        ),
        Option(
            ALL,
            "all, emulated",
            f"{' and '.join(others)} ones too: the quantizer alone",
            "recurrent states are never quantized" if recurrent else None,
        ),
    ]


def lengths(facts: ModelFacts) -> list[Option]:
    """Chunk lengths within the model's context."""

    def refusal(length: int) -> str | None:
        too_long = facts.context is not None and length > facts.context
        return f"longer than this model's context of {facts.context:,}" if too_long else None

    return [
        Option(n, f"{n:,}", "tokens in one cache; depth may add damage", refusal(n)) for n in CHUNK_LENGTHS
    ]


def chunks() -> list[Option]:
    """How many chunks."""
    some = [Option(n, str(n), "more chunks, tighter intervals") for n in CHUNKS]
    return [*some, Option(None, "all", "every chunk of the corpus")]


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


def corpora() -> list[Option]:
    """What text."""
    return [
        Option("builtin", "builtin", "prose, dialogue, code, tables, languages; results by part"),
        Option("wikitext-2", "wikitext-2", "the usual test text; needs a network the first time"),
        Option(FILE, FILE, "your own text, the best judge; name it below"),
    ]
