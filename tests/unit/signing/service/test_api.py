"""The partner API: who may call, what may be asked, what comes back."""

from __future__ import annotations

import io
import json
import secrets
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey

from core.principal import Principal

SUB = "pairwise-sub-of-bold"
REQUESTS = "/api/v1/sign-requests"


def code_of(answer: Any) -> str:
    assert answer.content_type == "application/problem+json", answer.text
    return str(json.loads(answer.text)["code"])


def refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text


def test_a_raw_pdf_with_a_request_jwt_makes_a_request(bank: Any, pdf: bytes) -> None:
    answer = bank.send(pdf, reference="loan 7", retention=3, deadline=600)
    assert answer.status_code == 201
    made = json.loads(answer.text)
    assert answer.headers["Location"].endswith(f"{REQUESTS}/{made['id']}")
    assert made["state"] == "created" and made["reference"] == "loan 7"
    assert made["document"]["pages"] == 2 and made["document"]["existing_signatures"] == 0
    assert made["signers"][0]["index"] == 0 and len(made["signers"][0]["signing_url"].rsplit("/", 1)[1]) == 22
    assert made["expires_at"] == "2026-11-21T04:15:06Z"
    assert len(made["verification_code"]) == 28


def test_multipart_with_an_access_token_makes_a_request(site: Any, bank: Any, pdf: bytes) -> None:
    site.machine = Principal("client", "test-bank", client_id="test-bank", scopes=frozenset({"sign.request"}))
    answer = site.app.test_client().post(
        REQUESTS,
        data={"request": json.dumps(bank.fields()), "document": (io.BytesIO(pdf), "a.pdf", "application/pdf")},
        headers={"Idempotency-Key": secrets.token_hex(16), "Authorization": "Bearer opaque"},
    )
    assert answer.status_code == 201, answer.text


def test_a_token_without_the_scope_is_refused(site: Any, bank: Any, pdf: bytes) -> None:
    site.machine = Principal("client", "test-bank", client_id="test-bank", scopes=frozenset({"sign.validate"}))
    answer = site.app.test_client().post(
        REQUESTS,
        data={"request": json.dumps(bank.fields()), "document": (io.BytesIO(pdf), "a.pdf")},
        headers={"Idempotency-Key": secrets.token_hex(16)},
    )
    refused(answer, 403, "SCOPE_MISSING")


def test_nobody_is_refused_with_a_challenge(site: Any) -> None:
    answer = site.app.test_client().get(f"{REQUESTS}/anything")
    refused(answer, 401, "CALLER_UNKNOWN")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_client_without_the_scope_cannot_use_its_key_either(bank: Any, organisations: Any, pdf: bytes) -> None:
    organisations.change("test-bank", scopes=frozenset({"openid"}))
    refused(bank.send(pdf), 403, "SCOPE_MISSING")


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        ({"header": {"typ": "JWT"}}, 401, "REQUEST_JWT_INVALID"),
        ({"header": {"kid": "unknown"}}, 401, "REQUEST_JWT_INVALID"),
        ({"iss": "nobody"}, 401, "REQUEST_JWT_INVALID"),
        ({"iss": None}, 401, "REQUEST_JWT_INVALID"),
        ({"aud": "https://elsewhere.example"}, 401, "REQUEST_JWT_INVALID"),
        ({"aud": ["http://localhost:8080", "https://elsewhere.example"]}, 401, "REQUEST_JWT_INVALID"),
        ({"aud": None}, 401, "REQUEST_JWT_INVALID"),
        ({"exp": None}, 401, "REQUEST_JWT_INVALID"),
        ({"iat": None}, 401, "REQUEST_JWT_INVALID"),
        ({"iat": "now"}, 401, "REQUEST_JWT_INVALID"),
        ({"iat": float("inf")}, 401, "REQUEST_JWT_INVALID"),
        ({"jti": None}, 401, "REQUEST_JWT_INVALID"),
        ({"jti": 12345678}, 401, "REQUEST_JWT_INVALID"),
        ({"body_sha256": "00" * 32}, 400, "BODY_DIGEST_MISMATCH"),
        ({"body_sha256": None}, 400, "BODY_DIGEST_MISMATCH"),
        ({"body_sha256": "!!"}, 400, "BODY_DIGEST_MISMATCH"),
    ],
)
def test_a_request_jwt_that_is_not_right_is_refused(
    bank: Any, pdf: bytes, claims: dict[str, Any], status: int, code: str
) -> None:
    refused(bank.send(pdf, token=bank.jwt(pdf, bank.fields(), **claims)), status, code)


def test_the_endpoint_may_be_the_audience_and_the_digest_base64url(bank: Any, pdf: bytes) -> None:
    import base64
    import hashlib

    digest = base64.urlsafe_b64encode(hashlib.sha256(pdf).digest()).rstrip(b"=").decode()
    token = bank.jwt(pdf, bank.fields(), aud=f"http://localhost:8080{REQUESTS}", body_sha256=digest)
    assert bank.send(pdf, token=token).status_code == 201


@pytest.mark.parametrize(("issued", "lives"), [(0, 121), (11, 60), (-200, 100), (-60, 60), (0, 0), (0, -5)])
def test_a_request_jwt_out_of_its_time_is_refused(bank: Any, pdf: bytes, issued: int, lives: int) -> None:
    at = int(bank.clock().timestamp()) + issued
    refused(bank.send(pdf, token=bank.jwt(pdf, bank.fields(), iat=at, exp=at + lives)), 401, "REQUEST_JWT_INVALID")


def test_a_request_jwt_is_taken_once(bank: Any, pdf: bytes) -> None:
    token = bank.jwt(pdf, bank.fields())
    assert bank.send(pdf, token=token).status_code == 201
    refused(bank.send(pdf, token=token), 401, "REQUEST_JWT_REPLAYED")


def test_another_key_or_algorithm_does_not_verify(bank: Any, pdf: bytes) -> None:
    fields = bank.fields()
    stranger = ECKey.generate_key("P-256")
    refused(bank.send(pdf, token=bank.jwt(pdf, fields, key=stranger)), 401, "REQUEST_JWT_INVALID")
    other = bank.jwt(pdf, fields, key=ECKey.generate_key("P-384"), header={"alg": "ES384"})
    refused(bank.send(pdf, token=other), 401, "REQUEST_JWT_INVALID")
    # The public key's own bytes used as a shared secret (RFC 8725 2.1).
    public = OctKey.import_key(json.dumps(bank.key.as_dict(private=False)))
    confused = bank.jwt(pdf, fields, key=public, header={"alg": "HS256"})
    refused(bank.send(pdf, token=confused), 401, "REQUEST_JWT_INVALID")
    head, body, _ = bank.jwt(pdf, fields).split(".")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoic2lnbi1yZXF1ZXN0K2p3dCIsImtpZCI6ImJhbmstMSJ9"
    refused(bank.send(pdf, token=f"{unsigned}.{body}."), 401, "REQUEST_JWT_INVALID")
    refused(bank.send(pdf, token=f"{head}.{body}.AAAA"), 401, "REQUEST_JWT_INVALID")


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "....", "e30.e30.", "bnVsbA.bnVsbA.x", "%.%.%", "й.й.й"])
def test_nonsense_for_a_token_is_refused(bank: Any, pdf: bytes, token: str) -> None:
    answer = bank.site.app.test_client().post(
        REQUESTS, data=pdf, content_type="application/pdf", headers={"Authorization": f"Bearer {token}".strip()}
    )
    assert answer.status_code == 401 and code_of(answer) in {"REQUEST_JWT_INVALID", "CALLER_UNKNOWN"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\u202eb"}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": 5}, "title"),
        ({"signers": []}, "signers"),
        ({"signers": [{"sub": SUB}, {"sub": SUB}]}, "signers"),
        ({"signers": "Болд"}, "signers"),
        ({"signers": [{}]}, "signers.sub"),
        ({"signers": [{"sub": SUB, "order": 1}]}, "signers.order"),
        ({"signers": [{"sub": SUB, "placements": [{}, {}]}]}, "signers.placements"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 1, "x": 1}]}]}, "signers.placements"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 0, "x": 1, "y": 1}]}]}, "signers.placements.page"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 1, "x": -1, "y": 1}]}]}, "signers.placements.x"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 1, "x": 1, "y": 1, "width": 0}]}]}, "signers.placements"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 1, "x": 1, "y": float("nan")}]}]}, "signers.placements.y"),
        ({"level": "B-LTA"}, "level"),
        ({"level": ["B-LT"]}, "level"),
        ({"language": "ru"}, "language"),
        ({"deadline": 299}, "deadline"),
        ({"deadline": 90 * 86400 + 1}, "deadline"),
        ({"deadline": True}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
        ({"retention": 31}, "retention"),
        ({"retention": -1}, "retention"),
        ({"reference": "r" * 65}, "reference"),
        ({"webhook": "http://bank.example/hook"}, "webhook"),
        ({"webhook": "https://[bad"}, "webhook"),
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": "https://user@bank.example/back"}, "return_url"),
    ],
)
def test_a_field_that_is_not_right_is_named(bank: Any, pdf: bytes, fields: dict[str, Any], field: str) -> None:
    answer = bank.send(pdf, **fields)
    refused(answer, 422, "REQUEST_INVALID")
    assert json.loads(answer.text)["field"] == field


@pytest.mark.parametrize("missing", ["title", "signers"])
def test_a_missing_field_is_named(bank: Any, pdf: bytes, missing: str) -> None:
    answer = bank.send(pdf, **{missing: None})
    refused(answer, 422, "REQUEST_INVALID")
    assert json.loads(answer.text)["field"] == missing


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"signers": [{"sub": "somebody-else"}]}, "SIGNER_UNKNOWN"),
        ({"webhook": "https://evil.example/hook"}, "WEBHOOK_NOT_REGISTERED"),
        ({"return_url": "https://bank.example/elsewhere"}, "RETURN_URL_NOT_REGISTERED"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 3, "x": 1, "y": 1}]}]}, "PLACEMENT_OUTSIDE_PAGE"),
        ({"signers": [{"sub": SUB, "placements": [{"page": 1, "x": 500, "y": 1}]}]}, "PLACEMENT_OUTSIDE_PAGE"),
        ({"signers": [{"sub": SUB, "placements": [{"field": "Nowhere"}]}]}, "FIELD_NOT_FOUND"),
    ],
)
def test_what_is_not_known_is_refused_before_anybody_is_asked(
    bank: Any, pdf: bytes, fields: dict[str, Any], code: str
) -> None:
    refused(bank.send(pdf, **fields), 422, code)


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        (b"", 400, "EMPTY_BODY"),
        (b"hello", 400, "NOT_A_PDF"),
        (b"PK\x03\x04....", 415, "UNSUPPORTED_FORMAT"),
        (b"%PDF-1.7\nnothing", 422, "DOC_UNREADABLE"),
        (b"%PDF-1.7" + bytes(2_000_001), 413, "TOO_LARGE"),
    ],
    ids=["empty", "text", "zip", "torn", "large"],
)
def test_a_document_that_cannot_be_signed_is_refused(bank: Any, document: bytes, status: int, code: str) -> None:
    refused(bank.send(document), status, code)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", None])
def test_another_content_type_is_refused(bank: Any, pdf: bytes, content_type: str | None) -> None:
    answer = bank.call("POST", REQUESTS, pdf, content_type=content_type)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "form",
    [{}, {"request": "{}"}, {"request": "not json"}, {"request": "[]"}, {"document": (io.BytesIO(b""), "a.pdf")}],
)
def test_a_form_without_its_parts_is_refused(site: Any, form: dict[str, Any]) -> None:
    site.machine = Principal("client", "test-bank", client_id="test-bank", scopes=frozenset({"sign.request"}))
    answer = site.app.test_client().post(REQUESTS, data=form, content_type="multipart/form-data")
    assert answer.status_code == 400 and code_of(answer) in {"REQUEST_MALFORMED", "EMPTY_BODY"}


@pytest.mark.parametrize("key", ["", "short", "x" * 65])
def test_an_idempotency_key_is_needed(bank: Any, pdf: bytes, key: str) -> None:
    answer = bank.call(
        "POST",
        REQUESTS,
        pdf,
        token=bank.jwt(pdf, bank.fields()),
        headers={"Idempotency-Key": key} if key else {},
        content_type="application/pdf",
    )
    refused(answer, 400, "IDEMPOTENCY_KEY_INVALID")


def test_the_same_key_and_body_repeat_the_answer(bank: Any, pdf: bytes) -> None:
    key = secrets.token_hex(16)
    first, second = bank.send(pdf, key=key), bank.send(pdf, key=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert json.loads(first.text) == json.loads(second.text)
    refused(bank.send(pdf, key=key, title="Өөр гэрээ"), 422, "IDEMPOTENCY_KEY_REUSED")
    bank.clock.move(hours=24, seconds=1)
    assert json.loads(bank.send(pdf, key=key).text)["id"] != json.loads(first.text)["id"]
    assert bank.site.parts.sign_requests.forget_idempotency_keys() == 0
    bank.clock.move(hours=24)
    assert bank.site.parts.sign_requests.forget_idempotency_keys() == 1


def test_a_key_still_running_is_told_so(bank: Any, site: Any, pdf: bytes) -> None:
    key = secrets.token_hex(16)
    store = site.parts.sign_requests._one_time
    import hashlib

    assert store.claim("sign-request-running", hashlib.sha256(f"test-bank\n{key}".encode()).hexdigest(), ttl=60)
    refused(bank.send(pdf, key=key), 409, "IDEMPOTENT_REQUEST_IN_PROGRESS")


def test_a_client_sees_only_its_own(bank: Any, pdf: bytes) -> None:
    made = bank.request(pdf)
    path = f"{REQUESTS}/{made['id']}"
    for method, more in (("GET", ""), ("GET", "/document"), ("DELETE", "")):
        refused(bank.call(method, path + more, token=bank.jwt(b"", iss="other")), 404, "SIGN_REQUEST_NOT_FOUND")
    assert bank.call("GET", path).status_code == 200


def test_an_unchanged_state_costs_no_body(bank: Any, pdf: bytes) -> None:
    path = f"{REQUESTS}/{bank.request(pdf)['id']}"
    etag = bank.call("GET", path).headers["ETag"]
    answer = bank.call("GET", path, headers={"If-None-Match": etag})
    assert answer.status_code == 304 and not answer.data
    assert bank.call("DELETE", path).status_code == 200
    assert bank.call("GET", path, headers={"If-None-Match": etag}).status_code == 200


def test_waiting_ends_when_the_state_is_final(bank: Any, pdf: bytes) -> None:
    path = f"{REQUESTS}/{bank.request(pdf)['id']}"
    assert bank.call("GET", path + "?wait=1").status_code == 200
    refused(bank.call("GET", path + "?wait=long"), 422, "REQUEST_INVALID")
    bank.call("DELETE", path)
    assert bank.call("GET", path + "?wait=25").status_code == 200


def test_a_document_is_not_there_before_it_is_signed(bank: Any, pdf: bytes) -> None:
    answer = bank.call("GET", f"{REQUESTS}/{bank.request(pdf)['id']}/document")
    refused(answer, 409, "NOT_SIGNED_YET")
    assert json.loads(answer.text)["state"] == "created"


def test_a_request_is_withdrawn_once(bank: Any, pdf: bytes) -> None:
    path = f"{REQUESTS}/{bank.request(pdf)['id']}"
    assert json.loads(bank.call("DELETE", path).text)["state"] == "cancelled"
    refused(bank.call("DELETE", path), 409, "STATE_CONFLICT")
