"""What can go wrong between here and the hub, each with its sentence, and which of it may pass by itself.

``huggingface_hub`` stands on httpx in its version 1 and on httpx2 in version 2, so errors are known by the
names of their classes, which both share, and by what the operating system said underneath.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mqf_tui.fidelity.errors import FidelityError, HubError, chain
from mqf_tui.library.hub.names import RepoName
from mqf_tui.reports.text import duration

LOGIN = "`hf auth login`"
LATER = "try again later"
PASSING = {
    *("ReadTimeout", "WriteTimeout", "PoolTimeout"),
    *("ReadError", "WriteError", "RemoteProtocolError", "CutError"),
}
UNREACHED = {"ConnectError", "ConnectTimeout"}
REFUSED = {401, 403, 404, 410}
UNTRIED = re.compile(r"\br=0\b.*?\bt=(\d+)")  # of the header RateLimit: nothing remains, for so many seconds
SECRET = re.compile(r"\bhf_\w+|\bBearer \S+")
LONGEST_MESSAGE = 160

E = TypeVar("E", bound=BaseException)


class RefusedError(Exception):
    """An answer with a status of 400 or more; ``code`` and ``message`` as the hub words them, if at all.

    ``host``: who answered, where that was another one than was asked first.
    """

    def __init__(
        self, status: int, reason: str, headers: Mapping[str, str], *, with_token: bool, host: str = ""
    ) -> None:
        super().__init__(status)
        self.status = status
        self.reason = reason
        self.code = headers.get("x-error-code", "")
        self.message = SECRET.sub("…", " ".join(headers.get("x-error-message", "").split()))[:LONGEST_MESSAGE]
        self.wait = _asked_to_wait(headers)
        self.with_token = with_token
        self.host = host

    @property
    def words(self) -> str:
        """``503 Service Unavailable``."""
        return f"{self.status} {self.reason}".strip()


class NotTheHubError(Exception):
    """An answer that no hub gives: a page of a network's login, a file of another size."""


class CutError(Exception):
    """The body of an answer ended before the file did, and nobody said why."""


class NotOnHubError(HubError):
    """No such repository, or none that may be seen."""


class NoSuchRevisionError(HubError):
    """The repository is there, the revision is not."""


def passes(error: Exception, *, reached: bool) -> bool:
    """Whether trying again may help; ``reached``: the hub has answered before, so that it can be reached."""
    if isinstance(error, RefusedError):
        return error.status in (408, 425, 429) or (error.status >= 500 and error.status != 501)
    kinds = _kinds(error)
    if kinds & UNREACHED:
        return reached and _cause(error, ssl.SSLCertVerificationError) is None
    return bool(kinds & PASSING)


def told(error: Exception, endpoint: str, name: RepoName | None = None) -> FidelityError:
    """The sentence for ``error``: what, why, what would work; no token is in it, whatever ``error`` holds."""
    if isinstance(error, FidelityError):
        return error
    if isinstance(error, RefusedError):
        return _refused(error, endpoint, name)
    return HubError(_unreached(error, endpoint))


def waiting_words(error: Exception) -> str:
    """Why it is tried again, as a clause."""
    if isinstance(error, RefusedError):
        return f"the hub answered {error.words}"
    if "TimeoutException" in _kinds(error):
        return "the hub did not answer in time"
    return "the hub cannot be reached" if _kinds(error) & UNREACHED else "the connection was cut"


def page(endpoint: str, name: RepoName) -> str:
    """The address of a model's page."""
    return f"{_shown(endpoint)}/{name.repo}"


def offline() -> HubError:
    """Nothing is asked of the hub."""
    return HubError(
        "offline mode is on (HF_HUB_OFFLINE), so the hub is not asked; unset it, or use a model that "
        "`mqf-tui models` lists."
    )


def _refused(error: RefusedError, endpoint: str, name: RepoName | None) -> HubError:
    named = name.repo if name else "it"
    if error.host and error.status in REFUSED and not (error.code or error.message):
        return HubError(
            f"{error.host}, to which the hub leads for files, refuses {named} ({error.words}); {LATER}, and "
            "if it stays so, check whether your network lets this host through."
        )
    match error.status:
        case 401 | 403 if error.code == "GatedRepo" and name is not None:
            return HubError(_gated(endpoint, name, error.with_token))
        case 401 if error.with_token or "credentials" in error.message:
            return HubError(
                f"the hub does not accept the token of this machine (401); renew it with {LOGIN}, or unset "
                "HF_TOKEN where that is set."
            )
        case 401 if name is not None:
            return NotOnHubError(
                f"there is no model {named} on the hub, or it is private; check its name, or log in with "
                f"{LOGIN} if it is yours."
            )
        case 403 if "disabled" in error.message:
            return HubError(f"{named} is disabled on the hub; choose another with `mqf-tui models search`.")
        case 403:
            return HubError(
                f"the hub refuses access to {named} ({error.message or error.words}); give the token of this "
                f"machine the right to read it, at {_shown(endpoint)}/settings/tokens, or take another."
            )
        case 404 if error.code == "RevisionNotFound" and name is not None:
            return NoSuchRevisionError(f"{named} has no revision {name.revision or 'main'}; name another.")
        case 404 if error.code == "EntryNotFound":
            return HubError(f"a file of {named} is gone from the hub; fetch it again.")
        case 404 if name is not None:
            return NotOnHubError(f"there is no model {named} on the hub; check its name.")
        case 407:
            return HubError(_proxy_refused(endpoint))
        case 429:
            wait = f" and asks to wait {duration(error.wait)}" if error.wait else ""
            return HubError(
                f"the hub has had too many requests from here{wait}; try again then, or log in with {LOGIN}, "
                "which allows more."
            )
        case status if status >= 500:
            return HubError(
                f"the hub has trouble of its own ({error.words}), each time it was asked; {LATER}."
            )
        case _:
            said = f": {error.message}" if error.message else ""
            return HubError(f"{_host(endpoint)} refused to answer ({error.words}{said}); check HF_ENDPOINT.")


def _gated(endpoint: str, name: RepoName, with_token: bool) -> str:
    where = page(endpoint, name)
    if with_token:
        return (
            f"{name.repo} is gated and the account of this machine's token has no access to it; accept its "
            f"conditions at {where}, or wait there until its owner lets you in, then fetch it again."
        )
    return (
        f"{name.repo} is gated: only who has accepted its conditions may fetch it; accept them at {where}, "
        f"log in here with {LOGIN}, then fetch it again."
    )


def _unreached(error: Exception, endpoint: str) -> str:
    kinds, where, proxy = _kinds(error), _asked_host(error, endpoint), proxy_of(endpoint)
    if "OfflineModeIsEnabled" in kinds:
        return str(offline())
    if isinstance(error, NotTheHubError):
        return (
            f"what answers at {where} is not the hub ({error}); if this network wants a login, open a page "
            "in a browser first, else check HF_ENDPOINT."
        )
    if (tls := _cause(error, ssl.SSLError)) is not None:
        return _no_tls(tls, where)
    if "ProxyError" in kinds:
        return _proxy_refused(endpoint)
    if kinds & UNREACHED and proxy:
        return (
            f"the proxy {proxy} does not answer{_reason(error)}, and the hub is asked through it; check "
            f"{_proxy_variable(endpoint)}, or unset it."
        )
    if (lookup := _cause(error, socket.gaierror)) is not None:
        return _not_found(lookup, where)
    if "TimeoutException" in kinds:
        return (
            f"{where} did not answer in time; check the network connection, {LATER}, or give it more seconds "
            "in HF_HUB_DOWNLOAD_TIMEOUT."
        )
    if kinds & UNREACHED:
        return f"{where} cannot be reached{_reason(error)}; check the network connection, or HF_ENDPOINT."
    if kinds & PASSING:
        return (
            f"the connection to {where} was cut, again and again; check the network connection, or {LATER}."
        )
    if "TooManyRedirects" in kinds:
        return f"the answers of {where} lead round in a circle; check HF_ENDPOINT, or {LATER}."
    if kinds & {"InvalidURL", "UnsupportedProtocol"}:
        return "HF_ENDPOINT is no address of the form https://host; correct it, or unset it."
    if kinds & {"LocalProtocolError", "UnicodeEncodeError"}:
        return (
            "the token of this machine holds characters that no token has; renew it with "
            f"{LOGIN}, or correct HF_TOKEN."
        )
    if isinstance(error, OSError) and not os.path.isfile(os.environ.get("SSL_CERT_FILE", __file__)):
        return "the file of certificates that SSL_CERT_FILE names cannot be read; correct it, or unset it."
    return (
        f"the hub could not be asked ({type(error).__name__}); check HF_ENDPOINT and the network, or {LATER}."
    )


def _no_tls(error: ssl.SSLError, where: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {where} is not trusted ({error.verify_message}); if your network looks into "
            "https, name the file of its own certificates in SSL_CERT_FILE, and check this machine's clock."
        )
    why = (error.reason or "failed").lower().replace("_", " ")
    return (
        f"no secure connection to {where} came about (TLS: {why}); check HF_ENDPOINT, the proxy, and whether "
        "the network lets https through."
    )


def _not_found(error: socket.gaierror, where: str) -> str:
    if error.errno == socket.EAI_AGAIN:
        return (
            f"{where} cannot be looked up, since there is no network here or no name server (DNS) answers; "
            "check the network connection."
        )
    return (
        f"nobody knows the host {where} (DNS); check HF_ENDPOINT if that is set, else the network connection."
    )


def _proxy_refused(endpoint: str) -> str:
    return (
        f"the proxy {proxy_of(endpoint) or 'of this network'} lets nothing through without a password (407); "
        f"write it into {_proxy_variable(endpoint)} as http://name:password@host:port, or unset that."
    )


def _proxy_variable(endpoint: str) -> str:
    return "HTTP_PROXY" if endpoint.startswith("http:") else "HTTPS_PROXY"


def proxy_of(endpoint: str) -> str:
    """Host and port of the proxy that the environment names for an address, "" for none; no password."""
    try:
        url = urlsplit(endpoint)
    except ValueError:
        return ""
    proxies = urllib.request.getproxies()
    if not url.hostname or urllib.request.proxy_bypass(url.hostname):
        return ""
    named = proxies.get(url.scheme) or proxies.get("all")
    return _host(named if "//" in named else f"//{named}") if named else ""


def _shown(endpoint: str) -> str:
    """An address without a user's name and password."""
    scheme, slashes, rest = endpoint.partition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def _host(address: str) -> str:
    """Host and port, without a user's name and password; the address itself where it is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(address).netloc.rpartition("@")[2] or address
    return address


def _asked_host(error: Exception, endpoint: str) -> str:
    # A file comes from another host than the one that was asked first.
    with contextlib.suppress(RuntimeError, AttributeError, ValueError):
        asked: Any = error
        return _host(str(asked.request.url))
    return _host(endpoint)


def _reason(error: Exception) -> str:
    """What the operating system said, in brackets."""
    system = _cause(error, OSError)
    return f" ({system.strerror.lower()})" if system is not None and system.strerror else ""


def _kinds(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _cause(error: BaseException, kind: type[E]) -> E | None:
    return next((one for one in chain(error) if isinstance(one, kind)), None)


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the hub asks to wait: a number or a date in Retry-After, or what RateLimit says."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    if value:
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    spent = UNTRIED.search(headers.get("ratelimit", "").replace(" ", ""))
    return float(spent[1][:9]) if spent else None
