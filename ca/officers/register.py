"""The register of officers: who holds which roles, known by which account and which key."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from ca.officers import keys
from ca.officers.errors import (
    AccountTaken,
    OfficerKeyRefused,
    OfficerNameRefused,
    OfficerNotFound,
    TooFewSecurityOfficers,
)
from ca.officers.roles import SECURITY_OFFICER, checked_roles
from ca.officers.tables import OfficerRow, OfficerVersionRow
from core.database import Database

ACTIVE, RETIRED = "active", "retired"
# With two, one can approve what the other asks for.
FEWEST_SECURITY_OFFICERS = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}")


@dataclass(frozen=True)
class Officer:
    """An officer as he is in this version. ``spki`` is his public key's SubjectPublicKeyInfo in DER."""

    name: str
    version: int
    roles: frozenset[str]
    os_uid: int
    os_user: str
    spki: bytes = field(repr=False)
    active: bool
    since: datetime | None = None

    @property
    def actor(self) -> str:
        """How the audit log names him."""
        return f"officer:{self.name}"

    @property
    def key_sha256(self) -> bytes:
        """By which his key is known."""
        return keys.fingerprint(self.spki)

    def holds(self, roles: Collection[str]) -> bool:
        """Whether he is active and holds one of these roles."""
        return self.active and bool(self.roles & set(roles))


class Officers:
    """Asks the register of officers; ``role_changes`` changes it."""

    def __init__(self, database: Database, *, share_accounts: bool) -> None:
        self._database = database
        self._share_accounts = share_accounts

    def enrolled(self, session: Session | None = None) -> bool:
        """Whether anybody was ever enrolled. From then on nobody acts without being an officer."""
        query = select(OfficerRow.name).limit(1)
        if session is not None:
            return session.execute(query).first() is not None
        with self._database.reading() as reading:
            return reading.execute(query).first() is not None

    def all(self, session: Session | None = None) -> tuple[Officer, ...]:
        """Every officer as he is now, the retired too, by name."""
        now = (OfficerRow.name == OfficerVersionRow.name) & (OfficerRow.version == OfficerVersionRow.version)
        query = (
            select(OfficerVersionRow)
            .join(OfficerRow, now)
            .order_by(OfficerVersionRow.name)
            .execution_options(populate_existing=True)
        )
        if session is not None:
            return tuple(map(as_officer, session.scalars(query)))
        with self._database.reading() as reading:
            return tuple(map(as_officer, reading.scalars(query)))

    def get(self, name: str) -> Officer:
        """The officer of this name as he is now. Raises OfficerNotFound."""
        for officer in self.all():
            if officer.name == name:
                return officer
        raise OfficerNotFound(f"there is no officer {name[:64]!r}")

    def history(self, name: str) -> tuple[OfficerVersionRow, ...]:
        """Every version of an officer, oldest first. Raises OfficerNotFound."""
        query = select(OfficerVersionRow).where(OfficerVersionRow.name == name).order_by(OfficerVersionRow.version)
        with self._database.reading() as session:
            rows = tuple(session.scalars(query))
        if not rows:
            raise OfficerNotFound(f"there is no officer {name[:64]!r}")
        return rows

    def of_account(self, os_uid: int, os_user: str) -> tuple[Officer, ...]:
        """The active officers known by this account: number and name, since numbers are given out again."""
        return tuple(each for each in self.all() if each.active and (each.os_uid, each.os_user) == (os_uid, os_user))

    def check(self, session: Session, wanted: Officer, *, first: bool = False) -> None:
        """Whether the register may hold this officer beside the others. The table stays locked until the end.
        ``first`` is for those who are enrolled before there are enough security officers.

        Raises OfficerNameRefused, RoleUnknown, RolesConflict, OfficerKeyRefused, AccountTaken,
        TooFewSecurityOfficers.
        """
        if not _NAME.fullmatch(wanted.name):
            raise OfficerNameRefused("a name has 2 to 63 small letters, digits, dots and hyphens")
        checked_roles(wanted.roles)
        self.lock(session)
        others = [each for each in self.all(session) if each.name != wanted.name]
        self._check_key(session, wanted)
        taken = [each.name for each in others if each.active and each.os_uid == wanted.os_uid]
        if wanted.active and taken and not self._share_accounts:
            raise AccountTaken(f"the account {wanted.os_user} is that of {taken[0]}")
        security = sum(each.holds({SECURITY_OFFICER}) for each in [*others, wanted])
        if not first and security < FEWEST_SECURITY_OFFICERS:
            raise TooFewSecurityOfficers(f"there must be {FEWEST_SECURITY_OFFICERS} active security officers")

    @staticmethod
    def lock(session: Session) -> None:
        """Hold the register until the transaction ends, so that two changes which each are right do not together leave
        too few security officers. SQLite's writers queue anyway."""
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"LOCK TABLE {OfficerRow.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))

    @staticmethod
    def _check_key(session: Session, wanted: Officer) -> None:
        # A key that was anybody else's once could sign for two people.
        query = select(OfficerVersionRow.name).where(
            OfficerVersionRow.key_sha256 == wanted.key_sha256, OfficerVersionRow.name != wanted.name
        )
        if session.execute(query.limit(1)).first() is not None:
            raise OfficerKeyRefused("this key is or was another officer's")

    @staticmethod
    def enter(session: Session, wanted: Officer, *, since: datetime, actor: str, approval_id: str | None) -> None:
        """Add this version of an officer and put it in force. Nothing is checked here."""
        row = session.get(OfficerRow, wanted.name)
        if row is None:
            session.add(OfficerRow(name=wanted.name, version=wanted.version))
        else:
            row.version = wanted.version
        session.add(
            OfficerVersionRow(
                name=wanted.name,
                version=wanted.version,
                roles=" ".join(sorted(wanted.roles)),
                os_uid=wanted.os_uid,
                os_user=wanted.os_user,
                public_key=wanted.spki,
                key_sha256=wanted.key_sha256,
                state=ACTIVE if wanted.active else RETIRED,
                since=since,
                actor=actor,
                approval_id=approval_id,
            )
        )
        session.flush()


def as_officer(row: OfficerVersionRow) -> Officer:
    """A row as a value."""
    return Officer(
        name=row.name,
        version=row.version,
        roles=frozenset(row.roles.split()),
        os_uid=row.os_uid,
        os_user=row.os_user,
        spki=row.public_key,
        active=row.state == ACTIVE,
        since=row.since,
    )
