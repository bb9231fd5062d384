"""What was scored of one variant so far, and the report of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import FidelityError, ZeroDriftError
from mqf_tui.fidelity.events import SKIPPED, Failed, Finished, Plan, Stopped
from mqf_tui.fidelity.load import Load
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions

if TYPE_CHECKING:
    from mqf_tui.fidelity.stopping import Sureness
    from mqf_tui.fidelity.tops import Keeper, Tops
    from mqf_tui.fidelity.vocabulary import Vocabulary
    from mqf_tui.reports.schema import Report, Stopping


@dataclass
class Measured:
    """One variant of a running measurement; ``seconds`` are its own and its share of the reference's.

    ``n_known`` of its positions were scored before, by a measurement that this one goes on with.
    """

    plan: Plan
    facts: ModelFacts
    vocabulary: Vocabulary
    sureness: Sureness | None = None
    keeper: Keeper | None = None
    pieces: list[Positions] = field(default_factory=list[Positions])
    n_positions: int = 0
    n_known: int = 0
    seconds: float = 0.0
    bytes_measured: tuple[float, float] | None = None
    dropped: str | None = None
    settled: bool = False

    @property
    def active(self) -> bool:
        """Whether it is still being scored."""
        return self.dropped is None and not self.settled

    def add(self, positions: Positions) -> None:
        """Take in the positions of a step."""
        self.pieces.append(positions)
        self.n_positions += len(positions)

    def spelled(self, positions: Positions) -> Positions:
        """Positions with the texts of their tokens."""
        ids = np.concatenate([positions.token, positions.top1_ref, positions.top1_quant])
        return replace(positions, texts=self.vocabulary.texts(ids))

    def look(self, chunk: Sequence[Positions]) -> Stopping | None:
        """What the stopping rule says after this whole chunk; None where there is none."""
        if self.sureness is None:
            return None
        self.sureness.add(Positions.concatenate(chunk))
        return self.sureness.stopping()

    def check_drift(self) -> None:
        """Raise ZeroDriftError where nothing at all moved: then the quantization never engaged."""
        if self.pieces and not any(piece.kl.any() or piece.flip.any() for piece in self.pieces):
            raise ZeroDriftError(
                f"KL divergence and flips are exactly zero over {self.n_positions} positions, so the "
                "quantization never engaged; this model's cache takes no quantization, so no number is given."
            )

    def positions(self) -> Positions:
        """All positions scored so far, with the texts of their tokens where these may be kept."""
        whole = Positions.concatenate(self.pieces)
        return self.spelled(whole) if self.plan.text_kept else replace(whole, texts={})

    def tops(self, positions: Positions) -> Tops | None:
        """The likeliest tokens that were kept of all ``positions``, as ids alone where words may not be."""
        found = None if self.keeper is None else self.keeper.tops(positions, self.vocabulary)
        return found if found is None or self.plan.text_kept else replace(found, texts={})

    def report(
        self, positions: Positions, load: Load, *, partial: bool = False, reason: str | None = None
    ) -> Report | None:
        """The report of ``positions``; None where there are none. ``reason``: why it broke off."""
        if not self.pieces:
            return None
        from mqf_tui.fidelity.summary_report import build_report

        found = build_report(
            self.plan,
            self.facts,
            positions,
            self.seconds,
            self.bytes_measured,
            sureness=self.sureness,
            load=load,
            partial=partial,
            reason=reason,
        )
        changes: dict[str, object] = {"dropped": self.dropped} if self.dropped else {}
        if self.n_known:
            timed = self.n_positions - self.n_known
            changes["positions_per_second"] = timed / self.seconds if self.seconds else 0.0
            changes["warnings"] = [
                *found.warnings,
                f"{self.n_known:,} positions were scored before it was taken up again; time and speed are of "
                f"the other {timed:,}",
            ]
        return found.model_copy(update=changes)


def ended(index: int, one: Measured, load: Load, *, stopped: bool) -> Finished | Stopped | Failed:
    """The last event of a variant that did not fail on the way; one that was skipped was stopped too."""
    stopped = stopped or one.dropped == SKIPPED
    try:
        one.check_drift()
    except ZeroDriftError as error:
        return Failed(error, variant=index)
    positions = one.positions()
    report = one.report(positions, load, partial=stopped)
    if report is None or stopped:
        return Stopped(report, positions, index, one.tops(positions))
    return Finished(report, positions, index, one.tops(positions))


def broken_off(measured: Sequence[Measured], load: Load, error: FidelityError) -> Iterator[Failed]:
    """The last events of variants that cannot go on: one each for those of which something was scored."""
    told = False
    for i, one in enumerate(measured):
        if one.pieces and not isinstance(error, ZeroDriftError):
            positions = one.positions()
            report = one.report(positions, load, partial=True, reason=str(error))
            yield Failed(error, report, positions, i, one.tops(positions))
            told = True
    if not told:
        yield Failed(error)


def round_ends(part: NDArray[np.int16], index: int, length: int | None = None) -> bool:
    """Whether each part of the corpus has had its turn: between rounds some parts weigh more than others.

    ``length``: of a mixture's rounds, in chunks.
    """
    if length is not None:
        return index + 1 == len(part) or (index + 1) % length == 0
    return index + 1 == len(part) or part[index + 1] <= part[index]


def are_whole(measured: Sequence[Measured], before: Sequence[int], chunk: int) -> bool:
    """Whether each that is still in has all positions of the chunk that began after ``before`` pieces."""
    return all(
        sum(map(len, one.pieces[n:])) == one.plan.positions_of(chunk)
        for one, n in zip(measured, before, strict=True)
        if one.active
    )


def is_known(measured: Sequence[Measured], known: Sequence[Positions] | None) -> bool:
    """Whether all that are still in have a chunk; one may have left at it before and be in now."""
    return known is not None and all(
        len(positions) for one, positions in zip(measured, known, strict=True) if one.active
    )
