"""Which certificates a mass revocation is about: what the register can be asked for, and what only their keys tell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import ColumnElement, Connection, select

from ca.errors import SelectionRefused
from ca.register import Filters, Reason, State
from ca.serial_number import octets, parse
from ca.tables import (
    AuthorityRow,
    BlockedKeyRow,
    CertificateRow,
    MassRevocationBatchRow,
    MassRevocationItemRow,
    MassRevocationRow,
)
from policies.keys import KeyRefused, check_public_key, has_roca_fingerprint
from policies.profiles import ProfileUnknown, load_profile, profile_names

# A list from a file is held in memory; 2 million serial numbers are about 200 MB.
MAX_LISTED_NUMBERS = 2_000_000
# Numbers asked for in one statement.
_ASKED_TOGETHER = 1000
# Without these the service itself stands still: they are taken only when their profile is named.
OWN_PROFILES = ("root", "ocsp-responder", "ocsp-responder-root", "tsa", "token-signing")


class Action(StrEnum):
    """What is done to the certificates."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RESUME = "resume"

    @property
    def before(self) -> tuple[State, ...]:
        """The states it starts from; a certificate in another one is passed over."""
        return {
            Action.REVOKE: (State.GOOD, State.SUSPENDED),
            Action.SUSPEND: (State.GOOD,),
            Action.RESUME: (State.SUSPENDED,),
        }[self]

    @property
    def after(self) -> State:
        """The state it leads to."""
        return {Action.REVOKE: State.REVOKED, Action.SUSPEND: State.SUSPENDED, Action.RESUME: State.GOOD}[self]


class KeyProperty(StrEnum):
    """What is wrong with a key."""

    ROCA = "roca"
    WEAK = "weak"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class NumberList:
    """Numbers of one length from a file, sorted, each once; ``sha256`` is of all of them in that order."""

    numbers: Sequence[bytes] = field(repr=False)

    @property
    def sha256(self) -> str:
        """What stands for the list where it is told of."""
        digest = hashlib.sha256()
        for number in self.numbers:
            digest.update(number)
        return digest.hexdigest()

    @classmethod
    def of_serials(cls, lines: Iterable[str]) -> NumberList:
        """Serial numbers, one in a line; empty lines and lines that begin with # are passed over.

        Raises SelectionRefused naming the line that is no serial number.
        """
        return cls._of(lines, _serial, "serial number")

    @classmethod
    def of_digests(cls, lines: Iterable[str]) -> NumberList:
        """SHA-256 digests of SubjectPublicKeyInfo, hexadecimal, one in a line. Raises SelectionRefused."""
        return cls._of(lines, _digest, "SHA-256 digest")

    @classmethod
    def _of(cls, lines: Iterable[str], read: Callable[[str], bytes | None], what: str) -> NumberList:
        numbers: set[bytes] = set()
        for position, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            number = read(text)
            if number is None:
                raise SelectionRefused(f"line {position} is no {what}")
            numbers.add(number)
            if len(numbers) > MAX_LISTED_NUMBERS:
                raise SelectionRefused(f"a list holds at most {MAX_LISTED_NUMBERS} numbers; make several plans")
        if not numbers:
            raise SelectionRefused(f"the list holds no {what}")
        return cls(sorted(numbers))


@dataclass(frozen=True)
class Selector:
    """Everything that must be true of a certificate. Something must be said; ``everything`` says it in so many words.

    ``of_plan`` means those whose status an earlier plan changed and nobody since.
    """

    filters: Filters = field(default_factory=Filters)
    keys: KeyProperty | None = None
    serials: NumberList | None = None
    public_keys: NumberList | None = None
    of_plan: str | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        """Refuse a selection that says nothing, and two lists of numbers. Raises SelectionRefused."""
        said = (self.keys, self.serials, self.public_keys, self.of_plan)
        if self.filters == Filters() and said == (None,) * 4 and not self.everything:
            raise SelectionRefused("say which certificates; all of them are meant only when that is said")
        if self.serials is not None and self.public_keys is not None:
            raise SelectionRefused("a selection goes by serial numbers or by public keys, not by both")

    def told(self) -> dict[str, str | int]:
        """The selection as it is recorded."""
        filters = {name: value for name, value in vars(self.filters).items() if value is not None}
        made: dict[str, str | int] = {name: _plain(value) for name, value in filters.items()}
        for name, value in (("keys", self.keys), ("of_plan", self.of_plan)):
            made |= {name: str(value)} if value is not None else {}
        for name, listed in (("serials", self.serials), ("public_keys", self.public_keys)):
            if listed is not None:
                made |= {name: len(listed.numbers), f"{name}_sha256": listed.sha256}
        return made | ({"everything": 1} if self.everything else {})


@dataclass(frozen=True)
class Selected:
    """A certificate that the selection meets."""

    id: str
    issuer: str
    serial: bytes
    profile: str
    state: str


def select_certificates(
    connection: Connection, selector: Selector, action: Action, now: datetime
) -> Iterator[Selected]:
    """Every certificate that the selection meets, that has not expired, and to which the action can be done.

    In the order of issuer and serial number, or of the lists that the selection goes by.
    """
    conditions = [
        CertificateRow.not_after >= now,
        CertificateRow.state.in_([state.value for state in action.before]),
        *selector.filters.conditions(),
        *_left_out(selector, action),
    ]
    keeps = _KEY_CHECKS.get(selector.keys)
    for more in _stretches(selector):
        query = _query(selector, with_der=keeps is not None).where(*conditions, *more)
        for row in connection.execute(query.order_by(CertificateRow.issuer, CertificateRow.serial)):
            if keeps is None or keeps(row.der):
                yield Selected(row.id, row.issuer, row.serial, row.profile, row.state)


def _query(selector: Selector, *, with_der: bool) -> Any:
    row = CertificateRow
    query: Any = select(row.id, row.issuer, row.serial, row.profile, row.state, *((row.der,) if with_der else ()))
    if selector.of_plan is None:
        return query
    batch, item, plan = MassRevocationBatchRow, MassRevocationItemRow, MassRevocationRow
    return (
        query.join(item, item.certificate_id == row.id)
        .join(plan, plan.number == item.plan)
        .join(batch, (batch.plan == item.plan) & (batch.number == item.batch))
        # The moment of the batch is the moment of the status, unless somebody changed it since.
        .where(plan.id == selector.of_plan, row.state_since == batch.changed_at)
    )


def _left_out(selector: Selector, action: Action) -> list[ColumnElement[bool]]:
    made: list[ColumnElement[bool]] = []
    profile = selector.filters.profile
    if profile is None:
        made.append(CertificateRow.profile.not_in(OWN_PROFILES))
        made.append(CertificateRow.id.not_in(select(AuthorityRow.certificate_id)))
    if action is Action.SUSPEND:
        suspendable = [name for name in profile_names() if load_profile(name).may_be_suspended]
        made.append(CertificateRow.profile.in_(suspendable))
    if selector.keys is KeyProperty.BLOCKED:
        made.append(CertificateRow.spki_sha256.in_(select(BlockedKeyRow.spki_sha256)))
    return made


def _stretches(selector: Selector) -> Iterator[list[ColumnElement[bool]]]:
    if selector.serials is None and selector.public_keys is None:
        yield []
    for column, listed in (
        (CertificateRow.serial, selector.serials),
        (CertificateRow.spki_sha256, selector.public_keys),
    ):
        numbers = listed.numbers if listed is not None else ()
        for start in range(0, len(numbers), _ASKED_TOGETHER):
            yield [column.in_(numbers[start : start + _ASKED_TOGETHER])]


def _has_roca(der: bytes) -> bool:
    key = x509.load_der_x509_certificate(der).public_key()
    return isinstance(key, rsa.RSAPublicKey) and has_roca_fingerprint(key.public_numbers().n)


def _is_weak(der: bytes) -> bool:
    """Whether the key would be refused today, whatever was thought of it when it was certified."""
    try:
        check_public_key(x509.load_der_x509_certificate(der).public_key())
    except (KeyRefused, ValueError):
        return True
    return False


_KEY_CHECKS: dict[KeyProperty | None, Callable[[bytes], bool]] = {
    KeyProperty.ROCA: _has_roca,
    KeyProperty.WEAK: _is_weak,
}


def _serial(text: str) -> bytes | None:
    try:
        return octets(parse(text))
    except ValueError:
        return None


def _digest(text: str) -> bytes | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.wire_name if isinstance(value, Reason) else str(value)


def check_profile(name: str | None) -> None:
    """Refuse the name of a profile that there is not: a slip would select nothing. Raises SelectionRefused."""
    try:
        if name is not None:
            load_profile(name)
    except ProfileUnknown as error:
        raise SelectionRefused(str(error)) from error


