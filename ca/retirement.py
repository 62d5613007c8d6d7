"""The end of an authority: it stops certifying, goes on answering for what it signed, and at last publishes a last CRL.
"""

from __future__ import annotations

from sqlalchemy import func, select

from ca import events
from ca.crl import Crls, PublishedCrl
from ca.dual_control import Permit, unasked
from ca.errors import AuthorityLive, AuthorityNotInForce
from ca.hierarchy import RESPONDER_PROFILES, Authority, Hierarchy
from ca.register import State
from ca.tables import AuthorityRow, CertificateRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database


class Retirement:
    """Retires authorities."""

    def __init__(
        self, *, database: Database, audit: AuditLog, clock: Clock, hierarchy: Hierarchy, crls: Crls
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._hierarchy = hierarchy
        self._crls = crls

    def living(self, slug: str) -> int:
        """How many certificates of this authority are in force; its responders, which speak for it alone, do not count.

        Raises AuthorityNotFound.
        """
        self._hierarchy.authority(slug)
        query = select(func.count()).where(
            CertificateRow.issuer == slug,
            CertificateRow.not_after >= self._clock(),
            CertificateRow.state != State.REVOKED.value,
            CertificateRow.profile.not_in(RESPONDER_PROFILES),
            CertificateRow.id != self._hierarchy.authority(slug).certificate_id,
        )
        with self._database.reading() as session:
            return int(session.scalar(query) or 0)

    def successor(self, slug: str) -> Authority | None:
        """The newest other authority of the same purpose that may certify now."""
        purpose = self._hierarchy.authority(slug).purpose
        for authority in reversed(self._hierarchy.authorities()):
            if authority.purpose == purpose and authority.slug != slug and self._is_in_force(authority.slug):
                return authority
        return None

    def retire(
        self, slug: str, *, actor: str, without_successor: bool = False, permit: Permit = unasked
    ) -> Authority:
        """Let an authority certify nothing more. Its responders and CRLs go on. Once retired it stays so.

        Raises AuthorityNotFound, and AuthorityLive when no other of its purpose could certify in its place unless
        ``without_successor``.
        """
        successor = self.successor(slug)
        if successor is None and not without_successor:
            raise AuthorityLive(f"nothing else certifies for the purpose of {slug}; hold a rollover first")
        with self._database.transaction() as session:
            row = session.get_one(AuthorityRow, slug)
            if row.retired_at is None:
                row.retired_at = self._clock()
                session.flush()
                permit(session)
                facts: dict[str, Fact] = {"successor": successor.slug if successor else ""}
                self._audit.append(session, events.AUTHORITY_RETIRED, actor=actor, subject=slug, facts=facts)
        return next(authority for authority in self._hierarchy.authorities() if authority.slug == slug)

    def check_ended(self, slug: str) -> None:
        """Whether nothing that it certified is in force any more. Raises AuthorityNotFound, AuthorityLive."""
        living = self.living(slug)
        if living:
            raise AuthorityLive(f"{living} certificates of {slug} are in force")

    def end(self, slug: str, *, actor: str) -> PublishedCrl:
        """Publish the last CRL of a retired authority, all of whose certificates have expired or are revoked.

        Raises AuthorityNotFound, AuthorityLive, CrlRefused when it was published already.
        """
        self.check_ended(slug)
        if slug not in {each.slug for each in self._hierarchy.authorities() if each.retired_at is not None}:
            raise AuthorityLive(f"{slug} is not retired")
        return self._crls.publish_last(slug, actor=actor)

    def _is_in_force(self, slug: str) -> bool:
        try:
            self._hierarchy.check_in_force(slug)
        except AuthorityNotInForce:
            return False
        return True
