"""Requests move along their states once, tell whom they must, and are forgotten in time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from sqlalchemy import select

from core.audit import export, verify
from core.outbox import OutboxEntry
from hsm.jwk import token_jwk
from signing.errors import RetentionEnded, StateConflict
from signing.sign_requests import CROCKFORD, LEAVES_TO, SignRequestState, new_verification_code
from signing.tables import DocumentRow

PIN = "738264"
S = SignRequestState
HOOK = "https://bank.example/hook"


@pytest.fixture
def browser(site: Any) -> Any:
    browser = site.citizen()
    browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    return browser


@pytest.fixture
def signed(site: Any, bank: Any, pdf: bytes, browser: Any, walk: Any, link: Any) -> Callable[..., dict[str, Any]]:
    def make(**fields: Any) -> dict[str, Any]:
        made = bank.request(pdf, **fields)
        done = browser.press(walk(browser, link(made)), "sign-confirm", pin=PIN)
        assert 'id="sign-done"' in done.text, done.text
        return dict(made)

    return make


def test_every_state_is_left_as_the_table_says(site: Any, bank: Any, pdf: bytes) -> None:
    requests = site.parts.sign_requests
    found = requests.get(bank.request(pdf)["id"])
    for target in S:
        if target not in LEAVES_TO[S.CREATED]:
            with pytest.raises(StateConflict):
                requests.change(found, target, actor="test")
    assert requests.get(found.id).state is S.CREATED
    assert not {S.REJECTED, S.EXPIRED, S.CANCELLED, S.FAILED, S.COLLECTED} & set(LEAVES_TO)


def test_of_two_movers_one_wins(site: Any, bank: Any, pdf: bytes) -> None:
    requests = site.parts.sign_requests
    found = requests.get(bank.request(pdf)["id"])
    results: list[str] = []

    def move(target: SignRequestState) -> None:
        try:
            results.append(requests.change(found, target, actor="test").state)
        except StateConflict:
            results.append("lost")

    threads = [threading.Thread(target=move, args=(each,)) for each in (S.OPENED, S.CANCELLED) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("lost") == 7
    assert requests.get(found.id).row.sequence == 2


def test_a_request_past_its_deadline_has_expired(bank: Any, pdf: bytes, site: Any, clock: Any, link: Any) -> None:
    made = bank.request(pdf, deadline=300, webhook=HOOK)
    clock.move(seconds=299)
    assert bank.show(made["id"])["state"] == "created"
    clock.move(seconds=1)
    assert bank.show(made["id"])["state"] == "expired"
    page = site.citizen().get(link(made))
    assert 'id="sign-state"' in page.text and "Too late" in page.text


def test_the_deadline_is_settled_without_anybody_looking(bank: Any, pdf: bytes, site: Any, clock: Any) -> None:
    ids = [bank.request(pdf)["id"] for _ in range(2)]
    clock.move(hours=1)
    assert site.parts.sign_requests.settle_expired() == 2
    assert {bank.show(each)["state"] for each in ids} == {"expired"}
    assert site.parts.sign_requests.settle_expired() == 0


def test_collecting_is_recorded_and_the_file_is_complete(bank: Any, pdf: bytes, signed: Any) -> None:
    made = signed()
    answer = bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document")
    assert answer.status_code == 200 and answer.content_type == "application/pdf"
    assert answer.data.startswith(pdf)
    shown = bank.show(made["id"])
    import base64
    import hashlib

    digest = hashlib.sha256(answer.data)
    assert shown["state"] == "collected" and shown["signed_sha256"] == digest.hexdigest()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document").data == answer.data


@pytest.mark.parametrize("level", ["B-T", "B-LT"])
def test_the_level_asked_for_is_the_level_told(bank: Any, signed: Any, level: str) -> None:
    assert bank.show(signed(level=level)["id"])["level"] == level


def test_a_signed_request_cannot_be_withdrawn(bank: Any, signed: Any) -> None:
    made = signed()
    answer = bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    assert answer.status_code == 409 and json.loads(answer.text)["state"] == "signed"


def test_documents_are_deleted_when_their_retention_ends(
    bank: Any, site: Any, clock: Any, database: Any, signed: Any
) -> None:
    requests = site.parts.sign_requests
    made = signed(retention=2)
    assert requests.delete_documents() == 0
    clock.move(days=2, seconds=-1)
    assert requests.delete_documents() == 0
    clock.move(seconds=1)
    assert requests.delete_documents() == 1
    answer = bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document")
    assert answer.status_code == 410 and json.loads(answer.text)["code"] == "RETENTION_ENDED"
    with database.reading() as session:
        assert session.scalars(select(DocumentRow)).all() == []
    with pytest.raises(RetentionEnded):
        requests.document(requests.get(made["id"]), "input")


def test_a_result_with_no_retention_goes_once_it_was_fetched(bank: Any, site: Any, clock: Any, signed: Any) -> None:
    made, forgotten = signed(retention=0), signed(retention=0)
    assert site.parts.sign_requests.delete_documents() == 0
    bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document")
    assert site.parts.sign_requests.delete_documents() == 1
    clock.move(days=1)
    assert site.parts.sign_requests.delete_documents() == 1
    assert bank.show(forgotten["id"])["state"] == "signed"


def test_what_was_not_signed_is_not_kept(bank: Any, site: Any, pdf: bytes) -> None:
    made = bank.request(pdf)
    bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    assert site.parts.sign_requests.delete_documents() == 1


def test_each_act_is_in_the_audit_log_and_no_content(database: Any, signed: Any) -> None:
    signed()
    with database.reading() as session:
        entries = list(export(session))
    verify(entries)
    told = [entry["event"].removeprefix("signing:") for entry in entries]
    order = [
        "credential:requested", "credential:created", "request:created", "request:opened", "request:reviewed",
        "pin:accepted", "activation:taken", "request:approved", "request:signed",
    ]  # fmt: skip
    assert [event for event in told if event in order] == order
    text = json.dumps(entries, ensure_ascii=False)
    assert "Зээлийн гэрээ" not in text and PIN not in text and "Болд" not in text and "••" not in text


def test_a_webhook_is_written_with_the_change_that_causes_it(
    bank: Any, pdf: bytes, site: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.parts.deliveries, "run_soon", lambda: None)
    made = bank.request(pdf, webhook=HOOK)
    bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    with database.reading() as session:
        entry = session.scalars(select(OutboxEntry)).one()
    body = json.loads(entry.body)
    assert (entry.kind, entry.destination) == ("webhook", HOOK)
    assert body["event"] == "sign_request.cancelled" and body["seq"] == 2 and body["id"] == made["id"]
    assert set(body) == {"jti", "aud", "event", "id", "state", "seq", "document_sha256"}


def test_a_webhook_is_signed_by_the_published_key_and_retried(
    bank: Any, pdf: bytes, site: Any, organisations: Any, receiver: Any, keystore: Any, clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(site.parts.deliveries, "run_soon", lambda: None)
    organisations.change("test-bank", webhooks=frozenset({receiver.url}))
    made = bank.request(pdf, webhook=receiver.url)
    bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    receiver.status = 302
    deliveries = site.parts.deliveries
    assert (deliveries.run().failed, deliveries.run().failed) == (1, 0)
    clock.move(seconds=10)
    receiver.status = 204
    assert deliveries.run().delivered == 1
    clock.move(days=2)
    assert deliveries.run().delivered == 0
    tokens = [body.decode() for content_type, body in receiver.received if content_type == "application/jwt"]
    key = token_jwk(keystore.key("token-signing-1"), kid="any", alg="ES256")
    decoded = [jwt.decode(token, key, algorithms=["ES256"]) for token in tokens]
    assert [each.header["typ"] for each in decoded] == ["sign-event+jwt"] * 2
    assert {each.header["kid"] for each in decoded} == {key.thumbprint()}
    first, second = (each.claims for each in decoded)
    assert first["jti"] == second["jti"] and second["iat"] == first["iat"] + 10
    assert second["exp"] == second["iat"] + 300
    assert (first["iss"], first["aud"]) == ("http://localhost:8080", "test-bank")


def test_a_webhook_goes_out_by_itself(bank: Any, pdf: bytes, organisations: Any, receiver: Any) -> None:
    organisations.change("test-bank", webhooks=frozenset({receiver.url}))
    made = bank.request(pdf, webhook=receiver.url)
    bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    for thread in threading.enumerate():
        if thread.name == "signing-deliveries":
            thread.join(20)
    assert len(receiver.received) == 1


def test_a_signing_link_is_not_in_the_database(bank: Any, pdf: bytes, tmp_path: Any, link: Any, database: Any) -> None:
    token = link(bank.request(pdf)).rsplit("/", 1)[1]
    database.close()
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.glob("tamga.db*"))


def test_a_verification_code_checks_itself() -> None:
    code = new_verification_code()
    number = 0
    for character in code[:26]:
        number = number * 32 + CROCKFORD.index(character)
    check = CROCKFORD.index(code[26]) * 32 + CROCKFORD.index(code[27])
    assert number < 1 << 128 and number % 1021 == check
