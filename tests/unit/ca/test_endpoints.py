"""CRLs and issuers' certificates over HTTP: exact octets, caching headers, nothing but DER."""

from __future__ import annotations

from typing import Any

import pytest

from ca.endpoints import wsgi

CRL = "/crl/citizen-sign-g1/0.crl"
AIA = "/aia/citizen-sign-g1.cer"


def ask(room, path: str, method: str = "GET", **headers: str) -> tuple[str, dict[str, str], bytes]:
    answer: dict[str, Any] = {}

    def start_response(status: str, given: list[tuple[str, str]]) -> None:
        answer.update(status=status, headers=dict(given))

    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": ""}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    body = b"".join(wsgi(room.parts)(environ, start_response))
    return answer["status"], answer["headers"], body


def test_a_crl_is_served_as_published(room) -> None:
    status, headers, body = ask(room, CRL)
    assert status == "200 OK"
    assert body == room.parts.crls.current("citizen-sign-g1").der
    assert headers["Content-Type"] == "application/pkix-crl"
    assert headers["Cache-Control"] == "public, max-age=600, no-transform"
    assert headers["Content-Length"] == str(len(body))


def test_an_issuers_certificate_is_served(room) -> None:
    status, headers, body = ask(room, AIA)
    assert (status, headers["Content-Type"]) == ("200 OK", "application/pkix-cert")
    assert body == room.parts.hierarchy.authority("citizen-sign-g1").der


@pytest.mark.parametrize("path", [CRL, AIA])
def test_what_is_cached_is_not_sent_again(room, path: str) -> None:
    _, headers, _ = ask(room, path)
    tag, modified = headers["ETag"], headers["Last-Modified"]
    for condition in (
        {"if_none_match": tag},
        {"if_none_match": f'"other", W/{tag}'},
        {"if_none_match": "*"},
        {"if_modified_since": modified},
    ):
        status, again, body = ask(room, path, **condition)
        assert (status, body, again["ETag"]) == ("304 Not Modified", b"", tag)
    for condition in (
        {"if_none_match": '"other"', "if_modified_since": modified},
        {"if_modified_since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"if_modified_since": "yesterday"},
    ):
        assert ask(room, path, **condition)[0] == "200 OK"


def test_head_sends_headers_only(room) -> None:
    _, headers, body = ask(room, CRL)
    status, same, nothing = ask(room, CRL, "HEAD")
    assert (status, nothing) == ("200 OK", b"")
    assert same == headers and body


def test_without_its_database_it_asks_to_come_back(room) -> None:
    room.database.close()
    for file in room.folder.glob("tamga.sqlite*"):
        file.unlink()
    status, headers, body = ask(room, CRL)
    assert (status, headers["Retry-After"], body) == ("503 Service Unavailable", "10", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(room, method: str) -> None:
    status, headers, body = ask(room, CRL, method)
    assert (status, headers["Allow"], body) == ("405 Method Not Allowed", "GET, HEAD", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/crl/",
        "/crl/citizen-sign-g1/1.crl",
        "/crl/nobody-g1/0.crl",
        "/crl/citizen-sign-g1/0.crl\n",
        "/crl/../aia/citizen-sign-g1.cer",
        "/aia/nobody-g1.cer",
        "/aia/" + "a" * 300 + ".cer",
        "/aia/ө.cer",
        "/elsewhere",
    ],
)
def test_what_is_not_there_is_an_empty_404(room, path: str) -> None:
    status, headers, body = ask(room, path)
    assert (status, body) == ("404 Not Found", b"")
    assert "html" not in headers.get("Content-Type", "")
