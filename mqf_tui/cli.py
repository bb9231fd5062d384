"""The command line: arguments in, reports to standard output, progress to standard error.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from mqf_tui.app.served import served
from mqf_tui.fidelity.errors import FidelityError


def entry() -> None:
    """Entry point of the console script."""
    # Closed by the caller (`>&-`): then there is nobody to write to.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    debug = False
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        if not given:
            return _app()  # which need not wait for all the options of the commands
        from mqf_tui.console.arguments import parser

        options = parser().parse_args(given)
        debug = options.debug
        return _run(options, given)
    except FidelityError as error:
        return complain(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a listing went away (`| head`).
        sys.stdout = None
        return 0
    except Exception as error:
        if debug:
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
    with suppress(OSError):
        sys.stderr.write(f"mqf-tui: {error}\n")
    return error.exit_code


def _run(options: argparse.Namespace, given: list[str]) -> int:
    if options.serve and options.command is not None:
        raise FidelityError("--serve opens the whole app in a browser; leave the command away.")
    if options.port is not None and not options.serve:
        raise FidelityError("--port is the port of --serve; use `mqf-tui --serve --port N`.")
    match options.command:
        case None:
            return _serve(options) if options.serve else _app()
        case "kv":
            return _measure(options, given)
        case "sweep":
            return _sweep(options, given)
        case "sensitivity" | "tune":
            from mqf_tui.console import tuning

            return tuning.sensitivity(options) if options.command == "sensitivity" else tuning.tune(options)
        case "sweeps":
            from mqf_tui.console import sweeps

            return sweeps.run(options)
        case "demo":
            asked = options.no_app or options.output or options.no_save or options.fail_on
            asked = asked or options.format not in (None, "md")
            if asked or not (sys.stdout.isatty() and sys.stdin.isatty()):
                from mqf_tui.console import measuring

                return measuring.run(options)
            return _app(options)
        case "text":
            from mqf_tui.console import text_preview

            return text_preview.run(options)
        case "doctor":
            from mqf_tui.console import doctor

            return doctor.run()
        case "settings":
            from mqf_tui.console import settings

            return settings.run(options)
        case "models":
            return _models(options)
        case "compare":
            from mqf_tui.console import comparing

            return comparing.run(options)
        case "rank":
            from mqf_tui.console import ranking

            return ranking.run(options)
        case _:
            from mqf_tui.console import keeping

            return keeping.run(options)


def _models(options: argparse.Namespace) -> int:
    if options.action in (None, "show"):
        from mqf_tui.console import model_listing

        if options.action is None:
            return model_listing.models(options.format)
        return model_listing.show(options.name, options.format)
    from mqf_tui.console import hub

    return hub.search(options) if options.action == "search" else hub.download(options)


def _measure(options: argparse.Namespace, given: list[str]) -> int:
    if options.control:
        from mqf_tui.console import sweeping

        return sweeping.run(options, given)
    from mqf_tui.console import measuring

    return measuring.run(options)


def _sweep(options: argparse.Namespace, given: list[str]) -> int:
    from mqf_tui.console import sweeping

    if options.resume is not None:
        from mqf_tui.console.arguments import parser
        from mqf_tui.scale.options import resume_on

        now = options
        sweeping.check_resuming(now, parser().parse_args(["sweep", "--resume", now.resume]))
        spool, given = sweeping.resumed(now)
        options = parser().parse_args(given)
        options.format, options.output, options.fail_on = now.format, now.output, now.fail_on
        options.spool = spool
        resume_on(options, now)
    elif options.model is None:
        raise FidelityError("no model is named; use `mqf-tui sweep MODEL`, or --resume SWEEP.")
    return sweeping.run(options, given)


def _serve(options: argparse.Namespace) -> int:
    from mqf_tui.app import serving

    return serving.serve(serving.PORT if options.port is None else options.port)


def _app(options: argparse.Namespace | None = None) -> int:
    if not (sys.stdout.isatty() and sys.stdin.isatty()) and not served():
        raise FidelityError("the app needs a terminal; without one use a command such as `mqf-tui kv MODEL`.")
    from mqf_tui.app.app import run_app

    if options is None:
        return run_app()
    from mqf_tui.console.measuring import settings_from

    settings = settings_from(options)
    settings.check()
    return run_app(settings, autostart=True)
