"""Verifying a ceremony from its transcript alone: no token, no database, no network, no configuration.

The plan stands in the transcript. From it and the public keys each TBSCertificate is built anew and compared octet for
octet with what was signed; then the signatures: of every certificate, of every CRL, of the custodians who approved, and
those over the whole transcript. A transcript that holds gives a report; anything else raises TranscriptBroken, which
names the line.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ca import serial_number, to_be_signed
from ca.ceremony.addresses import Addresses
from ca.ceremony.approval import check_quorum, is_signed, read_approval
from ca.ceremony.conduct import entry_of
from ca.ceremony.plan import (
    AcceptanceStep,
    AuthorityStep,
    CredentialStep,
    CrlStep,
    CrossStep,
    DestructionStep,
    KeyStep,
    Plan,
    RequestStep,
    Step,
    installed_profile,
    read_plan,
)
from ca.ceremony.rebuilding import Party, certificate_tbs, drawn_in, subject_of, to_be_signed_key
from ca.ceremony.transcript import (
    CLOSED,
    COUNTERSIGNED,
    OPENED,
    SIGNED,
    Line,
    Transcript,
    load,
    signed_message,
    stamp,
)
from ca.crl import extensions_of
from ca.errors import ApprovalForged, DuplicateCustodian, ForeignCustodian, TranscriptBroken
from ca.issuance import SHARD
from ca.revocation_list import Entries, Header, entries_of
from ca.settings import CaSettings
from ca.subordination import certificates_in, check_answer, one_certificate
from ca.to_be_signed import PublicKey
from core.clock import Clock, utc_now
from core.errors import CodedError
from hsm.keystore import KeyAlgorithm
from policies.keys import algorithm_name
from policies.profiles import MAX_BACKDATE

T = TypeVar("T")
_KEY = "key"


@dataclass(frozen=True)
class Verified:
    """What a transcript proves. Fingerprints are SHA-256, hexadecimal: of the SubjectPublicKeyInfo for a key, of the
    whole certificate for a certificate. What the ceremony was built on, ``standing``, is taken as given: compare it
    with certificates that you trust."""

    plan: Plan
    rehearsal: bool
    lines: int
    closed_hash: str
    certificates: Mapping[str, str]
    keys: Mapping[str, str]
    standing: Mapping[str, str]
    approved_by: tuple[str, ...]
    signed_by: str | None
    countersigned_by: tuple[str, ...]


def verify(transcript: Transcript, *, plan_text: str | None = None) -> Verified:
    """Whether the transcript is that of its plan. ``plan_text`` is the ceremony file as the verifier has it.

    Raises TranscriptBroken.
    """
    lines = transcript.lines
    if not lines or lines[0].act != OPENED:
        raise TranscriptBroken("the transcript does not begin with the plan", line=1)
    check = _guarded(lines[0], partial(_Check, lines, plan_text))
    return check.verified()


def message_under(path: Path) -> tuple[Plan, bytes]:
    """The plan of a transcript, and what a custodian signs under it. Raises TranscriptBroken while it is open."""
    transcript = load(path)
    if not transcript.lines or transcript.lines[0].act != OPENED:
        raise TranscriptBroken("the transcript does not begin with the plan", line=1)
    check = _guarded(transcript.lines[0], partial(_Check, transcript.lines, None))
    closed = transcript.find(CLOSED, check.plan.name)
    if closed is None:
        raise TranscriptBroken("the ceremony is not at its end; nothing is signed yet")
    return check.plan, signed_message(closed)


def countersign(path: Path, custodian: str, signature: bytes, clock: Clock = utc_now) -> None:
    """Put a custodian's signature under a transcript. Raises TranscriptBroken, ForeignCustodian, DuplicateCustodian,
    ApprovalForged."""
    plan, message = message_under(path)
    listed = plan.quorum.custodian(custodian)
    if listed is None:
        raise ForeignCustodian(f"the plan lists no custodian {custodian}")
    if not is_signed(listed.public_key, message, signature):
        raise ApprovalForged(f"the signature in the name of {custodian} does not verify")
    output = {"signature": base64.b64encode(signature).decode()}
    with Transcript.at(path) as transcript:
        if transcript.find(COUNTERSIGNED, custodian) is not None:
            raise DuplicateCustodian(f"{custodian} signed this transcript already")
        transcript.append(clock, COUNTERSIGNED, custodian, f"{custodian} signs this transcript", output)


@dataclass
class _Check:
    lines: Sequence[Line]
    plan_text: str | None
    certificates: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, PublicKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The first line: the plan, the words for certificates, the profiles, the approvals."""
        opened = self.lines[0].output
        text = opened["plan"]
        if self.plan_text is not None and self.plan_text != text:
            raise ValueError("the ceremony was held by another plan than this file")
        addresses = Addresses.read(opened["addresses"])
        self.settings: CaSettings = addresses.settings()
        self.standing = {slug: _octets(der) for slug, der in opened["standing"].items()}
        self.plan = read_plan(text, self.settings, self.standing.__contains__)
        if opened["plan_sha256"] != self.plan.sha256 or self.lines[0].subject != self.plan.name:
            raise ValueError("the digest is not that of the plan")
        if self.plan.addresses not in (None, addresses):
            raise ValueError("the addresses are not those of the plan")
        if self.plan.token not in (None, opened["token"]["label"]):
            raise ValueError("the token is not that of the plan")
        if set(self.standing) != self.plan.standing():
            raise ValueError("the certificates of standing authorities are not those the plan speaks of")
        self._check_profiles(opened["profiles"])
        self.rehearsal = bool(opened["rehearsal"])
        approvals = [read_approval(each) for each in opened["approvals"]]
        self.approved = () if self.rehearsal else check_quorum(self.plan, approvals)

    def verified(self) -> Verified:
        rest = list(self.lines[1:])
        for step in self.plan.steps:
            self._step(step, rest)
        closed = self._take(rest, CLOSED, self.plan.name)
        if closed.output != {"plan_sha256": self.plan.sha256, "lines": closed.sequence}:
            raise TranscriptBroken("the closing line counts other lines", line=closed.sequence)
        self._check_times()
        signed_by = self._signature(rest, closed)
        countersigned_by = self._countersignatures(rest, closed)
        return Verified(
            plan=self.plan,
            rehearsal=self.rehearsal,
            lines=len(self.lines),
            closed_hash=closed.hash,
            certificates={name: hashlib.sha256(der).hexdigest() for name, der in self.certificates.items()},
            keys={name: hashlib.sha256(_spki(key)).hexdigest() for name, key in self.keys.items()},
            standing={name: hashlib.sha256(der).hexdigest() for name, der in self.standing.items()},
            approved_by=tuple(custodian.name for custodian in self.approved),
            signed_by=signed_by,
            countersigned_by=countersigned_by,
        )

    # The steps ------------------------------------------------------------------------------------------------------

    def _step(self, step: Step, rest: list[Line]) -> None:
        if isinstance(step, AuthorityStep | CredentialStep | KeyStep):
            label = step.slug if isinstance(step, AuthorityStep) else step.label
            made = self._take(rest, _KEY, label)
            _guarded(made, partial(self._check_key, step, made))
        line = self._take(rest, *entry_of(step))
        if line.command != step.line():
            raise TranscriptBroken(f"line {line.sequence} says another act than the plan", line=line.sequence)
        _guarded(line, partial(self._check_step, step, line))

    def _check_key(self, step: AuthorityStep | CredentialStep | KeyStep, line: Line) -> None:
        output = line.output
        key = to_be_signed_key(load_der_public_key(_octets(output["spki"])))
        wanted = next(each for each in self.plan.token_keys() if each.label == line.subject)
        if (output["purpose"], output["algorithm"]) != (str(wanted.purpose), str(wanted.key)):
            raise ValueError("the key is of another kind than the plan's")
        if KeyAlgorithm(algorithm_name(key)) is not step.key:
            raise ValueError("the public key is not of the kind that the line says")
        attributes = output["attributes"]
        # K1: made in the token, and never able to leave it.
        kept = ("sensitive", "always_sensitive", "never_extractable", "local")
        if not all(attributes[name] is True for name in kept) or attributes["extractable"] is not False:
            raise ValueError("the token does not say that the key stays in it")
        if output["key_id"] != hashlib.sha256(_spki(key)).digest()[:20].hex():
            raise ValueError("the key identifier is not that of the public key")
        self.keys[line.subject] = key

    def _check_step(self, step: Step, line: Line) -> None:
        match step:
            case AuthorityStep():
                party = Party.to_be(step, self.keys[step.slug])
                issuer = party if step.is_root else self._party(step.issuer)
                self._check_certificate(step, line, issuer, party.name, party.public_key)
            case CrossStep():
                target = self._party(step.authority)
                self._check_certificate(step, line, self._party(step.issuer), target.name, target.public_key)
            case CredentialStep():
                issuer, key = self._party(step.issuer), self.keys[step.label]
                self._check_certificate(step, line, issuer, subject_of(step), key, step.alternative_names)
            case KeyStep():
                digest = hashlib.sha256(_spki(self.keys[step.label])).hexdigest()
                if line.output != {"spki_sha256": digest}:
                    raise ValueError("the digest is not that of the public key")
            case RequestStep():
                self._check_request(step, line)
            case AcceptanceStep():
                self._check_acceptance(step, line)
            case CrlStep():
                self._check_crl(step, line)
            case DestructionStep():
                if line.output != {"key_id": step.key_id}:
                    raise ValueError("another key was destroyed than the plan says")

    def _check_certificate(
        self,
        step: AuthorityStep | CrossStep | CredentialStep,
        line: Line,
        issuer: Party,
        subject: bytes,
        public_key: PublicKey,
        alternative_names: tuple[tuple[str, str], ...] = (),
    ) -> None:
        der = _octets(line.output["certificate"])
        tbs = to_be_signed.tbs_of(der)
        drawn = drawn_in(tbs, self.settings, issuer.slug)
        profile = installed_profile(step.terms.profile, step.terms.version)
        rebuilt = certificate_tbs(
            profile,
            self.settings,
            issuer=issuer,
            subject=subject,
            public_key=public_key,
            drawn=drawn,
            alternative_names=alternative_names,
        )
        if rebuilt != tbs:
            raise ValueError("the certificate is not what the plan and the key give")
        lasting = step.terms.lasting or profile.validity_on(drawn.not_before.date())
        if drawn.not_after - drawn.not_before + timedelta(seconds=1) != lasting:
            raise ValueError("the certificate lasts another time than the plan says")
        # A ceremony that was cut short may have signed this some time before it told of it.
        if not self.lines[0].at - MAX_BACKDATE <= drawn.not_before <= line.at:
            raise ValueError("the certificate begins at another time than the ceremony")
        if step.terms.serial not in (None, drawn.serial):
            raise ValueError("the serial number is not the one drawn in advance")
        _check_signed(der, tbs, issuer.public_key)
        expected = {
            "issuer": issuer.slug,
            "profile": profile.name,
            "profile_version": profile.version,
            "serial": serial_number.text(drawn.serial),
            "not_before": stamp(drawn.not_before),
            "not_after": stamp(drawn.not_after),
            "tbs_sha256": hashlib.sha256(tbs).hexdigest(),
            "sha256": hashlib.sha256(der).hexdigest(),
            "certificate": line.output["certificate"],
        }
        if line.output != expected:
            raise ValueError("the line says other things than its certificate")
        self.certificates[step.name] = der

    def _check_request(self, step: RequestStep, line: Line) -> None:
        request = x509.load_der_x509_csr(_octets(line.output["request"]))
        authority = self._party(step.authority)
        if request.public_key() != authority.public_key or not request.is_signature_valid:
            raise ValueError("the request is not by the authority's key")
        if request.subject.public_bytes() != authority.name:
            raise ValueError("the request names another subject")

    def _check_acceptance(self, step: AcceptanceStep, line: Line) -> None:
        answer = one_certificate(step.certificate.encode())
        digest = hashlib.sha256(answer.public_bytes(Encoding.DER)).hexdigest()
        if line.output != {"sha256": digest}:
            raise ValueError("another certificate was accepted than the plan's")
        check_answer(
            self._party(step.authority), answer, certificates_in(step.chain.encode()), lambda: line.at
        )

    def _check_crl(self, step: CrlStep, line: Line) -> None:
        der = _octets(line.output["crl"])
        crl = x509.load_der_x509_crl(der)
        authority, tbs = self._party(step.issuer), to_be_signed.tbs_of(der)
        if self._crl_tbs(authority, crl, der) != tbs:
            raise ValueError("the CRL is not what the plan and the key give")
        _check_signed(der, tbs, authority.public_key)
        if not self.lines[0].at.replace(microsecond=0) <= crl.last_update_utc <= line.at:
            raise ValueError("the CRL is of another time than the ceremony")
        expected = {"crl": line.output["crl"], "sha256": hashlib.sha256(der).hexdigest(), "entries": len(crl)}
        if line.output != expected:
            raise ValueError("the line says other things than its CRL")

    def _crl_tbs(self, authority: Party, crl: x509.CertificateRevocationList, der: bytes) -> bytes:
        """The TBSCertList built anew, with the times, the number and the entries of the one that was signed."""
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        if crl.next_update_utc is None:
            raise ValueError("the CRL has no nextUpdate")
        header = Header(
            issuer=authority.name,
            signature_algorithm=to_be_signed.signature_algorithm(authority.public_key),
            this_update=crl.last_update_utc,
            next_update=crl.next_update_utc,
            extensions=extensions_of(
                url=self.settings.crl_url(authority.slug, SHARD),
                key_identifier=authority.subject_key_identifier,
                number=number,
                issuing=not self._is_root(authority.slug),
            ),
        )
        return Entries(entries_of(der)).to_be_signed(header)

    def _is_root(self, slug: str) -> bool:
        made = {step.slug: step for step in self.plan.authorities}
        if slug in made:
            return made[slug].is_root
        certificate = x509.load_der_x509_certificate(self.standing[slug])
        return certificate.subject == certificate.issuer

    # The end --------------------------------------------------------------------------------------------------------

    def _signature(self, rest: list[Line], closed: Line) -> str | None:
        label = self.plan.signing_label
        if label is None:
            return None
        line = self._take(rest, SIGNED, label)
        _guarded(line, partial(self._check_signature, label, line, closed))
        return label

    def _check_signature(self, label: str, line: Line, closed: Line) -> None:
        key = self.keys[label] if label in self.keys else self._party(label).public_key
        if _octets(line.output["spki"]) != _spki(key):
            raise ValueError("the transcript is signed by a foreign key")
        if not to_be_signed.verify(key, signed_message(closed), _octets(line.output["signature"])):
            raise ValueError("the signature over the transcript does not verify")

    def _countersignatures(self, rest: list[Line], closed: Line) -> tuple[str, ...]:
        given: list[str] = []
        for line in rest:
            _guarded(line, partial(self._check_countersignature, line, closed, given))
            given.append(line.subject)
        if len(given) < self.plan.quorum.countersignatures and not self.rehearsal:
            raise TranscriptBroken(
                f"{len(given)} of {self.plan.quorum.countersignatures} countersignatures stand under the transcript",
                line=self.lines[-1].sequence + 1,
            )
        if self.plan.signing_label is None and not given:
            raise TranscriptBroken("nobody signed the transcript", line=self.lines[-1].sequence + 1)
        return tuple(given)

    def _check_countersignature(self, line: Line, closed: Line, given: Sequence[str]) -> None:
        if line.act != COUNTERSIGNED:
            raise ValueError("the plan knows no such act")
        custodian = self.plan.quorum.custodian(line.subject)
        if custodian is None:
            raise ValueError(f"the plan lists no custodian {line.subject}")
        if line.subject in given:
            raise ValueError(f"{line.subject} signed twice")
        if not is_signed(custodian.public_key, signed_message(closed), _octets(line.output["signature"])):
            raise ValueError(f"the signature of {line.subject} does not verify")

    # ----------------------------------------------------------------------------------------------------------------

    def _take(self, rest: list[Line], act: str, subject: str) -> Line:
        """The next line, which must be this act: the plan gives the order, and nothing stands between."""
        if not rest:
            raise TranscriptBroken(f"the line for {act} {subject} is missing", line=self.lines[-1].sequence + 1)
        line = rest.pop(0)
        if (line.act, line.subject) != (act, subject):
            raise TranscriptBroken(
                f"line {line.sequence} should tell of {act} {subject}, and tells of {line.act} {line.subject}",
                line=line.sequence,
            )
        return line

    def _party(self, slug: str) -> Party:
        for step in self.plan.authorities:
            if step.slug == slug:
                return Party.to_be(step, self.keys[slug])
        return Party.of(slug, self.standing[slug])

    def _check_profiles(self, digests: Mapping[str, str]) -> None:
        used: dict[str, str] = {}
        for step in self.plan.steps:
            if isinstance(step, AuthorityStep | CrossStep | CredentialStep):
                used[step.terms.profile] = installed_profile(step.terms.profile, step.terms.version).digest
        if dict(digests) != used:
            raise ValueError("the ceremony used other profiles than those kept here under the same versions")

    def _check_times(self) -> None:
        for before, line in zip(self.lines, self.lines[1:], strict=False):
            if line.at < before.at:
                raise TranscriptBroken(f"line {line.sequence} is older than the line before it", line=line.sequence)


def _check_signed(der: bytes, tbs: bytes, key: PublicKey) -> None:
    """Whether a Certificate or CertificateList is its TBS under this key, and nothing else."""
    signature = to_be_signed.signature_of(der)
    if to_be_signed.assemble(tbs, key, signature) != der:
        raise ValueError("the envelope around the signed octets is not ours")
    if not to_be_signed.verify(key, tbs, signature):
        raise ValueError("the signature does not verify under the issuer's key")


def _guarded(line: Line, check: Callable[[], T]) -> T:
    """What ``check`` gives; whatever it finds wrong is said of this line."""
    try:
        return check()
    except TranscriptBroken:
        raise
    except CodedError as error:
        raise TranscriptBroken(f"line {line.sequence}: {error.detail}", line=line.sequence, cause=error.code) from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, x509.ExtensionNotFound) as error:
        raise TranscriptBroken(f"line {line.sequence}: {error}", line=line.sequence) from error


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
