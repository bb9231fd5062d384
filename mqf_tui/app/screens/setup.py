"""Set-up: one line a setting, only what works for these models can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from mqf_tui.app import setup_options as offered
from mqf_tui.app.actions import bindings
from mqf_tui.app.preflight import Preflight, preflight
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.setup_choices import Subject, fits, profile_lines, subjects_of, sweeps_of, text_settings
from mqf_tui.app.setup_options import ALIKE, OWN
from mqf_tui.app.setup_texts import corpus_of, remembered_texts, text_lines, with_text
from mqf_tui.app.setup_words import estimate_text, interval_words, sight_text, subject_words
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.corpus_lines import CorpusLines, FileLine
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.mode_strip import ModeStrip
from mqf_tui.app.widgets.multi_choice import MultiChoice
from mqf_tui.app.widgets.setting_line import SHORT
from mqf_tui.app.widgets.slider import Slider
from mqf_tui.app.widgets.text_sight import TextSight
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import BadCorpusError, FidelityError
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.fidelity.timing import likely_chunks
from mqf_tui.library.expected_interval import expected_intervals, prepare
from mqf_tui.library.index import RunRow, run_rows
from mqf_tui.library.last_used import ALL, Choices, Value, keep_used, last_used
from mqf_tui.library.models import LocalModel
from mqf_tui.library.runs import check_writable
from mqf_tui.library.settings import user_settings
from mqf_tui.reports.schema import Report

SECONDS_TO_LOOK = 0.5
REPORTS = 24  # of these models, from which their speed is told
PREVIEW = (2, 4, 12)  # lines of the text in a low, a usual and a roomy window
ROOMY = 46  # lines of a window in which the settings stand apart
UNKNOWN_MOST = 100  # chunks on the slider where the text alone tells how many there are


class Settings(VerticalScroll, can_focus=False, inherit_bindings=False):
    """A scroller that leaves the arrow keys to the settings in it."""


class SetupScreen(BaseScreen):
    """What is quantized, what is scored; below, what will run and what it will take."""

    TITLE: ClassVar[str | None] = "Set-up"
    HELP = (
        "# Set-up\n\n↑/↓ or Tab go from setting to setting, ←/→ choose. Struck-out values do not work for "
        "this model, and say why. Where a line says so, digits type a number of your own.\n\n"
        "A **profile** sets several lines at once; `settings.toml` may hold more (`[profiles.NAME]`).\n\n"
        "**Several settings** of bits, group size, and keys and values are measured beside one pass of the "
        "reference: Space keeps the value under the cursor (✓), then choose others the same way, or click "
        "them. **K and V**: k8v4 is 8 bits for keys and 4 for values; mxfp8, mxfp4 and nvfp4 bring bits and "
        "groups of their own. A **race** drops settings on the way that are surely not the ones to take.\n\n"
        "**Chunks**: Shift with ←/→, or < and >, goes by fives, Home and End to the ends; the mouse drags. "
        "The line below says how wide the interval of mean KL should become, where earlier runs tell.\n\n"
        "**Stress** quantizes the cache from the first token on. **Deployment** keeps the first positions in "
        "full precision, then converts the whole cache, as `--quantized-kv-start` of mlx-lm does.\n\n"
        "**Stop**: when sure, or within some per cent, ends the measurement before its last chunk where the "
        "numbers allow it. The rule bears being asked after every chunk. Choose many chunks, or all, with it."
        "\n\n"
        "**Corpus**: t (ctrl+t while you type) shows the text as it is cut into chunks, and how it is read. "
        "*Own* takes what `--corpus` takes: a file, a folder, a pattern, `hf:owner/name`, a mixture of "
        "`corpora.toml`, several with ` + `. Tab completes it."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("setup")
    DEFAULT_CSS = """
    SetupScreen #settings { padding: 0 1; height: 1fr; scrollbar-size-vertical: 1; }
    SetupScreen.-tall #settings { padding: 1 1 0 1; }
    SetupScreen #about { padding: 0 1; height: 1; text-style: bold; }
    SetupScreen.-tall #about { margin-bottom: 1; }
    SetupScreen #preview { height: auto; padding: 0 1 0 15; color: $text-muted; }
    SetupScreen #preview.-wrong { color: $error; }
    SetupScreen #estimate { height: auto; padding: 0 2; background: $surface; }
    SetupScreen.-roomy Choice, SetupScreen.-roomy ModeStrip, SetupScreen.-roomy Slider { margin-bottom: 1; }
    SetupScreen.-roomy #start, SetupScreen.-roomy #corpus { margin-bottom: 0; }
    SetupScreen.-roomy CorpusLines { margin-bottom: 1; }
    """

    def __init__(self, models: Sequence[LocalModel], choices: Choices | None = None) -> None:
        """``models``: at least one that can be measured; ``choices``: in place of those made last."""
        super().__init__()
        self._subjects: tuple[Subject, ...] = subjects_of(models)
        assert self._subjects
        first = self._subjects[0].facts.content_hash if len(self._subjects) == 1 else ""
        self._before = last_used(first) if choices is None else choices
        self._profiles = user_settings().profiles
        self._rows: tuple[RunRow, ...] = ()
        self._reports: tuple[Report, ...] = ()
        self._set: Choices = {}  # what the lines held when they were set last
        self._taken: Value = OWN  # the profile that the lines were set from last
        self._own: Choices = {}  # what the lines held when no profile was chosen
        self._applying = True
        self._choices: tuple[Choice, ...] = ()
        self._text: Choices = {}  # how the text is read, where not as usual
        self._used = remembered_texts(self._before, last_used(ALL))

    def compose(self) -> ComposeResult:
        """The settings, the text that is scored, what will run."""
        models = self._subjects
        contexts = [one.facts.context for one in models if one.facts.context]
        more = [word for one in self._profiles for word in one.formats or ()]
        yield TitleBar(str(self.TITLE))
        with Settings(id="settings"):
            yield Static(subject_words(models), id="about", markup=False)
            yield Choice("profile", offered.profiles(self._profiles), OWN, id="profile")
            yield MultiChoice("bits", offered.bits(), 8, id="bits")
            yield MultiChoice("group size", offered.groups(models), 64, id="group")
            yield MultiChoice("K and V", offered.formats(models, more), ALIKE, id="formats")
            if any(one.special for one in models):
                yield Choice("layers", offered.layers(models), None, id="layers")
            length = min([512, *contexts])
            yield Choice("chunk length", offered.lengths(models), length, own="a length", id="length")
            yield Slider("chunks", 10, id="chunks")
            yield Choice("stop", offered.stops(), None, id="stop")
            yield Choice("race", offered.races(), 0, id="race")
            yield Choice("mode", offered.modes(), 0, own="a start", id="start")
            yield ModeStrip()
            yield CorpusLines()
        yield Static(id="estimate")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Choose what was chosen before, focus the first setting; read past speeds in the background."""
        self._choices = tuple(self.query(Choice))
        self.query_one(FileLine).used = self._used
        self._apply(self._before | {"profile": (self._still_fitting(),)})
        self.query_one("#bits").focus()
        self._read_runs()
        self._look = self.set_interval(SECONDS_TO_LOOK, self._look_again)

    def on_resize(self, event: events.Resize | None = None) -> None:
        """There may be room for more of the text."""
        super().on_resize()
        self.set_class(self.size.height >= ROOMY, "-roomy")
        self._show_sight()

    @property
    def lines(self) -> Choices:
        """What each line holds."""
        found: Choices = {}
        for choice in self._choices:
            several = isinstance(choice, MultiChoice)
            found[choice.id or ""] = choice.values if several else (choice.value,)
        found["chunks"] = (self.query_one(Slider).value,)
        found["file"] = (self.query_one("#file", Input).value,)
        return found | self._text

    def _apply(self, lines: Choices) -> None:
        """What does not work for these models is left out."""
        self._applying = True
        self._taken = next(iter(lines.get("profile", ())), OWN)
        for choice in self._choices:
            values = lines.get(choice.id or "")
            if values and isinstance(choice, MultiChoice):
                choice.choose_all(values)
            elif values and not self._too_long(choice, values[0]):
                choice.pick(values[0])
        if chunks := lines.get("chunks"):
            self.query_one(Slider).pick(chunks[0])
        if file := lines.get("file"):
            self.query_one("#file", Input).value = str(file[0])
        self._text = text_lines(lines)
        self.call_after_refresh(self._applied)

    def _still_fitting(self) -> Value:
        """The profile that was chosen before, where it still is what it was."""
        before = next(iter(self._before.get("profile", ())), OWN)
        named = next((one for one in self._profiles if one.name == before), None)
        return before if named is not None and fits(named, self._before) else OWN

    def _too_long(self, choice: Choice, value: Value) -> bool:
        """Whether it is a length that one of the models has no context for."""
        contexts = [one.facts.context for one in self._subjects if one.facts.context]
        return choice.id == "length" and isinstance(value, int) and value > min([value, *contexts])

    def _applied(self) -> None:
        if not self._here:
            return
        self._applying = False
        self._set = self.lines
        # In a burst of keys another profile may have been chosen meanwhile.
        if self.query_one("#profile", Choice).value == self._taken:
            self._show()
        else:
            self._take_profile()

    def _look_again(self) -> None:
        """The device's speed becomes known by and by."""
        if self.mqf.bridge.looked:
            self._look.stop()
        self._show()

    @work(thread=True)
    def _read_runs(self) -> None:
        """The runs of these models: for the width of intervals all, for the speed the last ones."""
        hashes = {one.facts.content_hash for one in self._subjects}
        worker, reports = get_current_worker(), list[Report]()
        try:
            rows = tuple(row for row in run_rows().rows if row.model_hash in hashes)
        except FidelityError:
            return  # the list of runs says what is wrong there
        if rows:
            prepare()
        for row in rows[:REPORTS]:
            try:
                reports.append(row.load().report)
            except FidelityError:
                continue
        if not worker.is_cancelled:
            self.app.call_from_thread(self._have_runs, rows, tuple(reports))

    def _have_runs(self, rows: tuple[RunRow, ...], reports: tuple[Report, ...]) -> None:
        self._rows, self._reports = rows, reports
        if self._here:
            self._show()

    @on(Choice.Changed, "#profile")
    def _take_profile(self) -> None:
        """Over values of one's own, so that going past a profile leaves nothing of it behind."""
        wanted = self.query_one("#profile", Choice).value
        profile = next((one for one in self._profiles if one.name == wanted), None)
        if not self._applying:
            self._apply(self._own | {"profile": (wanted,)} | (profile_lines(profile) if profile else {}))

    @on(Choice.Changed)
    @on(Slider.Changed)
    @on(Input.Changed)
    def _show(self) -> None:
        """All that follows from what is chosen."""
        if self._applying:
            return
        lines = self.lines
        self._name_profile(lines)
        self.query_one(CorpusLines).show_own()
        self.query_one("#bits").set_class(ALIKE not in lines["formats"], "-idle")
        strip, start, length = self.query_one(ModeStrip), lines["start"][0], lines["length"][0]
        if isinstance(start, int) and isinstance(length, int):
            strip.start, strip.length = start, length
        self._see_text(lines)
        try:
            sweeps = self.sweeps()
            found = self._preflights(sweeps)
        except FidelityError as error:
            said = without_flags(str(error)) if corpus_of(lines) else ""
            words = Text(said, style=self.app.theme_variables["error"])
            self.query_one(Slider).hint = ""
        else:
            words = estimate_text(found, lines, self.app.theme_variables.__getitem__)
            self._show_chunks(sweeps[0])
            self.query_one("#race").display = len(sweeps[0].variants) > 1
        self.query_one("#estimate", Static).update(words)

    def _name_profile(self, lines: Choices) -> None:
        """A profile that something was changed of is one's own."""
        line = self.query_one("#profile", Choice)
        chosen = next((one for one in self._profiles if one.name == line.value), None)
        # Not against the profile: what it has that does not work for a model was left out.
        if chosen is not None and any(
            lines.get(name) != self._set.get(name) for name in profile_lines(chosen)
        ):
            with self.prevent(Choice.Changed):
                line.pick(OWN)
        if line.value == OWN:
            self._own = lines

    def sweeps(self) -> tuple[SweepSettings, ...]:
        """The measurement of each model as it is chosen; raises FidelityError where one cannot be."""
        return sweeps_of(self._subjects, self.lines)

    def _preflights(self, sweeps: Sequence[SweepSettings]) -> list[Preflight]:
        bridge = self.mqf.bridge
        return [
            preflight(one.facts, one.shape, sweep, self._reports, bridge.device, bridge.flops, self._there)
            for one, sweep in zip(self._subjects, sweeps, strict=True)
        ]

    def _show_chunks(self, sweep: SweepSettings) -> None:
        """How many there are, and what they buy."""
        slider, facts, first = self.query_one(Slider), self._subjects[0].facts, sweep.first
        # Before it is looked up that is only known of the corpus that comes with the package.
        there = self._there[0] if self._there else None
        known = there or likely_chunks(facts, replace(first, max_chunks=None))
        slider.most = known or UNKNOWN_MOST
        about = "" if there else "about "
        slider.all_words = f"all, {about}{known:,}" if known else "all of the text"
        n = first.max_chunks if known is None else min(known, first.max_chunks or known)
        told = expected_intervals(self._rows, facts.content_hash, sweep.variants, n or 1)
        slider.hint = interval_words(told, sweep, n)

    @property
    def _there(self) -> tuple[int, int] | None:
        """Chunks and positions of the text; None while that is not known, or models cut it differently."""
        sight = self.query_one(TextSight).sight
        found = sight.chunks if sight is not None and len(self._subjects) == 1 else None
        return (found.n_chunks, found.n_scored) if found is not None and found.whole else None

    def _see_text(self, lines: Choices, *, again: bool = False) -> None:
        """Look the text up where it is another one, or is read in another way."""
        sight = self.query_one(TextSight)
        try:
            if corpus_of(lines):
                sight.look(text_settings(self._subjects[0], lines), self._subjects[0].facts, again=again)
            else:
                sight.say("")
        except FidelityError as error:
            sight.say(without_flags(str(error)))
        self._show_sight()

    @on(TextSight.Seen)
    def _seen(self) -> None:
        if self._here:
            self._show()

    @property
    def _here(self) -> bool:
        """Whether the screen was not left meanwhile: what threads and timers bring may come too late."""
        return self.is_attached and bool(self.query("#preview"))

    def _show_sight(self) -> None:
        shown, length = self.query_one(TextSight), self.query_one("#length", Choice).value
        n_lines = PREVIEW[(self.size.height >= SHORT) + (self.size.height >= ROOMY)]
        named = corpus_of(self.lines)
        shown.set_class(shown.sight is not None and bool(shown.sight.problem), "-wrong")
        width, warning = shown.content_size.width or 60, self.app.theme_variables["warning"]
        shown.update(sight_text(shown.sight, named, length, n_lines, width, warning, chosen=bool(self._text)))

    def action_text(self) -> None:
        """The text as it is cut, and how it is read."""
        from mqf_tui.app.screens.text import TextScreen

        subject, lines = self._subjects[0], self.lines

        def taken(text: Choices) -> None:
            self._text = text_lines(text)
            sight = self.query_one(TextSight).sight
            if sight is not None and sight.unread:  # it may have been fetched there
                self._see_text(self.lines, again=True)
            self._show()

        self.app.push_screen(TextScreen(subject, lines, taken))

    @on(Input.Submitted)
    def action_start(self) -> None:
        """Check what can be checked now, then start; several models one after the other."""
        try:
            sweeps = self.sweeps()
            self._check_text()
            check_writable()
        except FidelityError as error:
            self.notify(without_flags(str(error)), title="Cannot start", severity="error", markup=False)
            return
        self._remember()
        for sweep in sweeps:
            self.mqf.measure(sweep)

    def leave(self) -> None:
        """To the screen before; what was chosen is there the next time."""
        self._remember()
        super().leave()

    def _check_text(self) -> None:
        """Raise BadCorpusError where it is known that it cannot be measured; it is looked up again then."""
        sight = self.query_one(TextSight).sight
        if sight is not None and sight.problem:
            self._see_text(self.lines, again=True)
            raise BadCorpusError(sight.problem)
        if sight is None and self.query_one(CorpusLines).own:
            from mqf_tui.library.corpus_preview import corpus_preview

            asked = text_settings(self._subjects[0], self.lines)
            corpus_preview(asked.corpus, 1, asked.text)

    def _remember(self) -> None:
        lines = self.lines
        word = lines["file"][0] if self.query_one(CorpusLines).own else None
        for one in self._subjects:
            keep_used(one.facts.content_hash, lines | {"texts": with_text(word, self._used)})
