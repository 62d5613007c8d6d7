"""`tamga sign` and `tamga deliver` do at the terminal what the pages do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ca.status_changes import Round
from cli.context import Context
from cli.sign import deliver, sign
from core.audit import export
from core.errors import Conflict
from signing.document_errors import NotAPdf
from signing.errors import CertificateRevoked, CredentialMissing, PinInvalid

BOLD = "5b0c8a8e-0000-4000-8000-000000000001"
PIN = "738264"


@pytest.fixture
def run(parts: Any) -> Any:
    context = Context()
    nothing = Round(settled=0, waiting=0, published=(), deleted=0)
    authority = SimpleNamespace(
        recovery=SimpleNamespace(settle=lambda: None), status_changes=SimpleNamespace(run=lambda limit: nothing)
    )
    context.__dict__["services"] = SimpleNamespace(signing=parts, ca=authority)

    def run(command: Any, *words: object, pin: str = PIN) -> Result:
        given = [str(word) for word in words]
        return CliRunner().invoke(command, given, input=f"{pin}\n", obj=context)

    return run


@pytest.fixture
def credential(parts: Any) -> Any:
    return parts.credentials.create(BOLD, PIN, PIN)


@pytest.fixture
def file(tmp_path: Path, pdf: bytes) -> Path:
    path = tmp_path / "contract.pdf"
    path.write_bytes(pdf)
    return path


def test_a_file_is_signed_with_a_persons_credential(
    run: Any, credential: Any, file: Path, parts: Any, clock: Any, database: Any
) -> None:
    out = file.with_name("signed.pdf")
    result = run(sign, file, "--credential", credential.id, "--out", out, "--pin-stdin", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["result"]
    assert told["level"] == "B-LT" and told["certificate_serial"] == credential.certificate_serial
    report = parts.pdf.validate(out.read_bytes(), policy="mn-default", at=clock(), language="en", limit=10**7)
    assert report.document_status == "TOTAL-PASSED" and out.read_bytes().startswith(file.read_bytes())
    with database.reading() as session:
        events = [entry["event"] for entry in export(session)]
    assert events[-2:] == ["signing:local_signature:approved", "signing:local_signature:signed"]


def test_what_may_not_be_signed_is_refused_and_nothing_is_written(run: Any, credential: Any, file: Path) -> None:
    out = file.with_name("signed.pdf")
    given = (sign, file, "--credential", credential.id, "--out", out, "--pin-stdin")
    assert isinstance(run(*given, pin="951735").exception, PinInvalid)
    assert isinstance(
        run(sign, file, "--credential", "unknown", "--out", out, "--pin-stdin").exception, CredentialMissing
    )
    file.write_bytes(b"no pdf")
    assert isinstance(run(*given).exception, NotAPdf)
    assert not out.exists()


def test_a_revoked_certificate_signs_no_file(run: Any, credential: Any, file: Path, authority: Any) -> None:
    authority.revoke_all()
    out = file.with_name("signed.pdf")
    result = run(sign, file, "--credential", credential.id, "--out", out, "--pin-stdin")
    assert isinstance(result.exception, CertificateRevoked) and result.exception.exit_code == 3
    assert not out.exists()


def test_a_file_that_is_there_is_not_replaced(run: Any, credential: Any, file: Path) -> None:
    result = run(sign, file, "--credential", credential.id, "--out", file, "--pin-stdin")
    assert isinstance(result.exception, Conflict)


def test_delivering_reports_what_was_done(run: Any) -> None:
    result = run(deliver, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["result"] == {
        "delivered": 0,
        "failed": 0,
        "settled": {"intents": 0, "credentials": 0, "expired": 0},
        "documents_deleted": 0,
        "status_changes": {"settled": 0, "waiting": 0, "crls": []},
    }
