"""Authorization codes: bound to everything, taken once by one statement, remembered when spent (RFC 6749 4.1.2)."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.logs import get_logger
from sso import events
from sso.errors import InteractionGone, InvalidGrant
from sso.opaque import digest, new_value
from sso.tables import AccessTokenRow, AuthorizationCodeRow, PersonRow, RelyingPartyRow, SessionRow

log = get_logger("sso.authorization_codes")

# RFC 7636 4.1: 43 to 128 of RFC 3986 "unreserved", which includes full stop and tilde.
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


@dataclass(frozen=True)
class Binding:
    """What a code is good for; nothing of it can be changed at the token endpoint."""

    client_id: str
    person_id: str
    session_id: str
    redirect_uri: str
    code_challenge: str
    scope: str
    nonce: str | None
    sub: str
    sid: str
    acr: str
    amr: tuple[str, ...]
    authenticated_at: datetime


@dataclass(frozen=True)
class Redeemed(Binding):
    """A code that was taken just now; ``family`` names everything that will descend from it."""

    family: str


class AuthorizationCodes:
    """Issues and redeems codes; ``lifetime`` is in seconds."""

    def __init__(self, audit: AuditLog, clock: Clock, *, lifetime: int) -> None:
        self._audit = audit
        self._clock = clock
        self._lifetime = timedelta(seconds=lifetime)

    def issue(self, session: Session, binding: Binding) -> str:
        """A new code, in the caller's transaction. Raises InteractionGone when login, person or client has ended."""
        _check_live(session, binding)
        code, now = new_value(), self._clock()
        session.add(
            AuthorizationCodeRow(
                digest=digest(code),
                family=str(uuid.uuid4()),
                issued_at=now,
                expires_at=now + self._lifetime,
                **{**vars(binding), "amr": list(binding.amr)},
            )
        )
        actor, facts = f"person:{binding.person_id}", {"client_id": binding.client_id, "scope": binding.scope}
        self._audit.append(session, events.CODE_ISSUED, actor=actor, subject=binding.person_id, facts=facts)
        return code

    def redeem(self, session: Session, code: str, *, client_id: str, redirect_uri: str, verifier: str) -> Redeemed:
        """Take the code, by one conditional statement that runs before anything is issued.

        Raises InvalidGrant. When the code was spent before, its descendants are revoked in this transaction, which
        the caller then must commit.
        """
        if not _VERIFIER.fullmatch(verifier):
            raise InvalidGrant("code_verifier must be 43 to 128 unreserved characters")
        now, row = self._clock(), AuthorizationCodeRow
        taken = session.execute(
            update(row)
            .where(
                row.digest == digest(code),
                row.client_id == client_id,
                row.redirect_uri == redirect_uri,
                row.code_challenge == s256(verifier),
                row.redeemed_at.is_(None),
                row.revoked_at.is_(None),
                row.expires_at > now,
                exists().where(RelyingPartyRow.client_id == client_id, RelyingPartyRow.disabled_at.is_(None)),
                exists().where(PersonRow.id == row.person_id, PersonRow.disabled_at.is_(None)),
                exists().where(SessionRow.id == row.session_id, SessionRow.ended_at.is_(None)),
            )
            .values(redeemed_at=now)
            .returning(row)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if taken is None:
            self._refuse(session, code, client_id, now)
        return _redeemed(taken)

    def _refuse(self, session: Session, code: str, client_id: str, now: datetime) -> NoReturn:
        spent = session.scalar(
            select(AuthorizationCodeRow).where(
                AuthorizationCodeRow.digest == digest(code),
                AuthorizationCodeRow.client_id == client_id,
                AuthorizationCodeRow.redeemed_at.is_not(None),
            )
        )
        if spent is not None:
            self._revoke_family(session, spent, now)
        raise InvalidGrant("the code is unknown, spent, expired, or bound to another request")

    def _revoke_family(self, session: Session, spent: AuthorizationCodeRow, now: datetime) -> None:
        log.warning("code_replayed", client_id=spent.client_id)
        spent.revoked_at = spent.revoked_at or now
        session.execute(
            update(AccessTokenRow)
            .where(AccessTokenRow.family == spent.family, AccessTokenRow.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        actor = f"client:{spent.client_id}"
        self._audit.append(session, events.CODE_REPLAYED, actor=actor, subject=spent.person_id)


def s256(verifier: str) -> str:
    """BASE64URL(SHA256(ASCII(code_verifier))) (RFC 7636 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def _check_live(session: Session, binding: Binding) -> None:
    # One read for login, person and client: a logout or a disabling in between must not be overtaken by a code.
    live = session.scalar(
        select(SessionRow.id)
        .join(PersonRow, PersonRow.id == SessionRow.person_id)
        .where(
            SessionRow.id == binding.session_id,
            SessionRow.ended_at.is_(None),
            PersonRow.disabled_at.is_(None),
            exists().where(RelyingPartyRow.client_id == binding.client_id, RelyingPartyRow.disabled_at.is_(None)),
        )
    )
    if live is None:
        raise InteractionGone("the login has ended")


def _redeemed(row: AuthorizationCodeRow) -> Redeemed:
    return Redeemed(
        client_id=row.client_id,
        person_id=row.person_id,
        session_id=row.session_id,
        redirect_uri=row.redirect_uri,
        code_challenge=row.code_challenge,
        scope=row.scope,
        nonce=row.nonce,
        sub=row.sub,
        sid=row.sid,
        acr=row.acr,
        amr=tuple(row.amr),
        authenticated_at=row.authenticated_at,
        family=row.family,
    )
