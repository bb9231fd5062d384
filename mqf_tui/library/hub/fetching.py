"""One file of a repository: fetched, gone on with after a break, and checked against its hash."""

from __future__ import annotations

import os
import re
from typing import BinaryIO
from urllib.parse import quote

from mqf_tui.fidelity.errors import FidelityError, HubError
from mqf_tui.library.hub.calls import Body, LostError, Opened, Patience, endpoint, wait_or_raise
from mqf_tui.library.hub.faults import CutError, NotTheHubError, RefusedError, told
from mqf_tui.library.hub.files import HubFile
from mqf_tui.library.hub.meter import Meter
from mqf_tui.library.hub.names import RepoName
from mqf_tui.library.hub.store import Checksum, Store

ENOUGH = 1 << 16  # bytes that make a try worth while, so that those after it count anew
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def fetch(name: RepoName, file: HubFile, store: Store, meter: Meter, patience: Patience) -> None:
    """Fetch a file, or the rest of it, check it, and put it in its place; raises HubError, CancelledError."""
    with store.locked(file, patience):
        if store.has_content(file):
            store.link(file)
            return
        with store.growing(file) as partial:
            growing = _Growing(name, file, store.commit, partial, meter, patience)
            growing.run()
            right = growing.right
            partial.flush()
            os.fsync(partial.fileno())
        if not right:
            store.drop(file)
            raise HubError(
                f"what came of {file.path} is not what the hub says it has (its hash differs), so it was "
                "thrown away; fetch it again, and if it stays so, do not trust this network."
            )
        store.finish(file)


class _Growing:
    """A partial file that grows until it is whole."""

    def __init__(
        self,
        name: RepoName,
        file: HubFile,
        commit: str,
        partial: BinaryIO,
        meter: Meter,
        patience: Patience,
    ) -> None:
        self._name = name
        self._file = file
        self._path = f"/{name.repo}/resolve/{commit}/{quote(file.path)}"
        self._partial = partial
        self._meter = meter
        self._patience = patience
        self._sum = Checksum(file)
        self._have = 0

    @property
    def right(self) -> bool:
        """Whether it is what the hub says."""
        return self._sum.right

    def run(self) -> None:
        """Until it is whole."""
        self._take_up()
        attempt = 1
        while self._have < self._file.size:
            before = self._have
            try:
                self._go_on()
            except LostError as lost:
                attempt = 1 if self._have - before >= ENOUGH else attempt
                if isinstance(lost.error, RefusedError) and lost.error.status == 416 and self._have:
                    self._restart()  # what is here cannot be the beginning of the file
                else:
                    wait_or_raise(lost.error, attempt, self._patience, self._name, reached=True)
                attempt += 1

    def _take_up(self) -> None:
        """What was fetched before."""
        if self._partial.seek(0, os.SEEK_END) > self._file.size:
            self._restart()
        elif self._partial.tell():
            self._meter.wait("what was fetched before is checked")
            self._partial.seek(0)
            self._have = self._sum.add_file(self._partial, self._patience.check)
            self._meter.here(self._have)
            self._meter.wait("")

    def _restart(self) -> None:
        self._partial.truncate(0)
        self._sum.restart()
        self._have = 0
        self._meter.here(0)

    def _go_on(self) -> None:
        with Body(self._path, self._have, self._patience) as body:
            self._begin(body.opened(self._meter.idle))
            for piece in body.pieces(self._meter.idle):
                if self._have + len(piece) > self._file.size:
                    raise self._strange("it sent more than the file holds")
                self._partial.write(piece)
                self._sum.add(piece)
                self._have += len(piece)
                self._meter.add(len(piece))
        if self._have < self._file.size:
            raise LostError(CutError())

    def _begin(self, opened: Opened) -> None:
        """Whether what follows is what was asked for."""
        if opened.status == 206:
            part = RANGE.fullmatch(opened.headers.get("content-range", ""))
            if part is None or (int(part[1]), int(part[2])) != (self._have, self._file.size):
                raise self._strange("it sent another part of the file than was asked for")
            return
        if opened.status != 200:
            raise self._strange(f"it answered {opened.status}")
        length = opened.headers.get("content-length", "")
        if length.isdigit() and "content-encoding" not in opened.headers and int(length) != self._file.size:
            raise self._strange(f"it sent {int(length):,} bytes where the file has {self._file.size:,}")
        if self._have:
            self._restart()  # asked for the rest, it sends the whole

    def _strange(self, what: str) -> FidelityError:
        return told(NotTheHubError(what), endpoint(), self._name)
