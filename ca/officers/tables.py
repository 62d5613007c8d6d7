"""Officers with every state they were in, and requests for approval with the signatures they got."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class OfficerRow(Base):
    """An officer's name, never given to another, and which version of him is in force."""

    __tablename__ = "ca_officers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer)


class OfficerVersionRow(Base):
    """What an officer was from this moment until the next version. Rows are added, never changed."""

    __tablename__ = "ca_officer_versions"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    roles: Mapped[str] = mapped_column(String(200))  # sorted, with single spaces between
    os_uid: Mapped[int] = mapped_column(BigInteger)
    os_user: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[bytes] = mapped_column(LargeBinary)  # SubjectPublicKeyInfo
    key_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)
    state: Mapped[str] = mapped_column(String(8))  # active, retired
    since: Mapped[datetime] = mapped_column(UtcDateTime())
    actor: Mapped[str] = mapped_column(String(200))
    approval_id: Mapped[str | None] = mapped_column(String(36))


class ApprovalRequestRow(Base):
    """Something that may be done once, when enough officers have signed for it."""

    __tablename__ = "ca_approval_requests"
    __table_args__ = (Index("ix_ca_approval_requests_state_kind", "state", "kind"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(128))
    facts: Mapped[str] = mapped_column(Text)  # canonical JSON
    needed: Mapped[int] = mapped_column(Integer)  # signatures beside the requester's
    requester: Mapped[str] = mapped_column(String(200))
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    state: Mapped[str] = mapped_column(String(8))  # open, rejected, taken
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime())
    closed_by: Mapped[str | None] = mapped_column(String(200))
    reason: Mapped[str | None] = mapped_column(String(200))


class ApprovalRow(Base):
    """One officer's signature over the text of a request; the key makes an officer count once."""

    __tablename__ = "ca_approvals"

    request_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    officer: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    approved_at: Mapped[datetime] = mapped_column(UtcDateTime())


class ApprovedProfileRow(Base):
    """A version of a profile that may be used: it was approved, or it was there when the first officers came."""

    __tablename__ = "ca_approved_profiles"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    approved_at: Mapped[datetime] = mapped_column(UtcDateTime())
    approval_id: Mapped[str | None] = mapped_column(String(36))
