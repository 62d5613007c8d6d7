"""Custodians of key ceremonies: people with keys of their own, who approve plans and sign transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ca.ceremony.approval import Approval, CustodianPrivateKey, approval_message, approve, sign
from ca.ceremony.plan import Plan
from tests.support.instance import Instance


class Custodians:
    """Three of them; two have Ed25519 keys and one P-256."""

    def __init__(self) -> None:
        self.keys: dict[str, CustodianPrivateKey] = {
            "bold": ed25519.Ed25519PrivateKey.generate(),
            "oyun": ec.generate_private_key(ec.SECP256R1()),
            "saran": ed25519.Ed25519PrivateKey.generate(),
        }

    def public(self, name: str) -> str:
        """A public key, PEM."""
        public_key = self.keys[name].public_key()
        return public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def private(self, name: str, passphrase: str = "") -> bytes:
        """A private key, PEM."""
        lock = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return self.keys[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)

    def table(self, *, approvals: int = 2, countersignatures: int = 0, names: Sequence[str] = ()) -> str:
        """What a ceremony file says of them."""
        rows = [f"[quorum]\napprovals = {approvals}\ncountersignatures = {countersignatures}\n"]
        rows += [
            f'[[custodian]]\nname = "{name}"\npublic_key = """\n{self.public(name)}"""\n' for name in names or self.keys
        ]
        return "\n".join(rows)

    def approvals(self, plan: Plan, *names: str) -> tuple[Approval, ...]:
        """Their approvals of a plan."""
        message = approval_message(plan.sha256)
        return tuple(approve(plan, name, sign(self.keys[name], message)) for name in names)

    def write_public(self, folder: Path) -> list[str]:
        """Their public keys in files, as options of ``tamga ca ceremony draft``."""
        options = []
        for name in self.keys:
            path = folder / f"{name}.pub.pem"
            path.write_text(self.public(name))
            options += ["--custodian", f"{name}={path}"]
        return options


def hold_first_ceremony(instance: Instance, folder: Path) -> None:
    """The first generation of a production instance: drafted, approved by two of three custodians, held."""
    custodians = Custodians()
    file = folder / "first-generation.toml"
    instance.cli("ca", "ceremony", "draft", *custodians.write_public(folder), "--countersignatures", "0", "--out", file)
    for name in ("bold", "oyun"):
        key = folder / f"{name}.pem"
        key.write_bytes(custodians.private(name))
        instance.cli("ca", "ceremony", "approve", file, "--key", key)
    instance.cli("ca", "ceremony", "run", file, "--execute", "--yes")
