"""What was scored of one variant so far, and the report of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import ZeroDriftError
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.load import Load
from mqf_tui.fidelity.positions import Positions

if TYPE_CHECKING:
    from mqf_tui.fidelity.stopping import Sureness
    from mqf_tui.fidelity.vocabulary import Vocabulary
    from mqf_tui.reports.schema import Report, Stopping


@dataclass
class Measured:
    """One variant of a running measurement; ``seconds`` are its own and its share of the reference's."""

    plan: Plan
    facts: ModelFacts
    vocabulary: Vocabulary
    sureness: Sureness | None = None
    pieces: list[Positions] = field(default_factory=list[Positions])
    n_positions: int = 0
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
        """All positions scored so far, with the texts of their tokens."""
        scored = Positions.concatenate(self.pieces)
        ids = np.concatenate([scored.token, scored.top1_ref, scored.top1_quant])
        return replace(scored, texts=self.vocabulary.texts(ids))

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
        return found.model_copy(update={"dropped": self.dropped}) if self.dropped else found


def round_ends(part: NDArray[np.int16], index: int) -> bool:
    """Whether each part of the corpus has had its turn: between rounds some parts weigh more than others."""
    return index + 1 == len(part) or part[index + 1] <= part[index]
