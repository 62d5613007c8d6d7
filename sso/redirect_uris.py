"""Addresses that browsers and webhooks are sent to: what may be registered, and when a given one is the registered one.

Comparison is byte for byte; nothing is normalised, because every parser normalises differently (RFC 9700 4.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urlencode, urlsplit

from sso.errors import InvalidClientMetadata

MAX_URI_OCTETS = 2048
MAX_URIS = 20
# RFC 3986 2: the characters of a URI; no fragment (RFC 6749 3.1.2), no backslash, no control character.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
# RFC 8252 7.3: loopback by address, never by name; the port is chosen by the app at run time.
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(/[^#]*)?")
MAX_PORT = 65535
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_AUTHORITY = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?(?=[/?]|$)"
)
_DEVELOPMENT_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def check_web_uris(uris: Iterable[str], *, what: str, loopback: bool) -> tuple[str, ...]:
    """Addresses of a web service: https, or http on a loopback host when this instance is one itself.

    Raises InvalidClientMetadata naming ``what`` and the first bad address.
    """
    return _each(uris, what, lambda uri: _is_web(uri, loopback))


def check_native_uris(uris: Iterable[str]) -> tuple[str, ...]:
    """Redirect URIs of an app on a person's device: claimed https, loopback address, or a reverse-DNS scheme."""
    return _each(uris, "redirect_uris", lambda uri: _is_web(uri, False) or _is_loopback(uri) or _is_private_use(uri))


def matches(given: str, registered: Iterable[str], *, native: bool) -> bool:
    """Whether ``given`` is one of ``registered``: the same bytes, or for an app the same but for a loopback port."""
    wanted = tuple(registered)
    if given in wanted:
        return True
    return native and any(_same_but_for_port(given, uri) for uri in wanted)


def with_parameters(uri: str, parameters: Iterable[tuple[str, str]]) -> str:
    """``uri`` with further query parameters; what it already carries stays as it was written (RFC 6749 3.1.2)."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(list(parameters))}"


def host_of(uri: str) -> str:
    """The host of a web address, for the pairwise sector and for what people are shown; empty for other schemes."""
    return urlsplit(uri).hostname or ""


def _each(uris: Iterable[str], what: str, is_good: Callable[[str], bool]) -> tuple[str, ...]:
    listed = tuple(uris)
    if len(listed) > MAX_URIS or len(set(listed)) != len(listed):
        raise InvalidClientMetadata(f"{what}: at most {MAX_URIS} different addresses")
    for uri in listed:
        if len(uri) > MAX_URI_OCTETS or not _URI.fullmatch(uri) or not is_good(uri):
            raise InvalidClientMetadata(f"{what}: {uri[:200]!r} is not an address that can be registered")
    return listed


def _is_web(uri: str, loopback: bool) -> bool:
    # Host and port by a pattern of our own and nothing else before the path: no user, no odd bracket, no empty host.
    found = _AUTHORITY.match(uri)
    if found is None or int(found["port"] or 0) > MAX_PORT:
        return False
    return found["scheme"] == "https" or (loopback and found["host"] in _DEVELOPMENT_HOSTS)


def _is_loopback(uri: str) -> bool:
    return _LOOPBACK.fullmatch(uri) is not None


def _is_private_use(uri: str) -> bool:
    # RFC 8252 7.1: a scheme after a domain name of the app's maker, so it contains a dot; no authority part.
    scheme, _, rest = uri.partition(":")
    return "." in scheme and rest.startswith("/") and not rest.startswith("//")


def _same_but_for_port(given: str, registered: str) -> bool:
    ours, theirs = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(given)
    return ours is not None and theirs is not None and ours.groups() == theirs.groups()
