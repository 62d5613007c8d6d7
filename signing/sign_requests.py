"""Sign requests: the book of what organisations asked to have signed, and the only place where their states change.

A transition is one conditional UPDATE on (id, state, sequence) with its audit entry and its webhook in the same
transaction, so two browsers, a deadline and a cancelling organisation can never both win.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import CursorResult, delete, exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.one_time import OneTimeStore
from core.outbox import Outbox
from hsm.keystore import Keystore
from signing import events
from signing.errors import (
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    NotSignedYet,
    RetentionEnded,
    ReturnUrlNotRegistered,
    SignerUnknown,
    SignRequestNotFound,
    StateConflict,
    WebhookNotRegistered,
)
from signing.pdf import DocumentFacts, Pdf
from signing.ports import Persons, RelyingPartyFacts
from signing.request_objects import SignRequestFields
from signing.settings import SigningSettings
from signing.tables import DocumentRow, IdempotencyRow, SignerRow, SignRequestRow

WEBHOOK = "webhook"
IDEMPOTENCY_LIFETIME = timedelta(hours=24)
# How long a first call may run before its key is free again, should its process have died.
IDEMPOTENCY_RUNNING_SECONDS = 60
# A result with retention 0 goes when it was fetched; one nobody fetches goes after this long.
UNCOLLECTED_LIFETIME = timedelta(days=1)
LINK_TOKEN_OCTETS = 16
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class SignRequestState(StrEnum):
    """Where a request stands."""

    CREATED = "created"
    OPENED = "opened"
    REVIEWED = "reviewed"
    APPROVED = "approved"
    SIGNED = "signed"
    COLLECTED = "collected"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


S = SignRequestState
LEAVES_TO: Mapping[SignRequestState, frozenset[SignRequestState]] = {
    S.CREATED: frozenset({S.OPENED, S.EXPIRED, S.CANCELLED}),
    S.OPENED: frozenset({S.REVIEWED, S.REJECTED, S.EXPIRED, S.CANCELLED}),
    S.REVIEWED: frozenset({S.APPROVED, S.REJECTED, S.EXPIRED, S.CANCELLED, S.OPENED}),
    S.APPROVED: frozenset({S.SIGNED, S.FAILED}),
    S.SIGNED: frozenset({S.COLLECTED}),
}
# A deadline and an organisation's change of mind end these; an approved signature runs to its end.
PENDING = frozenset({S.CREATED, S.OPENED, S.REVIEWED})
HOLDS_RESULT = frozenset({S.SIGNED, S.COLLECTED})
FINAL = frozenset({S.SIGNED, S.COLLECTED, S.REJECTED, S.EXPIRED, S.CANCELLED, S.FAILED})
# What the organisation's webhook is told.
ANNOUNCED = frozenset({S.SIGNED, S.REJECTED, S.EXPIRED, S.CANCELLED, S.FAILED})
EVENT_OF = {
    S.OPENED: events.REQUEST_OPENED,
    S.REVIEWED: events.REQUEST_REVIEWED,
    S.APPROVED: events.REQUEST_APPROVED,
    S.SIGNED: events.REQUEST_SIGNED,
    S.COLLECTED: events.REQUEST_COLLECTED,
    S.REJECTED: events.REQUEST_REJECTED,
    S.EXPIRED: events.REQUEST_EXPIRED,
    S.CANCELLED: events.REQUEST_CANCELLED,
    S.FAILED: events.REQUEST_FAILED,
}


@dataclass(frozen=True)
class SignRequest:
    """A request and its signer as they stood when they were read; rows are detached and never written back."""

    row: SignRequestRow
    signer: SignerRow

    @property
    def id(self) -> str:
        """The request's identifier."""
        return self.row.id

    @property
    def state(self) -> SignRequestState:
        """Where the request stood."""
        return SignRequestState(self.row.state)


@dataclass(frozen=True)
class Created:
    """A request just made, or the one that the same Idempotency-Key made before."""

    request: SignRequest
    replayed: bool


class SignRequests:
    """Makes, finds, moves and forgets sign requests."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        outbox: Outbox,
        one_time: OneTimeStore,
        keystore: Keystore,
        persons: Persons,
        pdf: Pdf,
        settings: SigningSettings,
        base_url: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._outbox = outbox
        self._one_time = one_time
        self._keystore = keystore
        self._persons = persons
        self._pdf = pdf
        self._settings = settings
        self._base_url = base_url

    # Making ------------------------------------------------------------------------------------------------------

    def create(
        self, client: RelyingPartyFacts, fields: SignRequestFields, document: bytes, idempotency_key: str
    ) -> Created:
        """Check, keep and announce a request; the same key and content within a day give the same request again.

        Raises the errors of fields, of the document's preflight and of the Idempotency-Key.
        """
        key = check_idempotency_key(idempotency_key)
        fingerprint = _fingerprint(fields, document)
        running = hashlib.sha256(f"{client.client_id}\n{key}".encode()).hexdigest()
        claimed = self._one_time.claim("sign-request-running", running, ttl=IDEMPOTENCY_RUNNING_SECONDS)
        try:
            before = self._made_before(client.client_id, key, fingerprint)
            if before is not None:
                return Created(before, replayed=True)
            if not claimed:
                raise IdempotentRequestInProgress("the first call with this Idempotency-Key is still running")
            return Created(self._make(client, fields, document, key, fingerprint), replayed=False)
        finally:
            if claimed:
                self._one_time.discard("sign-request-running", running)

    def _made_before(self, client_id: str, key: str, fingerprint: str) -> SignRequest | None:
        with self._database.reading() as session:
            row = session.scalars(
                select(IdempotencyRow).where(
                    IdempotencyRow.client_id == client_id,
                    IdempotencyRow.key == key,
                    IdempotencyRow.created_at > self._clock() - IDEMPOTENCY_LIFETIME,
                )
            ).first()
            if row is None:
                return None
            if row.fingerprint != fingerprint:
                raise IdempotencyKeyReused("this Idempotency-Key came before with another body")
            return _load(session, row.request_id)

    def _make(
        self, client: RelyingPartyFacts, fields: SignRequestFields, document: bytes, key: str, fingerprint: str
    ) -> SignRequest:
        _check_addresses(client, fields)
        person_id = self._persons.person_for_subject(client.client_id, fields.sub)
        person = self._persons.person(person_id) if person_id is not None else None
        if person is None:
            raise SignerUnknown("no active person is known to you under this sub", field="signers.sub")
        placement = fields.placement.as_json() if fields.placement else None
        facts = self._pdf.preflight(
            document, signer=person, placement=placement, at=self._clock(), limit=self._settings.document_limit
        )
        row = self._row(client, fields, facts)
        signer = SignerRow(
            request_id=row.id,
            position=0,
            person_id=person.person_id,
            token_sha256=_token_digest(self._link_token(row.id, 0)),
            placement=placement,
            pages_shown=[],
        )
        try:
            self._enter(row, signer, document, key, fingerprint)
        except IntegrityError as error:  # a first call that outlived its claim was faster
            raise IdempotentRequestInProgress("a call with this Idempotency-Key ended just now") from error
        return SignRequest(row, signer)

    def _enter(self, row: SignRequestRow, signer: SignerRow, document: bytes, key: str, fingerprint: str) -> None:
        idempotency = IdempotencyRow(
            id=str(uuid.uuid4()),
            client_id=row.client_id,
            key=key,
            fingerprint=fingerprint,
            request_id=row.id,
            created_at=row.created_at,
        )
        with self._database.transaction() as session:
            session.execute(
                delete(IdempotencyRow).where(IdempotencyRow.client_id == row.client_id, IdempotencyRow.key == key)
            )
            session.add(row)
            session.flush()
            session.add_all([signer, DocumentRow(request_id=row.id, role="input", data=document), idempotency])
            self._audit.append(
                session,
                events.REQUEST_CREATED,
                actor=row.client_id,
                subject=row.id,
                facts={
                    "document_sha256": row.document_sha256,
                    "pages": row.document_pages,
                    "level": row.level,
                    "person": signer.person_id,
                },
            )

    def _row(self, client: RelyingPartyFacts, fields: SignRequestFields, facts: DocumentFacts) -> SignRequestRow:
        now = self._clock()
        return SignRequestRow(
            id=str(uuid.uuid4()),
            client_id=client.client_id,
            state=S.CREATED.value,
            sequence=1,
            title=fields.title,
            reference=fields.reference,
            level=fields.level,
            language=fields.language,
            webhook=fields.webhook,
            return_url=fields.return_url,
            verification_code=new_verification_code(),
            document_sha256=facts.sha256,
            document_size=facts.size,
            document_pages=facts.pages,
            existing_signatures=facts.existing_signatures,
            retention_days=fields.retention_days,
            created_at=now,
            expires_at=now + (fields.deadline or timedelta(seconds=self._settings.default_deadline)),
        )

    # Finding -----------------------------------------------------------------------------------------------------

    def of_client(self, client_id: str, request_id: str) -> SignRequest:
        """A client's own request as it stands now. Raises SignRequestNotFound for anybody else's."""
        request = self.get(request_id)
        if request.row.client_id != client_id:
            raise SignRequestNotFound("no such sign request")
        return request

    def of_token(self, token: str) -> SignRequest:
        """The request a signing link leads to. Raises SignRequestNotFound."""
        with self._database.reading() as session:
            request_id = session.scalar(
                select(SignerRow.request_id).where(SignerRow.token_sha256 == _token_digest(token))
            )
        if request_id is None:
            raise SignRequestNotFound("no such signing link")
        return self.get(request_id)

    def get(self, request_id: str) -> SignRequest:
        """The request as it stands now: one past its deadline is settled as expired first."""
        with self._database.reading() as session:
            request = _load(session, request_id)
        return self._expire(request) if self._is_late(request) else request

    def signing_url(self, request: SignRequest) -> str:
        """The signer's link: 128 bits derived inside the token from the request's id, so no dump of ours holds it."""
        return f"{self._base_url}/sign/{self._link_token(request.id, request.signer.position)}"

    def document(self, request: SignRequest, role: str) -> bytes:
        """The bytes received (``input``) or signed (``signed``). Raises RetentionEnded once they are deleted."""
        with self._database.reading() as session:
            data = session.scalar(
                select(DocumentRow.data).where(DocumentRow.request_id == request.id, DocumentRow.role == role)
            )
        if data is None:
            raise RetentionEnded("the document is no longer kept")
        return data

    def signed_document(self, request: SignRequest) -> bytes:
        """The signed file. Raises NotSignedYet, RetentionEnded."""
        if request.state not in HOLDS_RESULT:
            raise NotSignedYet("the document is not signed", state=request.state.value)
        return self.document(request, "signed")

    # Moving ------------------------------------------------------------------------------------------------------

    def move(
        self,
        session: Session,
        request: SignRequest,
        to: SignRequestState,
        *,
        actor: str,
        facts: Mapping[str, str | int | None] | None = None,
        **values: object,
    ) -> SignRequest:
        """Bring ``request`` to the state ``to`` in ``session``'s transaction and return it as it now stands.

        Raises StateConflict when the table of states forbids it or somebody else moved it first.
        """
        if to not in LEAVES_TO.get(request.state, frozenset()):
            raise StateConflict(f"a request that is {request.state} cannot become {to}", state=request.state.value)
        if to in FINAL and to is not S.COLLECTED:
            values["finished_at"] = self._clock()
        changed = cast(
            "CursorResult[Any]",
            session.execute(
                update(SignRequestRow)
                .where(
                    SignRequestRow.id == request.id,
                    SignRequestRow.state == request.state.value,
                    SignRequestRow.sequence == request.row.sequence,
                )
                .values(state=to.value, sequence=request.row.sequence + 1, **values)
                .execution_options(synchronize_session=False)
            ),
        )
        if changed.rowcount != 1:
            raise StateConflict("the request was moved by somebody else meanwhile")
        self._audit.append(
            session,
            EVENT_OF[to],
            actor=actor,
            subject=request.id,
            facts={"from": request.state.value, "seq": request.row.sequence + 1, **(facts or {})},
        )
        moved = _load(session, request.id)
        if to in ANNOUNCED and moved.row.webhook:
            self._announce(session, moved)
        return moved

    def change(self, request: SignRequest, to: SignRequestState, *, actor: str, **values: Any) -> SignRequest:
        """Like move, in a transaction of its own."""
        with self._database.transaction() as session:
            return self.move(session, request, to, actor=actor, **values)

    def cancel(self, client_id: str, request_id: str) -> SignRequest:
        """The organisation withdraws its request. Raises StateConflict from `approved` on."""
        return self.change(self.of_client(client_id, request_id), S.CANCELLED, actor=client_id)

    def collect(self, request: SignRequest) -> SignRequest:
        """The organisation fetched the signed file; a second fetch changes nothing."""
        if request.state is not S.SIGNED:
            return request
        try:
            return self.change(request, S.COLLECTED, actor=request.row.client_id)
        except StateConflict:
            return self.get(request.id)

    def update_signer(self, session: Session, request: SignRequest, **values: object) -> None:
        """Write members of the signer's row; transitions are for move()."""
        session.execute(
            update(SignerRow)
            .where(SignerRow.request_id == request.id, SignerRow.position == request.signer.position)
            .values(**values)
            .execution_options(synchronize_session=False)
        )

    def _announce(self, session: Session, request: SignRequest) -> None:
        row = request.row
        body = {
            "jti": str(uuid.uuid4()),  # stable over attempts, so that a receiver sees a repetition
            "aud": row.client_id,
            "event": f"sign_request.{row.state}",
            "id": row.id,
            "state": row.state,
            "seq": row.sequence,
            "document_sha256": row.signed_sha256 or row.document_sha256,
        }
        self._outbox.enqueue(session, kind=WEBHOOK, destination=cast("str", row.webhook), body=body)

    # Ending ------------------------------------------------------------------------------------------------------

    def settle_expired(self) -> int:
        """Settle every request past its deadline; returns how many."""
        with self._database.reading() as session:
            late = session.scalars(
                select(SignRequestRow.id).where(
                    SignRequestRow.state.in_([state.value for state in PENDING]),
                    SignRequestRow.expires_at <= self._clock(),
                )
            ).all()
        return sum(self.get(request_id).state is S.EXPIRED for request_id in late)

    def delete_documents(self) -> int:
        """Delete the bytes of every request whose retention has ended; returns how many requests that were."""
        with self._database.reading() as session:
            holding = session.scalars(
                select(SignRequestRow).where(
                    SignRequestRow.finished_at.is_not(None),
                    exists().where(DocumentRow.request_id == SignRequestRow.id),
                )
            ).all()
        ended = [row for row in holding if self._clock() >= _kept_until(row)]
        for row in ended:
            with self._database.transaction() as session:
                session.execute(delete(DocumentRow).where(DocumentRow.request_id == row.id))
                session.execute(
                    update(SignerRow).where(SignerRow.request_id == row.id).values(prepared=None, prepared_at=None)
                )
                session.execute(
                    update(SignRequestRow).where(SignRequestRow.id == row.id).values(document_deleted_at=self._clock())
                )
                self._audit.append(session, events.DOCUMENT_DELETED, actor="retention", subject=row.id)
        return len(ended)

    def forget_idempotency_keys(self) -> int:
        """Delete keys older than the day for which a repeated call repeats its answer; returns how many."""
        with self._database.transaction() as session:
            gone = session.execute(
                delete(IdempotencyRow).where(IdempotencyRow.created_at <= self._clock() - IDEMPOTENCY_LIFETIME)
            )
            return cast("CursorResult[Any]", gone).rowcount

    def _is_late(self, request: SignRequest) -> bool:
        return request.state in PENDING and request.row.expires_at <= self._clock()

    def _expire(self, request: SignRequest) -> SignRequest:
        try:
            return self.change(request, S.EXPIRED, actor="deadline")
        except StateConflict:  # signed or cancelled in the same moment
            with self._database.reading() as session:
                return _load(session, request.id)

    def _link_token(self, request_id: str, position: int) -> str:
        mac = self._keystore.mac(self._settings.link_key, f"signing link\0{request_id}\0{position}".encode())
        return base64.urlsafe_b64encode(mac[:LINK_TOKEN_OCTETS]).rstrip(b"=").decode()


def check_idempotency_key(key: str) -> str:
    """The header's value when it is 16-64 printable ASCII characters. Raises IdempotencyKeyInvalid."""
    if not 16 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
        raise IdempotencyKeyInvalid("Idempotency-Key must be 16-64 printable ASCII characters")
    return key


def new_verification_code() -> str:
    """128 random bits in Crockford's base 32 and two check characters (the number modulo 1021, a prime)."""
    number = secrets.randbits(128)
    return _base32(number, 26) + _base32(number % 1021, 2)


def _base32(number: int, length: int) -> str:
    return "".join(CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def _check_addresses(client: RelyingPartyFacts, fields: SignRequestFields) -> None:
    if fields.webhook is not None and fields.webhook not in client.webhooks:
        raise WebhookNotRegistered("webhook is not an address registered for this client", field="webhook")
    if fields.return_url is not None and fields.return_url not in client.return_urls:
        raise ReturnUrlNotRegistered("return_url is not an address registered for this client", field="return_url")


def _fingerprint(fields: SignRequestFields, document: bytes) -> str:
    said = json.dumps(
        {**vars(fields), "placement": fields.placement and fields.placement.as_json()}, sort_keys=True, default=str
    )
    return hashlib.sha256(hashlib.sha256(document).digest() + said.encode()).hexdigest()


def _token_digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _load(session: Session, request_id: str) -> SignRequest:
    row = session.get(SignRequestRow, request_id, populate_existing=True)
    signer = session.get(SignerRow, (request_id, 0), populate_existing=True)
    if row is None or signer is None:
        raise SignRequestNotFound("no such sign request")
    return SignRequest(row, signer)


def _kept_until(row: SignRequestRow) -> datetime:
    finished = cast("datetime", row.finished_at)
    if row.state not in HOLDS_RESULT:
        return finished
    if row.retention_days == 0:
        return finished if row.state == S.COLLECTED else finished + UNCOLLECTED_LIFETIME
    return finished + timedelta(days=row.retention_days)
