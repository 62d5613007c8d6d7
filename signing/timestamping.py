"""The client that signing uses: asks an authority for a time-stamp token and believes it only after its own checks.

pyHanko's client looks at the status and the nonce; a token over other data, with a bad signature, from a stranger or
from another day would be embedded and noticed when somebody validates the document. So all of it is checked here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from core.clock import Clock
from core.egress import Egress
from signing.document_errors import TimeStampUnusable
from signing.time_stamp_authority import REQUEST_TYPE, RESPONSE_TYPE
from signing.time_stamp_token import (
    HASH_BY_NAME,
    HASH_BY_OID,
    ID_CONTENT_TYPE,
    ID_CT_TST_INFO,
    ID_MESSAGE_DIGEST,
    ID_SIGNED_DATA,
    ID_SIGNING_CERTIFICATE_V2,
    OCTET_STRING,
    SEQUENCE,
    ContentInfo,
    Granted,
    Refused,
    SignedData,
    SignerInfo,
    SigningCertificateV2,
    TSTInfo,
    der,
    der_integer,
)

MAX_CHAIN_DEPTH = 5
NONCE_BITS = 128
# What the library raises for a certificate it cannot make sense of.
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class Authority(Protocol):
    """Somebody who answers TimeStampReq with TimeStampResp: the authority in process, or one over HTTP."""

    def respond(self, request: bytes, /) -> bytes:
        """The TimeStampResp (DER). Raises CodedError when it cannot be had."""
        ...


class HttpAuthority:
    """An authority at an address (RFC 3161 3.4)."""

    def __init__(self, egress: Egress, url: str) -> None:
        self._egress = egress
        self._url = url

    def respond(self, request: bytes) -> bytes:
        """Raises EgressFailed, EgressRefused, TimeStampUnusable."""
        answer = self._egress.post(self._url, request, REQUEST_TYPE)
        content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status != 200 or content_type != RESPONSE_TYPE:
            raise TimeStampUnusable(f"the time-stamping authority answered with HTTP status {answer.status}")
        return answer.body


@dataclass(frozen=True)
class TimeStamp:
    """A token that passed every check. ``chain``: certificates in DER, the stamping unit's first, its anchor last."""

    token: bytes
    gen_time: datetime
    accuracy: timedelta
    serial_number: int
    policy: str
    chain: tuple[bytes, ...]


@dataclass(frozen=True)
class Expected:
    """What a token is held against: the imprint and nonce of the request, when it was under way, and whom to trust."""

    digest: bytes
    algorithm: str
    nonce: int
    asked_at: datetime
    received_at: datetime
    skew: timedelta
    policies: frozenset[str]
    anchors: tuple[bytes, ...]


class TimeStampClient:
    """A long-lived client of one authority; answers the signing room's ``TimeStamps`` port.

    ``anchors`` gives the roots (DER) that a stamping unit's chain must end in. ``policies`` are the policies accepted;
    none given, any is. A token's time may lie outside the time of the request by its stated accuracy and ``skew``.
    ``check`` trusts a token had within ``recent`` instead of asking for another.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        anchors: Callable[[], Sequence[bytes]],
        clock: Clock,
        policies: Sequence[str] = (),
        skew: timedelta = timedelta(seconds=2),
        recent: timedelta = timedelta(seconds=10),
    ) -> None:
        self._authority = authority
        self._anchors = anchors
        self._clock = clock
        self._policies = frozenset(policies)
        self._skew = skew
        self._recent = recent
        self._last: TimeStamp | None = None

    def stamp(self, digest: bytes, algorithm: str = "sha256") -> TimeStamp:
        """A checked time-stamp over ``digest``. Raises TimeStampUnusable, or CodedError of the way to the authority."""
        nonce = secrets.randbits(NONCE_BITS)
        asked_at = self._clock()
        response = self._authority.respond(build_request(digest, algorithm, nonce))
        expected = Expected(
            digest=digest,
            algorithm=algorithm,
            nonce=nonce,
            asked_at=asked_at,
            received_at=self._clock(),
            skew=self._skew,
            policies=self._policies,
            anchors=tuple(self._anchors()),
        )
        self._last = check_token(granted_token(response), expected)
        return self._last

    def token(self, digest: bytes, algorithm: str = "sha256") -> bytes:
        """The TimeStampToken (DER) of ``stamp``."""
        return self.stamp(digest, algorithm).token

    def check(self) -> None:
        """Raise CodedError when no token can be had just now; asked before a signing key is used."""
        self._recent_stamp()

    def chain(self) -> tuple[bytes, ...]:
        """The stamping unit's chain, its own certificate first and the anchor last, as the last token proved it."""
        return self._recent_stamp().chain

    def _recent_stamp(self) -> TimeStamp:
        last = self._last
        if last is not None and abs(self._clock() - last.gen_time) <= self._recent:
            return last
        return self.stamp(secrets.token_bytes(32))


def build_request(digest: bytes, algorithm: str, nonce: int) -> bytes:
    """A TimeStampReq (DER) that asks for the certificates too. Raises TimeStampUnusable for a hash not stamped."""
    known = HASH_BY_NAME.get(algorithm)
    if known is None or len(digest) != known.length:
        raise TimeStampUnusable(f"a digest of {len(digest)} octets by {algorithm} cannot be stamped")
    imprint = der(SEQUENCE, known.identifier, der(OCTET_STRING, digest))
    return der(SEQUENCE, der_integer(1), imprint, der_integer(nonce), b"\x01\x01\xff")


def granted_token(response: bytes) -> bytes:
    """The token in a TimeStampResp. Raises TimeStampUnusable when it was refused or is unreadable."""
    try:
        granted = asn1.decode_der(Granted, response)
    except ValueError as error:
        raise TimeStampUnusable(f"the time-stamp was refused: {_refusal(response)}") from error
    if granted.status.status not in (0, 1):  # granted, grantedWithMods
        raise TimeStampUnusable(f"the time-stamp has status {granted.status.status}")
    return asn1.encode_der(granted.time_stamp_token)


def _refusal(response: bytes) -> str:
    try:
        status = asn1.decode_der(Refused, response).status
    except ValueError:
        return "the answer is not a TimeStampResp"
    bits = status.fail_info.as_bytes() if status.fail_info else b""
    first = next((n for n in range(len(bits) * 8) if bits[n // 8] >> (7 - n % 8) & 1), None)
    return f"status {status.status}, failInfo {first}"


def check_token(token: bytes, expected: Expected) -> TimeStamp:
    """The time-stamp in ``token``. Raises TimeStampUnusable at the first thing that is wrong.

    1. a CMS SignedData over a TSTInfo with one SignerInfo (RFC 3161 2.4.2);
    2. the imprint, nonce and policy asked for;
    3. the signed attributes: content type, message digest, and the very certificate (RFC 5816 2.2.1);
    4. a certificate for time-stamping alone (RFC 3161 2.3) and its signature;
    5. a time within the request's, and a chain from the certificate to a trusted anchor at that time.
    """
    signed_data, signer_info, info = _opened(token)  # 1
    _check_answers(info, expected)  # 2
    certificates = _certificates(signed_data)
    signer = _check_attributes(signed_data, signer_info, certificates)  # 3
    _check_purpose(signer)  # 4
    _check_signature(signer, signer_info)
    gen_time, accuracy = _check_time(info, expected)  # 5
    chain = _check_chain(signer, certificates, expected.anchors, gen_time)
    return TimeStamp(token, gen_time, accuracy, info.serial_number, info.policy.dotted_string, chain)


def _opened(token: bytes) -> tuple[SignedData, SignerInfo, TSTInfo]:
    try:
        content = asn1.decode_der(ContentInfo, token)
        signed_data = content.content
        info = asn1.decode_der(TSTInfo, signed_data.encap_content_info.e_content)
    except ValueError as error:
        raise TimeStampUnusable("the token is not readable") from error
    types = (content.content_type, signed_data.encap_content_info.e_content_type)
    signers = signed_data.signer_infos.as_list()
    if types != (ID_SIGNED_DATA, ID_CT_TST_INFO) or info.version != 1 or len(signers) != 1:
        raise TimeStampUnusable("the token is not a TSTInfo signed once")
    if info.extensions is not None:
        raise TimeStampUnusable("the token carries extensions nobody asked for")
    return signed_data, signers[0], info


def _check_answers(info: TSTInfo, expected: Expected) -> None:
    imprint = info.message_imprint
    algorithm = HASH_BY_OID.get(imprint.hash_algorithm.algorithm)
    if algorithm is None or algorithm.name != expected.algorithm:
        raise TimeStampUnusable("the token's imprint has another hash algorithm")
    if not hmac.compare_digest(imprint.hashed_message, expected.digest):
        raise TimeStampUnusable("the token is over other data")
    if info.nonce != expected.nonce:
        raise TimeStampUnusable("the token's nonce is not the request's")
    if expected.policies and info.policy.dotted_string not in expected.policies:
        raise TimeStampUnusable("the token's policy is not accepted")


def _certificates(signed_data: SignedData) -> tuple[x509.Certificate, ...]:
    try:
        encoded = [asn1.encode_der(element) for element in signed_data.certificates or ()]
        return tuple(x509.load_der_x509_certificate(each) for each in encoded)
    except UNREADABLE as error:
        raise TimeStampUnusable("a certificate in the token is not readable") from error


def _check_attributes(
    signed_data: SignedData, signer_info: SignerInfo, certificates: Sequence[x509.Certificate]
) -> x509.Certificate:
    attributes = _attributes(signer_info)
    content_type = asn1.encode_der(_Value(oid=ID_CT_TST_INFO))[2:]
    if attributes.get(ID_CONTENT_TYPE) != content_type:
        raise TimeStampUnusable("the signed content type is not TSTInfo")
    algorithm = HASH_BY_OID.get(signer_info.digest_algorithm.algorithm)
    if algorithm is None:
        raise TimeStampUnusable("the token is signed with a hash that is not accepted")
    digest = hashlib.new(algorithm.name, signed_data.encap_content_info.e_content).digest()
    if attributes.get(ID_MESSAGE_DIGEST) != der(OCTET_STRING, digest):
        raise TimeStampUnusable("the token's message digest is not that of its content")
    return _named_certificate(attributes.get(ID_SIGNING_CERTIFICATE_V2), certificates)


@asn1.sequence
class _Value:
    oid: ObjectIdentifier


def _attributes(signer_info: SignerInfo) -> dict[ObjectIdentifier, bytes]:
    found: dict[ObjectIdentifier, bytes] = {}
    for attribute in signer_info.signed_attrs.as_list():
        values = attribute.attr_values.as_list()
        if attribute.attr_type in found or len(values) != 1:  # RFC 5652 11: one instance, one value
            raise TimeStampUnusable("a signed attribute is not there exactly once")
        found[attribute.attr_type] = asn1.encode_der(values[0])
    return found


def _named_certificate(attribute: bytes | None, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """The certificate whose hash the signer signed; the first ESSCertIDv2 is the signer's (RFC 5035 3)."""
    if attribute is None:
        raise TimeStampUnusable("the token does not name its certificate")
    try:
        first = asn1.decode_der(SigningCertificateV2, attribute).certs[0]
    except (ValueError, IndexError) as error:
        raise TimeStampUnusable("the token does not name its certificate readably") from error
    algorithm = HASH_BY_OID.get(first.hash_algorithm.algorithm) if first.hash_algorithm else HASH_BY_NAME["sha256"]
    if algorithm is None:
        raise TimeStampUnusable("the token names its certificate by a hash that is not accepted")
    for certificate in certificates:
        if hmac.compare_digest(certificate.fingerprint(_HASHES[algorithm.name]()), first.cert_hash):
            return certificate
    raise TimeStampUnusable("the token's certificate is not enclosed")


def _check_purpose(signer: x509.Certificate) -> None:
    try:
        usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise TimeStampUnusable("the token's certificate is not one for time-stamping") from error
    if list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING] or not usage.critical:
        raise TimeStampUnusable("the token's certificate is not one for time-stamping alone")


def _check_signature(signer: x509.Certificate, signer_info: SignerInfo) -> None:
    data = asn1.encode_der(signer_info.signed_attrs)  # RFC 5652 5.4: as SET OF
    digest = _HASHES[HASH_BY_OID[signer_info.digest_algorithm.algorithm].name]()
    try:
        key = signer.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signer_info.signature, data, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signer_info.signature, data, padding.PKCS1v15(), digest)
        else:
            raise TimeStampUnusable("the token's key is of a kind that is not accepted")
    except (InvalidSignature, *UNREADABLE) as error:
        raise TimeStampUnusable("the token's signature is wrong") from error


def _check_time(info: TSTInfo, expected: Expected) -> tuple[datetime, timedelta]:
    gen_time = info.gen_time.as_datetime()
    stated = info.accuracy
    accuracy = timedelta(
        seconds=(stated.seconds or 0) if stated else 0,
        milliseconds=(stated.millis or 0) if stated else 0,
        microseconds=(stated.micros or 0) if stated else 0,
    )
    if not timedelta(0) <= accuracy <= timedelta(minutes=1):
        raise TimeStampUnusable("the token's accuracy is not one to rely on")
    # A token may leave out the fraction of its second.
    early = expected.asked_at - expected.skew - accuracy - timedelta(seconds=1)
    if not early <= gen_time <= expected.received_at + expected.skew + accuracy:
        raise TimeStampUnusable("the token's time is not that of the request")
    return gen_time, accuracy


def _check_chain(
    signer: x509.Certificate, certificates: Sequence[x509.Certificate], anchors: Sequence[bytes], at: datetime
) -> tuple[bytes, ...]:
    store = Store([x509.load_der_x509_certificate(anchor) for anchor in anchors]) if anchors else None
    if store is None:
        raise TimeStampUnusable("no anchor is known for time-stamps")
    builder = PolicyBuilder().store(store).time(at).max_chain_depth(MAX_CHAIN_DEPTH)
    verifier = builder.extension_policies(ee_policy=_unit_policy(), ca_policy=_authority_policy())
    try:
        verified = verifier.build_client_verifier().verify(signer, [each for each in certificates if each != signer])
    except VerificationError as error:
        raise TimeStampUnusable("the token's certificate does not lead to a trusted anchor") from error
    return tuple(each.public_bytes(Encoding.DER) for each in verified.chain)


def _unit_policy() -> ExtensionPolicy:
    return ExtensionPolicy.permit_all().require_present(x509.ExtendedKeyUsage, Criticality.CRITICAL, None)


def _authority_policy() -> ExtensionPolicy:
    def certificate_signing(_policy: Any, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
        if not usage.key_cert_sign:
            raise ValueError("an authority must be allowed to sign certificates")

    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, certificate_signing)
    )
