"""Changes of the register of officers: the first two by whoever owns the instance, all others by four eyes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from ca.officers import events, keys
from ca.officers.approvals import Approvals
from ca.officers.approved_profiles import ApprovedProfiles
from ca.officers.errors import (
    ApprovalMismatch,
    OfficerChanged,
    OfficersEnrolled,
    OfficerUnchanged,
    TooFewSecurityOfficers,
)
from ca.officers.register import FEWEST_SECURITY_OFFICERS, Officer, Officers
from ca.officers.roles import ROLE_CHANGE, SECURITY_OFFICER
from core.audit import AuditLog, canonical
from core.clock import Clock
from core.database import Database


class RoleChanges:
    """Enrols, changes and retires officers."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        officers: Officers,
        approvals: Approvals,
        profiles: ApprovedProfiles,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._officers = officers
        self._approvals = approvals
        self._profiles = profiles

    def bootstrap(self, first: Sequence[Officer], *, actor: str) -> None:
        """Enrol the first security officers, at least two; works once. The profiles that ship with this release count
        as approved from then on.

        Raises OfficersEnrolled, TooFewSecurityOfficers, and what ``Officers.check`` raises.
        """
        if len({each.name for each in first}) < max(FEWEST_SECURITY_OFFICERS, len(first)):
            raise TooFewSecurityOfficers(f"the first officers are {FEWEST_SECURITY_OFFICERS} or more, each named once")
        with self._database.transaction() as session:
            self._officers.lock(session)
            if self._officers.enrolled(session):
                raise OfficersEnrolled("the first officers are enrolled; a change is proposed and approved")
            now = self._clock()
            for each in first:
                officer = replace(each, version=1, active=True, roles=frozenset({SECURITY_OFFICER}))
                self._officers.check(session, officer, first=True)
                self._officers.enter(session, officer, since=now, actor=actor, approval_id=None)
            self._profiles.take_over(session)
            told = {"officers": [f"{each.name} {each.key_sha256.hex()}" for each in first]}
            self._audit.append(session, events.OFFICERS_BOOTSTRAPPED, actor=actor, facts=told)

    def propose(self, wanted: Officer, *, actor: str) -> str:
        """Ask that an officer becomes what ``wanted`` says; gives the id of the request. ``version`` is not looked at.

        Raises OfficerUnchanged, and what ``Officers.check`` raises.
        """
        with self._database.transaction() as session:
            before = self._before(session, wanted.name)
            after = replace(wanted, version=before.version + 1 if before else 1, since=None)
            if before is not None and replace(before, version=after.version, since=None) == after:
                raise OfficerUnchanged(f"{wanted.name} is that already")
            self._officers.check(session, after)
            facts = _facts(after)
            return self._approvals.request_in(
                session, ROLE_CHANGE, after.name, _digest(facts), actor=actor, facts=facts
            )  # fmt: skip

    def apply(self, request_id: str, *, actor: str) -> Officer:
        """Carry out a change that was approved. Raises OfficerChanged when the officer is not as he was when the
        change was proposed, and what ``Approvals.take`` and ``Officers.check`` raise."""
        request = self._approvals.get(request_id)
        if request.kind != ROLE_CHANGE:
            raise ApprovalMismatch(f"the request asks for {request.kind}")
        after = _officer(request.facts)
        with self._database.transaction() as session:
            self._officers.check(session, after)
            before = self._before(session, after.name)
            if after.version != (before.version + 1 if before else 1):
                raise OfficerChanged(f"{after.name} was changed meanwhile")
            self._approvals.take(session, request_id, kind=ROLE_CHANGE, digest=_digest(request.facts), actor=actor)
            now = self._clock()
            self._officers.enter(session, after, since=now, actor=actor, approval_id=request_id)
            told = {**_facts(after), "request": request_id}
            self._audit.append(session, events.OFFICER_CHANGED, actor=actor, subject=after.name, facts=told)
        return replace(after, since=now)

    def _before(self, session: Session, name: str) -> Officer | None:
        return next((each for each in self._officers.all(session) if each.name == name), None)


def _facts(officer: Officer) -> dict[str, str | int]:
    """An officer as a request shows and stores him."""
    return {
        "name": officer.name,
        "version": officer.version,
        "roles": " ".join(sorted(officer.roles)),
        "os_uid": officer.os_uid,
        "os_user": officer.os_user,
        "state": "active" if officer.active else "retired",
        "public_key": base64.b64encode(officer.spki).decode(),
        "key_sha256": officer.key_sha256.hex(),
    }


def _officer(facts: Mapping[str, str | int]) -> Officer:
    """The officer that a request's facts describe. Raises ApprovalMismatch when they are not as we write them."""
    try:
        officer = Officer(
            name=str(facts["name"]),
            version=int(facts["version"]),
            roles=frozenset(str(facts["roles"]).split()),
            os_uid=int(facts["os_uid"]),
            os_user=str(facts["os_user"]),
            spki=keys.read_public_key(base64.b64decode(str(facts["public_key"]))),
            active=facts["state"] == "active",
        )
    except (KeyError, ValueError, binascii.Error) as error:
        raise ApprovalMismatch("the request does not describe an officer") from error
    if _facts(officer) != dict(facts):
        raise ApprovalMismatch("the request does not describe an officer")
    return officer


def _digest(facts: Mapping[str, str | int]) -> str:
    return hashlib.sha256(canonical(dict(facts))).hexdigest()
