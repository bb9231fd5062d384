"""The commands of the command line and their options. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
from typing import NoReturn

from mqf_tui import __version__
from mqf_tui.console.hub_arguments import add_models
from mqf_tui.console.output import SWEEP_FORMATS
from mqf_tui.console.text_arguments import add_text
from mqf_tui.console.tuning_arguments import add_sensitivity, add_tune
from mqf_tui.console.variant_arguments import add_one, add_several, sized
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.settings import KEEP_TOP
from mqf_tui.scale.options import NAMES as RANKS
from mqf_tui.scale.options import add_scale

EXIT_CODES = (
    "exit codes: 0 done, 1 measurement failed, 2 bad input, 3 stopped for memory, "
    "4 the verdict that --fail-on names, 130 interrupted"
)
FORMATS = ("md", "card", "json", "csv", "badge", "badge-json", "svg", "html")
BY_ENDING = "by how --output ends, such as .html or .card.md; else md"
MODEL = "a model folder, 'demo', or a name from the local hub cache"
# What ``demo`` has no options for.
NO_CHOICE = {
    **dict.fromkeys(("kv", "k_bits", "v_bits", "layers", "recipe", "score_last", "memory_limit")),
    "kernel": "auto",
    "control": False,
}
# What ``kv --control``, which is a sweep of one setting, has no options for.
NO_SWEEP = {
    **dict.fromkeys(("spool", "max_kv_bytes_per_token", "context", "memory", *RANKS)),
    "race": False,
}
RUN = "a run's id, the beginning of it, or 'last'"


class Parser(argparse.ArgumentParser):
    """Errors in one sentence, as everywhere else, in place of argparse's page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint for the command line to print."""
        raise FidelityError(f"{message}; see `{self.prog} --help` for what there is.")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = Parser(
        prog="mqf-tui",
        description="Measure what a quantization costs your LLM on MLX. Without a command: open the app.",
        epilog=EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"mqf-tui {__version__}")
    top.add_argument("--debug", action="store_true", help="show the details of unexpected errors")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    top.add_argument("--serve", action="store_true", help="open the app in a browser of this machine")
    top.add_argument("--port", type=int, metavar="N", help="with --serve (default: 8000)")

    kv = commands.add_parser("kv", help="measure a quantized KV cache", epilog=EXIT_CODES)
    kv.add_argument("model", metavar="MODEL", help=MODEL)
    _add_text(kv)
    add_one(kv)
    _add_measuring(kv, max_chunks=None)
    kv.set_defaults(**NO_SWEEP)

    _add_sweep(
        commands.add_parser("sweep", help="several settings at once, and which to take", epilog=EXIT_CODES)
    )

    add_sensitivity(
        commands.add_parser("sensitivity", help="which layers, keys or values hurt most", epilog=EXIT_CODES)
    )
    add_tune(commands.add_parser("tune", help="a setting of its own for each layer", epilog=EXIT_CODES))

    demo = commands.add_parser("demo", help="measure the bundled demo model", epilog=EXIT_CODES)
    demo.add_argument("--kv-bits", type=int, default=4, metavar="N", help="bits (default: 4)")
    demo.add_argument("--kv-group-size", type=int, default=64, metavar="N", help="group (default: 64)")
    demo.add_argument("--no-app", action="store_true", help="print the report even where there is a terminal")
    _add_measuring(demo, max_chunks=10)
    demo.set_defaults(model="demo", corpus="builtin", trust_remote_code=False, **NO_CHOICE)

    text = commands.add_parser("text", help="look at a text as it would be scored; no weights are loaded")
    text.add_argument("model", metavar="MODEL", help=MODEL)
    add_text(text)
    text.add_argument("--chunk-length", type=int, default=512, metavar="L", help="tokens (default: 512)")
    text.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model folder carries"
    )

    models = commands.add_parser("models", help="the models on this machine, and those on the hub")
    add_models(models)

    _add_compare(
        commands.add_parser("compare", help="the difference of two or more runs, with a paired test")
    )
    _add_rank(commands.add_parser("rank", help="which setting to take: runs of one model, ranked by cost"))
    _add_runs(commands.add_parser("runs", help="saved runs"))
    _add_sweeps(commands.add_parser("sweeps", help="saved sweeps"))
    commands.add_parser("doctor", help="device, versions, BLAS, memory, folders")
    settings = commands.add_parser("settings", help="what of settings.toml cannot be used", epilog=EXIT_CODES)
    settings.add_argument(
        "--init", action="store_true", help="write a first one: every setting, explained, with its default"
    )
    return top


def _add_text(command: argparse.ArgumentParser) -> None:
    add_text(command)
    command.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model folder carries"
    )
    command.add_argument(
        "--score-last", type=int, metavar="N", help="score only the last N positions of each chunk"
    )
    command.add_argument(
        "--memory-limit", type=sized("memory"), metavar="SIZE", help="use at most so much memory, such as 8GB"
    )


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    sweep.add_argument("model", metavar="MODEL", nargs="?", help=MODEL)
    _add_text(sweep)
    add_several(sweep)
    _add_measuring(sweep, max_chunks=None, formats=SWEEP_FORMATS)
    sweep.add_argument(
        "--race",
        action="store_true",
        help="settings leave on the way: surely bad, surely worse than one that takes no more memory, or "
        "settled",
    )
    sweep.add_argument(
        "--resume", metavar="SWEEP", help="go on with a sweep that broke off: its id, or 'last'"
    )
    fit = sweep.add_argument_group("what must fit")
    fit.add_argument("--max-kv-bytes-per-token", type=float, metavar="B", help="only settings that fit")
    fit.add_argument("--context", type=sized("tokens"), metavar="N", help="tokens, such as 32k, which …")
    fit.add_argument(
        "--memory", type=sized("memory"), metavar="SIZE", help="… must fit into this, such as 8GB"
    )
    add_scale(sweep)
    sweep.set_defaults(spool=None)


def _add_sweeps(sweeps: argparse.ArgumentParser) -> None:
    actions = sweeps.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="list saved sweeps, newest first")
    show = actions.add_parser("show", help="print a sweep's report")
    show.add_argument("sweep", metavar="SWEEP", help="a sweep's id, the beginning of it, or 'last'")
    show.add_argument("--format", choices=SWEEP_FORMATS, help=f"default: {BY_ENDING}")
    show.add_argument("--output", metavar="FILE", help="write it there instead of printing it")


def _add_measuring(
    command: argparse.ArgumentParser, max_chunks: int | None, formats: tuple[str, ...] = FORMATS
) -> None:
    command.add_argument("--chunk-length", type=int, default=512, metavar="L", help="tokens (default: 512)")
    command.add_argument(
        "--max-chunks", type=int, default=max_chunks, metavar="N", help=f"default: {max_chunks or 'all'}"
    )
    command.add_argument(
        "--quantize-start",
        type=int,
        default=0,
        metavar="N",
        help="0: stress (default); N > 0: the first N positions in full precision",
    )
    stop = command.add_argument_group("stop early")
    stop.add_argument("--until-sure", action="store_true", help="stop as soon as the verdict is settled")
    stop.add_argument(
        "--precision",
        type=_share,
        metavar="P",
        help="stop as soon as mean KL is known to within P of itself, such as 5%%; with --until-sure when "
        "both are reached",
    )
    judge = command.add_argument_group("verdict")
    judge.add_argument("--max-kl", type=float, metavar="X", help="the most mean KL (nats) that is still good")
    judge.add_argument(
        "--max-flips", type=_share, metavar="P", help="the most flips that are still good, such as 1%%"
    )
    judge.add_argument(
        "--fail-on", choices=("bad", "marginal"), help="exit with 4 at this verdict or a worse one"
    )
    out = command.add_argument_group("output")
    out.add_argument("--format", choices=formats, help=f"of the report (default: {BY_ENDING})")
    out.add_argument("--output", metavar="FILE", help="write the report there instead of printing it")
    out.add_argument(
        "--keep-top",
        type=int,
        default=KEEP_TOP,
        metavar="K",
        help="of the worst 200 positions and the confident flips, keep the K likeliest tokens with the run "
        f"(default: {KEEP_TOP}; 0: none)",
    )
    out.add_argument("--no-save", action="store_true", help="do not keep the run")


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help=f"two or more; the first is the baseline ({RUN})"
    )
    compare.add_argument("--format", choices=("md", "json"), default="md")


def _add_rank(rank: argparse.ArgumentParser) -> None:
    rank.add_argument("runs", nargs="*", metavar="RUN", help="the runs to rank (default: all of one model)")
    rank.add_argument("--model", metavar="NAME", help="only runs of this model (a part of its name)")
    rank.add_argument("--max-kv-bytes-per-token", type=float, metavar="B", help="only settings that fit")
    rank.add_argument("--max-kl", type=float, metavar="X", help="only settings with a mean KL of X or less")
    rank.add_argument("--min-verdict", choices=("good", "marginal"), help="only settings at least that good")
    rank.add_argument("--format", choices=("md", "json", "csv"), default="md")


def _add_runs(runs: argparse.ArgumentParser) -> None:
    actions = runs.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list saved runs, newest first")
    listing.add_argument("--model", metavar="NAME", help="only this model (a part of its name)")
    listing.add_argument("--verdict", choices=("good", "marginal", "bad"))
    listing.add_argument("--tag", metavar="TAG")
    listing.add_argument(
        "--filter", metavar="TEXT", help="as in the app: 'smol bits:4,8 -verdict:bad tag:blog kl<0.01'"
    )
    listing.add_argument("--since", metavar="DATE", help="made on this day or later (2026-11-25)")
    listing.add_argument("--until", metavar="DATE", help="made on this day or before")
    listing.add_argument("--trash", action="store_true", help="the deleted runs that can still be restored")
    listing.add_argument("--format", choices=("table", "json", "csv"), default="table")

    show = actions.add_parser("show", help="print a saved run")
    show.add_argument("run", metavar="RUN", help=RUN)
    _add_rendering(show, "md")
    export = actions.add_parser("export", help="write saved runs in any format")
    export.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
    export.add_argument("--output", metavar="FILE", help="a file, or a folder for several runs")
    _add_rendering(export, BY_ENDING)

    take = actions.add_parser("import", help="take in reports that other tools wrote")
    take.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="JSON of mqf-tui or mlx-quant-fidelity, or what llama.cpp printed for --kl-divergence",
    )

    tag = actions.add_parser("tag", help="add tags to a run, or take them away")
    tag.add_argument("run", metavar="RUN", help=RUN)
    tag.add_argument("tags", nargs="+", metavar="TAG")
    tag.add_argument("--remove", action="store_true", help="take these tags away")
    note = actions.add_parser("note", help="write a note on a run (empty: none)")
    note.add_argument("run", metavar="RUN", help=RUN)
    note.add_argument("text", metavar="TEXT")

    for name, text in (
        ("delete", "move runs to the trash; after 30 days there they are gone"),
        ("restore", "take runs back out of the trash"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
    verify = actions.add_parser("verify", help="check files, schema, and numbers against the positions")
    verify.add_argument("runs", nargs="*", metavar="RUN", help="default: all")


def _add_rendering(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--format", choices=FORMATS, help=f"default: {default}")
    command.add_argument("--positions", action="store_true", help="csv: one row a position, not one a run")
    command.add_argument("--dark", action="store_true", help="svg: light on dark")


def _share(text: str) -> float:
    """``5%`` or ``0.05``."""
    try:
        return float(text[:-1]) / 100 if text.rstrip().endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; use 5% or 0.05") from None
