"""Set-up: one line a setting, only what works for this model can be chosen."""

from __future__ import annotations

import os
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

from mqf_tui.app.estimates import estimate
from mqf_tui.app.screens.base import COMMON, BaseScreen
from mqf_tui.app.widgets.choice import Choice, Option
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.facts import ModelFacts, check_length, kv_bytes_per_token
from mqf_tui.fidelity.settings import KV_BITS, KV_GROUP_SIZES, KVSettings
from mqf_tui.library.models import LocalModel
from mqf_tui.library.runs import SavedRun, check_writable, list_runs
from mqf_tui.reports.text import duration, inert, size

FILE = "a file"
CHUNK_LENGTHS = (128, 256, 512, 1024, 2048, 4096)
CHUNKS = (5, 10, 20, 40)
STARTS = (128, 256, 384)
WHEN_SURE = "sure"
PRECISIONS = (5, 2)  # per cent


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
    """Bits, group, mode, chunks, corpus; an estimate below."""

    TITLE: ClassVar[str | None] = "Set-up"
    HELP = (
        "# Set-up\n\n↑/↓ or Tab go from setting to setting, ←/→ choose. Struck-out values do not work for "
        "this model. Where a line says so, digits type a number of your own.\n\n"
        "**Stress** quantizes the cache from the first token on. **Deployment** keeps the first positions in "
        "full precision, then converts the whole cache, as `--quantized-kv-start` of mlx-lm does.\n\n"
        "**Stop**: when sure, or within some per cent, ends the measurement before its last chunk where the "
        "numbers allow it. The rule bears being asked after every chunk. Choose many chunks, or all, with it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start"),
        Binding("up", "app.focus_previous", "Setting", key_display="↑↓"),
        Binding("down", "app.focus_next", "Setting", show=False),
        *COMMON,
    ]

    def __init__(self, model: LocalModel) -> None:
        super().__init__()
        assert model.facts is not None
        self._model, self._facts = model, model.facts
        self._runs: list[SavedRun] = []

    def compose(self) -> ComposeResult:
        """The settings, a path for a corpus file, the estimate."""
        facts = self._facts
        yield TitleBar(str(self.TITLE))
        with Settings(id="settings"):
            yield Static(Text(f"{inert(self._model.name)}: KV-cache quantization", style="bold"), id="about")
            yield Choice("bits", _bits(), 8, id="bits")
            yield Choice("group size", _groups(facts), 64, id="group")
            yield Choice(
                "chunk length", _lengths(facts), min(512, facts.context or 512), own="a length", id="length"
            )
            yield Choice("chunks", _chunks(), 10, own="a number", id="chunks")
            yield Choice("stop", _stops(), None, id="stop")
            yield Choice("mode", _modes(), 0, own="the first position to quantize", id="start")
            yield Choice("corpus", _corpora(), "builtin", id="corpus")
            yield FileLine(placeholder="path of a UTF-8 text file", id="file")
        yield Static(id="estimate")
        yield Footer()

    def on_mount(self) -> None:
        """Focus the first setting; read past speeds in the background."""
        self.query_one("#file").display = False
        self.query_one("#bits").focus()
        self._show_estimate()
        self._read_runs()

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
        entry = self.query_one("#file", Input)
        entry.display = self._value("corpus") == FILE
        text = Text()
        settings = self._settings()
        try:
            settings.check()
            check_length(self._facts, settings.chunk_length)
        except FidelityError as error:
            text.append(without_flags(str(error)), style=self.app.theme_variables["error"])
            self.query_one("#estimate", Static).update(text)
            return
        e = estimate(self._facts, settings, self._runs)
        full = kv_bytes_per_token(self._facts, None)
        packed = kv_bytes_per_token(self._facts, settings.kv_bits, settings.kv_group_size)
        if e.n_positions is None or e.seconds is None:
            text.append("as many positions as the text has")
        else:
            source = "as in your last run" if e.from_runs else "a rough guess"
            text.append(f"{e.words}{e.n_positions:,} positions", style="bold")
            most = "at most " if settings.stops_early else ""
            text.append(f", {most}about {duration(e.seconds)} ({source})")
        text.append(f", {size(e.memory_bytes)} of memory\n")
        text.append(
            f"KV cache per token {size(full)} → {size(packed)} ({packed / full:.0%}) for a 16-bit model",
            style="dim",
        )
        self.query_one("#estimate", Static).update(text)

    @on(Input.Submitted)
    def action_start(self) -> None:
        """Check what can be checked now, then start."""
        settings = self._settings()
        try:
            settings.check()
            check_length(self._facts, settings.chunk_length)
            if self._value("corpus") == FILE:
                _check_file(settings.corpus)
            check_writable()
        except FidelityError as error:
            self.notify(without_flags(str(error)), title="Cannot start", severity="error", markup=False)
            return
        if self.mqf.bridge.busy:
            self.notify("Another measurement is still running.", severity="warning")
            return
        self.mqf.measure(settings)

    def _value(self, name: str) -> int | str | None:
        return self.query_one(f"#{name}", Choice).value

    def _settings(self) -> KVSettings:
        corpus = self._value("corpus")
        path = os.path.abspath(os.path.expanduser(self.query_one("#file", Input).value.strip()))
        chunks, stop = self._value("chunks"), self._value("stop")
        name = self._model.name
        return KVSettings(
            model=name if self._model.source != "folder" else str(self._facts.folder),
            kv_bits=_number(self._value("bits")),
            kv_group_size=_number(self._value("group")),
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


def _bits() -> list[Option]:
    words = {8: "usually safe", 6: "often safe", 5: "a compromise", 4: "small, with visible damage"}
    return [Option(bits, str(bits), words.get(bits, "smallest, heavy damage")) for bits in reversed(KV_BITS)]


def _groups(facts: ModelFacts) -> list[Option]:
    words = {
        32: "finest scales, largest cache",
        64: "mlx-lm's default",
        128: "coarsest scales, smallest cache",
    }
    return [
        Option(
            group,
            str(group),
            words[group],
            None if group in facts.valid_groups else f"does not divide the head size of {facts.head_dim}",
        )
        for group in KV_GROUP_SIZES
    ]


def _lengths(facts: ModelFacts) -> list[Option]:
    def refusal(length: int) -> str | None:
        too_long = facts.context is not None and length > facts.context
        return f"longer than this model's context of {facts.context:,}" if too_long else None

    return [
        Option(n, f"{n:,}", "tokens scored with one cache; damage may grow with depth", refusal(n))
        for n in CHUNK_LENGTHS
    ]


def _chunks() -> list[Option]:
    some = [Option(n, str(n), "more chunks, tighter intervals") for n in CHUNKS]
    return [*some, Option(None, "all", "every chunk of the corpus")]


def _stops() -> list[Option]:
    within = "as soon as mean KL is known to within ±{} % of itself"
    return [
        Option(None, "at the end", "every chunk asked for is scored; the tightest intervals"),
        Option(WHEN_SURE, "when sure", "as soon as one verdict is left; wrong in at most 5 % of runs"),
        *(Option(share, f"within {share} %", within.format(share)) for share in PRECISIONS),
    ]


def _modes() -> list[Option]:
    late = [
        Option(
            n, f"from {n}", f"deployment: the first {n} positions in full precision, then all is converted"
        )
        for n in STARTS
    ]
    return [Option(0, "stress", "quantized from the first token on; the hardest test"), *late]


def _corpora() -> list[Option]:
    return [
        Option("builtin", "builtin", "prose, dialogue, code, tables, languages; results by part"),
        Option("wikitext-2", "wikitext-2", "the usual test text; needs a network the first time"),
        Option(FILE, FILE, "your own text, the best judge; name it below"),
    ]
