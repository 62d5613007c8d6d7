"""Accounts (RFC 8555 7.3): opened with an external account key, known by their own key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca.acme import events, resource_id
from ca.acme.errors import (
    AccountClosed,
    AccountDoesNotExist,
    AccountNotFound,
    AccountNotValid,
    InvalidContact,
    KeyInUse,
    Malformed,
    UnsupportedContact,
)
from ca.acme.external_keys import ExternalKeys
from ca.acme.jws import AccountKey, read_key
from ca.acme.tables import AccountRow
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database

VALID = "valid"
DEACTIVATED = "deactivated"
REVOKED = "revoked"
MAX_CONTACTS = 10
MAX_CONTACT_OCTETS = 254  # RFC 5321 4.5.3.1.3, less the angle brackets
# One address, no header fields (RFC 8555 7.3 refuses both several addresses and hfields).
_MAILTO = re.compile(r"mailto:[A-Za-z0-9.!#$&'*+/=^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True)
class Account:
    """An account. ``thumbprint`` is its key's (RFC 7638)."""

    id: str
    status: str
    thumbprint: str
    contact: tuple[str, ...]
    external_key_id: str
    created_at: datetime
    terms_agreed_at: datetime | None
    jwk: Mapping[str, str] = field(repr=False)

    @property
    def key(self) -> AccountKey:
        """The key its requests are signed with."""
        return read_key(self.jwk)

    @property
    def actor(self) -> str:
        """How the audit log names it."""
        return f"acme:{self.id}"


class Accounts:
    """Opens, changes and closes accounts."""

    def __init__(self, *, database: Database, audit: AuditLog, clock: Clock, external_keys: ExternalKeys) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._external_keys = external_keys

    def by_id(self, identifier: str) -> Account:
        """An account in good standing. Raises AccountDoesNotExist, AccountClosed."""
        with self._database.reading() as session:
            row = session.get(AccountRow, identifier)
        return _standing(row)

    def by_key(self, key: AccountKey) -> Account | None:
        """The account of this key, None when there is none. Raises AccountClosed."""
        with self._database.reading() as session:
            row = session.scalar(select(AccountRow).where(AccountRow.thumbprint == key.thumbprint))
        return None if row is None else _standing(row)

    def all(self) -> tuple[Account, ...]:
        """Every account, oldest first."""
        with self._database.reading() as session:
            return tuple(map(_value, session.scalars(select(AccountRow).order_by(AccountRow.created_at))))

    def create(
        self, key: AccountKey, *, external_key_id: str, contact: Sequence[str], terms_agreed: bool
    ) -> tuple[Account, bool]:
        """Open an account with a key whose binding was verified; whether it is new.

        Raises Unauthorized when the external key was used meanwhile.
        """
        now = self._clock()
        row = AccountRow(
            id=resource_id.fresh(),
            status=VALID,
            jwk=json.dumps(dict(key.jwk)),
            thumbprint=key.thumbprint,
            contact=json.dumps(list(contact)),
            external_key_id=external_key_id,
            terms_agreed_at=now if terms_agreed else None,
            created_at=now,
        )
        try:
            with self._database.transaction() as session:
                self._external_keys.take(session, external_key_id)
                session.add(row)
                session.flush()
                self._tell(session, events.ACCOUNT_CREATED, row, row_actor(row))
        except IntegrityError:
            # Two requests of one new key at once: the other one opened the account, and took the external key.
            if (there := self.by_key(key)) is not None:
                return there, False
            raise
        return _value(row), True

    def update(self, account: Account, *, contact: Sequence[str]) -> Account:
        """Give the account other contacts."""
        with self._database.transaction() as session:
            row = _locked(session, account.id)
            row.contact = json.dumps(list(contact))
            self._tell(session, events.ACCOUNT_UPDATED, row, account.actor)
            return _value(row)

    def deactivate(self, account: Account) -> Account:
        """Close the account for good (RFC 8555 7.3.6)."""
        with self._database.transaction() as session:
            row = _locked(session, account.id)
            row.status = DEACTIVATED
            self._tell(session, events.ACCOUNT_DEACTIVATED, row, account.actor)
            return _value(row)

    def revoke(self, identifier: str, *, actor: str) -> Account:
        """Close an account from our side. Raises AccountNotFound, AccountNotValid."""
        with self._database.transaction() as session:
            row = session.scalar(select(AccountRow).where(AccountRow.id == identifier).with_for_update())
            if row is None:
                raise AccountNotFound(f"there is no ACME account {identifier}")
            if row.status != VALID:
                raise AccountNotValid(f"the account is {row.status} already")
            row.status = REVOKED
            self._tell(session, events.ACCOUNT_REVOKED, row, actor)
            return _value(row)

    def change_key(self, account: Account, new: AccountKey) -> Account:
        """Let the account be known by another key (RFC 8555 7.3.5). Raises KeyInUse, with the other's id as fact."""
        self._refuse_known(new)
        try:
            with self._database.transaction() as session:
                row = _locked(session, account.id)
                if row.thumbprint != account.thumbprint:
                    raise Malformed("the account's key was changed meanwhile")
                row.jwk, row.thumbprint = json.dumps(dict(new.jwk)), new.thumbprint
                session.flush()
                self._tell(session, events.ACCOUNT_KEY_CHANGED, row, account.actor)
                return _value(row)
        except IntegrityError as error:
            self._refuse_known(new)
            raise KeyInUse("the new key was given to another account meanwhile") from error

    def knows_key(self, key: AccountKey) -> bool:
        """Whether some account, of whatever status, has this key."""
        with self._database.reading() as session:
            return session.scalar(select(AccountRow.id).where(AccountRow.thumbprint == key.thumbprint)) is not None

    def _refuse_known(self, key: AccountKey) -> None:
        with self._database.reading() as session:
            other = session.scalar(select(AccountRow.id).where(AccountRow.thumbprint == key.thumbprint))
        if other is not None:
            raise KeyInUse("the new key belongs to an account", account=other)

    def _tell(self, session: Session, event: str, row: AccountRow, actor: str) -> None:
        facts = {"external_key": row.external_key_id, "thumbprint": row.thumbprint, "status": row.status}
        self._audit.append(session, event, actor=actor, subject=row.id, facts=facts)


def row_actor(row: AccountRow) -> str:
    """How the audit log names the account of this row."""
    return f"acme:{row.id}"


def read_contact(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The contacts of a request. Raises Malformed, InvalidContact, UnsupportedContact."""
    given = payload.get("contact", [])
    if not isinstance(given, list) or len(given) > MAX_CONTACTS or not all(isinstance(item, str) for item in given):
        raise Malformed(f"contact is a list of at most {MAX_CONTACTS} addresses")
    for item in given:
        if not item.lower().startswith("mailto:"):
            raise UnsupportedContact("contacts are addresses with mailto:")
        if len(item) > MAX_CONTACT_OCTETS or not _MAILTO.fullmatch(item):
            raise InvalidContact("a contact is mailto: and one mail address")
    return tuple(given)


def _locked(session: Session, identifier: str) -> AccountRow:
    """The row of an account in good standing, held until the transaction ends."""
    row = session.scalar(select(AccountRow).where(AccountRow.id == identifier).with_for_update())
    _standing(row)
    assert row is not None  # noqa: S101 - _standing has raised
    return row


def _standing(row: AccountRow | None) -> Account:
    if row is None:
        raise AccountDoesNotExist("there is no such account")
    if row.status != VALID:
        raise AccountClosed(f"the account is {row.status}")
    return _value(row)


def _value(row: AccountRow) -> Account:
    return Account(
        id=row.id,
        status=row.status,
        thumbprint=row.thumbprint,
        contact=tuple(json.loads(row.contact)),
        external_key_id=row.external_key_id,
        created_at=row.created_at,
        terms_agreed_at=row.terms_agreed_at,
        jwk=json.loads(row.jwk),
    )
