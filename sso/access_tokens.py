"""Access tokens: opaque, known to us by their SHA-256, short-lived, dead with their client, person or session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.principal import Principal
from sso import events
from sso.authorization_codes import Redeemed
from sso.errors import InvalidToken, UnauthorizedClient
from sso.opaque import digest, new_value
from sso.relying_parties import RelyingParty
from sso.tables import AccessTokenRow, PersonRow, RelyingPartyRow

# Longer strings cannot be one of ours, so they are not even hashed.
MAX_TOKEN_OCTETS = 256


@dataclass(frozen=True)
class AccessToken:
    """What a presented token stands for; ``person_id`` and ``sub`` are None when a client acts for itself."""

    client_id: str
    person_id: str | None
    sub: str | None
    scopes: tuple[str, ...]
    acr: str | None
    amr: tuple[str, ...]
    authenticated_at: datetime | None
    session_id: str | None

    def principal(self) -> Principal:
        """The bearer in the words every room understands."""
        return Principal(
            kind="person" if self.person_id else "client",
            subject=self.person_id or self.client_id,
            client_id=self.client_id,
            scopes=frozenset(self.scopes),
            acr=self.acr,
            amr=self.amr,
            authenticated_at=self.authenticated_at,
            session_id=self.session_id,
        )


class AccessTokens:
    """Issues and recognises access tokens; ``lifetime`` is in seconds."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock, *, lifetime: int) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self.lifetime = lifetime

    def issue_for_person(self, session: Session, code: Redeemed) -> str:
        """A token for what the person behind ``code`` agreed to, in the transaction that redeemed it."""
        return self._issue(
            session,
            AccessTokenRow(
                family=code.family,
                client_id=code.client_id,
                person_id=code.person_id,
                session_id=code.session_id,
                sub=code.sub,
                scope=code.scope,
                acr=code.acr,
                amr=list(code.amr),
                authenticated_at=code.authenticated_at,
            ),
            "authorization_code",
        )

    def issue_for_client(self, session: Session, client: RelyingParty, scopes: tuple[str, ...]) -> str:
        """A token for the client itself. Raises UnauthorizedClient if it was disabled meanwhile."""
        # A share lock: disabling waits for this transaction and then finds its token.
        row = session.get(RelyingPartyRow, client.client_id, with_for_update={"read": True})
        if row is None or row.disabled_at is not None:
            raise UnauthorizedClient("the client is disabled")
        token = AccessTokenRow(client_id=client.client_id, scope=" ".join(scopes), amr=[])
        return self._issue(session, token, "client_credentials")

    def find(self, token: str) -> AccessToken:
        """What ``token`` stands for, by one indexed read. Raises InvalidToken."""
        if len(token) > MAX_TOKEN_OCTETS:
            raise InvalidToken("the access token is not valid")
        query = (
            select(AccessTokenRow)
            .join(RelyingPartyRow, RelyingPartyRow.client_id == AccessTokenRow.client_id)
            .outerjoin(PersonRow, PersonRow.id == AccessTokenRow.person_id)
            .where(
                AccessTokenRow.digest == digest(token),
                AccessTokenRow.revoked_at.is_(None),
                RelyingPartyRow.disabled_at.is_(None),
                or_(AccessTokenRow.person_id.is_(None), PersonRow.disabled_at.is_(None)),
            )
        )
        with self._database.reading() as session:
            row = session.scalar(query)
        if row is None or self._clock() >= row.expires_at:
            raise InvalidToken("the access token is unknown, expired or revoked")
        return _token(row)

    def principal(self, token: str) -> Principal:
        """Who bears ``token``. Raises InvalidToken."""
        return self.find(token).principal()

    def _issue(self, session: Session, row: AccessTokenRow, grant_type: str) -> str:
        token, now = new_value(), self._clock()
        row.digest, row.issued_at = digest(token), now
        row.expires_at = now + timedelta(seconds=self.lifetime)
        session.add(row)
        facts = {"grant_type": grant_type, "scope": row.scope}
        actor = f"client:{row.client_id}"
        self._audit.append(session, events.TOKEN_ISSUED, actor=actor, subject=row.person_id, facts=facts)
        return token


def _token(row: AccessTokenRow) -> AccessToken:
    return AccessToken(
        client_id=row.client_id,
        person_id=row.person_id,
        sub=row.sub,
        scopes=tuple(row.scope.split()),
        acr=row.acr,
        amr=tuple(row.amr),
        authenticated_at=row.authenticated_at,
        session_id=row.session_id,
    )
