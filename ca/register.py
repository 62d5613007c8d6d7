"""The register: every certificate that was issued, and what its status is. Reads only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from cryptography import x509
from sqlalchemy import select
from sqlalchemy.orm import Session

from ca import serial_number
from ca.errors import CertificateNotFound, SerialAmbiguous
from ca.serial_number import SerialNumber
from ca.tables import CertificateRow, IntentRow, SuspensionRow
from core.database import Database
from policies import names

MAX_LISTED = 1000


class State(StrEnum):
    """Whether a certificate stands."""

    GOOD = "good"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Reason(IntEnum):
    """CRLReason (RFC 5280 5.3.1), those that are used here. None stands for unspecified, which is left out."""

    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    PRIVILEGE_WITHDRAWN = 9

    @property
    def wire_name(self) -> str:
        """As RFC 5280 spells it: ``keyCompromise``."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(word.capitalize() for word in rest)


@dataclass(frozen=True)
class CertificateStatus:
    """What a status service may say. ``since`` is when this state began (issue, suspension, resumption, revocation);
    ``revoked_at`` is the moment from which signatures no longer count, None while good. All aware UTC."""

    state: State
    since: datetime
    revoked_at: datetime | None = None
    reason: Reason | None = None


@dataclass(frozen=True)
class Suspension:
    """An interval during which a certificate was suspended; open when ``ended_at`` is None."""

    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate of the register. ``holder`` is a person id or client id; ``issuer`` a slug; ``der`` the octets."""

    id: str
    issuer: str
    serial: SerialNumber
    profile: str
    profile_version: int
    holder: str
    evidence: str
    key_label: str | None
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    status: CertificateStatus
    der: bytes = field(repr=False)

    @property
    def serial_text(self) -> str:
        """36 lower-case hexadecimal digits."""
        return serial_number.text(self.serial)

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def certificate(self) -> x509.Certificate:
        """Parsed. Do not read ``subject`` of a person's certificate from it: the library warns about long Cyrillic
        names. ``subject_text`` and ``policies.names`` read them."""
        return x509.load_der_x509_certificate(self.der)

    @property
    def subject_text(self) -> str:
        """The subject on one line."""
        return names.name_text(names.subject_of(self.der))


class Register:
    """Asks the register; nothing here changes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, certificate_id: str) -> IssuedCertificate:
        """The certificate of this id. Raises CertificateNotFound."""
        with self._database.reading() as session:
            row = session.get(CertificateRow, certificate_id)
            if row is None:
                raise CertificateNotFound("the register knows no such certificate")
            return issued(row)

    def by_serial(self, serial: int, issuer: str | None = None) -> IssuedCertificate:
        """The certificate with this serial number. Raises CertificateNotFound, SerialAmbiguous."""
        stored = serial_number.octets(serial)
        query = select(CertificateRow).where(CertificateRow.serial == stored)
        if issuer is not None:
            query = query.where(CertificateRow.issuer == issuer)
        with self._database.reading() as session:
            rows: list[CertificateRow] = list(session.scalars(query))
        if stored is None or not rows:
            raise CertificateNotFound("the register knows no certificate with this serial number")
        if len(rows) > 1:
            raise SerialAmbiguous("two issuers used this serial number; name the issuer")
        return issued(rows[0])

    def by_der(self, der: bytes) -> IssuedCertificate:
        """The register's entry for exactly these octets. Raises CertificateNotFound."""
        query = select(CertificateRow).where(CertificateRow.sha256 == hashlib.sha256(der).digest())
        with self._database.reading() as session:
            row = session.scalar(query)
            if row is None:
                raise CertificateNotFound("the register knows no such certificate")
            return issued(row)

    def certificates(
        self,
        *,
        holder: str | None = None,
        profile: str | None = None,
        issuer: str | None = None,
        state: State | None = None,
        limit: int = MAX_LISTED,
    ) -> tuple[IssuedCertificate, ...]:
        """Certificates that fit every filter given, newest first, at most ``limit`` (1,000)."""
        query = select(CertificateRow)
        wanted = {"holder": holder, "profile": profile, "issuer": issuer, "state": state.value if state else None}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(getattr(CertificateRow, name) == value)
        query = query.order_by(CertificateRow.issued_at.desc(), CertificateRow.id).limit(min(limit, MAX_LISTED))
        with self._database.reading() as session:
            return tuple(issued(row) for row in session.scalars(query))

    def status(self, issuer: str, serial: int) -> CertificateStatus | None:
        """The status of an issuer's serial number; None when that issuer never issued it.

        A serial whose certificate may have been signed but was never delivered is revoked.
        """
        stored = serial_number.octets(serial)
        if stored is None:
            return None
        with self._database.connect() as connection:
            row = connection.execute(
                select(
                    CertificateRow.state, CertificateRow.state_since, CertificateRow.revoked_at, CertificateRow.reason
                ).where(CertificateRow.issuer == issuer, CertificateRow.serial == stored)
            ).first()
            if row is not None:
                return _status(row.state, row.state_since, row.revoked_at, row.reason)
            withdrawn = connection.execute(
                select(IntentRow.changed_at).where(
                    IntentRow.issuer == issuer, IntentRow.serial == stored, IntentRow.state == "withdrawn"
                )
            ).first()
        if withdrawn is None:
            return None
        moment = withdrawn.changed_at
        return CertificateStatus(State.REVOKED, moment, moment, Reason.CESSATION_OF_OPERATION)

    def suspensions(self, certificate_id: str) -> tuple[Suspension, ...]:
        """Every interval during which the certificate was suspended, oldest first."""
        query = select(SuspensionRow).where(SuspensionRow.certificate_id == certificate_id)
        with self._database.reading() as session:
            rows: Sequence[SuspensionRow] = list(session.scalars(query.order_by(SuspensionRow.began_at)))
            return tuple(Suspension(row.began_at, row.ended_at) for row in rows)


def issued(row: CertificateRow) -> IssuedCertificate:
    """A row of the register as a value."""
    return IssuedCertificate(
        id=row.id,
        issuer=row.issuer,
        serial=serial_number.from_octets(row.serial),
        profile=row.profile,
        profile_version=row.profile_version,
        holder=row.holder,
        evidence=row.evidence,
        key_label=row.key_label,
        not_before=row.not_before,
        not_after=row.not_after,
        issued_at=row.issued_at,
        status=_status(row.state, row.state_since, row.revoked_at, row.reason),
        der=row.der,
    )


def certified_key(session: Session, spki_sha256: bytes, profiles: Sequence[str]) -> bool:
    """Whether a certificate of one of these profiles holds this public key."""
    query = select(CertificateRow.id).where(
        CertificateRow.spki_sha256 == spki_sha256, CertificateRow.profile.in_(profiles)
    )
    return session.execute(query.limit(1)).first() is not None


def _status(state: str, since: datetime, revoked_at: datetime | None, reason: int | None) -> CertificateStatus:
    return CertificateStatus(State(state), since, revoked_at, Reason(reason) if reason else None)
