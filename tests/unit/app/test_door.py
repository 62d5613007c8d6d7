"""The front door: headers on every page, errors in the protocol's own form, the reader's language."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

import app
from app.door import Door
from core.errors import CodedError
from core.pages import FormGuard
from core.text import Catalogue

APP = Path(app.__file__).parent


class Refused(CodedError):
    code = "refused_for_test"
    status = 409


def _application(*, secure: bool) -> Flask:
    flask = Flask("app", root_path=str(APP), template_folder="templates", static_folder="static")
    origin = "https://id.example.mn" if secure else "http://localhost:8080"
    Door(
        catalogue=Catalogue([APP / "translations"]),
        guard=FormGuard(b"secret", origin),
        service_names={"mn": "Тамга", "en": "Tamga"},
        secure=secure,
        large_paths=("/api/v1/documents",),
        max_document_octets=1024 * 1024,
    ).install(flask)

    @flask.get("/coded")
    @flask.get("/api/v1/coded")
    @flask.get("/oauth2/token")
    def coded() -> str:
        raise Refused("because the test says so", field="x")

    @flask.get("/broken")
    @flask.get("/api/v1/broken")
    def broken() -> str:
        raise RuntimeError("ЪА85041512 must not be shown")

    @flask.post("/read")
    @flask.post("/api/v1/documents")
    def read() -> str:
        return str(len(request.get_data()))

    return flask


@pytest.fixture
def client() -> FlaskClient:
    return _application(secure=False).test_client()


def test_every_page_carries_the_security_headers(client: FlaskClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in answer.headers


def test_an_https_origin_pins_https() -> None:
    answer = _application(secure=True).test_client().get("/nowhere", base_url="https://id.example.mn")
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=63072000")


def test_an_error_of_the_partner_api_is_a_problem_document(client: FlaskClient) -> None:
    answer = client.get("/api/v1/coded")
    assert answer.status_code == 409
    assert answer.mimetype == "application/problem+json"
    document = answer.get_json()
    assert document["code"] == "refused_for_test"
    assert document["detail"] == "because the test says so"
    assert document["field"] == "x"
    assert document["request_id"] == answer.headers["X-Request-Id"]


def test_an_error_of_an_oauth_endpoint_is_oauth_json(client: FlaskClient) -> None:
    answer = client.get("/oauth2/token")
    assert answer.get_json()["error"] == "invalid_request"


def test_a_wrong_method_keeps_its_allow_header_and_the_protocols_form(client: FlaskClient) -> None:
    answer = client.post("/oauth2/token")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.get_json()["error"] == "invalid_request"


@pytest.mark.parametrize(("language", "sentence"), [("mn", "Амжилтгүй боллоо"), ("en", "This did not work")])
def test_an_error_page_speaks_the_readers_language(client: FlaskClient, language: str, sentence: str) -> None:
    page = client.get("/coded", headers={"Accept-Language": language}).get_data(as_text=True)
    assert sentence in page
    assert f'<html lang="{language}">' in page
    assert "refused_for_test" in page


def test_the_chosen_language_is_remembered(client: FlaskClient) -> None:
    client.get("/coded?lang=en")
    assert "This did not work" in client.get("/coded", headers={"Accept-Language": "mn"}).get_data(as_text=True)


def test_nobody_is_spoken_to_in_mongolian_first(client: FlaskClient) -> None:
    assert "Амжилтгүй боллоо" in client.get("/coded", headers={"Accept-Language": "fr"}).get_data(as_text=True)


@pytest.mark.parametrize("path", ["/broken", "/api/v1/broken"])
def test_an_unforeseen_error_tells_nothing(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 500
    assert "ЪА85041512" not in answer.get_data(as_text=True)
    assert "RuntimeError" not in answer.get_data(as_text=True)


def test_a_large_body_is_taken_only_where_documents_arrive(client: FlaskClient) -> None:
    body = b"x" * 300_000
    assert client.post("/read", data=body).status_code == 413
    assert client.post("/api/v1/documents", data=body).get_data() == b"300000"
    assert client.post("/api/v1/documents", data=b"x" * 2_000_000).status_code == 413


def test_request_ids_differ(client: FlaskClient) -> None:
    assert client.get("/coded").headers["X-Request-Id"] != client.get("/coded").headers["X-Request-Id"]


def test_a_database_that_is_gone_is_answered_503_with_a_time_to_come_back() -> None:
    flask = _application(secure=False)

    @flask.get("/api/v1/gone")
    def gone() -> str:
        raise OperationalError("SELECT 1", {}, ConnectionError("refused"))

    answer = flask.test_client().get("/api/v1/gone")
    assert answer.status_code == 503
    assert answer.get_json()["code"] == "temporarily_unavailable"
    assert answer.headers["Retry-After"]
