"""Approval of a plan by its custodians: detached signatures over the plan's SHA-256, kept in files beside the plan.

A custodian may sign with a key file here, or anywhere with other tools: what is signed is a short text that
``approval_message`` gives. Ed25519 signs it as it is (RFC 8032); P-256 signs its SHA-256 (FIPS 186-5), the signature in
DER as openssl writes it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca import errors
from ca.ceremony.plan import Custodian, CustodianKey, Plan, Quorum

# Signed octets begin with their purpose, so that a signature given here counts for nothing else.
APPROVAL_DOMAIN = b"tamga ceremony plan v1\n"
MAX_SIGNATURE_OCTETS = 128
SUFFIX = ".approval"

CustodianPrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Approval:
    """One custodian's signature over one plan."""

    custodian: str
    plan_sha256: str
    signature: bytes = field(repr=False)

    def document(self) -> dict[str, str]:
        """As files and transcripts keep it."""
        return {
            "custodian": self.custodian,
            "plan_sha256": self.plan_sha256,
            "signature": base64.b64encode(self.signature).decode(),
        }


def approval_message(plan_sha256: str) -> bytes:
    """The octets that a custodian signs."""
    return APPROVAL_DOMAIN + plan_sha256.encode() + b"\n"


def sign(key: CustodianPrivateKey, message: bytes) -> bytes:
    """A custodian's signature."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def is_signed(key: CustodianKey, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` stands under a custodian's public key."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def private_key(pem: bytes, passphrase: str | None) -> CustodianPrivateKey:
    """A custodian's private key from PEM. Raises CustodianKeyRefused, also for a wrong passphrase."""
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise errors.CustodianKeyRefused("the key file is not readable with this passphrase") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise errors.CustodianKeyRefused("a custodian's key is Ed25519 or P-256")


def owner_of(key: CustodianPrivateKey, quorum: Quorum) -> Custodian:
    """The custodian whose key this is. Raises ForeignCustodian."""
    for custodian in quorum.custodians:
        if custodian.public_key == key.public_key():
            return custodian
    raise errors.ForeignCustodian("the plan lists no custodian with this key")


def approve(plan: Plan, custodian: str, signature: bytes) -> Approval:
    """An approval, once its signature is verified. Raises ForeignCustodian, ApprovalForged."""
    approval = Approval(custodian, plan.sha256, signature)
    check_approval(plan, approval)
    return approval


def check_approval(plan: Plan, approval: Approval) -> Custodian:
    """Who gave this approval. Raises ForeignCustodian, PlanEdited, ApprovalForged."""
    custodian = plan.quorum.custodian(approval.custodian)
    if custodian is None:
        raise errors.ForeignCustodian(f"the plan lists no custodian {approval.custodian}")
    if approval.plan_sha256 != plan.sha256:
        raise errors.PlanEdited(f"{approval.custodian} approved another text of this plan; it was edited since")
    if not is_signed(custodian.public_key, approval_message(plan.sha256), approval.signature):
        raise errors.ApprovalForged(f"the signature in the name of {approval.custodian} does not verify")
    return custodian


def check_quorum(plan: Plan, approvals: Sequence[Approval]) -> tuple[Custodian, ...]:
    """The custodians who approved, at least as many as the plan asks for.

    Raises NoQuorum, and whatever is wrong with one of the approvals: one that does not count is never passed over.
    """
    given = tuple(check_approval(plan, approval) for approval in approvals)
    if len({custodian.name for custodian in given}) < len(given):
        raise errors.DuplicateCustodian("one custodian's approval counts once")
    if len(given) < plan.quorum.approvals:
        raise errors.NoQuorum(f"{len(given)} of {plan.quorum.approvals} approvals are there; nothing was done")
    return given


def approval_path(plan: Path, custodian: str) -> Path:
    """Where a custodian's approval of this ceremony file lies: beside it."""
    return plan.with_name(f"{plan.name}.{custodian}{SUFFIX}")


def write_approval(plan: Path, approval: Approval) -> Path:
    """Keep an approval beside the plan. Raises DuplicateCustodian when one of this custodian is there."""
    path = approval_path(plan, approval.custodian)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(approval.document(), indent=1) + "\n")
    except FileExistsError as error:
        raise errors.DuplicateCustodian(f"{path} is there already: {approval.custodian} has approved") from error
    return path


def read_approvals(plan: Path) -> tuple[Approval, ...]:
    """Every approval that lies beside the plan. Raises ApprovalForged for a file that is none."""
    return tuple(_read(path) for path in sorted(plan.parent.glob(f"{_escaped(plan.name)}.*{SUFFIX}")))


def read_approval(document: object) -> Approval:
    """An approval as files and transcripts keep it. Raises ValueError."""
    if not isinstance(document, dict) or set(document) != {"custodian", "plan_sha256", "signature"}:
        raise ValueError("an approval names custodian, plan_sha256 and signature")
    signature = base64.b64decode(document["signature"], validate=True)
    if len(signature) > MAX_SIGNATURE_OCTETS:
        raise ValueError("the signature is too long")
    return Approval(str(document["custodian"]), str(document["plan_sha256"]), signature)


def _read(path: Path) -> Approval:
    try:
        return read_approval(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise errors.ApprovalForged(f"{path.name} is no approval") from error


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "[]*?" else letter for letter in name)
