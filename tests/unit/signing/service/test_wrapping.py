"""The wrapping key's generations: rotated while keys are used, and destroyed only when they hold nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select, update

from core.audit import export, verify
from hsm.errors import WrappedKeyRefused
from hsm.keystore import Keystore
from hsm.wrapped import WrappedKeys
from signing import wrapping
from signing.errors import WrappingKeyInUse, WrappingKeyUnknown
from signing.settings import SigningSettings
from signing.tables import CredentialRow

BOLD = "5b0c8a8e-0000-4000-8000-000000000001"
SARAA = "5b0c8a8e-0000-4000-8000-000000000002"
PIN = "738264"
OFFICER = "officer:test"


@pytest.fixture
def stem() -> str:
    """The tests share a token, so each counts its own generations."""
    return f"wrapping-{secrets.token_hex(4)}"


@pytest.fixture
def parts(make_parts: Callable[..., Any], keystore: Keystore, stem: str) -> Any:
    WrappedKeys(keystore, f"{stem}-1").prepare()
    return make_parts(settings=SigningSettings(wrapping_key=f"{stem}-1"))


def _signs(parts: Any, credential: Any) -> bool:
    with parts.credentials.opened_key(credential) as key:
        signature = key.sign(b"to be signed", ec.ECDSA(hashes.SHA256()))
        key.public_key().verify(signature, b"to be signed", ec.ECDSA(hashes.SHA256()))
    return True


def _labels(database: Any) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(CredentialRow.wrapping_key)))


def test_rotation_moves_every_key_and_all_of_them_still_sign(parts: Any, database: Any, stem: str) -> None:
    credentials = [parts.credentials.create(person, PIN, PIN) for person in (BOLD, SARAA)]
    assert parts.wrapping_keys.rotate(actor=OFFICER) == 2
    assert _labels(database) == {f"{stem}-2"}
    assert all(_signs(parts, credential) for credential in credentials)
    old, new = parts.wrapping_keys.generations()
    assert (old.label, old.current, old.credentials) == (f"{stem}-1", False, 0)
    assert (new.label, new.current, new.credentials) == (f"{stem}-2", True, 2)


def test_new_keys_go_under_the_current_generation(parts: Any, database: Any, stem: str) -> None:
    parts.wrapping_keys.rotate(actor=OFFICER)
    parts.wrapping_keys.rotate(actor=OFFICER)
    credential = parts.credentials.create(BOLD, PIN, PIN)
    assert _labels(database) == {f"{stem}-3"}
    assert _signs(parts, credential)


def test_a_rotation_that_was_broken_off_is_gone_on_with(
    parts: Any, database: Any, monkeypatch: pytest.MonkeyPatch, stem: str
) -> None:
    for person in (BOLD, SARAA):
        parts.credentials.create(person, PIN, PIN)
    monkeypatch.setattr(wrapping, "BATCH", 1)
    move = parts.wrapping_keys._move
    calls = iter([True])

    def once(batch: Any, actor: str) -> int:
        if next(calls, None):
            return int(move(batch, actor))
        raise KeyboardInterrupt

    monkeypatch.setattr(parts.wrapping_keys, "_move", once)
    with pytest.raises(KeyboardInterrupt):
        parts.wrapping_keys.rotate(actor=OFFICER)
    assert _labels(database) == {f"{stem}-1", f"{stem}-2"}
    monkeypatch.setattr(parts.wrapping_keys, "_move", move)
    assert parts.wrapping_keys.rotate(actor=OFFICER) == 1
    assert _labels(database) == {f"{stem}-2"}, "no third generation was begun"


def test_a_row_that_was_swapped_stops_the_rotation(parts: Any, database: Any, stem: str) -> None:
    first, second = (parts.credentials.create(person, PIN, PIN) for person in (BOLD, SARAA))
    with database.transaction() as session:
        other = session.get_one(CredentialRow, second.id)
        row = session.get_one(CredentialRow, first.id)
        row.wrapped_key, row.wrapped_key_mac, row.public_key = (
            other.wrapped_key,
            other.wrapped_key_mac,
            other.public_key,
        )
    with pytest.raises(WrappedKeyRefused):
        parts.wrapping_keys.rotate(actor=OFFICER)


def test_a_key_does_not_open_beside_another_certificate(parts: Any, database: Any, stem: str) -> None:
    first, second = (parts.credentials.create(person, PIN, PIN) for person in (BOLD, SARAA))
    with database.transaction() as session:
        session.execute(
            update(CredentialRow).where(CredentialRow.id == first.id).values(certificate=second.certificate)
        )
    with pytest.raises(WrappedKeyRefused), parts.credentials.opened_key(first):
        pass


def test_a_key_does_not_open_when_its_binding_to_the_certificate_is_denied(
    parts: Any, database: Any, stem: str
) -> None:
    credential = parts.credentials.create(BOLD, PIN, PIN)
    with database.transaction() as session:
        session.execute(update(CredentialRow).values(certificate_bound=False))
    with pytest.raises(WrappedKeyRefused), parts.credentials.opened_key(credential):
        pass


def test_only_an_empty_old_generation_is_destroyed(parts: Any, keystore: Any, clock: Any, stem: str) -> None:
    credential = parts.credentials.create(BOLD, PIN, PIN)
    with pytest.raises(WrappingKeyInUse):
        parts.wrapping_keys.destroy(f"{stem}-1", actor=OFFICER)
    parts.wrapping_keys.rotate(actor=OFFICER)
    with pytest.raises(WrappingKeyInUse, match="less than"):
        parts.wrapping_keys.destroy(f"{stem}-1", actor=OFFICER)
    clock.move(hours=2)
    parts.wrapping_keys.destroy(f"{stem}-1", actor=OFFICER)
    assert not keystore.has(f"{stem}-1")
    assert [one.label for one in parts.wrapping_keys.generations()] == [f"{stem}-2"]
    assert _signs(parts, credential)
    with pytest.raises(WrappingKeyUnknown):
        parts.wrapping_keys.destroy(f"{stem}-1", actor=OFFICER)


def test_the_log_tells_of_each_step(parts: Any, database: Any, clock: Any, stem: str) -> None:
    parts.credentials.create(BOLD, PIN, PIN)
    parts.wrapping_keys.rotate(actor=OFFICER)
    clock.move(hours=2)
    parts.wrapping_keys.destroy(f"{stem}-1", actor=OFFICER)
    with database.reading() as session:
        entries = list(export(session))
    verify(entries)
    told = [entry["event"] for entry in entries if "wrap" in entry["event"]]
    assert told == [
        "signing:wrapping_key:begun",
        "signing:wrapped_keys:moved",
        "signing:wrapping_key:emptied",
        "signing:wrapping_key:destroyed",
    ]


def test_the_first_generation_has_a_number() -> None:
    with pytest.raises(ValueError, match="generation"):
        SigningSettings(wrapping_key="wrapping")
