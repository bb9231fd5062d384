"""Set-up: one line a setting, only what works for this model can be chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

from mqf_tui.app import setup_options as offered
from mqf_tui.app.actions import bindings
from mqf_tui.app.preflight import Preflight, choice_words, preflight
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.setup_options import ALIKE, FILE, WHEN_SURE
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.multi_choice import MultiChoice
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.facts import check_length, check_setting
from mqf_tui.fidelity.recipes import ALL
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.shapes import read_shape
from mqf_tui.fidelity.spreading import spread
from mqf_tui.library.models import LocalModel
from mqf_tui.library.runs import SavedRun, check_writable, list_runs
from mqf_tui.reports.setting_words import KERNELS
from mqf_tui.reports.text import inert

SECONDS_TO_LOOK = 0.5
# The values of each line by its id; of the line for a path its text.
Choices = dict[str, tuple[int | str | None, ...]]


class Settings(VerticalScroll, can_focus=False, inherit_bindings=False):
    """A scroller that leaves the arrow keys to the settings in it."""


class FileLine(Input):
    """A path; arrows go to the settings around it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Start"),
        Binding("up", "app.focus_previous", "Setting", key_display="↑↓"),
        Binding("down", "app.focus_next", "Setting", show=False),
    ]


class SetupScreen(BaseScreen):
    """What is quantized, what is scored; below, what will run and what it will take."""

    TITLE: ClassVar[str | None] = "Set-up"
    HELP = (
        "# Set-up\n\n↑/↓ or Tab go from setting to setting, ←/→ choose. Struck-out values do not work for "
        "this model. Where a line says so, digits type a number of your own.\n\n"
        "**Several settings** of bits, group size, and keys and values are measured beside one pass of the "
        "reference: Space keeps the value under the cursor (✓), then choose others the same way, or click "
        "them. **K and V**: k8v4 is 8 bits for keys and 4 for values; mxfp8, mxfp4 and nvfp4 bring bits and "
        "groups of their own. A **race** drops settings on the way that are surely not the ones to take.\n\n"
        "**Stress** quantizes the cache from the first token on. **Deployment** keeps the first positions in "
        "full precision, then converts the whole cache, as `--quantized-kv-start` of mlx-lm does.\n\n"
        "**Stop**: when sure, or within some per cent, ends the measurement before its last chunk where the "
        "numbers allow it. The rule bears being asked after every chunk. Choose many chunks, or all, with it."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("setup")

    def __init__(self, models: Sequence[LocalModel], choices: Choices | None = None) -> None:
        """``choices``: what was chosen for this model before, kept up to date."""
        super().__init__()
        model = models[0]
        self._choices: Choices = {} if choices is None else choices
        self._before = dict(self._choices)
        assert model.facts is not None
        self._model, self._facts = model, model.facts
        self._shape = read_shape(model.facts)
        self._runs: list[SavedRun] = []

    def compose(self) -> ComposeResult:
        """The settings, a path for a corpus file, what will run."""
        facts = self._facts
        yield TitleBar(str(self.TITLE))
        with Settings(id="settings"):
            yield Static(Text(f"{inert(self._model.name)}: KV-cache quantization", style="bold"), id="about")
            yield MultiChoice("bits", offered.bits(), 8, id="bits")
            yield MultiChoice("group size", offered.groups(facts), 64, id="group")
            yield MultiChoice("K and V", offered.formats(facts), ALIKE, id="formats")
            if set(self._shape.kinds) != {"full"}:
                yield Choice("layers", offered.layers(self._shape.kinds), None, id="layers")
            length = min(512, facts.context or 512)
            yield Choice("chunk length", offered.lengths(facts), length, own="a length", id="length")
            yield Choice("chunks", offered.chunks(), 10, own="a number", id="chunks")
            yield Choice("stop", offered.stops(), None, id="stop")
            yield Choice("race", offered.races(), 0, id="race")
            yield Choice("mode", offered.modes(), 0, own="a start", id="start")
            yield Choice("corpus", offered.corpora(), "builtin", id="corpus")
            yield FileLine(placeholder="path of a UTF-8 text file", id="file")
        yield Static(id="estimate")
        yield Footer()

    def on_mount(self) -> None:
        """Choose what was chosen before, focus the first setting; read past speeds in the background."""
        self._restore()
        self.query_one("#file").display = False
        self.query_one("#bits").focus()
        self._show_estimate()
        self._read_runs()
        self._look = self.set_interval(SECONDS_TO_LOOK, self._look_again)

    def _restore(self) -> None:
        """What does not work any more is left out."""
        for choice in self.query(Choice):
            values = self._before.get(choice.id or "")
            if values and isinstance(choice, MultiChoice):
                choice.choose_all(values)
            elif values:
                choice.pick(values[0])
        self.query_one("#file", Input).value = str(self._before.get("file", ("",))[0])

    def _keep(self) -> None:
        for choice in self.query(Choice):
            several = isinstance(choice, MultiChoice)
            self._choices[choice.id or ""] = choice.values if several else (choice.value,)
        self._choices["file"] = (self.query_one("#file", Input).value,)

    def _look_again(self) -> None:
        """The device's speed becomes known by and by."""
        if self.mqf.bridge.looked:
            self._look.stop()
        self._show_estimate()

    @work(thread=True)
    def _read_runs(self) -> None:
        try:
            runs = list_runs()
        except FidelityError:
            return
        self.app.call_from_thread(self._have_runs, runs)

    def _have_runs(self, runs: list[SavedRun]) -> None:
        self._runs = runs
        self._show_estimate()

    @on(Choice.Changed)
    @on(Input.Changed)
    def _show_estimate(self) -> None:
        self._keep()
        self.query_one("#file").display = self._value("corpus") == FILE
        self.query_one("#bits").set_class(ALIKE not in self._values("formats"), "-idle")
        try:
            sweep = self._checked()
            bridge = self.mqf.bridge
            found = preflight(self._facts, self._shape, sweep, self._runs, bridge.device, bridge.flops)
        except FidelityError as error:
            words = Text(without_flags(str(error)), style=self.app.theme_variables["error"])
        else:
            words = self._words(found)
        self.query_one("#race").display = len(self._variants()) > 1
        self.query_one("#estimate", Static).update(words)

    def _words(self, found: Preflight) -> Text:
        """What will run, and what it will take."""
        text, n = Text(), len(found.sweep.variants)
        if n > 1:
            bits, groups, formats = (self._values(name) for name in ("bits", "group", "formats"))
            text.append(choice_words(bits, groups, formats, n), style="bold")
            text.append(f"; {found.passes}\n")
        text.append(found.positions, style="bold" if n == 1 else "")
        text.append(", ".join(["", found.cost]) if found.cost else "")
        if found.layers:
            text.append(f"\n{found.layers}")
        if found.sweep.first.kernel == "emulated":
            text.append(f"\n{KERNELS['emulated']}")
        if found.memory is not None and found.memory.advice:
            advice = without_flags(found.memory.advice)
            text.append(f"\n{advice}", style=self.app.theme_variables["warning"])
        text.append(f"\n{found.cache}", style="dim")
        return text

    @on(Input.Submitted)
    def action_start(self) -> None:
        """Check what can be checked now, then start."""
        try:
            sweep = self._checked()
            if self._value("corpus") == FILE:
                _check_file(sweep.first.corpus)
            check_writable()
        except FidelityError as error:
            self.notify(without_flags(str(error)), title="Cannot start", severity="error", markup=False)
            return
        if self.mqf.bridge.busy:
            self.notify("Another measurement is still running.", severity="warning")
            return
        self.mqf.measure(sweep)

    def _checked(self) -> SweepSettings:
        """The settings as they stand; raises FidelityError where they cannot be measured."""
        variants = self._variants()
        race = len(variants) > 1 and bool(self._value("race"))
        sweep = SweepSettings(variants, race=race)
        sweep.check()
        for one in variants:
            check_setting(self._facts, one)
        check_length(self._facts, sweep.first.chunk_length)
        return sweep

    def _variants(self) -> tuple[KVSettings, ...]:
        formats = [str(word) for word in self._values("formats")]
        return spread(
            self._base(),
            bits=[_number(n) for n in self._values("bits")] if ALIKE in formats else (),
            groups=[_number(n) for n in self._values("group")],
            formats=[word for word in formats if word != ALIKE],
        )

    def _value(self, name: str) -> int | str | None:
        return self.query_one(f"#{name}", Choice).value

    def _values(self, name: str) -> tuple[int | str | None, ...]:
        return self.query_one(f"#{name}", MultiChoice).values

    def _base(self) -> KVSettings:
        """All but what is done to keys and values."""
        corpus = self._value("corpus")
        path = os.path.abspath(os.path.expanduser(self.query_one("#file", Input).value.strip()))
        chunks, stop = self._value("chunks"), self._value("stop")
        layers = self._value("layers") if self.query("#layers") else None
        name = self._model.name
        return KVSettings(
            model=name if self._model.source != "folder" else os.path.abspath(self._facts.folder),
            layers=str(layers) if layers is not None else None,
            kernel="emulated" if layers == ALL else "auto",
            quantize_start=_number(self._value("start")),
            chunk_length=_number(self._value("length")),
            max_chunks=chunks if isinstance(chunks, int) else None,
            corpus=path if corpus == FILE else str(corpus),
            until_sure=stop == WHEN_SURE,
            precision=stop / 100 if isinstance(stop, int) else None,
        )


def _number(value: int | str | None) -> int:
    assert isinstance(value, int)
    return value


def _check_file(path: str) -> None:
    from mqf_tui.fidelity.corpora import read_corpus

    read_corpus(path)
