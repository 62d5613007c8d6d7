"""Poppler, qpdf, OpenSSL and MuPDF on a document that a citizen signed on our pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import follow
from tests.support.pdf import byte_range, signature_contents, signed_bytes
from tests.support.tools import require_tool, run
from tests.support.web import Walker
from tests.support.world import World


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = follow(world.citizen_certificate, Walker(world.instance.base_url)).write(tmp_path_factory.mktemp("pdf"))
    (folder / "signed.pdf").write_bytes(world.signed)
    (folder / "without-evidence.pdf").write_bytes(world.signed_without_evidence)
    return folder


@pytest.fixture(scope="module")
def trusting(files: Path) -> Path:
    """An NSS database that trusts our root, as poppler reads it."""
    certutil = require_tool("certutil", "libnss3-tools")
    (files / "nss").mkdir()
    run(certutil, "-N", "-d", "sql:nss", "--empty-password", cwd=files)
    added = run(certutil, "-A", "-d", "sql:nss", "-n", "root", "-t", "CT,C,C", "-i", "root.pem", cwd=files)
    assert added.status == 0, added.output
    return files


@pytest.mark.parametrize("document", ["signed.pdf", "without-evidence.pdf"])
def test_pdfsig_finds_the_signature_valid(trusting: Path, document: str) -> None:
    pdfsig = require_tool("pdfsig", "poppler-utils")
    read = run(pdfsig, "-nssdir", "sql:nss", "-no-ocsp", document, cwd=trusting)
    assert read.output.count("Signature is Valid.") == 1, read.output
    assert "Signature Type: ETSI.CAdES.detached" in read.output, read.output
    assert "Certificate has Expired" not in read.output


@pytest.mark.parametrize("document", ["signed.pdf", "without-evidence.pdf"])
def test_pdfsig_finds_the_total_document_signed(trusting: Path, document: str) -> None:
    # At B-LT too: the evidence stands in the signed revision itself, so nothing follows the signature.
    pdfsig = require_tool("pdfsig", "poppler-utils")
    read = run(pdfsig, "-nssdir", "sql:nss", "-no-ocsp", document, cwd=trusting)
    assert "- Total document signed" in read.output, read.output


@pytest.mark.parametrize("document", ["signed.pdf", "without-evidence.pdf"])
def test_qpdf_finds_nothing_wrong_with_the_file(files: Path, document: str) -> None:
    qpdf = require_tool("qpdf", "qpdf")
    checked = run(qpdf, "--check", document, cwd=files)
    assert "No syntax or stream encoding errors found" in checked.output, checked.output


def test_openssl_verifies_the_signature_as_cades(world: World, files: Path) -> None:
    openssl = require_tool("openssl", "openssl")
    (files / "content").write_bytes(signed_bytes(world.signed))
    (files / "signature").write_bytes(signature_contents(world.signed))
    verified = run(
        openssl, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "signature", "-content", "content",
        "-CAfile", "root.pem", "-certfile", "between.pem", "-purpose", "any", "-out", "/dev/null", cwd=files,
    )  # fmt: skip
    assert "CAdES Verification successful" in verified.output, verified.output


@pytest.mark.parametrize("document", ["signed.pdf", "without-evidence.pdf"])
def test_mutool_sees_no_change_since_signing(files: Path, document: str) -> None:
    mutool = require_tool("mutool", "mupdf-tools")
    read = run(mutool, "sign", "-v", document, cwd=files)
    assert "The document is unchanged since signing" in read.output, read.output


def test_the_banks_bytes_are_the_beginning_of_the_signed_document(world: World) -> None:
    assert world.signed.startswith(world.document)
    start, length, second, rest = byte_range(world.signed)
    assert start == 0
    assert length > len(world.document)
    assert second + rest <= len(world.signed)
