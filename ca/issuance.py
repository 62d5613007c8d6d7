"""Issuance: prepare records what is about to be signed, issue signs exactly that, once.

The order of acts is the safety: validate, draw the serial number, build the octets, lint them under a throw-away key,
write octets and audit entry; then take the intent, sign, verify, and enter the certificate in the register. Whoever
crashes in between leaves an intent that ``recovery`` settles, so nothing exists that the register does not know of.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number, to_be_signed
from ca.hierarchy import Authority, Hierarchy
from ca.linting import Linter
from ca.register import IssuedCertificate, Register, State, issued
from ca.registration import Application
from ca.serial_number import SerialNumber
from ca.settings import CaSettings
from ca.tables import CertificateRow, IntentRow, ProfileVersionRow
from ca.to_be_signed import PublicKey
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from hsm.keystore import Keystore
from policies import names
from policies.algorithms import key_algorithm_good_until
from policies.keys import algorithm_name
from policies.profiles import CertificateProfile, load_profile, profile_names

# Verifiers' clocks differ; notBefore stands this far back, never before the issuer's own. K12 allows one hour.
BACKDATE = timedelta(minutes=5)
# This slice publishes one shard for each issuer.
SHARD = "0"


@dataclass(frozen=True)
class Signer:
    """Who signs: an authority, or a root that is about to exist. The name is DER."""

    slug: str
    key_label: str
    public_key: PublicKey
    name: bytes
    subject_key_identifier: bytes
    not_before: datetime | None = None
    not_after: datetime | None = None

    @classmethod
    def of(cls, authority: Authority) -> Signer:
        """An authority as signer."""
        return cls(
            slug=authority.slug,
            key_label=authority.key_label,
            public_key=authority.public_key,
            name=authority.name,
            subject_key_identifier=authority.subject_key_identifier,
            not_before=authority.certificate.not_valid_before_utc,
            not_after=authority.certificate.not_valid_after_utc,
        )

    @classmethod
    def new_root(cls, slug: str, public_key: PublicKey, name: bytes) -> Signer:
        """A root that signs its own certificate; its key is named by its slug."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(public_key).digest
        return cls(slug, slug, public_key, name, identifier)


@dataclass(frozen=True)
class Intent:
    """Leave to sign these octets once."""

    id: str
    issuer: str
    serial: SerialNumber
    tbs: bytes = field(repr=False)
    signer: Signer = field(repr=False)


class Issuance:
    """Makes certificates from checked applications."""

    def __init__(
        self,
        *,
        settings: CaSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        keystore: Keystore,
        hierarchy: Hierarchy,
        register: Register,
        linter: Linter,
        draw_serial: Callable[[int], SerialNumber] = serial_number.draw,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._register = register
        self._linter = linter
        self._draw_serial = draw_serial

    def certify(self, application: Application, *, actor: str, issuer: str | None = None) -> IssuedCertificate:
        """Prepare and issue. ``issuer`` is a slug; without one the profile's authority signs."""
        return self.issue(self.prepare(application, actor=actor, issuer=issuer), actor=actor)

    def check_profiles(self) -> None:
        """Refuse to start when a profile's file changed under a version that was used. Raises ProfileChanged."""
        with self._database.reading() as session:
            used = {(row.name, row.version): row.digest for row in session.scalars(select(ProfileVersionRow))}
        for name in profile_names():
            profile = load_profile(name)
            if used.get((name, profile.version), profile.digest) != profile.digest:
                raise errors.ProfileChanged(f"profile {name} version {profile.version} is not what it was")

    def prepare(self, application: Application, *, actor: str, issuer: str | None = None) -> Intent:
        """Record the intent to sign. Raises LintRefused, ValidityRefused, SerialTaken, AuthorityNotFound,
        AuthorityNotInForce."""
        authority = (
            self._hierarchy.authority(issuer) if issuer else self._hierarchy.for_purpose(application.profile.issuer)
        )
        self.check_in_force(authority)
        return self.prepare_under(Signer.of(authority), application, actor=actor)

    def prepare_under(
        self, signer: Signer, application: Application, *, actor: str, validity: timedelta | None = None
    ) -> Intent:
        """Record the intent that ``signer`` signs. The commands of a ceremony use it for a root's own certificate."""
        profile = application.profile
        serial = self._draw_serial(self._settings.instance)
        not_before, not_after = self._period(profile, signer, validity)
        _check_algorithm_lasts(application.public_key, not_after)
        tbs = self._to_be_signed(application, signer, serial, not_before, not_after)
        self._linter.check_certificate(
            to_be_signed.under_throw_away_key(tbs, signer.public_key), profile, self._clock().date()
        )
        intent = Intent(str(uuid.uuid4()), signer.slug, serial, tbs, signer)
        self._record(intent, application, not_before, not_after, actor)
        return intent

    def issue(
        self,
        intent: Intent,
        *,
        actor: str,
        entering: Callable[[Session, IssuedCertificate], None] | None = None,
    ) -> IssuedCertificate:
        """Sign the intent's octets and enter the certificate; ``entering`` joins the transaction that enters it.

        Raises IntentSpent, IntentAltered, SignatureRefused, and what the keystore raises.
        """
        self._take(intent)
        der = self._sign(intent)
        with self._database.transaction() as session:
            certificate = self._enter(session, intent, der, actor)
            if entering is not None:
                entering(session, certificate)
        return certificate

    def check_in_force(self, authority: Authority) -> None:
        """Whether the authority and all above it stand. Raises AuthorityNotInForce."""
        for above in self._hierarchy.chain(authority.slug):
            status = self._register.status(above.issuer, above.certificate.serial_number)
            if status is None or status.state is not State.GOOD:
                raise errors.AuthorityNotInForce(f"{above.slug} is revoked; it signs nothing more")

    def _period(
        self, profile: CertificateProfile, signer: Signer, validity: timedelta | None
    ) -> tuple[datetime, datetime]:
        lasting = validity or profile.validity
        not_before = (self._clock() - BACKDATE).replace(microsecond=0)
        if signer.not_before is not None:
            not_before = max(not_before, signer.not_before)
        not_after = not_before + lasting - timedelta(seconds=1)  # BR 6.3.2: notAfter is inclusive
        if lasting > profile.longest_validity:
            raise errors.ValidityRefused(f"profile {profile.name} allows {profile.longest_validity.days} days")
        if signer.not_after is not None and not_after > signer.not_after:
            raise errors.ValidityRefused(f"the certificate would outlive {signer.slug}; a new generation is due")
        return not_before, not_after

    def _to_be_signed(
        self, application: Application, signer: Signer, serial: int, not_before: datetime, not_after: datetime
    ) -> bytes:
        settings = self._settings
        contents = to_be_signed.Contents(
            serial=serial,
            issuer_name=signer.name,
            issuer_key=signer.public_key,
            authority_key_identifier=signer.subject_key_identifier,
            subject_name=names.encode_name(application.subject),
            public_key=application.public_key,
            spki=application.spki,
            not_before=not_before,
            not_after=not_after,
            alternative_names=application.alternative_names,
        )
        pointers = to_be_signed.Pointers(
            crl=settings.crl_url(signer.slug, SHARD),
            issuer_certificate=settings.aia_url(signer.slug),
            ocsp=settings.ocsp_url,
            disclosure=settings.disclosure_url,
            policy_oid=settings.policy_oid,
        )
        return to_be_signed.certificate_tbs(application.profile, contents, pointers)

    def _record(
        self, intent: Intent, application: Application, not_before: datetime, not_after: datetime, actor: str
    ) -> None:
        now, profile = self._clock(), application.profile
        row = IntentRow(
            id=intent.id,
            issuer=intent.issuer,
            serial=serial_number.octets(intent.serial),
            state="prepared",
            profile=profile.name,
            profile_version=profile.version,
            profile_digest=profile.digest,
            holder=application.holder,
            evidence=application.evidence,
            key_label=application.key_label,
            spki_sha256=application.spki_sha256,
            not_before=not_before,
            not_after=not_after,
            tbs=intent.tbs,
            recorded_at=now,
            changed_at=now,
        )
        with self._database.transaction() as session:
            self._pin_profile(session, profile, actor)
            session.add(row)
            try:
                session.flush()  # the unique pair of issuer and serial reserves the number
            except IntegrityError as error:
                raise errors.SerialTaken("the serial number is in use; nothing was signed") from error
            self._audit.append(session, events.INTENT_RECORDED, actor=actor, subject=intent.id, facts=_facts(row))

    def _pin_profile(self, session: Session, profile: CertificateProfile, actor: str) -> None:
        known = session.get(ProfileVersionRow, (profile.name, profile.version))
        if known is None:
            session.add(
                ProfileVersionRow(
                    name=profile.name, version=profile.version, digest=profile.digest, first_used_at=self._clock()
                )
            )
            facts: dict[str, Fact] = {"version": profile.version, "digest": profile.digest}
            self._audit.append(session, events.PROFILE_FIRST_USED, actor=actor, subject=profile.name, facts=facts)
        elif known.digest != profile.digest:
            raise errors.ProfileChanged(f"profile {profile.name} version {profile.version} is not what it was")

    def _take(self, intent: Intent) -> None:
        """Single use: only one caller moves the intent from prepared to signing."""
        with self._database.transaction() as session:
            row = session.get(IntentRow, intent.id)
            if row is None:
                raise errors.IntentSpent("this intent was never recorded")
            if (row.tbs, row.issuer) != (intent.tbs, intent.issuer) or intent.signer.slug != intent.issuer:
                raise errors.IntentAltered("what is to be signed is not what was recorded")
            if not moved(session, intent.id, "prepared", "signing", self._clock()):
                raise errors.IntentSpent("this intent was used or closed")

    def _sign(self, intent: Intent) -> bytes:
        signature = to_be_signed.sign(self._keystore.key(intent.signer.key_label), intent.tbs)
        if not to_be_signed.verify(intent.signer.public_key, intent.tbs, signature):
            raise errors.SignatureRefused("the token's signature does not verify; nothing was released")
        der = to_be_signed.assemble(intent.tbs, intent.signer.public_key, signature)
        if to_be_signed.tbs_of(der) != intent.tbs:
            raise errors.IntentAltered("the signed octets differ from the linted ones")
        return der

    def _enter(self, session: Session, intent: Intent, der: bytes, actor: str) -> IssuedCertificate:
        now = self._clock()
        if not moved(session, intent.id, "signing", "issued", now):
            raise errors.IntentSpent("the intent was settled meanwhile; the certificate was not released")
        taken = session.get_one(IntentRow, intent.id)
        row = CertificateRow(
            id=intent.id,
            issuer=taken.issuer,
            serial=taken.serial,
            profile=taken.profile,
            profile_version=taken.profile_version,
            profile_digest=taken.profile_digest,
            holder=taken.holder,
            evidence=taken.evidence,
            key_label=taken.key_label,
            spki_sha256=taken.spki_sha256,
            sha256=hashlib.sha256(der).digest(),
            not_before=taken.not_before,
            not_after=taken.not_after,
            der=der,
            issued_at=now,
            state=State.GOOD.value,
            state_since=now,
            revoked_at=None,
            reason=None,
        )
        session.add(row)
        session.flush()
        facts: dict[str, Fact] = {**_facts(taken), "sha256": row.sha256.hex()}
        self._audit.append(session, events.CERTIFICATE_ISSUED, actor=actor, subject=row.id, facts=facts)
        return issued(row)


def _check_algorithm_lasts(key: PublicKey, not_after: datetime) -> None:
    """ETSI TS 119 312: a certificate does not outlive the strength of its key."""
    if not key_algorithm_good_until(algorithm_name(key), not_after.date()):
        raise errors.ValidityRefused("keys of this kind are not strong enough until the certificate ends")


def moved(session: Session, intent_id: str, before: str, after: str, now: datetime) -> bool:
    """Compare-and-set an intent's state; whether this caller moved it."""
    result = session.execute(
        update(IntentRow)
        .where(IntentRow.id == intent_id, IntentRow.state == before)
        .values(state=after, changed_at=now)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
    return result.rowcount == 1


def _facts(row: IntentRow) -> dict[str, str | int]:
    return {
        "issuer": row.issuer,
        "serial": serial_number.text(serial_number.from_octets(row.serial)),
        "profile": row.profile,
        "profile_version": row.profile_version,
        "profile_digest": row.profile_digest,
        "holder": row.holder,
        "evidence": row.evidence,
        "tbs_sha256": hashlib.sha256(row.tbs).hexdigest(),
    }
