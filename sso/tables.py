"""The provider's tables. Secrets that strangers present are here as SHA-256 only; national identifiers are sealed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime

UUID_LENGTH = 36
DIGEST_LENGTH = 64  # SHA-256 in hexadecimal


class PersonRow(Base):
    """Somebody who can log in; the id is random and is the only thing other rooms know them by."""

    __tablename__ = "sso_people"

    id: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    given_name: Mapped[str] = mapped_column(String(120))
    family_name: Mapped[str] = mapped_column(String(120))  # the patronymic; empty where there is none
    password_hash: Mapped[str] = mapped_column(String(200))
    totp_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_last_step: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class PersonIdentifierRow(Base):
    """A national identifier of a person with the time it held: sealed, and found by a keyed HMAC."""

    __tablename__ = "sso_person_identifiers"
    __table_args__ = (UniqueConstraint("kind", "mac"),)

    id: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("sso_people.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))  # civil_id
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    mac: Mapped[bytes] = mapped_column(LargeBinary(32))
    valid_from: Mapped[datetime] = mapped_column(UtcDateTime())
    valid_to: Mapped[datetime | None] = mapped_column(UtcDateTime())


class RelyingPartyRow(Base):
    """A registered client; the lists are JSON arrays of strings."""

    __tablename__ = "sso_relying_parties"

    client_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name_mn: Mapped[str] = mapped_column(String(200))
    name_en: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(10))  # web, native, machine
    auth_method: Mapped[str] = mapped_column(String(30))
    auth_algorithm: Mapped[str | None] = mapped_column(String(10))
    secret_digest: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    jwks: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    redirect_uris: Mapped[list[str]] = mapped_column(JSON)
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(JSON)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    sector: Mapped[str] = mapped_column(String(255))
    minimum_acr: Mapped[str | None] = mapped_column(String(60))
    webhook_uris: Mapped[list[str]] = mapped_column(JSON)
    return_urls: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class SubjectRow(Base):
    """The pairwise subject of a person in a sector, computed once."""

    __tablename__ = "sso_subjects"
    __table_args__ = (UniqueConstraint("sector", "sub"),)

    sector: Mapped[str] = mapped_column(String(255), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("sso_people.id"), primary_key=True)
    sub: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())


class SessionRow(Base):
    """A login session of a browser; ``cookie_digest`` changes at each login, ``id`` stays and is never shown."""

    __tablename__ = "sso_sessions"

    id: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    cookie_digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("sso_people.id"), index=True)
    acr: Mapped[str] = mapped_column(String(60))
    amr: Mapped[list[str]] = mapped_column(JSON)
    authenticated_at: Mapped[datetime] = mapped_column(UtcDateTime())
    started_at: Mapped[datetime] = mapped_column(UtcDateTime())
    used_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class ConsentRow(Base):
    """What a person agreed to give a relying party, until when."""

    __tablename__ = "sso_consents"
    __table_args__ = (Index("ix_sso_consents_person_id_client_id", "person_id", "client_id"),)

    id: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("sso_people.id"))
    client_id: Mapped[str] = mapped_column(ForeignKey("sso_relying_parties.client_id"))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    claims_version: Mapped[int] = mapped_column()
    language: Mapped[str] = mapped_column(String(8))
    acr: Mapped[str] = mapped_column(String(60))
    state: Mapped[str] = mapped_column(String(12))  # active, superseded, withdrawn
    granted_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())


class AuthorizationCodeRow(Base):
    """A code with everything it is bound to. A spent row is kept, so that a replay is recognised."""

    __tablename__ = "sso_authorization_codes"

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    family: Mapped[str] = mapped_column(String(UUID_LENGTH), unique=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("sso_relying_parties.client_id"), index=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("sso_people.id"), index=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sso_sessions.id"), index=True)
    redirect_uri: Mapped[str] = mapped_column(Text)
    code_challenge: Mapped[str] = mapped_column(String(43))
    scope: Mapped[str] = mapped_column(Text)
    nonce: Mapped[str | None] = mapped_column(Text)
    sub: Mapped[str] = mapped_column(String(64))
    sid: Mapped[str] = mapped_column(String(64), index=True)
    acr: Mapped[str] = mapped_column(String(60))
    amr: Mapped[list[str]] = mapped_column(JSON)
    authenticated_at: Mapped[datetime] = mapped_column(UtcDateTime())
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    redeemed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class AccessTokenRow(Base):
    """An opaque access token; ``person_id`` is absent when a client acts for itself."""

    __tablename__ = "sso_access_tokens"

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    family: Mapped[str | None] = mapped_column(String(UUID_LENGTH), index=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("sso_relying_parties.client_id"), index=True)
    person_id: Mapped[str | None] = mapped_column(ForeignKey("sso_people.id"), index=True)
    session_id: Mapped[str | None] = mapped_column(String(UUID_LENGTH), index=True)
    sub: Mapped[str | None] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(Text)
    acr: Mapped[str | None] = mapped_column(String(60))
    amr: Mapped[list[str]] = mapped_column(JSON)
    authenticated_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
