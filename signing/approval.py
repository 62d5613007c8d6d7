"""From the right PIN to the signed file: refusals and dependencies first, intent before the key, one result.

The order is the safety of the whole room: nothing that can fail by itself comes after the permission is taken, the
intent is committed before the key is opened, and the file, its state, its audit entry and its webhook become real in
one transaction.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from signing import events
from signing.activation import Activations, Binding
from signing.credentials import Credential, Credentials
from signing.errors import CertificateRefused, LevelNotReached, StateConflict
from signing.evidence import EvidenceSource
from signing.pdf import Pdf, Signed
from signing.ports import RevocationEvidence, TimeStamps
from signing.review import check_sdr
from signing.sign_requests import SignRequest, SignRequests, SignRequestState
from signing.tables import DocumentRow, IntentRow, SignerRow

log = get_logger("signing.approval")

OPEN, SIGNED, NOT_SIGNED = "open", "signed", "not_signed"
S = SignRequestState


@dataclass(frozen=True)
class Intent:
    """What is on record as about to be signed."""

    id: str
    request: SignRequest  # as approved
    credential: Credential


class Approval:
    """Signs a reviewed request once its signer gave the PIN for exactly what was shown."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        sign_requests: SignRequests,
        credentials: Credentials,
        activations: Activations,
        time_stamps: TimeStamps,
        revocation_evidence: RevocationEvidence,
        pdf: Pdf,
        policy: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._requests = sign_requests
        self._credentials = credentials
        self._activations = activations
        self._time_stamps = time_stamps
        self._revocation_evidence = revocation_evidence
        self._pdf = pdf
        self._policy = policy

    def approve(self, request: SignRequest, *, sdr: str, pin: str) -> SignRequest:
        """Sign what was reviewed. Returns the request as `signed`.

        Raises, with nothing signed and the request where it was: SdrChanged, PinInvalid, PinLocked, the refusals of
        the certificate, DependencyUnavailable, StateConflict, ActivationSpent. A fault after approval leaves the
        request `failed` with its code and is raised as well.
        """
        # 1. The very revision that the summary showed.
        if request.state is not S.REVIEWED:
            raise StateConflict("the document is not reviewed", state=request.state.value)
        check_sdr(request, sdr)
        # 2. The person.
        credential_id = cast("str", request.signer.credential_id)
        self._credentials.check_pin(credential_id, request.signer.person_id, pin)
        # 3. The certificate, at this moment (S21).
        credential = self._checked_credential(request, credential_id)
        # 4. Everything the file will need from others (S43).
        evidence = EvidenceSource.ask(credential, self._time_stamps, self._revocation_evidence)
        # 5. Permission taken and intent on record, committed before the key is touched (S16, S45).
        intent = self._open_intent(request, credential)
        # 6. The key, and the checks of what it made.
        try:
            signed = self._sign(intent, evidence)
        except CodedError as error:
            log.error("signing_failed", request=intent.request.id, reason=error.code, detail=error.detail)
            self._fail(intent, error.code)
            raise
        except Exception:
            log.exception("signing_failed", request=intent.request.id)
            self._fail(intent, CodedError.code)
            raise
        # 7. One transaction makes it real.
        return self._finish(intent, signed)

    def _checked_credential(self, request: SignRequest, credential_id: str) -> Credential:
        credential = self._credentials.get(credential_id)
        try:
            self._credentials.check_standing(credential)
        except CertificateRefused as refusal:
            self._record_refusal(request, credential, refusal.code)
            raise
        return credential

    def _record_refusal(self, request: SignRequest, credential: Credential, code: str) -> None:
        with self._database.transaction() as session:
            self._requests.update_signer(session, request, code=code)
            self._audit.append(
                session,
                events.SIGNATURE_REFUSED,
                actor=request.signer.person_id,
                subject=request.id,
                facts={"code": code, "credential": credential.id, "certificate_serial": credential.certificate_serial},
            )

    def _open_intent(self, request: SignRequest, credential: Credential) -> Intent:
        binding = Binding(request.id, cast("str", request.signer.sdr), credential.id)
        with self._database.transaction() as session:
            activation_id = self._activations.issue(session, binding)
        with self._database.transaction() as session:
            self._activations.take(session, activation_id, binding, actor=request.signer.person_id)
            intent_id = str(uuid.uuid4())
            session.add(
                IntentRow(
                    id=intent_id,
                    activation_id=activation_id,
                    request_id=request.id,
                    credential_id=credential.id,
                    certificate_serial=credential.certificate_serial,
                    sdr=binding.sdr,
                    level=request.row.level,
                    opened_at=self._clock(),
                    outcome=OPEN,
                )
            )
            approved = self._requests.move(
                session,
                request,
                S.APPROVED,
                actor=request.signer.person_id,
                facts={
                    "sdr": binding.sdr,
                    "credential": credential.id,
                    "certificate_serial": credential.certificate_serial,
                    "level": request.row.level,
                },
            )
        return Intent(intent_id, approved, credential)

    def _sign(self, intent: Intent, evidence: EvidenceSource) -> Signed:
        with self._database.reading() as session:
            prepared = session.scalar(select(SignerRow.prepared).where(SignerRow.request_id == intent.request.id))
        if prepared is None:
            raise StateConflict("the prepared revision is gone")
        wanted = intent.request.row.level
        with self._credentials.opened_key(intent.credential) as key:
            signed = self._pdf.finish(prepared, key=key, evidence=evidence, level=wanted)
        if signed.level != wanted:
            raise LevelNotReached(f"{signed.level} was reached where {wanted} was asked for")
        self._pdf.check_result(signed, policy=self._policy, at=self._clock())
        return signed

    def _fail(self, intent: Intent, code: str) -> None:
        with self._database.transaction() as session:
            if close_intent(session, intent.id, NOT_SIGNED, self._clock()):
                self._audit.append(
                    session,
                    events.INTENT_CLOSED,
                    actor="signing",
                    subject=intent.request.id,
                    facts={"outcome": NOT_SIGNED, "code": code},
                )
                self._requests.move(session, intent.request, S.FAILED, actor="signing", facts={"code": code}, code=code)

    def _finish(self, intent: Intent, signed: Signed) -> SignRequest:
        digest = hashlib.sha256(signed.data).hexdigest()
        with self._database.transaction() as session:
            if not close_intent(session, intent.id, SIGNED, self._clock()):
                # Recovery already told everybody that this signature was not made; it never leaves.
                raise StateConflict("the signature took too long and was given up", state=S.FAILED.value)
            session.add(DocumentRow(request_id=intent.request.id, role="signed", data=signed.data))
            self._requests.update_signer(session, intent.request, signed_at=self._clock(), prepared=None, code=None)
            return self._requests.move(
                session,
                intent.request,
                S.SIGNED,
                actor=intent.request.signer.person_id,
                facts={
                    "document_sha256": intent.request.row.document_sha256,
                    "signed_sha256": digest,
                    "credential": intent.credential.id,
                    "certificate_serial": intent.credential.certificate_serial,
                    "level": signed.level,
                },
                signed_sha256=digest,
                reached_level=signed.level,
            )


def close_intent(session: Session, intent_id: str, outcome: str, now: Any) -> bool:
    """Close an open intent; False when somebody else closed it first."""
    closed = cast(
        "CursorResult[Any]",
        session.execute(
            update(IntentRow)
            .where(IntentRow.id == intent_id, IntentRow.outcome == OPEN)
            .values(outcome=outcome, closed_at=now)
            .execution_options(synchronize_session=False)
        ),
    )
    return closed.rowcount == 1
