"""The status service's questions, answered by the certificate authority's register and custody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from ca.errors import CertificateNotFound
from ca.hierarchy import Hierarchy
from ca.register import CertificateStatus, Register, State
from core.errors import CodedError, Unavailable
from hsm.errors import HsmUnavailable
from hsm.keystore import Keystore, PrivateKey
from ocsp.ports import (
    Good,
    Issuer,
    NeverIssued,
    ResponderCredential,
    RevocationReason,
    Revoked,
    SourceUnavailable,
    Status,
)

T = TypeVar("T")


class RegisterStatus:
    """Answers ``ocsp.ports.StatusSource``."""

    def __init__(self, hierarchy: Hierarchy, register: Register) -> None:
        self._hierarchy = hierarchy
        self._register = register

    def issuers(self) -> Sequence[Issuer]:
        """Every authority; the register forgets nothing, so status goes back to each one's beginning."""
        authorities = _asked(self._hierarchy.authorities)
        return [Issuer(a.slug, a.der, a.certificate.not_valid_before_utc) for a in authorities]

    def status(self, issuer: str, serial: int) -> Status:
        """The register's word on one serial."""
        return _status(_asked(lambda: self._register.status(issuer, serial)))


class RegisterResponders:
    """Answers ``ocsp.ports.Responders``."""

    def __init__(self, hierarchy: Hierarchy, keystore: Keystore) -> None:
        self._hierarchy = hierarchy
        self._keystore = keystore

    def current(self, issuer: str) -> ResponderCredential | None:
        """The newest responder in force, with its key in the token."""
        try:
            credential = _asked(lambda: self._hierarchy.responder(issuer))
        except CertificateNotFound:
            return None
        return ResponderCredential(credential.certificate.der, self._key(credential.key_label))

    def _key(self, label: str) -> PrivateKey:
        """A key that is locked, missing or damaged is an outage to whoever asks for a status, like a token away."""
        try:
            return self._keystore.key(label)
        except CodedError as error:
            raise SourceUnavailable(str(type(error).__name__)) from error


def _status(found: CertificateStatus | None) -> Status:
    if found is None:
        return NeverIssued()
    if found.state is State.GOOD or found.revoked_at is None:
        return Good(found.since)
    return Revoked(found.revoked_at, RevocationReason(found.reason or 0))


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except (SQLAlchemyError, HsmUnavailable, Unavailable) as error:
        raise SourceUnavailable(str(type(error).__name__)) from error
