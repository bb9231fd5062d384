"""The mlx.launch line of a sweep, and the process that runs it.

Two things that were found by measuring mlx 0.32.4's launcher:
- It polls the standard input of each rank and turns round without a rest while a rank would take some: 1.2
  cores for nothing. Once those pipes are full it sleeps, so blank lines are written that nobody reads.
- It ends with exit code 0 whatever its ranks do. How a rank died stands only on its standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from shutil import which
from typing import IO

from mqf_tui.scale.errors import HostError
from mqf_tui.scale.hosts import Fleet

KEY = "MQF_TUI_RANK_KEY"  # the environment variable with which a rank shows that it belongs here
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
PIPES_FULL = 200_000  # bytes; a pipe holds 65,536
ENDED = re.compile(r"Node with rank (\d+) (was killed|exited with code (-?\d+))")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TAIL = 40  # lines of what the ranks said that are kept
PORTS = (20_000, 32_000)  # below those that Linux and macOS give to connections


def launch_line(fleet: Fleet, address: str, key: str, folder: Path) -> list[str]:
    """The command that starts the ranks, each of which connects to ``address``; may write a hostfile.

    Raises HostError where something for it is not installed.
    """
    words = [_launcher(), "--backend", fleet.backend]
    if fleet.backend == "mpi" and which("mpirun") is None:
        raise HostError(
            "there is no mpirun on this machine, which the mpi backend needs; install Open MPI 5, or use "
            "--backend ring."
        )
    if fleet.hostfile is not None:
        words += ["--hostfile", str(fleet.hostfile.absolute())]
    elif fleet.is_local and fleet.backend != "mpi":
        words += ["-n", str(len(fleet))]
    else:
        words += ["--hostfile", str(_hostfile(fleet, folder))]
    if fleet.backend != "mpi":
        port = fleet.starting_port or (free_ports(len(fleet)) if fleet.is_local else None)
        words += ["--starting-port", str(port)] if port is not None else []
    for name, value in {KEY: key, **_threads(fleet)}.items():
        words += ["--env", f"{name}={value}"]
    return [*words, "--", fleet.python or sys.executable, "-m", "mqf_tui.scale.rank", address]


def printed(line: list[str], key: str) -> str:
    """The line as it is shown: without the key."""
    return shlex.join(word.replace(key, "…") for word in line)


class Launcher:
    """mlx.launch while it runs, in a process group of its own: Ctrl+C is for us alone."""

    def __init__(self, line: list[str], *, is_local: bool) -> None:
        """Start it; raises HostError where it cannot be started."""
        try:
            self._process = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"{line[0]} cannot be started ({error.strerror}); reinstall mlx.") from error
        self._lines: list[str] = []
        self._deaths: dict[int, str] = {}
        assert self._process.stderr is not None
        assert self._process.stdin is not None
        threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True).start()
        if is_local:
            threading.Thread(target=_fill, args=(self._process.stdin,), daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it is there no more, and with it all ranks that it looked after."""
        return self._process.poll() is not None

    def death(self, rank: int) -> str | None:
        """How a rank died, in words, as far as the launcher has told."""
        return self._deaths.get(rank)

    @property
    def first_death(self) -> tuple[int, str] | None:
        """The rank that died of itself, and how; the launcher ends the others."""
        return next(((rank, why) for rank, why in self._deaths.items() if "SIGTERM" not in why), None)

    def last_words(self) -> str | None:
        """The last that any rank said of itself."""
        return next((line for line in reversed(self._lines) if not ENDED.search(line)), None)

    def wait(self, seconds: float) -> bool:
        """Whether it ends of itself in this time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, seconds: float) -> None:
        """End it, and the ranks on this machine with it, when it has had this time to end of itself."""
        if not self.wait(seconds):
            self._signal(signal.SIGTERM)
            self.wait(1.0)
        # Ranks may outlive it; the group has no others.
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for raw in pipe:
                line = COLOURS.sub("", raw.decode(errors="replace")).strip()
                if found := ENDED.search(line):
                    self._deaths[int(found[1])] = _cause(found[3])
                if line:
                    self._lines = [*self._lines[1 - TAIL :], line]


def _fill(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(b"\n" * PIPES_FULL)
        pipe.flush()


def _cause(code: str | None) -> str:
    if code is None:
        return "ended by the launcher"
    if not code.startswith("-"):
        return f"exit code {code}"
    try:
        name = signal.Signals(-int(code)).name
    except ValueError:
        name = f"signal {code[1:]}"
    return f"killed by {name}"


def _launcher() -> str:
    beside = Path(sys.executable).with_name("mlx.launch")
    found = str(beside) if beside.exists() else which("mlx.launch")
    if found is None:
        raise HostError(
            "mlx.launch was not found, which starts the ranks; it comes with mlx, so reinstall that."
        )
    return found


def _hostfile(fleet: Fleet, folder: Path) -> Path:
    entries = [{"ssh": host.ssh, "ips": [host.ip]} for host in fleet.hosts]
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=folder, delete=False) as file:
        json.dump(entries, file)
    return Path(file.name)


def _threads(fleet: Fleet) -> dict[str, str]:
    """Ranks on one machine share its processors; without a word each would take all of them."""
    if not fleet.is_local or not sys.platform.startswith("linux"):
        return {}
    share = str(max(1, _cores() // len(fleet)))
    return {name: os.environ.get(name, share) for name in THREADS}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_ports(n: int) -> int:
    """The first of ``n`` ports in a row on which nobody listens; raises HostError."""
    for _ in range(100):
        first = random.randrange(*PORTS)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + n):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise HostError(f"no {n} free ports in a row were found on this machine; end other programs.")
