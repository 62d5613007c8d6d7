"""Officers of an authority on a database of their own, with the private keys that they would keep at home."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.officers import keys
from ca.officers.approvals import Approvals
from ca.officers.approved_profiles import ApprovedProfiles
from ca.officers.authentication import Account, Authentication
from ca.officers.register import Officer, Officers
from ca.officers.role_changes import RoleChanges
from ca.settings import CaSettings
from core.audit import AuditLog, export, verify
from core.database import Database

COMMAND = "cert revoke"


class Clock:
    """Each look is a millisecond later; tests move it."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment


def public(key: keys.OfficerPrivateKey | rsa.RSAPrivateKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class House:
    """The register of officers with what stands on it."""

    database: Database
    clock: Clock
    settings: CaSettings

    def __post_init__(self) -> None:
        self.keys: dict[str, keys.OfficerPrivateKey] = {}
        audit = AuditLog(self.clock)
        shared = {"database": self.database, "audit": audit, "clock": self.clock}
        self.officers = Officers(self.database, share_accounts=self.settings.officers_share_accounts)
        self.approvals = Approvals(settings=self.settings, officers=self.officers, **shared)
        self.profiles = ApprovedProfiles(officers=self.officers, approvals=self.approvals, **shared)
        self.changes = RoleChanges(
            officers=self.officers, approvals=self.approvals, profiles=self.profiles, **shared
        )  # fmt: skip
        self.authentication = Authentication(settings=self.settings, officers=self.officers, **shared)

    def candidate(self, name: str, *roles: str, key: keys.OfficerPrivateKey | None = None) -> Officer:
        """Somebody with a key of his own and an account of his own name."""
        self.keys[name] = key or ed25519.Ed25519PrivateKey.generate()
        uid = 2000 + sum(ord(letter) * place for place, letter in enumerate(name, start=1))
        return Officer(name, 1, frozenset(roles), uid, name, public(self.keys[name]), active=True)

    def begin(self) -> None:
        self.changes.bootstrap([self.candidate("bold"), self.candidate("saran")], actor="operator:root")

    def approve(self, request: str, name: str) -> None:
        text = self.approvals.get(request).text
        self.approvals.approve(request, self.officers.get(name), keys.sign(self.keys[name], text))

    def enrol(self, name: str, *roles: str, key: keys.OfficerPrivateKey | None = None) -> Officer:
        return self.change(self.candidate(name, *roles, key=key))

    def change(self, wanted: Officer) -> Officer:
        request = self.changes.propose(wanted, actor="officer:bold")
        self.approve(request, "saran")
        return self.changes.apply(request, actor="officer:bold")

    def recognise(self, name: str, *roles: str, account: Account | None = None, key: str | None = None) -> Officer:
        officer = self.officers.get(name)
        return self.authentication.recognise(
            account or Account(officer.os_uid, officer.os_user),
            lambda text: keys.sign(self.keys[key or name], text),
            roles=roles,
            command=COMMAND,
        )

    def events(self) -> list[str]:
        with self.database.reading() as session:
            entries = list(export(session))
        verify(entries)
        return [entry["event"] for entry in entries]
