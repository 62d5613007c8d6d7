"""OpenSSL, GnuTLS and pkilint on certificates and revocation lists that the running instance gave out."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Chain, follow, revocation_lists
from tests.support.tools import require_tool, run
from tests.support.web import Walker
from tests.support.world import World

PKILINT = Path(sys.executable).parent


@pytest.fixture(scope="module")
def chain(world: World) -> Chain:
    return follow(world.citizen_certificate, Walker(world.instance.base_url))


@pytest.fixture(scope="module")
def files(chain: Chain, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = chain.write(tmp_path_factory.mktemp("chain"))
    lists = revocation_lists(chain.certificates[:-1], Walker(world.instance.base_url))
    assert len(lists) == len(chain.certificates) - 1
    (folder / "crls.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    for number, each in enumerate(lists):
        (folder / f"crl-{number}.der").write_bytes(each.public_bytes(Encoding.DER))
        (folder / f"crl-{number}.pem").write_bytes(each.public_bytes(Encoding.PEM))
    return folder


def test_openssl_verifies_the_chain_and_finds_it_on_no_revocation_list(files: Path) -> None:
    openssl = require_tool("openssl", "openssl")
    verified = run(
        openssl, "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "between.pem",
        "-crl_check_all", "-CRLfile", "crls.pem", "leaf.pem", cwd=files,
    )  # fmt: skip
    assert "leaf.pem: OK" in verified.output, verified.output


def test_openssl_finds_a_revoked_certificate_on_the_revocation_list(world: World, files: Path) -> None:
    openssl = require_tool("openssl", "openssl")
    world.instance.cli("crl", "publish")
    revoked = world.revoked_certificate
    lists = revocation_lists([revoked], Walker(world.instance.base_url))
    (files / "revoked.pem").write_bytes(revoked.public_bytes(Encoding.PEM))
    (files / "now.pem").write_bytes(lists[0].public_bytes(Encoding.PEM))
    refused = run(
        openssl, "verify", "-CAfile", "root.pem", "-untrusted", "between.pem", "-crl_check", "-CRLfile", "now.pem",
        "revoked.pem", cwd=files,
    )  # fmt: skip
    assert "certificate revoked" in refused.output, refused.output


@pytest.mark.parametrize("number", [0, 1])
def test_openssl_verifies_each_revocation_list(files: Path, number: int) -> None:
    openssl = require_tool("openssl", "openssl")
    (files / "issuers.pem").write_bytes((files / "between.pem").read_bytes() + (files / "root.pem").read_bytes())
    given = ("-inform", "DER", "-in", f"crl-{number}.der", "-CAfile", "issuers.pem")
    read = run(openssl, "crl", *given, "-noout", "-text", cwd=files)
    assert "verify OK" in read.output, read.output
    assert "X509v3 CRL Number" in read.output


def test_certtool_trusts_the_chain(files: Path) -> None:
    certtool = require_tool("certtool", "gnutls-bin")
    verified = run(certtool, "--verify-chain", "--infile", "chain.pem", cwd=files)
    assert "Verified. The certificate is trusted." in verified.output, verified.output


def test_certtool_reads_the_revocation_list(files: Path) -> None:
    certtool = require_tool("certtool", "gnutls-bin")
    read = run(certtool, "--crl-info", "--inder", "--infile", "crl-0.der", cwd=files)
    assert "CRL Number" in read.output, read.output
    checked = run(certtool, "--verify-crl", "--load-ca-certificate", "issuer.pem", "--infile", "crl-0.pem", cwd=files)
    assert "Verification output: Verified" in checked.output, checked.output


def test_pkilint_has_no_finding_on_any_profile(world: World, tmp_path: Path) -> None:
    issued = world.certificate_of_each_profile()
    assert {"root", "issuing-ca", "ocsp-responder", "tsa", "citizen-signature"} <= set(issued)

    def lint(profile: str) -> str:
        path = tmp_path / f"{profile}.pem"
        path.write_bytes(issued[profile].public_bytes(Encoding.PEM))
        linted = run(PKILINT / "lint_pkix_cert", "lint", "-s", "ERROR", path)
        return f"{profile}: {linted.output}" if linted.status else ""

    with ThreadPoolExecutor(2) as pool:
        assert not [found for found in pool.map(lint, issued) if found]


def test_pkilint_has_no_finding_on_the_revocation_lists(files: Path) -> None:
    for number in (0, 1):
        kind = ("-t", "CRL", "-p", "PKIX")
        linted = run(PKILINT / "lint_crl", "lint", *kind, "-s", "ERROR", f"crl-{number}.pem", cwd=files)
        assert linted.status == 0, linted.output


def test_two_certificates_of_the_register_never_share_a_serial(world: World) -> None:
    listed = world.instance.cli("cert", "list", "--limit", "1000")
    serials = [row["serial"] for row in listed]
    assert len(serials) == len(set(serials))
    assert all(int(serial, 16) > 2**64 for serial in serials)  # BR 7.1: at least 64 bits of entropy


def test_every_issuer_is_served_as_der(world: World, chain: Chain) -> None:
    answer = Walker(world.instance.base_url).get("/aia/root-g1.cer")
    assert answer.content_type == "application/pkix-cert"  # RFC 2585 4.1
    assert x509.load_der_x509_certificate(answer.body) == chain.root
