"""The list itself: read, changed, signed. Every change is a new version that names the one before by its digest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ca.hierarchy import Authority, Hierarchy
from ca.register import Register, State
from ca.settings import CaSettings
from ca.trust_list import errors, events
from ca.trust_list.acceptance import Acceptance, accepted
from ca.trust_list.chains import check_chain, tops_of
from ca.trust_list.document import PURPOSES, Entry, TrustList, digest, ordered, parsed
from ca.trust_list.tables import TrustListVersionRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from hsm.jwk import token_jwk
from hsm.keystore import Keystore

JWS_TYPE = "trust-list+json"
MAX_REASON_CHARACTERS = 500
# What an authority's purpose in the hierarchy means on the list. A root is accepted for what stands below it.
_OUR_PURPOSES: Mapping[str, tuple[str, ...]] = {
    "citizen-auth": ("authentication",),
    "citizen-sign": ("signature",),
    "seal": ("seal",),
    "timestamp": ("time-stamp",),
    "tls": ("tls",),
    "service": ("tls", "time-stamp"),
    "infrastructure": ("tls",),
}


@dataclass(frozen=True)
class Version:
    """A published version: the list, the octets that were signed, the signature (compact JWS)."""

    listed: TrustList
    made_by: str
    change: str
    sha256: str
    jws: str = field(repr=False)


class TrustLists:
    """Reads and changes the list. ``actor`` is who acts, for the audit log; changes raise VersionConflict in a race."""

    def __init__(
        self, *, settings: CaSettings, database: Database, audit: AuditLog, clock: Clock, keystore: Keystore,
        hierarchy: Hierarchy, register: Register,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._register = register

    def current(self) -> Version:
        """The newest version. Raises NotPublished."""
        with self._database.reading() as session:
            row = _newest(session)
        if row is None:
            raise errors.NotPublished("the trust list was not published yet: run tamga trust publish")
        return _version(row)

    def versions(self, *, limit: int = 100) -> tuple[Version, ...]:
        """Versions, newest first."""
        query = select(TrustListVersionRow).order_by(TrustListVersionRow.number.desc()).limit(limit)
        with self._database.reading() as session:
            return tuple(_version(row) for row in session.scalars(query))

    def accepted(self, chain: Sequence[bytes], purpose: str, *, at: datetime | None = None) -> Acceptance:
        """Judge a certificate (DER, first of ``chain``; its issuers may follow) by the newest version.

        Raises IssuerNotAccepted, CertificateExpired, SignatureInvalid, PathRefused, CertificateUnreadable,
        PurposeUnknown, NotPublished.
        """
        return accepted(self.current().listed, chain, purpose, at or self._clock())

    def foreign(self, *purposes: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Foreign authorities accepted for one of ``purposes``, DER: where paths may end, and those below these.

        Empty before the first version. A path ends at the highest authority accepted, so that all below it is judged.
        """
        accepted = [e.certificate for e in self._foreign() if e.accepted and set(purposes) & set(e.purposes)]
        tops = tops_of(accepted)
        return tops, tuple(der for der in accepted if der not in tops)

    def rejected(self) -> tuple[bytes, ...]:
        """Foreign authorities that are expressly not accepted, DER."""
        return tuple(e.certificate for e in self._foreign() if not e.accepted)

    def publish(self, *, actor: str) -> Version:
        """A new version if our own authorities, their standing or the signing key changed; else the newest one."""
        try:
            return self._change("our own authorities", actor, lambda entries: entries, even_if_same=False)
        except errors.VersionConflict:
            return self.current()  # another process did the same

    def add(self, chain: Sequence[bytes], *, purposes: Sequence[str], reason: str, actor: str) -> Version:
        """Accept a foreign chain (DER). Each certificate becomes an entry; one that is listed already is replaced.

        Raises ImportRefused, CertificateUnreadable, PurposeUnknown, ReasonMissing, EntryOurs.
        """
        check_chain(tuple(chain), self._clock())
        _check_words(purposes, reason)
        new = [Entry(der, True, tuple(sorted(set(purposes))), self._now(), reason) for der in chain]
        return self._replace(new, f"accepted {new[0].subject}", actor)

    def reject(self, certificate: bytes | str, *, reason: str, actor: str) -> Version:
        """List an authority as not accepted, so that its refusal can say why. A fingerprint names one that is listed.

        Raises EntryNotFound, EntryOurs, ImportRefused, ReasonMissing.
        """
        _check_words((), reason, purposes_needed=False)
        if isinstance(certificate, str):
            known = self._known(certificate)
            der, purposes = known.certificate, known.purposes
        else:
            check_chain((certificate,), self._clock())
            der, purposes = certificate, ()
        new = Entry(der, False, purposes, self._now(), reason)
        return self._replace([new], f"rejected {new.subject}", actor)

    def remove(self, fingerprint: str, *, reason: str, actor: str) -> Version:
        """Take a foreign authority off the list. Raises EntryNotFound, EntryOurs, ReasonMissing."""
        _check_words((), reason, purposes_needed=False)
        gone = self._known(fingerprint)
        _check_foreign(gone)
        change = f"removed {gone.subject}: {reason}"
        return self._change(change, actor, lambda entries: [e for e in entries if e.sha256 != gone.sha256])

    def _known(self, fingerprint: str) -> Entry:
        found = self.current().listed.entry(fingerprint)
        if found is None:
            raise errors.EntryNotFound("no single authority of the list has a fingerprint that begins so")
        return found

    def _foreign(self) -> list[Entry]:
        with self._database.reading() as session:
            row = _newest(session)
        return [entry for entry in parsed(row.payload).entries if not entry.ours] if row is not None else []

    def _replace(self, new: Sequence[Entry], change: str, actor: str) -> Version:
        replaced = {entry.sha256 for entry in new}

        def edit(entries: list[Entry]) -> list[Entry]:
            for entry in entries:
                if entry.sha256 in replaced:
                    _check_foreign(entry)
            return [*(entry for entry in entries if entry.sha256 not in replaced), *new]

        return self._change(change, actor, edit)

    def _change(
        self, change: str, actor: str, edit: Callable[[list[Entry]], list[Entry]], *, even_if_same: bool = True
    ) -> Version:
        """Make the next version. It is signed before the transaction, whose key is the number: one writer wins."""
        with self._database.reading() as session:
            newest = _newest(session)
        before = parsed(newest.payload) if newest is not None else None
        entries = ordered(edit(self._with_ours(before.entries if before else ())))
        jwk = token_jwk(self._keystore.key(self._settings.trust_list_key), kid="", alg="ES256")
        same = newest is not None and before is not None and before.entries == entries
        if newest is not None and same and not even_if_same and _kid(newest.jws) == jwk.thumbprint():
            return _version(newest)
        listed = TrustList(
            issuer=self._settings.oidc_issuer,
            number=before.number + 1 if before else 1,
            made_at=self._now(),
            previous=newest.sha256 if newest is not None else None,
            entries=entries,
        )
        return self._record(listed, self._signed(listed.payload()), change, actor)

    def _with_ours(self, before: Sequence[Entry]) -> list[Entry]:
        """The foreign entries as they were, and our own as they are now. What did not change keeps its date."""
        known = {entry.sha256: entry for entry in before if entry.ours}
        ours = []
        for entry in self._ours():
            old = known.get(entry.sha256)
            same = old is not None and dataclasses.replace(old, since=entry.since) == entry
            ours.append(old if old is not None and same else entry)
        return [*ours, *(entry for entry in before if not entry.ours)]

    def _ours(self) -> list[Entry]:
        authorities = self._hierarchy.authorities()
        return [self._our_entry(authority, authorities) for authority in authorities]

    def _our_entry(self, authority: Authority, authorities: Sequence[Authority]) -> Entry:
        status = self._register.status(authority.issuer, authority.certificate.serial_number)
        stands = status is not None and status.state is State.GOOD
        below = [authority, *(a for a in authorities if authority in self._hierarchy.chain(a.slug))]
        purposes = {purpose for each in below for purpose in _OUR_PURPOSES.get(each.purpose, ())}
        return Entry(
            certificate=authority.der,
            accepted=stands,
            purposes=tuple(sorted(purposes)),
            since=(status.since if status is not None else self._now()).replace(microsecond=0),
            reason="an authority of this service" if stands else "revoked",
            ours=True,
        )

    def _signed(self, payload: str) -> str:
        from joserfc import jws

        key = self._keystore.key(self._settings.trust_list_key)
        jwk = token_jwk(key, kid="", alg="ES256")
        header = {"alg": "ES256", "typ": JWS_TYPE, "kid": jwk.thumbprint()}  # RFC 7638, as at jwks_uri
        return jws.serialize_compact(header, payload, jwk, algorithms=["ES256"])

    def _record(self, listed: TrustList, jws: str, change: str, actor: str) -> Version:
        payload = listed.payload()
        row = TrustListVersionRow(
            number=listed.number, made_at=listed.made_at, made_by=actor, change=change[:200], payload=payload,
            sha256=digest(payload), jws=jws,
        )  # fmt: skip
        with self._database.transaction() as session:
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise errors.VersionConflict("somebody else changed the list meanwhile") from error
            facts: dict[str, Fact] = {
                "number": row.number,
                "sha256": row.sha256,
                "previous": listed.previous,
                "change": row.change,
            }
            self._audit.append(
                session, events.VERSION_MADE, actor=actor, subject=f"trust-list:{row.number}", facts=facts
            )
        return _version(row)

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)


def _check_words(purposes: Sequence[str], reason: str, *, purposes_needed: bool = True) -> None:
    if not reason.strip() or len(reason) > MAX_REASON_CHARACTERS:
        raise errors.ReasonMissing(f"say why, in at most {MAX_REASON_CHARACTERS} characters")
    if (purposes_needed and not purposes) or not set(purposes) <= set(PURPOSES):
        raise errors.PurposeUnknown(f"purposes are {', '.join(PURPOSES)}")


def _check_foreign(entry: Entry) -> None:
    if entry.ours:
        raise errors.EntryOurs(f"{entry.subject} is our own")


def _newest(session: Session) -> TrustListVersionRow | None:
    return session.scalar(select(TrustListVersionRow).order_by(TrustListVersionRow.number.desc()).limit(1))


def _version(row: TrustListVersionRow) -> Version:
    return Version(parsed(row.payload), row.made_by, row.change, row.sha256, row.jws)


def _kid(jws: str) -> str | None:
    from joserfc.jws import extract_compact

    kid = extract_compact(jws.encode()).headers().get("kid")
    return kid if isinstance(kid, str) else None
