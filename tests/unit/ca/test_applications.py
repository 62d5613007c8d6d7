"""Applications: submitted once, decided by somebody else, and their certificates issued whatever is cut short."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from ca import errors as ca_errors
from ca.applications import errors
from ca.applications.endpoints import ApplicationDoors
from ca.applications.service import APPROVED, ISSUED, REJECTED, STATES, SUBMITTED, Asked, check_not_personal
from ca.applications.tables import ApplicationRow
from ca.register import Reason, State
from ca.revocation import REASON_NAMES
from core.errors import CodedError, Unavailable
from core.principal import Principal
from core.problem import problem_response

OFFICER = "officer:naran"
KEY = "an-idempotency-key"
SUBJECT = {"O": "Example Bank", "organizationIdentifier": "NTRMN-0000017", "CN": "example-bank"}


@pytest.fixture
def asked(make_csr: Callable[..., bytes]) -> Callable[..., Asked]:
    def make(**changes: Any) -> Asked:
        asked = Asked(
            profile="tls-client",
            csr=make_csr(ec.generate_private_key(ec.SECP256R1())),
            subject=SUBJECT,
            alternative_names=(("URI", "https://bank.example.test/"),),
            holder="example-bank",
            evidence="contract:17",
        )
        return replace(asked, **changes)

    return make


@pytest.fixture
def submitted(room, asked) -> Callable[..., Any]:
    return lambda **changes: room.parts.applications.submit(asked(**changes), applicant="client:example-bank")


# The service -----------------------------------------------------------------------------------------------------


def test_an_approved_application_becomes_a_certificate_in_the_same_act(room, submitted) -> None:
    application = submitted()
    assert application.state == SUBMITTED
    issued = room.parts.applications.approve(application.id, actor=OFFICER)
    settled = room.parts.applications.get(application.id)
    assert (settled.state, settled.decided_by, settled.certificate_id) == (ISSUED, OFFICER, issued.id)
    assert (issued.holder, issued.evidence) == ("example-bank", "contract:17")
    assert room.parts.applications.certificate(settled) == issued
    assert [event for event in room.events() if event.startswith("ca:application")] == [
        "ca:application:submitted", "ca:application:approved", "ca:application:issued",
    ]  # fmt: skip
    assert room.check_audit()


def test_nobody_approves_what_he_applied_for(room, asked) -> None:
    application = room.parts.applications.submit(asked(), applicant=OFFICER)
    with pytest.raises(errors.OwnApplication) as caught:
        room.parts.applications.approve(application.id, actor=OFFICER)
    assert (caught.value.code, caught.value.exit_code) == ("own_application", 3)
    assert room.parts.applications.get(application.id).state == SUBMITTED
    assert room.parts.applications.approve(application.id, actor="officer:oyun").holder == "example-bank"


def test_a_rejected_application_stays_rejected_and_says_why(room, submitted) -> None:
    application = submitted()
    for reason in ("", " ", "two\nlines", "x" * 201):
        with pytest.raises(errors.ReasonMissing):
            room.parts.applications.reject(application.id, actor=OFFICER, reason=reason)
    rejected = room.parts.applications.reject(application.id, actor=OFFICER, reason="no contract")
    assert (rejected.state, rejected.reason) == (REJECTED, "no contract")
    with pytest.raises(errors.ApplicationDecided) as caught:
        room.parts.applications.approve(application.id, actor=OFFICER)
    assert (caught.value.exit_code, caught.value.facts) == (5, {"state": REJECTED})


def test_an_application_is_approved_once(room, submitted) -> None:
    application = submitted()
    room.parts.applications.approve(application.id, actor=OFFICER)
    with pytest.raises(errors.ApplicationDecided):
        room.parts.applications.approve(application.id, actor=OFFICER)
    with pytest.raises(errors.ApplicationDecided):
        room.parts.applications.reject(application.id, actor=OFFICER, reason="late")
    assert len(room.parts.register.certificates(holder="example-bank")) == 1


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"profile": "root"}, ca_errors.ProfileNotOpen),
        ({"profile": "nothing"}, ca_errors.ProfileNotFound),
        ({"evidence": ""}, ca_errors.EvidenceMissing),
        ({"evidence": "x" * 201}, ca_errors.EvidenceMissing),
        ({"csr": b"no request"}, ca_errors.CsrMalformed),
        ({"subject": {"O": "Example Bank"}}, ca_errors.SubjectRefused),
        ({"alternative_names": (("DNS", "a b"),)}, ca_errors.SubjectRefused),
    ],
)
def test_what_no_certificate_could_come_of_is_not_kept(room, submitted, changes, refusal) -> None:
    with pytest.raises(refusal):
        submitted(**changes)
    assert room.parts.applications.all() == ()


def test_an_approval_asks_the_rules_again(room, make_csr, submitted) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = submitted(csr=make_csr(key)), submitted(csr=make_csr(key))
    issued = room.parts.applications.approve(first.id, actor=OFFICER)
    room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.KEY_COMPROMISE)
    with pytest.raises(ca_errors.KeyNotAccepted) as caught:
        room.parts.applications.approve(second.id, actor=OFFICER)
    assert caught.value.facts == {"reason": "key.blocked"}
    assert room.parts.applications.get(second.id).state == SUBMITTED


def test_the_same_key_finds_the_same_application(room, asked) -> None:
    one = asked()
    first = room.parts.applications.submit(one, applicant="client:bank", idempotency_key=KEY)
    assert room.parts.applications.submit(one, applicant="client:bank", idempotency_key=KEY) == first
    with pytest.raises(errors.IdempotencyKeyReused) as caught:
        room.parts.applications.submit(asked(evidence="contract:18"), applicant="client:bank", idempotency_key=KEY)
    assert (caught.value.code, caught.value.status) == ("idempotency_key_reused", 422)
    # Another caller's key is his own.
    assert room.parts.applications.submit(one, applicant="client:shop", idempotency_key=KEY).id != first.id
    assert len(room.parts.applications.all()) == 2


def test_applications_are_listed_by_what_is_asked_for(room, submitted) -> None:
    first, second = submitted(), submitted()
    room.parts.applications.reject(first.id, actor=OFFICER, reason="no")
    listed = room.parts.applications.all
    assert [each.id for each in listed()] == [first.id, second.id]
    assert [each.id for each in listed(state=REJECTED)] == [first.id]
    assert listed(holder="nobody") == () and listed(profile="tls-server") == ()
    assert len(listed(limit=1)) == 1
    with pytest.raises(errors.ApplicationNotFound):
        room.parts.applications.get("nothing")


@pytest.mark.parametrize("profile", ["citizen-signature", "citizen-authentication", "citizen-signature-short"])
def test_certificates_of_people_are_not_for_clients(profile: str) -> None:
    with pytest.raises(errors.PersonalProfile) as caught:
        check_not_personal(profile)
    assert (caught.value.code, caught.value.status) == ("profile_personal", 403)


def test_what_is_not_a_persons_is_for_clients() -> None:
    for profile in ("tls-client", "tls-server", "organisation-seal"):
        check_not_personal(profile)


# What is cut short -------------------------------------------------------------------------------------------------


class TokenAway(Unavailable):
    code = "token_away"


def test_an_approval_without_a_token_is_finished_when_it_is_back(room, submitted, monkeypatch) -> None:
    application = submitted()
    with monkeypatch.context() as away:
        away.setattr(type(room.keystore), "key", _raise(TokenAway("the token is away")))
        with pytest.raises(errors.ApplicationPending) as caught:
            room.parts.applications.approve(application.id, actor=OFFICER)
    assert (caught.value.exit_code, caught.value.facts) == (6, {"cause": "token_away"})
    assert room.parts.applications.get(application.id).state == APPROVED
    [(found, issued)] = room.parts.applications.issue_pending(actor="operator:timer")
    assert found == application.id and not isinstance(issued, CodedError)
    # The certificate is the approving officer's act, whoever finished it.
    assert room.facts("ca:application:issued")["certificate"] == issued.id
    assert room.parts.applications.get(application.id).state == ISSUED
    assert room.parts.applications.issue_pending(actor="operator:timer") == ()


@pytest.mark.parametrize("step", ["_take", "_sign", "_enter"])
def test_a_process_that_dies_in_between_leaves_an_application_that_is_finished(
    room, submitted, monkeypatch, step: str
) -> None:
    application = submitted()

    class Killed(BaseException):
        pass

    with monkeypatch.context() as dying:
        dying.setattr(type(room.parts.issuance), step, _raise(Killed()))
        with pytest.raises(Killed):
            room.parts.applications.approve(application.id, actor=OFFICER)
    assert room.parts.applications.get(application.id).state == APPROVED
    # Another process leaves it alone until the first is surely dead.
    assert room.parts.applications.issue_pending(actor="operator:timer") == ()
    room.clock.advance(timedelta(minutes=6))
    assert len(room.parts.applications.issue_pending(actor="operator:timer")) == 1
    room.parts.recovery.settle()
    certificates = room.parts.register.certificates(holder="example-bank")
    assert [each.id for each in certificates] == [room.parts.applications.get(application.id).certificate_id]
    assert room.check_audit()


def test_a_certificate_of_an_application_settled_meanwhile_is_withdrawn(room, submitted, monkeypatch) -> None:
    application = submitted()
    issuance = type(room.parts.issuance)
    sign = issuance._sign

    def late(self, intent):
        with room.database.transaction() as session:
            session.execute(update(ApplicationRow).values(state=REJECTED))
        return sign(self, intent)

    monkeypatch.setattr(issuance, "_sign", late)
    with pytest.raises(errors.ApplicationDecided):
        room.parts.applications.approve(application.id, actor=OFFICER)
    assert room.parts.register.certificates(holder="example-bank") == ()
    room.clock.advance(timedelta(minutes=6))
    assert room.parts.recovery.settle().withdrawn == 1


def test_a_linters_refusal_rejects_the_application(room, submitted, monkeypatch) -> None:
    application = submitted()
    refusal = ca_errors.LintRefused("a linter found an error")
    monkeypatch.setattr(type(room.parts.issuance), "prepare", _raise(refusal))
    with pytest.raises(ca_errors.LintRefused):
        room.parts.applications.approve(application.id, actor=OFFICER)
    found = room.parts.applications.get(application.id)
    assert (found.state, found.reason) == (REJECTED, "lint_refused")


def _raise(error: BaseException) -> Callable[..., Any]:
    def act(*_: object, **__: object) -> Any:
        raise error

    return act


# Races -------------------------------------------------------------------------------------------------------------


def test_of_officers_who_decide_at_once_one_decides(postgresql_room, asked) -> None:
    from ca.ceremony import read_plan
    from ca.settings import CaSettings

    room = postgresql_room
    room.parts.ceremony.hold(read_plan(PLAN, CaSettings()), actor="test")
    applications = room.parts.applications
    found = applications.submit(asked(), applicant="client:example-bank", idempotency_key=KEY)
    outcomes: list[str] = []

    def act(number: int) -> None:
        try:
            if number % 2:
                applications.approve(found.id, actor=f"officer:naran{number}")
            else:
                applications.reject(found.id, actor=f"officer:naran{number}", reason="no")
            outcomes.append("done")
        except CodedError as error:
            outcomes.append(error.code)

    together(act, 6)
    assert sorted(outcomes) == ["application_decided"] * 5 + ["done"]
    settled = applications.get(found.id)
    assert len(room.parts.register.certificates(holder="example-bank")) == (1 if settled.state == ISSUED else 0)

    # The same submission many times at once is one application.
    one, made = asked(evidence="contract:19"), []
    key = "another-idempotency-key"
    together(lambda _: made.append(applications.submit(one, applicant="client:b", idempotency_key=key).id), 5)
    assert len(made) == 5 and len(set(made)) == 1


def together(act: Callable[[int], object], count: int) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


PLAN = """
name = "on-postgresql"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "pa-root-g1"
purpose = "root"
profile = "root"
key = "P-384"
subject = { CN = "PG Root" }
[[authority]]
slug = "pa-service-g1"
purpose = "service"
issuer = "pa-root-g1"
profile = "issuing-ca"
key = "P-384"
subject = { CN = "PG CA" }
"""


# The doors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def caller() -> dict[str, Principal | None]:
    scopes = frozenset({"ca:apply", "ca:revoke"})
    return {"is": Principal(kind="client", subject="example-bank", client_id="example-bank", scopes=scopes)}


@pytest.fixture
def doors(room, caller) -> FlaskClient:
    app = Flask("doors")
    parts = room.parts
    app.register_blueprint(
        ApplicationDoors(
            applications=parts.applications,
            register=parts.register,
            hierarchy=parts.hierarchy,
            revocation=parts.revocation,
            client=lambda: caller["is"],
            base_url="https://ca.example.mn",
        ).blueprint()
    )
    app.register_error_handler(CodedError, lambda error: problem_response(error, request_id="1"))
    return app.test_client()


@pytest.fixture
def body(make_csr) -> dict[str, Any]:
    csr = make_csr(ec.generate_private_key(ec.SECP256R1()))
    return {
        "profile": "tls-client",
        "csr": base64.b64encode(csr).decode(),
        "subject": SUBJECT,
        "alternative_names": [{"kind": "URI", "value": "https://bank.example.test/"}],
        "evidence": "contract:17",
    }


def post(doors: FlaskClient, body: Any, key: str | None = KEY) -> Any:
    return doors.post("/ca/applications", json=body, headers={"Idempotency-Key": key} if key else {})


def test_a_client_applies_and_fetches_its_certificate(room, doors, body) -> None:
    made = post(doors, body)
    assert (made.status_code, made.json["state"]) == (201, "submitted")
    assert made.headers["Location"] == f"https://ca.example.mn/ca/applications/{made.json['id']}"
    assert made.headers["Cache-Control"] == "private, no-store"
    room.parts.applications.approve(made.json["id"], actor=OFFICER)
    found = doors.get(f"/ca/applications/{made.json['id']}").json
    assert found["state"] == "issued"
    certificate = doors.get(f"/ca/certificates/{found['certificate']['id']}").json
    assert (certificate["state"], certificate["serial"]) == ("good", found["certificate"]["serial"])
    chain = [
        x509.load_pem_x509_certificate(pem.encode()) for pem in (certificate["certificate"], *certificate["chain"])
    ]
    for child, parent in pairwise(chain):
        child.verify_directly_issued_by(parent)
    assert chain[-1].subject == chain[-1].issuer


def test_a_replay_gives_the_same_answer_and_another_body_is_refused(doors, body) -> None:
    first = post(doors, body)
    assert post(doors, body).json == first.json
    refused = post(doors, {**body, "evidence": "contract:18"})
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    assert refused.content_type == "application/problem+json"


@pytest.mark.parametrize("key", [None, "short", "x" * 65, "an-idempotency-k\u00e9y"])
def test_an_application_without_a_good_idempotency_key_is_refused(doors, body, key) -> None:
    refused = post(doors, body, key)
    assert (refused.status_code, refused.json["code"]) == (400, "idempotency_key_invalid")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"csr": None}, 422, "request_invalid"),
        ({"csr": "%%%"}, 422, "request_invalid"),
        ({"csr": "AAAA"}, 400, "csr_malformed"),
        ({"csr": "-----BEGIN CERTIFICATE REQUEST-----\n"}, 400, "csr_malformed"),
        ({"csr": "A" * 40_000}, 422, "request_invalid"),
        ({"subject": ["CN"]}, 422, "request_invalid"),
        ({"subject": {"CN": 1}}, 422, "request_invalid"),
        ({"subject": {"CN": "a\nb"}}, 422, "request_invalid"),
        ({"alternative_names": [["URI", "urn:x"]]}, 422, "request_invalid"),
        ({"alternative_names": "URI"}, 422, "request_invalid"),
        ({"evidence": ""}, 422, "request_invalid"),
        ({"holder": "another-bank"}, 422, "request_invalid"),
        ({"profile": "citizen-signature"}, 403, "profile_personal"),
        ({"profile": "root"}, 422, "profile_not_open"),
        ({"profile": "nothing"}, 404, "profile_not_found"),
        ({"alternative_names": []}, 422, "subject_refused"),
    ],
)
def test_every_wrong_member_is_refused_by_its_code(room, doors, body, change, status, code) -> None:
    refused = post(doors, {**body, **change})
    assert (refused.status_code, refused.json["code"]) == (status, code)
    assert room.parts.applications.all() == ()


@pytest.mark.parametrize(
    ("data", "mimetype", "status", "code"),
    [
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"", "application/json", 400, "request_malformed"),
        (b"[]", "application/json", 400, "request_malformed"),
        (b"[" * 5000, "application/json", 400, "request_malformed"),
        (b" " * 70_000, "application/json", 400, "request_malformed"),
    ],
)
def test_a_body_that_is_no_object_is_refused(doors, data, mimetype, status, code) -> None:
    refused = doors.post(
        "/ca/applications", data=data, content_type=mimetype, headers={"Idempotency-Key": KEY}
    )  # fmt: skip
    assert (refused.status_code, refused.json["code"]) == (status, code)


def test_only_clients_with_the_scope_are_answered(doors, body, caller) -> None:
    client = caller["is"]
    assert client is not None
    for principal in (None, replace(client, kind="person")):
        caller["is"] = principal
        refused = post(doors, body)
        assert (refused.status_code, refused.json["code"]) == (401, "caller_unknown")
    for scopes, path in (({"ca:revoke"}, "/ca/applications"), ({"ca:apply"}, "/ca/certificates/x/revoke")):
        caller["is"] = replace(client, scopes=frozenset(scopes))
        refused = doors.post(path, json=body, headers={"Idempotency-Key": KEY})
        assert (refused.status_code, refused.json["code"]) == (403, "scope_missing")


def test_what_is_anothers_is_as_if_it_were_not_there(room, doors, body, caller) -> None:
    made = post(doors, body).json
    issued = room.parts.applications.approve(made["id"], actor=OFFICER)
    assert caller["is"] is not None
    caller["is"] = replace(caller["is"], subject="another-bank", client_id="another-bank")
    assert doors.get(f"/ca/applications/{made['id']}").json["code"] == "application_not_found"
    assert doors.get(f"/ca/certificates/{issued.id}").json["code"] == "certificate_not_found"
    for act in ("revoke", "suspend", "resume"):
        refused = doors.post(f"/ca/certificates/{issued.id}/{act}")
        assert (refused.status_code, refused.json["code"]) == (404, "certificate_not_found")
    assert room.parts.register.get(issued.id).status.state is State.GOOD


@pytest.mark.parametrize("name", ["x", "%00", "..%2f", "0" * 300, "%F0%9F%94%91"])
def test_an_id_that_is_none_is_not_found(doors, name: str) -> None:
    assert doors.get(f"/ca/applications/{name}").status_code == 404
    assert doors.get(f"/ca/certificates/{name}").status_code == 404


def test_a_client_revokes_its_own_certificate(room, doors, body) -> None:
    issued = room.parts.applications.approve(post(doors, body).json["id"], actor=OFFICER)
    address = f"/ca/certificates/{issued.id}"
    refused = doors.post(f"{address}/suspend")
    assert (refused.status_code, refused.json["code"]) == (422, "suspension_not_allowed")
    for reason in ("certificateHold", "because", 1):
        assert doors.post(f"{address}/revoke", json={"reason": reason}).json["code"] == "reason_not_allowed"
    assert doors.post(f"{address}/revoke", json={"why": "x"}).json["code"] == "request_invalid"
    revoked = doors.post(f"{address}/revoke", json={"reason": "superseded"}).json
    assert (revoked["state"], revoked["reason"]) == ("revoked", "superseded")
    assert doors.post(f"{address}/revoke", json={"reason": "superseded"}).status_code == 200
    assert doors.post(f"{address}/revoke").json["code"] == "already_revoked"
    assert doors.post(f"{address}/resume").json["code"] == "already_revoked"


def test_a_client_suspends_and_resumes_its_seal(room, doors, make_csr) -> None:
    asked = Asked(
        profile="organisation-seal",
        csr=make_csr(ec.generate_private_key(ec.SECP256R1())),
        subject={key: SUBJECT[key] for key in ("O", "organizationIdentifier", "CN")},
        alternative_names=(),
        holder="example-bank",
        evidence="contract:17",
    )
    made = room.parts.applications.submit(asked, applicant="client:example-bank")
    address = f"/ca/certificates/{room.parts.applications.approve(made.id, actor=OFFICER).id}"
    assert doors.post(f"{address}/resume").json["code"] == "not_suspended"
    assert doors.post(f"{address}/suspend").json["state"] == "suspended"
    assert doors.post(f"{address}/resume").json["state"] == "good"


def test_the_openapi_document_names_the_doors_and_what_they_answer(room, doors, body) -> None:
    document = doors.get("/ca/openapi.json").json
    served = {
        (re.sub(r"<[^>]+>", "{id}", rule.rule), method.lower())
        for rule in doors.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/ca/") and rule.rule != "/ca/openapi.json"
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    schemas = document["components"]["schemas"]
    made = post(doors, body).json
    assert set(schemas["NewApplication"]["properties"]) == set(body)
    issued = room.parts.applications.approve(made["id"], actor=OFFICER)
    application = doors.get(f"/ca/applications/{made['id']}").json
    assert set(schemas["Application"]["required"]) <= set(application) <= set(schemas["Application"]["properties"])
    assert set(doors.get(f"/ca/certificates/{issued.id}").json) == set(schemas["Certificate"]["required"])
    assert schemas["Revocation"]["properties"]["reason"]["enum"] == sorted(REASON_NAMES)
    assert schemas["Application"]["properties"]["state"]["enum"] == list(STATES)
