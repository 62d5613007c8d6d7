"""Key ceremonies: one declarative file names every key and certificate that is to be, and is carried out once.

Each step is complete in itself and is passed over when it is done already, so a ceremony that was cut short goes on
where it stopped. A ceremony that was held is refused, and so is another plan under the same name. A later ceremony
builds on what earlier ones made: its issuers stand in the plan or in the hierarchy.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events
from ca.crl import Crls
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance, Signer
from ca.linting import Linter
from ca.register import IssuedCertificate, Register, State
from ca.registration import Registration, fitted_alternative_names, fitted_subject, known_profile
from ca.settings import CaSettings
from ca.tables import AuthorityRow, CeremonyRow
from ca.to_be_signed import PublicKey
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from core.logs import get_logger
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore
from policies import names

log = get_logger("ca.ceremony")

DEFAULT_PLAN = Path(__file__).parent / "ceremonies" / "first-generation.toml"
# pyca/cryptography counts octets when it reads an authority's name, as it does for each CRL.
MAX_AUTHORITY_NAME_OCTETS = 64


@dataclass(frozen=True)
class AuthorityStep:
    """An authority to be: its key is named by its slug. A root is its own issuer."""

    slug: str
    purpose: str
    issuer: str
    profile: str
    key: KeyAlgorithm
    subject: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CredentialStep:
    """A certificate for a key of our own that is no authority's."""

    label: str
    issuer: str
    profile: str
    key: KeyAlgorithm
    purpose: KeyPurpose
    subject: tuple[tuple[str, str], ...]
    alternative_names: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KeyStep:
    """A key that needs no certificate: the one that signs tokens is known by its place at ``jwks_uri``."""

    label: str
    key: KeyAlgorithm
    purpose: KeyPurpose


@dataclass(frozen=True)
class Plan:
    """A checked ceremony file."""

    name: str
    policy_url: str
    text: str
    authorities: tuple[AuthorityStep, ...]
    credentials: tuple[CredentialStep, ...]
    keys: tuple[KeyStep, ...]

    @property
    def sha256(self) -> str:
        """Digest of the file, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def lines(self) -> Iterator[str]:
        """What will be done, one line for each act."""
        for step in self.authorities:
            name = ", ".join(f"{label}={value}" for label, value in step.subject)
            yield f"authority   {step.slug:<24} {step.key:<6} {step.profile} signed by {step.issuer}: {name}"
        for credential in self.credentials:
            name = ", ".join(f"{label}={value}" for label, value in credential.subject)
            yield (
                f"credential  {credential.label:<24} {credential.key:<6} {credential.profile}"
                f" signed by {credential.issuer}: {name}"
            )
        for key in self.keys:
            yield f"key         {key.label:<24} {key.key:<6} {key.purpose}"
        for step in self.authorities:
            yield f"crl         {step.slug}"

    def token_keys(self) -> tuple[KeyStep, ...]:
        """Every key that will be in the token, an authority's under its slug."""
        signing = KeyPurpose.CERTIFICATE_SIGNING
        return (
            *(KeyStep(step.slug, step.key, signing) for step in self.authorities),
            *(KeyStep(step.label, step.key, step.purpose) for step in self.credentials),
            *self.keys,
        )


class Ceremony:
    """Reads plans and carries them out."""

    def __init__(
        self,
        *,
        settings: CaSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        keystore: Keystore,
        hierarchy: Hierarchy,
        registration: Registration,
        issuance: Issuance,
        register: Register,
        crls: Crls,
        linter: Linter,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._registration = registration
        self._issuance = issuance
        self._register = register
        self._crls = crls
        self._linter = linter

    def plan(self, path: Path | None = None) -> Plan:
        """Read and check a ceremony file; without a path the one that ships. Raises CeremonyPlanRefused."""
        try:
            text = (path or DEFAULT_PLAN).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise errors.CeremonyPlanRefused(f"the ceremony file {path} cannot be read") from error
        return read_plan(text, self._settings, self._is_established)

    def run_default(self, *, actor: str) -> Plan:
        """Hold the ceremony that ships."""
        plan = self.plan()
        self.hold(plan, actor=actor)
        return plan

    def hold(self, plan: Plan, *, actor: str) -> None:
        """Carry the plan out, or go on with it. Raises CeremonyHeld when it was held already."""
        self._check_keys(plan)
        self._begin(plan, actor)
        self._linter.warm_up()
        try:
            for step in plan.authorities:
                self._establish(step, plan, actor)
            for credential in plan.credentials:
                self._certify(credential, plan, actor)
            for key in plan.keys:
                self._key(key.label, key.purpose, key.key)
        except IntegrityError as error:
            raise errors.CeremonyHeld("another process holds this ceremony at the same moment") from error
        for step in plan.authorities:
            self._publish_first_crl(step.slug, actor)
        self._end(plan, actor)

    def _check_keys(self, plan: Plan) -> None:
        """A key that is there already, from this ceremony or an earlier one, must be what the plan says."""
        keys = self._keystore.keys()
        there = {key.label: (key.purpose, key.algorithm) for key in keys}
        for step in plan.token_keys():
            wanted = (step.purpose, step.key)
            if there.get(step.label, wanted) != wanted:
                raise errors.CeremonyPlanRefused(f"the token holds another kind of key under the name {step.label}")

    def _begin(self, plan: Plan, actor: str) -> None:
        with self._database.transaction() as session:
            row = session.get(CeremonyRow, plan.name)
            if row is None:
                self._record_beginning(session, plan, actor)
            elif row.held_at is not None:
                raise errors.CeremonyHeld(f"the ceremony {plan.name} was held on {row.held_at:%Y-%m-%d}")
            elif row.plan_sha256 != plan.sha256:
                raise errors.CeremonyHeld(f"the ceremony {plan.name} is under way by another plan")

    def _record_beginning(self, session: Session, plan: Plan, actor: str) -> None:
        slugs = [step.slug for step in plan.authorities]
        if session.scalars(select(AuthorityRow.slug).where(AuthorityRow.slug.in_(slugs))).first():
            raise errors.CeremonyHeld("an authority of this plan exists already; slugs are never used again")
        taken = [slug for slug in slugs if self._keystore.has(slug)]
        if taken:
            raise errors.CeremonyHeld(f"the token holds a key {taken[0]} that this database does not know")
        session.add(
            CeremonyRow(name=plan.name, plan_sha256=plan.sha256, plan=plan.text, begun_at=self._clock(), held_at=None)
        )
        facts = {"plan_sha256": plan.sha256, "policy_url": plan.policy_url}
        self._audit.append(session, events.CEREMONY_BEGUN, actor=actor, subject=plan.name, facts=facts)

    def _establish(self, step: AuthorityStep, plan: Plan, actor: str) -> None:
        if self._is_established(step.slug):
            return
        public_key = self._key(step.slug, KeyPurpose.CERTIFICATE_SIGNING, step.key)
        application = self._registration.own(
            profile=step.profile,
            public_key=public_key,
            key_label=step.slug,
            subject=dict(step.subject),
            evidence=f"ceremony:{plan.name}",
        )
        if step.issuer == step.slug:
            root = Signer.new_root(step.slug, public_key, names.encode_name(step.subject))
            intent = self._issuance.prepare_under(root, application, actor=actor)
        else:
            intent = self._issuance.prepare(application, actor=actor, issuer=step.issuer)
        self._issuance.issue(intent, actor=actor, entering=partial(self._enter_authority, step, actor))

    def _is_established(self, slug: str) -> bool:
        return any(authority.slug == slug for authority in self._hierarchy.authorities())

    def _enter_authority(
        self, step: AuthorityStep, actor: str, session: Session, certificate: IssuedCertificate
    ) -> None:
        session.add(
            AuthorityRow(
                slug=step.slug,
                purpose=step.purpose,
                key_label=step.slug,
                issuer=step.issuer,
                certificate_id=certificate.id,
                established_at=self._clock(),
            )
        )
        facts = {"certificate": certificate.id, "sha256": certificate.sha256}
        self._audit.append(session, events.AUTHORITY_ESTABLISHED, actor=actor, subject=step.slug, facts=facts)

    def _certify(self, step: CredentialStep, plan: Plan, actor: str) -> None:
        existing = self._register.certificates(profile=step.profile, issuer=step.issuer, state=State.GOOD)
        if any(certificate.key_label == step.label for certificate in existing):
            return
        application = self._registration.own(
            profile=step.profile,
            public_key=self._key(step.label, step.purpose, step.key),
            key_label=step.label,
            subject=dict(step.subject),
            alternative_names=step.alternative_names,
            evidence=f"ceremony:{plan.name}",
        )
        self._issuance.certify(application, actor=actor, issuer=step.issuer)

    def _key(self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> PublicKey:
        # The key of a step that was cut short is there already; its certificate is not.
        if self._keystore.has(label):
            return self._keystore.key(label).public_key()
        return self._keystore.generate(label, purpose, algorithm).public_key()

    def _publish_first_crl(self, slug: str, actor: str) -> None:
        try:
            self._crls.current(slug)
        except errors.CrlNotFound:
            self._crls.publish(slug, actor=actor)

    def _end(self, plan: Plan, actor: str) -> None:
        with self._database.transaction() as session:
            row = session.get_one(CeremonyRow, plan.name)
            row.held_at = self._clock()
            facts: dict[str, Fact] = {
                "plan_sha256": plan.sha256,
                "authorities": [step.slug for step in plan.authorities],
                "keys": [f"{step.label} {self._spki_sha256(step.label)}" for step in plan.keys],
            }
            self._audit.append(session, events.CEREMONY_HELD, actor=actor, subject=plan.name, facts=facts)
        log.info("ceremony_held", ceremony=plan.name)

    def _spki_sha256(self, label: str) -> str:
        # A certificate's key is on record with the certificate; this is the record of one without.
        public_key = self._keystore.key(label).public_key()
        return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_plan(text: str, settings: CaSettings, is_established: Callable[[str], bool] = lambda _slug: False) -> Plan:
    """A ceremony file as a plan, its names checked against the profiles. Raises CeremonyPlanRefused.

    ``is_established`` says whether there is an authority of that slug, from an earlier ceremony.
    """
    try:
        document = tomllib.loads(text)
        if document["kind"] != "hierarchy" or not document["policy_url"]:
            raise errors.CeremonyPlanRefused("kind must be hierarchy, and policy_url names the practice statement")
        words = {"{host}": urlsplit(settings.oidc_issuer).hostname or "", "{issuer}": settings.oidc_issuer}
        organisation = {"C": settings.country, **document["organisation"]}
        plan = Plan(
            name=document["name"],
            policy_url=document["policy_url"],
            text=text,
            authorities=tuple(_authority_step(item, organisation) for item in document.get("authority", ())),
            credentials=tuple(_credential_step(item, organisation, words) for item in document.get("credential", ())),
            keys=tuple(_key_step(item) for item in document.get("key", ())),
        )
    except errors.RefusedByPolicy as refusal:
        raise errors.CeremonyPlanRefused(f"the ceremony file is refused: {refusal.detail}") from refusal
    except errors.ProfileNotFound as error:
        raise errors.CeremonyPlanRefused(error.detail) from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise errors.CeremonyPlanRefused(f"the ceremony file is malformed: {error}") from error
    _check_labels(plan)
    _check_order(plan, is_established)
    return plan


def _authority_step(item: Mapping[str, Any], organisation: Mapping[str, str]) -> AuthorityStep:
    subject = _subject(item, organisation)
    if any(len(value.encode()) > MAX_AUTHORITY_NAME_OCTETS for _, value in subject):
        raise errors.CeremonyPlanRefused(f"a name of {item['slug']} is longer than 64 octets")
    return AuthorityStep(
        slug=item["slug"],
        purpose=item["purpose"],
        issuer=item.get("issuer", item["slug"]),
        profile=item["profile"],
        key=KeyAlgorithm(item["key"]),
        subject=subject,
    )


def _credential_step(
    item: Mapping[str, Any], organisation: Mapping[str, str], words: Mapping[str, str]
) -> CredentialStep:
    given = [(name["kind"], words.get(name["value"], name["value"])) for name in item.get("alternative_names", ())]
    return CredentialStep(
        label=item["label"],
        issuer=item["issuer"],
        profile=item["profile"],
        key=KeyAlgorithm(item["key"]),
        purpose=KeyPurpose(item["purpose"]),
        subject=_subject(
            {**item, "subject": {label: words.get(value, value) for label, value in item["subject"].items()}},
            organisation,
        ),
        alternative_names=fitted_alternative_names(known_profile(item["profile"]), given),
    )


def _key_step(item: Mapping[str, Any]) -> KeyStep:
    step = KeyStep(item["label"], KeyAlgorithm(item["key"]), KeyPurpose(item["purpose"]))
    if step.purpose is not KeyPurpose.TOKEN_SIGNING:
        raise errors.CeremonyPlanRefused(f"{step.label}: only a key that signs tokens goes without a certificate")
    return step


def _subject(item: Mapping[str, Any], organisation: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The step's own attributes over those of the organisation that the profile takes."""
    profile = known_profile(item["profile"])
    shared = {label: value for label, value in organisation.items() if profile.attribute(label)}
    return fitted_subject(profile, {**shared, **item["subject"]})


def _check_labels(plan: Plan) -> None:
    labels = [step.label for step in plan.token_keys()]
    if not labels:
        raise errors.CeremonyPlanRefused("the ceremony file makes nothing")
    if len(set(labels)) < len(labels):
        raise errors.CeremonyPlanRefused("two steps of the ceremony file make a key of the same name")


def _check_order(plan: Plan, is_established: Callable[[str], bool]) -> None:
    known: set[str] = set()
    for step in plan.authorities:
        if step.issuer not in known | {step.slug} and not is_established(step.issuer):
            raise errors.CeremonyPlanRefused(f"{step.issuer}, which signs {step.slug}, does not stand before it")
        known.add(step.slug)
    for credential in plan.credentials:
        if credential.issuer not in known and not is_established(credential.issuer):
            raise errors.CeremonyPlanRefused(f"there is no authority {credential.issuer} to sign {credential.label}")
