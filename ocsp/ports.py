"""What this room asks of others, in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey


class RevocationReason(IntEnum):
    """CRLReason (RFC 5280 5.3.1), without removeFromCRL, which no status can have."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10


@dataclass(frozen=True)
class Good:
    """Issued, and neither revoked nor suspended since ``since``: its issue, or the end of its last suspension.

    A certificate whose time is over keeps its last status.
    """

    since: datetime


@dataclass(frozen=True)
class Revoked:
    """Revoked at ``at``; a suspended certificate is revoked with CERTIFICATE_HOLD (RFC 6960 2.2)."""

    at: datetime
    reason: RevocationReason = RevocationReason.UNSPECIFIED


@dataclass(frozen=True)
class NeverIssued:
    """The issuer is ours and never issued this serial."""


Status: TypeAlias = Good | Revoked | NeverIssued


@dataclass(frozen=True)
class Issuer:
    """An authority whose certificates' status is told here.

    ``archive_cutoff`` is set where status is kept beyond expiry (RFC 6960 4.4.4), usually to the authority's notBefore.
    """

    slug: str
    certificate: bytes  # DER
    archive_cutoff: datetime | None = None


@dataclass(frozen=True)
class ResponderCredential:
    """A delegated responder (RFC 6960 4.2.2.2): its certificate in DER, its private key in its token."""

    certificate: bytes
    key: PrivateKey


class SourceUnavailable(Exception):
    """Raised by the ports below when their book or token cannot be reached just now."""


class StatusSource(Protocol):
    """The register of what was issued, read only. Every method may raise SourceUnavailable."""

    def issuers(self) -> Sequence[Issuer]:
        """Every authority answered for; asked again at times, so that a new generation needs no restart."""
        ...

    def status(self, issuer: str, serial: int) -> Status:
        """The present status under the issuer with that slug. Asked on every request: one indexed read.

        ``serial`` lies between 1 and 2**160 - 1. An entry that was prepared but not issued is NeverIssued.
        """
        ...


class Responders(Protocol):
    """The custody of responder keys. May raise SourceUnavailable."""

    def current(self, issuer: str) -> ResponderCredential | None:
        """The responder to use now for the issuer with that slug; None when it has none.

        Asked once every `refresh_seconds` and process. Where two overlap, the newer; renewal happens elsewhere.
        """
        ...
