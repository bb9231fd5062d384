"""The errors a user can act on. Every message says what, why and what would work."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.reports.text import inert

INTERRUPTED = 130  # the exit code of what was stopped on request


class FidelityError(Exception):
    """Base of all errors that this package raises on purpose; ``str(error)`` is for the user."""

    exit_code = 2

    def __str__(self) -> str:
        # Messages quote names out of files from anywhere; none may drive a terminal.
        return inert(super().__str__())


class BadSettingError(FidelityError):
    """A setting outside what exists: wrong bits, group, chunk length, …"""


class ModelNotFoundError(FidelityError):
    """No such model folder, or nothing in it that looks like a model."""


class UnsupportedModelError(FidelityError):
    """The model, or this setting on this model, cannot be measured."""


class UntrustedCodeError(FidelityError):
    """The model folder carries its own Python code and the user has not trusted it.

    ``files`` names all of it, what is run first before what that may import.
    """

    def __init__(self, message: str, files: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.files = files


class BrokenWeightsError(FidelityError):
    """Weights missing, truncated, or of another format."""


class BadCorpusError(FidelityError):
    """Text that is missing, unreadable, empty or too short."""


class SaveError(FidelityError):
    """A report or run could not be written or read."""


class MeasurementError(FidelityError):
    """The measurement ran and its result cannot be stood on."""

    exit_code = 1


class ZeroDriftError(MeasurementError):
    """Exactly zero KL and zero flips over a whole run: quantization never engaged."""


class NotANumberError(MeasurementError):
    """NaN in the logits."""


class HubError(FidelityError):
    """The hub could not be asked, refused, or sent what cannot be used."""


class CancelledError(FidelityError):
    """Given up because the user asked for it."""

    exit_code = INTERRUPTED


class OutOfMemoryError(FidelityError):
    """Memory ran out, or surely would."""

    exit_code = 3


def brief(error: BaseException) -> str:
    """What another library says went wrong, on one line and not too long."""
    return " ".join(str(error).split())[:200]


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it came from, each once, also where a library says ``from None``."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
