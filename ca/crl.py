"""Certificate revocation lists (RFC 5280 5): built from the register, linted, signed, published by compare-and-swap.

A CRL's number is its thisUpdate in nanoseconds, so it rises without a counter. Each published row names the number
before it, and that pair is unique: of two writers one fails, and nothing is ever overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number, to_be_signed
from ca.hierarchy import Authority, Hierarchy
from ca.issuance import SHARD
from ca.linting import Linter
from ca.register import Reason, State
from ca.settings import CaSettings
from ca.tables import CertificateRow, CrlRow, IntentRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from hsm.keystore import Keystore

log = get_logger("ca.crl")

# BR 4.9.7: a new CRL at least every 24 hours, whether or not anything changed.
REISSUE_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class PublishedCrl:
    """A CRL as it is served."""

    issuer: str
    shard: str
    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    der: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Digest of the octets, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One revoked serial number."""

    serial: int
    revoked_at: datetime
    reason: Reason | None


class Crls:
    """Publishes and finds CRLs."""

    def __init__(
        self,
        *,
        settings: CaSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        keystore: Keystore,
        hierarchy: Hierarchy,
        linter: Linter,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._linter = linter

    def current(self, issuer: str, shard: str = SHARD) -> PublishedCrl:
        """The newest published CRL. Raises CrlNotFound."""
        with self._database.reading() as session:
            row = _newest(session, issuer, shard)
            if row is None:
                raise errors.CrlNotFound(f"no CRL of {issuer} was published yet")
            return _published(row)

    def publish(self, issuer: str, *, actor: str, attempts: int = 1) -> PublishedCrl:
        """Build, lint, sign and publish the issuer's CRL now. Overtaken by another writer, it tries ``attempts`` times.

        Raises AuthorityNotFound, LintRefused, CrlRefused, CrlConflict, and what the keystore raises; the CRL before
        stays in place then.
        """
        for _ in range(attempts - 1):
            try:
                return self._publish(issuer, actor)
            except (errors.CrlConflict, errors.CrlRefused):
                log.info("crl_publication_overtaken", issuer=issuer)
        return self._publish(issuer, actor)

    def _publish(self, issuer: str, actor: str) -> PublishedCrl:
        authority = self._hierarchy.authority(issuer)
        now = self._clock()
        with self._database.reading() as session:
            before = _newest(session, issuer, SHARD)
            entries = self._entries(session, issuer, before)
            if before is not None:
                self._check_follows(session, before, entries, now)
        der = self._signed(authority, entries, now)
        return self._enter(authority, der, before, len(entries), now, actor)

    def publish_all(self, *, actor: str, only_due: bool = False) -> tuple[tuple[str, PublishedCrl | CodedError], ...]:
        """Publish for every authority; what fails for one is returned in its place and stops no other.

        ``only_due`` leaves out CRLs younger than 24 hours, and roots: those sign on an explicit command only.
        """
        results: list[tuple[str, PublishedCrl | CodedError]] = []
        for authority in self._hierarchy.authorities():
            if only_due and not self._is_due(authority):
                continue
            try:
                results.append((authority.slug, self.publish(authority.slug, actor=actor)))
            except CodedError as error:
                log.error("crl_not_published", issuer=authority.slug, code=error.code)
                results.append((authority.slug, error))
        return tuple(results)

    def _is_due(self, authority: Authority) -> bool:
        try:
            return _is_issuing(authority) and self._clock() - self.current(authority.slug).this_update >= REISSUE_AFTER
        except errors.CrlNotFound:
            return _is_issuing(authority)

    def _entries(self, session: Session, issuer: str, before: CrlRow | None) -> tuple[Entry, ...]:
        """Revoked, suspended and withdrawn serials; expired ones until one CRL past expiry (RFC 5280 3.3)."""
        limit = before.this_update if before else datetime.fromtimestamp(0, tz=self._clock().tzinfo)
        revoked = session.execute(
            select(CertificateRow.serial, CertificateRow.revoked_at, CertificateRow.reason).where(
                CertificateRow.issuer == issuer,
                CertificateRow.state != State.GOOD.value,
                CertificateRow.not_after >= limit,
            )
        )
        withdrawn = session.execute(
            select(IntentRow.serial, IntentRow.changed_at).where(
                IntentRow.issuer == issuer, IntentRow.state == "withdrawn", IntentRow.not_after >= limit
            )
        )
        entries = [
            Entry(serial_number.from_octets(row.serial), row.revoked_at, Reason(row.reason) if row.reason else None)
            for row in revoked
        ]
        entries += [
            Entry(serial_number.from_octets(row.serial), row.changed_at, Reason.CESSATION_OF_OPERATION)
            for row in withdrawn
        ]
        return tuple(sorted(entries, key=lambda entry: (entry.revoked_at, entry.serial)))

    def _check_follows(self, session: Session, before: CrlRow, entries: Sequence[Entry], now: datetime) -> None:
        """Refuse a CRL that would step back: in number, or by forgetting a serial without cause."""
        if number_at(now) <= before.number:
            raise errors.CrlRefused("the clock stands before the last CRL; it was not replaced")
        listed = {entry.serial for entry in entries}
        missing = [revoked.serial_number for revoked in x509.load_der_x509_crl(before.der)]
        stored = [serial_number.octets(serial) for serial in missing if serial not in listed]
        for start in range(0, len(stored), 500):
            self._check_leave(session, before, stored[start : start + 500])

    def _check_leave(self, session: Session, before: CrlRow, serials: Sequence[bytes | None]) -> None:
        known = session.execute(
            select(CertificateRow.serial).where(
                CertificateRow.issuer == before.issuer,
                CertificateRow.serial.in_(serials),
                or_(CertificateRow.state == State.GOOD.value, CertificateRow.not_after < before.this_update),
            )
        )
        expired = session.execute(
            select(IntentRow.serial).where(
                IntentRow.issuer == before.issuer,
                IntentRow.serial.in_(serials),
                IntentRow.not_after < before.this_update,
            )
        )
        if {row.serial for row in known} | {row.serial for row in expired} != set(serials):
            raise errors.CrlRefused("a revoked certificate would vanish from the CRL; it was not replaced")

    def _signed(self, authority: Authority, entries: Sequence[Entry], now: datetime) -> bytes:
        builder = self._builder(authority, entries, now)
        tbs = to_be_signed.tbs_of(_sign(builder, to_be_signed.throw_away_key(authority.public_key)))
        linted = to_be_signed.under_throw_away_key(tbs, authority.public_key)
        self._linter.check_crl(linted, for_authorities=not _is_issuing(authority))
        signature = to_be_signed.sign(self._keystore.key(authority.key_label), tbs)
        if not to_be_signed.verify(authority.public_key, tbs, signature):
            raise errors.SignatureRefused("the token's signature does not verify; nothing was published")
        return to_be_signed.assemble(tbs, authority.public_key, signature)

    def _builder(
        self, authority: Authority, entries: Sequence[Entry], now: datetime
    ) -> x509.CertificateRevocationListBuilder:
        settings = self._settings
        lasting = (
            timedelta(hours=settings.crl_lifetime_hours)
            if _is_issuing(authority)
            else timedelta(days=settings.ca_crl_lifetime_days)
        )
        this_update = now.replace(microsecond=0)
        key_identifier = x509.AuthorityKeyIdentifier(authority.subject_key_identifier, None, None)
        return (
            # The list goes in at once: adding entry by entry copies it each time.
            x509.CertificateRevocationListBuilder(revoked_certificates=[_revoked(entry) for entry in entries])
            .issuer_name(authority.certificate.subject)
            .last_update(this_update)
            .next_update(min(this_update + lasting, authority.certificate.not_valid_after_utc))
            .add_extension(key_identifier, critical=False)  # RFC 5280 5.2.1: the issuer's own key identifier
            .add_extension(x509.CRLNumber(number_at(now)), critical=False)  # RFC 5280 5.2.3
            .add_extension(self._scope(authority), critical=True)  # RFC 5280 5.2.5
        )

    def _scope(self, authority: Authority) -> x509.IssuingDistributionPoint:
        """What the CRL covers. An issuing CA's names its shard, octet for octet as the certificates do.

        A root's covers every CA below it and itself, which has no distribution point: so it names none.
        """
        shard = x509.UniformResourceIdentifier(self._settings.crl_url(authority.slug, SHARD))
        return x509.IssuingDistributionPoint(
            full_name=[shard] if _is_issuing(authority) else None,
            relative_name=None,
            only_contains_user_certs=_is_issuing(authority),
            only_contains_ca_certs=not _is_issuing(authority),
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )

    def _enter(
        self, authority: Authority, der: bytes, before: CrlRow | None, entries: int, now: datetime, actor: str
    ) -> PublishedCrl:
        parsed = x509.load_der_x509_crl(der)
        assert parsed.next_update_utc is not None  # noqa: S101 - set above
        row = CrlRow(
            issuer=authority.slug,
            shard=SHARD,
            number=number_at(now),
            previous=before.number if before else 0,
            this_update=parsed.last_update_utc,
            next_update=parsed.next_update_utc,
            entries=entries,
            sha256=hashlib.sha256(der).digest(),
            der=der,
        )
        with self._database.transaction() as session:
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise errors.CrlConflict("another process published this CRL meanwhile") from error
            facts: dict[str, Fact] = {"shard": SHARD, "number": str(row.number), "sha256": row.sha256.hex()}
            self._audit.append(session, events.CRL_PUBLISHED, actor=actor, subject=authority.slug, facts=facts)
            return _published(row)


def number_at(moment: datetime) -> int:
    """The CRL number of this moment: Unix time in nanoseconds."""
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


def _is_issuing(authority: Authority) -> bool:
    """Whether it certifies end entities; a root certifies CAs, and its responder, which carries nocheck."""
    return authority.issuer != authority.slug


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(entry.serial)
        .revocation_date(entry.revoked_at.replace(microsecond=0))
    )
    if entry.reason is not None:  # RFC 5280 5.3.1: unspecified is said by leaving the extension out
        builder = builder.add_extension(x509.CRLReason(_REASON_FLAGS[entry.reason]), critical=False)
    return builder.build()


_REASON_FLAGS = {
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    Reason.CERTIFICATE_HOLD: x509.ReasonFlags.certificate_hold,
    Reason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}


def _sign(builder: x509.CertificateRevocationListBuilder, key: to_be_signed.PrivateKey) -> bytes:
    scheme = None if isinstance(key, ec.EllipticCurvePrivateKey) else padding.PKCS1v15()
    return builder.sign(key, to_be_signed.digest_for(key), rsa_padding=scheme).public_bytes(Encoding.DER)


def _newest(session: Session, issuer: str, shard: str) -> CrlRow | None:
    query = select(CrlRow).where(CrlRow.issuer == issuer, CrlRow.shard == shard)
    return session.scalar(query.order_by(CrlRow.number.desc()).limit(1))


def _published(row: CrlRow) -> PublishedCrl:
    return PublishedCrl(
        issuer=row.issuer,
        shard=row.shard,
        number=row.number,
        this_update=row.this_update,
        next_update=row.next_update,
        entries=row.entries,
        der=row.der,
    )
