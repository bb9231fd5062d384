"""How much memory there is: the machine's, a container's, or what the user allows (no mlx)."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

LIMIT_VARIABLE = "MQF_TUI_MEMORY_LIMIT"
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# Limit, what is used, and its statistics, of version 2 and of version 1.
FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
)
_Group = tuple[int, Path, Path]


def free_memory() -> int:
    """Bytes of main memory that can be had without swapping, and within the container's limit."""
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *(max(0, limit - used) for limit, used in container_limits())])


def all_memory() -> int:
    """Bytes of main memory that this process could ever have."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in container_limits())])


def resident_memory() -> int:
    """Bytes of main memory that this process takes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def user_limit() -> int | None:
    """Bytes that the user allows by ``MQF_TUI_MEMORY_LIMIT``, None without it; raises BadSettingError."""
    from mqf_tui.fidelity.budget import parse_bytes
    from mqf_tui.fidelity.errors import BadSettingError

    word = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not word:
        return None
    try:
        return parse_bytes(word)
    except BadSettingError as error:
        raise BadSettingError(f"the environment variable {LIMIT_VARIABLE}: {error}") from error


def container_limits(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[tuple[int, int]]:
    """Limit and use in bytes of every control group around this process that has a memory limit.

    Pages of files that the kernel can drop at any time are not counted as used. Empty where there are no
    control groups, or none with a limit. This process's own groups are looked for once.
    """
    groups = _own_groups() if (root, own) == (CGROUPS, OWN_CGROUPS) else _groups(root, own)
    found: list[tuple[int, int]] = []
    for limit, usage, stat in groups:
        used = _read(usage)
        if used.isdigit():
            found.append((limit, max(0, int(used) - _droppable(_read(stat)))))
    return found


@functools.cache
def _own_groups() -> tuple[_Group, ...]:
    return _groups(CGROUPS, OWN_CGROUPS)


def _groups(root: Path, own: Path) -> tuple[_Group, ...]:
    """Limit, and the files of use and statistics, of every group with a limit."""
    found: list[_Group] = []
    for folder in _folders(root, own):
        for names in FILES:
            limit, usage, stat = (folder / name for name in names)
            # Without a limit version 2 says "max", version 1 a number beyond any memory.
            if (word := _read(limit)).isdigit() and int(word) < 1 << 60:
                found.append((int(word), usage, stat))
    return tuple(found)


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """The control groups that this process is in, and those that they are in.

    Inside a container the paths may be the host's and not be there; the root is the container's then.
    """
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top = root
        elif "memory" in controllers.split(","):
            top = root / "memory"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for n in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:n])


def _droppable(stat: str) -> int:
    """Bytes of inactive file pages, the groups below included."""
    values = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    word = values.get("total_inactive_file", values.get("inactive_file", "0"))
    return int(word) if word.isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
