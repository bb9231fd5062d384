"""How a measurement stands at one moment, as data that the screens draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.watchdog import Reading
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.schema import Report
from mqf_tui.reports.sweep_schema import SweepReport

State = Literal["waiting", "loading", "scoring", "finished", "stopped", "failed"]

SETTLED = "settled"  # the engine's word for it, see events.Dropped


@dataclass(frozen=True)
class VariantState:
    """One setting of a measurement.

    ``out``: why the sweep goes on without it, "" while it is in. ``problem``: why it has no result.
    """

    settings: KVSettings
    state: State = "loading"
    n_positions: int = 0
    out: str = ""
    report: Report | None = None
    saved: SavedRun | None = None
    problem: str | None = None

    @property
    def settled(self) -> bool:
        """Whether it is out because nothing more has to be known of it."""
        return self.out == SETTLED


@dataclass(frozen=True)
class Snapshot:
    """One measurement at one moment. ``version`` grows with every change.

    ``plans``: one per variant, none before scoring begins. ``share``: of what is being loaded, None where
    not known. ``seconds``: scoring time of all variants together. ``sweep``: the report of more than one.
    ``memory``: the last look at it; ``memory_limit``: the most that may be used, in bytes, 0 where not known.
    """

    settings: SweepSettings
    variants: tuple[VariantState, ...]
    state: State = "waiting"
    version: int = 0
    doing: str = "waiting for its turn"
    share: float | None = None
    plans: tuple[Plan, ...] = ()
    chunk: int = 0
    seconds: float = 0.0
    sweep: SweepReport | None = None
    problem: str | None = None
    exit_code: int = 0
    paused: bool = False
    memory: Reading | None = None
    memory_limit: float = 0

    @classmethod
    def of(cls, settings: SweepSettings) -> Snapshot:
        """Nothing has happened yet."""
        return cls(settings, tuple(VariantState(one) for one in settings.variants))

    @property
    def running(self) -> bool:
        """Whether it has not ended: the thread works on it, or will."""
        return self.state in ("waiting", "loading", "scoring")

    @property
    def several(self) -> bool:
        """Whether it is a sweep."""
        return len(self.variants) > 1

    @property
    def plan(self) -> Plan | None:
        """What all variants have in common can be read from the first one's."""
        return self.plans[0] if self.plans else None

    @property
    def n_positions(self) -> int:
        """Positions scored, all variants together."""
        return sum(one.n_positions for one in self.variants)

    @property
    def n_planned(self) -> int:
        """Positions that will have been scored at the end, as far as is known now."""
        pairs = zip(self.plans, self.variants, strict=bool(self.plans))
        return sum(one.n_positions if one.out else plan.n_positions for plan, one in pairs)

    @property
    def saved(self) -> tuple[SavedRun, ...]:
        """The runs that are on disk, in the order of the settings."""
        return tuple(one.saved for one in self.variants if one.saved is not None)

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports that there are, in the order of the settings."""
        return tuple(one.report for one in self.variants if one.report is not None)
