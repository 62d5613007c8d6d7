"""People: who can log in, under which name, and the facts that certificates and relying parties are given."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.passwords import Passwords
from policies.names import public_name
from sso import events
from sso.authentication import otp
from sso.errors import CivilIdTaken, InvalidPerson, PersonNotFound, UsernameTaken
from sso.tables import AccessTokenRow, AuthorizationCodeRow, PersonIdentifierRow, PersonRow, SessionRow

CIVIL_ID = "civil_id"
MIN_PASSWORD_CHARACTERS = 8  # NIST SP 800-63B 3.1.1.2, with a second factor
MAX_PASSWORD_CHARACTERS = 256
MAX_NAME_CHARACTERS = 64  # RFC 5280 A.1: what a common name can hold
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{2,63}")
_CIVIL_ID = re.compile(r"[0-9]{12}")


class Secrets(Protocol):
    """What this module asks of the keystore: secrets that never leave the token."""

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of ``data``."""

    def seal(self, label: str, plaintext: bytes, context: bytes) -> bytes:
        """``plaintext`` encrypted and bound to ``context``."""

    def unseal(self, label: str, sealed: bytes, context: bytes) -> bytes:
        """What was sealed under the same context; raises when either was changed."""


@dataclass(frozen=True)
class Person:
    """Somebody who can log in. ``family_name`` is the patronymic and may be empty."""

    id: str
    username: str
    given_name: str
    family_name: str
    has_totp: bool
    created_at: datetime
    disabled_at: datetime | None

    def __repr__(self) -> str:
        return f"Person({self.id!r})"

    @property
    def enabled(self) -> bool:
        """Whether this person may log in."""
        return self.disabled_at is None

    @property
    def name(self) -> str:
        """The full name, patronymic first, as on an identity card."""
        return f"{self.family_name} {self.given_name}".strip()

    @property
    def display_name(self) -> str:
        """The public form: ``Ж.Өлзийхүү``."""
        return public_name(self.given_name, self.family_name)


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says of a person (EN 319 412-2 4.2.4). ``civil_id`` is 12 digits and never logged."""

    person_id: str
    given_name: str
    family_name: str
    civil_id: str

    def __repr__(self) -> str:
        return f"CertificateFacts({self.person_id!r})"


@dataclass(frozen=True)
class NewPerson:
    """What an enrolment clerk enters."""

    username: str
    given_name: str
    family_name: str
    civil_id: str
    password: str

    def __repr__(self) -> str:
        return f"NewPerson({self.username!r})"


@dataclass(frozen=True)
class Enrolled:
    """A new person and, once only, the TOTP secret for their phone (raw octets)."""

    person: Person
    totp_secret: bytes | None

    def __repr__(self) -> str:
        return f"Enrolled({self.person!r})"


class People:
    """The register of people. National identifiers are sealed in the token and found by their keyed HMAC."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        passwords: Passwords,
        secrets: Secrets,
        *,
        mac_key: str,
        sealing_key: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._passwords = passwords
        self._secrets = secrets
        self._mac_key = mac_key
        self._sealing_key = sealing_key

    def create(self, new: NewPerson, *, actor: str, totp: bool) -> Enrolled:
        """Enter a person. Raises InvalidPerson, UsernameTaken, CivilIdTaken."""
        new = _checked(new)
        now, person_id = self._clock(), str(uuid.uuid4())
        secret = otp.new_secret() if totp else None
        row = PersonRow(
            id=person_id,
            username=new.username,
            given_name=new.given_name,
            family_name=new.family_name,
            password_hash=self._passwords.hash(new.password),
            totp_sealed=self._seal(secret, person_id, "totp") if secret else None,
            created_at=now,
        )
        identifier = PersonIdentifierRow(
            id=str(uuid.uuid4()),
            person_id=person_id,
            kind=CIVIL_ID,
            sealed=self._seal(new.civil_id.encode(), person_id, CIVIL_ID),
            mac=self._identifier_mac(CIVIL_ID, new.civil_id),
            valid_from=now,
        )
        with self._database.transaction() as session:
            _check_free(session, new.username, identifier.mac)
            session.add(row)
            session.flush()
            session.add(identifier)
            self._audit.append(session, events.PERSON_CREATED, actor=actor, subject=person_id, facts={"totp": totp})
        return Enrolled(_person(row), secret)

    def get(self, person_id: str) -> Person:
        """The person of that id, disabled or not. Raises PersonNotFound."""
        with self._database.reading() as session:
            row = session.get(PersonRow, person_id)
        return _found(row)

    def by_username(self, username: str) -> Person:
        """The person of that user name. Raises PersonNotFound."""
        return _found(self._row_of(username))

    def by_civil_id(self, civil_id: str) -> Person:
        """The person who has or had that civil id. Raises PersonNotFound."""
        mac = self._identifier_mac(CIVIL_ID, civil_id)
        with self._database.reading() as session:
            row = session.scalar(
                select(PersonRow)
                .join(PersonIdentifierRow, PersonIdentifierRow.person_id == PersonRow.id)
                .where(PersonIdentifierRow.kind == CIVIL_ID, PersonIdentifierRow.mac == mac)
            )
        return _found(row)

    def all(self) -> Sequence[Person]:
        """Every person, oldest first."""
        with self._database.reading() as session:
            rows = session.scalars(select(PersonRow).order_by(PersonRow.created_at, PersonRow.username)).all()
        return tuple(_person(row) for row in rows)

    def certificate_facts(self, person_id: str) -> CertificateFacts:
        """What a certificate for this person says. Raises PersonNotFound, also for a disabled person."""
        with self._database.reading() as session:
            row = session.get(PersonRow, person_id)
            identifier = session.scalar(
                select(PersonIdentifierRow).where(
                    PersonIdentifierRow.person_id == person_id,
                    PersonIdentifierRow.kind == CIVIL_ID,
                    PersonIdentifierRow.valid_to.is_(None),
                )
            )
        if row is None or identifier is None or row.disabled_at is not None:
            raise PersonNotFound("there is no such person")
        civil_id = self._secrets.unseal(self._sealing_key, identifier.sealed, _context(person_id, CIVIL_ID)).decode()
        return CertificateFacts(person_id, row.given_name, row.family_name, civil_id)

    def disable(self, person_id: str, *, actor: str) -> None:
        """Let this person log in no more; sessions, codes and tokens end in the same transaction."""
        now = self._clock()
        with self._database.transaction() as session:
            row = session.get(PersonRow, person_id, with_for_update=True)
            if row is None:
                raise PersonNotFound("there is no such person")
            if row.disabled_at is not None:
                return
            row.disabled_at = now
            _end_everything(session, person_id, now)
            self._audit.append(session, events.PERSON_DISABLED, actor=actor, subject=person_id)

    def check_password(self, username: str, password: str) -> Person | None:
        """The person whose password this is; None otherwise, after the same work for a name nobody has."""
        row = self._row_of(username)
        if row is None or len(password) > MAX_PASSWORD_CHARACTERS:
            self._passwords.spend(password[:MAX_PASSWORD_CHARACTERS])
            return None
        right = self._passwords.verify(row.password_hash, normalised_password(password))
        if not right or row.disabled_at is not None:
            return None
        if self._passwords.outdated(row.password_hash):
            self._rehash(row.id, row.password_hash, normalised_password(password))
        return _person(row)

    def take_totp(self, person_id: str, code: str) -> bool:
        """Whether ``code`` is this person's present TOTP code; a step counts once (RFC 6238 5.2)."""
        with self._database.reading() as session:
            row = session.get(PersonRow, person_id)
        if row is None or row.totp_sealed is None or row.disabled_at is not None:
            return False
        secret = self._secrets.unseal(self._sealing_key, row.totp_sealed, _context(person_id, "totp"))
        step = otp.matching_step(secret, code, self._clock())
        return step is not None and self._take_step(person_id, step)

    def _row_of(self, username: str) -> PersonRow | None:
        normalised = normalised_username(username)
        if not _USERNAME.fullmatch(normalised):  # nobody is called so, and the database need not be asked
            return None
        with self._database.reading() as session:
            return session.scalar(select(PersonRow).where(PersonRow.username == normalised))

    def _take_step(self, person_id: str, step: int) -> bool:
        unused = (PersonRow.totp_last_step.is_(None)) | (PersonRow.totp_last_step < step)
        with self._database.transaction() as session:
            taken = session.execute(
                update(PersonRow).where(PersonRow.id == person_id, unused).values(totp_last_step=step)
            )
            return bool(taken.rowcount == 1)  # type: ignore[attr-defined]

    def _rehash(self, person_id: str, known: str, password: str) -> None:
        encoded = self._passwords.hash(password)
        with self._database.transaction() as session:
            session.execute(
                update(PersonRow)
                .where(PersonRow.id == person_id, PersonRow.password_hash == known)
                .values(password_hash=encoded)
            )
            self._audit.append(session, events.PASSWORD_REHASHED, actor=f"person:{person_id}", subject=person_id)

    def _seal(self, plaintext: bytes, person_id: str, kind: str) -> bytes:
        return self._secrets.seal(self._sealing_key, plaintext, _context(person_id, kind))

    def _identifier_mac(self, kind: str, value: str) -> bytes:
        return self._secrets.mac(self._mac_key, f"tamga:{kind}\0{value}".encode())


def normalised_username(username: str) -> str:
    """User names are compared in lower case and NFKC, as people type them."""
    return unicodedata.normalize("NFKC", username).strip().lower()


def normalised_password(password: str) -> str:
    """NFKC, so that the same keys give the same password on every device (NIST SP 800-63B 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _checked(new: NewPerson) -> NewPerson:
    username = normalised_username(new.username)
    given, family = (unicodedata.normalize("NFC", name.strip()) for name in (new.given_name, new.family_name))
    if not _USERNAME.fullmatch(username):
        raise InvalidPerson("username must be 3 to 64 of a-z, 0-9, dot, underscore, hyphen and @")
    if not given or not all(
        len(name) <= MAX_NAME_CHARACTERS and name.isprintable() for name in (given, family) if name
    ):
        raise InvalidPerson(f"names must be printable, at most {MAX_NAME_CHARACTERS} characters, given name not empty")
    if not _CIVIL_ID.fullmatch(new.civil_id):
        raise InvalidPerson("civil id must be 12 digits")
    if not MIN_PASSWORD_CHARACTERS <= len(new.password) <= MAX_PASSWORD_CHARACTERS:
        raise InvalidPerson(f"the password must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters")
    return NewPerson(username, given, family, new.civil_id, normalised_password(new.password))


def _check_free(session: Session, username: str, mac: bytes) -> None:
    if session.scalar(select(PersonRow.id).where(PersonRow.username == username)):
        raise UsernameTaken("this user name is taken")
    if session.scalar(
        select(PersonIdentifierRow.id).where(PersonIdentifierRow.kind == CIVIL_ID, PersonIdentifierRow.mac == mac)
    ):
        raise CivilIdTaken("this civil id already belongs to a person")


def _end_everything(session: Session, person_id: str, now: datetime) -> None:
    session.execute(
        update(SessionRow).where(SessionRow.person_id == person_id, SessionRow.ended_at.is_(None)).values(ended_at=now)
    )
    for table in (AuthorizationCodeRow, AccessTokenRow):  # codes first, see relying_parties
        session.execute(
            update(table).where(table.person_id == person_id, table.revoked_at.is_(None)).values(revoked_at=now)
        )


def _context(person_id: str, kind: str) -> bytes:
    return f"sso:{kind}:{person_id}".encode()


def _found(row: PersonRow | None) -> Person:
    if row is None:
        raise PersonNotFound("there is no such person")
    return _person(row)


def _person(row: PersonRow) -> Person:
    return Person(
        id=row.id,
        username=row.username,
        given_name=row.given_name,
        family_name=row.family_name,
        has_totp=row.totp_sealed is not None,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )
