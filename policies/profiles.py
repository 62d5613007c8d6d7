"""Certificate profiles: what a certificate of each kind holds, as versioned data files.

A profile decides everything about a certificate but the public key, the values of its subject and its place in time.
The digest of its file stands in the audit record of each issuance; a file that changed must take a new version.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

_FOLDER = Path(__file__).parent / "profiles"

# RFC 5280 4.2.1.3, in the order of its bits.
KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class ProfileUnknown(LookupError):
    """No profile of this name is kept."""


class ProfileMalformed(ValueError):
    """A profile file says something no profile can say."""


@dataclass(frozen=True)
class SubjectAttribute:
    """One attribute of the subject, in the place it takes; ``form`` names a syntax of ``policies.names``."""

    label: str
    required: bool
    form: str | None = None


@dataclass(frozen=True)
class AlternativeName:
    """One kind of subjectAltName that may or must be there."""

    kind: Literal["URI", "DNS"]
    required: bool


@dataclass(frozen=True)
class BasicConstraints:
    """RFC 5280 4.2.1.9."""

    ca: bool
    path_length: int | None


@dataclass(frozen=True)
class QualifiedStatements:
    """EN 319 412-5: what the certificate claims about itself, in this order."""

    type: str
    legislation: tuple[str, ...]
    semantics: str
    pds_languages: tuple[str, ...]


@dataclass(frozen=True)
class Waiver:
    """A linter's finding that does not block until ``until``; ``clause`` and ``why`` say on whose word.

    A warning may be waived anywhere, an error only on an instance whose addresses are on its own machine.
    """

    finding: str
    clause: str
    why: str
    until: date
    only_on_loopback: bool = False


@dataclass(frozen=True)
class CertificateProfile:
    """One kind of certificate. Digest: SHA-256 of the file, hexadecimal."""

    name: str
    version: int
    digest: str
    issuer: str
    linter: str
    subject: tuple[SubjectAttribute, ...]
    alternative_names: tuple[AlternativeName, ...]
    keys: frozenset[str]
    validity: timedelta
    longest_validity: timedelta
    basic_constraints: BasicConstraints | None
    key_usage: frozenset[str]
    extended_key_usage: tuple[str, ...]
    extended_key_usage_critical: bool
    policies: tuple[str, ...]
    qualified: QualifiedStatements | None
    ocsp_no_check: bool
    private_key_usage_period: timedelta | None
    authority_key_identifier: bool
    crl_distribution_point: bool
    authority_information_access: bool
    ocsp_pointer: bool
    may_be_suspended: bool
    enrolled: bool
    waivers: tuple[Waiver, ...]

    def attribute(self, label: str) -> SubjectAttribute | None:
        """The subject attribute of this label, if the profile has one."""
        return next((attribute for attribute in self.subject if attribute.label == label), None)


def profile_names() -> tuple[str, ...]:
    """The names of all profiles kept, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def load_profile(name: str) -> CertificateProfile:
    """The profile of this name. Raises ProfileUnknown, ProfileMalformed."""
    if name not in profile_names():
        raise ProfileUnknown(f"there is no certificate profile {name}")
    return parse_profile(_FOLDER.joinpath(f"{name}.toml").read_bytes(), name)


def parse_profile(data: bytes, name: str) -> CertificateProfile:
    """A profile from the octets of its file. Raises ProfileMalformed naming the key that is wrong."""
    document = tomllib.loads(data.decode())
    try:
        profile = _profile(document, hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError) as error:
        raise ProfileMalformed(f"profile {name}: {error}") from error
    if document or profile.name != name:
        raise ProfileMalformed(f"profile {name}: unknown keys {sorted(document)} or another name inside")
    _check(profile)
    return profile


def _profile(document: dict[str, Any], digest: str) -> CertificateProfile:
    take = document.pop
    validity: Mapping[str, int] = take("validity")
    constraints = take("basic_constraints", None)
    qualified = take("qualified", None)
    usage_period = take("private_key_usage_days", None)
    return CertificateProfile(
        name=take("name"),
        version=take("version"),
        digest=digest,
        issuer=take("issuer"),
        linter=take("linter"),
        subject=tuple(SubjectAttribute(**item) for item in take("subject")),
        alternative_names=tuple(AlternativeName(**item) for item in take("alternative_names", ())),
        keys=frozenset(take("keys")),
        validity=timedelta(days=validity["days"]),
        longest_validity=timedelta(days=validity["longest_days"]),
        basic_constraints=BasicConstraints(constraints["ca"], constraints.get("path_length")) if constraints else None,
        key_usage=frozenset(take("key_usage")),
        extended_key_usage=tuple(take("extended_key_usage", ())),
        extended_key_usage_critical=take("extended_key_usage_critical", False),
        policies=tuple(take("policies", ())),
        qualified=_qualified(qualified) if qualified else None,
        ocsp_no_check=take("ocsp_no_check", False),
        private_key_usage_period=timedelta(days=usage_period) if usage_period else None,
        authority_key_identifier=take("authority_key_identifier", True),
        crl_distribution_point=take("crl_distribution_point", True),
        authority_information_access=take("authority_information_access", True),
        ocsp_pointer=take("ocsp_pointer", True),
        may_be_suspended=take("may_be_suspended", False),
        enrolled=take("enrolled", False),
        waivers=tuple(Waiver(**item) for item in take("waivers", ())),
    )


def _qualified(table: Mapping[str, Any]) -> QualifiedStatements:
    return QualifiedStatements(
        type=table["type"],
        legislation=tuple(table["legislation"]),
        semantics=table["semantics"],
        pds_languages=tuple(table["pds_languages"]),
    )


def _check(profile: CertificateProfile) -> None:
    """What holds for every profile, whatever its file says."""
    wrong = None
    if not profile.key_usage <= set(KEY_USAGES) or not profile.key_usage:
        wrong = "key_usage"
    elif profile.validity > profile.longest_validity:
        wrong = "validity"
    elif profile.qualified and not profile.qualified.legislation:
        # EN 319 412-5 4.2.4: without a country of law, QcCompliance would claim qualification in the EU.
        wrong = "qualified.legislation"
    elif profile.qualified and "en" not in profile.qualified.pds_languages:
        wrong = "qualified.pds_languages"  # EN 319 412-5 4.3.4
    elif "serverAuth" in profile.extended_key_usage and profile.may_be_suspended:
        wrong = "may_be_suspended"  # BR 7.2.2
    if wrong:
        raise ProfileMalformed(f"profile {profile.name}: {wrong} cannot be so")
