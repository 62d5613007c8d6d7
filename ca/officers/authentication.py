"""An officer shows who he is: the account of the system he works from, and a signature by his key over a fresh text."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature

from ca.officers import events, keys
from ca.officers.errors import Forbidden, OfficerUnknown, RoleMissing, SecondFactorMissing, SecondFactorRefused
from ca.officers.register import Officer, Officers
from ca.settings import CaSettings
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database

PURPOSE = "tamga officer authentication 1"
NONCE_OCTETS = 32

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Account:
    """An account of the operating system: what the kernel says, never what an environment variable does."""

    uid: int
    user: str


class Authentication:
    """Recognises officers. What was signed is kept in the audit log, so that others can verify who acted."""

    def __init__(
        self, *, settings: CaSettings, database: Database, audit: AuditLog, clock: Clock, officers: Officers
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._officers = officers

    def recognise(self, account: Account, sign: Sign | None, *, roles: Collection[str], command: str) -> Officer:
        """The officer of this account whose key signs, if he holds one of ``roles``; for one command.

        ``sign`` is None when no key was shown. Raises OfficerUnknown, SecondFactorMissing, SecondFactorRefused,
        RoleMissing, each of which the audit log keeps.
        """
        try:
            officer, text, signature = self._proven(account, sign, command)
            self.check_role(officer, roles, command)
        except Forbidden as refusal:
            with self._database.transaction() as session:
                told = {"command": command, "code": refusal.code, "account": account.user}
                actor = f"account:{account.uid}"
                self._audit.append(session, events.OFFICER_REFUSED, actor=actor, facts=told)
            raise
        with self._database.transaction() as session:
            told = {"command": command, "text": text.decode(), "signature": signature.hex()}
            self._audit.append(
                session, events.OFFICER_AUTHENTICATED, actor=officer.actor, subject=officer.name, facts=told
            )
        return officer

    @staticmethod
    def check_role(officer: Officer, roles: Collection[str], command: str) -> None:
        """Raise RoleMissing unless the officer holds one of the roles."""
        if not officer.holds(roles):
            raise RoleMissing(f"{command} is for {' or '.join(sorted(roles))}; {officer.name} is none of them")

    def _proven(self, account: Account, sign: Sign | None, command: str) -> tuple[Officer, bytes, bytes]:
        candidates = self._officers.of_account(account.uid, account.user)
        if not candidates:
            raise OfficerUnknown(f"the account {account.user} is no active officer's")
        if sign is None:  # BR 6.5.1: multi-factor authentication for accounts that can cause issuance
            raise SecondFactorMissing("an officer shows his key: --officer-key or TAMGA_OFFICER_KEY")
        text = self._text(account, command)
        signature = sign(text)
        for officer in candidates:
            try:
                keys.verify(officer.spki, text, signature)
            except InvalidSignature:
                continue
            return officer, text, signature
        raise SecondFactorRefused(f"the key is not that of an officer known as {account.user}")

    def _text(self, account: Account, command: str) -> bytes:
        return keys.signed_text(
            PURPOSE,
            (
                ("instance", self._settings.oidc_issuer),
                ("account", f"{account.user} ({account.uid})"),
                ("command", command),
                ("at", self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")),
                ("nonce", secrets.token_hex(NONCE_OCTETS)),
            ),
        )
