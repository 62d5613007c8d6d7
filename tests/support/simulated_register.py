"""A register of any size without the work of issuing: rows as issuance leaves them, all with the same DER."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import insert

from ca.tables import CertificateRow
from core.database import Database

TOGETHER = 5000


def fill(database: Database, count: int, *, issuer: str, now: datetime, der: bytes, **changes: Any) -> None:
    """Add ``count`` certificates of ``issuer`` in force; ``changes`` are columns that differ from a citizen's."""
    rows = (_row(issuer, now, der, changes) for _ in range(count))
    with database.engine.connect() as connection:
        thrashes = count > TOGETHER and database.engine.dialect.name == "sqlite"
        if thrashes:  # else a million random keys thrash a cache of two megabytes
            connection.exec_driver_sql("PRAGMA cache_size=-500000")
            connection.commit()
        while some := list(islice(rows, TOGETHER)):
            connection.execute(insert(CertificateRow), some)
            connection.commit()
    if thrashes:
        database.close()  # the connection keeps its large cache


def _row(issuer: str, now: datetime, der: bytes, changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "issuer": issuer,
        "serial": b"\x01" + secrets.token_bytes(17),
        "profile": "citizen-signature",
        "profile_version": 1,
        "profile_digest": "0" * 64,
        "holder": str(uuid.uuid4()),
        "evidence": "simulated",
        "key_label": None,
        "spki_sha256": secrets.token_bytes(32),
        "sha256": secrets.token_bytes(32),
        "not_before": now - timedelta(days=1),
        "not_after": now + timedelta(days=1000),
        "der": der,
        "issued_at": now - timedelta(days=1),
        "state": "good",
        "state_since": now - timedelta(days=1),
        "revoked_at": None,
        "reason": None,
        **changes,
    }
