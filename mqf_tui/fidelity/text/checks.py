"""What a measurement asks of its chunks, once they are cut and before weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadCorpusError, BadSettingError

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import SweepSettings
    from mqf_tui.fidelity.text.chunking import Chunks


def check_positions(settings: SweepSettings, chunks: Chunks) -> None:
    """Raise BadCorpusError where no position is left to score, BadSettingError where the measurement may end
    early and chunks have unequally many: its confidence sequences are of means of equally many."""
    first = settings.first
    counts = chunks.positions(first.first_scored)
    scored = counts[counts > 0]
    if not len(scored):
        raise BadCorpusError(
            f"no chunk of {chunks.provenance.name} has anything to score after its first "
            f"{first.first_scored} positions; lower the quantize start, or leave out --score-last."
        )
    race = settings.race and len(settings.variants) > 1
    if not (first.stops_early or race) or scored.min() == scored.max():
        return
    options = [
        *(["--until-sure"] if first.until_sure else []),
        *(["--precision"] if first.precision is not None else []),
        *(["--race"] if race else []),
    ]
    raise BadSettingError(
        f"{' and '.join(options)} cannot be used with chunks that have unequally many positions to score "
        f"(here {scored.min():,} to {scored.max():,}), for it goes by their means; leave it out"
        f"{_instead(chunks)}."
    )


def _instead(chunks: Chunks) -> str:
    """What would make the chunks equal."""
    reading, policy = chunks.provenance.reading, chunks.provenance.final_chunk_policy
    if reading is None or reading.assistant_only:
        return ""
    if reading.stride is not None and reading.stride < chunks.provenance.chunk_length:
        return ", or leave out --stride"
    return ", or use --rest drop" if policy == "padded" else ""
