"""Renewal information (RFC 9773): when a certificate should be replaced, and replacing many of them on purpose.

Without a reason the window is the last third of the certificate's life but one tenth. A certificate that no longer
stands is to be replaced at once. An announced replacement moves the window of everything an issuer issued up to a
moment, so that clients come one after another while the old certificates still hold.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import select

from ca.acme import events, resource_id
from ca.acme.errors import Malformed, NoSuchResource, ReplacementNotFound, ReplacementRefused
from ca.acme.jws import decode, encode
from ca.acme.tables import ReplacementRow
from ca.errors import CertificateNotFound
from ca.hierarchy import Authority, Hierarchy
from ca.register import IssuedCertificate, Register, State
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database

RETRY_AFTER = timedelta(hours=6)  # RFC 9773 4.3.2
# With a replacement announced or a revocation, clients should hear of it while it matters.
RETRY_AFTER_SOON = timedelta(hours=1)
AT_ONCE = timedelta(hours=1)
MAX_SERIAL_OCTETS = 21  # 20 octets (RFC 5280 4.1.2.2) and a sign


@dataclass(frozen=True)
class SuggestedWindow:
    """When to replace; aware UTC. ``explanation_url`` says why, where there is something to say."""

    start: datetime
    end: datetime
    retry_after: timedelta = RETRY_AFTER
    explanation_url: str = ""


@dataclass(frozen=True)
class Replacement:
    """An announced replacement."""

    id: str
    issuer: str
    issued_until: datetime
    starts_at: datetime
    ends_at: datetime
    explanation_url: str
    withdrawn_at: datetime | None


class RenewalInformation:
    """Answers clients, and takes announcements of operators."""

    def __init__(
        self, *, database: Database, audit: AuditLog, clock: Clock, hierarchy: Hierarchy, register: Register
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._hierarchy = hierarchy
        self._register = register

    def certificate(self, identifier: str) -> IssuedCertificate:
        """The certificate of a CertID (RFC 9773 4.1). Raises Malformed, NoSuchResource."""
        key_identifier, dot, serial = identifier.partition(".")
        if not dot:
            raise Malformed("a certificate's identifier is two parts with a dot between")
        octets = decode(serial, "the serial number")
        if not 1 <= len(octets) <= MAX_SERIAL_OCTETS:
            raise Malformed("the serial number has no length that a serial number can have")
        authority = self._authority(decode(key_identifier, "the key identifier"))
        number = int.from_bytes(octets, "big", signed=True)
        try:
            found = self._register.by_serial(number, authority.slug)
        except (CertificateNotFound, ValueError) as error:
            raise NoSuchResource("no certificate of this identifier was issued here") from error
        if certificate_identifier(found) != identifier:
            raise Malformed("the identifier is not in its only form")
        return found

    def window(self, identifier: str) -> SuggestedWindow:
        """When the certificate of this CertID should be replaced. Raises Malformed, NoSuchResource."""
        certificate = self.certificate(identifier)
        usual = self._usual(certificate)
        if certificate.status.state is not State.GOOD:
            now = self._clock()
            # RFC 9773 4.2: a window in the past is to be acted on at once.
            return SuggestedWindow(now - 2 * AT_ONCE, now - AT_ONCE, RETRY_AFTER_SOON)
        announced = [each for each in self._announced(certificate) if each.ends_at < usual.end]
        if not announced:
            return usual
        first = min(announced, key=lambda each: each.starts_at)
        return SuggestedWindow(*self._slice(certificate, first), RETRY_AFTER_SOON, first.explanation_url)

    def announce(
        self,
        *,
        issuer: str,
        issued_until: datetime,
        starts_at: datetime,
        ends_at: datetime,
        explanation_url: str,
        actor: str,
    ) -> Replacement:
        """Ask clients to replace what ``issuer`` issued up to a moment, between two moments. Raises
        ReplacementRefused, AuthorityNotFound."""
        self._hierarchy.authority(issuer)
        if not starts_at < ends_at:
            raise ReplacementRefused("the window ends after it starts")
        if explanation_url and not explanation_url.startswith("https://"):
            raise ReplacementRefused("the explanation is an https address")
        row = ReplacementRow(
            id=resource_id.fresh(),
            issuer=issuer,
            issued_until=issued_until,
            starts_at=starts_at,
            ends_at=ends_at,
            explanation_url=explanation_url,
            withdrawn_at=None,
        )
        facts = {name: getattr(row, name).isoformat() for name in ("issued_until", "starts_at", "ends_at")}
        with self._database.transaction() as session:
            session.add(row)
            facts |= {"issuer": issuer, "explanation_url": explanation_url}
            self._audit.append(session, events.REPLACEMENT_ANNOUNCED, actor=actor, subject=row.id, facts=facts)
        return _value(row)

    def withdraw(self, identifier: str, *, actor: str) -> Replacement:
        """End an announcement. Raises ReplacementNotFound."""
        with self._database.transaction() as session:
            row = session.get(ReplacementRow, identifier)
            if row is None or row.withdrawn_at is not None:
                raise ReplacementNotFound(f"there is no announced replacement {identifier}")
            row.withdrawn_at = self._clock()
            self._audit.append(session, events.REPLACEMENT_WITHDRAWN, actor=actor, subject=row.id)
            return _value(row)

    def all(self) -> tuple[Replacement, ...]:
        """Every announcement, the withdrawn ones too."""
        with self._database.reading() as session:
            return tuple(map(_value, session.scalars(select(ReplacementRow).order_by(ReplacementRow.starts_at))))

    def _authority(self, key_identifier: bytes) -> Authority:
        found = [a for a in self._hierarchy.authorities() if a.subject_key_identifier == key_identifier]
        if not found:
            raise NoSuchResource("no authority here has this key identifier")
        return found[0]

    def _usual(self, certificate: IssuedCertificate) -> SuggestedWindow:
        life = certificate.not_after - certificate.not_before
        return SuggestedWindow(certificate.not_before + life * 2 / 3, certificate.not_before + life * 9 / 10)

    def _announced(self, certificate: IssuedCertificate) -> list[Replacement]:
        query = select(ReplacementRow).where(
            ReplacementRow.issuer == certificate.issuer,
            ReplacementRow.issued_until >= certificate.issued_at,
            ReplacementRow.withdrawn_at.is_(None),
        )
        with self._database.reading() as session:
            return list(map(_value, session.scalars(query)))

    @staticmethod
    def _slice(certificate: IssuedCertificate, replacement: Replacement) -> tuple[datetime, datetime]:
        """One of twelve parts of the window, always the same for a certificate: clients that look at the start only
        do not come all at once."""
        part = hashlib.sha256(certificate.der).digest()[0] % 12
        length = (replacement.ends_at - replacement.starts_at) / 12
        start = replacement.starts_at + part * length
        return start, start + length


def certificate_identifier(certificate: IssuedCertificate) -> str:
    """The CertID of a certificate (RFC 9773 4.1): authority key identifier and serial number, as they stand in it."""
    parsed = certificate.certificate
    key_identifier = parsed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    serial = parsed.serial_number
    return f"{encode(key_identifier)}.{encode(serial.to_bytes(serial.bit_length() // 8 + 1, 'big'))}"


def _value(row: ReplacementRow) -> Replacement:
    return Replacement(
        id=row.id,
        issuer=row.issuer,
        issued_until=row.issued_until,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        explanation_url=row.explanation_url,
        withdrawn_at=row.withdrawn_at,
    )
