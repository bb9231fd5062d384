"""Where ranks report to: a socket, a thread that listens to each rank, and one queue of what they say."""

from __future__ import annotations

import contextlib
import hmac
import queue
import secrets
import socket
import threading
from dataclasses import dataclass

from mqf_tui.scale.errors import HostError
from mqf_tui.scale.wire import Line, Message

KEY_BYTES = 32
SILENCE_SECONDS = 45.0  # a rank says something every few seconds, but not while MLX's ring connects
HANDSHAKE_SECONDS = 10.0


@dataclass(frozen=True)
class Said:
    """What one rank said. The word "lost" is the desk's own: the rank's connection has ended."""

    rank: int
    message: Message


class Desk:
    """Takes in the ranks that know ``key``, and nobody else."""

    def __init__(self, address: str, n_ranks: int) -> None:
        """Listen at ``address`` (an IP of this machine); raises HostError."""
        self.key = secrets.token_hex(KEY_BYTES // 2)
        self._n_ranks = n_ranks
        self._lines: dict[int, Line] = {}
        self._said: queue.Queue[Said] = queue.Queue()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self._server = socket.create_server((address, 0), family=family)
        except OSError as error:
            raise HostError(
                f"no rank could report to {address} ({error.strerror}); check this machine's network."
            ) from error
        port = int(self._server.getsockname()[1])
        self.address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        threading.Thread(target=self._welcome, daemon=True).start()

    def hear(self, seconds: float) -> Said | None:
        """The next that a rank says; None where none does within this time."""
        try:
            return self._said.get(timeout=seconds)
        except queue.Empty:
            return None

    def tell(self, rank: int, word: str, payload: bytes = b"", **fields: object) -> None:
        """Send a message to one rank; to one that has gone, nothing (it is, or will be, reported lost)."""
        line = self._lines.get(rank)
        if line is not None:
            with contextlib.suppress(OSError):
                line.send(word, payload, **fields)

    def drop(self, rank: int) -> None:
        """End the connection of one rank, at which it ends itself."""
        line = self._lines.pop(rank, None)
        if line is not None:
            line.close()

    def close(self) -> None:
        """End all connections, at which the ranks end themselves."""
        self._server.close()
        for rank in list(self._lines):
            self.drop(rank)

    def _welcome(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._listen, args=(Line(connection),), daemon=True).start()

    def _listen(self, line: Line) -> None:
        rank = self._who(line)
        if rank is None:
            line.close()
            return
        try:
            line.limit(SILENCE_SECONDS)
            while True:
                self._said.put(Said(rank, line.receive()))
        except TimeoutError:
            why = f"nothing was heard of it for {SILENCE_SECONDS:.0f} s"
        except (OSError, EOFError, ValueError, KeyError):
            why = ""
        line.close()
        self._said.put(Said(rank, Message("lost", {"why": why})))

    def _who(self, line: Line) -> int | None:
        """The rank at the other end, once it has shown the key and said hello; None for anybody else."""
        try:
            line.limit(HANDSHAKE_SECONDS)
            if not hmac.compare_digest(line.raw(KEY_BYTES), self.key.encode()):
                return None
            hello = line.receive()
            rank = hello.fields["rank"]
        except (OSError, EOFError, ValueError, KeyError):
            return None
        if type(rank) is not int or not 0 <= rank < self._n_ranks or rank in self._lines:
            return None
        self._lines[rank] = line
        self._said.put(Said(rank, hello))
        return rank
