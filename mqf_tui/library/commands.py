"""The command line that measures the same as given settings."""

from __future__ import annotations

from mqf_tui.fidelity.settings import KEEP_TOP, SweepSettings, share_word
from mqf_tui.fidelity.text.words import choice_words


def sweep_words(sweep: SweepSettings) -> tuple[str, ...] | None:
    """The arguments of ``mqf-tui`` that mean these settings, from ``sweep`` on; None where no options can
    say them: thresholds of the caller's own, recipes, and settings that differ in more than the quantizers.
    """
    first = sweep.first
    alike = {(one.layers, one.kernel) for one in sweep.variants} == {(first.layers, first.kernel)}
    if not alike or first.thresholds is not None or any(one.recipe is not None for one in sweep.variants):
        return None
    values = {
        "--kv": ",".join(one.quantizers.word for one in sweep.variants),
        "--layers": first.layers,
        "--kernel": first.kernel,
        "--quantize-start": first.quantize_start,
        "--chunk-length": first.chunk_length,
        "--max-chunks": first.max_chunks,
        "--score-last": first.score_last,
        "--corpus": first.corpus,
        "--precision": None if first.precision is None else share_word(first.precision),
        "--max-kl": first.max_kl,
        "--max-flips": None if first.max_flips is None else share_word(first.max_flips),
        "--keep-top": None if first.keep_top == KEEP_TOP else first.keep_top,
        "--memory-limit": sweep.memory_limit,
    }
    text = choice_words(first.text)
    given = {
        "--until-sure": first.until_sure,
        "--race": sweep.race,
        "--trust-remote-code": first.trust_remote_code,
    }
    named = (word for name, value in values.items() if value is not None for word in (name, str(value)))
    return ("sweep", first.model, *named, *text, *(name for name, set_ in given.items() if set_))
