"""The one client for outgoing requests: short, small, no redirects, public addresses only, resolved address pinned."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import SplitResult, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from core.errors import CodedError

MAX_ANSWER_OCTETS = 256 * 1024
# For making the connection, for its TLS handshake, and for the exchange: three times this much at most.
TIMEOUT_SECONDS = 5.0
# How many of a name's addresses are tried; they share the time for making the connection.
MAX_ADDRESSES = 4
# What the IANA registries hand to somebody on the Internet: IPv6 only where addresses are given out so far (RFC 4291
# 2.4), and none of the forms that carry an IPv4 address, which would bring a private one past the check (::a.b.c.d and
# 64:ff9b::/96 lie outside, 6to4 inside); IPv4 without protocol assignments (RFC 6890) and 6to4 relays (RFC 7526).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NEVER = tuple(map(ipaddress.ip_network, ("2002::/16", "192.0.0.0/24", "192.88.99.0/24")))


class EgressRefused(CodedError):
    """The address is not one this service sends requests to."""

    code = "egress_refused"
    status = 400
    exit_code = 3


class EgressFailed(CodedError):
    """The other side could not be reached, or answered too slowly or too much."""

    code = "egress_failed"
    status = 502
    exit_code = 6


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers with lower-case names, at most MAX_ANSWER_OCTETS of body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Sends a request to a registered address.

    ``allowed_networks`` are private or loopback networks that an operator opened by name (a test bench, a partner's
    leased line); everything else that is not globally routable is refused after the name was resolved, and the
    connection goes to the very address that was checked, so that a second resolution cannot change it. No proxy of
    the environment is used, no redirect followed. ``ca_file`` names the authorities that vouch for servers, in place
    of the system's. ``timeout`` is in seconds, see TIMEOUT_SECONDS.

    Proofs of control over a name (RFC 8555 8.3) loosen two rules, never the one about addresses: ``plain_http`` lets
    requests without TLS go to public addresses too, ``verify_servers`` off takes any certificate, since the first one
    is what such a server is asking for. ``resolve`` gives a name's addresses in place of the system.
    """

    def __init__(
        self,
        *,
        allowed_networks: tuple[str, ...] = (),
        ca_file: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        plain_http: bool = False,
        verify_servers: bool = True,
        resolve: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self._allowed = tuple(ipaddress.ip_network(network) for network in allowed_networks)
        self._tls = ssl.create_default_context(cafile=ca_file)
        # The defaults, said aloud: the chain and the name that was registered (not the address) are checked.
        self._tls.check_hostname = verify_servers
        self._tls.verify_mode = ssl.CERT_REQUIRED if verify_servers else ssl.CERT_NONE
        self._timeout = timeout
        self._plain_http = plain_http
        self._resolve = resolve or _system_addresses

    def post(self, url: str, body: bytes, content_type: str) -> Answer:
        """POST ``body``. Raises EgressRefused, EgressFailed; an answer of any status is returned."""
        return self._request("POST", url, body, {"Content-Type": content_type})

    def get(self, url: str) -> Answer:
        """GET ``url``. Raises EgressRefused, EgressFailed; an answer of any status is returned."""
        return self._request("GET", url, None, {})

    def addresses(self, url: str) -> tuple[str, ...]:
        """The checked addresses behind ``url``, for a caller that connects by itself. Raises EgressRefused,
        EgressFailed."""
        return self._addresses(_parse(url))

    def _request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        parts = _parse(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connected(parts, self._addresses(parts))
        deadline = _Deadline(connection, self._timeout)
        try:
            with deadline, closing(connection):
                sent = {"Host": parts.netloc, "User-Agent": "tamga", "Accept-Encoding": "identity", **headers}
                connection.request(method, target, body, sent, preload_content=False, decode_content=False)
                with closing(connection.getresponse()) as response:
                    content = _read(response)
        except (HTTPError, HTTPException, OSError) as error:
            raise EgressFailed(f"{parts.hostname} did not answer") from error
        if deadline.passed:
            raise EgressFailed(f"{parts.hostname} answered too slowly")
        if len(content) > MAX_ANSWER_OCTETS:
            raise EgressFailed(f"{parts.hostname} answered with more than {MAX_ANSWER_OCTETS} octets")
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def _connected(self, parts: SplitResult, addresses: tuple[str, ...]) -> HTTPConnection:
        cause: Exception | None = None
        for address in addresses:
            connection = self._connection(parts, address, self._timeout / len(addresses))
            try:
                connection.connect()
            except (HTTPError, OSError) as error:
                connection.close()
                cause = error
            else:
                connection.timeout = self._timeout
                return connection
        raise EgressFailed(f"{parts.hostname} cannot be reached") from cause

    def _connection(self, parts: SplitResult, address: str, timeout: float) -> HTTPConnection:
        if parts.scheme == "http":
            return HTTPConnection(address, parts.port or 80, timeout=timeout)
        return HTTPSConnection(
            address,
            parts.port or 443,
            timeout=timeout,
            ssl_context=self._tls,
            server_hostname=parts.hostname,
        )

    def _addresses(self, parts: SplitResult) -> tuple[str, ...]:
        try:
            found = self._resolve(parts.hostname or "")
        except (OSError, UnicodeError) as error:
            raise EgressFailed(f"{parts.hostname} has no address") from error
        addresses = tuple(dict.fromkeys(address.partition("%")[0] for address in found))
        # Every address must be good: one public name with one private address is how rebinding starts.
        for address in addresses:
            self._check(address, parts.scheme)
        return addresses[:MAX_ADDRESSES]

    def _check(self, text: str, scheme: str) -> None:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if _within(address, self._allowed):
            return
        unassigned = address.version == 6 and address not in _GLOBAL_UNICAST
        if unassigned or not address.is_global or address.is_multicast or _within(address, _NEVER):
            raise EgressRefused("the address is not a public one")
        if scheme != "https" and not self._plain_http:
            raise EgressRefused("only https leaves this service")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _system_addresses(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _parse(url: str) -> SplitResult:
    # Parsers differ in what they drop or take for a slash; what is not plain is refused before any of them reads it.
    if not url.isascii() or not url.isprintable() or set(url) & set(" \\"):
        raise EgressRefused("the address must be written in ASCII without spaces and backslashes")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise EgressRefused("the address is not a URL with a valid host and port") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise EgressRefused("the address must be an http or https URL without credentials")
    return parts


def _read(response: HTTPResponse) -> bytes:
    # Read until the end is seen: only then is a body that ended before its stated length told apart from a whole one.
    content = bytearray()
    while len(content) <= MAX_ANSWER_OCTETS and (piece := response.read(MAX_ANSWER_OCTETS + 1 - len(content))):
        content += piece
    return bytes(content)


class _Deadline:
    """Cuts a connection off when its time is up.

    The socket's own timeout begins anew with each octet, so a peer that drips its answer could hold the
    caller for hours.
    """

    def __init__(self, connection: HTTPConnection, seconds: float) -> None:
        self.passed = False
        self._socket = connection.sock
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_failure: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        # The plain socket's shutdown, also under TLS: it wakes the reader, who then looks at ``passed``.
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
