"""The ACME server's tables. Identifiers of resources are 22 random characters; lists and objects are JSON text."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class ExternalKeyRow(Base):
    """A key that binds accounts to an organisation and to what it may have certificates for. The MAC key is sealed."""

    __tablename__ = "ca_acme_external_keys"

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    entitlement: Mapped[str] = mapped_column(Text)
    reusable: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class AccountRow(Base):
    """An account (RFC 8555 7.1.2). A closed account keeps its key, so that the key opens no other."""

    __tablename__ = "ca_acme_accounts"

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    jwk: Mapped[str] = mapped_column(Text)
    thumbprint: Mapped[str] = mapped_column(String(43), unique=True)
    contact: Mapped[str] = mapped_column(Text)
    external_key_id: Mapped[str] = mapped_column(String(22), index=True)
    terms_agreed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())


class OrderRow(Base):
    """An order (RFC 8555 7.1.3). ``attempt`` names the one finalisation that may fulfil it."""

    __tablename__ = "ca_acme_orders"
    __table_args__ = (Index("ix_ca_acme_orders_account_id_created_at", "account_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(22))
    status: Mapped[str] = mapped_column(String(16))
    identifiers: Mapped[str] = mapped_column(Text)
    replaces: Mapped[str | None] = mapped_column(String(200), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    attempt: Mapped[str | None] = mapped_column(String(22))
    attempted_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    csr_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    certificate_id: Mapped[str | None] = mapped_column(String(36), unique=True)
    error: Mapped[str | None] = mapped_column(Text)


class AuthorizationRow(Base):
    """That an account controls a name (RFC 8555 7.1.4); a wildcard's value is the name without its asterisk."""

    __tablename__ = "ca_acme_authorizations"
    __table_args__ = (Index("ix_ca_acme_authorizations_account_id_value", "account_id", "value"),)

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(22))
    type: Mapped[str] = mapped_column(String(8))
    value: Mapped[str] = mapped_column(String(253))
    wildcard: Mapped[bool] = mapped_column(Boolean)
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    validated_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class OrderAuthorizationRow(Base):
    """Which authorizations an order rests on, in the order of its identifiers."""

    __tablename__ = "ca_acme_order_authorizations"

    order_id: Mapped[str] = mapped_column(String(22), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    authorization_id: Mapped[str] = mapped_column(String(22), index=True)


class ChallengeRow(Base):
    """One way to prove control (RFC 8555 7.1.5). ``leased_until`` keeps a challenge to one validator at a time."""

    __tablename__ = "ca_acme_challenges"
    __table_args__ = (Index("ix_ca_acme_challenges_status_next_attempt_at", "status", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    authorization_id: Mapped[str] = mapped_column(String(22), index=True)
    account_id: Mapped[str] = mapped_column(String(22))
    type: Mapped[str] = mapped_column(String(16))
    token: Mapped[str] = mapped_column(String(43))
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime())
    validated_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    error: Mapped[str | None] = mapped_column(Text)


class ReplacementRow(Base):
    """Certificates that an operator wants replaced early: those an issuer issued up to a moment (RFC 9773)."""

    __tablename__ = "ca_acme_replacements"

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    issuer: Mapped[str] = mapped_column(String(64), index=True)
    issued_until: Mapped[datetime] = mapped_column(UtcDateTime())
    starts_at: Mapped[datetime] = mapped_column(UtcDateTime())
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime())
    explanation_url: Mapped[str] = mapped_column(String(500))
    withdrawn_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
