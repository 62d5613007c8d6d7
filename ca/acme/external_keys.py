"""External account keys (RFC 8555 7.3.4): given to an organisation beforehand, they say what its machines may order.

The MAC key is shown once, when it is made; it is kept sealed under a secret of the token, so that who reads the
database can open no account.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from ca.acme import events, resource_id
from ca.acme.errors import ExternalAccountRequired, ExternalKeyNotFound, ExternalKeyRevoked, Unauthorized
from ca.acme.identifiers import Entitlement, checked_entitlement
from ca.acme.jws import encode
from ca.acme.tables import AccountRow, ExternalKeyRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from hsm.keystore import Keystore

MAC_KEY_OCTETS = 32
MAX_VALID_DAYS = 366


@dataclass(frozen=True)
class ExternalKey:
    """A key as an operator sees it. ``accounts`` counts those it opened."""

    id: str
    entitlement: Entitlement
    reusable: bool
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    accounts: int = 0


@dataclass(frozen=True)
class NewExternalKey:
    """A key that was just made, with its MAC key in base64url, as clients take it."""

    key: ExternalKey
    mac_key: str = field(repr=False)


class ExternalKeys:
    """Makes, lists and revokes external account keys."""

    def __init__(
        self, *, database: Database, audit: AuditLog, clock: Clock, keystore: Keystore, sealing_key: str
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._sealing_key = sealing_key

    def add(
        self, entitlement: Entitlement, *, actor: str, reusable: bool = False, valid_days: int = 30
    ) -> NewExternalKey:
        """Make a key that opens one account, or several when ``reusable``, within ``valid_days``.

        Raises EntitlementRefused.
        """
        entitlement = checked_entitlement(entitlement)
        identifier, mac_key, now = resource_id.fresh(), _fresh_mac_key(), self._clock()
        row = ExternalKeyRow(
            id=identifier,
            sealed=self._keystore.seal(self._sealing_key, mac_key, _context(identifier)),
            entitlement=entitlement.text(),
            reusable=reusable,
            created_at=now,
            expires_at=now + timedelta(days=min(valid_days, MAX_VALID_DAYS)),
            used_at=None,
            revoked_at=None,
        )
        facts: dict[str, Fact] = {"organisation": entitlement.organisation, "profile": entitlement.profile}
        facts |= {"allowed": entitlement.allowed, "reusable": reusable}
        with self._database.transaction() as session:
            session.add(row)
            self._audit.append(session, events.EXTERNAL_KEY_CREATED, actor=actor, subject=identifier, facts=facts)
            return NewExternalKey(_value(row), encode(mac_key))

    def all(self) -> tuple[ExternalKey, ...]:
        """Every key, oldest first."""
        with self._database.reading() as session:
            used = list(session.scalars(select(AccountRow.external_key_id)))
            rows = list(session.scalars(select(ExternalKeyRow).order_by(ExternalKeyRow.created_at)))
        return tuple(_value(row, used.count(row.id)) for row in rows)

    def revoke(self, identifier: str, *, actor: str) -> int:
        """End a key and every account it opened; how many those were. Raises ExternalKeyNotFound, ExternalKeyRevoked.

        Certificates stay: they are revoked one by one or all at once by the commands for certificates.
        """
        with self._database.transaction() as session:
            row = session.scalar(select(ExternalKeyRow).where(ExternalKeyRow.id == identifier).with_for_update())
            if row is None:
                raise ExternalKeyNotFound(f"there is no external account key {identifier}")
            if row.revoked_at is not None:
                raise ExternalKeyRevoked("this key was revoked before")
            row.revoked_at = self._clock()
            closed = session.execute(
                update(AccountRow)
                .where(AccountRow.external_key_id == identifier, AccountRow.status == "valid")
                .values(status="revoked")
            )
            assert isinstance(closed, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
            facts = {"accounts": closed.rowcount}
            self._audit.append(session, events.EXTERNAL_KEY_REVOKED, actor=actor, subject=identifier, facts=facts)
            return closed.rowcount

    def mac_key(self, identifier: str) -> bytes:
        """The MAC key of a key that may open an account now. Raises Unauthorized, whatever the cause."""
        with self._database.reading() as session:
            row = session.get(ExternalKeyRow, identifier)
        if row is None or not self._usable(row):
            raise Unauthorized("the external account key is unknown, used, expired or revoked")
        return self._keystore.unseal(self._sealing_key, row.sealed, _context(identifier))

    def take(self, session: Session, identifier: str) -> None:
        """Use the key for one account, in the transaction that opens it. Raises Unauthorized."""
        row = session.scalar(select(ExternalKeyRow).where(ExternalKeyRow.id == identifier).with_for_update())
        if row is None or not self._usable(row):
            raise Unauthorized("the external account key is unknown, used, expired or revoked")
        row.used_at = self._clock()
        session.flush()

    def entitlement(self, identifier: str) -> Entitlement:
        """What a key allows its accounts. Raises ExternalAccountRequired when it was revoked."""
        with self._database.reading() as session:
            row = session.get(ExternalKeyRow, identifier)
        if row is None or row.revoked_at is not None:
            raise ExternalAccountRequired("the external account key of this account is no longer in force")
        return Entitlement.of(row.entitlement)

    def _usable(self, row: ExternalKeyRow) -> bool:
        fresh = row.revoked_at is None and row.expires_at > self._clock()
        return fresh and (row.reusable or row.used_at is None)


def _fresh_mac_key() -> bytes:
    """Clients take the key as an option's value in base64url, so no hyphen stands in front."""
    while encode(key := secrets.token_bytes(MAC_KEY_OCTETS)).startswith("-"):
        pass
    return key


def _context(identifier: str) -> bytes:
    """What a sealed key is bound to, so that it opens in no other row."""
    return b"acme-external-key:" + identifier.encode("ascii")


def _value(row: ExternalKeyRow, accounts: int = 0) -> ExternalKey:
    return ExternalKey(
        id=row.id,
        entitlement=Entitlement.of(row.entitlement),
        reusable=row.reusable,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
        accounts=accounts,
    )
