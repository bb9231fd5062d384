"""The program of one rank, which mlx.launch starts: ``python -m mqf_tui.scale.rank HOST:PORT``.

It connects to the process that started the sweep and does what that says. The connection is its lifeline:
when it ends the rank ends at once. Signals that mlx.launch sends to all ranks when one has died do not end
it once it works by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, MeasurementError, OutOfMemoryError, brief
from mqf_tui.scale.errors import HostError
from mqf_tui.scale.launching import KEY
from mqf_tui.scale.messages import bytes_to_arrays, settings_from_json, software
from mqf_tui.scale.wire import PING_SECONDS, Line, Message

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.chunking import Chunks

RANK = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
JOIN_SECONDS = 40  # MLX's ring gives up after about 31 of its own, and may wait forever for others
CONNECT_SECONDS = 20.0


def main(arguments: Sequence[str]) -> None:
    """Be a rank until the connection ends; does not return."""
    line = _connected(arguments[0], os.environ.pop(KEY, ""))
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    control = Control()
    line.send("hello", rank=_rank(), pid=os.getpid(), versions=software())
    threading.Thread(target=_listen, args=(line, inbox, control), daemon=True).start()
    threading.Thread(target=_ping, args=(line,), daemon=True).start()
    try:
        _work(line, inbox, control)
    except BaseException as error:
        _confess(line, error)
        inbox.get()  # until the connection ends: what was said last must not be lost
    os._exit(0)  # without MLX's own clearing up, which may wait for ranks that have gone


def _work(line: Line, inbox: queue.SimpleQueue[Message], control: Control) -> None:
    job = inbox.get()
    from mqf_tui import api

    fields = job.fields
    settings = settings_from_json(fields["settings"])
    facts = replace(api.facts_of(settings.first), name=fields["model"])
    line.send("facts", config=facts.config_hash, weights=facts.weights_hash, content=facts.content_hash)
    if inbox.get().word != "join":
        return
    from mqf_tui.fidelity import device as devices

    device = devices.prepare()  # OpenBLAS goes before MLX; and what is free, before any rank loads
    group, same = _joined(fields["backend"], fields["n"], fields["digest"])
    if fields["split"] == "chunks":
        # mlx.launch sends these to all when one has died; here the others can go on.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    line.send("joined", same=same)
    from mqf_tui.scale.share import Share

    lonely = fields["split"] == "chunks"
    Share(
        settings,
        facts,
        control if lonely else Control(),
        _text(fields, job.payload),
        line,
        split=fields["split"],
        group=group,
        speaks=lonely or _rank() == 0,
        beside=fields["beside"],
    ).work(inbox, device)


def _joined(backend: str, n: int, digest: str) -> tuple[Any, bool]:
    """MLX's group of all ranks, and whether all of them were given the same work to do."""
    if n == 1:
        return None, True
    import mlx.core as mx

    with _limited(JOIN_SECONDS):
        try:
            group = mx.distributed.init(strict=True, backend=backend.removesuffix("-ring"))
        except RuntimeError as error:
            raise HostError(
                f"MLX's {backend} could not be formed ({brief(error)}); see that all hosts reach each other, "
                "or choose other ports with --starting-port."
            ) from error
        own = mx.array(list(hashlib.sha256(digest.encode()).digest()), mx.uint8).astype(mx.uint32)
        gathered = mx.distributed.all_gather(own[None], group=group, stream=mx.cpu)
        same = bool((gathered == own).all().item())
    return group, same and group.size() == n


@contextmanager
def _limited(seconds: int) -> Generator[None]:
    """End the process when this takes longer.

    MLX holds the interpreter's lock while its ring connects, so no thread and no handler of Python's could.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _text(fields: dict[str, Any], payload: bytes) -> Chunks:
    """The chunks as they were cut where the sweep was started: a rank needs neither text nor tokenizer."""
    from mqf_tui.fidelity.text.chunking import Chunks
    from mqf_tui.fidelity.vocabulary import Vocabulary
    from mqf_tui.reports.schema import CorpusProvenance

    arrays = bytes_to_arrays(payload)
    return Chunks(
        arrays["tokens"],
        arrays["token_class"],
        arrays["part"],
        tuple(fields["part_names"]),
        CorpusProvenance.model_validate_json(fields["provenance"]),
        Vocabulary(None),  # texts are looked up where the report is made
        tuple(fields["warnings"]),
        arrays.get("lengths"),
        arrays.get("scored"),
    )


def _confess(line: Line, error: BaseException) -> None:
    """Say what went wrong, by the name of its class."""
    known = error
    if not isinstance(error, FidelityError):
        if isinstance(error, MemoryError) or any(w in str(error).lower() for w in ("alloc", "out of memory")):
            known = OutOfMemoryError("memory ran out")
        else:
            known = MeasurementError(f"it broke down unexpectedly ({type(error).__name__}: {brief(error)})")
    with contextlib.suppress(OSError):
        line.send("failed", kind=type(known).__name__, words=str(known))


def _listen(line: Line, inbox: queue.SimpleQueue[Message], control: Control) -> None:
    try:
        while True:
            message = line.receive()
            match message.word:
                case "stop":
                    control.stop()
                case "pause":
                    control.pause()
                case "resume":
                    control.resume()
                case _:
                    inbox.put(message)
    except (OSError, EOFError, ValueError, KeyError):
        os._exit(0)


def _ping(line: Line) -> None:
    while True:
        time.sleep(PING_SECONDS)
        try:
            line.send("ping")
        except OSError:
            os._exit(0)


def _connected(address: str, key: str) -> Line:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
    connection.settimeout(None)
    line = Line(connection)
    line.raw_out(key.encode())
    return line


def _rank() -> int:
    return next((int(os.environ[name]) for name in RANK if os.environ.get(name)), 0)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"no way to {sys.argv[1:]} ({error.strerror or error})")
