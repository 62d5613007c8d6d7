"""Looking whether a challenge is answered: http-01 (RFC 8555 8.3), dns-01 (8.4), tls-alpn-01 (RFC 8737).

Every connection goes through ``core.egress``: to public addresses or networks that the operator opened, to the very
address that was checked, within limits of time and size.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import SplitResult, urljoin, urlsplit

from cryptography import x509

from ca.acme.errors import ConnectionFailed, IncorrectResponse, TlsFailed
from ca.acme.identifiers import Identifier
from ca.acme.jws import encode
from ca.acme.resolver import Resolver
from ca.acme.settings import DNS_01, HTTP_01, TLS_ALPN_01, AcmeSettings
from core.egress import Answer, Egress, EgressFailed, EgressRefused

MAX_REDIRECTS = 5
MAX_KEY_AUTHORIZATION_OCTETS = 512
TLS_TIMEOUT_SECONDS = 5.0
ACME_TLS_PROTOCOL = "acme-tls/1"  # RFC 8737 6.2
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 6.1
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def key_authorization(token: str, thumbprint: str) -> str:
    """RFC 8555 8.1."""
    return f"{token}.{thumbprint}"


class Validation:
    """Tries challenges. ``egress`` must allow plain http."""

    def __init__(self, *, settings: AcmeSettings, egress: Egress, resolver: Resolver) -> None:
        self._settings = settings
        self._egress = egress
        self._resolver = resolver

    def check(self, kind: str, identifier: Identifier, token: str, thumbprint: str) -> None:
        """Return when the challenge is answered. Raises ConnectionFailed, DnsFailed, IncorrectResponse, TlsFailed."""
        wanted = key_authorization(token, thumbprint)
        checks = {HTTP_01: self._http_01, DNS_01: self._dns_01, TLS_ALPN_01: self._tls_alpn_01}
        checks[kind](identifier, token, wanted)

    # http-01 -------------------------------------------------------------------------------------------------------

    def _http_01(self, identifier: Identifier, token: str, wanted: str) -> None:
        host = f"[{identifier.value}]" if ":" in identifier.value else identifier.value
        port = "" if self._settings.http01_port == 80 else f":{self._settings.http01_port}"
        answer = self._fetch(f"http://{host}{port}/.well-known/acme-challenge/{token}", identifier)
        if answer.status != 200:
            raise IncorrectResponse(f"the answer has status {answer.status}, not 200")
        # RFC 8555 8.3: white space at the end is ignored.
        found = answer.body[:MAX_KEY_AUTHORIZATION_OCTETS].rstrip()
        if len(answer.body) > MAX_KEY_AUTHORIZATION_OCTETS or not hmac.compare_digest(found, wanted.encode()):
            raise IncorrectResponse("the answer is not the key authorization")

    def _fetch(self, url: str, identifier: Identifier) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = self._egress.get(url)
            except EgressRefused as error:
                raise ConnectionFailed("the address is not one that validations are made to") from error
            except EgressFailed as error:
                raise ConnectionFailed(error.detail) from error
            if answer.status not in _REDIRECTS:
                return answer
            url = self._next(url, answer.headers, identifier)
        raise ConnectionFailed(f"more than {MAX_REDIRECTS} redirects")

    def _next(self, url: str, headers: Mapping[str, str], identifier: Identifier) -> str:
        try:
            target = urljoin(url, headers["location"])
            parts = urlsplit(target)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except (KeyError, ValueError) as error:
            raise ConnectionFailed("the redirect's address cannot be read") from error
        allowed = {"http": (80, self._settings.http01_port), "https": (443,)}.get(parts.scheme, ())
        if port not in allowed or not _may_follow(parts, identifier):
            raise ConnectionFailed("a redirect may lead to a host's port 80 or 443, nowhere else")
        return target

    # dns-01 --------------------------------------------------------------------------------------------------------

    def _dns_01(self, identifier: Identifier, _token: str, wanted: str) -> None:
        digest = encode(hashlib.sha256(wanted.encode()).digest()).encode()
        found = self._resolver.texts(f"_acme-challenge.{identifier.base}")
        if not any(hmac.compare_digest(text, digest) for text in found):
            raise IncorrectResponse(f"none of {len(found)} TXT records at _acme-challenge.{identifier.base} is right")

    # tls-alpn-01 ---------------------------------------------------------------------------------------------------

    def _tls_alpn_01(self, identifier: Identifier, _token: str, wanted: str) -> None:
        certificate = self._presented(identifier)
        digest = hashlib.sha256(wanted.encode()).digest()
        try:
            certificate.verify_directly_issued_by(certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            proof = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
        except Exception as error:  # a stranger's certificate: the parser has many words for one refusal
            raise IncorrectResponse("the certificate is not a self-signed one for acme-tls/1") from error
        assert isinstance(proof.value, x509.UnrecognizedExtension)  # noqa: S101 - the library does not know it
        # RFC 8737 3: critical, and the digest as OCTET STRING.
        if not proof.critical or not hmac.compare_digest(proof.value.value, b"\x04\x20" + digest):
            raise IncorrectResponse("the certificate does not hold the key authorization's digest")
        if [_general_name(name) for name in names] != [(identifier.type, identifier.value)]:
            raise IncorrectResponse("the certificate is not for this name alone")

    def _presented(self, identifier: Identifier) -> x509.Certificate:
        host = f"[{identifier.value}]" if ":" in identifier.value else identifier.value
        port = self._settings.tls_alpn01_port
        try:
            addresses = self._egress.addresses(f"https://{host}:{port}")
        except EgressRefused as error:
            raise ConnectionFailed("the address is not one that validations are made to") from error
        except EgressFailed as error:
            raise ConnectionFailed(error.detail) from error
        cause: OSError | None = None
        for address in addresses:
            try:
                with closing(socket.create_connection((address, port), timeout=TLS_TIMEOUT_SECONDS)) as plain:
                    return _handshake(plain, identifier)
            except ssl.SSLError as error:
                raise TlsFailed("the TLS handshake failed") from error
            except OSError as error:
                cause = error
        raise ConnectionFailed(f"{identifier.value} cannot be reached") from cause


def _may_follow(parts: SplitResult, identifier: Identifier) -> bool:
    """A redirect names a host; an address only where it is the very identifier."""
    if not parts.hostname or "@" in parts.netloc:
        return False
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return True
    return identifier.type == "ip" and str(address) == identifier.value


def _handshake(plain: socket.socket, identifier: Identifier) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8737 3
    # The certificate is a proof, not an identity: it is self-signed and looked at by the caller.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ACME_TLS_PROTOCOL])
    with closing(context.wrap_socket(plain, server_hostname=_server_name(identifier))) as connection:
        if connection.selected_alpn_protocol() != ACME_TLS_PROTOCOL:
            raise IncorrectResponse("the server does not speak acme-tls/1")
        der = connection.getpeercert(binary_form=True) or b""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise IncorrectResponse("the server's certificate cannot be read") from error


def _server_name(identifier: Identifier) -> str:
    # RFC 8738 6: an address is named by its reverse name, since SNI takes none.
    return ipaddress.ip_address(identifier.value).reverse_pointer if identifier.type == "ip" else identifier.value


def _general_name(name: x509.GeneralName) -> tuple[str, str]:
    if isinstance(name, x509.DNSName):
        return "dns", name.value.lower()
    if isinstance(name, x509.IPAddress):
        return "ip", str(name.value)
    return type(name).__name__, ""
