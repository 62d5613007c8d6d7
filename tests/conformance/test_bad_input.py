"""Whatever is sent to whichever door, the answer is a coded refusal in that protocol's own form, never our error."""

from __future__ import annotations

import re
import secrets
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography.x509 import ocsp

from tests.support.pdf import contract, encrypted
from tests.support.routes import Route, routes
from tests.support.web import Answer, Walker
from tests.support.world import World

MEBIBYTE = 1024 * 1024
LARGE = 50 * MEBIBYTE
# RFC 6749 5.2 and its relatives answer in JSON with `error`.
OAUTH_JSON = ("/oauth2/token", "/oauth2/userinfo", "/oauth2/jwks", "/.well-known/")
MALFORMED_DER = (
    b"\x30",
    b"\x30\x82\xff\xff\x00",
    b"\x30\x80\x30\x80\x00\x00",
    b"\x30\x84\x7f\xff\xff\xff" + b"\x00" * 64,
    b"\x04\x03abc",
    bytes(range(256)),
    b"\x30\x03\x02\x01\x05",
    b"\x30" * 2000,
)


@pytest.fixture(scope="module")
def doors(world: World) -> list[Route]:
    return routes(world.instance)


@pytest.fixture(autouse=True)
def no_internal_error(world: World) -> Iterator[None]:
    """Nothing that a test sends may reach the log as an error nobody foresaw."""
    before = world.instance.log.stat().st_size
    yield
    with world.instance.log.open("rb") as log:
        log.seek(before)
        written = log.read().decode(errors="replace")
    assert "unforeseen_error" not in written and "Traceback" not in written, written[-3000:]


@dataclass(frozen=True)
class Wrong:
    """One thing that was not refused as it should be."""

    what: str
    answer: Answer

    def __str__(self) -> str:
        return f"{self.what}: {self.answer.status} {self.answer.content_type} {self.answer.text[:200]!r}"


def address(route: Route) -> str:
    """A concrete address for a route: well-formed, of nothing that exists."""
    path = re.sub(r"<int:[^>]+>", "1", route.path)
    path = path.replace("<path:filename>", "tamga.css")
    return re.sub(r"<[^>]+>", "AAAAAAAAAAAAAAAAAAAAAA", path)


def refused_well(route: Route, answer: Answer, language: str) -> bool:
    """Whether an answer is a refusal in the form of the door it came from, or no refusal because none was due."""
    if answer.status >= 500:
        return False
    if route.path.startswith("/ocsp"):
        if answer.content_type == "application/ocsp-response":
            status = ocsp.load_der_ocsp_response(answer.body).response_status
            return answer.status < 500 and status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        return 400 <= answer.status < 500
    if route.path == "/tsa" and answer.status < 500:
        if answer.content_type != "application/timestamp-reply":
            return answer.status >= 400
        # PKIStatus rejection (RFC 3161 2.4.2): SEQUENCE { SEQUENCE { INTEGER 2, … } }, and no token.
        return b"\x02\x01\x02" in answer.body[:8]
    if answer.status < 400:
        return True
    if route.path.startswith("/acme/"):  # RFC 8555 6.7
        problem = answer.json() if answer.content_type == "application/problem+json" else {}
        return str(problem.get("type", "")).startswith("urn:ietf:params:acme:error:")
    if route.path.startswith("/.well-known/est/"):
        return answer.content_type == "text/plain" and bool(answer.text.strip())
    if route.path.startswith(("/api/", "/ca/")):
        problem = answer.json() if answer.content_type == "application/problem+json" else {}
        return problem.get("status") == answer.status and bool(problem.get("code"))
    if route.path.startswith(OAUTH_JSON):
        return answer.content_type == "application/json" and bool(answer.json().get("error"))
    if route in BARE_REFUSALS:
        return True
    return answer.content_type == "text/html" and answer.language == language


NOT_PAGES = ("/api/", "/ca/", "/acme/", "/.well-known/", "/oauth2/", "/ocsp", "/tsa")
BARE_REFUSALS = tuple(
    Route(path, ("GET",)) for path in ("/aia/<issuer>.cer", "/crl/<issuer>/<shard>.crl", "/healthz", "/readyz")
)


@pytest.mark.parametrize("language", ["mn", "en"])
@pytest.mark.parametrize(
    ("what", "body", "kind"),
    [
        ("empty", b"", None),
        ("empty form", b"", "application/x-www-form-urlencoded"),
        ("text", b"not what was asked for", "text/plain"),
        ("JSON of another shape", b"[[[[1e999, null]]]]", "application/json"),
        ("broken JSON", b'{"a":', "application/json"),
        ("broken multipart", b"--x\r\nContent-Disposition: form-data; name=", "multipart/form-data; boundary=x"),
        ("multipart without boundary", b"abc", "multipart/form-data"),
        ("binary form", bytes(range(256)), "application/x-www-form-urlencoded"),
        ("doubled parameters", b"client_id=a&client_id=b&scope=c&scope=d", "application/x-www-form-urlencoded"),
        ("unknown type", b"x", "application/x-unheard-of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_post_of_the_wrong_kind_is_refused(
    world: World, doors: list[Route], language: str, what: str, body: bytes, kind: str | None
) -> None:
    http = Walker(world.instance.base_url, language=language)
    wrong = []
    for route in doors:
        # A body that was refused unread leaves the connection useless: each question has its own.
        headers = {"Connection": "close"} | ({"Content-Type": kind} if kind else {})
        answer = http.post(address(route), body=body, headers=headers)
        accepted = answer.status < 300 and route.path not in ("/ocsp", "/tsa")
        if accepted or not refused_well(route, answer, language):
            wrong.append(Wrong(f"POST {route.path} {what}", answer))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_a_method_that_a_door_does_not_know_is_refused(world: World, doors: list[Route], method: str) -> None:
    http = Walker(world.instance.base_url, language="mn")
    paths = {route.path for route in doors if method in route.methods}
    wrong = []
    for route in doors:
        answer = http.request(method, address(route))
        refused = answer.status < 500 and (route.path in paths or method == "OPTIONS" or answer.status >= 300)
        if not refused:
            wrong.append(Wrong(f"{method} {route.path}", answer))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    "query",
    [
        "x=%00%ff%fe",
        "page=-1&lang=xx&wait=nan",
        "client_id=%F0%9F%92%A9&redirect_uri=javascript:alert(1)",
        "a=" + "b" * 6000,
    ],
    ids=["bytes", "numbers", "addresses", "long"],
)
def test_a_get_with_a_wrong_query_is_never_an_internal_error(world: World, doors: list[Route], query: str) -> None:
    http = Walker(world.instance.base_url)
    answers = [(route, http.get(f"{address(route)}?{query}")) for route in doors if "GET" in route.methods]
    wrong = [Wrong(f"GET {route.path}?{query[:40]}", answer) for route, answer in answers if answer.status >= 500]
    assert not wrong, "\n".join(map(str, wrong))


def send_large(world: World, path: str, kind: str, octets: int) -> bytes:
    """The first line of the answer to a body that is announced and sent until somebody says stop."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost:{world.instance.port}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {octets}\r\nAuthorization: Bearer none\r\nConnection: close\r\n\r\n"
    )
    chunk = b"%PDF-1.7\n" + b"0" * (256 * 1024 - 9)
    with socket.create_connection(("127.0.0.1", world.instance.port), timeout=60) as connection:
        connection.sendall(head.encode())
        sent = 0
        while sent < octets:
            readable, _, _ = select.select([connection], [], [], 0)
            if readable:
                break
            try:
                connection.sendall(chunk[: octets - sent])
            except OSError:
                break
            sent += len(chunk)
        try:
            return connection.recv(4096).split(b"\r\n")[0]
        except ConnectionResetError:
            # Refused before it was read, and closed while we were still sending.
            return b"HTTP/1.1 413 connection closed"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/pdf", "application/ocsp-request"])
def test_fifty_megabytes_are_refused_everywhere(world: World, doors: list[Route], kind: str) -> None:
    refused = re.compile(rb"HTTP/1\.1 (4\d\d|30\d) ")
    answers = {route.path: send_large(world, address(route), kind, LARGE) for route in doors}
    wrong = {path: line for path, line in answers.items() if not refused.match(line)}
    # A time-stamp or status question of another type or size may also be answered in its own protocol.
    for path in ("/ocsp", "/tsa"):
        if wrong.get(path, b"").startswith(b"HTTP/1.1 200"):
            del wrong[path]
    assert not wrong
    assert world.instance.healthy()


def test_malformed_der_is_a_malformed_request(world: World) -> None:
    http = Walker(world.instance.base_url)
    for sent in (*MALFORMED_DER, secrets.token_bytes(300)):
        answer = http.post("/ocsp", body=sent, headers={"Content-Type": "application/ocsp-request"})
        # RFC 6960 A.2 fixes the body; RFC 9919 5 lets the status be 4xx so that caches keep it apart.
        assert answer.status in (200, 400), Wrong(sent[:20].hex(), answer)
        assert answer.content_type == "application/ocsp-response"
        status = ocsp.load_der_ocsp_response(answer.body).response_status
        assert status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_a_malformed_time_stamp_question_is_rejected(world: World) -> None:
    http = Walker(world.instance.base_url)
    for sent in (*MALFORMED_DER, secrets.token_bytes(300)):
        answer = http.post("/tsa", body=sent, headers={"Content-Type": "application/timestamp-query"})
        assert (answer.status, answer.content_type) == (200, "application/timestamp-reply"), Wrong(
            sent[:20].hex(), answer
        )
        assert b"\x02\x01\x02" in answer.body[:8], answer.body.hex()


@pytest.mark.parametrize(
    ("what", "document", "status", "code"),
    [
        ("nothing", b"", 400, "EMPTY_BODY"),
        ("text", b"hello", 400, "NOT_A_PDF"),
        ("an archive", b"PK\x03\x04" + b"\x00" * 100, 415, "UNSUPPORTED_FORMAT"),
        ("XML", b"<?xml version='1.0'?><a/>", 415, "UNSUPPORTED_FORMAT"),
        ("an encrypted PDF", encrypted(contract()), 422, "DOC_ENCRYPTED"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_document_that_cannot_be_read_is_refused_by_name(
    world: World, what: str, document: bytes, status: int, code: str
) -> None:
    validated = world.validate(document)
    assert (validated.status, validated.json().get("code")) == (status, code), Wrong(f"validate {what}", validated)
    asked = world.bank.ask_to_sign(document, world.subject)
    assert (asked.status, asked.json().get("code")) == (status, code), Wrong(f"sign {what}", asked)


@pytest.mark.parametrize(
    "document", [b"%PDF-1.7\n", b"%PDF-1.7\n%%EOF", contract()[:3000]], ids=["header", "end", "cut"]
)
def test_a_broken_pdf_is_judged_not_crashed_on(world: World, document: bytes) -> None:
    validated = world.validate(document)
    assert validated.status in (200, 400, 422), Wrong("validate", validated)
    assert "TOTAL-PASSED" not in validated.text
    asked = world.bank.ask_to_sign(document, world.subject)
    assert (asked.status, asked.json()["code"]) in ((422, "DOC_UNREADABLE"), (400, "NOT_A_PDF")), Wrong("sign", asked)


@pytest.mark.parametrize("language", ["mn", "en"])
def test_a_form_without_its_token_is_refused_in_the_readers_language(
    world: World, doors: list[Route], language: str
) -> None:
    http = Walker(world.instance.base_url, language=language)
    world_pages = [
        route
        for route in doors
        if "POST" in route.methods and not route.path.startswith(NOT_PAGES)
    ]
    assert {"/login", "/me/credentials"} <= {route.path for route in world_pages}
    wrong = []
    for route in world_pages:
        answer = http.post(address(route), form={"username": "x", "password": "y", "pin": "123456"})
        in_words = answer.content_type == "text/html" and answer.language == language and len(answer.words) > 40
        if answer.status != 403 or not in_words:
            wrong.append(Wrong(f"POST {route.path}", answer))
    assert not wrong, "\n".join(map(str, wrong))


def test_the_page_of_checks_refuses_in_the_readers_language(world: World) -> None:
    for language, document in (("mn", b""), ("en", b"hello"), ("mn", encrypted(contract()))):
        http = Walker(world.instance.base_url, language=language)
        page = http.open("/verify")
        answer = http.submit(
            page, page.form("verify-submit"), files={"document": ("a.pdf", document, "application/pdf")}
        )
        assert 400 <= answer.status < 500, Wrong("verify", answer)
        assert answer.language == language
        assert "verify-code" in answer.ids
