"""The trust list's table: versions, each naming the one before it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base, UtcDateTime


class TrustListVersionRow(Base):
    """One version: its canonical JSON as it was signed, and the signature over it (compact JWS)."""

    __tablename__ = "ca_trust_list_versions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime())
    made_by: Mapped[str] = mapped_column(String(200))
    change: Mapped[str] = mapped_column(String(200))
    payload: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    jws: Mapped[str] = mapped_column(Text)
