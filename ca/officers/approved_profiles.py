"""Profiles that may be used: a new version is approved before its first certificate."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ca.officers import events
from ca.officers.approvals import OPEN, Approvals
from ca.officers.errors import ApprovalMissing, ProfileNotApproved
from ca.officers.register import Officers
from ca.officers.roles import PROFILE_CHANGE
from ca.officers.tables import ApprovalRequestRow, ApprovedProfileRow
from ca.tables import ProfileVersionRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from policies.profiles import CertificateProfile, load_profile, profile_names

ACTOR = "service:ca-issuance"


@dataclass(frozen=True)
class ProfileStanding:
    """A profile of this release, whether it may be used, and whether it ever was."""

    profile: CertificateProfile
    approved: bool
    used: bool


class ApprovedProfiles:
    """Answers issuance, and asks for the approval of what is new."""

    def __init__(
        self, *, database: Database, audit: AuditLog, clock: Clock, officers: Officers, approvals: Approvals
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._officers = officers
        self._approvals = approvals

    def check(self, session: Session, profile: CertificateProfile) -> None:
        """Let issuance use a profile for the first time, in the transaction that records the intent.

        Uses up an approval when there is one. Raises ProfileNotApproved. Without officers there is nothing to ask.
        """
        if self._approved(session, profile) or not self._officers.enrolled(session):
            return
        self._take(session, profile)

    def propose(self, name: str, *, actor: str) -> str:
        """Ask for the approval of a profile as it is in this release; gives the request's id. Raises ProfileUnknown."""
        profile = load_profile(name)
        facts: dict[str, str | int] = {"name": name, "version": profile.version, "digest": profile.digest}
        return self._approvals.request(PROFILE_CHANGE, name, profile.digest, actor=actor, facts=facts)

    def standing(self) -> tuple[ProfileStanding, ...]:
        """Every profile of this release, by name."""
        with self._database.reading() as session:
            free = not self._officers.enrolled(session)
            return tuple(
                ProfileStanding(profile, free or self._approved(session, profile), self._used(session, profile))
                for profile in map(load_profile, profile_names())
            )

    def take_over(self, session: Session) -> None:
        """Count every profile of this release as approved, when the first officers are enrolled."""
        for profile in map(load_profile, profile_names()):
            self._enter(session, profile, None)

    def _take(self, session: Session, profile: CertificateProfile) -> None:
        query = select(ApprovalRequestRow.id).where(
            ApprovalRequestRow.kind == PROFILE_CHANGE,
            ApprovalRequestRow.digest == profile.digest,
            ApprovalRequestRow.subject == profile.name,
            ApprovalRequestRow.state == OPEN,
            ApprovalRequestRow.expires_at > self._clock(),
        )
        for request_id in session.scalars(query).all():
            try:
                self._approvals.take(session, request_id, kind=PROFILE_CHANGE, digest=profile.digest, actor=ACTOR)
            except ApprovalMissing:
                continue
            self._enter(session, profile, request_id)
            facts: dict[str, Fact] = {"version": profile.version, "digest": profile.digest, "request": request_id}
            self._audit.append(session, events.PROFILE_APPROVED, actor=ACTOR, subject=profile.name, facts=facts)
            return
        raise ProfileNotApproved(f"version {profile.version} of profile {profile.name} was not approved")

    def _enter(self, session: Session, profile: CertificateProfile, approval_id: str | None) -> None:
        session.merge(
            ApprovedProfileRow(
                name=profile.name,
                version=profile.version,
                digest=profile.digest,
                approved_at=self._clock(),
                approval_id=approval_id,
            )
        )

    @staticmethod
    def _approved(session: Session, profile: CertificateProfile) -> bool:
        row = session.get(ApprovedProfileRow, (profile.name, profile.version))
        return row is not None and row.digest == profile.digest

    @staticmethod
    def _used(session: Session, profile: CertificateProfile) -> bool:
        return session.get(ProfileVersionRow, (profile.name, profile.version)) is not None
