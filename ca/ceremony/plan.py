"""The ceremony file: everything a key ceremony will do, as one text that people read, sign and keep.

A ceremony file is TOML. ``kind`` says what sort of ceremony it is and so which tables may stand in it; everything else
is a row of steps. Reading a file checks all of it: names against profiles, order, custodians' keys, unknown words.
Nothing here touches a token or a database, so a transcript can be verified with the same code years later.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from ca import errors, serial_number
from ca.ceremony.addresses import Addresses
from ca.registration import fitted_alternative_names, fitted_subject
from ca.serial_number import SERIAL_OCTETS, SerialNumber
from ca.settings import CaSettings
from hsm.keystore import KeyAlgorithm, KeyPurpose
from policies.profiles import CertificateProfile, ProfileUnknown, load_profile

DEFAULT_PLAN = Path(__file__).parents[1] / "ceremonies" / "first-generation.toml"
# pyca/cryptography counts octets when it reads an authority's name, as it does for each CRL.
MAX_AUTHORITY_NAME_OCTETS = 64
MAX_PLAN_OCTETS = 262_144
MAX_CUSTODIANS = 32

CustodianKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
ProfileLoader = Callable[[str, int | None], CertificateProfile]
Subject = tuple[tuple[str, str], ...]

# Which tables a kind of ceremony holds. A hierarchy may hold everything that makes something.
KINDS: Mapping[str, frozenset[str]] = {
    "hierarchy": frozenset({"authority", "cross", "credential", "key"}),
    "root": frozenset({"authority", "credential"}),
    "issuing-ca": frozenset({"authority", "credential"}),
    "cross-certificate": frozenset({"cross"}),
    "request": frozenset({"request"}),
    "acceptance": frozenset({"acceptance"}),
    "key": frozenset({"key"}),
    "crl": frozenset({"crl"}),
    "responder": frozenset({"credential"}),
    "destroy": frozenset({"destroy"}),
}
_STEPS = ("authority", "cross", "credential", "key", "request", "acceptance", "crl", "destroy")
_HEAD = frozenset({"name", "kind", "policy_url", "description", "token", "transcript_key", "organisation", "addresses",
                   "quorum", "custodian"})  # fmt: skip
_CERTIFICATE = frozenset({"profile", "version", "serial", "days"})
_WORDS: Mapping[str, frozenset[str]] = {
    "authority": _CERTIFICATE | {"slug", "purpose", "issuer", "key", "subject"},
    "cross": _CERTIFICATE | {"slug", "issuer", "authority"},
    "credential": _CERTIFICATE | {"label", "issuer", "key", "purpose", "subject", "alternative_names"},
    "key": frozenset({"label", "key", "purpose"}),
    "request": frozenset({"authority"}),
    "acceptance": frozenset({"slug", "authority", "certificate", "chain", "served"}),
    "crl": frozenset({"issuer"}),
    "destroy": frozenset({"label", "key_id"}),
    "quorum": frozenset({"approvals", "countersignatures"}),
    "custodian": frozenset({"name", "public_key"}),
}
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_RESPONDERS = ("ocsp-responder", "ocsp-responder-root")


@dataclass(frozen=True)
class CertificateTerms:
    """What a step says about its certificate. A ``serial`` may be drawn in advance; without ``lasting`` the profile
    decides. ``version`` is that of the profile."""

    profile: str
    version: int
    serial: SerialNumber | None
    lasting: timedelta | None


@dataclass(frozen=True)
class AuthorityStep:
    """An authority to be: its key is named by its slug. A root is its own issuer."""

    slug: str
    purpose: str
    issuer: str
    key: KeyAlgorithm
    subject: Subject
    terms: CertificateTerms

    @property
    def is_root(self) -> bool:
        """Whether it signs itself."""
        return self.issuer == self.slug

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.slug

    def line(self) -> str:
        """What will be done."""
        return (
            f"authority   {self.slug:<24} {self.key:<6} {self.terms.profile} signed by {self.issuer}: "
            f"{subject_text(self.subject)}"
        )


@dataclass(frozen=True)
class CrossStep:
    """One more certificate for an authority's key, signed by another root of ours."""

    slug: str
    issuer: str
    authority: str
    terms: CertificateTerms

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.slug

    def line(self) -> str:
        """What will be done."""
        return f"cross       {self.slug:<24}        {self.terms.profile} for {self.authority}, signed by {self.issuer}"


@dataclass(frozen=True)
class CredentialStep:
    """A certificate for a key of our own that is no authority's."""

    label: str
    issuer: str
    key: KeyAlgorithm
    purpose: KeyPurpose
    subject: Subject
    alternative_names: tuple[tuple[str, str], ...]
    terms: CertificateTerms

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.label

    def line(self) -> str:
        """What will be done."""
        return (
            f"credential  {self.label:<24} {self.key:<6} {self.terms.profile}"
            f" signed by {self.issuer}: {subject_text(self.subject)}"
        )


@dataclass(frozen=True)
class KeyStep:
    """A key that needs no certificate: the one that signs tokens is known by its place at ``jwks_uri``."""

    label: str
    key: KeyAlgorithm
    purpose: KeyPurpose

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.label

    def line(self) -> str:
        """What will be done."""
        return f"key         {self.label:<24} {self.key:<6} {self.purpose}"


@dataclass(frozen=True)
class RequestStep:
    """A certification request by which an authority of ours asks an outside root for a certificate."""

    authority: str

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.authority

    def line(self) -> str:
        """What will be done."""
        return f"request     {self.authority:<24}        PKCS #10 to an outside root"


@dataclass(frozen=True)
class AcceptanceStep:
    """An outside root's answer: a certificate for our authority's key, and the chain above it. PEM."""

    slug: str
    authority: str
    certificate: str = field(repr=False)
    chain: str = field(repr=False)
    served: bool = False

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.slug

    def line(self) -> str:
        """What will be done."""
        served = ", served from now on" if self.served else ""
        return f"acceptance  {self.slug:<24}        certificate for {self.authority} from an outside root{served}"


@dataclass(frozen=True)
class CrlStep:
    """A CRL to be published now."""

    issuer: str

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.issuer

    def line(self) -> str:
        """What will be done."""
        return f"crl         {self.issuer}"


@dataclass(frozen=True)
class DestructionStep:
    """A key pair to be destroyed. ``key_id`` is CKA_ID, hexadecimal: a label alone might be mistyped."""

    label: str
    key_id: str

    @property
    def name(self) -> str:
        """By which the transcript knows the step."""
        return self.label

    def line(self) -> str:
        """What will be done."""
        return f"destroy     {self.label:<24}        key {self.key_id}"


Step = (
    AuthorityStep | CrossStep | CredentialStep | KeyStep | RequestStep | AcceptanceStep | CrlStep | DestructionStep
)


@dataclass(frozen=True)
class Custodian:
    """Who may approve: a name in the file and the public key, Ed25519 or P-256."""

    name: str
    public_key: CustodianKey = field(repr=False)

    @property
    def spki(self) -> bytes:
        """The public key's SubjectPublicKeyInfo, DER."""
        return self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, hexadecimal."""
        return hashlib.sha256(self.spki).hexdigest()


@dataclass(frozen=True)
class Quorum:
    """How many of the custodians must approve the plan, and how many must sign the transcript."""

    approvals: int = 0
    countersignatures: int = 0
    custodians: tuple[Custodian, ...] = ()

    def custodian(self, name: str) -> Custodian | None:
        """The custodian of this name."""
        return next((custodian for custodian in self.custodians if custodian.name == name), None)


@dataclass(frozen=True)
class Plan:
    """A checked ceremony file. The steps stand in the order in which they are carried out."""

    name: str
    kind: str
    policy_url: str
    text: str = field(repr=False)
    steps: tuple[Step, ...]
    quorum: Quorum
    token: str | None = None
    addresses: Addresses | None = None
    transcript_key: str | None = None
    description: str = ""

    @property
    def sha256(self) -> str:
        """Digest of the file, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def authorities(self) -> tuple[AuthorityStep, ...]:
        """The authorities to be."""
        return tuple(step for step in self.steps if isinstance(step, AuthorityStep))

    @property
    def credentials(self) -> tuple[CredentialStep, ...]:
        """The other certificates to be."""
        return tuple(step for step in self.steps if isinstance(step, CredentialStep))

    @property
    def keys(self) -> tuple[KeyStep, ...]:
        """The keys that get no certificate."""
        return tuple(step for step in self.steps if isinstance(step, KeyStep))

    def lines(self) -> Iterator[str]:
        """What will be done, one line for each act."""
        for step in self.steps:
            yield step.line()

    def token_keys(self) -> tuple[KeyStep, ...]:
        """Every key that will be made in the token, an authority's under its slug."""
        signing = KeyPurpose.CERTIFICATE_SIGNING
        return (
            *(KeyStep(step.slug, step.key, signing) for step in self.authorities),
            *(KeyStep(step.label, step.key, step.purpose) for step in self.credentials),
            *self.keys,
        )

    def standing(self) -> frozenset[str]:
        """The authorities that the plan speaks of and does not make; one of them may sign the transcript."""
        made = {step.slug for step in self.authorities}
        named: set[str] = set()
        for step in self.steps:
            if isinstance(step, AuthorityStep | CrossStep | CredentialStep | CrlStep):
                named.add(step.issuer)
            if isinstance(step, CrossStep | RequestStep | AcceptanceStep):
                named.add(step.authority)
        if self.transcript_key is not None and self.transcript_key not in {key.label for key in self.token_keys()}:
            named.add(self.transcript_key)
        return frozenset(named - made)

    def serials(self) -> tuple[SerialNumber, ...]:
        """The serial numbers that were drawn in advance."""
        steps = (step for step in self.steps if isinstance(step, AuthorityStep | CrossStep | CredentialStep))
        return tuple(step.terms.serial for step in steps if step.terms.serial is not None)

    @property
    def signing_label(self) -> str | None:
        """The key that signs the transcript: the one named, else the first that is made, else the first that signs."""
        if self.transcript_key is not None:
            return self.transcript_key
        made = self.token_keys()
        if made:
            return made[0].label
        for step in self.steps:
            if isinstance(step, CrossStep | CrlStep):
                return step.issuer
            if isinstance(step, RequestStep | AcceptanceStep):
                return step.authority
        return None


def read_file(path: Path) -> str:
    """A ceremony file's text, octet for octet: custodians sign the digest of the file. Raises CeremonyPlanRefused."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.CeremonyPlanRefused(f"the ceremony file {path} cannot be read") from error


def installed_profile(name: str, version: int | None = None) -> CertificateProfile:
    """The profile that is installed here. Raises ProfileNotFound."""
    try:
        return load_profile(name, version)
    except ProfileUnknown as error:
        raise errors.ProfileNotFound(str(error)) from error


def read_plan(
    text: str,
    settings: CaSettings,
    is_established: Callable[[str], bool] = lambda _slug: False,
    profiles: ProfileLoader = installed_profile,
) -> Plan:
    """A ceremony file as a plan, its names checked against the profiles. Raises CeremonyPlanRefused.

    ``is_established`` says whether there is an authority of that slug, from an earlier ceremony.
    """
    try:
        if len(text.encode()) > MAX_PLAN_OCTETS:
            raise ValueError(f"longer than {MAX_PLAN_OCTETS} octets")
        plan = _Reader(tomllib.loads(text), settings, profiles).plan(text)
    except errors.RefusedByPolicy as refusal:
        raise errors.CeremonyPlanRefused(f"the ceremony file is refused: {refusal.detail}") from refusal
    except errors.ProfileNotFound as error:
        raise errors.CeremonyPlanRefused(error.detail) from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.CeremonyPlanRefused(f"the ceremony file is malformed: {error}") from error
    _check_names(plan)
    _check_order(plan, is_established)
    _check_kind(plan)
    return plan


class _Reader:
    """Turns the TOML document into steps."""

    def __init__(self, document: Mapping[str, Any], settings: CaSettings, profiles: ProfileLoader) -> None:
        self._document = document
        self._profiles = profiles
        addresses = document.get("addresses")
        self._addresses = Addresses.read(addresses) if addresses is not None else None
        here = self._addresses or Addresses.of(settings)
        self._words = {"{host}": here.host, "{issuer}": here.service_url}
        self._organisation = {"C": here.country, **document.get("organisation", {})}

    def plan(self, text: str) -> Plan:
        document = self._document
        kind = document["kind"]
        if kind not in KINDS or not document["policy_url"]:
            raise errors.CeremonyPlanRefused(
                f"kind is one of {', '.join(sorted(KINDS))}, and policy_url names the practice statement"
            )
        unknown = set(document) - _HEAD - KINDS[kind]
        if unknown:
            raise ValueError(f"a ceremony of kind {kind} holds no {', '.join(sorted(unknown))}")
        steps: list[Step] = []
        for table in _STEPS:
            steps += [getattr(self, f"_{table}")(self._checked(table, item)) for item in document.get(table, ())]
        steps += [CrlStep(step.slug) for step in steps if isinstance(step, AuthorityStep)]
        return Plan(
            name=_slug(document["name"]),
            kind=kind,
            policy_url=document["policy_url"],
            text=text,
            steps=tuple(steps),
            quorum=self._quorum(),
            token=document.get("token"),
            addresses=self._addresses,
            transcript_key=document.get("transcript_key"),
            description=document.get("description", ""),
        )

    def _checked(self, table: str, item: Mapping[str, Any]) -> Mapping[str, Any]:
        unknown = set(item) - _WORDS[table]
        if unknown:
            raise ValueError(f"[{table}] has no {', '.join(sorted(unknown))}")
        return item

    def _quorum(self) -> Quorum:
        table = self._checked("quorum", self._document.get("quorum", {}))
        custodians = tuple(
            Custodian(_slug(item["name"]), read_custodian_key(item["public_key"]))
            for item in (self._checked("custodian", each) for each in self._document.get("custodian", ()))
        )
        quorum = Quorum(int(table.get("approvals", 0)), int(table.get("countersignatures", 0)), custodians)
        self._check_quorum(quorum)
        return quorum

    def _check_quorum(self, quorum: Quorum) -> None:
        listed = len(quorum.custodians)
        if len({custodian.name for custodian in quorum.custodians}) < listed:
            raise ValueError("two custodians have one name")
        if len({custodian.spki for custodian in quorum.custodians}) < listed:
            raise ValueError("two custodians have one key")
        if listed > MAX_CUSTODIANS or not 0 <= max(quorum.approvals, quorum.countersignatures) <= listed:
            raise ValueError(f"{listed} custodians cannot give {quorum.approvals} approvals")
        if listed and not quorum.approvals:
            raise ValueError("a file with custodians says how many of them approve")
        if quorum.approvals and (self._addresses is None or not self._document.get("token")):
            # What the custodians sign must be all that decides the octets of the certificates.
            raise ValueError("a file with custodians names its token and has a table [addresses]")

    def _terms(
        self, item: Mapping[str, Any], usual: str | None = None
    ) -> tuple[CertificateTerms, CertificateProfile]:
        name = item.get("profile", usual) if usual else item["profile"]
        version = item.get("version")
        if version is None and self._document.get("quorum"):
            raise ValueError("a file with custodians names the version of each profile")
        chosen = self._profiles(name, version)
        days = item.get("days")
        lasting = timedelta(days=int(days)) if days is not None else None
        if lasting is not None and not timedelta(0) < lasting <= chosen.longest_validity:
            raise ValueError(f"profile {name} allows 1 to {chosen.longest_validity.days} days")
        serial = _serial(item["serial"]) if "serial" in item else None
        return CertificateTerms(chosen.name, chosen.version, serial, lasting), chosen

    def _subject(self, profile: CertificateProfile, given: Mapping[str, str]) -> Subject:
        """The step's own attributes over those of the organisation that the profile takes."""
        shared = {label: value for label, value in self._organisation.items() if profile.attribute(label)}
        return fitted_subject(profile, {**shared, **given})

    def _authority(self, item: Mapping[str, Any]) -> AuthorityStep:
        terms, profile = self._terms(item)
        subject = self._subject(profile, item["subject"])
        if any(len(value.encode()) > MAX_AUTHORITY_NAME_OCTETS for _, value in subject):
            raise errors.CeremonyPlanRefused(f"a name of {item['slug']} is longer than 64 octets")
        slug = _slug(item["slug"])
        return AuthorityStep(
            slug=slug,
            purpose=_slug(item["purpose"]),
            issuer=_slug(item.get("issuer", slug)),
            key=KeyAlgorithm(item["key"]),
            subject=subject,
            terms=terms,
        )

    def _cross(self, item: Mapping[str, Any]) -> CrossStep:
        terms, _ = self._terms(item, "cross-certificate")
        return CrossStep(_slug(item["slug"]), _slug(item["issuer"]), _slug(item["authority"]), terms)

    def _credential(self, item: Mapping[str, Any]) -> CredentialStep:
        terms, profile = self._terms(item)
        words = self._words
        given = [(name["kind"], words.get(name["value"], name["value"])) for name in item.get("alternative_names", ())]
        return CredentialStep(
            label=item["label"],
            issuer=_slug(item["issuer"]),
            key=KeyAlgorithm(item["key"]),
            purpose=KeyPurpose(item["purpose"]),
            subject=self._subject(profile, {name: words.get(value, value) for name, value in item["subject"].items()}),
            alternative_names=fitted_alternative_names(profile, given),
            terms=terms,
        )

    def _key(self, item: Mapping[str, Any]) -> KeyStep:
        step = KeyStep(item["label"], KeyAlgorithm(item["key"]), KeyPurpose(item["purpose"]))
        if step.purpose is not KeyPurpose.TOKEN_SIGNING:
            raise errors.CeremonyPlanRefused(f"{step.label}: only a key that signs tokens goes without a certificate")
        return step

    def _request(self, item: Mapping[str, Any]) -> RequestStep:
        return RequestStep(_slug(item["authority"]))

    def _acceptance(self, item: Mapping[str, Any]) -> AcceptanceStep:
        return AcceptanceStep(
            slug=_slug(item["slug"]),
            authority=_slug(item["authority"]),
            certificate=item["certificate"],
            chain=item["chain"],
            served=bool(item.get("served", False)),
        )

    def _crl(self, item: Mapping[str, Any]) -> CrlStep:
        return CrlStep(_slug(item["issuer"]))

    def _destroy(self, item: Mapping[str, Any]) -> DestructionStep:
        if not re.fullmatch("[0-9a-f]{40}", item["key_id"]):
            raise ValueError("key_id is CKA_ID, forty hexadecimal digits, as `tamga hsm keys` shows it")
        return DestructionStep(item["label"], item["key_id"])


def read_custodian_key(pem: str) -> CustodianKey:
    """A custodian's public key from PEM. Raises ValueError unless it is Ed25519 or P-256."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("a custodian's public key is not readable PEM") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("a custodian's key is Ed25519 or P-256")


def subject_text(subject: Subject) -> str:
    """A subject on one line."""
    return ", ".join(f"{label}={value}" for label, value in subject)


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise ValueError(f"{text!r} is no name: 1 to 64 small letters, digits and hyphens")
    return text


def _serial(text: str) -> SerialNumber:
    serial = serial_number.parse(text)
    drawn = serial_number.octets(serial)
    if drawn is None or not 1 <= drawn[0] <= 127:
        raise ValueError(f"a serial number has {SERIAL_OCTETS} octets, the first of them the installation's, 1 to 127")
    return serial


def _check_names(plan: Plan) -> None:
    if not plan.steps:
        raise errors.CeremonyPlanRefused("the ceremony file does nothing")
    labels = [step.label for step in plan.token_keys()]
    if len(set(labels)) < len(labels):
        raise errors.CeremonyPlanRefused("two steps of the ceremony file make a key of the same name")
    slugs = [step.slug for step in plan.steps if isinstance(step, AuthorityStep | CrossStep | AcceptanceStep)]
    acts = [(type(step), step.name) for step in plan.steps]
    if len(set(slugs)) < len(slugs) or len(set(acts)) < len(acts):
        raise errors.CeremonyPlanRefused("two steps of the ceremony file have the same name")
    serials = plan.serials()
    if len(set(serials)) < len(serials):
        raise errors.CeremonyPlanRefused("a serial number stands twice in the ceremony file")


def _check_order(plan: Plan, is_established: Callable[[str], bool]) -> None:
    known: set[str] = set()
    for step in plan.authorities:
        if step.issuer not in known | {step.slug} and not is_established(step.issuer):
            raise errors.CeremonyPlanRefused(f"{step.issuer}, which signs {step.slug}, does not stand before it")
        known.add(step.slug)
    for missing in sorted(slug for slug in plan.standing() if not is_established(slug)):
        raise errors.CeremonyPlanRefused(f"there is no authority {missing}")


def _check_kind(plan: Plan) -> None:
    """What a kind of ceremony promises beyond its tables."""
    if plan.kind == "root" and not (plan.authorities and all(step.is_root for step in plan.authorities)):
        raise errors.CeremonyPlanRefused("a ceremony of kind root makes roots")
    if plan.kind == "issuing-ca" and (not plan.authorities or any(step.is_root for step in plan.authorities)):
        raise errors.CeremonyPlanRefused("a ceremony of kind issuing-ca makes authorities below a root")
    if plan.kind == "responder" and any(step.terms.profile not in _RESPONDERS for step in plan.credentials):
        raise errors.CeremonyPlanRefused("a ceremony of kind responder makes OCSP responders")
    for step in plan.authorities:
        if (step.terms.profile == "root") is not step.is_root:
            raise errors.CeremonyPlanRefused(f"{step.slug}: the profile root is for what signs itself, nothing else")
