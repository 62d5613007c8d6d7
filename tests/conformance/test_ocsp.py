"""OpenSSL and GnuTLS ask the running responder, by POST and by GET."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.certificates import Chain, follow, ocsp_address, pem
from tests.support.tools import Ran, require_tool, run
from tests.support.web import Walker
from tests.support.world import World


@pytest.fixture(scope="module")
def chain(world: World) -> Chain:
    return follow(world.citizen_certificate, Walker(world.instance.base_url))


@pytest.fixture(scope="module")
def files(chain: Chain, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = chain.write(tmp_path_factory.mktemp("ocsp"))
    (folder / "revoked.pem").write_bytes(pem(world.revoked_certificate))
    # GnuTLS looks for a responder's issuer among what it trusts only; a client has it there from checking the chain.
    (folder / "issuers.pem").write_bytes(pem(*chain.certificates[1:]))
    return folder


@pytest.fixture(scope="module")
def address(chain: Chain) -> str:
    found = ocsp_address(chain.leaf)
    assert found is not None
    return found


def ask(files: Path, *more: str) -> Ran:
    openssl = require_tool("openssl", "openssl")
    trust = ("-issuer", "issuer.pem", "-CAfile", "root.pem", "-verify_other", "between.pem")
    return run(openssl, "ocsp", *trust, *more, cwd=files)


@pytest.mark.parametrize("more", [(), ("-no_nonce",), ("-sha256",)], ids=["nonce", "no nonce", "SHA-256"])
def test_openssl_hears_good_by_post(files: Path, address: str, more: tuple[str, ...]) -> None:
    # openssl reads -sha256 as the digest of the certificates that follow it.
    asked = ask(files, *more, "-cert", "leaf.pem", "-url", address)
    assert "Response verify OK" in asked.stderr, asked.output
    assert "leaf.pem: good" in asked.stdout, asked.output
    assert "WARNING: no nonce" not in asked.stderr or "-no_nonce" in more, asked.output


def test_openssl_hears_revoked_by_post(files: Path, address: str) -> None:
    asked = ask(files, "-cert", "revoked.pem", "-url", address)
    assert "Response verify OK" in asked.stderr, asked.output
    assert "revoked.pem: revoked" in asked.stdout, asked.output
    assert "Revocation Time:" in asked.stdout


def test_openssl_never_hears_good_about_what_was_never_issued(files: Path, address: str) -> None:
    asked = ask(files, "-serial", "0x1234567890abcdef1234567890abcdef", "-url", address)
    assert "Response verify OK" in asked.stderr, asked.output
    # RFC 6960 2.2: unknown, or revoked with certificateHold at the epoch by the extended definition.
    assert "good" not in asked.stdout, asked.output
    assert "unknown" in asked.stdout or "revoked" in asked.stdout, asked.output


def test_openssl_hears_unknown_where_nothing_more_is_defined(world: World, address: str, tmp_path: Path) -> None:
    chain = follow(world.certificate_of_each_profile()["tsa"], Walker(world.instance.base_url))
    files = chain.write(tmp_path)
    asked = ask(files, "-serial", "0x1234567890abcdef1234567890abcdef", "-url", address)
    assert "Response verify OK" in asked.stderr, asked.output
    assert ": unknown" in asked.stdout, asked.output


@pytest.mark.parametrize(("name", "status"), [("leaf", "good"), ("revoked", "revoked")])
def test_openssl_accepts_the_answer_to_a_get(files: Path, address: str, name: str, status: str) -> None:
    wrote = ask(files, "-cert", f"{name}.pem", "-reqout", f"{name}.req", "-no_nonce")
    question = (files / f"{name}.req").read_bytes()
    assert question, wrote.output
    path = quote(base64.b64encode(question).decode(), safe="")  # RFC 6960 A.1
    answer = Walker(address).get(f"{address}/{path}")
    assert (answer.status, answer.content_type) == (200, "application/ocsp-response")
    (files / f"{name}.resp").write_bytes(answer.body)
    read = ask(files, "-cert", f"{name}.pem", "-no_nonce", "-respin", f"{name}.resp")
    assert "Response verify OK" in read.stderr, read.output
    assert f"{name}.pem: {status}" in read.stdout, read.output


def test_a_get_may_be_cached_until_it_is_refreshed(files: Path, address: str) -> None:
    ask(files, "-cert", "leaf.pem", "-reqout", "cache.req", "-no_nonce")
    path = quote(base64.b64encode((files / "cache.req").read_bytes()).decode(), safe="")
    answer = Walker(address).get(f"{address}/{path}")
    # RFC 9919 (formerly RFC 5019) 6.2: what a shared cache needs.
    assert {"cache-control", "etag", "last-modified", "expires"} <= set(answer.headers)
    again = Walker(address).get(f"{address}/{path}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status == 304


@pytest.mark.parametrize(("name", "words"), [("leaf", "good"), ("revoked", "revoked")])
def test_ocsptool_verifies_the_answer(files: Path, address: str, name: str, words: str) -> None:
    ocsptool = require_tool("ocsptool", "gnutls-bin")
    asked = run(
        ocsptool, f"--ask={address}", f"--load-cert={name}.pem", "--load-issuer=issuer.pem", "--load-trust=issuers.pem",
        cwd=files,
    )  # fmt: skip
    assert "Verifying OCSP Response: Success." in asked.output, asked.output
    assert f"Certificate Status: {words}" in asked.output, asked.output


def test_pkilint_has_no_finding_on_an_answer(files: Path, address: str) -> None:
    ask(files, "-cert", "leaf.pem", "-no_nonce", "-url", address, "-respout", "lint.resp")
    encoded = base64.encodebytes((files / "lint.resp").read_bytes()).decode()
    (files / "lint.pem").write_text(f"-----BEGIN OCSP RESPONSE-----\n{encoded}-----END OCSP RESPONSE-----\n")
    linted = run(Path(sys.executable).parent / "lint_ocsp_response", "lint", "-s", "ERROR", "lint.pem", cwd=files)
    assert linted.status == 0, linted.output
