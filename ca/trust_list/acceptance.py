"""Whether a foreign certificate comes from an accepted issuer, and if not, why (P20).

Three answers are kept apart that are often one "invalid certificate": the issuer is not accepted, the certificate has
ended, the signature is not the issuer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.trust_list import errors
from ca.trust_list.chains import MAX_CHAIN, check_issued, is_authority, loaded
from ca.trust_list.document import PURPOSES, Entry, TrustList

Path = tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Acceptance:
    """The listed authority that the path ends at; the path's certificates are DER, the leaf first."""

    entry: Entry
    path: tuple[bytes, ...]


def accepted(listed: TrustList, chain: Sequence[bytes], purpose: str, at: datetime) -> Acceptance:
    """Judge ``chain`` (DER, the certificate in question first, issuers in any order) for ``purpose`` at ``at``.

    Raises IssuerNotAccepted, CertificateExpired, SignatureInvalid, PathRefused, CertificateUnreadable, PurposeUnknown.
    """
    if purpose not in PURPOSES:
        raise errors.PurposeUnknown(f"purposes are {', '.join(PURPOSES)}")
    path, entry = _listed_issuer(listed, [loaded(der) for der in chain[: MAX_CHAIN + 1]])
    _check_entry(entry, purpose)
    certificates = (*path, loaded(entry.certificate)) if path[-1].public_bytes(_DER) != entry.certificate else path
    _check_dates(certificates, at)
    found = tuple(certificate.public_bytes(_DER) for certificate in certificates)
    _check_path(found, at)
    return Acceptance(entry, found)


_DER = Encoding.DER


def _listed_issuer(listed: TrustList, chain: list[x509.Certificate]) -> tuple[Path, Entry]:
    """Climb from the certificate over what was sent along to the first listed authority."""
    if not chain:
        raise errors.CertificateUnreadable("there is no certificate")
    entries = [(entry, loaded(entry.certificate)) for entry in listed.entries]
    path: Path = (chain[0],)
    while len(path) <= MAX_CHAIN:
        current = path[-1]
        named = [pair for pair in entries if _names(current, pair[1])]
        signed = [entry for entry, issuer in named if check_issued(current, issuer)]
        if signed:
            # One authority may stand there with several certificates; what is rejected weighs more.
            return path, min(signed, key=lambda entry: entry.accepted)
        above = [
            each for each in chain
            if each not in path and _names(current, each) and is_authority(each) and check_issued(current, each)
        ]  # fmt: skip
        if not above:
            _refuse(named)
        path = (*path, above[0])
    raise errors.IssuerNotAccepted("issuer not accepted: the chain is too long")


def _refuse(named: list[tuple[Entry, x509.Certificate]]) -> None:
    if named:
        raise errors.SignatureInvalid("the certificate names an issuer of the list that did not sign it")
    raise errors.IssuerNotAccepted("issuer not accepted: it is not on the trust list")


def _names(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return certificate.issuer.public_bytes() == issuer.subject.public_bytes()


def _check_entry(entry: Entry, purpose: str) -> None:
    if not entry.accepted:
        raise errors.IssuerNotAccepted(f"issuer not accepted: {entry.reason}", entry=entry.sha256)
    if purpose not in entry.purposes:
        raise errors.IssuerNotAccepted(
            f"issuer not accepted for {purpose}; it is for {', '.join(entry.purposes)}", entry=entry.sha256
        )


def _check_dates(path: Path, at: datetime) -> None:
    for certificate in path:
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise errors.CertificateExpired("a certificate of the path had not begun or has ended")


def _check_path(path: tuple[bytes, ...], at: datetime) -> None:
    """RFC 5280 6.1 without revocation: constraints, policies, critical extensions. Raises PathRefused."""
    from asn1crypto import x509 as asn1_x509
    from pyhanko_certvalidator import ValidationContext
    from pyhanko_certvalidator.authority import CertTrustAnchor
    from pyhanko_certvalidator.errors import InvalidCertificateError, PathError, ValidationError
    from pyhanko_certvalidator.path import ValidationPath
    from pyhanko_certvalidator.validate import async_validate_path

    anchor, *below = [asn1_x509.Certificate.load(der) for der in reversed(path)]
    if not below:
        return
    # RFC 5937: what the anchor's own certificate constrains counts too.
    start = CertTrustAnchor(anchor, derive_default_quals_from_cert=True)
    try:
        context = ValidationContext(
            trust_roots=[anchor], moment=at.replace(microsecond=0), allow_fetching=False, revocation_mode="soft-fail",
            best_signature_time=at,
        )  # fmt: skip
        asyncio.run(async_validate_path(context, ValidationPath(start, below[:-1], below[-1])))
    except (ValidationError, InvalidCertificateError, PathError, ValueError, TypeError, NotImplementedError) as error:
        raise errors.PathRefused("the certification path breaks a rule of RFC 5280 6.1") from error
