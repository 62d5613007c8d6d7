"""EST's tables: who may enrol for what, and what came of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class PermitRow(Base):
    """Leave to enrol once. Its bearer shows a secret, of which only the digest is kept, or a certificate of ours."""

    __tablename__ = "ca_est_permits"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    label: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(String(200), index=True)
    subject: Mapped[str] = mapped_column(Text)
    alternative_names: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str] = mapped_column(String(120))
    secret_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    bearer_certificate_id: Mapped[str | None] = mapped_column(String(36), index=True)
    needs_approval: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(String(16), index=True)
    spki_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    made_by: Mapped[str] = mapped_column(String(200))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime())
    decided_by: Mapped[str | None] = mapped_column(String(200))
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime())


class EnrolmentRow(Base):
    """A certificate that came to be by EST, and on what: a permit, or the certificate it renews."""

    __tablename__ = "ca_est_enrolments"

    certificate_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    label: Mapped[str] = mapped_column(String(64))
    permit_id: Mapped[str | None] = mapped_column(String(36), unique=True)
    renewed_certificate_id: Mapped[str | None] = mapped_column(String(36), index=True)
    enrolled_at: Mapped[datetime] = mapped_column(UtcDateTime())
