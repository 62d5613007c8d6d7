"""Login sessions: a row in the database, found by the SHA-256 of the cookie's 256 random bits."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.principal import Principal
from policies import authentication
from sso import events
from sso.errors import PersonNotFound
from sso.opaque import digest, new_value
from sso.tables import AccessTokenRow, AuthorizationCodeRow, PersonRow, SessionRow

# The sliding end is written at most this often, so that reading a page is not a write.
TOUCH_EVERY_SECONDS = 30


@dataclass(frozen=True)
class LoginSession:
    """One browser's login. ``id`` is internal: relying parties get ``sid_for`` of it, browsers the cookie."""

    id: str
    person_id: str
    acr: str
    amr: tuple[str, ...]
    authenticated_at: datetime
    started_at: datetime

    def sid_for(self, client_id: str) -> str:
        """The ``sid`` one relying party sees; two of them cannot compare theirs."""
        return hashlib.sha256(f"{self.id}\0{client_id}".encode()).hexdigest()[:32]

    def principal(self) -> Principal:
        """This login in the words every room understands."""
        return Principal(
            kind="person",
            subject=self.person_id,
            acr=self.acr,
            amr=self.amr,
            authenticated_at=self.authenticated_at,
            session_id=self.id,
        )


@dataclass(frozen=True)
class Cookie:
    """How the session's cookie is set: RFC 6265bis 4.1.3.2 prefix and Secure, except on plain-http loopback."""

    name: str
    secure: bool
    samesite: Literal["Lax"] = "Lax"  # Strict would hide the session from every request a relying party starts
    path: str = "/"
    httponly: bool = True


class Sessions:
    """Starts, finds and ends login sessions. ``idle`` and ``absolute`` are seconds."""

    def __init__(
        self, database: Database, audit: AuditLog, clock: Clock, *, idle: int, absolute: int, secure: bool
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._idle = timedelta(seconds=idle)
        self._absolute = timedelta(seconds=absolute)
        self.cookie = Cookie("__Host-tamga" if secure else "tamga", secure)
        self.cookie_name = self.cookie.name

    def current(self, cookie: str | None) -> Principal | None:
        """Who is logged in with this cookie value, or None; using a session keeps it alive."""
        session = self.find(cookie)
        return session.principal() if session else None

    def find(self, cookie: str | None) -> LoginSession | None:
        """The live session of this cookie value, or None."""
        if not cookie:
            return None
        now = self._clock()
        with self._database.reading() as session:
            row = session.scalar(
                select(SessionRow)
                .join(PersonRow, PersonRow.id == SessionRow.person_id)
                .where(SessionRow.cookie_digest == digest(cookie), PersonRow.disabled_at.is_(None))
            )
        if row is None or not self._is_live(row, now):
            return None
        if now - row.used_at >= timedelta(seconds=TOUCH_EVERY_SECONDS):
            self._touch(row.id, now)
        return _session(row)

    def start(self, person_id: str, amr: Sequence[str], *, replacing: str | None) -> str:
        """Log a person in and return the new cookie value; the old one is dead from here on.

        The same person logging in again keeps the session with a new cookie; another person ends it.
        Raises PersonNotFound when the person was disabled meanwhile.
        """
        now, value = self._clock(), new_value()
        with self._database.transaction() as session:
            _check_enabled(session, person_id)
            old = _row_of(session, replacing)
            if old is not None and self._is_live(old, now) and old.person_id == person_id:
                self._renew(session, old, amr, value, now)
            else:
                if old is not None and old.ended_at is None:
                    self._end(session, old, now, f"person:{old.person_id}")
                self._begin(session, person_id, amr, value, now)
        return value

    def end(self, session_id: str, *, actor: str) -> None:
        """End a session with the codes and tokens it gave; an ended one stays ended."""
        with self._database.transaction() as session:
            row = session.get(SessionRow, session_id, with_for_update=True)
            if row is not None and row.ended_at is None:
                self._end(session, row, self._clock(), actor)

    def _begin(self, session: Session, person_id: str, amr: Sequence[str], value: str, now: datetime) -> None:
        row = SessionRow(
            id=str(uuid.uuid4()),
            cookie_digest=digest(value),
            person_id=person_id,
            acr=_acr(amr),
            amr=list(amr),
            authenticated_at=now,
            started_at=now,
            used_at=now,
            expires_at=now + self._absolute,
        )
        session.add(row)
        self._record(session, events.SESSION_STARTED, row)

    def _renew(self, session: Session, row: SessionRow, amr: Sequence[str], value: str, now: datetime) -> None:
        row.cookie_digest = digest(value)
        row.acr, row.amr = _acr(amr), list(amr)
        row.authenticated_at = row.used_at = now
        row.expires_at = now + self._absolute
        self._record(session, events.SESSION_RENEWED, row)

    def _end(self, session: Session, row: SessionRow, now: datetime, actor: str) -> None:
        row.ended_at = now
        for table in (AuthorizationCodeRow, AccessTokenRow):  # codes first, see relying_parties
            session.execute(
                update(table).where(table.session_id == row.id, table.revoked_at.is_(None)).values(revoked_at=now)
            )
        self._audit.append(session, events.SESSION_ENDED, actor=actor, subject=row.person_id)

    def _record(self, session: Session, event: str, row: SessionRow) -> None:
        facts = {"acr": row.acr, "amr": list(row.amr)}
        self._audit.append(session, event, actor=f"person:{row.person_id}", subject=row.person_id, facts=facts)

    def _touch(self, session_id: str, now: datetime) -> None:
        with self._database.transaction() as session:
            session.execute(
                update(SessionRow)
                .where(SessionRow.id == session_id, SessionRow.ended_at.is_(None), SessionRow.used_at < now)
                .values(used_at=now)
            )

    def _is_live(self, row: SessionRow, now: datetime) -> bool:
        return row.ended_at is None and now < row.expires_at and now < row.used_at + self._idle


def _acr(amr: Sequence[str]) -> str:
    acr = authentication.acr_for(amr)
    if acr is None:
        raise ValueError("a session needs a proven factor")
    return acr


def _check_enabled(session: Session, person_id: str) -> None:
    row = session.get(PersonRow, person_id, with_for_update={"read": True})
    if row is None or row.disabled_at is not None:
        raise PersonNotFound("there is no such person")


def _row_of(session: Session, cookie: str | None) -> SessionRow | None:
    if not cookie:
        return None
    return session.scalar(select(SessionRow).where(SessionRow.cookie_digest == digest(cookie)).with_for_update())


def _session(row: SessionRow) -> LoginSession:
    return LoginSession(row.id, row.person_id, row.acr, tuple(row.amr), row.authenticated_at, row.started_at)
