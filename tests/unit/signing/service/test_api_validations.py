"""Anybody may ask what a signature is worth: organisations by the API, people on the page."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from core.principal import Principal
from tests.support.pdf import encrypted, with_byte_changed, with_page_added

VALIDATIONS = "/api/v1/validations"
PIN = "738264"


@pytest.fixture
def signed(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> bytes:
    """A document signed by Bold in a ceremony."""
    browser = site.citizen()
    browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    made = bank.request(pdf)
    browser.press(walk(browser, link(made)), "sign-confirm", pin=PIN)
    return bytes(bank.call("GET", f"/api/v1/sign-requests/{made['id']}/document").data)


def report(bank: Any, document: bytes, query: str = "") -> Any:
    answer = bank.call("POST", VALIDATIONS + query, document, content_type="application/pdf")
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)


def test_a_signed_document_passes_and_says_who_and_when(bank: Any, signed: bytes) -> None:
    found = report(bank, signed, "?lang=en")
    (signature,) = found["signatures"]
    assert (found["document_status"], signature["indication"]) == ("TOTAL-PASSED", "TOTAL-PASSED")
    assert signature["signer"]["display_name"] == "Загвар Болд" and signature["level"] == "B-LT"
    assert signature["best_signature_time"].startswith("2026-11-21T04:05:06")
    assert found["policy"]["id"] == "mn-default"


def test_it_still_passes_after_the_certificate_was_revoked(
    bank: Any, signed: bytes, authority: Any, clock: Any
) -> None:
    clock.move(hours=1)
    authority.revoke_all()
    assert report(bank, signed)["document_status"] == "TOTAL-PASSED"


def test_an_unsigned_document_is_told_to_be_so(bank: Any, pdf: bytes) -> None:
    found = report(bank, pdf)
    assert (found["document_status"], found["signature_count"]) == ("NO_SIGNATURE_FOUND", 0)


@pytest.mark.parametrize("spoil", [lambda d: with_byte_changed(d, 300), with_page_added], ids=["byte", "page"])
def test_a_changed_document_is_a_report_and_never_passes(bank: Any, signed: bytes, spoil: Any) -> None:
    found = report(bank, spoil(signed))
    assert found["document_status"] == "TOTAL-FAILED"


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        (b"", 400, "EMPTY_BODY"),
        (b"hello", 400, "NOT_A_PDF"),
        (b"PK\x03\x04....", 415, "UNSUPPORTED_FORMAT"),
        (b"%PDF-1.7" + bytes(2_000_001), 413, "TOO_LARGE"),
    ],
    ids=["empty", "text", "zip", "large"],
)
def test_what_is_no_pdf_is_refused(bank: Any, document: bytes, status: int, code: str) -> None:
    answer = bank.call("POST", VALIDATIONS, document, content_type="application/pdf")
    assert (answer.status_code, json.loads(answer.text)["code"]) == (status, code)


def test_a_password_is_never_guessed(bank: Any, pdf: bytes) -> None:
    answer = bank.call("POST", VALIDATIONS, encrypted(pdf), content_type="application/pdf")
    assert (answer.status_code, json.loads(answer.text)["code"]) == (422, "DOC_ENCRYPTED")


@pytest.mark.parametrize(
    ("query", "code"),
    [("?policy=unknown", "POLICY_UNKNOWN"), ("?lang=ru", "REQUEST_INVALID"), ("?keep=1", "REQUEST_INVALID")],
)
def test_an_option_that_is_not_known_is_refused(bank: Any, pdf: bytes, query: str, code: str) -> None:
    answer = bank.call("POST", VALIDATIONS + query, pdf, content_type="application/pdf")
    assert (answer.status_code, json.loads(answer.text)["code"]) == (422, code)


def test_a_form_with_an_access_token_is_taken(site: Any, pdf: bytes) -> None:
    site.machine = Principal("client", "test-bank", client_id="test-bank", scopes=frozenset({"sign.validate"}))
    answer = site.app.test_client().post(
        VALIDATIONS, data={"document": (io.BytesIO(pdf), "a.pdf"), "options": '{"policy": "mn-strict", "lang": "mn"}'}
    )
    assert answer.status_code == 200 and json.loads(answer.text)["policy"]["id"] == "mn-strict"


def test_a_caller_without_the_scope_is_refused(bank: Any, organisations: Any, pdf: bytes) -> None:
    organisations.change("test-bank", scopes=frozenset({"sign.request"}))
    answer = bank.call("POST", VALIDATIONS, pdf, content_type="application/pdf")
    assert (answer.status_code, json.loads(answer.text)["code"]) == (403, "SCOPE_MISSING")


def check(site: Any, document: bytes, name: str = "a.pdf", language: str = "en") -> Any:
    browser = site.stranger()
    browser._language = language
    form = browser.get("/verify")
    assert 'id="verify-file"' in form.text
    return browser.press(form, "verify-submit", document=(io.BytesIO(document), name))


def test_a_stranger_reads_the_verdict_first(site: Any, signed: bytes) -> None:
    page = check(site, signed, name="secret/гэрээ.pdf")
    assert page.status_code == 200 and 'data-status="TOTAL-PASSED"' in page.text
    assert "Загвар Болд" in page.text and "What was not checked" in page.text and "гэрээ.pdf" in page.text
    assert "secret" not in page.text and len(page.data) < 100_000
    assert 'class="verdict passed"' in page.text and "✓" in page.text


def test_the_verdict_is_mongolian_for_those_who_read_it(site: Any, signed: bytes) -> None:
    page = check(site, signed, language="mn")
    assert "Энэ баримтын гарын үсэг бүр хүчинтэй байна." in page.text and "Юуг шалгаагүй вэ" in page.text


def test_a_forged_document_is_told_so_in_words(site: Any, signed: bytes) -> None:
    page = check(site, with_byte_changed(signed, 300))
    assert page.status_code == 200 and 'data-status="TOTAL-FAILED"' in page.text
    assert 'class="verdict failed"' in page.text and "✕" in page.text and "What you can do" in page.text


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        (b"", 400, "EMPTY_BODY"),
        (b"hello", 400, "NOT_A_PDF"),
        (b"PK\x03\x04....", 415, "UNSUPPORTED_FORMAT"),
        (b"%PDF-1.7" + bytes(300_001), 413, "TOO_LARGE"),
    ],
    ids=["empty", "text", "zip", "large"],
)
def test_a_file_that_cannot_be_checked_keeps_the_form(site: Any, document: bytes, status: int, code: str) -> None:
    page = check(site, document)
    assert page.status_code == status and code in page.text and 'id="verify-file"' in page.text


def test_a_form_far_too_large_is_refused_before_it_is_read(site: Any) -> None:
    answer = site.app.test_client().post(
        "/verify", data=bytes(2_500_000), content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 413 and "TOO_LARGE" in answer.text and 'id="verify-file"' in answer.text


def test_a_check_from_elsewhere_is_refused(site: Any, pdf: bytes) -> None:
    page = site.stranger().post("/verify", {"document": (io.BytesIO(pdf), "a.pdf")})
    assert page.status_code == 403 and "forged_form" in page.text


@pytest.mark.parametrize("data", [{}, {"document": "text"}, {"csrf_token": "x"}])
def test_a_form_without_a_file_is_no_fault(site: Any, data: dict[str, str]) -> None:
    assert site.stranger().post("/verify", data).status_code in {400, 403}
