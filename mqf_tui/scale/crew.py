"""The ranks of one sweep, from the process that started it: launched, agreed, dealt chunks, and ended.

A rank that dies takes nothing with it: all whole chunks are here already, and the one that it had is dealt
anew. MLX's collectives are used to agree at the start, when all ranks are surely there; afterwards only where
the model is split, because a rank that waits in a collective for one that has died may wait forever.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mqf_tui.fidelity import errors
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, MeasurementError, OutOfMemoryError
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.text import counted
from mqf_tui.scale.dealing import Dealer
from mqf_tui.scale.desk import Desk
from mqf_tui.scale.errors import HostError, RankError
from mqf_tui.scale.hosts import Fleet, check_logins, own_address
from mqf_tui.scale.launching import Launcher, launch_line, printed
from mqf_tui.scale.messages import plan_from_json, software, unpacked
from mqf_tui.scale.wire import Message

START_SECONDS = 120.0  # for a host to log in and import
LOOK_SECONDS = 0.1
END_SECONDS, LOCAL_END_SECONDS = 3.0, 0.2  # in which ranks that were told to end do so
DEATH_SECONDS = 2.0  # in which mlx.launch tells how a rank died
PEER_LOST = "connection to a peer was lost"  # words of MLX's ring
STAGES = ("hello", "facts", "joined", "ready")
Notice = Callable[[str], None]
Keep = Callable[[int, Mapping[int, Positions]], None]


@dataclass(frozen=True)
class Job:
    """What all ranks are to do. ``payload``: the text as arrays; ``fields`` the rest, as JSON values."""

    fields: Mapping[str, Any]
    payload: bytes

    def digest(self) -> str:
        """The same for all ranks that do the same."""
        hashed = hashlib.sha256(repr(sorted(self.fields.items())).encode())
        hashed.update(self.payload)
        return hashed.hexdigest()


class Crew:
    """All ranks. Use it as a context: leaving it ends them.

    ``notice`` is told what people should know at once, ``keep`` gets each whole chunk as it comes in.
    """

    def __init__(self, fleet: Fleet, control: Control, notice: Notice, keep: Keep) -> None:
        self.fleet, self._control = fleet, control
        self._notice, self._keep = notice, keep
        self.plans: tuple[Plan, ...] = ()
        self.devices: tuple[str, ...] = ()
        self.peak_bytes = 0
        self.deaths: list[str] = []
        self.dealer = Dealer(())
        self._variants: list[int] = []
        self._part_names: tuple[str, ...] = ()
        self._alive = set(range(len(fleet)))
        self._stage: dict[int, int] = {}
        self._told: dict[int, dict[str, Message]] = {}
        self._shares: dict[int, float] = {}
        self._scored: dict[int, list[Message]] = {}  # by rank, of the chunk that all are at
        self._paused = self._all_stopped = False
        self._desk: Desk | None = None
        self._launcher: Launcher | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Crew:
        """Start all ranks; raises HostError."""
        check_logins(self.fleet)
        self._folder = tempfile.TemporaryDirectory(prefix="mqf-tui-")
        try:
            self._desk = Desk(own_address(self.fleet), len(self.fleet))
            line = launch_line(self.fleet, self._desk.address, self._desk.key, Path(self._folder.name))
            self._notice(printed(line, self._desk.key))
            self._launcher = Launcher(line, is_local=self.fleet.is_local)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rank in self._alive:
            self._tell(rank, "end")
        self._close()

    @property
    def n_alive(self) -> int:
        """Ranks that still work."""
        return len(self._alive)

    def agree(self, job: Job, part_names: tuple[str, ...]) -> Iterator[float | None]:
        """Let all ranks load what they need; yields the least share that is loaded, now and then.

        Ends early where a stop is asked for. Raises HostError where a rank has something else than the
        others, RankError where one died, and whatever a rank raised.
        """
        self._part_names = part_names
        yield from self._until("hello", START_SECONDS)
        self._check_same_software()
        beside = Counter(host.ssh for host in self.fleet.hosts)
        for rank, host in enumerate(self.fleet.hosts):
            self._tell(
                rank, "job", job.payload, **job.fields, beside=beside[host.ssh], digest=self._digest(job)
            )
        yield from self._until("facts")
        self._check_same_model()
        for rank in self._alive:
            self._tell(rank, "join")
        yield from self._until("joined")
        if self._control.stopped:
            return
        odd = [rank for rank in self._alive if not self._told[rank]["joined"].fields["same"]]
        if odd:
            raise HostError(
                f"MLX's {self.fleet.backend} connects {self.fleet.name(odd[0])} with ranks of another sweep; "
                "wait until that is done, or choose other ports with --starting-port."
            )
        yield from self._until("ready")
        if not self._control.stopped:
            first = self._told[0]["ready"].fields
            self.plans = tuple(plan_from_json(plan) for plan in first["plans"])
            ready = (self._told[rank]["ready"].fields["plans"][0] for rank in sorted(self._alive))
            self.devices = tuple(plan_from_json(plan).device for plan in ready)

    def steps(self, chunk: int, variants: Sequence[int]) -> Iterator[tuple[int, int, Positions]]:
        """Variant, step and positions of one chunk as its rank scores them; deals out others meanwhile.

        Ends when the chunk is whole, or a stop is asked for. ``variants``: those that are still in.
        Where ranks differ in kind the steps come when their chunk is whole: the one that has it may die, and
        another's are the same up to rounding only.

        Raises RankError where no rank is left, and what a rank raised.
        """
        self._variants = list(variants)
        seen: set[tuple[int, int]] = set()
        while not self._control.stopped:
            self._pass_on_pause()
            self._deal()
            result = self.dealer.results.get(chunk)
            if result is not None and (result.whole or self._alike):
                fresh = [key for key in result.steps if key not in seen]
                seen.update(fresh)
                for variant, step in fresh:
                    yield variant, step, result.steps[variant, step]
                if result.whole:
                    return
            self._hear()
        if not self._all_stopped and self.fleet.split == "chunks":
            self._all_stopped = True
            for rank in self._alive:
                self._tell(rank, "stop")

    @property
    def _alike(self) -> bool:
        """Whether all ranks that may get a chunk anew find the same numbers, bit for bit."""
        return self.fleet.split != "chunks" or len(set(self.devices)) <= 1

    def _until(self, word: str, seconds: float | None = None) -> Iterator[float | None]:
        """Listen until all ranks have said ``word``."""
        goal, began = STAGES.index(word), time.monotonic()
        while min((self._stage.get(rank, -1) for rank in self._alive), default=-1) < goal:
            if self._control.stopped:
                return
            self._hear(starting=True)
            late = [rank for rank in self._alive if rank not in self._stage]
            if seconds is not None and late and time.monotonic() - began > seconds:
                raise HostError(
                    f"{self.fleet.name(late[0])} has not reported within {seconds:.0f} s{self._last_words()}"
                    "; see whether its connections to this machine are let through."
                )
            yield min(self._shares.get(rank, 0.0) for rank in self._alive) if self._shares else None

    def _hear(self, *, starting: bool = False) -> None:
        """Take in what one rank says next."""
        assert self._desk is not None
        assert self._launcher is not None
        said = self._desk.hear(LOOK_SECONDS)
        if said is None:
            if starting and self._launcher.ended and not self._stage:
                raise HostError(f"the ranks could not be started{self._last_words()}.")
            return
        rank, message = said.rank, said.message
        if rank not in self._alive:
            return
        match message.word:
            case "lost":
                self._lost(rank, message.fields["why"], starting)
            case "failed":
                self._failed(rank, message.fields, starting)
            case "loading":
                self._shares[rank] = float(message.fields["share"])
            case "step":
                fields = message.fields
                positions = unpacked(message.payload, self._part_names)
                where = fields["chunk"], fields["variant"], fields["step"]
                self.dealer.step(self._dealt_to(rank), *where, positions)
            case "scored":
                self._take(rank, message)
            case word if word in STAGES:
                self._stage[rank] = STAGES.index(word)
                self._told.setdefault(rank, {})[word] = message
            case _:
                pass

    def _deal(self) -> None:
        if self._paused:
            return
        split = self.fleet.split != "chunks"
        for rank in [0] if split else sorted(self._alive):
            chunk = self.dealer.deal(rank)
            if chunk is not None:
                for each in sorted(self._alive) if split else (rank,):
                    self._tell(each, "score", chunk=chunk, variants=self._variants)

    def _dealt_to(self, rank: int) -> int:
        """In whose name a chunk is dealt: where the model is split, all work on that of rank 0."""
        return rank if self.fleet.split == "chunks" else 0

    def _take(self, rank: int, message: Message) -> None:
        """A rank has finished a chunk; where the model is split it counts when all have."""
        held = self._scored.setdefault(self._dealt_to(rank), [])
        held.append(message)
        self.peak_bytes = max(self.peak_bytes, int(message.fields["peak"]))
        if self.fleet.split != "chunks" and len(held) < len(self._alive):
            return
        del self._scored[self._dealt_to(rank)]
        chunk, seconds, sizes = message.fields["chunk"], dict[int, float](), dict[int, tuple[float, float]]()
        for word, (took, _) in message.fields["variants"].items():
            measured = [one.fields["variants"][word][1] for one in held]
            seconds[int(word)] = took
            if all(measured):
                sizes[int(word)] = sum(m[0] for m in measured), sum(m[1] for m in measured)
        references = message.fields["references"]
        lists = next((one.payload for one in held if one.payload), b"")
        result = self.dealer.scored(self._dealt_to(rank), chunk, seconds, sizes, references, lists)
        if result is not None:
            self._keep(chunk, {i: Positions.concatenate(result.of(i)) for i in seconds})

    def _lost(self, rank: int, why: str, starting: bool) -> None:
        """A rank has gone: say so, and give its chunk to another."""
        assert self._launcher is not None
        began = time.monotonic()
        while not why and time.monotonic() - began < DEATH_SECONDS:
            why = self._launcher.death(rank) or ""
            if not why and self._launcher.wait(0.05):
                break
        if why == "exit code 255" and not self.fleet.hosts[rank].is_here:  # ssh says no more
            why = "killed, or its connection ended"
        first = self._launcher.first_death
        if starting and first is not None:  # which made the launcher end the others
            rank, why = first
        what = f"{self.fleet.name(rank)} died ({why or 'its connection ended'})"
        self._gone(rank, what, starting)

    def _failed(self, rank: int, fields: Mapping[str, Any], starting: bool) -> None:
        kind, words = str(fields["kind"]), str(fields["words"])
        name = self.fleet.name(rank)
        if PEER_LOST in words:
            self._lost_beside(rank, starting)
        others = len(self._alive) > 1 and self.fleet.split == "chunks"
        if kind == OutOfMemoryError.__name__ and others and not starting:
            self._gone(rank, f"{name} has run out of memory", starting)
            return
        found = {"HostError": HostError}.get(kind) or getattr(errors, kind, MeasurementError)
        good = isinstance(found, type) and issubclass(found, FidelityError)
        raise (found if good else MeasurementError)(f"{name}: {words}")

    def _lost_beside(self, rank: int, starting: bool) -> None:
        """A rank misses another one: that one is what there is to tell of, if it is reported now."""
        assert self._desk is not None
        until = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < until:
            said = self._desk.hear(LOOK_SECONDS)
            if said is not None and said.message.word == "lost" and said.rank in self._alive - {rank}:
                self._lost(said.rank, said.message.fields["why"], starting)

    def _gone(self, rank: int, what: str, starting: bool) -> None:
        assert self._desk is not None
        self._desk.drop(rank)
        self._alive.discard(rank)
        finished = self.dealer.finished.get(rank, 0)
        if starting:
            raise RankError(f"{what} before the sweep began{self._last_words()}.")
        self.dealer.lost(self._dealt_to(rank))
        if self.fleet.split != "chunks":
            raise RankError(f"{what}, and with it a share of the model; what was scored before is kept.")
        said = f"{what} after {counted(finished, 'chunk')}"
        if not self._alive:
            raise RankError(f"{said}, and no rank is left; what was scored before is kept.")
        self.deaths.append(f"{said}; the others took its chunks over")
        self._notice(f"{said}; the others take its chunks over.")

    def _check_same_software(self) -> None:
        if self._control.stopped:
            return
        ours = software()
        for rank in sorted(self._alive):
            theirs: dict[str, str] = self._told[rank]["hello"].fields["versions"]
            for name, version in ours.items():
                if theirs.get(name) != version:
                    package = name.replace("_", "-")
                    raise HostError(
                        f"{self.fleet.name(rank)} has {package} {theirs.get(name) or '(none)'} and this "
                        f"process {version}; install the same version on all."
                    )

    def _check_same_model(self) -> None:
        """The hosts must have the same model; which of two is the wrong one is for the user to say."""
        if self._control.stopped:
            return
        told = {rank: said["facts"].fields for rank, said in sorted(self._told.items())}
        usual = Counter(str(fields["content"]) for fields in told.values()).most_common(1)
        for rank, fields in told.items():
            if fields["content"] != usual[0][0]:
                other = next(fields for fields in told.values() if fields["content"] == usual[0][0])
                what = "another config.json" if fields["config"] != other["config"] else "other weights"
                raise HostError(
                    f"{self.fleet.name(rank)} has {what} for this model than the others; copy the same model "
                    "folder to all hosts."
                )

    def _pass_on_pause(self) -> None:
        if self._control.paused != self._paused:
            self._paused = self._control.paused
            for rank in self._alive if self.fleet.split == "chunks" else ():
                self._tell(rank, "pause" if self._paused else "resume")

    def _digest(self, job: Job) -> str:
        assert self._desk is not None
        return hashlib.sha256(f"{self._desk.key} {job.digest()}".encode()).hexdigest()

    def _tell(self, rank: int, word: str, payload: bytes = b"", **fields: Any) -> None:
        if self._desk is not None:
            self._desk.tell(rank, word, payload, **fields)

    def _last_words(self) -> str:
        words = self._launcher.last_words() if self._launcher is not None else None
        return f" (the last that was said: {words[:200]})" if words else ""

    def _close(self) -> None:
        if self._desk is not None:
            self._desk.close()
        if self._launcher is not None:
            self._launcher.end(LOCAL_END_SECONDS if self.fleet.is_local else END_SECONDS)
        if self._folder is not None:
            self._folder.cleanup()
