"""Citizens' signing credentials: a key that only the token can open, its certificate, and the PIN in front of it."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from core.passwords import Passwords
from hsm.keystore import KeyAlgorithm
from hsm.wrapped import WrappedKey, WrappedKeys
from signing import events
from signing.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateRevoked,
    CertificateSuspended,
    CertificateUnknown,
    CredentialExists,
    CredentialMissing,
    PinInvalid,
    PinLocked,
    SigningError,
)
from signing.pins import check_new_pin
from signing.ports import CertificateStanding, IssuedCertificate, SignerCertificates
from signing.settings import SigningSettings
from signing.tables import CredentialRow

log = get_logger("signing.credentials")

PENDING, ACTIVE, ABANDONED = "pending", "active", "abandoned"
LONGEST_LOCK = timedelta(hours=24)
REFUSALS: dict[CertificateStanding, type[CertificateRefused]] = {
    CertificateStanding.REVOKED: CertificateRevoked,
    CertificateStanding.SUSPENDED: CertificateSuspended,
    CertificateStanding.EXPIRED: CertificateExpired,
    CertificateStanding.UNKNOWN: CertificateUnknown,
}


@dataclass(frozen=True)
class Credential:
    """A credential as its owner may see it, and as a signature needs it. The key itself stays in its row."""

    id: str
    person_id: str
    certificate: bytes  # DER
    certificate_serial: str
    chain: tuple[bytes, ...]  # DER, issuer first, anchor last
    not_after: datetime
    created_at: datetime
    locked_until: datetime | None


class Credentials:
    """Makes credentials, says which may sign, checks their PINs and opens their keys for one use."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        wrapped_keys: WrappedKeys,
        wrapped_keys_now: Callable[[], WrappedKeys],
        passwords: Passwords,
        certificates: SignerCertificates,
        settings: SigningSettings,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._wrapped_keys = wrapped_keys
        self._wrapped_keys_now = wrapped_keys_now
        self._passwords = passwords
        self._certificates = certificates
        self._settings = settings

    # Making ------------------------------------------------------------------------------------------------------

    def create(self, person_id: str, pin: str, pin_repeated: str) -> Credential:
        """Make a key in the token, prove its possession to the authority, keep it with its certificate.

        Raises PinWeak, PinMismatch, CredentialExists, and whatever the authority refuses with.
        """
        check_new_pin(pin, pin_repeated)
        self._refuse_second(person_id)
        # 1. The key is born inside the token and leaves it wrapped only.
        credential_id = str(uuid.uuid4())
        wrapped = self._wrapped_keys_now().generate(KeyAlgorithm.P256, key_context(credential_id, person_id))
        # 2. On record before the authority is asked, so that a crash leaves a row to settle.
        self._enter(credential_id, person_id, wrapped, self._passwords.hash(pin))
        # 3. The authority issues for the key that signed this request (RFC 2986 4.2).
        try:
            csr = self._proof_of_possession(wrapped, credential_id, person_id)
            issued = self._certificates.issue(person_id=person_id, csr=csr, credential_id=credential_id)
            _check_issued(issued, wrapped)
        except CodedError as error:
            self.abandon(credential_id, code=error.code)
            raise
        except Exception:
            self.abandon(credential_id, code="internal_error")
            raise
        # 4. Usable from here on.
        self._activate(credential_id, person_id, issued)
        return self.get(credential_id)

    def _refuse_second(self, person_id: str) -> None:
        for credential in self.of_person(person_id):
            if self.standing(credential) in {CertificateStanding.GOOD, CertificateStanding.SUSPENDED}:
                raise CredentialExists("the person has a credential whose certificate stands or may be restored")

    def _enter(self, credential_id: str, person_id: str, wrapped: WrappedKey, pin_hash: str) -> None:
        row = CredentialRow(
            id=credential_id,
            person_id=person_id,
            state=PENDING,
            wrapped_key=wrapped.blob,
            wrapped_key_mac=wrapped.mac,
            wrapping_key=wrapped.wrapping_key,
            algorithm=str(wrapped.algorithm),
            public_key=wrapped.public_key,
            pin_hash=pin_hash,
            failed_attempts=0,
            lock_level=0,
            created_at=self._clock(),
        )
        with self._database.transaction() as session:
            if self._being_made(session, person_id):
                raise CredentialExists("a credential of this person is being made")
            session.add(row)
            session.flush()
            self._audit.append(session, events.CREDENTIAL_REQUESTED, actor=person_id, subject=credential_id)

    def _being_made(self, session: Session, person_id: str) -> bool:
        begun = self._clock() - timedelta(seconds=self._settings.signing_time_limit)
        return bool(
            session.scalar(
                select(CredentialRow.id)
                .where(
                    CredentialRow.person_id == person_id,
                    CredentialRow.state == PENDING,
                    CredentialRow.created_at > begun,
                )
                .limit(1)
            )
        )

    def _proof_of_possession(self, wrapped: WrappedKey, credential_id: str, person_id: str) -> bytes:
        # The subject stays empty: who the certificate names is the authority's to say, from its own evidence.
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        with self._wrapped_keys.opened(wrapped, key_context(credential_id, person_id)) as key:
            return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def _activate(self, credential_id: str, person_id: str, issued: IssuedCertificate) -> None:
        """Complete a credential and bind its key to the certificate; one that is complete already stays as it is."""
        while (bound := self._bound(credential_id, issued)) is not None:
            before, mac = bound
            if self._completed(credential_id, person_id, issued, before, mac):
                return

    def _bound(self, credential_id: str, issued: IssuedCertificate) -> tuple[bytes, bytes] | None:
        """The binding of a pending credential's key as it is and as it shall be; None when nothing is pending."""
        with self._database.reading() as session:
            row = session.get_one(CredentialRow, credential_id)
        if row.state != PENDING:
            return None
        wrapped, context = stored_key(row)
        rebound = self._wrapped_keys.rebound(wrapped, context, key_context(row.id, row.person_id, issued.certificate))
        return wrapped.mac, rebound.mac

    def _completed(
        self, credential_id: str, person_id: str, issued: IssuedCertificate, before: bytes, mac: bytes
    ) -> bool:
        """Whether the row was still what its binding was made for."""
        with self._database.transaction() as session:
            completed = _execute(
                session,
                update(CredentialRow)
                .where(
                    CredentialRow.id == credential_id,
                    CredentialRow.state == PENDING,
                    CredentialRow.wrapped_key_mac == before,  # a rotation may have wrapped it anew meanwhile
                )
                .values(
                    state=ACTIVE,
                    wrapped_key_mac=mac,
                    certificate_bound=True,
                    certificate=issued.certificate,
                    certificate_serial=issued.serial_number,
                    chain=[base64.b64encode(der).decode() for der in issued.chain],
                    not_after=issued.not_after,
                ),
            )
            if not completed:
                return False
            self._audit.append(
                session,
                events.CREDENTIAL_CREATED,
                actor=person_id,
                subject=credential_id,
                facts={"certificate_serial": issued.serial_number},
            )
        return True

    def abandon(self, credential_id: str, *, code: str) -> None:
        """A credential that never got its certificate: its key can never be used."""
        with self._database.transaction() as session:
            changed = _execute(
                session,
                update(CredentialRow)
                .where(CredentialRow.id == credential_id, CredentialRow.state == PENDING)
                .values(state=ABANDONED, wrapped_key=b"", wrapped_key_mac=b""),
            )
            if changed:
                self._audit.append(
                    session, events.CREDENTIAL_ABANDONED, actor="signing", subject=credential_id, facts={"code": code}
                )

    def settle_interrupted(self, older_than: timedelta) -> int:
        """Settle credentials whose making was interrupted by a crash; returns how many.

        Where the authority had issued already, the credential is completed: its owner chose a PIN and has a
        certificate. Otherwise it is abandoned.
        """
        with self._database.reading() as session:
            left = session.scalars(
                select(CredentialRow).where(
                    CredentialRow.state == PENDING, CredentialRow.created_at <= self._clock() - older_than
                )
            ).all()
        for row in left:
            issued = self._certificates.issued_for(person_id=row.person_id, credential_id=row.id)
            if issued is None:
                self.abandon(row.id, code="INTERRUPTED")
            else:
                self._activate(row.id, row.person_id, issued)
        return len(left)

    # Finding -----------------------------------------------------------------------------------------------------

    def of_person(self, person_id: str) -> tuple[Credential, ...]:
        """A person's credentials that have a certificate, newest first."""
        with self._database.reading() as session:
            rows = session.scalars(
                select(CredentialRow)
                .where(CredentialRow.person_id == person_id, CredentialRow.state == ACTIVE)
                .order_by(CredentialRow.created_at.desc())
            ).all()
        return tuple(_credential(row) for row in rows)

    def get(self, credential_id: str) -> Credential:
        """One credential. Raises CredentialMissing."""
        with self._database.reading() as session:
            row = session.get(CredentialRow, credential_id)
        if row is None or row.state != ACTIVE:
            raise CredentialMissing("no such credential")
        return _credential(row)

    def standing(self, credential: Credential) -> CertificateStanding:
        """How the certificate stands just now; one past its notAfter has expired whatever the register says."""
        if self._clock() > credential.not_after:  # RFC 5280 4.1.2.5: notAfter is inclusive
            return CertificateStanding.EXPIRED
        return self._certificates.standing(credential.certificate)

    def usable(self, person_id: str) -> Credential:
        """The credential the person signs with: the newest whose certificate stands.

        Raises CredentialMissing when there is none at all, else the refusal of the newest.
        """
        credentials = self.of_person(person_id)
        if not credentials:
            raise CredentialMissing("the person has no signing credential")
        standings = {credential.id: self.standing(credential) for credential in credentials}
        for credential in credentials:
            if standings[credential.id] is CertificateStanding.GOOD:
                return credential
        raise REFUSALS[standings[credentials[0].id]]("the signer's certificate may not be used")

    def check_standing(self, credential: Credential) -> None:
        """Raise the coded refusal unless the certificate may be signed with at this moment (S21)."""
        standing = self.standing(credential)
        if standing is not CertificateStanding.GOOD:
            raise REFUSALS[standing]("the signer's certificate may not be used")

    # The PIN -----------------------------------------------------------------------------------------------------

    def check_pin(self, credential_id: str, person_id: str, pin: str) -> None:
        """Raise PinInvalid or PinLocked unless ``pin`` is the credential's.

        The attempt is counted before it is judged, so parallel guesses cannot outrun the lock; a right PIN clears
        the count. An unknown credential, and one of somebody else, cost the same time and give the same words.
        """
        pin_hash = self._count_attempt(credential_id, person_id)
        if pin_hash is None:
            self._passwords.spend(pin)
            raise PinInvalid("the PIN is not right")
        if not self._passwords.verify(pin_hash, pin):
            self._record_refusal(credential_id, person_id)
        self._clear_attempts(credential_id, person_id)

    def _count_attempt(self, credential_id: str, person_id: str) -> str | None:
        now = self._clock()
        with self._database.transaction() as session:
            row = session.scalars(
                select(CredentialRow)
                .where(
                    CredentialRow.id == credential_id,
                    CredentialRow.person_id == person_id,
                    CredentialRow.state == ACTIVE,
                )
                .with_for_update()
            ).first()
            if row is None:
                return None
            if row.locked_until is not None and now < row.locked_until:
                raise _locked(row.locked_until)
            row.failed_attempts += 1
            if row.failed_attempts >= self._settings.pin_attempts:
                row.locked_until = now + self._lock_length(row.lock_level)
                row.lock_level += 1
                row.failed_attempts = 0
            return row.pin_hash

    def _lock_length(self, level: int) -> timedelta:
        doubled = timedelta(seconds=self._settings.pin_lock) * (1 << min(level, 16))
        return min(doubled, LONGEST_LOCK)

    def _record_refusal(self, credential_id: str, person_id: str) -> None:
        with self._database.transaction() as session:
            row = session.get_one(CredentialRow, credential_id)
            locked_until = row.locked_until if row.locked_until and self._clock() < row.locked_until else None
            event = events.PIN_LOCKED if locked_until else events.PIN_REFUSED
            self._audit.append(session, event, actor=person_id, subject=credential_id, facts={"locks": row.lock_level})
        if locked_until:
            raise _locked(locked_until)
        raise PinInvalid("the PIN is not right")

    def _clear_attempts(self, credential_id: str, person_id: str) -> None:
        with self._database.transaction() as session:
            session.execute(
                update(CredentialRow)
                .where(CredentialRow.id == credential_id)
                .values(failed_attempts=0, lock_level=0, locked_until=None)
            )
            self._audit.append(session, events.PIN_ACCEPTED, actor=person_id, subject=credential_id)

    # The key -----------------------------------------------------------------------------------------------------

    @contextmanager
    def opened_key(self, credential: Credential) -> Iterator[ec.EllipticCurvePrivateKey]:
        """The credential's key inside the token for the length of the block; destroyed there afterwards."""
        with self._database.reading() as session:
            row = session.get_one(CredentialRow, credential.id)
        wrapped, context = stored_key(row)
        with self._wrapped_keys.opened(wrapped, context) as key:
            yield cast("ec.EllipticCurvePrivateKey", key)


def key_context(credential_id: str, person_id: str, certificate: bytes | None = None) -> bytes:
    """What a wrapped key is bound to: moved to another credential, person or certificate (DER), it does not open."""
    owner = f"tamga signing credential\0{credential_id}\0{person_id}"
    if certificate is None:
        return owner.encode()
    return f"{owner}\0{hashlib.sha256(certificate).hexdigest()}".encode()


def stored_key(row: CredentialRow) -> tuple[WrappedKey, bytes]:
    """A credential's wrapped key as its row holds it, and what it is bound to.

    Until the certificate exists a key is bound to its owner alone; the certificate joins when the credential is made.
    """
    wrapped = WrappedKey(
        blob=row.wrapped_key,
        mac=row.wrapped_key_mac,
        public_key=row.public_key,
        wrapping_key=row.wrapping_key,
        algorithm=KeyAlgorithm(row.algorithm),
    )
    return wrapped, key_context(row.id, row.person_id, row.certificate if row.certificate_bound else None)


def _locked(until: datetime) -> PinLocked:
    return PinLocked("the credential is locked", locked_until=until.isoformat(timespec="seconds"))


def _check_issued(issued: IssuedCertificate, wrapped: WrappedKey) -> None:
    certificate = x509.load_der_x509_certificate(issued.certificate)
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if spki != wrapped.public_key:
        raise SigningError("the authority certified another key than was asked for")


def _credential(row: CredentialRow) -> Credential:
    return Credential(
        id=row.id,
        person_id=row.person_id,
        certificate=cast("bytes", row.certificate),
        certificate_serial=cast("str", row.certificate_serial),
        chain=tuple(base64.b64decode(der) for der in row.chain or ()),
        not_after=cast("datetime", row.not_after),
        created_at=row.created_at,
        locked_until=row.locked_until,
    )


def _execute(session: Session, statement: Any) -> int:
    return cast("CursorResult[Any]", session.execute(statement)).rowcount
