"""The register: every certificate that was issued, and what its status is. Reads only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from itertools import islice
from typing import Any

from cryptography import x509
from sqlalchemy import ColumnElement, select
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


@dataclass(frozen=True)
class Filters:
    """Which certificates are meant: those that fit everything given.

    ``issued_from`` and ``expires_from`` include their moment, ``issued_until`` and ``expires_until`` do not.
    ``serial_prefix`` is the beginning of the 36 hexadecimal digits.
    """

    issuer: str | None = None
    profile: str | None = None
    holder: str | None = None
    state: State | None = None
    reason: Reason | None = None
    issued_from: datetime | None = None
    issued_until: datetime | None = None
    expires_from: datetime | None = None
    expires_until: datetime | None = None
    serial_prefix: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no beginning of a serial number. Raises ValueError."""
        if self.serial_prefix is not None and not re.fullmatch("[0-9a-f]{1,36}", self.serial_prefix):
            raise ValueError("a serial number begins with up to 36 lower-case hexadecimal digits")

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL, over CertificateRow."""
        row, made = CertificateRow, list[ColumnElement[bool]]()
        for name in ("issuer", "profile", "holder", "state", "reason"):
            value = getattr(self, name)
            if value is not None:
                made.append(getattr(row, name) == (int(value) if name == "reason" else str(value)))
        bounds = ((row.issued_at, self.issued_from, self.issued_until),
                  (row.not_after, self.expires_from, self.expires_until))  # fmt: skip
        for column, low, high in bounds:
            made += [column >= low] if low is not None else []
            made += [column < high] if high is not None else []
        if self.serial_prefix is not None:
            lowest, highest = (self.serial_prefix.ljust(2 * serial_number.SERIAL_OCTETS, digit) for digit in "0f")
            made.append(row.serial.between(bytes.fromhex(lowest), bytes.fromhex(highest)))
        return made


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

    def by_sha256(self, digest: bytes) -> IssuedCertificate:
        """The certificate with this fingerprint. Raises CertificateNotFound."""
        with self._database.reading() as session:
            row = session.scalar(select(CertificateRow).where(CertificateRow.sha256 == digest))
            if row is None:
                raise CertificateNotFound("the register knows no certificate with this fingerprint")
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
        filters = Filters(holder=holder, profile=profile, issuer=issuer, state=state)
        query = _newest_first(filters).limit(min(limit, MAX_LISTED))
        with self._database.reading() as session:
            return tuple(issued(row) for row in session.execute(query))

    def stream(self, filters: Filters, *, limit: int | None = None) -> Iterator[IssuedCertificate]:
        """All certificates that fit, newest first, as they stood when the first was asked for.

        Memory does not grow with their number. Take them all, or close the iterator.
        """
        with self._database.snapshot() as connection:
            yield from map(issued, islice(connection.execute(_newest_first(filters)), limit))

    def with_subject(self, subject_sha256: bytes) -> tuple[IssuedCertificate, ...]:
        """Certificates whose subject's DER has this SHA-256, newest first.

        The register keeps no such hash: every certificate is looked at, one after the other.
        """
        found = []
        for certificate in self.stream(Filters()):
            if hashlib.sha256(names.subject_of(certificate.der)).digest() == subject_sha256:
                found.append(certificate)
                if len(found) == MAX_LISTED:
                    break
        return tuple(found)

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
        return self.suspensions_of([certificate_id]).get(certificate_id, ())

    def suspensions_of(self, certificate_ids: Sequence[str]) -> dict[str, tuple[Suspension, ...]]:
        """The same of several certificates, by their ids; those that were never suspended are left out."""
        query = select(SuspensionRow).where(SuspensionRow.certificate_id.in_(certificate_ids))
        found: dict[str, tuple[Suspension, ...]] = {}
        with self._database.reading() as session:
            for row in session.scalars(query.order_by(SuspensionRow.began_at)):
                found[row.certificate_id] = (*found.get(row.certificate_id, ()), _suspension(row))
        return found


def _newest_first(filters: Filters) -> Any:
    query = select(*CertificateRow.__table__.columns).where(*filters.conditions())
    return query.order_by(CertificateRow.issued_at.desc(), CertificateRow.id.desc())


def _suspension(row: SuspensionRow) -> Suspension:
    return Suspension(row.began_at, row.ended_at)


def issued(row: Any) -> IssuedCertificate:
    """A row of the register, an object or a tuple with its names, as a value."""
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
