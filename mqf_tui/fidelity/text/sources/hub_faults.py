"""What goes wrong in fetching a data set -> one sentence each."""

from __future__ import annotations

import errno
import re

from mqf_tui.fidelity.errors import BadCorpusError, brief, chain
from mqf_tui.fidelity.text.sources.bytes_of import ALTERNATIVES

MOST_LISTED = 12
NOT_THERE = "there is no such data set on the hub, or it is private; check the name, or run `hf auth login`"
OFFLINE, NO_ANSWER = "offline mode", "no answer"  # what a ConnectionError of our own says
_LIST = re.compile(r"\[(.*)\]", re.DOTALL)


def hub_fault(error: BaseException, shown: str, repo: str) -> BadCorpusError:
    """The sentence for an exception of ``datasets`` or of what it stands on."""
    if isinstance(error, BadCorpusError):
        return error
    causes = list(chain(error))
    # The libraries say the same thing by several exceptions; what says most goes first.
    for told in (_of_disk, _of_absence, _of_access, _of_status, _of_what_is_there, _of_network, _of_bytes):
        for one in causes:
            words = told(one, repo)
            if words is not None:
                return BadCorpusError(f"{shown} cannot be read: {words}.")
    return BadCorpusError(
        f"{shown} could not be had from the Hugging Face hub ({type(error).__name__}: {brief(error)}); "
        f"{ALTERNATIVES}."
    )


def listed(names: list[str]) -> str:
    """Names for a message, the first ones."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _of_disk(error: BaseException, repo: str) -> str | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room where the Hugging Face cache lies, or set HF_HOME to another disk"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the Hugging Face cache cannot be written; check its permissions, or set HF_HOME elsewhere"
    return None


def _of_absence(error: BaseException, repo: str) -> str | None:
    if type(error).__name__ == "OfflineModeIsEnabled" or str(error) == OFFLINE:
        return f"it is not on this machine, and offline mode is on; unset HF_HUB_OFFLINE, or {ALTERNATIVES}"
    if str(error) == NO_ANSWER:
        return f"it is not on this machine, and the hub cannot be reached; without a network, {ALTERNATIVES}"
    return None


def _of_access(error: BaseException, repo: str) -> str | None:
    text = str(error)
    page = f"https://huggingface.co/datasets/{repo}"
    if type(error).__name__ == "GatedRepoError" or "is a gated dataset" in text:
        if _status(error) == 401 or "must be authenticated" in text:
            return f"it is gated and nobody is logged in; accept its terms at {page} and run `hf auth login`"
        return f"it is gated and this account has no access; accept its terms at {page}"
    if type(error).__name__ == "RepositoryNotFoundError" or (
        type(error).__name__ == "DatasetNotFoundError" and "doesn't exist on the Hub" in text
    ):
        return NOT_THERE
    return None


def _of_status(error: BaseException, repo: str) -> str | None:
    status = _status(error)
    if status == 401:
        wrong = "Invalid credentials" in str(getattr(error, "server_message", "") or error)
        return "the hub does not take this machine's token; run `hf auth login`" if wrong else NOT_THERE
    if status == 403:
        return f"the hub refused access (403); look at https://huggingface.co/datasets/{repo}"
    if status == 429:
        return "the hub wants fewer requests (429); wait some minutes and try again"
    if status is not None and status >= 500:
        return f"the hub has trouble ({status}); try again later"
    return None


def _of_network(error: BaseException, repo: str) -> str | None:
    name = type(error).__name__
    module = type(error).__module__.partition(".")[0]
    if isinstance(error, ConnectionError | TimeoutError) or (
        module in ("httpx", "httpcore", "requests", "urllib3", "aiohttp") and _status(error) is None
    ):
        return f"the hub cannot be reached ({name}); check the network, or {ALTERNATIVES}"
    return None


def _of_what_is_there(error: BaseException, repo: str) -> str | None:
    text, name = str(error), type(error).__name__
    if "scripts are no longer supported" in text:
        return "it is made by a script, which is never run; choose a data set of parquet or JSON files"
    if "Config name is missing" in text:
        return f"it has several configurations, so name one as hf:{repo}:CONFIG, of {_names_in(text)}"
    if re.search(r"BuilderConfig '.*' not found", text):
        return f"it has no such configuration; there is {_names_in(text)}"
    if name in ("EmptyDatasetError", "DataFilesNotFoundError"):
        return "it has no files of rows (parquet, JSON, CSV, text); choose another data set"
    return None


def _of_bytes(error: BaseException, repo: str) -> str | None:
    if type(error).__name__ in ("ArrowInvalid", "JSONDecodeError", "BadGzipFile", "UnicodeDecodeError"):
        return f"one of its files is damaged or of another kind ({brief(error)}); tell its owner"
    return None


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _names_in(text: str) -> str:
    found = _LIST.search(text)
    return listed(re.findall(r"'([^']*)'", found[1])) if found else "none"
