"""Answers signed in a SoftHSM token, asked for over HTTP and judged by openssl, GnuTLS, pkilint and pyHanko."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import RevokedError

from core.clock import utc_now
from tests.support.tools import require_tool


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False, timeout=60)


def openssl_asks(live, authority, serial: int, *options: object) -> str:
    leaf, issuer = live.files(authority, serial)
    asked = run(
        *("openssl", "ocsp", "-issuer", issuer, *options, "-cert", leaf, "-url", live.url, "-CAfile", issuer),
        *("-no_nonce",) if "-nonce" not in options else (),
    )
    assert "Response verify OK" in asked.stderr, asked.stderr
    return asked.stdout


def expected(service) -> list[tuple[int, str]]:
    return [(service.GOOD, "good"), (service.REVOKED, "revoked"), (service.SUSPENDED, "revoked")]


@pytest.mark.parametrize("digest", ["-sha1", "-sha256", "-sha384", "-sha512"])
def test_openssl_agrees_on_every_state_by_post(live, digest: str) -> None:
    for serial, word in [*expected(live.service), (live.service.UNISSUED, "revoked")]:
        assert f": {word}" in openssl_asks(live, live.service.people, serial, digest)
    assert ": unknown" in openssl_asks(live, live.service.infrastructure, live.service.UNISSUED, digest)


def test_openssl_sees_the_reason_and_time(live) -> None:
    text = openssl_asks(live, live.service.people, live.service.SUSPENDED)
    assert "Reason: certificateHold" in text
    text = openssl_asks(live, live.service.people, live.service.UNISSUED)
    assert "Revocation Time: Jan  1 00:00:00 1970 GMT" in text


def test_openssl_finds_its_nonce_again(live) -> None:
    leaf, issuer = live.files(live.service.people, live.service.GOOD)
    asked = run("openssl", "ocsp", "-issuer", issuer, "-cert", leaf, "-url", live.url, "-CAfile", issuer, "-nonce")
    assert "Response verify OK" in asked.stderr
    assert "WARNING: no nonce in response" not in asked.stderr


def test_openssl_reads_several_answers_to_one_request(live) -> None:
    leaves = [live.files(live.service.people, serial)[0] for serial, _ in expected(live.service)]
    _, issuer = live.files(live.service.people, live.service.GOOD)
    certificates = [part for leaf in leaves for part in ("-cert", leaf)]
    asked = run("openssl", "ocsp", "-issuer", issuer, *certificates, "-url", live.url, "-CAfile", issuer, "-no_nonce")
    assert "Response verify OK" in asked.stderr
    words = [line.rpartition(": ")[2] for line in asked.stdout.splitlines() if ".pem: " in line]
    assert words == ["good", "revoked", "revoked"]


def test_openssl_accepts_the_answer_fetched_by_get(live, tmp_path: Path) -> None:
    leaf, issuer = live.files(live.service.people, live.service.GOOD)
    request, response = tmp_path / "request.der", tmp_path / "response.der"
    run("openssl", "ocsp", "-issuer", issuer, "-cert", leaf, "-no_nonce", "-reqout", request)
    text = base64.b64encode(request.read_bytes()).decode()
    with urlopen(f"{live.url}/{quote(text, safe='')}", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/ocsp-response"
        response.write_bytes(answer.read())
    judged = run(
        "openssl", "ocsp", "-issuer", issuer, "-cert", leaf, "-respin", response, "-CAfile", issuer, "-no_nonce"
    )
    assert "Response verify OK" in judged.stderr
    assert ": good" in judged.stdout


def test_openssl_is_told_that_a_stranger_is_unauthorized(live, make_authority, tmp_path: Path) -> None:
    stranger = make_authority("stranger-g1")
    leaf, issuer = live.files(stranger, 1)
    asked = run("openssl", "ocsp", "-issuer", issuer, "-cert", leaf, "-url", live.url, "-CAfile", issuer)
    assert "unauthorized" in asked.stdout + asked.stderr


@pytest.mark.parametrize("options", [["--nonce"], []], ids=["nonce", "no nonce"])
def test_gnutls_agrees_on_every_state(live, options: list[str]) -> None:
    ocsptool = require_tool("ocsptool", "gnutls-bin")
    for serial, word in expected(live.service):
        leaf, issuer = live.files(live.service.people, serial)
        asked = run(
            ocsptool,
            f"--ask={live.url}",
            *options,
            "--load-cert",
            leaf,
            "--load-issuer",
            issuer,
            "--load-trust",
            issuer,
        )
        text = asked.stdout + asked.stderr
        assert f"Certificate Status: {word}" in text, text
        assert "Verifying OCSP Response: Success" in text, text


def test_pkilint_finds_no_error_in_any_answer(live) -> None:
    from pkilint import loader, pkix
    from pkilint.pkix import extension, name, ocsp
    from pkilint.validation import ValidationFindingSeverity

    linter = ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    service = live.service
    answers = [
        service.post(authority.request(serial)).body
        for authority in (service.people, service.infrastructure)
        for serial in (service.GOOD, service.REVOKED, service.SUSPENDED, service.UNISSUED)
    ]
    for number, body in enumerate(answers):
        document = loader.RFC6960OCSPResponseDocumentLoader().load_document(body, f"answer {number}")
        findings = [
            f"{description.finding.code} {description.message}"
            for result in linter.validate(document.root)
            for description in result.finding_descriptions
            if description.finding.severity >= ValidationFindingSeverity.ERROR
        ]
        assert findings == []


def test_pyhankos_validator_accepts_the_delegated_responder(live) -> None:
    people = live.service.people

    def judge(serial: int) -> None:
        leaf = asn1_x509.Certificate.load(people.leaf(serial).public_bytes(Encoding.DER))
        answer = asn1_ocsp.OCSPResponse.load(live.service.post(people.request(serial)).body)
        anchor = asn1_x509.Certificate.load(people.certificate.public_bytes(Encoding.DER))
        context = ValidationContext(
            trust_roots=[anchor], ocsps=[answer], allow_fetching=False, revocation_mode="require", moment=utc_now()
        )
        validator = CertificateValidator(leaf, validation_context=context)
        asyncio.run(validator.async_validate_usage(set()))

    judge(live.service.GOOD)
    with pytest.raises(RevokedError):
        judge(live.service.REVOKED)
