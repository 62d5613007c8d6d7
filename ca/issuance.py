"""Issuance: what is about to be signed is recorded, exactly that is signed, once, and entered in the register.

The order of acts is the safety: validate, draw the serial number, build the octets, lint them, write octets and audit
entry; then sign, verify, and enter the certificate. Whoever crashes in between leaves an intent that ``recovery``
settles, so nothing exists that the register does not know of.

``certify`` does it in two transactions: its intent is recorded as being signed, since nobody else can have it.
``prepare`` and ``issue`` do it in three, for those who look at the octets in between. ``certify_many`` does for many
applications what ``certify`` does for one, in the same two transactions.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number, to_be_signed
from ca.hierarchy import Authority, Hierarchy
from ca.linting import Linter
from ca.register import IssuedCertificate, State, issued
from ca.registration import UNKNOWN_KEY, Application, KnownKey, known_keys
from ca.serial_number import SerialNumber
from ca.settings import CaSettings
from ca.tables import CertificateRow, IntentRow, ProfileVersionRow
from ca.to_be_signed import PublicKey
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Base, Database, insert_once
from hsm.keystore import Keystore
from policies import names
from policies.algorithms import key_algorithm_good_until
from policies.keys import algorithm_name
from policies.profiles import MAX_BACKDATE, CertificateProfile, ProfileUnknown, load_profile

# Verifiers' clocks differ; notBefore stands this far back, never before the issuer's own. K12 allows one hour.
BACKDATE = timedelta(minutes=5)
# This slice publishes one shard for each issuer.
SHARD = "0"
# Ours: so many are signed within the minute after which an open intent is taken for dead, by a slow token too.
MAX_BATCH = 1000
# The states of an intent; ``recovery`` closes those that stay in the first two.
PREPARED, SIGNING, ISSUED = "prepared", "signing", "issued"


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


@dataclass(frozen=True)
class _Draft:
    """An application that became octets and passed the linter; ``linted`` says by which way."""

    intent: Intent
    application: Application
    not_before: datetime
    not_after: datetime
    linted: str


Entering = Callable[[Session, IssuedCertificate], None]


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
        linter: Linter,
        profile_approved: Callable[[Session, CertificateProfile], None],
        draw_serial: Callable[[int], SerialNumber] = serial_number.draw,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._linter = linter
        self._profile_approved = profile_approved
        self._draw_serial = draw_serial
        self._pinned: frozenset[CertificateProfile] = frozenset()
        self._known_pointers: dict[str, to_be_signed.Pointers] = {}

    def certify(
        self,
        application: Application,
        *,
        actor: str,
        issuer: str | None = None,
        validity: timedelta | None = None,
        entering: Entering | None = None,
    ) -> IssuedCertificate:
        """A certificate for an application. ``issuer`` is a slug; without one the profile's authority signs.

        ``validity`` may be shorter than the profile's, in whole days or whole minutes as the profile counts;
        ``entering`` joins the transaction that enters the certificate. Raises what ``prepare`` and ``issue`` raise.
        """
        (certificate,) = self.certify_many(
            (application,), actor=actor, issuer=issuer, validity=validity, entering=entering
        )
        return certificate

    def certify_many(
        self,
        applications: Sequence[Application],
        *,
        actor: str,
        issuer: str | None = None,
        validity: timedelta | None = None,
        entering: Entering | None = None,
    ) -> tuple[IssuedCertificate, ...]:
        """Certificates for up to MAX_BATCH applications, in their order: all of them, or none is released.

        Every one is validated and linted before the first intent is recorded. A failure after that leaves intents
        that ``recovery`` withdraws.
        """
        if not 0 < len(applications) <= MAX_BATCH:
            raise errors.BatchRefused(f"a batch has 1 to {MAX_BATCH} applications")
        signers: dict[str, Signer] = {}
        drafts = []
        for application in applications:
            profile = application.profile
            signer = signers.get(profile.name) or signers.setdefault(profile.name, self._signer(profile, issuer))
            drafts.append(self._draft(signer, application, validity, None))
        self._record(drafts, SIGNING, actor)
        signed = [self._sign(draft.intent) for draft in drafts]
        with self._database.transaction() as session:
            certificates = self._enter(session, [draft.intent for draft in drafts], signed, actor)
            if entering is not None:
                for certificate in certificates:
                    entering(session, certificate)
        return certificates

    def check_profiles(self) -> None:
        """Refuse to start when a profile's file changed under a version that was used, or is kept no longer though
        certificates of it live. Raises ProfileChanged."""
        with self._database.reading() as session:
            used = [(row.name, row.version, row.digest) for row in session.scalars(select(ProfileVersionRow))]
        for name, version, digest in used:
            try:
                kept = load_profile(name, version)
            except ProfileUnknown as error:
                raise errors.ProfileChanged(f"{error}; certificates of it were issued") from error
            if kept.digest != digest:
                raise errors.ProfileChanged(f"profile {name} version {version} is not what it was")

    def prepare(
        self,
        application: Application,
        *,
        actor: str,
        issuer: str | None = None,
        validity: timedelta | None = None,
    ) -> Intent:
        """Record the intent to sign.

        Raises LintRefused, LinterUnavailable, ValidityRefused, SerialTaken, KeyNotAccepted, ProfileChanged,
        ProfileNotApproved, AuthorityNotFound and the subclasses of AuthorityNotInForce.
        """
        signer = self._signer(application.profile, issuer)
        return self.prepare_under(signer, application, actor=actor, validity=validity)

    def prepare_under(
        self,
        signer: Signer,
        application: Application,
        *,
        actor: str,
        validity: timedelta | None = None,
        serial: SerialNumber | None = None,
    ) -> Intent:
        """Record the intent that ``signer`` signs. The commands of a ceremony use it for a root's own certificate, and
        for a ``serial`` that was drawn in advance."""
        draft = self._draft(signer, application, validity, serial)
        self._record([draft], PREPARED, actor)
        return draft.intent

    def issue(self, intent: Intent, *, actor: str, entering: Entering | None = None) -> IssuedCertificate:
        """Sign the intent's octets and enter the certificate; ``entering`` joins the transaction that enters it.

        Raises IntentSpent, IntentAltered, SignatureRefused, and what the keystore raises.
        """
        self._take(intent)
        signed = self._sign(intent)
        with self._database.transaction() as session:
            (certificate,) = self._enter(session, [intent], [signed], actor)
            if entering is not None:
                entering(session, certificate)
        return certificate

    def check_in_force(self, authority: Authority, profile: CertificateProfile | None = None) -> None:
        """Whether the authority may sign now. A retired one still signs its responders.

        Raises AuthorityRevoked, AuthorityExpired or AuthorityRetired, all of them AuthorityNotInForce.
        """
        self._hierarchy.check_in_force(authority.slug, for_status=profile is not None and profile.ocsp_no_check)

    def _signer(self, profile: CertificateProfile, issuer: str | None) -> Signer:
        if issuer is None:
            return Signer.of(self._hierarchy.for_purpose(profile.issuer))  # the newest that is in force
        authority = self._hierarchy.authority(issuer)
        self.check_in_force(authority, profile)
        return Signer.of(authority)

    def _draft(
        self, signer: Signer, application: Application, validity: timedelta | None, serial: SerialNumber | None
    ) -> _Draft:
        serial = serial or self._draw_serial(self._settings.instance)
        not_before, not_after = self._period(application.profile, signer, validity)
        _check_algorithm_lasts(application.public_key, not_after)
        tbs = self._to_be_signed(application, signer, serial, not_before, not_after)
        today = self._clock().date()
        linted = self._linter.check_to_be_signed(tbs, signer.public_key, application.profile, today)
        intent = Intent(str(uuid.uuid4()), signer.slug, serial, tbs, signer)
        return _Draft(intent, application, not_before, not_after, linted)

    def _period(
        self, profile: CertificateProfile, signer: Signer, validity: timedelta | None
    ) -> tuple[datetime, datetime]:
        now = self._clock()
        _check_signer(signer, now)
        not_before = (now - BACKDATE).replace(microsecond=0)
        if signer.not_before is not None:
            not_before = max(not_before, signer.not_before)
        day = (not_before + MAX_BACKDATE).date()
        lasting = profile.validity_on(day) if validity is None else validity
        if lasting > profile.longest_on(day):
            raise errors.ValidityRefused(f"profile {profile.name} allows {profile.longest_on(day)}")
        if lasting <= timedelta(0) or lasting % profile.validity_unit:
            raise errors.ValidityRefused(f"a validity of profile {profile.name} is counted in {profile.validity_unit}")
        not_after = not_before + lasting - timedelta(seconds=1)  # BR 6.3.2: notAfter is inclusive
        if signer.not_after is not None and not_after > signer.not_after:
            raise errors.ValidityRefused(f"the certificate would outlive {signer.slug}; a new generation is due")
        return not_before, not_after

    def _to_be_signed(
        self, application: Application, signer: Signer, serial: int, not_before: datetime, not_after: datetime
    ) -> bytes:
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
        return to_be_signed.certificate_tbs(application.profile, contents, self._pointers(signer.slug))

    def _pointers(self, issuer: str) -> to_be_signed.Pointers:
        if issuer not in self._known_pointers:
            settings = self._settings
            self._known_pointers[issuer] = to_be_signed.Pointers(
                crl=settings.crl_url(issuer, SHARD),
                issuer_certificate=settings.aia_url(issuer),
                ocsp=settings.ocsp_url,
                disclosure=settings.disclosure_url,
                policy_oid=settings.policy_oid,
            )
        return self._known_pointers[issuer]

    def _record(self, drafts: Sequence[_Draft], state: str, actor: str) -> None:
        """Reserve the serial numbers and write what is about to be signed, with the audit entries, in one go."""
        now = self._clock()
        rows = [_intent_row(draft, state, now) for draft in drafts]
        with self._database.transaction() as session:
            profiles = {draft.application.profile for draft in drafts}
            # In one order, so that two transactions that write the same versions queue instead of locking each other.
            for profile in sorted(profiles - self._pinned, key=lambda profile: (profile.name, profile.version)):
                self._pin_profile(session, profile, actor)
            known = known_keys(session.connection(), [draft.application.spki_sha256 for draft in drafts])
            for draft in drafts:
                _check_key(draft.application, known)
            try:
                session.execute(_INSERT_INTENT, rows)  # the unique pair of issuer and serial reserves the number
            except IntegrityError as error:
                raise errors.SerialTaken("the serial number is in use; nothing was signed") from error
            entries: list[tuple[str, dict[str, Fact]]] = [
                (row["id"], {**_facts(row), "linted": draft.linted}) for row, draft in zip(rows, drafts, strict=True)
            ]
            self._audit.append_many(session, events.INTENT_RECORDED, actor=actor, entries=entries)
        self._pinned |= profiles  # only now is it written that these versions were used

    def _pin_profile(self, session: Session, profile: CertificateProfile, actor: str) -> None:
        known = session.get(ProfileVersionRow, (profile.name, profile.version))
        if known is None:
            self._profile_approved(session, profile)
            if self._entered_first(session, profile, actor):
                return
            known = session.get_one(ProfileVersionRow, (profile.name, profile.version))
        if known.digest != profile.digest:
            raise errors.ProfileChanged(f"profile {profile.name} version {profile.version} is not what it was")

    def _entered_first(self, session: Session, profile: CertificateProfile, actor: str) -> bool:
        """Whether this transaction, and no other at the same moment, writes down that the version is used."""
        row = {"name": profile.name, "version": profile.version, "digest": profile.digest}
        if not insert_once(session, ProfileVersionRow, {**row, "first_used_at": self._clock()}):
            return False
        facts: dict[str, Fact] = {"version": profile.version, "digest": profile.digest}
        self._audit.append(session, events.PROFILE_FIRST_USED, actor=actor, subject=profile.name, facts=facts)
        return True

    def _take(self, intent: Intent) -> None:
        """Single use: only one caller moves the intent from prepared to signing."""
        with self._database.transaction() as session:
            row = session.get(IntentRow, intent.id)
            if row is None:
                raise errors.IntentSpent("this intent was never recorded")
            if (row.tbs, row.issuer) != (intent.tbs, intent.issuer) or intent.signer.slug != intent.issuer:
                raise errors.IntentAltered("what is to be signed is not what was recorded")
            if not moved(session, intent.id, PREPARED, SIGNING, self._clock()):
                raise errors.IntentSpent("this intent was used or closed")

    def _sign(self, intent: Intent) -> bytes:
        signature = to_be_signed.sign(self._keystore.key(intent.signer.key_label), intent.tbs)
        if not to_be_signed.verify(intent.signer.public_key, intent.tbs, signature):
            raise errors.SignatureRefused("the token's signature does not verify; nothing was released")
        der = to_be_signed.assemble(intent.tbs, intent.signer.public_key, signature)
        if to_be_signed.tbs_of(der) != intent.tbs:
            raise errors.IntentAltered("the signed octets differ from the linted ones")
        return der

    def _enter(
        self, session: Session, intents: Sequence[Intent], signed: Sequence[bytes], actor: str
    ) -> tuple[IssuedCertificate, ...]:
        """The certificates as entered. What the register says of each is what was recorded before it was signed."""
        now = self._clock()
        moving = {"moved_to": ISSUED, "moved_from": SIGNING, "moved_at": now, "ids": [intent.id for intent in intents]}
        recorded = {row.id: row._asdict() for row in session.execute(_MOVE, moving)}
        if len(recorded) != len(intents):
            raise errors.IntentSpent("the intent was settled meanwhile; the certificate was not released")
        rows = [_certificate_row(recorded[intent.id], der, now) for intent, der in zip(intents, signed, strict=True)]
        session.execute(_INSERT_CERTIFICATE, rows)
        entries: list[tuple[str, dict[str, Fact]]] = [
            (row["id"], {**_facts(recorded[row["id"]]), "sha256": row["sha256"].hex()}) for row in rows
        ]
        self._audit.append_many(session, events.CERTIFICATE_ISSUED, actor=actor, entries=entries)
        return tuple(issued(CertificateRow(**row)) for row in rows)


# Statements of the hot path, made once: building one costs as much as running it.
_INTENTS = Base.metadata.tables[IntentRow.__tablename__]
_INSERT_INTENT = _INTENTS.insert()
_INSERT_CERTIFICATE = Base.metadata.tables[CertificateRow.__tablename__].insert()
# What an intent and the certificate that came of it have in common.
_CARRIED_OVER = (
    *("id", "issuer", "serial", "profile", "profile_version", "profile_digest", "holder", "evidence", "key_label"),
    *("spki_sha256", "not_before", "not_after"),
)
_MOVE = (
    _INTENTS.update()
    .where(_INTENTS.c.id.in_(bindparam("ids", expanding=True)), _INTENTS.c.state == bindparam("moved_from"))
    .values(state=bindparam("moved_to"), changed_at=bindparam("moved_at"))
    .returning(*(_INTENTS.c[name] for name in _CARRIED_OVER), _INTENTS.c.tbs)
)


def _intent_row(draft: _Draft, state: str, now: datetime) -> dict[str, Any]:
    intent, application = draft.intent, draft.application
    return {
        "id": intent.id,
        "issuer": intent.issuer,
        "serial": serial_number.octets(intent.serial),
        "state": state,
        "profile": application.profile.name,
        "profile_version": application.profile.version,
        "profile_digest": application.profile.digest,
        "holder": application.holder,
        "evidence": application.evidence,
        "key_label": application.key_label,
        "spki_sha256": application.spki_sha256,
        "not_before": draft.not_before,
        "not_after": draft.not_after,
        "tbs": intent.tbs,
        "recorded_at": now,
        "changed_at": now,
    }


def _certificate_row(recorded: Mapping[str, Any], der: bytes, now: datetime) -> dict[str, Any]:
    return {
        **{name: recorded[name] for name in _CARRIED_OVER},
        "sha256": hashlib.sha256(der).digest(),
        "der": der,
        "issued_at": now,
        "state": State.GOOD.value,
        "state_since": now,
        "revoked_at": None,
        "reason": None,
    }


def _check_signer(signer: Signer, now: datetime) -> None:
    """RFC 5280 6.1.3 (a)(2): what an authority signs outside its own time, nobody accepts."""
    if signer.not_before is not None and now < signer.not_before:
        raise errors.AuthorityNotYetValid(f"the certificate of {signer.slug} has not begun")
    if signer.not_after is not None and now > signer.not_after:
        raise errors.AuthorityExpired(f"the certificate of {signer.slug} has ended; a new generation is due")


def _check_key(application: Application, known: Mapping[bytes, KnownKey]) -> None:
    """What the register knows of a key, once more in the transaction that records the intent to certify it."""
    key = known.get(application.spki_sha256, UNKNOWN_KEY)
    if key.blocked:
        raise errors.KeyNotAccepted("this key was revoked as compromised", reason="key.blocked")
    if not application.profile.certifies_authority:
        if key.authorities:
            raise errors.KeyNotAccepted("this is the key of an authority", reason="key.authority")
    elif names.encode_name(application.subject) not in map(names.subject_of, key.authorities):
        raise errors.KeyNotAccepted("no authority of this name has this key", reason="key.not_authority")


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


def _facts(row: Mapping[str, Any]) -> dict[str, str | int]:
    return {
        "issuer": row["issuer"],
        "serial": serial_number.text(serial_number.from_octets(row["serial"])),
        "profile": row["profile"],
        "profile_version": row["profile_version"],
        "profile_digest": row["profile_digest"],
        "holder": row["holder"],
        "evidence": row["evidence"],
        "tbs_sha256": hashlib.sha256(row["tbs"]).hexdigest(),
    }
