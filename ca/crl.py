"""Certificate revocation lists (RFC 5280 5): built from the register, linted, signed, published by compare-and-swap.

A CRL's number is its thisUpdate in nanoseconds, so it rises without a counter. Each published row names the number
before it, and that pair is unique: of two writers one fails, and nothing is ever overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from cryptography import x509
from sqlalchemy import Connection, Select, literal, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number, to_be_signed
from ca.hierarchy import Authority, Hierarchy
from ca.issuance import SHARD
from ca.linting import Linter
from ca.register import Reason, State
from ca.revocation_list import Entries, Entry, Header, assembled, entries_of
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
# nextUpdate of the last CRL of an authority that has ended: none follows (EN 319 411-2, RFC 5280 4.1.2.5).
NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# Serial numbers asked for in one statement.
_ASKED_TOGETHER = 500


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

    def publish_last(self, issuer: str, *, actor: str) -> PublishedCrl:
        """The last CRL of an authority: it is valid for ever, and none follows it. Raises as ``publish`` does."""
        return self._publish(issuer, actor, last=True)

    def _publish(self, issuer: str, actor: str, *, last: bool = False) -> PublishedCrl:
        authority = self._hierarchy.authority(issuer)
        now = self._clock()
        with self._database.reading() as session:
            before = _newest(session, issuer, SHARD)
        if before is not None and before.next_update == NEVER:
            raise errors.CrlRefused(f"the last CRL of {issuer} was published; none follows it")
        entries = self._entries(issuer, before)
        if before is not None:
            self._check_follows(before, entries, now)
        header = self._header(authority, now)
        if last:
            header = replace(header, next_update=NEVER)
        der = self._signed(authority, header, entries)
        return self._enter(authority, der, header, before, len(entries), now, actor)

    def published_at(self, issuer: str, shard: str = SHARD) -> datetime | None:
        """The moment whose register the newest CRL shows, to the microsecond; None when none was published."""
        query = select(CrlRow.number).where(CrlRow.issuer == issuer, CrlRow.shard == shard)
        with self._database.reading() as session:
            number = session.scalar(query.order_by(CrlRow.number.desc()).limit(1))
        return None if number is None else moment_of(number)

    def listed_among(self, issuer: str, serials: Collection[int]) -> frozenset[int]:
        """Which of these serial numbers the newest CRL lists. Raises CrlNotFound."""
        return frozenset(entry.serial for entry in entries_of(self.current(issuer).der) if entry.serial in serials)

    def publish_all(self, *, actor: str, only_due: bool = False) -> tuple[tuple[str, PublishedCrl | CodedError], ...]:
        """Publish for every authority; what fails for one is returned in its place and stops no other.

        ``only_due`` leaves out CRLs younger than 24 hours, and roots: those sign on an explicit command only.
        """
        results: list[tuple[str, PublishedCrl | CodedError]] = []
        for authority in self._hierarchy.authorities():
            if self._has_ended(authority.slug) or (only_due and not self._is_due(authority)):
                continue
            try:
                results.append((authority.slug, self.publish(authority.slug, actor=actor)))
            except CodedError as error:
                log.error("crl_not_published", issuer=authority.slug, code=error.code)
                results.append((authority.slug, error))
        return tuple(results)

    def _has_ended(self, issuer: str) -> bool:
        """Whether the last CRL was published."""
        query = select(CrlRow.number).where(CrlRow.issuer == issuer, CrlRow.next_update == NEVER)
        with self._database.reading() as session:
            return session.scalar(query.limit(1)) is not None

    def _is_due(self, authority: Authority) -> bool:
        at = self.published_at(authority.slug)
        return is_issuing(authority) and (at is None or self._clock() - at >= REISSUE_AFTER)

    def _entries(self, issuer: str, before: CrlRow | None) -> Entries:
        """Revoked, suspended and withdrawn serials; expired ones until one CRL past expiry (RFC 5280 3.3)."""
        limit = before.this_update if before else datetime.fromtimestamp(0, tz=UTC)
        try:
            with self._database.snapshot() as connection:
                return Entries(_revoked(connection, issuer, limit))
        except ValueError as error:
            raise errors.CrlRefused(f"{error}; the CRL was not replaced") from error

    def _check_follows(self, before: CrlRow, entries: Entries, now: datetime) -> None:
        """Refuse a CRL that would step back: in number, or by forgetting a serial without cause."""
        if number_at(now) <= before.number:
            raise errors.CrlRefused("the clock stands before the last CRL; it was not replaced")
        missing = _missing(_ascending(entries_of(before.der)), entries.serials())
        with self._database.reading() as session:
            while serials := [serial_number.octets(serial) for serial in islice(missing, _ASKED_TOGETHER)]:
                self._check_leave(session, before, serials)

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

    def _signed(self, authority: Authority, header: Header, entries: Entries) -> bytes:
        """Lint, sign, verify. Of a long list the linter gets a part: see ``Entries.sample``.

        What its rules say of an entry they say of each entry alone, and all entries are made by one small function;
        rising serial numbers, the one rule about entries together, were seen to while they were gathered.
        """
        sample = to_be_signed.under_throw_away_key(entries.sample(header), authority.public_key)
        last = header.next_update == NEVER
        self._linter.check_crl(sample, for_authorities=not is_issuing(authority), last=last)
        tbs = entries.to_be_signed(header)
        signature = to_be_signed.sign(self._keystore.key(authority.key_label), tbs)
        if not to_be_signed.verify(authority.public_key, tbs, signature):
            raise errors.SignatureRefused("the token's signature does not verify; nothing was published")
        return assembled(tbs, header.signature_algorithm, signature)

    def _header(self, authority: Authority, now: datetime) -> Header:
        settings = self._settings
        lasting = (
            timedelta(hours=settings.crl_lifetime_hours)
            if is_issuing(authority)
            else timedelta(days=settings.ca_crl_lifetime_days)
        )
        this_update = now.replace(microsecond=0)
        return Header(
            issuer=authority.name,
            signature_algorithm=to_be_signed.signature_algorithm(authority.public_key),
            this_update=this_update,
            next_update=min(this_update + lasting, authority.certificate.not_valid_after_utc),
            extensions=extensions_of(
                url=settings.crl_url(authority.slug, SHARD),
                key_identifier=authority.subject_key_identifier,
                number=number_at(now),
                issuing=is_issuing(authority),
            ),
        )

    def _enter(
        self,
        authority: Authority,
        der: bytes,
        header: Header,
        before: CrlRow | None,
        entries: int,
        now: datetime,
        actor: str,
    ) -> PublishedCrl:
        row = CrlRow(
            issuer=authority.slug,
            shard=SHARD,
            number=number_at(now),
            previous=before.number if before else 0,
            this_update=header.this_update,
            next_update=header.next_update,
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


def extensions_of(
    *, url: str, key_identifier: bytes, number: int, issuing: bool
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """The extensions of a CRL, each with its criticality.

    An issuing CA's scope names its shard, octet for octet as the certificates do. A root's covers every CA below it and
    itself, which has no distribution point: so it names none.
    """
    scope = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)] if issuing else None,
        relative_name=None,
        only_contains_user_certs=issuing,
        only_contains_ca_certs=not issuing,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    return (
        # RFC 5280 5.2.1: the issuer's own key identifier, not its issuer's
        (x509.AuthorityKeyIdentifier(key_identifier, None, None), False),
        (x509.CRLNumber(number), False),  # RFC 5280 5.2.3
        (scope, True),  # RFC 5280 5.2.5
    )


def number_at(moment: datetime) -> int:
    """The CRL number of this moment: Unix time in nanoseconds."""
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


def moment_of(number: int) -> datetime:
    """The moment that a CRL number tells. Aware UTC."""
    seconds, nanoseconds = divmod(number, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC) + timedelta(microseconds=nanoseconds // 1000)


def is_issuing(authority: Authority) -> bool:
    """Whether it certifies end entities; a root certifies CAs, and its responder, which carries nocheck."""
    return authority.issuer != authority.slug


def listed(issuer: str, limit: datetime) -> Select[bytes, datetime, int | None]:
    """What a CRL of this issuer holds of certificates that end at ``limit`` or later, by rising serial number."""
    certificates = select(CertificateRow.serial, CertificateRow.revoked_at, CertificateRow.reason).where(
        CertificateRow.issuer == issuer, CertificateRow.state != State.GOOD.value, CertificateRow.not_after >= limit
    )
    withdrawn = select(
        IntentRow.serial, IntentRow.changed_at, literal(int(Reason.CESSATION_OF_OPERATION)).label("reason")
    ).where(IntentRow.issuer == issuer, IntentRow.state == "withdrawn", IntentRow.not_after >= limit)
    both = certificates.union_all(withdrawn).subquery()
    return select(both.c.serial, both.c.revoked_at, both.c.reason).order_by(both.c.serial)


def _revoked(connection: Connection, issuer: str, limit: datetime) -> Iterator[Entry]:
    for serial, revoked_at, reason in connection.execute(listed(issuer, limit)):
        number = serial_number.from_octets(serial)
        if revoked_at is None:
            raise ValueError("the register has a revoked certificate without a date")
        yield Entry(number, revoked_at.replace(microsecond=0), Reason(reason) if reason else None)


def _ascending(entries: Iterable[Entry]) -> list[int]:
    serials = [entry.serial for entry in entries]
    # Lists of the first release stand in order of their revocation.
    return serials if all(one < other for one, other in pairwise(serials)) else sorted(serials)


def _missing(before: Iterable[int], after: Iterator[int]) -> Iterator[int]:
    """The numbers of ``before`` that ``after`` lacks; both rise."""
    current = next(after, None)
    for serial in before:
        while current is not None and current < serial:
            current = next(after, None)
        if current != serial:
            yield serial


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
