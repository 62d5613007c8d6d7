"""Applications, for ever: what was asked for, on which evidence, who decided, and the certificate that came of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class ApplicationRow(Base):
    """An application. The unique pair makes a repeated submission find the first one."""

    __tablename__ = "ca_applications"
    __table_args__ = (
        UniqueConstraint("applicant", "idempotency_key"),
        Index("ix_ca_applications_state_submitted_at", "state", "submitted_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    applicant: Mapped[str] = mapped_column(String(200))
    idempotency_key: Mapped[str | None] = mapped_column(String(64))
    asked_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    profile: Mapped[str] = mapped_column(String(64))
    csr: Mapped[bytes] = mapped_column(LargeBinary)
    subject: Mapped[str] = mapped_column(Text)  # JSON object
    alternative_names: Mapped[str] = mapped_column(Text)  # JSON array of pairs
    holder: Mapped[str] = mapped_column(String(200), index=True)
    evidence: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(10))  # submitted, approved, rejected, issued
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime())
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime())
    decided_by: Mapped[str | None] = mapped_column(String(200))
    reason: Mapped[str | None] = mapped_column(String(200))
    certificate_id: Mapped[str | None] = mapped_column(String(36), index=True)
    issuing_until: Mapped[datetime | None] = mapped_column(UtcDateTime())
