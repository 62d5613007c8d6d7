"""Registration: an application becomes a certificate's contents, or is refused (RFC 3647 4.1, 4.2).

A certification request gives two things only: a public key and the proof that the applicant holds its private half.
Names come from the registration authority, everything else from the profile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import ColumnElement, CompoundSelect, Connection, LargeBinary, bindparam, literal, select

from ca import errors
from ca.settings import CaSettings
from ca.tables import BlockedKeyRow, CertificateRow
from ca.to_be_signed import PublicKey
from core.database import Database
from policies import names
from policies.keys import KeyRefused, check_public_key, load_public_key
from policies.profiles import CertificateProfile, ProfileUnknown, load_profile
from policies.weak_keys import WeakKeys

MAX_CSR_OCTETS = 16_384
# Ours: what one server answers for; more only makes handshakes long.
MAX_ALTERNATIVE_NAMES = 100
AUTHORITY_PROFILES = ("root", "issuing-ca", "issuing-ca-tls")


@dataclass(frozen=True)
class Application:
    """A checked application: what ``issuance`` may turn into a certificate. Names are as encoded, in order."""

    profile: CertificateProfile
    public_key: PublicKey
    spki: bytes = field(repr=False)
    subject: tuple[tuple[str, str], ...] = field(repr=False)
    alternative_names: tuple[tuple[str, str], ...]
    holder: str
    evidence: str
    key_label: str | None = None

    @property
    def spki_sha256(self) -> bytes:
        """By which the key is known: SHA-256 over its SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).digest()


NO_WEAK_KEYS = WeakKeys()


class Registration:
    """Checks applications against profiles, key rules, name rules and blocked keys."""

    def __init__(self, settings: CaSettings, database: Database, weak_keys: WeakKeys = NO_WEAK_KEYS) -> None:
        self._settings = settings
        self._database = database
        self._weak_keys = weak_keys

    def apply(
        self,
        *,
        profile: str,
        csr: bytes,
        subject: Mapping[str, str],
        holder: str,
        evidence: str,
        alternative_names: Sequence[tuple[str, str]] = (),
    ) -> Application:
        """An application by somebody outside. ``csr`` is PKCS #10 in DER or PEM; ``subject`` maps labels such as
        ``CN`` to text; ``alternative_names`` are pairs of ``URI`` or ``DNS`` and text; ``holder`` is a person id or
        client id; ``evidence`` refers to the record of identity proof.

        Raises subclasses of RefusedByPolicy, and ProfileNotFound.
        """
        chosen = known_profile(profile)
        if not chosen.enrolled:
            raise errors.ProfileNotOpen(f"certificates of profile {profile} are not given to applicants")
        if not evidence.strip() or not holder.strip():
            raise errors.EvidenceMissing("an application names its holder and the evidence of identity it rests on")
        key, spki = proven_key(csr)
        return self._with_good_key(
            Application(
                profile=chosen,
                public_key=key,
                spki=spki,
                subject=self._subject(chosen, subject),
                alternative_names=fitted_alternative_names(chosen, alternative_names),
                holder=holder,
                evidence=evidence,
            )
        )

    def own(
        self,
        *,
        profile: str,
        public_key: PublicKey,
        key_label: str,
        subject: Mapping[str, str],
        evidence: str,
        alternative_names: Sequence[tuple[str, str]] = (),
    ) -> Application:
        """An application for a key in our own token: an authority, responder or other unit of this service."""
        chosen = known_profile(profile)
        return self._with_good_key(
            Application(
                profile=chosen,
                public_key=public_key,
                spki=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                subject=self._subject(chosen, subject),
                alternative_names=fitted_alternative_names(chosen, alternative_names),
                holder=f"service:{key_label}",
                evidence=evidence,
                key_label=key_label,
            )
        )

    def _subject(self, profile: CertificateProfile, given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return fitted_subject(profile, {"C": self._settings.country, **given})

    def _with_good_key(self, application: Application) -> Application:
        check_common_name(application.profile, application.subject, [name for _, name in application.alternative_names])
        try:
            check_public_key(application.public_key, application.profile.keys)
        except KeyRefused as refusal:
            raise errors.KeyNotAccepted(str(refusal), reason=refusal.code) from refusal
        key = application.public_key
        if isinstance(key, rsa.RSAPublicKey) and self._weak_keys.holds(key.public_numbers().n):
            raise errors.KeyNotAccepted("this key is on a list of weak keys", reason="key.debian_weak")
        with self._database.connect() as connection:
            known = known_keys(connection, [application.spki_sha256]).get(application.spki_sha256, UNKNOWN_KEY)
        if known.blocked:
            raise errors.KeyNotAccepted("this key was revoked as compromised", reason="key.blocked")
        if known.authorities:
            raise errors.KeyNotAccepted("this is the key of an authority", reason="key.authority")
        return application


def _known_keys(certified: ColumnElement[bool], blocked: ColumnElement[bool]) -> CompoundSelect[bytes, bytes]:
    # An empty certificate says that the key is blocked.
    return (
        select(CertificateRow.spki_sha256, CertificateRow.der)
        .where(certified, CertificateRow.profile.in_(AUTHORITY_PROFILES))
        .union_all(select(BlockedKeyRow.spki_sha256, literal(b"", LargeBinary)).where(blocked))
    )


# Made once: building a statement costs as much as running it, and so does one parameter of many values.
_KEYS = bindparam("keys", type_=LargeBinary, expanding=True)
_KEY = bindparam("key", type_=LargeBinary)
_KNOWN_KEYS = _known_keys(CertificateRow.spki_sha256.in_(_KEYS), BlockedKeyRow.spki_sha256.in_(_KEYS))
_KNOWN_KEY = _known_keys(CertificateRow.spki_sha256 == _KEY, BlockedKeyRow.spki_sha256 == _KEY)


@dataclass(frozen=True)
class KnownKey:
    """What the register knows of a public key: whether it is blocked, and the authorities' certificates of it, DER."""

    blocked: bool
    authorities: tuple[bytes, ...] = field(repr=False)


UNKNOWN_KEY = KnownKey(False, ())


def known_keys(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, KnownKey]:
    """Ask the register about keys by the hash of their SubjectPublicKeyInfo. Those it knows nothing of are left out."""
    known: dict[bytes, KnownKey] = {}
    one = len(keys) == 1
    rows = connection.execute(_KNOWN_KEY, {"key": keys[0]}) if one else connection.execute(_KNOWN_KEYS, {"keys": keys})
    for key, der in rows:
        before = known.get(key, UNKNOWN_KEY)
        authorities = (*before.authorities, der) if der else before.authorities
        known[key] = KnownKey(before.blocked or not der, authorities)
    return known


def known_profile(name: str) -> CertificateProfile:
    """The profile of this name. Raises ProfileNotFound."""
    try:
        return load_profile(name)
    except ProfileUnknown as error:
        raise errors.ProfileNotFound(str(error)) from error


def proven_key(csr: bytes) -> tuple[PublicKey, bytes]:
    """The public key and its SubjectPublicKeyInfo, once the request's own signature is verified.

    Raises CsrMalformed, ProofOfPossessionFailed, KeyNotAccepted.
    """
    request = _parsed(csr)
    try:
        spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key = load_public_key(spki)
    except KeyRefused as refusal:
        raise errors.KeyNotAccepted(str(refusal), reason=refusal.code) from refusal
    except (ValueError, UnsupportedAlgorithm) as error:
        raise errors.KeyNotAccepted("the public key cannot be read", reason="key.unreadable") from error
    try:
        proven = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise errors.ProofOfPossessionFailed("the request's signature cannot be checked") from error
    if not proven:
        raise errors.ProofOfPossessionFailed("the request is not signed by the key it shows")  # RFC 2986 3
    return key, spki


def _parsed(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAX_CSR_OCTETS:
        raise errors.CsrMalformed(f"a certification request has at most {MAX_CSR_OCTETS} octets")
    try:
        return x509.load_pem_x509_csr(csr) if csr.lstrip()[:5] == b"-----" else x509.load_der_x509_csr(csr)
    except ValueError as error:
        raise errors.CsrMalformed("the octets are no PKCS #10 certification request") from error


def fitted_subject(profile: CertificateProfile, given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The subject's attributes in the profile's order, as they will be encoded. Raises SubjectRefused."""
    for label in given:
        if profile.attribute(label) is None:
            raise errors.SubjectRefused(f"profile {profile.name} has no attribute {label}", reason="name.attribute")
    fitted = []
    for attribute in profile.subject:
        value = given.get(attribute.label)
        if value is None and attribute.required:
            raise errors.SubjectRefused(f"{attribute.label} is missing", reason="name.missing")
        if value is not None:
            try:
                fitted.append((attribute.label, names.check_attribute(attribute.label, value, form=attribute.form)))
            except names.NameRefused as refusal:
                raise errors.SubjectRefused(str(refusal), reason=refusal.code) from refusal
    return tuple(fitted)


def fitted_alternative_names(
    profile: CertificateProfile, given: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """The subjectAltName values that the profile takes. Raises SubjectRefused."""
    allowed = {name.kind for name in profile.alternative_names}
    if len(given) > MAX_ALTERNATIVE_NAMES:
        raise errors.SubjectRefused(f"at most {MAX_ALTERNATIVE_NAMES} alternative names", reason="name.alternative")
    for kind, value in given:
        if kind not in allowed:
            raise errors.SubjectRefused(f"{profile.name} takes no {kind}", reason="name.alternative")
        try:
            names.check_alternative_name(kind, value, wildcard="serverAuth" in profile.extended_key_usage)
        except names.NameRefused as refusal:
            raise errors.SubjectRefused(str(refusal), reason=refusal.code) from refusal
    if len(set(given)) != len(given):
        raise errors.SubjectRefused("an alternative name stands twice", reason="name.alternative")
    for name in profile.alternative_names:
        if name.required and name.kind not in {kind for kind, _ in given}:
            raise errors.SubjectRefused(f"an alternative name of kind {name.kind} is missing", reason="name.missing")
    if profile.alternative_name_required and not given:
        raise errors.SubjectRefused("an alternative name is missing", reason="name.missing")
    return tuple(given)


def check_common_name(profile: CertificateProfile, subject: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    """A server's CN, if there is one, repeats one of its alternative names (BR 7.1.4.3). Raises SubjectRefused."""
    shown = [value for label, value in subject if label == "CN"]
    if "serverAuth" in profile.extended_key_usage and profile.alternative_names and not set(shown) <= set(names):
        raise errors.SubjectRefused("CN is none of the alternative names", reason="name.common_name")
