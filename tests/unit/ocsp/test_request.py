"""Reading an OCSPRequest: what is taken, what is refused, and that CertIDs stay as they came."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library

from ocsp.errors import MalformedRequest
from ocsp.request import parse_request
from ocsp.response import SEQUENCE, der

NONCE = "06092b0601050507300102"
TRUE = "0101ff"


def request_of(*singles: bytes, extensions: bytes = b"", head: bytes = b"", signature: bytes = b"") -> bytes:
    tail = der(0xA2, der(SEQUENCE, extensions)) if extensions else b""
    return der(SEQUENCE, der(SEQUENCE, head, der(SEQUENCE, *singles), tail), signature)


def cert_id(serial: bytes = b"\x01", parameters: str = "0500") -> bytes:
    algorithm = der(SEQUENCE, bytes.fromhex("06052b0e03021a" + parameters))
    return der(SEQUENCE, algorithm, der(4, b"n" * 20), der(4, b"k" * 20), der(2, serial))


def extension(oid: str, value: bytes, critical: str = "") -> bytes:
    return der(SEQUENCE, bytes.fromhex(oid), bytes.fromhex(critical), der(4, value))


def nonce_of(length: int) -> bytes:
    return extension(NONCE, der(4, b"\x5a" * length))


SINGLE = der(SEQUENCE, cert_id())


@pytest.mark.parametrize("parameters", ["0500", ""])
def test_b4_a_cert_id_keeps_its_bytes_with_null_parameters_or_none(parameters: str) -> None:
    encoded = cert_id(parameters=parameters)
    parsed = parse_request(request_of(der(SEQUENCE, encoded)))
    assert parsed.cert_ids[0].encoded == encoded
    assert (parsed.cert_ids[0].hash_name, parsed.cert_ids[0].serial) == ("sha1", 1)


def test_b16_as_many_as_64_certificates_are_asked_about_at_once() -> None:
    singles = [der(SEQUENCE, cert_id(bytes([1, number]))) for number in range(64)]
    assert [each.serial for each in parse_request(request_of(*singles)).cert_ids] == list(range(256, 320))


@pytest.mark.parametrize("count", [0, 65])
def test_no_certificate_or_65_are_malformed(count: int) -> None:
    with pytest.raises(MalformedRequest, match="1 to 64"):
        parse_request(request_of(*[SINGLE] * count))


@pytest.mark.parametrize(
    ("length", "echoed"), [(1, False), (15, False), (16, True), (32, True), (33, True), (127, True), (128, True)]
)
def test_b15_nonces_of_1_to_128_octets_are_taken_and_from_16_on_echoed(length: int, echoed: bool) -> None:
    parsed = parse_request(request_of(SINGLE, extensions=nonce_of(length)))
    assert parsed.nonce == (b"\x5a" * length if echoed else None)


@pytest.mark.parametrize("length", [0, 129, 400])
def test_b14_an_empty_or_overlong_nonce_is_malformed(length: int) -> None:
    with pytest.raises(MalformedRequest, match="1 to 128 octets"):
        parse_request(request_of(SINGLE, extensions=nonce_of(length)))


def test_b14_two_nonces_are_malformed() -> None:
    with pytest.raises(MalformedRequest, match="twice"):
        parse_request(request_of(SINGLE, extensions=nonce_of(16) * 2))


def test_a_nonce_that_is_no_octet_string_is_malformed() -> None:
    with pytest.raises(MalformedRequest, match="OCTET STRING"):
        parse_request(request_of(SINGLE, extensions=extension(NONCE, b"\x5a" * 16)))


def test_an_unknown_critical_extension_is_malformed_and_a_plain_one_is_ignored() -> None:
    plain, critical = extension("06032a0304", b"\x05\x00"), extension("06032a0304", b"\x05\x00", TRUE)
    assert parse_request(request_of(SINGLE, extensions=plain)).nonce is None
    with pytest.raises(MalformedRequest, match=r"critical extension 1\.2\.3\.4"):
        parse_request(request_of(SINGLE, extensions=critical))
    with pytest.raises(MalformedRequest, match="critical"):
        parse_request(request_of(der(SEQUENCE, cert_id(), der(0xA0, der(SEQUENCE, critical)))))


def test_a_critical_nonce_is_understood() -> None:
    critical = extension(NONCE, der(4, b"\x5a" * 20), TRUE)
    assert parse_request(request_of(SINGLE, extensions=critical)).nonce == b"\x5a" * 20


def test_a_signed_request_and_a_requestor_name_are_accepted_unread() -> None:
    requestor = der(0xA1, der(0x82, b"bank.example"))
    signature = der(0xA0, der(SEQUENCE, der(SEQUENCE, bytes.fromhex("06082a8648ce3d040302")), der(3, b"\0x")))
    parsed = parse_request(request_of(SINGLE, head=der(0xA0, b"\x02\x01\x00") + requestor, signature=signature))
    assert len(parsed.cert_ids) == 1


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x30",
        b"<html>",
        request_of(SINGLE) + b"\x00",
        request_of(SINGLE)[:-1],
        b"\x30\x80" + request_of(SINGLE)[2:] + b"\x00\x00",
        request_of(SINGLE, head=der(0xA0, b"\x02\x01\x01")),
        request_of(der(SEQUENCE, der(SEQUENCE, b"\x02\x01\x01"))),
        b"\x30" * 10_001,
    ],
    ids=["empty", "cut", "html", "trailing", "short", "indefinite-length", "version-2", "no-cert-id", "too-long"],
)
def test_bytes_that_are_no_request_are_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_request(encoded)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])  # noqa: S303
def test_the_librarys_requests_read_as_the_library_reads_them(service, algorithm) -> None:  # type: ignore[no-untyped-def]
    encoded = service.people.request(service.GOOD, algorithm)
    theirs, ours = library.load_der_ocsp_request(encoded), parse_request(encoded).cert_ids[0]
    assert (ours.issuer_name_hash, ours.issuer_key_hash) == (theirs.issuer_name_hash, theirs.issuer_key_hash)
    assert (ours.serial, ours.hash_name) == (theirs.serial_number, algorithm.name)


def test_the_librarys_nonce_is_read(service) -> None:  # type: ignore[no-untyped-def]
    builder = library.OCSPRequestBuilder().add_certificate(
        service.people.leaf(1), service.people.certificate, hashes.SHA256()
    )
    encoded = builder.add_extension(x509.OCSPNonce(b"n" * 32), critical=False).build().public_bytes(Encoding.DER)
    assert parse_request(encoded).nonce == b"n" * 32
