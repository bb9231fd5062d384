"""Explore: the text of a run, coloured by what the variant does to it, and what stands behind each token."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Input, Static

from mqf_tui.app.actions import bindings, table
from mqf_tui.app.exploring.answer import Answer, read
from mqf_tui.app.exploring.filters import EXAMPLE, FilterError
from mqf_tui.app.exploring.tops import SESSION
from mqf_tui.app.exploring.walk import Order, Walk
from mqf_tui.app.exploring.words import counted_words, run_words
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.screens.rivals import RivalsScreen
from mqf_tui.app.widgets.explore_line import ExploreLine
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.legend import legend
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.widgets.token_details import TokenDetails
from mqf_tui.app.widgets.token_text import Shown, TokenText
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.text import counted, inert

HELP = """\
# Explore

The text that was measured, coloured by how far the variant moves at each token; **v** colours it by Δp
(what the text's own token gained or lost), by the reference's entropy, or by flips. A flip is underlined, a
confident one is bold too.

- **← → ↑ ↓**, or h l k j: token by token, line by line; **[ ]** chunk by chunk
- **w** the worst position, again for the next worst; **W** back
- **n N** the next flip, the one before; **f F** of the confident ones
- **#** a position by its number; or click on a token

**/** filters: `part:code depth:100-2000 depth>1000 class:digit kl>0.1 dp<-0.2 entropy>3 flip:yes
flip:confident` `text:word chunk:3`. All must hold; jumps and counts keep to what is left, the rest is
dimmed.

Below, or beside, stands what is known of the token under the cursor, and the likeliest tokens of both
sides: ◆ is the text's own next token, = one that both sides have. They are saved for the worst positions
and the confident flips; **t** scores what is seen of the chunk again. **z** gives the details more room,
**y** copies them.

**c** puts another run of the same text beside this one: where it moves less has the colour of a minus, and
**d** goes where the two differ most; **x** swaps them."""
OWN = frozenset(one.action for one in table()["explore"].values())
UNKEPT = (
    "Of this text no words were kept, since it is your own, so tokens are shown by their numbers; measure it "
    "with --keep-text to read it here."
)
RESPELLED = (
    "Of this text no words were kept, since it is your own: the model's tokenizer spells them here, and no "
    "report has them."
)


class ExploreScreen(BaseScreen):
    """Text above, details below, or beside it where there is room. ``position``: an index into the run's."""

    TITLE: ClassVar[str | None] = "Explore"
    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = bindings("explore")
    DEFAULT_CSS = """
    ExploreScreen #explore-runs, ExploreScreen #explore-legend { height: 1; padding: 0 2; }
    ExploreScreen #explore-runs { color: $secondary; text-wrap: nowrap; text-overflow: ellipsis; }
    ExploreScreen.-short #explore-runs { display: none; }
    ExploreScreen #explore-halves { height: 1fr; layout: vertical; }
    ExploreScreen TokenText { height: 55%; }
    ExploreScreen TokenDetails { height: 45%; }
    ExploreScreen.-details TokenText { height: 6; }
    ExploreScreen.-details TokenDetails { height: 1fr; }
    ExploreScreen.-broad #explore-halves { layout: horizontal; }
    ExploreScreen.-broad TokenText { height: 100%; width: 1fr; }
    ExploreScreen.-broad TokenDetails { height: 100%; width: 46%; max-width: 90; }
    ExploreScreen.-broad.-pair TokenDetails { width: 54%; }
    ExploreScreen.-broad.-details TokenDetails { width: 65%; max-width: 140; }
    ExploreScreen #explore-problem { height: 1fr; padding: 1 2; display: none; }
    """

    def __init__(self, run: SavedRun, rival: SavedRun | None = None, position: int | None = None) -> None:
        super().__init__()
        self._run, self._rival = run, rival
        self._wanted = position
        self._walk: Walk | None = None

    def compose(self) -> ComposeResult:
        """The runs, the scale, the text, what is known of a token, and the lines that are typed into."""
        yield TitleBar(str(self.TITLE))
        yield Static(Text("reading the positions …"), id="explore-runs")
        yield Static("", id="explore-legend")
        with Container(id="explore-halves"):
            yield TokenText()
            yield TokenDetails()
        yield Static("", id="explore-problem")
        yield ExploreLine("/", EXAMPLE, self._left, self._filter, id="explore-filter")
        yield ExploreLine("#", "the number of a position", self._number, id="explore-number")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the positions beside the screen."""
        self.query_one(TokenText).focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._themed())
        self._read(self._run, self._rival)

    @work(thread=True, exclusive=True)
    def _read(self, run: SavedRun, rival: SavedRun | None) -> None:
        problem = ""
        try:
            walk = self._walk or Walk(read(run))
        except FidelityError as error:
            self.app.call_from_thread(self._cannot, str(error))
            return
        try:
            walk = walk.with_rival(read(rival) if rival is not None else None)
        except FidelityError as error:
            problem = str(error)
        for one in (run, rival):
            problem = problem or (read_tops(one) if one is not None else "")
        self.app.call_from_thread(self._loaded, walk, problem)
        walk.warm()

    def _cannot(self, problem: str) -> None:
        """There is nothing to walk in: say why."""
        if self.is_mounted:
            self.query_one("#explore-halves").display = False
            self.query_one("#explore-runs", Static).update(Text(run_words(self._run)))
            said = self.query_one("#explore-problem", Static)
            said.display = True
            said.update(Text(f"{problem[:1].upper()}{problem[1:]}"))
            self.refresh_bindings()

    def _loaded(self, walk: Walk, problem: str) -> None:
        if not self.is_mounted:
            return
        if problem:
            self.notify(problem, severity="error", markup=False, timeout=10)
        elif walk.answer.run.report.text_kept is False:
            self.notify(RESPELLED if walk.answer.positions.texts else UNKEPT, timeout=10)
        cursor = None
        if self._walk is None:
            cursor = walk.answer.place_of_index(self._wanted) if self._wanted is not None else 0
        self._take(walk, cursor)

    def _take(self, walk: Walk, cursor: int | None = None) -> None:
        """Walk here from now on."""
        self._walk = walk
        self.set_class(walk.beside is not None, "-pair")
        self.refresh_bindings()
        self._show_runs()
        self._show_text(cursor)
        self._show_details()

    def _show_runs(self) -> None:
        walk = self._walk
        if walk is None:
            return
        r = walk.answer.run.report
        words = run_words(walk.answer.run)
        if walk.beside is not None:
            words = f"1: {words}   2: {run_words(walk.beside.answer.run)}"
        model = inert(r.model.rsplit("/", 1)[-1])
        said = f"{words}   {model} on {inert(r.corpus.name)}, {counted(len(walk.answer.starts), 'chunk')}"
        self.query_one("#explore-runs", Static).update(Text(said, no_wrap=True, overflow="ellipsis"))

    def _show_text(self, cursor: int | None = None) -> None:
        walk = self._walk
        if walk is None:
            return
        answer, text = walk.answer, self.query_one(TokenText)
        if text.shown is not None and text.shown.spelling is answer.spelling:
            rules = text.shown.rules
        else:
            rules = tuple(rule_words(answer, chunk) for chunk in range(len(answer.starts)))
        text.show(
            Shown(answer.spelling, answer.starts, rules, walk.levels(), answer.flips, walk.inside), cursor
        )
        self._show_legend()

    def _show_legend(self) -> None:
        walk = self._walk
        if walk is None or not self.is_attached:
            return
        line = self.query_one("#explore-legend", Static)
        width = line.content_size.width
        if not width:
            return
        count = counted_words(walk.kept, len(walk.answer))
        line.update(legend(walk.colouring, self.query_one(TokenText).heat, width, count))

    def _show_details(self) -> None:
        walk = self._walk
        if walk is not None:
            text = self.query_one(TokenText)
            self.query_one(TokenDetails).show(walk, text.cursor, text.heat.style(0, cursor=True))

    def _themed(self) -> None:
        self.query_one(TokenText).show_theme()
        self._show_legend()
        self._show_details()

    def on_resize(self) -> None:
        """The scale takes the width that there is."""
        super().on_resize()
        self.call_after_refresh(self._show_legend)

    @on(TokenText.Moved)
    def _moved(self) -> None:
        self._show_details()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a pair can be swapped and differs; without positions there is nothing to do."""
        del parameters
        if action in ("swap", "differing", "differing_back"):
            return self._walk is not None and self._walk.beside is not None
        if action in ("filter", "number") and isinstance(self.focused, Input):
            return False  # the key is typed there
        return self._walk is not None or action not in OWN

    def _go(self, found: int | str) -> None:
        if isinstance(found, str):
            self.notify(found)
        else:
            self.query_one(TokenText).go(found)

    @property
    def _place(self) -> int:
        return self.query_one(TokenText).cursor

    def action_flip(self) -> None:
        """To the next flip."""
        if self._walk is not None:
            self._go(self._walk.flip(self._place))

    def action_flip_back(self) -> None:
        """To the flip before."""
        if self._walk is not None:
            self._go(self._walk.flip(self._place, back=True))

    def action_confident(self) -> None:
        """To the next confident flip."""
        if self._walk is not None:
            self._go(self._walk.flip(self._place, confident=True))

    def action_confident_back(self) -> None:
        """To the confident flip before."""
        if self._walk is not None:
            self._go(self._walk.flip(self._place, confident=True, back=True))

    def action_worst(self) -> None:
        """To the worst position, then to the next worst."""
        self._ranked("worst")

    def action_worst_back(self) -> None:
        """Back to the worse one."""
        self._ranked("worst", back=True)

    def action_differing(self) -> None:
        """To where the runs differ most, then to the next."""
        self._ranked("differing")

    def action_differing_back(self) -> None:
        """Back to where they differ more."""
        self._ranked("differing", back=True)

    def _ranked(self, order: Order, *, back: bool = False) -> None:
        if self._walk is not None:
            self._go(self._walk.ranked(order, self._place, back=back))

    def action_colour(self) -> None:
        """Colour by the next number."""
        if self._walk is not None:
            self._walk.next_colouring()
            self._show_text()
            self._show_details()

    def action_details(self) -> None:
        """More room for the details, or for the text again."""
        self.toggle_class("-details")

    def action_copy(self) -> None:
        """Copy what is said of this position."""
        self.mqf.copy(self.query_one(TokenDetails).said, "What is said of this position")

    def action_tops(self) -> None:
        """Score what is seen of this chunk again."""
        walk = self._walk
        if walk is None:
            return
        low, high = self.query_one(TokenText).seen()
        start, end = walk.answer.bounds(walk.answer.chunk_at(self._place))
        self.query_one(TokenDetails).ask(range(max(low, start), min(high, end)))

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one("#explore-filter", ExploreLine).open(self._walk.filter if self._walk else "")

    def action_number(self) -> None:
        """Type a number."""
        self.query_one("#explore-number", ExploreLine).open("")

    def action_rival(self) -> None:
        """Choose what stands beside."""
        walk = self._walk
        if walk is None:
            return
        other = walk.beside.answer.run if walk.beside is not None else None

        def chosen(run: SavedRun | str | None) -> None:
            if run is not None:
                self._read(walk.answer.run, run if isinstance(run, SavedRun) else None)

        self.app.push_screen(RivalsScreen(walk.answer.run, other), chosen)

    def action_swap(self) -> None:
        """The two the other way round, at the same position."""
        walk = self._walk
        if walk is None or walk.beside is None:
            return
        at = int(walk.beside.at[self._place])
        try:
            swapped = walk.swapped()
        except FidelityError as error:
            self.notify(str(error), severity="error", markup=False)
        except FilterError as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self._take(swapped, at if at >= 0 else 0)

    def _filter(self, words: str) -> None:
        walk, line = self._walk, self.query_one("#explore-filter", ExploreLine)
        if walk is None:
            return
        try:
            walk.keep(words)
        except FilterError as error:
            line.say(str(error))
            return
        line.say("" if walk.kept else "No position has all of this.")
        self._show_text()

    def _left(self, words: str) -> None:
        del words
        self.set_focus(self.query_one(TokenText))

    def _number(self, words: str) -> None:
        self.query_one("#explore-number", ExploreLine).empty()
        self.set_focus(self.query_one(TokenText))
        if words and self._walk is not None:
            self._go(self._walk.numbered(words))


def read_tops(run: SavedRun) -> str:
    """Have the lists that were saved with a run at hand; a sentence where they cannot be read."""
    if SESSION.has_saved(run.id):
        return ""
    try:
        SESSION.add_saved(run.id, run.tops())
    except FidelityError as error:
        return str(error)
    return ""


def rule_words(answer: Answer, chunk: int) -> str:
    """What stands where a chunk begins: its number, its part, and its depth where that is not 0."""
    start, _ = answer.bounds(chunk)
    p = answer.positions
    words = [f"chunk {int(p.chunk[start]) + 1}"]
    if part := inert(answer.part_name(start)):
        words.append(part)
    if int(p.depth[start]):
        words.append(f"from depth {int(p.depth[start]):,}")
    return " · ".join(words)
