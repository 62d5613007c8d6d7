"""OCSPRequest (RFC 6960 4.1): from bytes to the question asked, every CertID kept byte for byte.

The parser of the `cryptography` package takes one CertID and does not show its bytes, so the structure is declared
here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from ocsp.errors import MalformedRequest

MAX_REQUEST_OCTETS = 10_000
MAX_CERT_IDS = 64
MAX_NONCE_OCTETS = 128  # RFC 9654 2.1
# Nonces shorter than this are too guessable to prove anything; the request is answered as if it had none.
MIN_ECHOED_NONCE_OCTETS = 16

NONCE = ObjectIdentifier("1.3.6.1.5.5.7.48.1.2")
# Every responder gives id-pkix-ocsp-basic, so a client's list of acceptable types changes nothing (RFC 6960 4.4.3).
ACCEPTABLE_RESPONSES = ObjectIdentifier("1.3.6.1.5.5.7.48.1.4")

_HASH_NAMES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
HASH_NAMES = frozenset(_HASH_NAMES.values())


@dataclass(frozen=True)
class CertID:
    """Which certificate is meant. ``hash_name`` is None for an algorithm not known here.

    ``encoded`` is the CertID as it came, NULL parameters or none; the answer repeats it (RFC 6960 4.2.1).
    """

    encoded: bytes
    hash_name: str | None
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True)
class OcspRequest:
    """One to MAX_CERT_IDS questions, and the nonce to echo, if any."""

    cert_ids: tuple[CertID, ...]
    nonce: bytes | None


@asn1.sequence
class _AlgorithmIdentifier:
    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _CertID:
    hash_algorithm: _AlgorithmIdentifier
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int


@asn1.sequence
class _Extension:
    extn_id: ObjectIdentifier
    critical: bool | None
    extn_value: bytes


@asn1.sequence
class _Request:
    req_cert: asn1.TLV
    single_request_extensions: Annotated[list[_Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _TBSRequest:
    version: Annotated[int | None, asn1.Explicit(0)]
    # GeneralName under an explicit tag, opened no further: who asks changes nothing here.
    requestor_name: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    request_list: list[_Request]
    request_extensions: Annotated[list[_Extension] | None, asn1.Explicit(2)]


@asn1.sequence
class _OCSPRequest:
    tbs_request: _TBSRequest
    # A signature is accepted and not asked for (RFC 6960 4.1.2).
    optional_signature: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]


@asn1.sequence
class _NonceCarrier:
    nonce: bytes


@lru_cache(maxsize=1024)  # a relying party asks the same question again and again; refusals are not remembered
def parse_request(encoded: bytes) -> OcspRequest:
    """The question in ``encoded``. Raises MalformedRequest."""
    if len(encoded) > MAX_REQUEST_OCTETS:
        raise MalformedRequest(f"a request has at most {MAX_REQUEST_OCTETS} octets")
    try:
        tbs = asn1.decode_der(_OCSPRequest, encoded).tbs_request
    except ValueError as error:
        raise MalformedRequest("the request is not a DER OCSPRequest") from error
    if tbs.version not in (None, 0):
        raise MalformedRequest("only version 1 requests are known")
    if not 1 <= len(tbs.request_list) <= MAX_CERT_IDS:
        raise MalformedRequest(f"a request asks about 1 to {MAX_CERT_IDS} certificates")
    for request in tbs.request_list:
        _check_extensions(request.single_request_extensions or (), known=frozenset())
    extensions = tbs.request_extensions or []
    _check_extensions(extensions, known=frozenset({NONCE, ACCEPTABLE_RESPONSES}))
    return OcspRequest(tuple(_cert_id(request.req_cert) for request in tbs.request_list), _nonce(extensions))


def _cert_id(element: asn1.TLV) -> CertID:
    encoded = asn1.encode_der(element)
    try:
        parsed = asn1.decode_der(_CertID, encoded)
    except ValueError as error:
        raise MalformedRequest("a CertID is not readable") from error
    return CertID(
        encoded=encoded,
        hash_name=_HASH_NAMES.get(parsed.hash_algorithm.algorithm.dotted_string),
        issuer_name_hash=parsed.issuer_name_hash,
        issuer_key_hash=parsed.issuer_key_hash,
        serial=parsed.serial_number,
    )


def _check_extensions(extensions: Iterable[Any], known: frozenset[ObjectIdentifier]) -> None:
    seen: set[ObjectIdentifier] = set()
    for extension in extensions:
        if extension.extn_id in seen:  # RFC 5280 4.2: one instance of an extension; two nonces prove nothing
            raise MalformedRequest(f"the extension {extension.extn_id.dotted_string} appears twice")
        if extension.critical and extension.extn_id not in known:  # RFC 6960 4.4
            raise MalformedRequest(f"the critical extension {extension.extn_id.dotted_string} is not known")
        seen.add(extension.extn_id)


def _nonce(extensions: Iterable[Any]) -> bytes | None:
    for extension in extensions:
        if extension.extn_id == NONCE:
            nonce = _octets(extension.extn_value)
            if not 1 <= len(nonce) <= MAX_NONCE_OCTETS:  # RFC 9654 2.1
                raise MalformedRequest(f"a nonce has 1 to {MAX_NONCE_OCTETS} octets")
            return nonce if len(nonce) >= MIN_ECHOED_NONCE_OCTETS else None
    return None


def _octets(extension_value: bytes) -> bytes:
    """The octets of an OCTET STRING standing alone; the decoder's root must be a SEQUENCE, so one is put around it."""
    if len(extension_value) > MAX_NONCE_OCTETS + 3:
        raise MalformedRequest(f"a nonce has 1 to {MAX_NONCE_OCTETS} octets")
    head = b"\x30" + (b"\x81" if len(extension_value) > 127 else b"") + bytes([len(extension_value)])
    try:
        return asn1.decode_der(_NonceCarrier, head + extension_value).nonce
    except ValueError as error:
        raise MalformedRequest("the nonce is not an OCTET STRING") from error
