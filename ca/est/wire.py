"""The bodies of EST: base64 around PKCS #10, certs-only CMS and CsrAttrs (RFC 7030 4, RFC 8951 3)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from ca.est.errors import BodyRefused
from ca.registration import MAX_CSR_OCTETS
from policies import der

# Base64 of the largest request with a line break after every 64 characters, and some to spare.
MAX_BODY_OCTETS = MAX_CSR_OCTETS * 3 // 2

_WHITE_SPACE = re.compile(rb"[ \t\r\n]+")
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"  # RFC 5480 2.1.1
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"  # RFC 8017 A.1
_CURVES = {"P-256": "1.2.840.10045.3.1.7", "P-384": "1.3.132.0.34", "P-521": "1.3.132.0.35"}  # RFC 5480 2.1.1.1


def decoded(body: bytes) -> bytes:
    """The octets inside a request's body. Raises BodyRefused.

    RFC 8951 3.2.1: white space may stand anywhere or nowhere, and what a Content-Transfer-Encoding header says does
    not matter.
    """
    try:
        octets = base64.b64decode(_WHITE_SPACE.sub(b"", body), validate=True)
    except binascii.Error as error:
        raise BodyRefused("the body is not base64 of a PKCS #10 request in DER") from error
    if not octets:
        raise BodyRefused("the body is empty")
    return octets


def encoded(octets: bytes) -> bytes:
    """Base64 (RFC 4648 4) without line breaks, which RFC 8951 3.2.1 allows and every client reads."""
    return base64.b64encode(octets)


def certs_only(certificates: Iterable[bytes]) -> bytes:
    """A CMS SignedData without signers that carries ``certificates`` (RFC 7030 4.1.3, RFC 5272 4.1). All DER."""
    return pkcs7.serialize_certificates([x509.load_der_x509_certificate(each) for each in certificates], Encoding.DER)


def csr_attributes(keys: Iterable[str]) -> bytes:
    """CsrAttrs (RFC 7030 4.5.2) that name the kinds of key a profile takes, such as ``P-256`` and ``RSA-3072``. DER.

    One attribute for each kind, so that each says one thing. challengePassword is not among them: the channel that it
    would bind to ends at the front (RFC 7030 3.5).
    """
    return der.tlv(der.SEQUENCE, *(_key_attribute(key) for key in sorted(keys)))


def _key_attribute(key: str) -> bytes:
    if key in _CURVES:
        return _attribute(_EC_PUBLIC_KEY, der.object_identifier(_CURVES[key]))
    return _attribute(_RSA_ENCRYPTION, der.integer(int(key.removeprefix("RSA-"))))


def _attribute(kind: str, value: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, der.object_identifier(kind), der.tlv(der.SET, value))
