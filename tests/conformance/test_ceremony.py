"""A production ceremony as people hold it: at the command line, custodians with openssl, replayed by strangers."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import DEFAULT_PLAN
from tests.support.custodians import Custodians
from tests.support.instance import Instance, Refused
from tests.support.tools import Ran, run
from tests.support.tree import ROOT

PASSPHRASE = "a passphrase of Saran's"


@dataclass(frozen=True)
class Production:
    """An instance with a public address, its custodians, and the ceremony file they all hold."""

    instance: Instance
    custodians: Custodians
    file: Path

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def transcript(self) -> Path:
        return self.instance.directory / "ceremonies" / "first-generation.jsonl"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    folder = tmp_path_factory.mktemp("production")
    instance = Instance(folder / "instance", base_url="https://id.example.mn")
    instance.directory.mkdir()
    instance.cli("init", "--dir", instance.directory, "--base-url", instance.base_url, "--port", str(instance.port))
    custodians = Custodians()
    file = folder / "first.toml"
    options = custodians.write_public(folder)
    instance.cli("ca", "ceremony", "draft", *options, "--approvals", "2", "--countersignatures", "1", "--out", file)
    for name in custodians.keys:
        (folder / f"{name}.pem").write_bytes(custodians.private(name, PASSPHRASE if name == "saran" else ""))
    return Production(instance, custodians, file)


def openssl(folder: Path, *arguments: str | Path) -> Ran:
    done = run("openssl", *arguments, cwd=folder)
    assert done.status == 0, done.output
    return done


def code(production: Production, *arguments: str | Path) -> str:
    """The code with which a command is refused."""
    with pytest.raises(Refused) as caught:
        production.instance.cli("ca", "ceremony", *arguments)
    return caught.value.code


@pytest.fixture(scope="module")
def ceremony(production: Production) -> Production:
    """The ceremony, from the dry run to the countersignature; what is refused on the way is refused."""
    instance, folder, file = production.instance, production.folder, production.file
    assert len(instance.cli("ca", "ceremony", "plan", file)["to_be_signed"]) == 13
    rehearsal = folder / "rehearsal.jsonl"
    assert instance.cli("ca", "ceremony", "rehearse", file, "--transcript", rehearsal)["rehearsal"] is True
    assert code(production, "run", "--execute", "--yes") == "ceremony_quorum_required"  # the file that ships
    assert code(production, "run", file, "--execute", "--yes") == "ceremony_no_quorum"

    # Bold signs with openssl on a machine of his own (Ed25519), and Oyun on hers (P-256).
    message = folder / "message"
    instance.cli("ca", "ceremony", "approve", file, "--message", message)
    openssl(folder, "pkeyutl", "-sign", "-rawin", "-inkey", "bold.pem", "-in", message, "-out", "bold.sig")
    instance.cli("ca", "ceremony", "approve", file, "--name", "bold", "--signature", folder / "bold.sig")
    assert code(production, "run", file, "--execute", "--yes") == "ceremony_no_quorum"
    openssl(folder, "dgst", "-sha256", "-sign", "oyun.pem", "-out", "oyun.sig", message)
    assert code(production, "approve", file, "--name", "saran", "--signature", folder / "oyun.sig") == (
        "ceremony_approval_forged"
    )
    instance.cli("ca", "ceremony", "approve", file, "--name", "oyun", "--signature", folder / "oyun.sig")
    assert code(production, "approve", file, "--key", folder / "bold.pem") == "ceremony_duplicate_custodian"

    original = file.read_text()
    file.write_text(original + "# one more line\n")
    assert code(production, "run", file, "--execute", "--yes") == "ceremony_plan_edited"
    file.write_text(original)

    held = instance.cli("ca", "ceremony", "run", file, "--execute", "--yes")
    assert len(held["authorities"]) == 6
    assert code(production, "run", file, "--execute", "--yes") == "ceremony_held"
    assert code(production, "verify", production.transcript) == "ceremony_transcript_broken"  # nobody countersigned

    # Saran signs the transcript with her key file and its passphrase.
    instance.cli(
        "ca", "ceremony", "countersign", production.transcript, "--key", folder / "saran.pem", "--passphrase-stdin",
        stdin=PASSPHRASE.encode() + b"\n",
    )  # fmt: skip
    return production


def elsewhere(folder: Path, *arguments: str | Path) -> Ran:
    """`tamga …` on a machine that has no instance."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    return run(sys.executable, "-m", "cli.main", *arguments, cwd=folder, env=environment)


def test_the_transcript_is_replayed_where_there_is_no_instance(ceremony: Production, tmp_path: Path) -> None:
    done = elsewhere(tmp_path, "ca", "ceremony", "verify", ceremony.transcript, ceremony.file, "--json")
    assert done.status == 0, done.output
    report = json.loads(done.stdout)["result"]
    assert len(report["certificates"]) == 13
    assert report["approved_by"] == ["bold", "oyun"]
    assert (report["signed_by"], report["countersigned_by"]) == ("root-g1", ["saran"])
    for language, word in (("mn", "ТЭМДЭГЛЭЛ"), ("en", "TRANSCRIPT")):
        printed = elsewhere(tmp_path, "ca", "ceremony", "verify", ceremony.transcript, "--language", language)
        assert word in printed.stdout


def test_a_transcript_that_was_tampered_with_has_status_1(ceremony: Production, tmp_path: Path) -> None:
    lines = ceremony.transcript.read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[:4] + lines[5:]))
    done = elsewhere(tmp_path, "ca", "ceremony", "verify", "short.jsonl")
    assert done.status == 1 and "line 5" in done.output


def test_openssl_agrees_with_everything_in_the_transcript(ceremony: Production, tmp_path: Path) -> None:
    certificates: dict[str, x509.Certificate] = {}
    crls: list[x509.CertificateRevocationList] = []
    for line in map(json.loads, ceremony.transcript.read_text().splitlines()):
        output: dict[str, Any] = line["output"]
        if "certificate" in output:
            certificates[line["subject"]] = x509.load_der_x509_certificate(base64.b64decode(output["certificate"]))
        if "crl" in output:
            crls.append(x509.load_der_x509_crl(base64.b64decode(output["crl"])))
    assert (len(certificates), len(crls)) == (13, 6)
    pem = {name: certificate.public_bytes(Encoding.PEM) for name, certificate in certificates.items()}
    authorities = [name for name in pem if name.endswith("-g1")]
    (tmp_path / "root.pem").write_bytes(pem["root-g1"])
    (tmp_path / "between.pem").write_bytes(b"".join(pem[name] for name in authorities if name != "root-g1"))
    (tmp_path / "crls.pem").write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in crls))
    for name in pem:
        (tmp_path / "leaf.pem").write_bytes(pem[name])
        # A responder carries nocheck and no distribution point, so no CRL speaks of it.
        checks = "-policy_check" if name.startswith("ocsp-") else "-crl_check_all"
        openssl(
            tmp_path, "verify", "-x509_strict", checks, "-no-CApath", "-no-CAstore", "-CAfile", "root.pem",
            "-untrusted", "between.pem", "-CRLfile", "crls.pem", "leaf.pem",
        )  # fmt: skip


def test_openssl_agrees_with_the_signature_under_the_transcript(ceremony: Production, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in ceremony.transcript.read_text().splitlines()]
    closed = next(line for line in lines if line["act"] == "closed")
    signed = next(line for line in lines if line["act"] == "signed")
    (tmp_path / "message").write_bytes(b"tamga ceremony transcript v1\n" + closed["hash"].encode() + b"\n")
    (tmp_path / "key.der").write_bytes(base64.b64decode(signed["output"]["spki"]))
    (tmp_path / "signature").write_bytes(base64.b64decode(signed["output"]["signature"]))
    openssl(tmp_path, "dgst", "-sha384", "-verify", "key.der", "-keyform", "DER", "-signature", "signature", "message")


PROGRAM = """
import socket, sys

def refused(*arguments, **keywords):
    raise OSError("there is no network here")

socket.socket.connect = socket.socket.bind = socket.getaddrinfo = refused
from cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("web:", *sorted({"flask", "authlib", "granian", "werkzeug", "jinja2"} & set(sys.modules)))
"""


def test_a_ceremony_needs_no_network_and_loads_no_web_code(tmp_path: Path) -> None:
    instance = Instance(tmp_path / "made", base_url="http://localhost:18080")
    instance.directory.mkdir()
    instance.cli("init", "--dir", instance.directory, "--base-url", instance.base_url, "--port", "18080")
    path = tmp_path / "held.jsonl"
    for arguments in (
        ["ca", "ceremony", "plan"],
        ["ca", "ceremony", "rehearse"],
        ["ca", "ceremony", "run", "--execute", "--yes", "--transcript", str(path)],
        ["ca", "ceremony", "verify", str(path)],
        ["ca", "rollover", "seal", "--execute"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=instance.directory, env=instance.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "web:", arguments


def test_each_step_is_asked_for_and_a_ceremony_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    instance = Instance(tmp_path, base_url="http://localhost:18081")
    instance.cli("init", "--dir", tmp_path, "--base-url", instance.base_url, "--port", "18081")
    stopped = instance.command("ca", "ceremony", "run", "--execute", stdin=b"y\ny\nn\n")
    assert stopped.status == 7 and "carry it out?" in stopped.stderr and "ceremony_interrupted" in stopped.stderr
    assert [row["slug"] for row in instance.cli("ca", "list")] == ["root-g1", "citizen-sign-g1"]
    assert len(instance.cli("ca", "ceremony", "run", "--execute", "--yes")["authorities"]) == 6
    verified = instance.cli("ca", "ceremony", "verify", tmp_path / "ceremonies" / "first-generation.jsonl")
    assert len(verified["certificates"]) == 13


def test_an_instance_made_before_gets_the_newer_authorities_by_the_second_file(tmp_path: Path) -> None:
    instance = Instance(tmp_path, base_url="http://localhost:18082")
    instance.cli("init", "--dir", tmp_path, "--base-url", instance.base_url, "--port", "18082")
    blocks = DEFAULT_PLAN.read_text().split("\n\n")
    old = tmp_path / "old.toml"
    old.write_text("\n\n".join(block for block in blocks if "-auth-g1" not in block and "tls-g1" not in block))
    assert len(instance.cli("ca", "ceremony", "run", old, "--execute", "--yes")["authorities"]) == 4
    held = instance.cli("ca", "ceremony", "run", "authentication-and-tls", "--execute", "--yes")
    assert [row["slug"] for row in held["authorities"]][4:] == ["citizen-auth-g1", "tls-g1"]
