"""The command line: arguments in, reports to standard output, progress to standard error.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mqf_tui import __version__
from mqf_tui.fidelity.errors import FidelityError

EXIT_CODES = "exit codes: 0 done, 1 measurement failed, 2 bad input, 3 stopped for memory, 130 interrupted"


def entry() -> None:
    """Entry point of the console script."""
    # Closed by the caller (`>&-`): then there is nobody to write to.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except FidelityError as error:
        return complain(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a listing went away (`| head`).
        sys.stdout = None
        return 0
    except Exception as error:
        if options.debug:
            raise
        complain(
            FidelityError(
                f"an unexpected {type(error).__name__} came up ({error}); run again with --debug before the "
                "command for the details and please report them."
            )
        )
        return 1


def complain(error: FidelityError) -> int:
    """Print the error's sentence; return its exit code."""
    sys.stderr.write(f"mqf-tui: {error}\n")
    return error.exit_code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as for every other error, in place of argparse's page of usage."""
        self.exit(complain(FidelityError(f"{message}; see `{self.prog} --help` for what there is.")))


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(
        prog="mqf-tui",
        description="Measure what a quantization costs your LLM on MLX. Without a command: open the app.",
        epilog=EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"mqf-tui {__version__}")
    top.add_argument("--debug", action="store_true", help="show the details of unexpected errors")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    kv = commands.add_parser("kv", help="measure a quantized KV cache", epilog=EXIT_CODES)
    kv.add_argument(
        "model", metavar="MODEL", help="a model folder, 'demo', or a name from the local hub cache"
    )
    kv.add_argument("--kv-bits", type=int, default=8, metavar="N", help="2, 3, 4, 5, 6 or 8 (default: 8)")
    kv.add_argument("--kv-group-size", type=int, default=64, metavar="N", help="32, 64 or 128 (default: 64)")
    kv.add_argument(
        "--corpus", default="builtin", metavar="NAME|FILE", help="builtin, wikitext-2 or a text file"
    )
    kv.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model folder carries"
    )
    _add_measuring(kv, max_chunks=None)

    demo = commands.add_parser("demo", help="measure the bundled demo model", epilog=EXIT_CODES)
    demo.add_argument("--kv-bits", type=int, default=4, metavar="N", help="bits (default: 4)")
    demo.add_argument("--kv-group-size", type=int, default=64, metavar="N", help="group (default: 64)")
    demo.add_argument("--no-app", action="store_true", help="print the report even where there is a terminal")
    _add_measuring(demo, max_chunks=10)
    demo.set_defaults(model="demo", corpus="builtin", trust_remote_code=False)

    models = commands.add_parser("models", help="list the models on this machine")
    models.add_argument("--format", choices=("table", "json"), default="table")

    runs = commands.add_parser("runs", help="saved runs").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    listing = runs.add_parser("list", help="list saved runs, newest first")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    show = runs.add_parser("show", help="print a saved run")
    show.add_argument("run", metavar="RUN", help="its id, the beginning of it, or 'last'")
    show.add_argument("--format", choices=("md", "json"), default="md")

    commands.add_parser("doctor", help="device, versions, BLAS, memory, folders")
    return top


def _add_measuring(command: argparse.ArgumentParser, max_chunks: int | None) -> None:
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
    command.add_argument("--format", choices=("md", "json"), default="md", help="of the report (default: md)")
    command.add_argument("--output", metavar="FILE", help="write the report there instead of printing it")
    command.add_argument("--no-save", action="store_true", help="do not keep the run")


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case None:
            return _app()
        case "kv":
            from mqf_tui.console import measuring

            return measuring.run(options)
        case "demo":
            asked = options.no_app or options.output or options.no_save or options.format != "md"
            if asked or not (sys.stdout.isatty() and sys.stdin.isatty()):
                from mqf_tui.console import measuring

                return measuring.run(options)
            return _app(options)
        case "doctor":
            from mqf_tui.console import doctor

            return doctor.run()
        case "models":
            from mqf_tui.console import listings

            return listings.models(options.format)
        case _:
            from mqf_tui.console import listings

            if options.action == "list":
                return listings.runs(options.format)
            return listings.show(options.run, options.format)


def _app(options: argparse.Namespace | None = None) -> int:
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise FidelityError("the app needs a terminal; without one use a command such as `mqf-tui kv MODEL`.")
    from mqf_tui.app.app import run_app

    if options is None:
        return run_app()
    from mqf_tui.console.measuring import settings_from

    settings = settings_from(options)
    settings.check()
    return run_app(settings, autostart=True)
