"""Pairwise subjects: each sector of relying parties knows a person by a name of its own (OpenID Connect Core 8.1)."""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.clock import Clock
from core.database import Database
from sso.errors import PersonNotFound
from sso.relying_parties import RelyingParty
from sso.tables import PersonRow, RelyingPartyRow, SubjectRow

_SUBJECT = re.compile(r"[A-Za-z0-9_-]{43}")  # BASE64URL of 32 octets
REMEMBERED = 10_000  # pairs a process keeps at hand


class MacKeeper(Protocol):
    """A secret in the token that makes MACs."""

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of ``data``."""


class Subjects:
    """Computes each pairwise subject once and stores it, so that it survives a change of the secret."""

    def __init__(self, database: Database, clock: Clock, keeper: MacKeeper, *, key: str) -> None:
        self._database = database
        self._clock = clock
        self._keeper = keeper
        self._key = key
        # A pair's subject never changes, so a process may remember it.
        self._cached = lru_cache(maxsize=REMEMBERED)(self._subject)

    def subject(self, client: RelyingParty, person_id: str) -> str:
        """What ``client`` calls this person; 43 characters that mean nothing elsewhere."""
        return self._cached(client.sector, person_id)

    def _subject(self, sector: str, person_id: str) -> str:
        with self._database.reading() as session:
            known = _known(session, sector, person_id)
        if known is not None:
            return known
        # A sector holds no NUL and an id is of fixed length, so no two pairs give the same input.
        octets = self._keeper.mac(self._key, f"tamga:sub\0{sector}\0{person_id}".encode())
        return self._remembered(sector, person_id, base64.urlsafe_b64encode(octets).rstrip(b"=").decode())

    def person_for(self, client_id: str, sub: str) -> str:
        """The id of the person ``client_id`` knows as ``sub``. Raises PersonNotFound."""
        if not _SUBJECT.fullmatch(sub):
            raise PersonNotFound("this client knows no such person")
        query = (
            select(SubjectRow.person_id)
            .join(RelyingPartyRow, RelyingPartyRow.sector == SubjectRow.sector)
            .join(PersonRow, PersonRow.id == SubjectRow.person_id)
            .where(RelyingPartyRow.client_id == client_id, SubjectRow.sub == sub, PersonRow.disabled_at.is_(None))
        )
        with self._database.reading() as session:
            person_id = session.scalar(query)
        if person_id is None:
            raise PersonNotFound("this client knows no such person")
        return str(person_id)

    def _remembered(self, sector: str, person_id: str, sub: str) -> str:
        try:
            with self._database.transaction() as session:
                session.add(SubjectRow(sector=sector, person_id=person_id, sub=sub, created_at=self._clock()))
        except IntegrityError:
            # Two tabs computed it at once; the first one's row stands.
            with self._database.reading() as session:
                return _known(session, sector, person_id) or sub
        return sub


def _known(session: Session, sector: str, person_id: str) -> str | None:
    return session.scalar(select(SubjectRow.sub).where(SubjectRow.sector == sector, SubjectRow.person_id == person_id))
