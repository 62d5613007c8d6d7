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

# notBefore stands this far back at most. A limit that begins on a day counts from so long before it, and whoever
# issues and whoever lints count alike.
MAX_BACKDATE = timedelta(hours=1)

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

    kind: Literal["URI", "DNS", "IP"]
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
class ValidityStep:
    """From this day on, certificates live no longer than ``longest`` and, when nothing is asked for, ``usual``."""

    since: date
    usual: timedelta
    longest: timedelta


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
    """One kind of certificate. Digest: SHA-256 of the file, hexadecimal.

    ``validity`` and ``longest_validity`` hold until the first of ``validity_steps``; ask ``validity_on`` and
    ``longest_on``. ``full_lint`` says that no certificate of this kind is passed by its shape.
    """

    name: str
    version: int
    digest: str
    issuer: str
    linter: str
    subject: tuple[SubjectAttribute, ...]
    alternative_names: tuple[AlternativeName, ...]
    alternative_name_required: bool
    keys: frozenset[str]
    validity: timedelta
    longest_validity: timedelta
    validity_steps: tuple[ValidityStep, ...]
    basic_constraints: BasicConstraints | None
    key_usage: frozenset[str]
    extended_key_usage: tuple[str, ...]
    extended_key_usage_critical: bool
    policies: tuple[str, ...]
    qualified: QualifiedStatements | None
    identifier_semantics: str | None
    ocsp_no_check: bool
    private_key_usage_period: timedelta | None
    authority_key_identifier: bool
    crl_distribution_point: bool
    authority_information_access: bool
    ocsp_pointer: bool
    validity_assured_short_term: bool
    may_be_suspended: bool
    enrolled: bool
    certifies_authority: bool
    full_lint: bool
    waivers: tuple[Waiver, ...]

    def attribute(self, label: str) -> SubjectAttribute | None:
        """The subject attribute of this label, if the profile has one."""
        return next((attribute for attribute in self.subject if attribute.label == label), None)

    def validity_on(self, day: date) -> timedelta:
        """How long a certificate issued on ``day`` lives when nothing shorter is asked for."""
        return next((step.usual for step in reversed(self.validity_steps) if step.since <= day), self.validity)

    def longest_on(self, day: date) -> timedelta:
        """How long a certificate issued on ``day`` may live at most."""
        steps = reversed(self.validity_steps)
        return next((step.longest for step in steps if step.since <= day), self.longest_validity)

    @property
    def validity_unit(self) -> timedelta:
        """Validities are whole days, or whole minutes where the profile counts in minutes."""
        return timedelta(days=1) if self.validity >= timedelta(days=1) else timedelta(minutes=1)


def profile_names() -> tuple[str, ...]:
    """The names of all profiles kept, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if "@" not in path.stem))


def profile_versions(name: str) -> tuple[int, ...]:
    """The versions kept of a profile, oldest first; the last one issues. Raises ProfileUnknown, ProfileMalformed."""
    current = load_profile(name).version
    return (*sorted(int(path.stem.partition("@")[2]) for path in _FOLDER.glob(f"{name}@*.toml")), current)


@cache
def load_profile(name: str, version: int | None = None) -> CertificateProfile:
    """The profile of this name: the one that issues, or a version of it that is kept because certificates of it live.

    A file ``<name>.toml`` is what issues; one that it replaced stays beside it, octet for octet, as
    ``<name>@<version>.toml``. Raises ProfileUnknown, ProfileMalformed.
    """
    if name not in profile_names():
        raise ProfileUnknown(f"there is no certificate profile {name}")
    current = parse_profile(_FOLDER.joinpath(f"{name}.toml").read_bytes(), name)
    if version is None or version == current.version:
        return current
    path = _FOLDER.joinpath(f"{name}@{version}.toml")
    if not path.is_file():
        raise ProfileUnknown(f"version {version} of certificate profile {name} is not kept")
    kept = parse_profile(path.read_bytes(), name)
    if kept.version != version or version >= current.version:
        raise ProfileMalformed(f"profile {name}@{version}: says it is version {kept.version} beside {current.version}")
    return kept


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
    validity = take("validity")
    steps = tuple(_step(item) for item in validity.pop("from", ()))
    usual, longest = _lasting(validity)
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
        alternative_name_required=take("alternative_name_required", False),
        keys=frozenset(take("keys")),
        validity=usual,
        longest_validity=longest,
        validity_steps=steps,
        basic_constraints=BasicConstraints(constraints["ca"], constraints.get("path_length")) if constraints else None,
        key_usage=frozenset(take("key_usage")),
        extended_key_usage=tuple(take("extended_key_usage", ())),
        extended_key_usage_critical=take("extended_key_usage_critical", False),
        policies=tuple(take("policies", ())),
        qualified=_qualified(qualified) if qualified else None,
        identifier_semantics=take("identifier_semantics", None),
        ocsp_no_check=take("ocsp_no_check", False),
        private_key_usage_period=timedelta(days=usage_period) if usage_period else None,
        authority_key_identifier=take("authority_key_identifier", True),
        crl_distribution_point=take("crl_distribution_point", True),
        authority_information_access=take("authority_information_access", True),
        ocsp_pointer=take("ocsp_pointer", True),
        validity_assured_short_term=take("validity_assured_short_term", False),
        may_be_suspended=take("may_be_suspended", False),
        enrolled=take("enrolled", False),
        certifies_authority=take("certifies_authority", False),
        full_lint=take("full_lint", qualified is not None),
        waivers=tuple(Waiver(**item) for item in take("waivers", ())),
    )


def _step(table: dict[str, Any]) -> ValidityStep:
    since = table.pop("day")
    return ValidityStep(since, *_lasting(table))


def _lasting(table: dict[str, Any]) -> tuple[timedelta, timedelta]:
    """``days`` and ``longest_days``, or both in minutes."""
    unit = "minutes" if "minutes" in table else "days"
    usual, longest = timedelta(**{unit: table.pop(unit)}), timedelta(**{unit: table.pop(f"longest_{unit}")})
    if table:
        raise KeyError(*table)
    return usual, longest


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
    elif any(usual > longest or usual <= timedelta(0) for usual, longest in _validities(profile)):
        wrong = "validity"
    elif [step.since for step in profile.validity_steps] != sorted({step.since for step in profile.validity_steps}):
        wrong = "validity.from"
    elif [longest for _, longest in _validities(profile)] != sorted((v[1] for v in _validities(profile)), reverse=True):
        wrong = "validity.from"  # limits only tighten with time
    elif profile.qualified and profile.identifier_semantics:
        wrong = "identifier_semantics"  # the qualified statements hold them
    elif profile.qualified and not profile.qualified.legislation:
        # EN 319 412-5 4.2.4: without a country of law, QcCompliance would claim qualification in the EU.
        wrong = "qualified.legislation"
    elif profile.qualified and "en" not in profile.qualified.pds_languages:
        wrong = "qualified.pds_languages"  # EN 319 412-5 4.3.4
    elif "serverAuth" in profile.extended_key_usage and profile.may_be_suspended:
        wrong = "may_be_suspended"  # BR 7.2.2
    if wrong:
        raise ProfileMalformed(f"profile {profile.name}: {wrong} cannot be so")


def _validities(profile: CertificateProfile) -> list[tuple[timedelta, timedelta]]:
    first = (profile.validity, profile.longest_validity)
    return [first, *((step.usual, step.longest) for step in profile.validity_steps)]
