"""OpenSSL, GnuTLS and pkilint on certificates and revocation lists that the running instance gave out."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policies import names
from policies.profiles import load_profile, profile_names
from tests.support import octets
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


@pytest.mark.parametrize("name", profile_names())
def test_foreign_parsers_read_every_profile_with_the_longest_cyrillic_names(name: str, tmp_path: Path) -> None:
    profile, longest = load_profile(name), "Ө" * 64  # RFC 5280 A.1 counts characters: 128 octets here
    texts = dict.fromkeys(("O", "SN", "GN", "CN"), longest)
    if name == "tls-server":
        del texts["CN"]
    subject = names.encode_name(octets.subject_of(profile, **texts))
    der = octets.signed(octets.tbs(profile, octets.good(profile, subject_name=subject)))
    (tmp_path / "certificate.der").write_bytes(der)
    readers = (
        (require_tool("openssl", "openssl"), "x509", "-inform", "DER", "-in", "certificate.der", "-noout", "-subject",
         "-nameopt", "utf8,sep_comma_plus"),
        (require_tool("certtool", "gnutls-bin"), "--certificate-info", "--inder", "--infile", "certificate.der"),
        (require_tool("keytool", "default-jre-headless"), "-J-Dfile.encoding=UTF-8", "-J-Dstdout.encoding=UTF-8",
         "-printcert", "-file", "certificate.der"),
    )  # fmt: skip
    for reader in readers:
        read = run(*reader, cwd=tmp_path)
        assert read.status == 0, read.output
        assert longest in read.output, read.output


def test_openssl_and_gnutls_agree_on_what_a_servers_certificate_is_for(tmp_path: Path) -> None:
    profile = load_profile("tls-server")
    (tmp_path / "server.der").write_bytes(octets.signed(octets.tbs(profile)))
    openssl = (require_tool("openssl", "openssl"), "x509", "-inform", "DER", "-in", "server.der", "-noout")
    purposes = run(*openssl, "-purpose", cwd=tmp_path).output
    assert "SSL server : Yes" in purposes and "SSL client : No" in purposes and "S/MIME signing : No" in purposes
    shown = run(*openssl, "-ext", "subjectAltName", cwd=tmp_path).output
    assert "DNS:www.example.mn, IP Address:203.0.113.7" in shown
    certtool = require_tool("certtool", "gnutls-bin")
    gnutls = run(certtool, "--certificate-info", "--inder", "--infile", "server.der", cwd=tmp_path).output
    assert "TLS WWW Server" in gnutls and "DNSname: www.example.mn" in gnutls and "IPAddress: 203.0.113.7" in gnutls
