"""RFC 3161 messages and the CMS around a time-stamp token, declared once for the authority and for its client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

SEQUENCE, SET, INTEGER, OCTET_STRING, BIT_STRING, UTF8_STRING, GENERALIZED_TIME = 0x30, 0x31, 2, 4, 3, 0x0C, 0x18

ID_SIGNED_DATA = ObjectIdentifier("1.2.840.113549.1.7.2")
ID_CT_TST_INFO = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
ID_CONTENT_TYPE = ObjectIdentifier("1.2.840.113549.1.9.3")
ID_MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
ID_SIGNING_CERTIFICATE_V2 = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")


@dataclass(frozen=True)
class HashAlgorithm:
    """A hash taken in imprints: hashlib's name, object identifier, AlgorithmIdentifier in DER, length in octets."""

    name: str
    oid: ObjectIdentifier
    identifier: bytes
    length: int


def _sha2(name: str, arc: int, length: int) -> HashAlgorithm:
    # RFC 5754 2: parameters are absent.
    identifier = bytes.fromhex("300b0609608648016503040200")[:-1] + bytes([arc])
    return HashAlgorithm(name, ObjectIdentifier(f"2.16.840.1.101.3.4.2.{arc}"), identifier, length)


# ETSI EN 319 422 5.1.2 by ETSI TS 119 312: the SHA-2 family; SHA-1 is not stamped.
HASH_ALGORITHMS = (_sha2("sha256", 1, 32), _sha2("sha384", 2, 48), _sha2("sha512", 3, 64))
HASH_BY_NAME = {algorithm.name: algorithm for algorithm in HASH_ALGORITHMS}
HASH_BY_OID = {algorithm.oid: algorithm for algorithm in HASH_ALGORITHMS}


def der(tag: int, *contents: bytes) -> bytes:
    """One DER element of that tag."""
    body = b"".join(contents)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + body


def der_set(*members: bytes, tag: int = SET) -> bytes:
    """A SET OF in DER: members in the order of their encodings (X.690 11.6)."""
    return der(tag, *sorted(members))


def der_integer(value: int) -> bytes:
    """INTEGER, two's complement, no octet too many."""
    return der(INTEGER, value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True))


def der_oid(oid: ObjectIdentifier) -> bytes:
    """OBJECT IDENTIFIER."""
    return asn1.encode_der(_Oid(oid=oid))[2:]


@asn1.sequence
class _Oid:
    oid: ObjectIdentifier


@asn1.sequence
class AlgorithmIdentifier:
    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class MessageImprint:
    hash_algorithm: AlgorithmIdentifier
    hashed_message: bytes


@asn1.sequence
class TimeStampReq:
    """RFC 3161 2.4.1. certReq may be spelled out as FALSE, which DER forbids and clients do."""

    version: int
    message_imprint: MessageImprint
    req_policy: ObjectIdentifier | None
    nonce: int | None
    cert_req: bool | None
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]


@asn1.sequence
class PKIStatusInfo:
    status: int
    status_string: list[str] | None
    fail_info: asn1.BitString | None


@asn1.sequence
class Refused:
    """A TimeStampResp without a token."""

    status: PKIStatusInfo


@asn1.sequence
class Granted:
    """A TimeStampResp with its token left as it came."""

    status: PKIStatusInfo
    time_stamp_token: asn1.TLV


@asn1.sequence
class Accuracy:
    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class TSTInfo:
    """RFC 3161 2.4.2."""

    version: int
    policy: ObjectIdentifier
    message_imprint: MessageImprint
    serial_number: int
    gen_time: asn1.GeneralizedTime
    accuracy: Accuracy | None
    ordering: bool | None
    nonce: int | None
    tsa: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class EncapsulatedContentInfo:
    e_content_type: ObjectIdentifier
    e_content: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class Attribute:
    attr_type: ObjectIdentifier
    attr_values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class SignerInfo:
    version: int
    sid: asn1.TLV
    digest_algorithm: AlgorithmIdentifier
    signed_attrs: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]
    signature_algorithm: AlgorithmIdentifier
    signature: bytes
    unsigned_attrs: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class SignedData:
    version: int
    digest_algorithms: asn1.SetOf[AlgorithmIdentifier]
    encap_content_info: EncapsulatedContentInfo
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signer_infos: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    content_type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class IssuerSerial:
    issuer: list[asn1.TLV]
    serial_number: int


@asn1.sequence
class ESSCertIDv2:
    """RFC 5035 4; hashAlgorithm absent means SHA-256."""

    hash_algorithm: AlgorithmIdentifier | None
    cert_hash: bytes
    issuer_serial: IssuerSerial | None


@asn1.sequence
class SigningCertificateV2:
    certs: list[ESSCertIDv2]
    policies: list[asn1.TLV] | None


def generalized_time(moment: datetime) -> bytes:
    """genTime in milliseconds, without trailing zeros (RFC 3161 2.4.2). ``moment`` is in UTC."""
    text = moment.strftime("%Y%m%d%H%M%S")
    fraction = f"{moment.microsecond // 1000:03}".rstrip("0")
    return der(GENERALIZED_TIME, f"{text}.{fraction}Z".encode() if fraction else f"{text}Z".encode())
