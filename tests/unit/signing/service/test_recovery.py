"""What a crash leaves is settled: nothing stuck, nothing signed twice, no permission that comes back."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from core.audit import export, verify
from signing.errors import ActivationSpent, StateConflict
from signing.tables import ActivationRow, CredentialRow, IntentRow

PIN = "738264"


class Killed(BaseException):
    """The process dies here; nothing after it runs."""


@pytest.fixture
def reviewed(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> Any:
    browser = site.citizen()
    browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    made = bank.request(pdf)
    walk(browser, link(made))
    return site.parts.sign_requests.get(made["id"])


def die(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture(params=["opened_key", "finish", "check_result", "close_intent"])
def interrupted(request: pytest.FixtureRequest, reviewed: Any, site: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A request whose signing process died before, with or after its key, or while the file was being kept."""
    places = {
        "opened_key": (site.parts.credentials, "opened_key"),
        "finish": (site.parts.pdf, "finish"),
        "check_result": (site.parts.pdf, "check_result"),
        "close_intent": (site.parts.sign_requests, "update_signer"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*places[request.param], die)
        with pytest.raises(Killed):
            site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN)
    return site.parts.sign_requests.get(reviewed.id)


def test_an_interrupted_signature_is_failed_after_the_restart(
    interrupted: Any, site: Any, bank: Any, database: Any
) -> None:
    assert interrupted.state == "approved"
    assert site.parts.recovery.settle(alone=True).intents == 1
    shown = bank.show(interrupted.id)
    assert (shown["state"], shown["code"]) == ("failed", "SIGNING_INTERRUPTED")
    with database.reading() as session:
        assert [row.outcome for row in session.scalars(select(IntentRow))] == ["not_signed"]
        assert all(row.taken_at is not None for row in session.scalars(select(ActivationRow)))
        verify(export(session))
    assert site.parts.recovery.settle(alone=True).intents == 0
    with pytest.raises((StateConflict, ActivationSpent)):
        site.parts.approval.approve(interrupted, sdr=interrupted.signer.sdr, pin=PIN)


def test_an_interrupted_signature_settles_when_somebody_looks(
    interrupted: Any, site: Any, bank: Any, clock: Any, link: Any
) -> None:
    assert bank.show(interrupted.id)["state"] == "approved"
    clock.move(seconds=120)
    assert bank.show(interrupted.id)["state"] == "failed"


def test_another_process_at_work_is_left_alone(interrupted: Any, site: Any, clock: Any) -> None:
    assert site.parts.recovery.settle().intents == 0
    clock.move(seconds=120)
    assert site.parts.recovery.settle().intents == 1


def test_a_signature_that_took_too_long_does_not_leave(
    reviewed: Any, site: Any, bank: Any, clock: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = site.parts.pdf.check_result

    def slow(*args: Any, **kwargs: Any) -> None:
        check(*args, **kwargs)
        clock.move(seconds=121)
        site.parts.recovery.settle()

    monkeypatch.setattr(site.parts.pdf, "check_result", slow)
    with pytest.raises(StateConflict):
        site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN)
    assert bank.show(reviewed.id)["state"] == "failed"
    assert bank.call("GET", f"/api/v1/sign-requests/{reviewed.id}/document").status_code == 409


def test_a_credential_whose_certificate_was_issued_is_completed(
    parts: Any, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = "5b0c8a8e-0000-4000-8000-000000000001"
    with monkeypatch.context() as patch:
        patch.setattr(parts.credentials, "_activate", die)
        with pytest.raises(Killed):
            parts.credentials.create(person, PIN, PIN)
    assert parts.credentials.of_person(person) == ()
    assert parts.recovery.settle(alone=True).credentials == 1
    (credential,) = parts.credentials.of_person(person)
    assert credential.certificate == authority.issued[0].public_bytes(Encoding.DER)
    with parts.credentials.opened_key(credential) as key:
        assert key.public_key() == authority.issued[0].public_key()


def test_a_half_made_credential_is_abandoned(
    parts: Any, authority: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = "5b0c8a8e-0000-4000-8000-000000000001"
    with monkeypatch.context() as patch:
        patch.setattr(authority, "issue", die)
        with pytest.raises(Killed):
            parts.credentials.create(person, PIN, PIN)
    assert parts.recovery.settle().credentials == 0
    assert parts.recovery.settle(alone=True).credentials == 1
    with database.reading() as session:
        row = session.scalars(select(CredentialRow)).one()
        assert (row.state, row.wrapped_key) == ("abandoned", b"")
    assert parts.credentials.create(person, PIN, PIN).person_id == person
