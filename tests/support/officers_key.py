"""An officer's key file at the command line, and the officers of a real instance."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from app.offline import build_authority
from app.settings import load_settings
from ca.officers import keys
from ca.officers.register import Officer
from ca.parts import Parts
from core.database import Database

if TYPE_CHECKING:
    from tests.support.instance import Instance

# Several officers of a test work from the one account that runs it.
SHARED_ACCOUNT = "officers_share_accounts = true"


@dataclass(frozen=True)
class OfficersKey:
    """An encrypted key file with its passphrase."""

    name: str
    file: Path
    passphrase: str

    @property
    def public_key(self) -> Path:
        """What is enrolled."""
        return self.file.with_name(self.file.name + ".pub")

    def private_key(self) -> keys.OfficerPrivateKey:
        """The key itself."""
        key = load_pem_private_key(self.file.read_bytes(), self.passphrase.encode())
        assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
        return key

    @contextlib.contextmanager
    def passphrase_descriptor(self) -> Iterator[int]:
        """A file descriptor that a command may read the passphrase from."""
        reading, writing = os.pipe()
        try:
            os.write(writing, f"{self.passphrase}\n".encode())
            os.close(writing)
            yield reading
        finally:
            os.close(reading)


def make_key(folder: Path, name: str, *, p256: bool = False) -> OfficersKey:
    """A key as `tamga officer keygen` writes it."""
    made = OfficersKey(name, folder / f"{name}.pem", f"passphrase of {name}")
    key = ec.generate_private_key(ec.SECP256R1()) if p256 else ed25519.Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(made.passphrase.encode())
    made.file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    made.file.chmod(0o600)
    made.public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return made


def bootstrap(instance: Instance, account: str) -> tuple[OfficersKey, OfficersKey]:
    """The first two security officers."""
    bold, saran = make_key(instance.directory, "bold"), make_key(instance.directory, "saran", p256=True)
    first = [f"{each.name}:{account}:{each.public_key}" for each in (bold, saran)]
    instance.cli("officer", "bootstrap", "--officer", first[0], "--officer", first[1])
    return bold, saran


def enrol(
    instance: Instance, name: str, *roles: str, account: str, by: tuple[OfficersKey, OfficersKey]
) -> OfficersKey:  # fmt: skip
    """Another officer: asked for by the one, approved by the other."""
    made = make_key(instance.directory, name)
    wanted = [part for role in roles for part in ("--role", role)]
    asked = instance.cli(
        "officer", "propose", name, *wanted, "--account", account, "--public-key", made.public_key, officer=by[0]
    )
    instance.cli("approval", "approve", asked["request"], officer=by[1])
    instance.cli("officer", "apply", asked["request"], officer=by[0])
    return made


def enrol_at_once(
    instance: Instance, roles: Mapping[str, Collection[str]], *, account: str, by: tuple[OfficersKey, OfficersKey]
) -> list[OfficersKey]:
    """Several officers with their roles, as `enrol` does but within this process: commands take their time."""
    settings = load_settings(instance.configuration, {})
    database = Database(settings.floor.database_url)
    try:
        authority = build_authority(settings, database=database)
        return [_enrolled(authority, make_key(instance.directory, name), roles[name], account, by) for name in roles]
    finally:
        database.close()


def staff(instance: Instance, account: str) -> OfficersKey:
    """The first officers, and one who administrates and registers: who types the commands from now on."""
    first = bootstrap(instance, account)
    [made] = enrol_at_once(instance, {"dorj": ("ca-administrator", "ra-officer")}, account=account, by=first)
    return made


def _enrolled(
    authority: Parts, made: OfficersKey, roles: Collection[str], account: str, by: tuple[OfficersKey, OfficersKey]
) -> OfficersKey:
    spki = keys.read_public_key(made.public_key.read_bytes())
    wanted = Officer(made.name, 1, frozenset(roles), pwd.getpwnam(account).pw_uid, account, spki, active=True)
    request = authority.role_changes.propose(wanted, actor=f"officer:{by[0].name}")
    signature = keys.sign(by[1].private_key(), authority.approvals.get(request).text)
    authority.approvals.approve(request, authority.officers.get(by[1].name), signature)
    authority.role_changes.apply(request, actor=f"officer:{by[0].name}")
    return made
