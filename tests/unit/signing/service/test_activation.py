"""A permission signs once, for what it was given, however many hands reach for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from core.audit import export
from signing.activation import Activations, Binding
from signing.errors import ActivationSpent, CertificateRevoked, PinInvalid, PinLocked, SdrChanged, StateConflict
from signing.tables import ActivationRow, IntentRow

PIN = "738264"


@pytest.fixture
def reviewed(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> Any:
    """A request that waits for its PIN."""
    browser = site.citizen()
    browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    made = bank.request(pdf)
    walk(browser, link(made))
    found = site.parts.sign_requests.get(made["id"])
    assert found.state == "reviewed"
    return found


def together(work: Callable[[], object], times: int) -> list[object]:
    """Run ``work`` in as many threads at once; what each returned or raised."""
    results: list[object] = []
    start = threading.Barrier(times)

    def run() -> None:
        start.wait()
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_permission_is_taken_once_by_a_hundred_takers(reviewed: Any, database: Any, audit: Any, clock: Any) -> None:
    activations = Activations(audit, clock)
    binding = Binding(reviewed.id, reviewed.signer.sdr, reviewed.signer.credential_id)
    with database.transaction() as session:
        activation_id = activations.issue(session, binding)

    def take() -> str:
        with database.transaction() as session:
            activations.take(session, activation_id, binding, actor="test")
        return "taken"

    results = together(take, 100)
    assert results.count("taken") == 1
    assert sum(isinstance(result, ActivationSpent) for result in results) == 99


@pytest.mark.parametrize("changed", ["request_id", "sdr", "credential_id"])
def test_a_permission_is_for_one_thing_only(reviewed: Any, database: Any, audit: Any, clock: Any, changed: str) -> None:
    activations = Activations(audit, clock)
    bound = {
        "request_id": reviewed.id,
        "sdr": reviewed.signer.sdr,
        "credential_id": reviewed.signer.credential_id,
    }
    with database.transaction() as session:
        activation_id = activations.issue(session, Binding(**bound))
    with pytest.raises(ActivationSpent), database.transaction() as session:
        activations.take(session, activation_id, Binding(**bound | {changed: "another"}), actor="test")


def test_a_permission_expires(reviewed: Any, database: Any, audit: Any, clock: Any) -> None:
    activations = Activations(audit, clock)
    binding = Binding(reviewed.id, reviewed.signer.sdr, reviewed.signer.credential_id)
    with database.transaction() as session:
        activation_id = activations.issue(session, binding)
    clock.move(seconds=61)
    with pytest.raises(ActivationSpent), database.transaction() as session:
        activations.take(session, activation_id, binding, actor="test")


def test_many_confirmations_at_once_sign_once(reviewed: Any, site: Any, database: Any) -> None:
    approve = site.parts.approval.approve
    results = together(lambda: approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN).state, 12)
    assert results.count("signed") == 1
    assert all(result == "signed" or isinstance(result, StateConflict | PinLocked) for result in results), results
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(IntentRow)) == 1
        assert [row.outcome for row in session.scalars(select(IntentRow))] == ["signed"]


def test_the_intent_is_on_record_before_the_key_is_used(
    reviewed: Any, site: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, int]] = []
    opened = site.parts.credentials.opened_key

    def opened_key(credential: Any) -> Any:
        with database.reading() as session:
            intent = session.scalars(select(IntentRow)).one()
            taken = session.scalar(
                select(func.count()).select_from(ActivationRow).where(ActivationRow.taken_at.is_not(None))
            )
            seen.append((intent.outcome, intent.certificate_serial, taken or 0))
            events = [entry["event"] for entry in export(session)]
        assert "signing:request:approved" in events and "signing:activation:taken" in events
        return opened(credential)

    monkeypatch.setattr(site.parts.credentials, "opened_key", opened_key)
    site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN)
    assert seen == [("open", site.parts.credentials.get(reviewed.signer.credential_id).certificate_serial, 1)]


def test_another_digest_than_the_one_shown_is_refused(reviewed: Any, site: Any) -> None:
    with pytest.raises(SdrChanged):
        site.parts.approval.approve(reviewed, sdr="00" * 32, pin=PIN)


def test_a_wrong_pin_signs_nothing(reviewed: Any, site: Any, database: Any) -> None:
    with pytest.raises(PinInvalid):
        site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin="951735")
    with database.reading() as session:
        assert session.scalars(select(ActivationRow)).all() == []
    assert site.parts.sign_requests.get(reviewed.id).state == "reviewed"


def test_a_revoked_certificate_signs_nothing_and_spends_nothing(
    reviewed: Any, site: Any, bank: Any, authority: Any, database: Any
) -> None:
    authority.revoke_all()
    with pytest.raises(CertificateRevoked):
        site.parts.approval.approve(reviewed, sdr=reviewed.signer.sdr, pin=PIN)
    shown = bank.show(reviewed.id)
    assert (shown["state"], shown["signers"][0]["code"]) == ("reviewed", "CERTIFICATE_REVOKED")
    with database.reading() as session:
        assert session.scalars(select(ActivationRow)).all() == []
        told = json.dumps([entry for entry in export(session) if entry["event"] == "signing:signature:refused"])
    assert "CERTIFICATE_REVOKED" in told
