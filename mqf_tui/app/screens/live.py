"""Live: the numbers of a running measurement, drawn from snapshots by a timer."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, ProgressBar, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.snapshots import Snapshot
from mqf_tui.app.tally import Running
from mqf_tui.app.widgets.kl_plots import Histogram, Trace
from mqf_tui.app.widgets.tiles import COLOURS, Tiles
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.widgets.variant_table import Variant, VariantTable
from mqf_tui.app.words import measured_words, short_setting, so_far_words, undecided_words, without_flags
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.stopping import LEAST_CHUNKS
from mqf_tui.reports.text import duration, inert

SECONDS_A_FRAME = 0.1
MANY = 100_000  # positions of all settings: from here on not every row is counted anew in every frame


class LiveScreen(BaseScreen):
    """Four large numbers, two plots, progress, and the verdict as it stands; of a sweep, a row a setting."""

    TITLE: ClassVar[str | None] = "Live"
    HELP = (
        "# Live\n\n**KL**: how far the variant's next-token distribution is from the reference's, in nats; "
        "0 is equal. **p99**: one position in a hundred is worse. **Flips**: positions whose most likely "
        "token changes. Under each number stands its 95 % interval, clustered by chunk.\n\n"
        "The verdict **so far** comes with the share of resampled chunks that give it. Where the measurement "
        "stops when sure, the intervals of mean KL and flips are wider: they hold however often one looks."
        "\n\n"
        "Of several settings each has a row; the bars are mean KL on a log scale. ↑ and ↓ choose the one "
        "that the numbers and plots below are of. ✓: settled; ✕: out, the sweep goes on without it.\n\n"
        "Space holds the measurement between steps, s stops it and keeps what is scored as a partial run."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("live")

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self._measurement = measurement
        self._drawn: tuple[int, bool, int] = (-1, False, 0)
        self._row, self._turn = 0, 0
        self._numbers: dict[int, Running | None] = {}
        self._over = False

    def compose(self) -> ComposeResult:
        """Of a sweep the table; tiles, plots in the middle, progress below."""
        yield TitleBar(str(self.TITLE))
        yield Static(self._heading(self._measurement.snapshot()), id="setting")
        with VerticalScroll(id="body"):
            if self._measurement.snapshot().several:
                yield VariantTable(id="variants")
                yield Static("", id="chosen")
            yield Tiles()
            with Horizontal(id="plots"):
                yield Histogram(id="histogram")
                yield Trace(id="trace")
        yield ProgressBar(total=None, show_eta=False, id="progress")
        yield Static("starting …", id="status")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to draw; arrows choose a setting, or scroll what does not fit."""
        self.query_one("#variants" if self._measurement.snapshot().several else "#body").focus()
        self.set_interval(SECONDS_A_FRAME, self._draw)

    def on_resize(self) -> None:
        """Lay the table out for the new width."""
        super().on_resize()
        self._drawn = (-1, False, 0)

    @on(DataTable.RowHighlighted)
    def choose(self, event: DataTable.RowHighlighted) -> None:
        """Show another setting's numbers below the table."""
        self._row = event.cursor_row

    def _draw(self) -> None:
        snapshot = self._measurement.snapshot()
        if self._over or (not snapshot.running and self.app.screen is not self):
            return  # a question or the palette lies on top; the end is drawn when they are gone
        if (snapshot.version, snapshot.paused, self._row) == self._drawn:
            return
        self._drawn = snapshot.version, snapshot.paused, self._row
        numbers = self._count(snapshot)
        if snapshot.several and snapshot.plans:
            self._show_table(snapshot)
        if numbers is not None and snapshot.plans:
            self._show_numbers(numbers, snapshot.plans[self._row])
        self._show_status(snapshot, numbers)
        if not snapshot.running:
            self._ended(snapshot)

    def _count(self, s: Snapshot) -> Running | None:
        """The numbers of the chosen setting anew; of many positions, only one other's at a time."""
        n = len(s.variants)
        self._turn = (self._turn + 1) % n
        anew = range(n) if s.n_positions < MANY or not s.running else {self._row, self._turn}
        for variant in anew:
            self._numbers[variant] = self._measurement.numbers(variant)
        return self._numbers[self._row]

    def _heading(self, s: Snapshot) -> Text:
        """Model and settings; which layers are quantized, where it is not all of them."""
        text = Text(inert(s.settings.first.model.rstrip("/").rsplit("/", 1)[-1]), style="bold")
        text.append(f"  {measured_words(s.settings)}")
        if s.plan is not None and s.plan.layers:
            text.append(f"\n{s.plan.layers}", style=self.app.theme_variables["secondary"])
        return text

    def _show_table(self, s: Snapshot) -> None:
        rows = [
            Variant(short_setting(plan.settings), state, plan, self._measurement.numbers(i))
            for i, (plan, state) in enumerate(zip(s.plans, s.variants, strict=True))
        ]
        self.query_one(VariantTable).show(rows, self.query_one("#body").scrollable_content_region.width)
        chosen = s.variants[self._row]
        colours = self.app.theme_variables
        text = Text(short_setting(chosen.settings), style=f"bold {colours['primary']}")
        if chosen.settled:
            text.append("  settled", style=colours["success"])
        elif chosen.out or chosen.problem:
            text.append(f"  out: {inert(chosen.out or chosen.problem or '')}", style=colours["warning"])
        self.query_one("#chosen", Static).update(text)

    def _show_numbers(self, n: Running, plan: Plan) -> None:
        limits = plan.settings.policy
        self.query_one(Tiles).show(n.numbers, limits)
        self.query_one(Histogram).show(n.histogram, limits)
        self.query_one(Trace).show(n.trace, plan.n_positions, limits)

    def _show_status(self, s: Snapshot, numbers: Running | None) -> None:
        bar, status = self.query_one(ProgressBar), self.query_one("#status", Static)
        if s.plan is None:
            # Loading cannot be held; the pause begins with the first step.
            bar.update(total=1 if s.share is not None else None, progress=s.share or 0)
            status.update(Text(f"{s.doing} …" + (" then paused" if s.paused else "")))
            return
        if s.plan.layers:
            self.query_one("#setting", Static).update(self._heading(s))
        bar.update(total=s.n_planned, progress=s.n_positions)
        text = self._progress(s)
        if not s.several:
            text.append_text(self._standing(s.plan, numbers))
        elif s.doing != "scoring":
            text.append(f"\n{s.doing} …")
        status.update(text)

    def _progress(self, s: Snapshot) -> Text:
        """How far it is, and how long it will take."""
        assert s.plan is not None
        total = s.n_planned
        speed = s.n_positions / s.seconds if s.seconds else 0.0
        left = duration((total - s.n_positions) / speed) if speed else "?"
        text = Text()
        if s.paused and s.running:
            text.append("paused  ", style=f"bold {self.app.theme_variables['warning']}")
        text.append(f"chunk {s.chunk + 1}/{s.plan.n_chunks}, {s.n_positions:,}/{total:,} positions, ")
        text.append(f"{speed:,.0f}/s, {left} left")
        if s.plan.settings.stops_early or s.settings.race:
            text.append(" at most")
        return text

    def _standing(self, plan: Plan, numbers: Running | None) -> Text:
        """The verdict so far, and what it still waits for."""
        text, early = Text(), plan.settings.stops_early
        if numbers is not None:
            colour = COLOURS[numbers.verdict]
            text.append("\nso far: ")
            words = so_far_words(numbers, stops_early=early)
            text.append(words, style=f"bold {self.app.theme_variables[colour]}")
        if early:
            text.append("\n" + undecided_words(numbers.looked if numbers else None, LEAST_CHUNKS))
        return text

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Pause and stop while it runs, back when it is over or the help is open."""
        del parameters
        if action in ("pause", "stop"):
            return not self._over
        return self._over or self.helping if action == "back" else True

    def _ended(self, s: Snapshot) -> None:
        self._over = True
        self.refresh_bindings()
        if s.state == "failed":
            why = without_flags(s.problem or "it failed")
            self.query_one(ProgressBar).update(total=1, progress=0)
            self.notify(
                why,
                title="Measurement failed",
                severity="error",
                timeout=30,
                markup=False,
            )
            self.query_one("#status", Static).update(Text(why, style=self.app.theme_variables["error"]))
        if s.reports:
            self.mqf.show_ended(self._measurement)
        elif s.state == "stopped":
            self.notify("Stopped before anything was scored; nothing was saved.")
            self.dismiss()

    @property
    def exit_code(self) -> int:
        """What leaving from here says to the shell: a failure is still a failure."""
        return self._measurement.snapshot().exit_code

    def action_pause(self) -> None:
        """Hold, or go on."""
        control = self._measurement.control
        if control.paused:
            control.resume()
        else:
            control.pause()

    def action_stop(self) -> None:
        """Stop after the current step; what is scored is kept."""
        self._measurement.control.stop()
        self.query_one("#status", Static).update("stopping after the current step …")
