"""The registration authority: applications are submitted, approved or rejected, and issued (RFC 3647 4.1-4.3).

    submitted ──approve──▶ approved ──▶ issued
        └──────reject──▶ rejected ◀──┘  a rule refuses the certificate after all

Approval and issuance are one act for whoever approves. When it is cut short in between, the application stays approved,
and ``issue_pending`` finishes it: the register's entry and the step to ``issued`` are one transaction.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca import errors as ca_errors
from ca.applications import errors, events
from ca.applications.tables import ApplicationRow
from ca.issuance import Issuance
from ca.register import IssuedCertificate, Register
from ca.registration import Application as CheckedApplication
from ca.registration import Registration, known_profile
from core.audit import AuditLog, canonical
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from policies.profiles import CertificateProfile

log = get_logger("ca.applications")

SUBMITTED, APPROVED, REJECTED, ISSUED = "submitted", "approved", "rejected", "issued"
STATES = (SUBMITTED, APPROVED, REJECTED, ISSUED)
# An issuance that was begun and not ended by then is begun anew; longer than an intent lives.
ISSUING = timedelta(minutes=5)
MAX_LISTED = 1000
MAX_REASON, MAX_EVIDENCE, MAX_HOLDER = 200, 200, 200
# What a rule will refuse tomorrow, too. Everything else (token away, no authority, profile not approved) may pass.
FINAL_REFUSALS = (
    ca_errors.CsrMalformed,
    ca_errors.ProofOfPossessionFailed,
    ca_errors.KeyNotAccepted,
    ca_errors.SubjectRefused,
    ca_errors.LintRefused,
    ca_errors.ProfileNotOpen,
)


@dataclass(frozen=True)
class Asked:
    """What somebody applies for. ``subject`` maps labels to text; ``alternative_names`` are pairs of kind and text;
    ``csr`` is PKCS #10; ``evidence`` refers to the record of the identity's proof."""

    profile: str
    csr: bytes = field(repr=False)
    subject: Mapping[str, str] = field(repr=False)
    alternative_names: tuple[tuple[str, str], ...]
    holder: str
    evidence: str

    @property
    def sha256(self) -> bytes:
        """By which the same application is known when it comes again."""
        document = {
            "profile": self.profile,
            "csr": hashlib.sha256(self.csr).hexdigest(),
            "subject": dict(self.subject),
            "alternative_names": [list(pair) for pair in self.alternative_names],
            "holder": self.holder,
            "evidence": self.evidence,
        }
        return hashlib.sha256(canonical(document)).digest()


@dataclass(frozen=True)
class Application:
    """An application as it stands. ``applicant`` is the client or officer who submitted it."""

    id: str
    asked: Asked
    applicant: str
    state: str
    submitted_at: datetime
    changed_at: datetime
    decided_by: str | None
    reason: str | None
    certificate_id: str | None


class Applications:
    """Takes applications and carries out what was decided about them."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        registration: Registration,
        issuance: Issuance,
        register: Register,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._registration = registration
        self._issuance = issuance
        self._register = register

    def submit(self, asked: Asked, *, applicant: str, idempotency_key: str | None = None) -> Application:
        """Check and keep an application. The same one under the same key is not kept twice.

        Raises IdempotencyKeyReused, EvidenceMissing, and what ``Registration.apply`` raises.
        """
        earlier = self._earlier(asked, applicant, idempotency_key)
        if earlier is not None:
            return earlier
        self._checked(asked)
        row = self._row(asked, applicant, idempotency_key)
        try:
            with self._database.transaction() as session:
                session.add(row)
                facts = {"profile": row.profile, "holder": row.holder, "evidence": row.evidence}
                event = events.APPLICATION_SUBMITTED
                self._audit.append(session, event, actor=applicant, subject=row.id, facts=facts)
        except IntegrityError as error:
            # The same key at the same moment: one of the two was first.
            earlier = self._earlier(asked, applicant, idempotency_key)
            if earlier is None:
                raise ca_errors.RefusedByPolicy("the application cannot be kept") from error
            return earlier
        return _view(row)

    def get(self, application_id: str, *, applicant: str | None = None) -> Application:
        """The application of this id, of this applicant if one is named. Raises ApplicationNotFound."""
        with self._database.reading() as session:
            row = session.get(ApplicationRow, application_id)
        if row is None or applicant not in (None, row.applicant):
            raise errors.ApplicationNotFound("there is no such application")
        return _view(row)

    def all(self, *, state: str | None = None, profile: str | None = None, holder: str | None = None,
            limit: int = MAX_LISTED) -> tuple[Application, ...]:  # fmt: skip
        """Applications that fit every filter given, oldest first, at most ``limit`` (1,000)."""
        query = select(ApplicationRow)
        for column, value in (
            (ApplicationRow.state, state),
            (ApplicationRow.profile, profile),
            (ApplicationRow.holder, holder),
        ):
            if value is not None:
                query = query.where(column == value)
        query = query.order_by(ApplicationRow.submitted_at, ApplicationRow.id).limit(min(limit, MAX_LISTED))
        with self._database.reading() as session:
            return tuple(map(_view, session.scalars(query)))

    def approve(self, application_id: str, *, actor: str) -> IssuedCertificate:
        """Approve and issue. The rules are asked again, since a key may have been blocked meanwhile.

        Raises ApplicationNotFound, OwnApplication, ApplicationDecided, ApplicationPending (approved, to be issued
        later), and what ``Registration.apply`` raises.
        """
        checked = self._checked(self.get(application_id).asked)
        with self._database.transaction() as session:
            row = _locked(session, application_id)
            _check_undecided(row)
            if row.applicant == actor:
                raise errors.OwnApplication("nobody approves what he applied for himself")
            row.state, row.decided_by, row.changed_at = APPROVED, actor, self._clock()
            row.issuing_until = row.changed_at + ISSUING
            facts = {"profile": row.profile, "holder": row.holder, "evidence": row.evidence}
            self._audit.append(session, events.APPLICATION_APPROVED, actor=actor, subject=row.id, facts=facts)
        return self._issue(application_id, checked, actor)

    def reject(self, application_id: str, *, actor: str, reason: str) -> Application:
        """Turn an application down; its applicant may withdraw it so. Raises ApplicationNotFound, ApplicationDecided,
        ReasonMissing."""
        if not 1 <= len(reason.strip()) <= MAX_REASON or not reason.isprintable():
            raise errors.ReasonMissing(f"a rejection says why, in one line of at most {MAX_REASON} characters")
        with self._database.transaction() as session:
            row = _locked(session, application_id)
            _check_undecided(row)
            self._reject(session, row, actor, reason)
            return _view(row)

    def issue_pending(self, *, actor: str) -> tuple[tuple[str, IssuedCertificate | CodedError], ...]:
        """Issue what is approved and was cut short. What fails is returned in its place and stops no other."""
        results: list[tuple[str, IssuedCertificate | CodedError]] = []
        for application in self.all(state=APPROVED):
            if not self._begin(application.id):
                continue
            try:
                certificate = self._issue(application.id, None, application.decided_by or actor)
                results.append((application.id, certificate))
            except CodedError as error:
                results.append((application.id, error))
        return tuple(results)

    def certificate(self, application: Application) -> IssuedCertificate | None:
        """The certificate that came of it."""
        return self._register.get(application.certificate_id) if application.certificate_id else None

    def _checked(self, asked: Asked) -> CheckedApplication:
        if len(asked.evidence) > MAX_EVIDENCE or len(asked.holder) > MAX_HOLDER:
            raise ca_errors.EvidenceMissing(f"evidence and holder have at most {MAX_EVIDENCE} characters")
        return self._registration.apply(
            profile=asked.profile,
            csr=asked.csr,
            subject=asked.subject,
            alternative_names=asked.alternative_names,
            holder=asked.holder,
            evidence=asked.evidence,
        )

    def _issue(self, application_id: str, checked: CheckedApplication | None, actor: str) -> IssuedCertificate:
        """Issue what is approved and held by this caller's ``issuing_until``."""

        def enter(session: Session, certificate: IssuedCertificate) -> None:
            done = session.execute(
                update(ApplicationRow)
                .where(ApplicationRow.id == application_id, ApplicationRow.state == APPROVED)
                .values(state=ISSUED, certificate_id=certificate.id, changed_at=self._clock(), issuing_until=None)
            )
            assert isinstance(done, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
            if done.rowcount != 1:
                raise errors.ApplicationDecided("the application was settled meanwhile; this certificate was withdrawn")
            facts = {"certificate": certificate.id, "serial": certificate.serial_text, "issuer": certificate.issuer}
            self._audit.append(session, events.APPLICATION_ISSUED, actor=actor, subject=application_id, facts=facts)

        try:
            checked = checked or self._checked(self.get(application_id).asked)
            return self._issuance.issue(self._issuance.prepare(checked, actor=actor), actor=actor, entering=enter)
        except FINAL_REFUSALS as refusal:
            self._refuse(application_id, actor, refusal)
            raise
        except errors.ApplicationDecided:
            raise
        except CodedError as error:
            self._let_go(application_id)
            log.warning("application_pending", application=application_id, code=error.code)
            raise errors.ApplicationPending(
                f"approved, but not issued yet: {error.detail or error.code}; tamga application issue", cause=error.code
            ) from error

    def _refuse(self, application_id: str, actor: str, refusal: CodedError) -> None:
        with self._database.transaction() as session:
            row = _locked(session, application_id)
            if row.state == APPROVED:
                self._reject(session, row, actor, refusal.code)

    def _reject(self, session: Session, row: ApplicationRow, actor: str, reason: str) -> None:
        row.state, row.decided_by, row.reason = REJECTED, actor, reason
        row.changed_at, row.issuing_until = self._clock(), None
        facts = {"reason": reason}
        self._audit.append(session, events.APPLICATION_REJECTED, actor=actor, subject=row.id, facts=facts)

    def _begin(self, application_id: str) -> bool:
        """Whether this caller, and no other, issues now."""
        now = self._clock()
        with self._database.transaction() as session:
            begun = session.execute(
                update(ApplicationRow)
                .where(
                    ApplicationRow.id == application_id,
                    ApplicationRow.state == APPROVED,
                    or_(ApplicationRow.issuing_until.is_(None), ApplicationRow.issuing_until <= now),
                )
                .values(issuing_until=now + ISSUING)
            )
            assert isinstance(begun, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
            return begun.rowcount == 1

    def _let_go(self, application_id: str) -> None:
        with self._database.transaction() as session:
            session.execute(
                update(ApplicationRow).where(ApplicationRow.id == application_id).values(issuing_until=None)
            )

    def _earlier(self, asked: Asked, applicant: str, idempotency_key: str | None) -> Application | None:
        if idempotency_key is None:
            return None
        query = select(ApplicationRow).where(
            ApplicationRow.applicant == applicant, ApplicationRow.idempotency_key == idempotency_key
        )
        with self._database.reading() as session:
            row = session.scalar(query)
        if row is not None and row.asked_sha256 != asked.sha256:
            raise errors.IdempotencyKeyReused("this Idempotency-Key came before with another application")
        return _view(row) if row is not None else None

    def _row(self, asked: Asked, applicant: str, idempotency_key: str | None) -> ApplicationRow:
        now = self._clock()
        return ApplicationRow(
            id=str(uuid.uuid4()),
            applicant=applicant,
            idempotency_key=idempotency_key,
            asked_sha256=asked.sha256,
            profile=asked.profile,
            csr=asked.csr,
            subject=json.dumps(dict(asked.subject), ensure_ascii=False),
            alternative_names=json.dumps([list(pair) for pair in asked.alternative_names]),
            holder=asked.holder,
            evidence=asked.evidence,
            state=SUBMITTED,
            submitted_at=now,
            changed_at=now,
            decided_by=None,
            reason=None,
            certificate_id=None,
            issuing_until=None,
        )


def check_not_personal(profile: str) -> None:
    """Refuse what only a registration officer applies for: the certificates of people. Raises PersonalProfile,
    ProfileNotFound."""
    if is_personal(known_profile(profile)):
        raise errors.PersonalProfile(f"certificates of profile {profile} are applied for by registration officers")


def is_personal(profile: CertificateProfile) -> bool:
    """Whether the profile is for natural persons (EN 319 412-1 5.1.3)."""
    return any(attribute.form == "natural-person-identifier" for attribute in profile.subject)


def _locked(session: Session, application_id: str) -> ApplicationRow:
    query = select(ApplicationRow).where(ApplicationRow.id == application_id).with_for_update()
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise errors.ApplicationNotFound("there is no such application")
    return row


def _check_undecided(row: ApplicationRow) -> None:
    if row.state != SUBMITTED:
        raise errors.ApplicationDecided(f"the application is {row.state}", state=row.state)


def _view(row: ApplicationRow) -> Application:
    return Application(
        id=row.id,
        asked=Asked(
            profile=row.profile,
            csr=row.csr,
            subject=json.loads(row.subject),
            alternative_names=_pairs(json.loads(row.alternative_names)),
            holder=row.holder,
            evidence=row.evidence,
        ),
        applicant=row.applicant,
        state=row.state,
        submitted_at=row.submitted_at,
        changed_at=row.changed_at,
        decided_by=row.decided_by,
        reason=row.reason,
        certificate_id=row.certificate_id,
    )


def _pairs(listed: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, value) for kind, value in listed)
