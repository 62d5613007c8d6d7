"""OCSP over HTTP: GET and POST, headers, conditions, and failures in the protocol's own form."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from email.utils import format_datetime
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library

from ocsp.ports import Good, Revoked

MALFORMED = library.OCSPResponseStatus.MALFORMED_REQUEST


@pytest.fixture
def craft(service):
    """A request whose serial's base64 is chosen: the CertID ends with the serial."""

    def make(serial: int) -> tuple[bytes, str]:
        service.register.statuses["citizen-sign-g1", serial] = Good(service.time() - timedelta(days=1))
        encoded = service.people.request(serial, hashes.SHA256())
        return encoded, base64.b64encode(encoded).decode()

    return make


def test_get_and_post_give_the_same_bytes(service) -> None:
    request = service.people.request(service.GOOD)
    assert service.get(request).body == service.post(request).body


def test_b17_every_mangling_of_a_path_gives_the_same_bytes(service, craft) -> None:
    # 0x3EFFFFFB... in base64 gives + and / wherever the bits fall.
    encoded, text = craft(0x3FBEFBEFBEFFFFFFFFBEFBEFBEFBFFFF)
    assert "+" in text and "/" in text
    expected = service.post(encoded).body
    manglings = {
        "plain": text,
        "plus as space": text.replace("+", " "),
        "percent encoded once more": quote(text, safe=""),
        "only slashes encoded": text.replace("/", "%2F"),
        "lower-case escapes": text.replace("/", "%2f").replace("+", "%2b"),
        "no padding": text.rstrip("="),
        "slash in front": "/" + text,
    }
    for what, path in manglings.items():
        assert service.ask("/" + path).body == expected, what


def with_tail(craft, tail: str) -> tuple[bytes, str]:
    """A request whose base64 ends with ``tail``, which falls within the serial."""
    for octets in (14, 15, 16):
        _, text = craft(int.from_bytes(b"\x41" * octets))
        if not text.endswith("="):
            decoded = base64.b64decode(text[: -len(tail)] + tail)
            return craft(int.from_bytes(decoded[-octets:]))
    raise AssertionError("one of three lengths in a row ends without padding")


def collapsed(text: str, tail: str) -> str:
    return text[: -len(tail)] + tail.replace("//", "/")


def test_b17_a_double_slash_collapsed_on_the_way_is_put_back(service, craft) -> None:
    tail = "AB//CDEF"
    encoded, text = with_tail(craft, tail)
    assert text.endswith(tail)
    reply = service.ask("/" + collapsed(text, tail))
    assert reply.body == service.post(encoded).body


def test_b17_a_collapsed_path_that_may_mean_two_serials_is_not_guessed(service, craft) -> None:
    tail = "AB//CD/F"
    _, text = with_tail(craft, tail)
    assert text.endswith(tail)
    assert service.ask("/" + collapsed(text, tail)).response_status is MALFORMED


def test_a_path_that_lost_slashes_in_too_many_places_is_refused_at_once(service) -> None:
    head = base64.b64encode(bytes.fromhex("308204000000")).decode()
    text = (head + "A/" * 700)[: -(-1028 * 4 // 3) - 1]  # 1,028 octets are stated, one character is missing
    assert service.ask("/" + text).response_status is MALFORMED


def test_a_mount_below_a_script_name_reads_the_same_path(service) -> None:
    request = service.people.request(service.GOOD)
    text = "/" + base64.b64encode(request).decode()
    reply = service.ask("", SCRIPT_NAME="/ocsp", PATH_INFO=text)
    assert reply.body == service.post(request).body


def test_headers_of_an_answer(service) -> None:
    reply = service.get(service.people.request(service.GOOD))
    assert reply.status == 200
    assert reply.headers == {
        "Content-Type": "application/ocsp-response",
        "Cache-Control": "max-age=10, public, no-transform, must-revalidate",
        "Last-Modified": "Sat, 21 Nov 2026 09:30:15 GMT",
        "Expires": "Sat, 21 Nov 2026 21:25:15 GMT",
        "ETag": f'"{hashlib.sha256(reply.body).hexdigest()}"',
        "Content-Length": str(len(reply.body)),
    }


def test_max_age_ends_with_next_update(make_service) -> None:
    service = make_service(max_age_seconds=10**6, reuse_seconds=0)
    reply = service.get(service.people.request(service.GOOD))
    left = reply.ocsp.next_update_utc - service.time()
    assert f"max-age={int(left.total_seconds())}," in reply.headers["Cache-Control"]


def test_a_nonced_answer_is_stored_nowhere(service) -> None:
    builder = library.OCSPRequestBuilder().add_certificate(
        service.people.leaf(service.GOOD),
        service.people.certificate,
        hashes.SHA1(),  # noqa: S303
    )
    request = builder.add_extension(x509.OCSPNonce(b"n" * 16), critical=False).build().public_bytes(Encoding.DER)
    reply = service.get(request, HTTP_IF_NONE_MATCH="*")
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
    assert "Expires" not in reply.headers


def test_an_unchanged_answer_is_304_by_tag_and_by_date(service) -> None:
    request = service.people.request(service.GOOD)
    first = service.get(request)
    by_tag = service.get(request, HTTP_IF_NONE_MATCH=f'"other", W/{first.headers["ETag"]}')
    by_date = service.get(request, HTTP_IF_MODIFIED_SINCE=first.headers["Last-Modified"])
    assert [(reply.status, reply.body) for reply in (by_tag, by_date)] == [(304, b"")] * 2
    assert by_tag.headers["ETag"] == first.headers["ETag"]
    assert service.get(request, HTTP_IF_NONE_MATCH='"other"').status == 200
    assert service.get(request, HTTP_IF_MODIFIED_SINCE="yesterday").status == 200


def test_a_revocation_within_the_same_second_is_not_hidden_by_a_date(service) -> None:
    request = service.people.request(service.GOOD)
    first = service.get(request)
    service.register.statuses["citizen-sign-g1", service.GOOD] = Revoked(service.time())
    for headers in (
        {"HTTP_IF_NONE_MATCH": first.headers["ETag"]},
        {"HTTP_IF_MODIFIED_SINCE": first.headers["Last-Modified"]},
        {"HTTP_IF_MODIFIED_SINCE": format_datetime(service.time() + timedelta(days=1), usegmt=True)},
    ):
        reply = service.get(request, **headers)
        assert reply.status == 200
        assert reply.ocsp.certificate_status is library.OCSPCertStatus.REVOKED


def test_head_has_headers_and_no_body(service) -> None:
    text = base64.b64encode(service.people.request(service.GOOD)).decode()
    reply = service.ask("/" + text, method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 300


@pytest.mark.parametrize(
    "path", ["", "/", "/AAAA", "/<script>", "/MFEw!", "/MIIA", "/MP////", "/M", "/%", "/" + "M" * 50_000]
)
def test_a_path_that_is_no_request_is_malformed(service, path: str) -> None:
    reply = service.ask(path)
    assert (reply.status, reply.response_status) == (400, MALFORMED)
    assert reply.headers["Content-Type"] == "application/ocsp-response"


def test_failures_are_ocsp_statuses_nobody_keeps(service) -> None:
    request = service.people.request(service.GOOD)
    cases = {
        400: service.post(b""),
        405: service.ask("", request, "PUT"),
        413: service.post(b"\x30" * 10_001),
        415: service.post(request, CONTENT_TYPE="text/html"),
    }
    for status, reply in cases.items():
        assert (reply.status, reply.response_status) == (status, MALFORMED)
        assert reply.headers["Cache-Control"] == "max-age=0, no-cache"
    assert cases[405].headers["Allow"] == "GET, HEAD, POST"
    assert service.post(request, CONTENT_LENGTH="twelve").response_status is MALFORMED
    assert service.post(request, CONTENT_LENGTH="999999999").status == 413


def test_a_fault_of_ours_is_internal_error_and_never_a_page(service) -> None:
    def broken(issuer: str, serial: int) -> None:
        raise RuntimeError("the unforeseen")

    service.register.status = broken
    reply = service.post(service.people.request(service.GOOD))
    assert (reply.status, reply.response_status) == (200, library.OCSPResponseStatus.INTERNAL_ERROR)
