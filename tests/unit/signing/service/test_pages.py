"""The ceremony as its signer meets it, through the real door and templates."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core.errors import Unavailable
from signing.ports import CertificateStanding

PIN = "738264"
SARAA = "5b0c8a8e-0000-4000-8000-000000000002"
AT = {"page": 1, "x": 36, "y": 36}
SIGNER = {"sub": "pairwise-sub-of-bold"}


@pytest.fixture
def browser(site: Any) -> Any:
    """Bold's, with a credential."""
    browser = site.citizen()
    page = browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    assert page.status_code == 200 and 'data-standing="good"' in page.text
    return browser


def test_a_citizen_signs_what_was_shown(browser: Any, site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    made = bank.request(pdf, signers=[SIGNER | {"placements": [AT]}])
    path = link(made)
    first = browser.get(path)
    assert "Page 1 of 2" in first.text and 'id="sign-review-done"' not in first.text
    assert bank.show(made["id"])["state"] == "opened"
    image = browser.get(f"{path}/pages/1.png")
    assert image.content_type == "image/png" and image.data.startswith(b"\x89PNG")
    summary = walk(browser, path)
    assert "Test Bank" in summary.text and "З.Болд" in summary.text and "Зээлийн гэрээ" in summary.text
    assert bank.show(made["id"])["state"] == "reviewed"
    sdr = site.parts.sign_requests.get(made["id"]).signer.sdr
    shown = re.search(r'id="sign-fragment">([0-9a-f ]+)<', summary.text)
    assert shown and shown[1] == " ".join(sdr[i : i + 4] for i in range(0, 16, 4))
    done = browser.press(summary, "sign-confirm", pin=PIN)
    assert done.status_code == 200 and 'id="sign-done"' in done.text and 'id="sign-verify"' in done.text
    signed = browser.get(f"{path}/document.pdf").data
    assert signed.startswith(pdf) and len(signed) > len(pdf)
    status = bank.show(made["id"])
    assert (status["state"], status["level"]) == ("signed", "B-LT")
    assert "signing_url" not in status["signers"][0]


def test_sign_is_not_offered_before_every_page_was_shown(browser: Any, bank: Any, pdf: bytes, link: Any) -> None:
    made = bank.request(pdf)
    path = link(made)
    first = browser.get(path)
    jumped = browser.press(first, "sign-next", then="finish")  # pressing a button that is not there
    assert "Page 2 of 2" in jumped.text and 'id="sign-confirm"' not in jumped.text
    assert browser.get(f"{path}/summary").request.path == path
    assert bank.show(made["id"])["state"] == "opened"
    browser.get(f"{path}/pages/2.png")  # fetching a picture is not stepping through
    assert 'id="sign-confirm"' not in browser.get(path).text


def test_of_a_long_document_the_places_are_shown(browser: Any, bank: Any, make_pages: Any, link: Any) -> None:
    made = bank.request(make_pages(12), signers=[SIGNER | {"placements": [AT | {"page": 7}]}])
    path = link(made)
    first = browser.get(path)
    assert 'id="sign-review-done"' not in first.text
    page = browser.press(first, "sign-next")
    assert 'id="sign-review-done"' not in page.text
    seventh = browser.get(f"{path}?page=7")
    assert 'id="sign-review-done"' in seventh.text
    assert 'id="sign-confirm"' in browser.press(seventh, "sign-review-done").text


@pytest.mark.parametrize("page", ["0", "-1", "99", "abc", "1e9", "９", ""])
def test_odd_page_numbers_show_some_page(browser: Any, bank: Any, pdf: bytes, link: Any, page: str) -> None:
    assert browser.get(f"{link(bank.request(pdf))}?page={page}").status_code == 200


def test_nobody_is_sent_to_log_in_and_comes_back(site: Any, bank: Any, pdf: bytes, link: Any) -> None:
    path = link(bank.request(pdf))
    answer = site.stranger().get(path, follow=False)
    assert answer.status_code == 303 and answer.headers["Location"] == f"/login?return_to={path}"
    assert site.stranger().get("/me/credentials", follow=False).headers["Location"].startswith("/login?")


def test_another_person_sees_only_that_it_is_not_theirs(site: Any, bank: Any, pdf: bytes, link: Any) -> None:
    made = bank.request(pdf)
    path = link(made)
    browser = site.citizen(SARAA)
    for address in (path, f"{path}/summary", f"{path}/pages/1.png", f"{path}/document.pdf"):
        page = browser.get(address)
        assert page.status_code == 403 and "WRONG_PERSON" in page.text and "Зээлийн" not in page.text
    assert 'id="sign-leave"' in page.text
    assert bank.show(made["id"])["state"] == "created"


def test_a_weak_log_in_does_not_reach_the_document(site: Any, bank: Any, pdf: bytes, link: Any) -> None:
    page = site.low().get(link(bank.request(pdf)))
    assert page.status_code == 403 and "ASSURANCE_TOO_LOW" in page.text
    assert site.low().get("/me/credentials").status_code == 403


@pytest.mark.parametrize("token", ["x", "a" * 22, "a" * 500, "%00", "..%2f..", "й"])
def test_an_unknown_link_says_so(site: Any, token: str) -> None:
    page = site.citizen().get(f"/sign/{token}")
    assert page.status_code == 404


def test_refusing_is_final_and_told(browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    made, other = bank.request(pdf), bank.request(pdf)
    page = browser.press(browser.get(link(made)), "sign-reject")
    assert 'id="sign-state"' in page.text and "You refused" in page.text
    assert bank.show(made["id"])["state"] == "rejected"
    summary = walk(browser, link(other))
    browser.press(summary, "sign-reject", reason="wrong amount")
    assert bank.show(other["id"])["rejection_reason"] == "wrong amount"
    again = browser.press(summary, "sign-confirm", pin=PIN)
    assert "You refused" in again.text and bank.show(other["id"])["state"] == "rejected"


def test_a_wrong_pin_keeps_the_ceremony_alive(browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    made = bank.request(pdf)
    summary = walk(browser, link(made))
    for _ in range(4):
        summary = browser.press(summary, "sign-confirm", pin="951735")
        assert summary.status_code == 403 and "PIN_INVALID" in summary.text and "951735" not in summary.text
    summary = browser.press(summary, "sign-confirm", pin="951735")
    assert summary.status_code == 403 and "PIN_LOCKED" in summary.text
    assert bank.show(made["id"])["state"] == "reviewed"
    bank.clock.move(minutes=15)
    assert 'id="sign-done"' in browser.press(summary, "sign-confirm", pin=PIN).text


def test_a_second_tab_and_reload_never_sign_twice(
    browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any, site: Any
) -> None:
    made = bank.request(pdf)
    summary = walk(browser, link(made))
    first = browser.press(summary, "sign-confirm", pin=PIN)
    before = bank.show(made["id"])
    second = browser.press(summary, "sign-confirm", pin=PIN)
    assert 'id="sign-done"' in first.text and 'id="sign-done"' in second.text
    assert bank.show(made["id"]) == before


@pytest.mark.parametrize("action", ["pages/1", "confirm", "reject"])
def test_a_form_from_elsewhere_does_nothing(browser: Any, bank: Any, pdf: bytes, link: Any, action: str) -> None:
    made = bank.request(pdf)
    browser.get(link(made))
    page = browser.post(f"{link(made)}/{action}", {"pin": PIN})
    assert page.status_code == 403 and "forged_form" in page.text
    assert bank.show(made["id"])["state"] == "opened"


def test_without_a_credential_one_is_made_on_the_way(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    browser = site.citizen()
    made = bank.request(pdf)
    page = walk(browser, link(made))
    assert page.request.path == "/me/credentials" and 'id="credential-create"' in page.text
    weak = browser.press(page, "credential-create", pin="123456", pin_repeat="123456")
    assert weak.status_code == 422 and "PIN_WEAK" in weak.text
    differing = browser.press(weak, "credential-create", pin=PIN, pin_repeat="738265")
    assert differing.status_code == 422 and "PIN_MISMATCH" in differing.text
    back = browser.press(differing, "credential-create", pin=PIN, pin_repeat=PIN)
    assert back.request.path == link(made)
    summary = walk(browser, link(made))
    assert 'id="sign-done"' in browser.press(summary, "sign-confirm", pin=PIN).text


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/sign/../x", "/me", "/sign/short"])
def test_the_way_back_leads_to_a_document_only(site: Any, target: str) -> None:
    browser = site.citizen()
    page = browser.get(f"/me/credentials?return_to={target}")
    assert f'"{target}"' not in page.text and 'name="return_to"' not in page.text
    answer = browser.press(page, "credential-create", pin=PIN, pin_repeat=PIN, return_to=target)
    assert answer.request.path == "/me/credentials"


@pytest.mark.parametrize(
    ("standing", "code"),
    [
        (CertificateStanding.REVOKED, "CERTIFICATE_REVOKED"),
        (CertificateStanding.SUSPENDED, "CERTIFICATE_SUSPENDED"),
        (CertificateStanding.EXPIRED, "CERTIFICATE_EXPIRED"),
    ],
)
def test_a_certificate_that_may_not_sign_is_told_before_the_reading(
    browser: Any, bank: Any, pdf: bytes, link: Any, authority: Any, standing: CertificateStanding, code: str
) -> None:
    authority.revoke_all(standing)
    made = bank.request(pdf)
    page = browser.get(link(made))
    assert page.status_code == 409 and code in page.text and 'id="to-credentials"' in page.text
    shown = bank.show(made["id"])
    assert shown["signers"][0]["code"] == code and shown["state"] == "opened"
    assert "You refused" in browser.press(page, "sign-reject").text


def test_a_certificate_revoked_while_reading_signs_nothing(
    browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any, authority: Any
) -> None:
    made = bank.request(pdf)
    summary = walk(browser, link(made))
    authority.revoke_all()
    page = browser.press(summary, "sign-confirm", pin=PIN)
    assert page.status_code == 409 and "CERTIFICATE_REVOKED" in page.text
    assert bank.show(made["id"])["state"] == "reviewed"
    # A new credential goes on with the same request: the revision is prepared again for its certificate.
    created = browser.press(browser.get("/me/credentials"), "credential-create", pin="482915", pin_repeat="482915")
    assert 'data-standing="good"' in created.text and 'data-standing="revoked"' in created.text
    summary = walk(browser, f"{link(made)}?page=1")
    assert 'id="sign-done"' in browser.press(summary, "sign-confirm", pin="482915").text


def test_a_silent_dependency_is_found_before_the_key_is_used(
    browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any, authority: Any
) -> None:
    made = bank.request(pdf)
    summary = walk(browser, link(made))
    authority.silent = True
    page = browser.press(summary, "sign-confirm", pin=PIN)
    assert page.status_code == 503 and "DEPENDENCY_UNAVAILABLE" in page.text and page.headers["Retry-After"]
    assert bank.show(made["id"])["state"] == "reviewed"
    authority.silent = False
    assert 'id="sign-done"' in browser.press(summary, "sign-confirm", pin=PIN).text


def test_a_fault_after_approval_is_a_state_with_a_code(
    browser: Any, site: Any, bank: Any, pdf: bytes, walk: Any, link: Any, tsa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bank.request(pdf)
    summary = walk(browser, link(made))

    def silent(_digest: bytes, _algorithm: str = "sha256") -> bytes:
        raise Unavailable("no answer")

    tsa.check()
    monkeypatch.setattr(tsa, "token", silent)
    page = browser.press(summary, "sign-confirm", pin=PIN)
    assert page.status_code == 503
    shown = bank.show(made["id"])
    assert (shown["state"], shown["code"]) == ("failed", "temporarily_unavailable")
    assert "Signing did not work" in browser.get(link(made)).text


def test_the_way_back_to_the_organisation_says_how_it_ended(
    browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any
) -> None:
    made = bank.request(pdf, return_url="https://bank.example/back")
    done = browser.press(walk(browser, link(made)), "sign-confirm", pin=PIN)
    assert (
        f'href="https://bank.example/back?request_id={made["id"]}&amp;state=signed'
        '&amp;iss=http%3A%2F%2Flocalhost%3A8080"' in done.text
    )


def test_a_withdrawn_request_says_so(browser: Any, bank: Any, pdf: bytes, link: Any) -> None:
    made = bank.request(pdf)
    bank.call("DELETE", f"/api/v1/sign-requests/{made['id']}")
    page = browser.get(link(made))
    assert page.status_code == 200 and "Withdrawn" in page.text


def test_titles_are_shown_as_text(browser: Any, bank: Any, pdf: bytes, link: Any) -> None:
    page = browser.get(link(bank.request(pdf, title="<script>alert(1)</script>")))
    assert "<script>" not in page.text and "&lt;script&gt;" in page.text


def test_pages_are_mongolian_for_those_who_read_it(site: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    browser = site.citizen()
    browser._language = "mn"
    page = browser.press(browser.get("/me/credentials"), "credential-create", pin=PIN, pin_repeat=PIN)
    assert "Гэрчилгээ: хүчинтэй" in page.text
    summary = walk(browser, link(bank.request(pdf)))
    assert "Туршилтын банк" in summary.text and "ПИН кодоор баталгаажуулах" in summary.text
    assert "Confirm" not in summary.text and "Sign<" not in summary.text


def test_no_page_needs_script_or_is_large(browser: Any, bank: Any, pdf: bytes, walk: Any, link: Any) -> None:
    made = bank.request(pdf)
    for page in (browser.get(link(made)), walk(browser, link(made)), browser.get("/me/credentials")):
        assert not re.search(r"<script|\son\w+=|javascript:", page.text)
        assert len(page.data) < 100_000
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"


@pytest.fixture
def make_pages() -> Any:
    def make(pages: int) -> bytes:
        from tests.support.pdf import contract

        return contract(pages=pages)

    return make
