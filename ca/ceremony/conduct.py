"""Holding a ceremony: the plan's steps, one after the other, each recorded in the transcript when it is done.

Each step is complete in itself and is passed over when it is done already, so a ceremony that was cut short goes on
where it stopped. A ceremony that was held is refused, and so is another plan under the same name. A later ceremony
builds on what earlier ones made: its issuers stand in the plan or in the hierarchy.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number, to_be_signed
from ca.ceremony.addresses import Addresses
from ca.ceremony.approval import Approval, check_quorum
from ca.ceremony.plan import (
    DEFAULT_PLAN,
    AcceptanceStep,
    AuthorityStep,
    CredentialStep,
    CrlStep,
    CrossStep,
    DestructionStep,
    KeyStep,
    Plan,
    RequestStep,
    Step,
    read_file,
    read_plan,
)
from ca.ceremony.transcript import CLOSED, OPENED, SIGNED, Transcript, signed_message, stamp
from ca.crl import Crls
from ca.hierarchy import Hierarchy, usage_ends
from ca.issuance import Issuance, Signer
from ca.linting import Linter
from ca.register import IssuedCertificate, Register, State, issued
from ca.registration import Application, Registration
from ca.serial_number import SERIAL_OCTETS
from ca.settings import CaSettings
from ca.subordination import Subordination
from ca.tables import AuthorityRow, CeremonyRow, CertificateRow, FurtherCertificateRow
from ca.to_be_signed import PublicKey
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from core.logs import get_logger
from hsm.keystore import KeyAlgorithm, KeyInformation, KeyPurpose, Keystore
from policies import names
from policies.profiles import load_profile

log = get_logger("ca.ceremony")

Confirm = Callable[[Step], None]


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
        subordination: Subordination,
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
        self._subordination = subordination

    def plan(self, path: Path | None = None) -> Plan:
        """Read and check a ceremony file; without a path the one that ships. Raises CeremonyPlanRefused."""
        return self.read(read_file(path or DEFAULT_PLAN))

    def read(self, text: str) -> Plan:
        """A ceremony file's text as a plan for this installation. Raises CeremonyPlanRefused."""
        return read_plan(text, self._settings, self._is_established)

    def run_default(self, *, actor: str) -> Plan:
        """Hold the ceremony that ships."""
        plan = self.plan()
        self.hold(plan, actor=actor)
        return plan

    def hold(
        self,
        plan: Plan,
        *,
        actor: str,
        approvals: Sequence[Approval] = (),
        transcript: Transcript | None = None,
        confirm: Confirm = lambda _step: None,
        rehearsal: bool = False,
    ) -> Transcript:
        """Carry the plan out, or go on with it, and give the transcript.

        ``confirm`` is called before each step that is not done yet; what it raises interrupts the ceremony. A
        ``rehearsal`` needs no approvals, since they are given to what was rehearsed; its transcript says so.

        Raises CeremonyHeld when it was held already; QuorumRequired, NoQuorum, PlanEdited, ForeignCustodian,
        DuplicateCustodian and ApprovalForged before anything is done.
        """
        self.check_startable(plan, approvals, rehearsal=rehearsal)
        self._begin(plan, actor)
        transcript = transcript or Transcript()
        self._open(transcript, plan, approvals, actor, rehearsal)
        self._linter.warm_up()
        for step in plan.steps:
            if transcript.find(*entry_of(step)) is None:
                if not self._is_done(step):
                    confirm(step)
                self._carry_out(step, plan, transcript, actor)
        self._close(transcript, plan)
        self._end(plan, transcript, actor)
        return transcript

    def check_startable(self, plan: Plan, approvals: Sequence[Approval], *, rehearsal: bool = False) -> None:
        """Whether ``hold`` would begin, or go on; changes nothing and raises as it does."""
        if not rehearsal:
            self.check_approved(plan, approvals)
        self.check_fits(plan)
        self._check_keys(plan)
        with self._database.reading() as session:
            self._check_not_held(session, plan)

    def check_approved(self, plan: Plan, approvals: Sequence[Approval]) -> None:
        """Whether enough custodians approved this plan. Without custodians only development goes on."""
        if not plan.quorum.approvals and not self._settings.development:
            raise errors.QuorumRequired("this ceremony file names no custodians; outside of development it must")
        check_quorum(plan, approvals)

    def check_fits(self, plan: Plan) -> None:
        """Whether the plan is meant for this installation: its addresses and its token. Raises CeremonyPlanRefused."""
        here = Addresses.of(self._settings)
        if plan.addresses is not None and plan.addresses != here:
            wrong = sorted(name for name, value in here.table().items() if plan.addresses.table()[name] != value)
            raise errors.CeremonyPlanRefused(f"the plan's addresses are not this installation's: {', '.join(wrong)}")
        if any(serial >> 8 * (SERIAL_OCTETS - 1) != self._settings.instance for serial in plan.serials()):
            raise errors.CeremonyPlanRefused("a serial number drawn in advance begins with this installation's octet")
        if plan.token is not None and plan.token != self._keystore.status().label:
            raise errors.CeremonyPlanRefused(f"the plan is for the token {plan.token}")

    def _check_keys(self, plan: Plan) -> None:
        """A key that is there already, from this ceremony or an earlier one, must be what the plan says."""
        there = {found.label: (found.purpose, found.algorithm) for found in self._keystore.keys()}  # noqa: SIM118
        for step in plan.token_keys():
            wanted = (step.purpose, step.key)
            if there.get(step.label, wanted) != wanted:
                raise errors.CeremonyPlanRefused(f"the token holds another kind of key under the name {step.label}")

    def _begin(self, plan: Plan, actor: str) -> None:
        with self._database.transaction() as session:
            if not self._check_not_held(session, plan):
                self._record_beginning(session, plan, actor)

    def _check_not_held(self, session: Session, plan: Plan) -> bool:
        """Whether this very plan is under way. Raises CeremonyHeld when it was held, or another has its name."""
        row = session.get(CeremonyRow, plan.name)
        if row is not None and row.held_at is not None:
            raise errors.CeremonyHeld(f"the ceremony {plan.name} was held on {row.held_at:%Y-%m-%d}")
        if row is not None and row.plan_sha256 != plan.sha256:
            raise errors.CeremonyHeld(f"the ceremony {plan.name} is under way by another plan")
        return row is not None

    def _record_beginning(self, session: Session, plan: Plan, actor: str) -> None:
        slugs = [step.slug for step in plan.authorities]
        if session.scalars(select(AuthorityRow.slug).where(AuthorityRow.slug.in_(slugs))).first():
            raise errors.CeremonyHeld("an authority of this plan exists already; slugs are never used again")
        taken = [slug for slug in slugs if self._keystore.has(slug)]
        if taken:
            raise errors.CeremonyHeld(f"the token holds a key {taken[0]} that this database does not know")
        self._check_fresh(plan)
        session.add(
            CeremonyRow(name=plan.name, plan_sha256=plan.sha256, plan=plan.text, begun_at=self._clock(), held_at=None)
        )
        facts = {"plan_sha256": plan.sha256, "policy_url": plan.policy_url}
        self._audit.append(session, events.CEREMONY_BEGUN, actor=actor, subject=plan.name, facts=facts)

    def _check_fresh(self, plan: Plan) -> None:
        """What a step would make is not there yet, and what it would destroy is."""
        for step in plan.steps:
            if isinstance(step, CredentialStep) and self._credential(step) is not None:
                raise errors.CeremonyHeld(f"{step.label} has a certificate of {step.issuer} already")
            if isinstance(step, CrossStep | AcceptanceStep) and self._is_slug_taken(step.slug):
                raise errors.CeremonyHeld(f"the slug {step.slug} is taken; slugs are never used again")
            if isinstance(step, DestructionStep) and not self._keystore.has(step.label):
                raise errors.CeremonyPlanRefused(f"the token holds no key {step.label}")
            if isinstance(step, AuthorityStep) and self._further(step.slug) is not None:
                raise errors.CeremonyHeld(f"a certificate has the slug {step.slug}; slugs are never used again")

    def _is_slug_taken(self, slug: str) -> bool:
        return self._is_established(slug) or self._further(slug) is not None

    # The transcript -------------------------------------------------------------------------------------------------

    def _open(
        self, transcript: Transcript, plan: Plan, approvals: Sequence[Approval], actor: str, rehearsal: bool
    ) -> None:
        opened = transcript.find(OPENED, plan.name)
        if opened is not None or transcript.lines:
            if opened is None or opened.output["plan_sha256"] != plan.sha256:
                raise errors.CeremonyHeld("the transcript file belongs to another ceremony")
            return
        token = self._keystore.status()
        output: dict[str, Any] = {
            "plan": plan.text,
            "plan_sha256": plan.sha256,
            "rehearsal": rehearsal,
            "addresses": Addresses.of(self._settings).table(),
            "profiles": {name: load_profile(name, version).digest for name, version in _profiles(plan)},
            "approvals": [approval.document() for approval in approvals],
            "standing": {slug: encoded(self._hierarchy.authority(slug).der) for slug in sorted(plan.standing())},
            "token": {
                "label": token.label,
                "serial": token.serial,
                "model": token.model,
                "library": token.library,
                "library_version": token.library_version,
            },
            "release": metadata.version("tamga"),
            "actor": actor,
        }
        transcript.append(self._clock, OPENED, plan.name, f"hold the ceremony {plan.name}", output)

    def _close(self, transcript: Transcript, plan: Plan) -> None:
        closed = transcript.find(CLOSED, plan.name)
        if closed is None:
            output = {"plan_sha256": plan.sha256, "lines": len(transcript.lines) + 1}
            closed = transcript.append(self._clock, CLOSED, plan.name, f"close the ceremony {plan.name}", output)
        label = plan.signing_label
        if label is not None and transcript.find(SIGNED, label) is None:
            key = self._keystore.key(label)
            signature = to_be_signed.sign(key, signed_message(closed))
            output = {"spki": encoded(_spki(key.public_key())), "signature": encoded(signature)}
            transcript.append(self._clock, SIGNED, label, f"sign this transcript with {label}", output)

    def _end(self, plan: Plan, transcript: Transcript, actor: str) -> None:
        closed = transcript.find(CLOSED, plan.name)
        assert closed is not None  # noqa: S101 - written just before
        with self._database.transaction() as session:
            row = session.get_one(CeremonyRow, plan.name)
            row.held_at = self._clock()
            facts: dict[str, Fact] = {
                "plan_sha256": plan.sha256,
                "transcript": closed.hash,
                "authorities": [step.slug for step in plan.authorities],
                "keys": [f"{step.label} {self._spki_sha256(step.label)}" for step in plan.keys],
            }
            self._audit.append(session, events.CEREMONY_HELD, actor=actor, subject=plan.name, facts=facts)
        log.info("ceremony_held", ceremony=plan.name)

    # The steps ------------------------------------------------------------------------------------------------------

    def _is_done(self, step: Step) -> bool:
        """Whether a step was done before the ceremony was cut short, so that only its line is missing."""
        if isinstance(step, AuthorityStep):
            return self._is_established(step.slug)
        if isinstance(step, CredentialStep):
            return self._credential(step) is not None
        if isinstance(step, CrossStep | AcceptanceStep):
            return self._further(step.slug) is not None
        return isinstance(step, KeyStep) and self._keystore.has(step.label)

    def _carry_out(self, step: Step, plan: Plan, transcript: Transcript, actor: str) -> None:
        try:
            output = self._outcome(step, plan, transcript, actor)
        except IntegrityError as error:
            raise errors.CeremonyHeld("another process holds this ceremony at the same moment") from error
        act, subject = entry_of(step)
        transcript.append(self._clock, act, subject, step.line(), output)

    def _outcome(self, step: Step, plan: Plan, transcript: Transcript, actor: str) -> Mapping[str, Any]:
        """Do the step and say what everybody may see of it."""
        match step:
            case AuthorityStep():
                self._recorded_key(step.slug, KeyPurpose.CERTIFICATE_SIGNING, step.key, transcript)
                self._establish(step, plan, actor)
                return _certificate(self._register.get(self._hierarchy.authority(step.slug).certificate_id))
            case CredentialStep():
                self._recorded_key(step.label, step.purpose, step.key, transcript)
                return _certificate(self._certify(step, plan, actor))
            case CrossStep():
                return _certificate(self._cross(step, plan, actor))
            case KeyStep():
                self._recorded_key(step.label, step.purpose, step.key, transcript)
                return {"spki_sha256": self._spki_sha256(step.label)}
            case RequestStep():
                return {"request": encoded(self._subordination.request(step.authority, actor=actor))}
            case AcceptanceStep():
                self._accept(step, actor)
                return {"sha256": hashlib.sha256(self._hierarchy.certificate_at(step.slug)).hexdigest()}
            case CrlStep():
                return self._crl(step, plan, actor)
            case DestructionStep():
                return self._destroy(step, actor)

    def _recorded_key(
        self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm, transcript: Transcript
    ) -> PublicKey:
        """The key, made unless it is there, and its line: the public half and what the token says about the other."""
        public_key = self._key(label, purpose, algorithm)
        if transcript.find("key", label) is None:
            found = self._found(label)
            assert found is not None  # noqa: S101 - made just before
            output = {
                "purpose": str(purpose),
                "algorithm": str(algorithm),
                "spki": encoded(_spki(public_key)),
                "key_id": found.key_id,
                "attributes": asdict(found.attributes),
            }
            transcript.append(self._clock, "key", label, f"make the key {label} ({algorithm}) in the token", output)
        return public_key

    def _establish(self, step: AuthorityStep, plan: Plan, actor: str) -> None:
        if self._is_established(step.slug):
            return
        public_key = self._key(step.slug, KeyPurpose.CERTIFICATE_SIGNING, step.key)
        application = self._registration.own(
            profile=step.terms.profile,
            public_key=public_key,
            key_label=step.slug,
            subject=dict(step.subject),
            evidence=f"ceremony:{plan.name}",
        )
        if step.is_root:
            signer = Signer.new_root(step.slug, public_key, names.encode_name(step.subject))
        else:
            signer = self._signer(step.issuer)
        intent = self._issuance.prepare_under(
            signer, application, actor=actor, validity=step.terms.lasting, serial=step.terms.serial
        )
        self._issuance.issue(intent, actor=actor, entering=partial(self._enter_authority, step, actor))

    def _signer(self, slug: str) -> Signer:
        self._hierarchy.check_in_force(slug)
        return Signer.of(self._hierarchy.authority(slug))

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
                retired_at=None,
            )
        )
        facts = {"certificate": certificate.id, "sha256": certificate.sha256}
        self._audit.append(session, events.AUTHORITY_ESTABLISHED, actor=actor, subject=step.slug, facts=facts)

    def _credential(self, step: CredentialStep) -> IssuedCertificate | None:
        existing = self._register.certificates(profile=step.terms.profile, issuer=step.issuer, state=State.GOOD)
        return next((certificate for certificate in existing if certificate.key_label == step.label), None)

    def _certify(self, step: CredentialStep, plan: Plan, actor: str) -> IssuedCertificate:
        existing = self._credential(step)
        if existing is not None:
            return existing
        application = self._registration.own(
            profile=step.terms.profile,
            public_key=self._key(step.label, step.purpose, step.key),
            key_label=step.label,
            subject=dict(step.subject),
            alternative_names=step.alternative_names,
            evidence=f"ceremony:{plan.name}",
        )
        self._hierarchy.check_in_force(step.issuer, for_status=application.profile.ocsp_no_check)
        intent = self._issuance.prepare_under(
            Signer.of(self._hierarchy.authority(step.issuer)),
            application,
            actor=actor,
            validity=step.terms.lasting,
            serial=step.terms.serial,
        )
        return self._issuance.issue(intent, actor=actor)

    def _cross(self, step: CrossStep, plan: Plan, actor: str) -> IssuedCertificate:
        done = self._further(step.slug)
        if done is not None:
            return self._register.by_der(done)
        target = self._hierarchy.authority(step.authority)
        self._hierarchy.check_in_force(target.slug)
        application = Application(
            profile=load_profile(step.terms.profile, step.terms.version),
            public_key=target.public_key,
            spki=_spki(target.public_key),
            # K40: subject, key and key identifier are those of the authority, octet for octet.
            subject=names.read_name(target.name),
            alternative_names=(),
            holder=f"service:{target.key_label}",
            evidence=f"ceremony:{plan.name}",
            key_label=target.key_label,
        )
        if names.encode_name(application.subject) != target.name:
            raise errors.CeremonyPlanRefused(f"the name of {target.slug} cannot be repeated octet for octet")
        intent = self._issuance.prepare_under(
            self._signer(step.issuer), application, actor=actor, validity=step.terms.lasting, serial=step.terms.serial
        )
        return self._issuance.issue(intent, actor=actor, entering=partial(self._enter_cross, step, actor))

    def _enter_cross(self, step: CrossStep, actor: str, session: Session, certificate: IssuedCertificate) -> None:
        session.add(
            FurtherCertificateRow(
                slug=step.slug,
                authority=step.authority,
                issuer=step.issuer,
                der=certificate.der,
                chain=b"",
                served=False,
                entered_at=self._clock(),
            )
        )
        facts = {"issuer": step.issuer, "certificate": certificate.id, "sha256": certificate.sha256, "slug": step.slug}
        self._audit.append(session, events.CROSS_CERTIFIED, actor=actor, subject=step.authority, facts=facts)

    def _further(self, slug: str) -> bytes | None:
        return next((each.der for each in self._hierarchy.further_certificates() if each.slug == slug), None)

    def _accept(self, step: AcceptanceStep, actor: str) -> None:
        if self._further(step.slug) is None:
            self._subordination.accept(
                step.authority,
                slug=step.slug,
                certificate=step.certificate.encode(),
                chain=step.chain.encode(),
                served=step.served,
                actor=actor,
            )

    def _key(self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> PublicKey:
        # The key of a step that was cut short is there already; its certificate is not.
        if self._keystore.has(label):
            return self._keystore.key(label).public_key()
        return self._keystore.generate(label, purpose, algorithm).public_key()

    def _found(self, label: str) -> KeyInformation | None:
        return next((found for found in self._keystore.keys() if found.label == label), None)  # noqa: SIM118

    def _crl(self, step: CrlStep, plan: Plan, actor: str) -> Mapping[str, Any]:
        """A new authority's first CRL is published once; one that the plan asks for, in any case."""
        try:
            if plan.kind == "crl":
                raise errors.CrlNotFound
            crl = self._crls.current(step.issuer)
        except errors.CrlNotFound:
            crl = self._crls.publish(step.issuer, actor=actor)
        return {"crl": encoded(crl.der), "sha256": crl.sha256, "entries": crl.entries}

    def _destroy(self, step: DestructionStep, actor: str) -> Mapping[str, Any]:
        found = self._found(step.label)
        if found is not None and found.key_id != step.key_id:
            raise errors.CeremonyPlanRefused(f"the token's key {step.label} is not the one the plan means")
        if found is not None:
            self._check_unused(step)
            with self._database.transaction() as session:
                facts = {"key_id": step.key_id}
                self._audit.append(session, events.KEY_DESTROYED, actor=actor, subject=step.label, facts=facts)
            self._keystore.destroy(step.label)
        return {"key_id": step.key_id}

    def _check_unused(self, step: DestructionStep) -> None:
        """Refuse while the key still speaks for something. Raises KeyInUse."""
        now = self._clock()
        authorities = {authority.key_label: authority for authority in self._hierarchy.authorities()}
        authority = authorities.get(step.label)
        if authority is not None and authority.retired_at is None:
            raise errors.KeyInUse(f"{step.label} is an authority that was not retired")
        signed = CertificateRow.issuer == authority.slug if authority else CertificateRow.key_label == step.label
        good = select(CertificateRow).where(signed, CertificateRow.state == State.GOOD.value)
        with self._database.reading() as session:
            living = session.scalars(good.where(CertificateRow.not_after >= now)).all()
        # A unit's certificate outlives its key, which is to be destroyed then (EN 319 421 7.6.7).
        if any(authority is not None or usage_ends(issued(row)) >= now for row in living):
            raise errors.KeyInUse(f"{step.label} still speaks for certificates in force")

    def _spki_sha256(self, label: str) -> str:
        # A certificate's key is on record with the certificate; this is the record of one without.
        return hashlib.sha256(_spki(self._keystore.key(label).public_key())).hexdigest()


def encoded(octets: bytes) -> str:
    """Octets as a transcript keeps them."""
    return base64.b64encode(octets).decode()


def entry_of(step: Step) -> tuple[str, str]:
    """Act and subject of the line that says the step is done."""
    acts: Mapping[type[Step], str] = {
        AuthorityStep: "certificate",
        CrossStep: "certificate",
        CredentialStep: "certificate",
        KeyStep: "public-key",
        RequestStep: "request",
        AcceptanceStep: "acceptance",
        CrlStep: "crl",
        DestructionStep: "destruction",
    }
    return acts[type(step)], step.name



def _profiles(plan: Plan) -> list[tuple[str, int]]:
    steps = (step for step in plan.steps if isinstance(step, AuthorityStep | CrossStep | CredentialStep))
    return sorted({(step.terms.profile, step.terms.version) for step in steps})


def _certificate(made: IssuedCertificate) -> Mapping[str, Any]:
    return {
        "issuer": made.issuer,
        "profile": made.profile,
        "profile_version": made.profile_version,
        "serial": serial_number.text(made.serial),
        "not_before": stamp(made.not_before),
        "not_after": stamp(made.not_after),
        "tbs_sha256": hashlib.sha256(to_be_signed.tbs_of(made.der)).hexdigest(),
        "sha256": made.sha256,
        "certificate": encoded(made.der),
    }


def _spki(public_key: PublicKey) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

