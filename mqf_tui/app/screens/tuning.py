"""Tuning: the recipe that was found, what it costs, and the code that applies it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.highlight import highlight
from textual.widgets import DataTable, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.columns import SCROLLBAR, fitting
from mqf_tui.app.documents import tuning_document
from mqf_tui.app.previews import MOST_SOURCE, cut, harmless
from mqf_tui.app.row_words import kl_words
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.screens.report_dialogs import SaveScreen
from mqf_tui.app.screens.sensitivity import show_strip
from mqf_tui.app.sweep_pictures import Strip, cost_words, recipe_cells, strip
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.heat_grid import HeatGrid
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.exporting import export
from mqf_tui.reports.text import counted, inert, kl, percent
from mqf_tui.reports.tuning_report import goal_words
from mqf_tui.reports.tuning_schema import TunedSetting, Tuning

NO_CODE = "No code can apply it with mlx-lm, which has no cache for quantized layers of this kind."
# From left to right; the number says in which order they go where there is no room (0: never).
COLUMNS = {
    "": 0,
    "setting": 0,
    "KV/token": 3,
    "KL predicted": 1,
    "KL mean": 0,
    "flips": 2,
    "verdict": 0,
    "in the goal": 0,
}


class TuningScreen(BaseScreen):
    """The answer, the recipe as a strip, the settings that were measured, layers alone, the code."""

    TITLE: ClassVar[str | None] = "Tuning"
    HELP = (
        "# Tuning\n\nThe recipe gives the keys and values of each layer a format of their own; → is the "
        "one proposed, below it what was measured beside it on the same text. **KL predicted** is what its "
        "layers cost alone, added up. It was chosen and measured on the same text, so measure it on other "
        "text too.\n\n"
        "**y** copies the Python that applies it with mlx-lm, **w** saves the recipe for "
        "`mqf-tui kv MODEL --recipe FILE`, **o** opens the report. Tab goes from the strips to the text."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("tuning")
    DEFAULT_CSS = """
    TuningScreen #all { height: 1fr; }
    TuningScreen HeatGrid { margin: 1 1 0 1; }
    TuningScreen DataTable { height: auto; margin: 1 1 0 1; }
    TuningScreen .words { height: auto; padding: 1 2 0 2; }
    TuningScreen #code { height: auto; padding: 0 2; margin: 1 1; background: $surface; }
    """

    def __init__(self, tuning: Tuning) -> None:
        super().__init__()
        self._tuning = tuning
        self._strips: list[Strip] = [strip(found) for found in tuning.sensitivity]

    def compose(self) -> ComposeResult:
        """All of it, to be scrolled."""
        t = self._tuning
        yield TitleBar(str(self.TITLE))
        with VerticalScroll(id="all"):
            yield Static(self._headline(), id="answer")
            yield HeatGrid(id="recipe")
            yield DataTable[Text](show_cursor=False, zebra_stripes=True, id="measured")
            yield Static(self._notes(), classes="words")
            yield Static(Text("The code for mlx-lm (y copies it)", style="bold"), classes="words")
            code, more = cut(harmless(t.code), MOST_SOURCE)
            yield Static(highlight(code, language="python") if code else NO_CODE, id="code")
            if more:
                yield Static(more, classes="words")
            for number, _ in enumerate(self._strips):
                yield HeatGrid(cell_height=2, id=f"strip-{number}", classes="strip")
            if t.rule:
                yield Static(
                    Text(inert(t.rule), style=self.app.theme_variables["secondary"]), classes="words"
                )
        yield KeyFooter()

    def on_mount(self) -> None:
        """Fill strips and table."""
        if not self.query("#measured"):
            return  # the app was left while this screen was being put up: its widgets are gone
        t = self._tuning
        recipe = self.query_one("#recipe", HeatGrid)
        recipe.border_title = "The recipe: bits of the keys and values of each layer"
        layers = [str(i) for i in range(t.n_layers)]
        recipe.show(("keys", "values"), layers, recipe_cells(t.recipe.layers, t.n_layers))
        self._tell(recipe)
        for number, (found, drawn) in enumerate(zip(t.sensitivity, self._strips, strict=True)):
            show_strip(self.query_one(f"#strip-{number}", HeatGrid), found, drawn)
        self._fill()
        recipe.focus()

    def on_resize(self) -> None:
        """Lay the table out for the new width."""
        super().on_resize()
        self._fill()

    def _fill(self) -> None:
        if not self.query("#measured"):
            return
        t = self._tuning
        rows = [self._row(one) for one in (t.recipe, *t.tried, *t.uniform)]
        widths = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in COLUMNS}
        table = self.query_one("#measured", DataTable)
        table.clear(columns=True)
        shown = fitting(COLUMNS, widths, self.size.width - SCROLLBAR - 2)
        table.add_columns(*shown)
        for row in rows:
            table.add_row(*(row[name] for name in shown))

    @on(HeatGrid.Highlighted)
    def cell(self, event: HeatGrid.Highlighted) -> None:
        """Say what is under the cursor."""
        grid = event.grid
        if grid.id == "recipe":
            self._tell(grid)
            return
        number = int((grid.id or "strip-0").removeprefix("strip-"))
        cost = self._strips[number].costs[event.row, event.column]
        grid.border_subtitle = Text(cost_words(cost, self._tuning.sensitivity[number]), style="bold")

    def action_copy(self) -> None:
        """Copy the code, or the recipe's file where there is none."""
        t = self._tuning
        self.mqf.copy(t.code or t.toml, "The code for mlx-lm" if t.code else "The recipe's file")

    def action_save(self) -> None:
        """Ask where, then write the recipe's file."""

        def save(path: Path | None) -> None:
            if path is not None:
                self._write(path)

        self.app.push_screen(SaveScreen(tuning_document(self._tuning).file_name("toml")), save)

    @work(thread=True)
    def _write(self, path: Path) -> None:
        try:
            export(path, self._tuning.toml)
        except FidelityError as error:
            told = partial(self.notify, str(error), severity="error", timeout=15, markup=False)
        else:
            told = partial(self.notify, f"Saved as {inert(str(path))}", markup=False)
        self.app.call_from_thread(told)

    def action_report(self) -> None:
        """The report with all its forms."""
        self.mqf.report(tuning_document(self._tuning))

    def _tell(self, grid: HeatGrid) -> None:
        """The format under the recipe's cursor."""
        cells = recipe_cells(self._tuning.recipe.layers, self._tuning.n_layers)
        if grid.cursor is not None:
            row, layer = grid.cursor
            word = cells[row, layer].lines[0]
            said = "full precision" if word == "16" else f"{word}{'-bit' * word.isdigit()}"
            grid.border_subtitle = Text(f"layer {layer} {('keys', 'values')[row]}: {said}", style="bold")

    def _headline(self) -> Text:
        t, colours = self._tuning, self.app.theme_variables
        text = Text(inert(t.answer[:1].upper() + t.answer[1:]), style="bold")
        text.append(f"\n{inert(t.model)}, a recipe for {goal_words(t)}", style=colours["secondary"])
        if not t.met:
            text.append("  GOAL MISSED", style=f"bold {colours['warning']}")
        if t.partial:
            why = inert(t.ended).rstrip(".")
            text.append(f"  PARTIAL: {why}", style=f"bold {colours['warning']}")
        return text

    def _notes(self) -> Text:
        t, colours = self._tuning, self.app.theme_variables
        lines = [Text(f"! {inert(word)}", style=colours["warning"]) for word in t.warnings]
        text = f"{counted(t.n_positions, 'position')} in {counted(t.n_chunks, 'chunk')} of {t.corpus.name}"
        made = f"measured as a whole over {inert(text)}, on which it was chosen too"
        lines.append(Text(made, style=colours["secondary"]))
        return Text("\n").join(lines)

    def _row(self, one: TunedSetting) -> dict[str, Text]:
        colour = self.app.theme_variables[COLOURS[one.verdict]]
        proposed = one is self._tuning.recipe
        within = "no" if not one.within else "yes" if one.surely else "not surely"
        name = inert(one.setting) + (", all layers" if one.uniform else "")
        cells = (
            Text("→" if proposed else "", style="bold"),
            Text(name, style="bold" if proposed else ""),
            Text(f"{one.kv_bytes:,.0f} B", justify="right"),
            Text(kl(one.predicted_kl), justify="right"),
            Text(kl_words(one.kl.value, one.kl.ci), justify="right"),
            Text(percent(one.flips.value), justify="right"),
            Text(one.verdict, style=f"bold {colour}"),
            Text(within),
        )
        return dict(zip(COLUMNS, cells, strict=True))
