"""Revocation evidence: OCSP responses and CRLs, verified and turned into statements about one certificate.

RFC 6960, RFC 5280 5 and 6.3. A response or list that does not verify makes no statement.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from signing.validation import cms, der
from signing.validation.der import Element

CLOCK_TOLERANCE = timedelta(minutes=5)  # how far ahead of us an issuer's clock may be
_OCSP_ARCHIVE_CUTOFF = "1.3.6.1.5.5.7.48.1.6"
_ODD = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_MALFORMED = (*_ODD, ValueError, TypeError, IndexError, UnsupportedAlgorithm, ArithmeticError, NotImplementedError)


class Standing(StrEnum):
    """What a statement says of its certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """Revocation data and certificates to embed in or to judge a document with; everything DER."""

    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    certificates: tuple[bytes, ...] = ()

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            tuple(dict.fromkeys(self.ocsp + other.ocsp)),
            tuple(dict.fromkeys(self.crls + other.crls)),
            tuple(dict.fromkeys(self.certificates + other.certificates)),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it holds no revocation data; certificates alone prove nothing about revocation."""
        return not self.ocsp and not self.crls


NO_EVIDENCE = Evidence()


@dataclass(frozen=True)
class Statement:
    """One issuer's verified word about one certificate. ``responder`` is a delegated OCSP responder's certificate."""

    kind: str  # "OCSP" or "CRL"
    standing: Standing
    this_update: datetime
    next_update: datetime | None
    source: str  # SHA-256 of the response or list
    revocation_time: datetime | None = None
    reason: str | None = None
    responder: bytes | None = None
    responder_nocheck: bool = False
    archive_cutoff: datetime | None = None

    def is_fresh(self, at: datetime, maximum_age: timedelta | None) -> bool:
        """Whether it speaks for ``at`` (EN 319 102-1 5.2.5): issued later, or recent enough before.

        Without a maximum age the issuer's own next update decides.
        """
        if self.this_update >= at:
            return True
        if maximum_age is not None:
            return self.this_update >= at - maximum_age
        return self.next_update is not None and at <= self.next_update

    def covers(self, certificate: x509.Certificate) -> bool:
        """Whether silence means good: after expiry issuers may forget a certificate (RFC 6960 4.4.4)."""
        expiry = certificate.not_valid_after_utc
        return self.this_update <= expiry or (self.archive_cutoff is not None and self.archive_cutoff <= expiry)


@functools.lru_cache(maxsize=512)
def load_certificate(data: bytes) -> x509.Certificate:
    """A certificate whose key and extensions can be read. Raises ValueError for an odd one (trap P13)."""
    try:
        _check_serial_number(data)
        certificate = x509.load_der_x509_certificate(data)
        certificate.public_key()
        _ = certificate.extensions, certificate.not_valid_after_utc, certificate.subject, certificate.issuer
    except (TypeError, IndexError, OverflowError, UnsupportedAlgorithm, *_ODD) as error:
        raise ValueError(f"the certificate cannot be read: {error}") from error
    return certificate


def _check_serial_number(data: bytes) -> None:
    """RFC 5280 4.1.2.2, before the library warns about it."""
    fields = der.parse(data).children()[0].children()
    serial = fields[1] if fields[0].tag == 0xA0 else fields[0]
    if serial.expect(der.INTEGER).content[:1] >= b"\x80" or not any(serial.content):
        raise ValueError("the serial number is not positive")


def statements(certificate: x509.Certificate, issuer: x509.Certificate, evidence: Evidence) -> tuple[Statement, ...]:
    """Every verified statement that ``evidence`` makes about the certificate, newest first."""
    found: list[Statement] = []
    for response in evidence.ocsp:
        found += _from_ocsp(response, certificate, issuer, evidence.certificates)
    for crl in evidence.crls:
        found += _from_crl(crl, certificate, issuer)
    return tuple(sorted(found, key=lambda statement: statement.this_update, reverse=True))


def has_nocheck(certificate: x509.Certificate) -> bool:
    """Whether a responder's certificate asks not to be checked itself (RFC 6960 4.2.2.2.1)."""
    return _has_extension(certificate, x509.OCSPNoCheck)


def is_readable(evidence: bytes, kind: str) -> bool:
    """Whether the octets are an OCSP response, a CRL or a certificate at all."""
    try:
        if kind == "OCSP":
            ocsp.load_der_ocsp_response(evidence)
        elif kind == "CRL":
            x509.load_der_x509_crl(evidence)
        else:
            load_certificate(evidence)
    except _MALFORMED:
        return False
    return True


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer``'s key signed the certificate and the names chain."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_MALFORMED, InvalidSignature):
        return False
    return True


def _from_ocsp(
    data: bytes, certificate: x509.Certificate, issuer: x509.Certificate, further: tuple[bytes, ...]
) -> Iterator[Statement]:
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return
        matching = [single for single in response.responses if _is_about(single, certificate, issuer)]
        if not matching:
            return
        responder = _verified_responder(data, response, issuer, further)
    except _MALFORMED:
        return
    if responder is None:
        return
    delegated = responder is not issuer
    cutoff = _archive_cutoff(response)
    for single in matching:
        reason = single.revocation_reason
        yield Statement(
            kind="OCSP",
            standing=Standing(single.certificate_status.name.lower()),
            this_update=single.this_update_utc,
            next_update=single.next_update_utc,
            source=cms.sha256(data),
            revocation_time=single.revocation_time_utc,
            reason=reason.value if reason is not None else None,
            responder=responder.public_bytes(Encoding.DER) if delegated else None,
            responder_nocheck=delegated and has_nocheck(responder),
            archive_cutoff=cutoff,
        )


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """CertID, RFC 6960 4.1.1."""
    if single.serial_number != certificate.serial_number:
        return False
    name = hashlib.new(single.hash_algorithm.name, certificate.issuer.public_bytes()).digest()
    key = hashlib.new(single.hash_algorithm.name, _key_bits(issuer)).digest()
    return name == single.issuer_name_hash and key == single.issuer_key_hash


def _key_bits(certificate: x509.Certificate) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der.parse(spki).children()[1].content[1:]


def _verified_responder(
    data: bytes, response: ocsp.OCSPResponse, issuer: x509.Certificate, further: tuple[bytes, ...]
) -> x509.Certificate | None:
    """Who signed the response: the issuer, or a responder it authorised (RFC 6960 4.2.2.2)."""
    tbs, algorithm, signature = _basic_response(data)
    candidates = [issuer, *response.certificates]
    candidates += [load_certificate(entry) for entry in further if is_readable(entry, "certificate")]
    for candidate in candidates:
        if not _is_named(response, candidate):
            continue
        if candidate is not issuer and not _is_authorised(candidate, issuer, response.produced_at_utc):
            continue
        try:
            cms.verify(candidate.public_key(), signature, tbs, algorithm)
        except (cms.SignatureMismatch, cms.AlgorithmUnknown):
            continue
        return candidate
    return None


def _basic_response(data: bytes) -> tuple[bytes, Element, bytes]:
    response_bytes = der.parse(data).children()[1].children()[0].children()
    parts = der.parse(response_bytes[1].expect(der.OCTET_STRING).content).children()
    return parts[0].raw, parts[1], parts[2].expect(der.BIT_STRING).content[1:]


def _is_named(response: ocsp.OCSPResponse, candidate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == candidate.subject
    return response.responder_key_hash == hashlib.sha1(_key_bits(candidate), usedforsecurity=False).digest()


def _is_authorised(responder: x509.Certificate, issuer: x509.Certificate, produced_at: datetime) -> bool:
    if responder == issuer:
        return True
    try:
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    within = responder.not_valid_before_utc <= produced_at <= responder.not_valid_after_utc
    return ExtendedKeyUsageOID.OCSP_SIGNING in usages and within and issued(responder, issuer)


def _archive_cutoff(response: ocsp.OCSPResponse) -> datetime | None:
    """archiveCutOff (RFC 6960 4.4.4); one that cannot be read counts as absent."""
    try:
        for extension in response.single_extensions:
            if extension.oid.dotted_string == _OCSP_ARCHIVE_CUTOFF:
                value = extension.value
                raw = value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes()
                return der.generalized_time(der.parse(raw))
    except _MALFORMED:
        return None
    return None


def _from_crl(data: bytes, certificate: x509.Certificate, issuer: x509.Certificate) -> Iterator[Statement]:
    try:
        crl = x509.load_der_x509_crl(data)
        if crl.issuer != certificate.issuer or not _has_scope(crl, certificate):
            return
        if not crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
            return
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        cutoff = _expired_certificates_on_crl(crl)
    except _MALFORMED:
        return
    reason = _entry_reason(entry) if entry is not None else None
    yield Statement(
        kind="CRL",
        standing=Standing.REVOKED if entry is not None else Standing.GOOD,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        source=cms.sha256(data),
        revocation_time=entry.revocation_date_utc if entry is not None else None,
        reason=reason,
        archive_cutoff=cutoff,
    )


def _has_scope(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether the list speaks about this certificate (RFC 5280 5.2.4, 5.2.5, 6.3.3 b); indirect lists are not used."""
    for extension in crl.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            if not _within(extension.value, certificate):
                return False
        elif extension.critical:
            return False  # delta lists and whatever else must be understood
    return True


def _within(point: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs:
        return False
    authority = _is_authority(certificate)
    if (point.only_contains_user_certs and authority) or (point.only_contains_ca_certs and not authority):
        return False
    if point.full_name is None:
        return True
    try:
        listed = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return True
    return bool({name for entry in listed for name in entry.full_name or ()} & set(point.full_name))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _entry_reason(entry: x509.RevokedCertificate) -> str | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _expired_certificates_on_crl(crl: x509.CertificateRevocationList) -> datetime | None:
    """expiredCertsOnCRL (ITU-T X.509 9.5.2.8); unreadable counts as absent."""
    try:
        extension = crl.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60"))
        value = extension.value
        return der.generalized_time(der.parse(value.value)) if isinstance(value, x509.UnrecognizedExtension) else None
    except (x509.ExtensionNotFound, *_MALFORMED):
        return None


def _has_extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    try:
        certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return False
    return True


def covers_chain(chain: Sequence[bytes], evidence: Evidence, *, at: datetime, anchored: bool = False) -> bool:
    """Whether fresh, verified evidence says *good* of every certificate in the chain below its anchor (S2).

    ``chain`` is DER, leaf first, each issued by the next; a self-issued end is the anchor, and with ``anchored`` any
    end is. Responders without ``ocsp-nocheck`` need evidence of their own. Certificates alone never pass.
    """
    certificates = [load_certificate(entry) for entry in chain]
    if not certificates or not (anchored or certificates[-1].subject == certificates[-1].issuer):
        return False
    return all(
        _is_covered(certificate, issuer, evidence, at, depth=0)
        for certificate, issuer in itertools.pairwise(certificates)
    )


def _is_covered(
    certificate: x509.Certificate, issuer: x509.Certificate, evidence: Evidence, at: datetime, depth: int
) -> bool:
    for statement in statements(certificate, issuer, evidence):
        if statement.standing is not Standing.GOOD or not statement.is_fresh(at, None):
            continue
        if statement.this_update > at + CLOCK_TOLERANCE:
            continue
        if statement.responder is None or statement.responder_nocheck:
            return True
        if depth == 0 and _is_covered(load_certificate(statement.responder), issuer, evidence, at, depth=1):
            return True
    return False


def order_chain(leaf: bytes, pool: Sequence[bytes]) -> tuple[bytes, ...]:
    """The chain from ``leaf`` as far as ``pool`` carries it, each certificate issued by the next."""
    chain = [leaf]
    candidates = [
        (entry, load_certificate(entry)) for entry in dict.fromkeys(pool) if is_readable(entry, "certificate")
    ]
    while True:
        current = load_certificate(chain[-1])
        if current.subject == current.issuer:
            return tuple(chain)
        following = next(
            (raw for raw, parsed in candidates if parsed.subject == current.issuer and issued(current, parsed)), None
        )
        if following is None or following in chain:
            return tuple(chain)
        chain.append(following)
