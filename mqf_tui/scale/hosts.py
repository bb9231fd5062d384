"""Which ranks there are, and on which machines they run."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from typing import Any, Literal, get_args

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.scale.errors import HostError

Backend = Literal["ring", "mpi", "jaccl", "jaccl-ring"]
Split = Literal["chunks", "tensor", "pipeline"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
SPLITS: tuple[Split, ...] = get_args(Split)
LOCAL = "127.0.0.1"  # the name with which mlx.launch starts a process without ssh
MOST = 256
LOGIN_SECONDS = 10


@dataclass(frozen=True)
class Host:
    """Where one rank runs. ``name`` is for people, ``ssh`` for mlx.launch, ``ip`` for the other ranks."""

    name: str
    ssh: str
    ip: str

    @property
    def is_here(self) -> bool:
        """Whether it is started on this machine."""
        return self.ssh == LOCAL


@dataclass(frozen=True)
class Fleet:
    """All ranks of a sweep: one host each, in order of rank.

    ``split``: "chunks" deals the chunks out, and each rank holds the whole model; with "tensor" and
    "pipeline" all ranks hold a share of the model and work on the same chunk. ``hostfile``: one in
    mlx.launch's form, handed through. ``python``: the interpreter on the hosts; None: the path of this one.
    """

    hosts: tuple[Host, ...]
    backend: Backend = "ring"
    split: Split = "chunks"
    hostfile: Path | None = None
    python: str | None = None
    starting_port: int | None = None

    def __len__(self) -> int:
        return len(self.hosts)

    @property
    def is_local(self) -> bool:
        """Whether all ranks run on this machine."""
        return all(host.is_here for host in self.hosts)

    def name(self, rank: int) -> str:
        """``rank 1``, and where it runs unless all run here."""
        return f"rank {rank}" if self.is_local else f"rank {rank} on {self.hosts[rank].name}"


def fleet_of(
    hosts: str | None = None,
    ranks: int | None = None,
    *,
    backend: str = "ring",
    split: str = "chunks",
    hostfile: str | None = None,
    python: str | None = None,
    starting_port: int | None = None,
) -> Fleet:
    """The ranks that the options ask for: ``ranks`` on each of ``hosts`` (names or addresses, with commas).

    Without hosts the ranks run on this machine. Raises BadSettingError, and HostError where a host has no
    address.
    """
    if backend not in BACKENDS:
        raise BadSettingError(f"backend {backend!r} does not exist; choose one of {', '.join(BACKENDS)}.")
    if split not in SPLITS:
        raise BadSettingError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}.")
    if ranks is not None and not 1 <= ranks <= MOST:
        raise BadSettingError(f"{ranks} ranks cannot be; use 1 to {MOST} on a machine.")
    if hostfile is not None:
        if hosts is not None or ranks is not None:
            raise BadSettingError("a hostfile names all ranks; leave out --hosts and --ranks beside it.")
        found = _from_file(Path(hostfile))
    else:
        found = _from_names(hosts.split(",") if hosts is not None else [LOCAL], ranks or 1)
    if len(found) > MOST:
        raise BadSettingError(f"{len(found)} ranks cannot be; use {MOST} at most.")
    return Fleet(
        found,
        backend=backend,
        split=split,
        hostfile=Path(hostfile) if hostfile is not None else None,
        python=python,
        starting_port=starting_port,
    )


def check_logins(fleet: Fleet) -> None:
    """Raise HostError where a host does not let us in without a password, as mlx.launch needs it."""
    names = list(dict.fromkeys(host.ssh for host in fleet.hosts if not host.is_here))
    if not names:
        return
    if which("ssh") is None:
        raise HostError(
            f"there is no ssh on this machine, with which mlx.launch starts ranks on {names[0]}; install it, "
            "or use --ranks for processes on this machine."
        )
    with ThreadPoolExecutor(len(names)) as pool:
        for name, why in zip(names, pool.map(_refused, names), strict=True):
            if why:
                raise HostError(
                    f"{name} lets no rank be started ({why}); `ssh {name} true` must work without a password."
                )


def own_address(fleet: Fleet) -> str:
    """The address of this machine at which the ranks reach it."""
    other = next((host.ip for host in fleet.hosts if not host.is_here), None)
    if other is None:
        return LOCAL
    try:
        with socket.socket(_family(other), socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError as error:
        raise HostError(f"there is no way to {other} ({error.strerror}); check the network.") from error


def _from_names(names: Sequence[str], each: int) -> tuple[Host, ...]:
    hosts = [_host(name.strip()) for name in names]
    if not all(host.is_here for host in hosts):
        # The others cannot reach this machine by its loopback address.
        here = own_address(Fleet(tuple(hosts)))
        hosts = [replace(host, ip=here) if host.is_here else host for host in hosts]
    return tuple(host for host in hosts for _ in range(each))


def _host(name: str) -> Host:
    if not name or name.startswith("-"):
        raise BadSettingError(f"{name!r} is no host; name hosts with commas between them, such as mac1,mac2.")
    try:
        ip = _address(name.rpartition("@")[2])
    except OSError as error:
        raise HostError(
            f"host {name} has no address ({error.strerror or error}); check its name, or give its address."
        ) from error
    return Host(name, LOCAL if "@" not in name and _is_ours(ip) else name, ip)


def _address(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        return str(found[0][4][0])


def _is_ours(ip: str) -> bool:
    try:
        with socket.socket(_family(ip), socket.SOCK_STREAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _from_file(path: Path) -> tuple[Host, ...]:
    """The ranks of a hostfile in mlx.launch's form: a list of {"ssh", "ips"}, or one under "hosts"."""
    try:
        content: Any = json.loads(path.read_bytes())
        entries = content["hosts"] if isinstance(content, dict) else content
        hosts = [(str(entry["ssh"]), [str(ip) for ip in entry.get("ips", [])]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or "it is not in mlx.launch's form"
        raise HostError(
            f'the hostfile {path} cannot be used ({why}); it is a list such as [{{"ssh": "mac1", "ips": '
            '["10.0.0.1"]}].'
        ) from error
    if not hosts:
        raise HostError(f"the hostfile {path} names no host; add one.")
    return tuple(Host(ssh, ssh, ips[0] if ips else _host(ssh).ip) for ssh, ips in hosts)


def _refused(name: str) -> str | None:
    """Why a login fails; None where it does not."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={LOGIN_SECONDS}", "--", name, "true"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * LOGIN_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {2 * LOGIN_SECONDS} s"
    except OSError as error:
        return error.strerror or str(error)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else None
