"""What a running sweep has scored so far, chunk by chunk, so that a sweep that broke off can be resumed.

One folder per sweep: sweep.json (the command's arguments, and what the chunks belong to) and a file for each
whole chunk with the positions of every variant that was still in.
"""

from __future__ import annotations

import fcntl
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TextIO

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced, subfolders
from mqf_tui.library.runs import data_dir

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

META_FILE = "sweep.json"
LOCK_FILE = "lock"
_HELD: dict[Path, TextIO] = {}


def new_sweep_id() -> str:
    """A name for a sweep that sorts by time: ``20261125-071530-3f2a``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"


@dataclass(frozen=True)
class Spool:
    """A sweep on its way. ``arguments``: of the command that began it."""

    folder: Path
    arguments: tuple[str, ...]

    @property
    def sweep_id(self) -> str:
        """The sweep's name."""
        return self.folder.name

    @classmethod
    def create(cls, sweep_id: str, arguments: Sequence[str], root: Path | None = None) -> Spool:
        """Begin a spool; raises SaveError where it cannot be written."""
        spool = cls(_home(root) / sweep_id, tuple(arguments))
        spool._write({"arguments": list(arguments)}, make=True)
        return spool

    @classmethod
    def open(cls, word: str, root: Path | None = None) -> Spool:
        """The spool whose id begins with ``word``, or the newest for ``last``; raises SaveError."""
        names = [folder.name for folder in subfolders(_home(root))]
        found = names[-1:] if word == "last" else [name for name in names if name.startswith(word)]
        if len(found) != 1:
            if not names:
                raise SaveError("no sweep broke off, so there is none to go on with; `mqf-tui sweeps list`.")
            what = "more than one unfinished sweep begins" if found else "no unfinished sweep begins"
            raise SaveError(f"{what} with {word!r}; there is {', '.join(names[-3:])}.")
        folder = _home(root) / found[0]
        meta = _meta(folder)
        return cls(folder, tuple(str(a) for a in meta["arguments"]))

    def hold(self) -> None:
        """Keep other processes from going on with it as long as this one lives; raises SaveError where one
        does."""
        if self.folder in _HELD:
            return
        try:
            file = (self.folder / LOCK_FILE).open("w")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SaveError(
                f"sweep {self.sweep_id} is still running in another process; wait for it, or stop that one."
            ) from error
        except OSError:  # some file systems know no locks
            return
        _HELD[self.folder] = file

    def belongs(self, identity: Mapping[str, str]) -> None:
        """Note what the chunks are of (model, tokens, variants); raises SaveError where that has changed."""
        meta = _meta(self.folder)
        before = meta.get("identity")
        if before is None:
            self._write({**meta, "identity": dict(identity)})
        elif before != dict(identity):
            changed = sorted(k for k in {*before, *identity} if before.get(k) != identity.get(k))
            raise SaveError(
                f"sweep {self.sweep_id} cannot go on, because its {' and '.join(changed)} changed since; "
                "start it anew."
            )

    def add(self, chunk: int, positions: Mapping[int, Positions]) -> None:
        """Keep a whole chunk, by variant; raises SaveError."""
        import numpy as np

        from mqf_tui.fidelity.positions import ARRAYS

        arrays = {f"{i}.{name}": getattr(p, name) for i, p in positions.items() for name in ARRAYS}
        names = next(iter(positions.values())).part_names if positions else ()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays, part_names=np.array(names, dtype=np.str_))
        try:
            replace_synced(self.folder / f"{chunk:07d}.npz", buffer.getvalue())
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def known(self, n_variants: int) -> dict[int, list[Positions]]:
        """The chunks kept so far, for each of them one Positions a variant; damaged ones are left out."""
        found: dict[int, list[Positions]] = {}
        for path in sorted(self.folder.glob("*.npz")):
            if path.stem.isdigit() and (positions := _read(path, n_variants)) is not None:
                found[int(path.stem)] = positions
        return found

    def skip(self, variant: int) -> None:
        """Note that the user wants no more of a variant; raises SaveError."""
        self._write({**_meta(self.folder), "skipped": sorted(self.skipped() | {variant})})

    def skipped(self) -> set[int]:
        """The variants to go on without; raises SaveError."""
        noted = _meta(self.folder).get("skipped", [])
        return {i for i in noted if type(i) is int} if isinstance(noted, list) else set()

    def remove(self) -> None:
        """The sweep is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let others go on with it, though this process lives on."""
        if file := _HELD.pop(self.folder, None):
            file.close()

    def _write(self, meta: Mapping[str, object], *, make: bool = False) -> None:
        try:
            if make:
                self.folder.mkdir(parents=True)
            replace_synced(self.folder / META_FILE, (json.dumps(meta, indent=2) + "\n").encode())
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def _home(root: Path | None) -> Path:
    return (root or data_dir()) / "spool"


def _meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / META_FILE).read_bytes())
        if not isinstance(meta, dict) or not isinstance(meta.get("arguments"), list):
            raise ValueError
    except (OSError, ValueError) as error:
        raise SaveError(
            f"what is kept of sweep {folder.name} cannot be read; start it anew and delete {folder}."
        ) from error
    return meta


def _read(path: Path, n_variants: int) -> list[Positions] | None:
    import numpy as np

    from mqf_tui.fidelity.positions import ARRAYS, Positions

    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = tuple(str(name) for name in stored["part_names"])
            return [
                Positions.of({name: stored[f"{i}.{name}"] for name in ARRAYS}, parts)
                if f"{i}.kl" in stored
                else Positions.empty(parts)
                for i in range(n_variants)
            ]
    except Exception:  # zipfile, zlib and NumPy each raise kinds of their own; it is scored again
        return None


def _unwritable(folder: Path, error: OSError) -> SaveError:
    return SaveError(
        f"the sweep cannot be kept in {folder} ({error.strerror or error}); make room there or set "
        "MQF_TUI_DATA_DIR to another folder."
    )
