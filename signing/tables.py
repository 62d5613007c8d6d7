"""Tables of the signing room: requests, their documents, citizens' credentials, activations and intents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class SignRequestRow(Base):
    """What an organisation asked to have signed, and how far it has come."""

    __tablename__ = "signing_requests"
    __table_args__ = (Index("ix_signing_requests_state_expires_at", "state", "expires_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(200), index=True)
    state: Mapped[str] = mapped_column(String(20))
    sequence: Mapped[int] = mapped_column(Integer)  # grows by one with each transition; `seq` of webhooks, ETag
    title: Mapped[str] = mapped_column(String(200))
    reference: Mapped[str | None] = mapped_column(String(64))
    level: Mapped[str] = mapped_column(String(8))
    reached_level: Mapped[str | None] = mapped_column(String(8))
    language: Mapped[str | None] = mapped_column(String(2))
    webhook: Mapped[str | None] = mapped_column(String(2000))
    return_url: Mapped[str | None] = mapped_column(String(2000))
    verification_code: Mapped[str] = mapped_column(String(40), unique=True)
    document_sha256: Mapped[str] = mapped_column(String(64))
    document_size: Mapped[int] = mapped_column(BigInteger)
    document_pages: Mapped[int] = mapped_column(Integer)
    existing_signatures: Mapped[int] = mapped_column(Integer)
    signed_sha256: Mapped[str | None] = mapped_column(String(64))
    code: Mapped[str | None] = mapped_column(String(60))  # why it failed
    rejection_reason: Mapped[str | None] = mapped_column(String(500))
    retention_days: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    document_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class SignerRow(Base):
    """One intended signer of a request: who, where on the page, what was shown, which revision is prepared."""

    __tablename__ = "signing_signers"

    request_id: Mapped[str] = mapped_column(ForeignKey("signing_requests.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    person_id: Mapped[str] = mapped_column(String(36), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    placement: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    pages_shown: Mapped[list[int]] = mapped_column(JSON)
    credential_id: Mapped[str | None] = mapped_column(String(36))
    sdr: Mapped[str | None] = mapped_column(String(128))
    prepared: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # a whole document: only when asked for
    prepared_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    code: Mapped[str | None] = mapped_column(String(60))  # the last refusal, e.g. CERTIFICATE_REVOKED
    signed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class DocumentRow(Base):
    """The bytes: as received (``input``) and as signed (``signed``); deleted when their retention ends."""

    __tablename__ = "signing_documents"

    request_id: Mapped[str] = mapped_column(ForeignKey("signing_requests.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(10), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class CredentialRow(Base):
    """A citizen's signing credential: wrapped key, certificate chain, PIN hash and lock."""

    __tablename__ = "signing_credentials"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    person_id: Mapped[str] = mapped_column(String(36), index=True)
    state: Mapped[str] = mapped_column(String(12))  # pending, active, abandoned
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_key_mac: Mapped[bytes] = mapped_column(LargeBinary)
    wrapping_key: Mapped[str] = mapped_column(String(64))
    certificate_bound: Mapped[bool] = mapped_column(default=False, server_default=false())  # see credentials.stored_key
    algorithm: Mapped[str] = mapped_column(String(20))
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    pin_hash: Mapped[str] = mapped_column(Text)
    certificate: Mapped[bytes | None] = mapped_column(LargeBinary)
    certificate_serial: Mapped[str | None] = mapped_column(String(40), index=True)
    chain: Mapped[list[str] | None] = mapped_column(JSON)  # base64 DER, issuer first, anchor last
    not_after: Mapped[datetime | None] = mapped_column(UtcDateTime())
    failed_attempts: Mapped[int] = mapped_column(Integer, default=0)
    lock_level: Mapped[int] = mapped_column(Integer, default=0)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())


class WrappingKeyRow(Base):
    """One generation of the key that citizens' keys are wrapped under. An instance's first one may have no row."""

    __tablename__ = "signing_wrapping_keys"

    label: Mapped[str] = mapped_column(String(64), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, unique=True)
    begun_at: Mapped[datetime] = mapped_column(UtcDateTime())
    emptied_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    destroyed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class ActivationRow(Base):
    """Signature activation data (EN 419 241-1): one permission for one signature, bound and taken once."""

    __tablename__ = "signing_activations"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("signing_requests.id"), index=True)
    sdr: Mapped[str] = mapped_column(String(128))
    credential_id: Mapped[str] = mapped_column(ForeignKey("signing_credentials.id"))
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    taken_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class IntentRow(Base):
    """What is about to be signed, on record before the key is used; closed with what became of it."""

    __tablename__ = "signing_intents"
    __table_args__ = (Index("ix_signing_intents_outcome_opened_at", "outcome", "opened_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    activation_id: Mapped[str] = mapped_column(ForeignKey("signing_activations.id"), unique=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("signing_requests.id"), index=True)
    credential_id: Mapped[str] = mapped_column(ForeignKey("signing_credentials.id"))
    certificate_serial: Mapped[str] = mapped_column(String(40))
    sdr: Mapped[str] = mapped_column(String(128))
    level: Mapped[str] = mapped_column(String(8))
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime())
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    outcome: Mapped[str] = mapped_column(String(20))  # open, signed, not_signed


class IdempotencyRow(Base):
    """A client's Idempotency-Key and the request it made, so that a repeated call repeats its answer."""

    __tablename__ = "signing_idempotency_keys"
    __table_args__ = (UniqueConstraint("client_id", "key"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(ForeignKey("signing_requests.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
