"""Consent: what a person agreed to give which relying party, remembered for at most a year."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select, update

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from sso import claims, events
from sso.sessions import LoginSession
from sso.tables import ConsentRow


class Consents:
    """Remembers what was agreed, per person, client and set of claims. ``days`` is how long."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock, *, days: int) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._life = timedelta(days=days)

    def covers(self, person_id: str, client_id: str, scopes: Iterable[str], *, since: datetime | None = None) -> bool:
        """Whether everything asked was agreed to, with today's meaning, and not before ``since``."""
        query = select(ConsentRow).where(
            ConsentRow.person_id == person_id, ConsentRow.client_id == client_id, ConsentRow.state == "active"
        )
        with self._database.reading() as session:
            rows = session.scalars(query).all()
        now = self._clock()
        return any(
            now < row.expires_at
            and row.claims_version == claims.VERSION
            and set(scopes) <= set(row.scopes)
            and (since is None or row.granted_at >= since)
            for row in rows
        )

    def grant(self, login: LoginSession, client_id: str, scopes: Iterable[str], *, language: str) -> None:
        """Remember that the person agreed; an older consent to this client is superseded."""
        now, listed = self._clock(), sorted(scopes)
        with self._database.transaction() as session:
            session.execute(
                update(ConsentRow)
                .where(
                    ConsentRow.person_id == login.person_id,
                    ConsentRow.client_id == client_id,
                    ConsentRow.state == "active",
                )
                .values(state="superseded")
            )
            session.add(
                ConsentRow(
                    id=str(uuid.uuid4()),
                    person_id=login.person_id,
                    client_id=client_id,
                    scopes=listed,
                    claims_version=claims.VERSION,
                    language=language,
                    acr=login.acr,
                    state="active",
                    granted_at=now,
                    expires_at=now + self._life,
                )
            )
            facts = {"client_id": client_id, "scopes": listed, "language": language}
            self._audit.append(
                session,
                events.CONSENT_GRANTED,
                actor=f"person:{login.person_id}",
                subject=login.person_id,
                facts=facts,
            )

    def refuse(self, login: LoginSession, client_id: str, scopes: Iterable[str]) -> None:
        """Record that the person said no; what was agreed earlier stays."""
        facts = {"client_id": client_id, "scopes": sorted(scopes)}
        actor = f"person:{login.person_id}"
        with self._database.transaction() as session:
            self._audit.append(session, events.CONSENT_REFUSED, actor=actor, subject=login.person_id, facts=facts)
