"""Measurements as generators of events. All of it runs in the thread that iterates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.device import release
from mqf_tui.fidelity.errors import FidelityError, MeasurementError, OutOfMemoryError
from mqf_tui.fidelity.events import Event, Swept
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.loaded import LoadedFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.running import RunningSweep, StopAskedError
from mqf_tui.fidelity.settings import KVSettings, SweepSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.chunking import TokenStore
    from mqf_tui.reports.schema import Report


def measure(settings: KVSettings, facts: ModelFacts, control: Control) -> Iterator[Event]:
    """Measure one variant of one model; yields events (see events.py for the order).

    What was scored before a failure or a stop is in the last event, as a partial report. Nothing is
    raised but KeyboardInterrupt, and that only where no stop was asked for before it.
    """
    for event in sweep(SweepSettings((settings,)), facts, control):
        if not isinstance(event, Swept):
            yield event


def sweep(
    settings: SweepSettings,
    facts: ModelFacts,
    control: Control,
    *,
    chunks: Sequence[int] | None = None,
    known: Mapping[int, Sequence[Positions]] | None = None,
    store: TokenStore | None = None,
    past: Sequence[Report] = (),
) -> Iterator[Event]:
    """Measure several variants beside one pass of the reference: 1 + N passes a chunk.

    ``chunks``: only these are scored (indices; None: all). ``known``: what was scored before, by chunk, a
    whole chunk's Positions for each variant; it is taken as it is. ``store`` keeps the tokens of texts from
    one measurement to the next; ``past``: this machine's last reports, newest first, from which the time is
    estimated. Events and errors as in ``measure``, and at the end a Finished, Stopped or Failed for each
    variant, then Swept.
    """
    kind = _kind(facts)
    yield from guarded(kind(settings, facts, control, chunks=chunks, known=known, store=store, past=past))


def _kind(facts: ModelFacts) -> type[RunningSweep]:
    if not isinstance(facts, LoadedFacts):
        return RunningSweep
    from mqf_tui.fidelity.loaded_sweep import LoadedSweep

    return LoadedSweep


def guarded(running: RunningSweep) -> Iterator[Event]:
    """The events of ``running.run()``; what goes wrong becomes its last events."""
    control = running.control
    try:
        yield from running.run()
    except StopAskedError:
        yield from running.stopped()
    except FidelityError as error:
        # A failure on the way to a stop that was asked for is no news, unless the numbers are wrong.
        asked = control.stopped and not isinstance(error, MeasurementError)
        yield from running.stopped() if asked else running.failed(error)
    except KeyboardInterrupt:
        if not control.stopped:
            raise
        yield from running.stopped()  # asked for twice
    except Exception as error:
        yield from running.failed(as_failure(error))
    finally:
        release()


def as_failure(error: Exception) -> FidelityError:
    """What nobody raised on purpose, in words."""
    # MLX reports a failed allocation as a plain RuntimeError.
    said = str(error).lower()
    if isinstance(error, MemoryError) or "alloc" in said or "out of memory" in said:
        return OutOfMemoryError(
            "memory ran out; use shorter chunks (--chunk-length), close other programs, or take a smaller "
            "model."
        )
    words = " ".join(str(error).split())
    failure = MeasurementError(
        f"the measurement broke down unexpectedly ({type(error).__name__}: {words}); "
        "please report this with the command that you used."
    )
    failure.__cause__ = error
    return failure
