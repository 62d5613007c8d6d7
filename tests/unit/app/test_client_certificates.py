from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask

from app.client_certificates import MAX_HEADER_OCTETS, ClientCertificates, ClientCertificateUnreadable
from app.settings import ServeSettings

# RFC 9440 Appendix A, Figure 2: the field as the standard itself shows it.
RFC_9440 = (
    ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0"
    "ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnM"
    "tOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjL"
    "a38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoG"
    "CCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:"
)


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "machine")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def shown(app: Flask, header: str, *values: str, name: str = "") -> bytes | None:
    with app.test_request_context(headers=[(name or header, value) for value in values]):
        return ClientCertificates(header).presented()


def test_the_standard_s_own_example_is_read(app: Flask) -> None:
    certificate = x509.load_der_x509_certificate(shown(app, "Client-Cert", RFC_9440) or b"")
    assert certificate.serial_number == 7 and certificate.subject.rfc4514_string() == "CN=BC"


def test_each_form_is_read_under_its_own_name_only(app: Flask, certificate: x509.Certificate) -> None:
    der = certificate.public_bytes(Encoding.DER)
    sequence = f":{base64.b64encode(der).decode()}:"
    escaped = quote(certificate.public_bytes(Encoding.PEM).decode(), safe="")
    assert shown(app, "Client-Cert", sequence) == der
    assert shown(app, "X-Client-Cert-Escaped", escaped) == der
    for header, value in (("Client-Cert", escaped), ("X-Client-Cert-Escaped", sequence)):
        with pytest.raises(ClientCertificateUnreadable):
            shown(app, header, value)


def test_where_no_front_hands_certificates_on_no_header_counts(app: Flask, certificate: x509.Certificate) -> None:
    escaped = quote(certificate.public_bytes(Encoding.PEM).decode(), safe="")
    assert shown(app, "none", escaped, name="X-Client-Cert-Escaped") is None
    assert shown(app, "none", RFC_9440, name="Client-Cert") is None
    assert shown(app, "Client-Cert", escaped, name="X-Client-Cert-Escaped") is None


@pytest.mark.parametrize("header", ["Client-Cert", "X-Client-Cert-Escaped"])
def test_no_header_and_an_empty_one_are_no_certificate(app: Flask, header: str) -> None:
    assert shown(app, header) is None and shown(app, header, "") is None


@pytest.mark.parametrize(
    "value",
    [
        RFC_9440[1:], RFC_9440[:-1], RFC_9440.replace(":", ""), RFC_9440 + ", " + RFC_9440, ":" + RFC_9440, "::",
        ":AA==:", RFC_9440[:40] + " " + RFC_9440[40:], RFC_9440.replace("=", ""), f":{'A' * MAX_HEADER_OCTETS}:",
        RFC_9440 + ";a=1",
    ],
)  # fmt: skip
def test_what_is_no_byte_sequence_with_a_certificate_is_refused(app: Flask, value: str) -> None:
    with pytest.raises(ClientCertificateUnreadable) as caught:
        shown(app, "Client-Cert", value)
    assert caught.value.status == 400


def test_two_headers_cannot_both_be_the_front_s_word(app: Flask, certificate: x509.Certificate) -> None:
    escaped = quote(certificate.public_bytes(Encoding.PEM).decode(), safe="")
    with pytest.raises(ClientCertificateUnreadable):
        shown(app, "X-Client-Cert-Escaped", escaped, escaped)
    with pytest.raises(ClientCertificateUnreadable):
        shown(app, "X-Client-Cert-Escaped", escaped + escaped)
    with pytest.raises(ClientCertificateUnreadable):
        shown(app, "Client-Cert", RFC_9440, RFC_9440)


@pytest.mark.parametrize("value", ["%", "nothing", "-----BEGIN%20CERTIFICATE-----", "%FF%00", "A" * MAX_HEADER_OCTETS])
def test_what_is_no_escaped_certificate_is_refused(app: Flask, value: str) -> None:
    with pytest.raises(ClientCertificateUnreadable):
        shown(app, "X-Client-Cert-Escaped", value)


def test_a_header_is_believed_behind_a_front_only() -> None:
    assert ServeSettings(behind_proxy=True, client_certificate_header="Client-Cert")
    with pytest.raises(ValueError, match="behind_proxy"):
        ServeSettings(client_certificate_header="Client-Cert")
