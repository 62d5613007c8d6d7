"""Acts on authorities outside of a ceremony, each permitted by officers other than the one who asks (K15).

A ceremony brings its custodians' approvals. What changes an authority without one (its retirement, the chain it serves,
an outside certificate, a request signed with its key) is asked for, approved, and taken in the act's own transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from ca.officers.errors import ApprovalMissing
from core.audit import canonical

KIND = "ceremony"

Permit = Callable[[Session], None]


class ApprovalsOfOfficers(Protocol):
    """Where approvals are asked for and taken."""

    def needed(self, kind: str, session: Session | None = None) -> int:
        """How many officers beside the requester must sign."""
        ...

    def request(self, kind: str, subject: str, digest: str, *, actor: str, facts: Mapping[str, str | int]) -> str:
        """Ask; gives the request's id."""
        ...

    def take(self, session: Session, request_id: str, *, kind: str, digest: str, actor: str) -> None:
        """Use the request up in the act's transaction, or raise."""
        ...


@dataclass(frozen=True)
class Act:
    """What is to be done to which authority; the facts say it in full."""

    name: str
    authority: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Stands for exactly this act, hexadecimal."""
        return hashlib.sha256(canonical({"act": self.name, "authority": self.authority, **self.facts})).hexdigest()


class DualControl:
    """Asks for permission, and takes it."""

    def __init__(self, approvals: ApprovalsOfOfficers) -> None:
        self._approvals = approvals

    def ask(self, act: Act, *, actor: str) -> str:
        """Ask the other officers; gives the request's id."""
        facts: dict[str, str | int] = {"act": act.name, **act.facts}
        return self._approvals.request(KIND, act.authority, act.digest, actor=actor, facts=facts)

    def permit(self, act: Act, request: str | None, *, actor: str) -> Permit:
        """What the act's transaction calls. Raises ApprovalMissing and what else the approvals raise; nothing where no
        approval is needed, as on a development instance without officers."""

        def take(session: Session) -> None:
            if not self._approvals.needed(KIND, session):
                return
            if request is None:
                raise ApprovalMissing(f"other officers must approve this act ({act.name}): ask with --ask")
            self._approvals.take(session, request, kind=KIND, digest=act.digest, actor=actor)

        return take


def unasked(_session: Session) -> None:
    """For acts of a ceremony, which its custodians approved."""
