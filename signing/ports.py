"""What this room asks of others, in its own words. Answers live in the roof's adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True)
class PersonFacts:
    """What a ceremony may show of a person and draw on a page. Holds no full personal number."""

    person_id: str
    display_name: str  # public form, e.g. `Ж.Өлзийхүү`
    given_name: str
    family_name: str | None = None
    masked_identifier: str | None = None  # e.g. `ЪӨ••••••24`
    language: str | None = None


class Persons(Protocol):
    """Who is who: the identity room's book of people."""

    def person_for_subject(self, client_id: str, sub: str) -> str | None:
        """The id of the person whom ``client_id`` knows under the pairwise ``sub``, or None."""

    def person(self, person_id: str) -> PersonFacts | None:
        """Facts of an active person, or None."""


@dataclass(frozen=True)
class RelyingPartyFacts:
    """A registered organisation as the signing room needs it."""

    client_id: str
    name: Mapping[str, str]  # by language: mn, en
    domain: str = ""
    jwks: Mapping[str, Any] | None = None  # public keys, RFC 7517
    signing_algorithms: tuple[str, ...] = ("ES256",)
    scopes: frozenset[str] = frozenset()
    webhooks: frozenset[str] = frozenset()
    return_urls: frozenset[str] = frozenset()


class RelyingParties(Protocol):
    """The registered organisations."""

    def relying_party(self, client_id: str) -> RelyingPartyFacts | None:
        """Facts of an enabled client, or None."""


class CertificateStanding(StrEnum):
    """Whether a certificate may be signed with, at the moment of asking."""

    GOOD = "good"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class IssuedCertificate:
    """A signing certificate with its issuers, DER; the chain starts with the issuer and ends with the anchor."""

    certificate: bytes
    chain: tuple[bytes, ...]
    serial_number: str  # lower-case hexadecimal
    not_after: datetime


class SignerCertificates(Protocol):
    """The certification authority, as a citizen's credential needs it. Calls commit in their own transactions."""

    def issue(self, *, person_id: str, csr: bytes, credential_id: str) -> IssuedCertificate:
        """A signing certificate for the key that signed ``csr`` (PKCS #10, DER), naming the person.

        Raises CodedError when the authority refuses or cannot answer.
        """

    def issued_for(self, *, person_id: str, credential_id: str) -> IssuedCertificate | None:
        """What ``issue`` gave for this credential before, or None; a crash may have come between it and us."""

    def standing(self, certificate: bytes) -> CertificateStanding:
        """How the certificate (DER) stands now, by the authority's own register."""


class TimeStamps(Protocol):
    """A source of RFC 3161 time-stamp tokens."""

    def check(self) -> None:
        """Raise CodedError when no token could be had just now; asked before a signing key is used."""

    def token(self, digest: bytes, algorithm: str) -> bytes:
        """A TimeStampToken (DER) over ``digest``; ``algorithm`` is a hashlib name such as ``sha256``."""

    def chain(self) -> tuple[bytes, ...]:
        """Certificates (DER) of the authority that stamps: its own first, the anchor last."""


class RevocationEvidence(Protocol):
    """Fresh OCSP responses and CRLs to embed in signed documents."""

    def for_chain(self, chain: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]:
        """(OCSP responses, CRLs, further certificates), DER, for every certificate of ``chain`` below its anchor.

        Raises CodedError when the evidence cannot be had now.
        """


class TrustAnchors(Protocol):
    """The certificates validation starts from."""

    def anchors(self) -> tuple[bytes, ...]:
        """Accepted anchors, DER."""

    def intermediates(self) -> tuple[bytes, ...]:
        """Known issuing certificates below the anchors, DER."""

    def rejected(self) -> tuple[bytes, ...]:
        """Issuing certificates that no path may lead through, DER."""
