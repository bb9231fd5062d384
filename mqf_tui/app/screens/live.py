"""Live: the numbers of a running measurement, drawn from snapshots by a timer."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, ProgressBar, Static

from mqf_tui.app import live_words
from mqf_tui.app.actions import bindings
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.snapshots import Snapshot
from mqf_tui.app.tally import Running
from mqf_tui.app.widgets.chunk_strip import ChunkStrip
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.kl_plots import Depth, Histogram, Trace
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.app.widgets.text_flow import TextFlow
from mqf_tui.app.widgets.tiles import Tiles
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.widgets.variant_table import Variant, VariantTable
from mqf_tui.app.words import short_setting, without_flags
from mqf_tui.fidelity.events import Plan
from mqf_tui.reports.text import inert

SECONDS_A_FRAME = 0.25
FRAMES_A_PLOT = 4  # plots take the longest to draw, and most of what goes through a slow line
# What may be drawn with, of this thread's time: where the processor scores, each moment of it is one less for
# that. The first frames are free, so that a short measurement is seen as well.
FREE_SECONDS, SHARE = 0.4, 0.01
SELDOM = 1.5  # seconds: however long drawing takes, so often it is done
MANY = 100_000  # positions of all settings: from here on not every row is counted anew in every frame
INDENT = 2  # columns to each side of a line of text
PLOTS = ("#histogram", "#trace", "#depth")


class LiveScreen(BaseScreen):
    """Numbers, plots, the chunks, the text, and the verdict as it stands; of a sweep, a row a setting."""

    TITLE: ClassVar[str | None] = "Live"
    HELP = (
        "# Live\n\n**KL**: how far the variant's next-token distribution is from the reference's, in nats; "
        "0 is equal. **p99**: one position in a hundred is worse. **Flips**: positions whose most likely "
        "token changes; **confident flips**: those where the reference gave its own 50 % or more. With each "
        "number stands its 95 % interval, clustered by chunk.\n\n"
        "The verdict **so far** comes with the share of resampled chunks that give it, and a bar of how "
        "likely good, marginal and bad are. Where the measurement stops when sure, the intervals of mean KL "
        "and flips are wider: they hold however often one looks.\n\n"
        "The **strip** has a cell for each chunk (or for several): the higher, the more mean KL. In the "
        "**text** flips are underlined and confident flips reversed; where scoring is faster than reading, "
        "some of it is left out (…).\n\n"
        "Of several settings each has a row; the bars are mean KL on a log scale. ↑ and ↓ choose the one "
        "that the numbers and pictures below are of. ✓: settled; ✕: out, the sweep goes on without it.\n\n"
        "Space holds the measurement between steps, s stops it and keeps what is scored as a partial run. "
        "You can go anywhere meanwhile; L comes back."
    )
    CSS = """
    LiveScreen #figures, LiveScreen #verdict, LiveScreen #queue { padding: 0 2; height: auto; }
    LiveScreen #queue { color: $secondary; }
    LiveScreen #plots, LiveScreen.-narrow #plots { height: 1fr; min-height: 7; layout: horizontal; }
    LiveScreen.-dense Tiles { display: none; }
    LiveScreen.-dense VariantTable { max-height: 7; }
    LiveScreen.-tall TextFlow { height: 15%; border: round $panel; border-title-color: $secondary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("live")
    LESS: ClassVar[tuple[str, ...]] = ("live.queue", "live.plot", "live.skip")

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self._measurement = measurement
        self._plot = 1  # which of PLOTS is shown where not all are
        self._reset()

    def _reset(self) -> None:
        self._drawn: tuple[int, bool, int, int] | None = None
        self._since: tuple[float, float] | None = (
            None  # this thread's time and the clock's, when scoring began
        )
        self._last = 0.0
        self._row, self._turn, self._frame = 0, 0, 0
        self._numbers: dict[int, Running | None] = {}
        self._said: dict[str, Text] = {}
        self._over = False

    @property
    def measurement(self) -> Measurement:
        """What is shown."""
        return self._measurement

    def compose(self) -> ComposeResult:
        """Of a sweep the table; numbers, plots in the middle, chunks, text and progress below."""
        yield TitleBar(str(self.TITLE))
        yield Static(self._heading(), id="setting")
        with VerticalScroll(id="body"):
            if self._measurement.snapshot().several:
                yield VariantTable(id="variants")
            yield Tiles()
            yield Static("", id="figures")
            yield Static("", id="verdict")
            with Horizontal(id="plots"):
                yield Histogram(id="histogram")
                yield Trace(id="trace")
                yield Depth(id="depth")
        yield ChunkStrip(id="chunks")
        yield TextFlow(id="text")
        yield ProgressBar(total=None, show_eta=False, id="progress")
        yield Static("starting …", id="status")
        yield Static("", id="queue")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Begin to draw; arrows choose a setting, or scroll what does not fit."""
        self._begin()
        self.set_interval(SECONDS_A_FRAME, self._draw)

    def _begin(self) -> None:
        self.query_one(TextFlow).border_title = "the text: flips underlined, confident ones reversed"
        self.query_one("#variants" if self._measurement.snapshot().several else "#body").focus()
        self._arrange()
        self._draw()

    async def follow(self, measurement: Measurement) -> None:
        """Show another measurement in place of this one."""
        if measurement is not self._measurement:
            self._measurement = measurement
            self._reset()
            await self.recompose()
            self._begin()

    def on_resize(self) -> None:
        """Lay everything out for the new size."""
        super().on_resize()
        self._arrange()
        self._drawn, self._said = None, {}

    def _arrange(self) -> None:
        """Which numbers and which plots find room."""
        if not self.query("#plots"):
            return
        narrow, broad, short = (self.has_class(name) for name in ("-narrow", "-broad", "-short"))
        self.set_class(short and (narrow or self._measurement.snapshot().several), "-dense")
        for number, name in enumerate(PLOTS):
            first = number == 0 and not narrow
            self.query_one(name).display = broad or first or number == self._plot
        self.refresh_bindings()

    @on(DataTable.RowHighlighted)
    def choose(self, event: DataTable.RowHighlighted) -> None:
        """Show another setting's numbers below the table."""
        if event.cursor_row != self._row:
            self._row, self._frame = event.cursor_row, 0
            self.query_one(TextFlow).restart()

    def _draw(self) -> None:
        snapshot = self._measurement.snapshot()
        if self._over or self.app.screen is not self:
            return  # out of sight, or a question lies on top; the end is drawn when they are gone
        waiting = self.mqf.bridge.waiting
        state = snapshot.version, snapshot.paused, self._row, len(waiting)
        if state == self._drawn or (self._in_the_way(snapshot) and self._drawn_enough(state)):
            return
        self._drawn, self._last = state, time.monotonic()
        numbers = self._count(snapshot)
        if snapshot.several and snapshot.plans:
            self._show_table(snapshot)
        if numbers is not None and snapshot.plans:
            self._show_numbers(numbers, snapshot)
        self._show_status(snapshot)
        others = [one.snapshot() for one in waiting if one is not self._measurement]
        self._say("#queue", Text(live_words.queue_words(others)))
        self.query_one("#queue").display = bool(others)
        if not snapshot.running:
            self._ended(snapshot)

    @staticmethod
    def _in_the_way(s: Snapshot) -> bool:
        """Whether what is scored has to share its processor with what is drawn."""
        return s.state == "scoring" and not s.paused and s.plans[0].device.startswith("CPU")

    def _drawn_enough(self, state: tuple[int, bool, int, int]) -> bool:
        """Whether a frame with nothing but new numbers has to wait; what the user did is drawn at once."""
        now, spent = time.monotonic(), time.thread_time()
        self._since = self._since or (spent, now)
        if self._drawn is None or state[1:] != self._drawn[1:] or now - self._last >= SELDOM:
            return False
        return spent - self._since[0] > FREE_SECONDS + SHARE * (now - self._since[1])

    def _count(self, s: Snapshot) -> Running | None:
        """The numbers of the chosen setting anew; of many positions, only one other's at a time."""
        n = len(s.variants)
        self._turn = (self._turn + 1) % n
        anew = range(n) if s.n_positions < MANY or not s.running else {self._row, self._turn}
        for variant in anew:
            self._numbers[variant] = self._measurement.numbers(variant)
        return self._numbers.get(self._row)

    def _heading(self) -> Text:
        return live_words.heading(self._measurement.snapshot(), self.app.theme_variables)

    def _show_table(self, s: Snapshot) -> None:
        rows = [
            Variant(short_setting(plan.settings), state, plan, self._numbers.get(i))
            for i, (plan, state) in enumerate(zip(s.plans, s.variants, strict=True))
        ]
        self.query_one(VariantTable).show(rows, self.query_one("#body").scrollable_content_region.width)

    def _show_numbers(self, n: Running, s: Snapshot) -> None:
        plan, colours, tiles = s.plans[self._row], self.app.theme_variables, self.query_one(Tiles)
        limits, unicode = plan.settings.policy, unicode_of(self)
        tiles.show(n.numbers, limits)
        dense = self.has_class("-dense")
        found = live_words.shown_figures(n.numbers, limits, dense=dense, several=s.several)
        more = self.query_one("#figures", Static)
        more.display = dense or not tiles.all_shown
        room = more.content_size.width or self.size.width - 2 * INDENT
        self._say("#figures", live_words.figures_text(found, colours, unicode=unicode, room=room))
        self._say("#verdict", self._standing(n, plan, s))
        self.query_one(ChunkStrip).show(n.chunks, plan.n_chunks, limits)
        self.query_one(TextFlow).feed(self._measurement.passage(self._row))
        self.query_one(TextFlow).go_on()
        if self._frame % FRAMES_A_PLOT == 0 or not s.running or s.paused:
            self.query_one(Histogram).show(n.histogram, limits)
            self.query_one(Trace).show(n.trace, plan.n_positions, limits)
            self.query_one(Depth).show(n.depths, limits)
        self._frame += 1

    def _standing(self, n: Running, plan: Plan, s: Snapshot) -> Text:
        """The verdict so far; of a sweep with the setting's name, and why it is out."""
        colours, text = self.app.theme_variables, Text()
        if s.several:
            chosen = s.variants[self._row]
            text.append(f"{short_setting(chosen.settings)}  ", style=f"bold {colours['primary']}")
            if chosen.settled:
                text.append("settled; ", style=colours["success"])
            elif why := chosen.out or chosen.problem:
                text.append(f"out: {inert(why)}; ", style=colours["warning"])
        room = self.query_one("#verdict").content_size.width - text.cell_len
        brief, unicode = s.several and self.has_class("-dense"), unicode_of(self)
        words = live_words.standing(n, plan, colours, unicode=unicode, room=room, brief=brief)
        text.append_text(words)
        return text

    def _show_status(self, s: Snapshot) -> None:
        bar = self.query_one(ProgressBar)
        bar.display = s.plan is None
        if s.plan is None:
            # Loading cannot be held; the pause begins with the first step.
            bar.update(total=1 if s.share is not None else None, progress=s.share or 0)
            self._say("#status", Text(f"{s.doing} …" + (" then paused" if s.paused else "")))
            return
        if s.plan.layers:
            self._say("#setting", self._heading())
        room = self.query_one("#status").content_size.width
        self._say("#status", live_words.progress(s, self.app.theme_variables, room))

    def _say(self, name: str, text: Text) -> None:
        """Show words where they changed; a new layout, which is of the whole screen, only for more lines."""
        if self._said.get(name) == text:
            return
        before, self._said[name] = self._said.get(name), text
        place = self.query_one(name, Static)
        width = place.content_size.width
        place.update(text, layout=before is None or _lines(before, width) != _lines(text, width))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What can be done: nothing more with one that is over, no skipping where there is one setting."""
        del parameters
        if action in ("pause", "stop"):
            return not self._over
        if action == "skip":
            return not self._over and self._measurement.snapshot().several
        if action == "plot":
            return not self.has_class("-broad")
        return True

    def _ended(self, s: Snapshot) -> None:
        self._over = self._measurement.watched = True
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
            self._say("#status", Text(why, style=self.app.theme_variables["error"]))
        if s.reports:
            self.mqf.show_ended(self._measurement)
        elif s.state == "stopped":
            begun = s.doing != "cancelled"
            self.notify("Stopped before anything was scored; nothing was saved." if begun else "Cancelled.")
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
        """Stop after the current step; what is scored is kept. One that waits is taken out of the queue."""
        self._measurement.stop()
        self._say("#status", Text("stopping after the current step …"))

    def action_skip(self) -> None:
        """Go on without the setting under the cursor; what it has is kept."""
        s = self._measurement.snapshot()
        chosen, name = s.variants[self._row], short_setting(s.variants[self._row].settings)
        if chosen.out or chosen.problem or not s.plans:
            self.notify(f"{name} is out already." if s.plans else "Nothing is scored yet.")
            return
        self._measurement.control.skip(self._row)
        self.notify(f"The sweep goes on without {name}; what it has is kept.", markup=False)

    def action_queue(self) -> None:
        """All measurements since the start; another one can be shown, one that waits cancelled."""
        from mqf_tui.app.screens.queue import QueueScreen

        self.app.push_screen(QueueScreen(self.mqf.bridge), self._show_other)

    async def _show_other(self, chosen: Measurement | None) -> None:
        if chosen is None or chosen is self._measurement:
            return
        s = chosen.snapshot()
        if s.running or s.state == "failed":
            await self.follow(chosen)
        elif s.sweep is not None:
            self.mqf.open_sweep(s.sweep, {run.id: run for run in s.saved}, s.problem)
        elif s.reports:
            one = next(one for one in s.variants if one.report is not None)
            self.mqf.show_run(one.saved, one.report, s.problem)

    def action_plot(self) -> None:
        """The next of the plots that there is no room for beside each other."""
        self._plot = (
            self._plot % (len(PLOTS) - 1) + 1
            if not self.has_class("-narrow")
            else ((self._plot + 1) % len(PLOTS))
        )
        self._arrange()


def _lines(text: Text, width: int) -> int:
    """About how many lines words take."""
    return sum(-(-line.cell_len // width) or 1 for line in text.split("\n")) if width > 0 else 0
