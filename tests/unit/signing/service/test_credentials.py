"""Citizens' credentials: born in the token, certified for a proven key, locked by wrong PINs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from core.audit import export, verify
from core.errors import Unavailable
from hsm.errors import WrappedKeyRefused
from signing.errors import (
    CertificateExpired,
    CertificateRevoked,
    CertificateSuspended,
    CertificateUnknown,
    CredentialExists,
    CredentialMissing,
    PinInvalid,
    PinLocked,
    PinMismatch,
    PinWeak,
    SigningError,
)
from signing.pins import check_new_pin
from signing.ports import CertificateStanding
from signing.tables import CredentialRow

BOLD = "5b0c8a8e-0000-4000-8000-000000000001"
SARAA = "5b0c8a8e-0000-4000-8000-000000000002"
PIN, WRONG = "738264", "951735"


@pytest.fixture
def credential(parts: Any) -> Any:
    return parts.credentials.create(BOLD, PIN, PIN)


def test_the_certificate_is_for_the_key_in_the_token(parts: Any, credential: Any) -> None:
    certificate = x509.load_der_x509_certificate(credential.certificate)
    with parts.credentials.opened_key(credential) as key:
        signature = key.sign(b"to be signed", ec.ECDSA(hashes.SHA256()))
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, b"to be signed", ec.ECDSA(hashes.SHA256()))
    assert parts.credentials.usable(BOLD) == credential


@pytest.mark.parametrize(
    "pin",
    ["", "12345", "1234567890123", "000000", "121212", "123123", "1231231", "123456", "987654", "890123", "270418",
     "850415", "19850415", "15041985", "73826a", "７３８２６４", "738264\n", " 738264"],
)  # fmt: skip
def test_a_pin_that_strangers_try_first_is_refused(pin: str) -> None:
    with pytest.raises(PinWeak):
        check_new_pin(pin, pin)


@pytest.mark.parametrize("pin", ["738264", "482915", "90817263", "110293847560"])
def test_an_ordinary_pin_is_taken(pin: str) -> None:
    check_new_pin(pin, pin)


def test_the_two_entries_must_be_the_same() -> None:
    with pytest.raises(PinMismatch):
        check_new_pin(PIN, "738265")


def test_a_second_credential_waits_until_the_first_is_over(parts: Any, credential: Any, authority: Any) -> None:
    with pytest.raises(CredentialExists):
        parts.credentials.create(BOLD, PIN, PIN)
    authority.revoke_all()
    assert parts.credentials.create(BOLD, PIN, PIN).id != credential.id


def test_a_credential_without_a_certificate_is_abandoned(parts: Any, authority: Any, database: Any) -> None:
    authority.silent = True
    with pytest.raises(Unavailable):
        parts.credentials.create(BOLD, PIN, PIN)
    with database.reading() as session:
        row = session.scalars(select(CredentialRow)).one()
    assert (row.state, row.wrapped_key) == ("abandoned", b"")
    assert parts.credentials.of_person(BOLD) == ()


def test_a_certificate_for_another_key_is_not_taken(
    parts: Any, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    made = authority._certificate
    monkeypatch.setattr(authority, "_certificate", lambda _key: made(other))
    with pytest.raises(SigningError):
        parts.credentials.create(BOLD, PIN, PIN)
    with pytest.raises(CredentialMissing):
        parts.credentials.usable(BOLD)


@pytest.mark.parametrize(
    ("standing", "error"),
    [
        (CertificateStanding.REVOKED, CertificateRevoked),
        (CertificateStanding.SUSPENDED, CertificateSuspended),
        (CertificateStanding.EXPIRED, CertificateExpired),
        (CertificateStanding.UNKNOWN, CertificateUnknown),
    ],
)
def test_a_certificate_that_does_not_stand_may_not_sign(
    parts: Any, credential: Any, authority: Any, standing: CertificateStanding, error: type[Exception]
) -> None:
    authority.revoke_all(standing)
    with pytest.raises(error):
        parts.credentials.usable(BOLD)
    with pytest.raises(error):
        parts.credentials.check_standing(credential)


def test_a_certificate_past_its_end_has_expired_whatever_the_register_says(
    parts: Any, credential: Any, clock: Any
) -> None:
    clock.now = credential.not_after
    parts.credentials.check_standing(credential)  # RFC 5280 4.1.2.5: inclusive
    clock.move(seconds=1)
    with pytest.raises(CertificateExpired):
        parts.credentials.check_standing(credential)


def test_five_wrong_pins_lock_and_locks_double(parts: Any, credential: Any, clock: Any) -> None:
    check = parts.credentials.check_pin
    for minutes in (15, 30, 60):
        for _ in range(4):
            with pytest.raises(PinInvalid):
                check(credential.id, BOLD, WRONG)
        with pytest.raises(PinLocked):
            check(credential.id, BOLD, WRONG)
        with pytest.raises(PinLocked):
            check(credential.id, BOLD, PIN)
        clock.move(minutes=minutes, seconds=-1)
        with pytest.raises(PinLocked):
            check(credential.id, BOLD, PIN)
        clock.move(seconds=1)
    check(credential.id, BOLD, PIN)


def test_a_lock_never_exceeds_a_day(parts: Any) -> None:
    assert parts.credentials._lock_length(30).total_seconds() == 24 * 3600


def test_a_right_pin_clears_the_count(parts: Any, credential: Any) -> None:
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(PinInvalid):
                parts.credentials.check_pin(credential.id, BOLD, WRONG)
        parts.credentials.check_pin(credential.id, BOLD, PIN)


def test_unknown_credential_wrong_owner_and_wrong_pin_sound_alike(parts: Any, credential: Any) -> None:
    said = []
    for credential_id, person, pin in (
        (credential.id, BOLD, WRONG),
        ("no-such-credential", BOLD, PIN),
        (credential.id, SARAA, PIN),
    ):
        with pytest.raises(PinInvalid) as caught:
            parts.credentials.check_pin(credential_id, person, pin)
        said.append((caught.value.code, caught.value.status, caught.value.detail, caught.value.facts))
    assert len({json.dumps(each) for each in said}) == 1


def test_a_key_moved_to_another_credential_does_not_open(parts: Any, credential: Any, database: Any) -> None:
    other = parts.credentials.create(SARAA, PIN, PIN)
    with database.transaction() as session:
        mine, theirs = (session.get_one(CredentialRow, each.id) for each in (credential, other))
        theirs.wrapped_key, theirs.wrapped_key_mac, theirs.public_key = (
            mine.wrapped_key,
            mine.wrapped_key_mac,
            mine.public_key,
        )
    with pytest.raises(WrappedKeyRefused), parts.credentials.opened_key(other):
        pass


def test_no_secret_reaches_the_audit_log(parts: Any, credential: Any, database: Any) -> None:
    with pytest.raises(PinInvalid):
        parts.credentials.check_pin(credential.id, BOLD, WRONG)
    with database.reading() as session:
        entries = list(export(session))
    assert verify(entries).entries == len(entries) >= 3
    told = json.dumps(entries)
    assert PIN not in told and WRONG not in told and "ЪА" not in told
    assert {"signing:credential:created", "signing:pin:refused"} <= {entry["event"] for entry in entries}


def test_a_key_is_stored_wrapped_only(parts: Any, credential: Any, database: Any, tmp_path: Any) -> None:
    with database.reading() as session:
        row = session.get_one(CredentialRow, credential.id)
    certificate = x509.load_der_x509_certificate(credential.certificate)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert row.public_key == spki and PIN not in row.pin_hash and row.pin_hash.startswith("$argon2id$")
    # A P-256 key in PKCS #8 carries its own object identifiers; a wrapped one shows none of them.
    assert bytes.fromhex("2a8648ce3d0201") not in row.wrapped_key and PIN not in repr(credential)
