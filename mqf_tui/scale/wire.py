"""Messages between ranks and the process that collects what they score: a word, some fields, some bytes.

A frame is two lengths (32 bits each, big-endian), a JSON object and raw bytes. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

HEAD = struct.Struct(">II")
LONGEST_HEADER, LONGEST_PAYLOAD = 64 * 2**20, 2**32 - 1
PING_SECONDS = 3.0


@dataclass(frozen=True)
class Message:
    """``word`` says what it is; ``fields`` are JSON values."""

    word: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: bytes = b""


class Line:
    """A connection that takes and gives whole messages; sending is safe from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, word: str, payload: bytes = b"", **fields: Any) -> None:
        """Send one message; raises OSError where nobody listens any more."""
        header = json.dumps({"word": word, **fields}).encode()
        with self._sending:
            self._socket.sendall(HEAD.pack(len(header), len(payload)) + header + payload)

    def receive(self) -> Message:
        """The next message, pings left out; raises OSError, ValueError or EOFError where there is none."""
        while True:
            header_size, payload_size = HEAD.unpack(self._exactly(HEAD.size))
            if header_size > LONGEST_HEADER:
                raise ValueError("no message of a rank")
            fields = json.loads(self._exactly(header_size))
            payload = self._exactly(payload_size)
            word = fields.pop("word")
            if word != "ping":
                return Message(word, fields, payload)

    def raw(self, size: int) -> bytes:
        """The next bytes as they are."""
        return self._exactly(size)

    def raw_out(self, content: bytes) -> None:
        """Send bytes as they are."""
        with self._sending:
            self._socket.sendall(content)

    def limit(self, seconds: float | None) -> None:
        """A wait of more than this for the other side is a TimeoutError (an OSError)."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """End the connection; whoever waits in ``receive`` is woken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            piece = self._socket.recv(min(size - len(parts), 2**20))
            if not piece:
                raise EOFError("the other side has gone")
            parts += piece
        return bytes(parts)
