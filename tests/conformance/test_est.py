"""strongSwan's EST client and curl with openssl obtain, renew and lose certificates through nginx (RFC 7030)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from app.settings import load_settings
from app.wiring import build
from tests.support import nginx
from tests.support.certificates import follow, ocsp_address, pem, revocation_lists, serial_text
from tests.support.est import (
    BANK,
    BANK_NAMES,
    body,
    certificates,
    new_key,
    request,
    request_like,
    strongswan,
    write_key,
)
from tests.support.instance import Instance
from tests.support.tools import Ran, require_tool, run
from tests.support.web import Answer, Walker

SERVER = {"O": "Example Bank", "CN": "www.bank.example.mn"}
SERVER_NAMES = [("DNS", "www.bank.example.mn"), ("IP", "192.0.2.7")]


@dataclass
class Enrolment:
    """A running instance with nginx before it, and a machine's folder."""

    instance: Instance
    ports: nginx.Ports
    tls: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports.enrolment}"

    def address(self, operation: str, label: str | None) -> str:
        return "/".join([f"{self.url}/.well-known/est", *([label] if label else []), operation])

    def permit(self, label: str = "tls-client", **more: Any) -> tuple[str, str]:
        """User name and one-time secret."""
        subject, names = (SERVER, SERVER_NAMES) if label == "tls-server" else (BANK, BANK_NAMES)
        words = [f"--subject={name}={text}" for name, text in subject.items()]
        words += [f"--san={kind}={text}" for kind, text in names]
        words += [f"--{name}={text}" if text else f"--{name}" for name, text in more.items()]
        words += ["--label", label, "--holder", "bank-1", "--evidence", "file 7"]
        made = self.instance.cli("est", "permit", *words)
        return made["user"], made["secret"]

    def curl(self, operation: str, *options: str | Path, label: str | None = "tls-client") -> tuple[int, bytes, str]:
        """Status, body and headers of an answer to curl."""
        saved, headers = self.folder / "answer", self.folder / "headers"
        saved.write_bytes(b"")
        ran = run(
            require_tool("curl", "curl"), "--silent", "--show-error", "--cacert", self.tls, "-o", saved, "-D", headers,
            "-w", "%{http_code}", *options, self.address(operation, label),
        )  # fmt: skip
        assert ran.status == 0, ran.output
        return int(ran.stdout), saved.read_bytes(), headers.read_text()

    def post(
        self, operation: str, sent: bytes, *options: str | Path, label: str | None = "tls-client"
    ) -> tuple[int, bytes, str]:
        (self.folder / "body").write_bytes(sent)
        more = ["-H", "Content-Type: application/pkcs10", "--data-binary", f"@{self.folder / 'body'}"]
        return self.curl(operation, *more, *options, label=label)

    def identity(self, name: str, certificate: x509.Certificate, key: Any) -> list[str | Path]:
        """curl's options to show a certificate."""
        (self.folder / f"{name}.pem").write_bytes(pem(certificate))
        return ["--cert", self.folder / f"{name}.pem", "--key", write_key(key, self.folder / f"{name}.key")]

    def enrolled(self, label: str = "tls-client") -> tuple[x509.Certificate, Any]:
        """A certificate by a secret, with its key."""
        key = new_key()
        user, secret = self.permit(label)
        status, answer, _ = self.post("simpleenroll", body(request(key)), "--user", f"{user}:{secret}", label=label)
        assert status == 200, answer
        return certificates(answer)[0], key

    @property
    def http(self) -> Walker:
        return Walker(self.instance.base_url)


@pytest.fixture(scope="module")
def enrolment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolment]:
    folder = tmp_path_factory.mktemp("est")
    ports = nginx.Ports.free()
    tls = nginx.certificate_for("localhost", folder / "tls")
    instance = Instance(folder / "instance")
    front = 'behind_proxy = true\nclient_certificate_header = "X-Client-Cert-Escaped"'
    front += "\n\n[ca.est]\nretry_after_seconds = 1"
    instance.create(before_ceremony={f"port = {instance.port}": f"port = {instance.port}\n{front}"})
    instance.start()
    server = nginx.start(folder / "nginx", ports, instance.port, tls)
    try:
        yield Enrolment(instance, ports, tls, folder)
    finally:
        server.stop()
        instance.stop()


@pytest.fixture(scope="module")
def machine(enrolment: Enrolment) -> tuple[x509.Certificate, Any]:
    """A machine's certificate and its key."""
    return enrolment.enrolled()


def authority_options(enrolment: Enrolment, leaf: str = "tls-server") -> list[str | Path]:
    """strongSwan's trust: the TLS certificate of the front, and our chain, as `--cacert` takes them: one a file."""
    _, answer, _ = enrolment.curl("cacerts", label=leaf)
    options: list[str | Path] = ["--cacert", enrolment.tls]
    for number, certificate in enumerate(certificates(answer)):
        path = enrolment.folder / f"authority-{number}.pem"
        path.write_bytes(pem(certificate))
        options += ["--cacert", path]
    return options


def strongswan_enrols(enrolment: Enrolment, csr: bytes, *options: str | Path) -> Ran:
    source = enrolment.folder / "strongswan.req"
    source.write_bytes(csr)
    return strongswan(
        "--est", "--url", enrolment.url, "--in", source, "--outform", "pem", *authority_options(enrolment), *options
    )  # fmt: skip


# strongSwan ---------------------------------------------------------------------------------------------------------


def test_strongswan_gets_the_authorities(enrolment: Enrolment) -> None:
    got = strongswan(
        "--estca", "--url", enrolment.url, "--cacert", enrolment.tls, "--caout", enrolment.folder / "ca.pem",
        "--outform", "pem", "--force",
    )  # fmt: skip
    assert got.status == 0, got.output
    assert "Tamga Root G1" in got.output and "Tamga TLS CA G1" in got.output


def test_strongswan_obtains_renews_and_is_revoked(enrolment: Enrolment) -> None:
    user, secret = enrolment.permit("tls-server")
    key = new_key()
    got = strongswan_enrols(enrolment, request(key, names=SERVER_NAMES), "--userpass", f"{user}:{secret}")
    assert got.status == 0, got.output
    old = x509.load_pem_x509_certificate(got.stdout.encode())
    assert old.public_key() == key.public_key()

    (enrolment.folder / "old.pem").write_bytes(pem(old))
    shown = ["--cert", enrolment.folder / "old.pem", "--key", write_key(key, enrolment.folder / "old.key")]
    again = strongswan_enrols(enrolment, request_like(new_key(), old), *shown)
    assert again.status == 0, again.output
    new = x509.load_pem_x509_certificate(again.stdout.encode())
    assert new.subject == old.subject and new.serial_number != old.serial_number

    enrolment.instance.cli("cert", "revoke", serial_text(old), "--reason", "superseded")
    refused = strongswan_enrols(enrolment, request_like(new_key(), old), *shown)
    assert "HTTP 403" in refused.output, refused.output
    assert listed(enrolment, old) and not listed(enrolment, new)
    assert "revoked" in asked(enrolment, old).output and ": good" in asked(enrolment, new).output


def test_strongswan_s_secret_works_once(enrolment: Enrolment) -> None:
    user, secret = enrolment.permit("tls-server")
    csr = request(new_key())
    assert strongswan_enrols(enrolment, csr, "--userpass", f"{user}:{secret}").status == 0
    replayed = strongswan_enrols(enrolment, csr, "--userpass", f"{user}:{secret}")
    assert replayed.status != 0 and "HTTP 403" in replayed.output


def test_strongswan_asks_again_until_an_officer_agrees(enrolment: Enrolment) -> None:
    user, secret = enrolment.permit("tls-server", approval=None)
    csr = request(new_key())
    shown = ["--userpass", f"{user}:{secret}", "--interval", "1"]
    waited = strongswan_enrols(enrolment, csr, *shown, "--maxpolltime", "1")
    assert waited.status != 0 and "EST request pending, polling every 1 seconds up to 1 seconds" in waited.output
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(strongswan_enrols, enrolment, csr, *shown, "--maxpolltime", "50")
        # Another officer than the one who made the permit: here by the function that the command calls.
        services = build(load_settings(enrolment.instance.configuration, {}))
        services.ca.est.permits.approve(user, actor="officer:another")
        services.close()
        assert asking.result().status == 0, asking.result().output


def test_no_secret_is_in_the_log(enrolment: Enrolment) -> None:
    user, secret = enrolment.permit()
    status, _, _ = enrolment.post("simpleenroll", body(request(new_key())), "--user", f"{user}:{secret}x")
    assert status == 401
    status, _, _ = enrolment.post("simpleenroll", body(request(new_key())), "--user", f"{user}:{secret}")
    log = enrolment.instance.log.read_text()
    assert status == 200 and "est_secret_refused" in log
    assert secret not in log and base64.b64encode(f"{user}:{secret}".encode()).decode() not in log


def listed(enrolment: Enrolment, certificate: x509.Certificate) -> bool:
    """Whether the certificate is on the list it points at."""
    (crl,) = revocation_lists([certificate], enrolment.http)
    return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def asked(enrolment: Enrolment, certificate: x509.Certificate) -> Ran:
    """What openssl reads from the status service."""
    folder = follow(certificate, enrolment.http).write(enrolment.folder / "chain")
    return run(
        "openssl", "ocsp", "-issuer", "issuer.pem", "-cert", "leaf.pem", "-CAfile", "chain.pem",
        "-url", str(ocsp_address(certificate)), cwd=folder,
    )  # fmt: skip


# curl and openssl ---------------------------------------------------------------------------------------------------


def test_openssl_reads_what_curl_gets(enrolment: Enrolment) -> None:
    key = write_key(new_key(), enrolment.folder / "machine.key")
    made = run(
        "openssl", "req", "-new", "-key", key, "-subj", "/CN=ignored", "-outform", "DER",
        "-out", enrolment.folder / "machine.req",
    )  # fmt: skip
    assert made.status == 0, made.output
    user, secret = enrolment.permit()
    sent = run("openssl", "base64", "-e", "-in", enrolment.folder / "machine.req").stdout.encode()
    status, answer, headers = enrolment.post("simpleenroll", sent, "--user", f"{user}:{secret}")
    assert status == 200 and sent.count(b"\n") > 2, answer
    assert "application/pkcs7-mime; smime-type=certs-only" in headers
    (enrolment.folder / "answer.p7").write_bytes(base64.b64decode(answer))
    printed = run("openssl", "pkcs7", "-inform", "DER", "-in", enrolment.folder / "answer.p7", "-print_certs")
    leaf = x509.load_pem_x509_certificate(printed.stdout.encode())
    folder = follow(leaf, enrolment.http).write(enrolment.folder / "openssl")
    verified = run(
        "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "root.pem",
        "-untrusted", "between.pem", "leaf.pem", cwd=folder,
    )  # fmt: skip
    assert "leaf.pem: OK" in verified.output, verified.output


def test_a_body_on_one_line_and_without_a_label_is_taken(enrolment: Enrolment) -> None:
    user, secret = enrolment.permit("tls-server")
    sent = body(request(new_key()))
    status, answer, _ = enrolment.post("simpleenroll", sent, "--user", f"{user}:{secret}", label=None)
    assert status == 200 and b"\n" not in sent, answer


def test_a_certificate_that_was_proved_in_tls_renews_itself(
    enrolment: Enrolment, machine: tuple[x509.Certificate, Any]
) -> None:
    old, key = machine
    shown = enrolment.identity("machine", old, key)
    status, answer, _ = enrolment.post("simplereenroll", body(request_like(new_key(), old)), *shown)
    assert status == 200, answer
    assert certificates(answer)[0].subject == old.subject
    changed = request(new_key(), subject={**BANK, "C": "MN", "CN": "other.example.mn"}, names=BANK_NAMES)
    status, answer, headers = enrolment.post("simplereenroll", body(changed), *shown)
    assert (status, "est_subject_changed" in headers) == (403, True), answer


def test_a_foreign_certificate_is_told_why(enrolment: Enrolment) -> None:
    shown = ["--cert", enrolment.tls, "--key", enrolment.tls.with_name("key.pem")]
    status, answer, headers = enrolment.post("simplereenroll", body(request(new_key())), *shown)
    assert (status, "issuer_not_accepted" in headers) == (403, True)
    assert b"issuer not accepted" in answer and b"invalid" not in answer


@pytest.mark.parametrize(
    "header", ["X-Client-Cert-Escaped", "Client-Cert", "x_client_cert_escaped", "Client-Cert-Chain"]
)
@pytest.mark.parametrize("door", ["enrolment", "tls", "plain"])
def test_a_certificate_that_a_client_writes_into_a_header_is_dropped(
    enrolment: Enrolment, machine: tuple[x509.Certificate, Any], header: str, door: str
) -> None:
    certificate, _ = machine
    value = quote(pem(certificate).decode(), safe="")
    if header == "Client-Cert":
        value = f":{base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()}:"
    sent = body(request_like(new_key(), certificate))
    answer = knock(enrolment, door, sent, {header: value})
    if door == "plain":
        assert answer.status == 301
    else:
        assert (answer.status, answer.headers["x-error-code"]) == (403, "est_certificate_required")


def test_the_header_is_the_front_s_own_word(enrolment: Enrolment, machine: tuple[x509.Certificate, Any]) -> None:
    # Straight to the service, past the front: here the header would count, so nobody else may reach this port.
    certificate, _ = machine
    sent = body(request_like(new_key(), certificate))
    headers = {"Content-Type": "application/pkcs10", "X-Client-Cert-Escaped": quote(pem(certificate).decode(), safe="")}
    answer = enrolment.http.post("/.well-known/est/tls-client/simplereenroll", body=sent, headers=headers)
    assert answer.status == 200


def knock(enrolment: Enrolment, door: str, sent: bytes, headers: dict[str, str]) -> Answer:
    port = getattr(enrolment.ports, door)
    http = Walker(f"{'http' if door == 'plain' else 'https'}://localhost:{port}", trust=enrolment.tls)
    return http.post(
        "/.well-known/est/tls-client/simplereenroll",
        body=sent,
        headers={"Content-Type": "application/pkcs10", **headers},
    )


def test_nothing_but_enrolment_is_at_its_port(enrolment: Enrolment) -> None:
    http = Walker(enrolment.url, trust=enrolment.tls)
    for path in ("/login", "/trust-list.json", "/.well-known/openid-configuration", "/api/v1/validations"):
        assert http.get(path).status == 404
    # A certificate that nginx has something against takes another way through it, which leads to the same place.
    server, key = enrolment.enrolled("tls-server")
    shown = enrolment.identity("server", server, key)
    for path, status in (("/login", "404"), ("/.well-known/est/cacerts", "200")):
        ran = run(
            "curl", "--silent", "--cacert", enrolment.tls, *shown, "-w", "%{http_code}", "-o", "/dev/null",
            f"{enrolment.url}{path}",
        )  # fmt: skip
        assert ran.stdout == status, ran.output


def test_wrong_labels_and_operations_are_not_there(enrolment: Enrolment) -> None:
    assert enrolment.curl("cacerts", label="citizen-signature")[0] == 404
    for operation in ("serverkeygen", "fullcmc"):
        assert enrolment.post(operation, b"x")[0] == 404
