"""The certificate authority's tables. Serial numbers are stored as 18 octets and shown as lower-case hexadecimal."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ca.serial_number import SERIAL_OCTETS
from core.database import Base, UtcDateTime


class AuthorityRow(Base):
    """A CA: its slug with its generation, never used again, and where its key lies."""

    __tablename__ = "ca_authorities"

    slug: Mapped[str] = mapped_column(String(64), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(64), index=True)
    key_label: Mapped[str] = mapped_column(String(64))
    issuer: Mapped[str] = mapped_column(String(64))
    certificate_id: Mapped[str] = mapped_column(String(36))
    established_at: Mapped[datetime] = mapped_column(UtcDateTime())
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class FurtherCertificateRow(Base):
    """One more certificate for an authority's key: by another root of ours (then the register holds it too), or by an
    outside root, with the chain above it, DER after DER."""

    __tablename__ = "ca_further_certificates"

    slug: Mapped[str] = mapped_column(String(64), primary_key=True)
    authority: Mapped[str] = mapped_column(String(64), index=True)
    issuer: Mapped[str | None] = mapped_column(String(64))
    der: Mapped[bytes] = mapped_column(LargeBinary)
    chain: Mapped[bytes] = mapped_column(LargeBinary)
    served: Mapped[bool] = mapped_column(Boolean())
    entered_at: Mapped[datetime] = mapped_column(UtcDateTime())


class IntentRow(Base):
    """What is about to be signed, written down before it is. The unique pair reserves the serial number."""

    __tablename__ = "ca_issuance_intents"
    __table_args__ = (
        UniqueConstraint("issuer", "serial"),
        Index("ix_ca_issuance_intents_state_changed_at", "state", "changed_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    issuer: Mapped[str] = mapped_column(String(64))
    serial: Mapped[bytes] = mapped_column(LargeBinary(SERIAL_OCTETS))
    state: Mapped[str] = mapped_column(String(16))
    profile: Mapped[str] = mapped_column(String(64))
    profile_version: Mapped[int] = mapped_column(Integer)
    profile_digest: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(String(200), index=True)
    evidence: Mapped[str] = mapped_column(String(200))
    key_label: Mapped[str | None] = mapped_column(String(64))
    spki_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    not_before: Mapped[datetime] = mapped_column(UtcDateTime())
    not_after: Mapped[datetime] = mapped_column(UtcDateTime())
    tbs: Mapped[bytes] = mapped_column(LargeBinary)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime())
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime())


class CertificateRow(Base):
    """A certificate that was issued, for ever."""

    __tablename__ = "ca_certificates"
    __table_args__ = (
        UniqueConstraint("issuer", "serial"),
        Index("ix_ca_certificates_issuer_state", "issuer", "state"),
        Index("ix_ca_certificates_issued_at_id", "issued_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    issuer: Mapped[str] = mapped_column(String(64))
    serial: Mapped[bytes] = mapped_column(LargeBinary(SERIAL_OCTETS), index=True)
    profile: Mapped[str] = mapped_column(String(64), index=True)
    profile_version: Mapped[int] = mapped_column(Integer)
    profile_digest: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(String(200), index=True)
    evidence: Mapped[str] = mapped_column(String(200))
    key_label: Mapped[str | None] = mapped_column(String(64))
    spki_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    not_before: Mapped[datetime] = mapped_column(UtcDateTime())
    not_after: Mapped[datetime] = mapped_column(UtcDateTime())
    der: Mapped[bytes] = mapped_column(LargeBinary)
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime())
    state: Mapped[str] = mapped_column(String(16))
    state_since: Mapped[datetime] = mapped_column(UtcDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    reason: Mapped[int | None] = mapped_column(Integer)


class SuspensionRow(Base):
    """One interval during which a certificate was suspended; signatures made in it stay doubtful."""

    __tablename__ = "ca_suspensions"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    certificate_id: Mapped[str] = mapped_column(String(36), index=True)
    began_at: Mapped[datetime] = mapped_column(UtcDateTime())
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class MassRevocationRow(Base):
    """A plan to change the status of many certificates at once; the digest covers every one of them."""

    __tablename__ = "ca_mass_revocations"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    action: Mapped[str] = mapped_column(String(10))
    reason: Mapped[int | None] = mapped_column(Integer)
    selector: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))  # drafting, planned, running, changed, done
    certificates: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(String(64))
    counts: Mapped[str] = mapped_column(Text)
    approval: Mapped[str | None] = mapped_column(String(64))
    planned_by: Mapped[str] = mapped_column(String(200))
    planned_at: Mapped[datetime] = mapped_column(UtcDateTime())
    ready_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class MassRevocationBatchRow(Base):
    """A stretch of a plan's list, changed in one transaction. ``sha256`` is of its serial numbers, rising."""

    __tablename__ = "ca_mass_revocation_batches"

    plan: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    issuer: Mapped[str] = mapped_column(String(64))
    certificates: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    skipped: Mapped[str] = mapped_column(Text)  # ids that had another status by then, JSON


class MassRevocationItemRow(Base):
    """A certificate of a plan's list."""

    __tablename__ = "ca_mass_revocation_items"

    plan: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    batch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    certificate_id: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)


class CrlRow(Base):
    """A published CRL. Naming the number before it makes publication a compare-and-swap."""

    __tablename__ = "ca_crls"
    __table_args__ = (UniqueConstraint("issuer", "shard", "previous"),)

    issuer: Mapped[str] = mapped_column(String(64), primary_key=True)
    shard: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    previous: Mapped[int] = mapped_column(BigInteger)
    this_update: Mapped[datetime] = mapped_column(UtcDateTime())
    next_update: Mapped[datetime] = mapped_column(UtcDateTime())
    entries: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    der: Mapped[bytes] = mapped_column(LargeBinary)


class BlockedKeyRow(Base):
    """A public key that is never certified again."""

    __tablename__ = "ca_blocked_keys"

    spki_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    certificate_id: Mapped[str] = mapped_column(String(36))
    blocked_at: Mapped[datetime] = mapped_column(UtcDateTime())


class ProfileVersionRow(Base):
    """A profile as it was when first used; the same version must not say something else later."""

    __tablename__ = "ca_profile_versions"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    first_used_at: Mapped[datetime] = mapped_column(UtcDateTime())


class CeremonyRow(Base):
    """A key ceremony: its plan's digest, when it began and when it was complete."""

    __tablename__ = "ca_ceremonies"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_sha256: Mapped[str] = mapped_column(String(64))
    plan: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime] = mapped_column(UtcDateTime())
    held_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
