"""``tamga ca``, ``cert`` and ``crl``: what they print, what they do, and their exit status."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca import errors
from ca.register import IssuedCertificate
from cli.ca import ca
from cli.cert import cert
from cli.context import Context
from cli.crl import crl
from core.errors import CodedError, UsageError

GROUPS = {"ca": ca, "cert": cert, "crl": crl}


@pytest.fixture
def tamga(room):
    """Runs a command; gives its JSON result, or raises the coded error that decides the exit status."""

    def run(noun: str, *arguments: str, status: int = 0) -> Any:
        context = Context()
        context.services = SimpleNamespace(ca=room.parts)  # type: ignore[assignment]
        outcome = CliRunner().invoke(GROUPS[noun], [*arguments, "--json"], obj=context)
        if isinstance(outcome.exception, CodedError):
            raise outcome.exception
        assert outcome.exit_code == status, outcome.output
        return json.loads(outcome.stdout)["result"]

    return run


@pytest.fixture
def issued(room, citizen) -> IssuedCertificate:
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


@pytest.fixture
def csr(make_csr, tmp_path: Path) -> str:
    path = tmp_path / "request.der"
    path.write_bytes(make_csr(ec.generate_private_key(ec.SECP256R1())))
    return str(path)


def test_a_ceremony_is_shown_without_execute_and_refused_a_second_time(tamga) -> None:
    shown = tamga("ca", "ceremony", "run")
    assert shown["executed"] is False and len(shown["steps"]) == 20
    with pytest.raises(errors.CeremonyHeld) as caught:
        tamga("ca", "ceremony", "run", "--execute", "--yes")
    assert caught.value.exit_code == 5


def test_a_ceremony_file_that_is_not_there_is_refused(tamga, tmp_path: Path) -> None:
    with pytest.raises(errors.CeremonyPlanRefused) as caught:
        tamga("ca", "ceremony", "run", str(tmp_path / "none.toml"))
    assert caught.value.exit_code == 3


def test_authorities_are_listed_and_shown(tamga) -> None:
    assert tamga("ca", "list")[0]["slug"] == "root-g1"
    shown = tamga("ca", "show", "seal-g1")
    assert shown["chain"] == ["seal-g1", "root-g1"]
    assert x509.load_pem_x509_certificate(shown["certificate"].encode())
    with pytest.raises(errors.AuthorityNotFound) as caught:
        tamga("ca", "show", "nobody-g1")
    assert caught.value.exit_code == 4


def test_what_is_renewed_is_listed_and_young_ones_are_left_alone(tamga) -> None:
    listed = tamga("ca", "renew")
    assert [row["name"] for row in listed][-2:] == ["ocsp-tls-g1", "tsa"]
    assert {(row["due"], row["state"]) for row in listed} == {(False, "good")}
    assert tamga("ca", "renew", "--execute") == []


def test_one_that_is_named_is_renewed_at_once(tamga, room, fresh_keys: None) -> None:
    assert tamga("ca", "renew", "tsa")[0]["key_label"] == "tsa-1"
    renewed = tamga("ca", "renew", "tsa", "--execute")[0]
    assert (renewed["key_label"], renewed["issuer"]) == ("tsa-2", "service-g1")
    assert renewed["signs_until"].startswith("2027-11-21") and not renewed["due"]
    assert tamga("ca", "renew")[-1]["serial"] == renewed["serial"]
    assert tamga("ca", "renew", "ocsp-root-g1", "--execute")[0]["key_label"] == "ocsp-root-g1-2"
    with pytest.raises(errors.CertificateNotFound) as caught:
        tamga("ca", "renew", "nothing", "--execute")
    assert caught.value.exit_code == 4


def test_a_renewal_that_fails_turns_the_status(tamga, room) -> None:
    unit = room.parts.hierarchy.time_stamping_unit().certificate
    tamga("cert", "revoke", unit.serial_text)
    assert tamga("ca", "renew", "--execute", status=1) == [{"name": "tsa", "error": "rekey_after_revocation"}]


def test_a_certificate_is_issued_from_a_request(tamga, room, csr: str, tmp_path: Path) -> None:
    out = tmp_path / "client.pem"
    arguments = ["--profile", "tls-client", "--csr", csr, "--evidence", "contract 7", "--holder", "bank-1"]
    arguments += ["--subject", "O=Хаан Банк", "--subject", "organizationIdentifier=NTRMN-1234567"]
    arguments += ["--subject", "CN=Хаан Банк", "--san", "URI=https://id.example.mn/clients/bank-1", "--out", str(out)]
    issued = tamga("cert", "issue", *arguments)
    assert x509.load_pem_x509_certificate(out.read_bytes()).serial_number == int(issued["serial"], 16)
    assert room.parts.register.get(issued["id"]).holder == "bank-1"
    assert tamga("cert", "list", "--holder", "bank-1")[0]["serial"] == issued["serial"]


@pytest.mark.parametrize(
    ("change", "exit_code"),
    [
        (["--profile", "no-such"], 4),
        (["--profile", "root"], 3),
        (["--subject", "nothing"], 2),
        (["--csr", "/nowhere"], 2),
        (["--evidence", ""], 3),
    ],
)
def test_an_issue_that_is_refused_says_why_by_its_status(tamga, csr: str, change: list[str], exit_code: int) -> None:
    arguments = ["--profile", "citizen-signature", "--csr", csr, "--evidence", "visit", *change]
    with pytest.raises(CodedError) as caught:
        tamga("cert", "issue", *arguments)
    assert caught.value.exit_code == exit_code


def test_a_certificate_is_shown_with_its_suspensions(tamga, issued) -> None:
    assert tamga("cert", "suspend", issued.serial_text)["state"] == "suspended"
    assert tamga("cert", "resume", issued.serial_text)["state"] == "good"
    shown = tamga("cert", "show", ":".join(issued.serial_text[i : i + 2] for i in range(0, 36, 2)).upper())
    assert len(shown["suspensions"]) == 1 and shown["suspensions"][0]["ended_at"]
    assert shown["subject"].startswith("C=MN, SN=Жамъян")
    with pytest.raises(errors.CertificateNotFound):
        tamga("cert", "show", "01")
    with pytest.raises(UsageError):
        tamga("cert", "show", "no-serial")


def test_a_revocation_stands_in_the_crl_when_the_command_ends(tamga, issued) -> None:
    revoked = tamga("cert", "revoke", issued.serial_text, "--reason", "keyCompromise")
    assert (revoked["state"], revoked["reason"], revoked["warning"]) == ("revoked", "keyCompromise", None)
    listed = tamga("crl", "show", issued.issuer)["revoked"]
    assert [entry["serial"] for entry in listed] == [issued.serial_text]
    assert listed[0]["reason"] == "keyCompromise"
    assert tamga("cert", "revoke", issued.serial_text, "--reason", "keyCompromise")["state"] == "revoked"
    with pytest.raises(errors.AlreadyRevoked) as caught:
        tamga("cert", "revoke", issued.serial_text, "--reason", "superseded")
    assert caught.value.exit_code == 5
    with pytest.raises(errors.AlreadyRevoked):
        tamga("cert", "resume", issued.serial_text)


def test_a_crl_that_cannot_be_published_does_not_undo_a_revocation(tamga, room, issued, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise errors.CrlConflict("somebody else")

    monkeypatch.setattr(room.parts.crls, "publish", broken)
    revoked = tamga("cert", "revoke", issued.serial_text)
    assert revoked["state"] == "revoked"
    assert "crl_conflict" in revoked["warning"]


def test_crls_are_published_and_read_from_a_file(tamga, room, monkeypatch, tmp_path: Path) -> None:
    slugs = [authority.slug for authority in room.parts.hierarchy.authorities()]
    assert [row["issuer"] for row in tamga("crl", "publish")] == slugs
    assert tamga("crl", "publish", "--due") == []
    assert tamga("crl", "publish", "--issuer", "seal-g1")[0]["entries"] == 0
    out = tmp_path / "seal.crl"
    tamga("crl", "show", "seal-g1", "--out", str(out))
    assert tamga("crl", "show", str(out))["entries"] == 0
    out.write_text("no list")
    with pytest.raises(UsageError):
        tamga("crl", "show", str(out))


def test_one_broken_authority_turns_the_status_and_stops_no_other(tamga, room, monkeypatch) -> None:
    original = room.parts.crls.publish

    def broken(issuer: str, **arguments: str) -> object:
        if issuer == "seal-g1":
            raise errors.SignatureRefused("broken")
        return original(issuer, **arguments)

    monkeypatch.setattr(room.parts.crls, "publish", broken)
    rows = tamga("crl", "publish", status=1)
    assert {row["issuer"]: row["error"] for row in rows}["seal-g1"] == "signature_refused"
    assert sum(row["error"] is None for row in rows) == len(rows) - 1 == 5


def test_lines_for_people_name_the_same_facts(room, issued) -> None:
    context = Context()
    context.services = SimpleNamespace(ca=room.parts)  # type: ignore[assignment]
    for group, arguments, expected in (
        (ca, ["show", "root-g1"], "subject: C=MN, O=Tamga, CN=Tamga Root G1"),
        (ca, ["list"], "citizen-sign-g1"),
        (ca, ["ceremony", "run"], "nothing was done; add --execute"),
        (cert, ["show", issued.serial_text], "state: good"),
        (cert, ["list"], issued.serial_text),
        (crl, ["show", "root-g1"], "entries: 0"),
    ):
        outcome = CliRunner().invoke(group, arguments, obj=context)
        assert outcome.exit_code == 0 and expected in outcome.stdout, outcome.output


def test_a_rollover_is_shown_and_then_held(tamga, room, fresh_keys: None, tmp_path: Path) -> None:
    shown = tamga("ca", "rollover", "seal", "--out", str(tmp_path / "seal-g2.toml"))
    assert shown["executed"] is False and (tmp_path / "seal-g2.toml").read_text() == shown["text"]
    transcript = tmp_path / "seal-g2.jsonl"
    held = tamga("ca", "rollover", "seal", "--execute", "--transcript", str(transcript))
    assert held["authorities"][-1]["slug"] == "seal-g2"
    assert tamga("ca", "ceremony", "verify", str(transcript))["ceremony"] == "seal-g2"
    assert tamga("ca", "retire", "seal-g1")["successor"] == "seal-g2"
    assert {row["slug"]: row["retired_at"] for row in tamga("ca", "list")}["seal-g1"] is None
    assert tamga("ca", "retire", "seal-g1", "--execute", "--last-crl")["last_crl"]
    assert {row["slug"]: row["retired_at"] for row in tamga("ca", "list")}["seal-g1"]
    with pytest.raises(errors.AuthorityLive) as caught:
        tamga("ca", "retire", "seal-g2", "--execute")
    assert caught.value.exit_code == 5


def test_the_certificates_of_an_authority_are_listed(tamga, tmp_path: Path) -> None:
    assert tamga("ca", "chain", "seal-g1") == [{"name": "own", "issuer": "root-g1", "served": True}]
    assert "BEGIN CERTIFICATE REQUEST" in tamga("ca", "request", "seal-g1")["request"]
    with pytest.raises(errors.AuthorityNotFound):
        tamga("ca", "chain", "seal-g1", "--serve", "nothing")
    answer = tmp_path / "answer.pem"
    answer.write_text("no certificate")
    with pytest.raises(errors.OutsideCertificateRefused) as caught:
        tamga("ca", "accept", "seal-g1", "--certificate", str(answer), "--chain", str(answer))
    assert caught.value.exit_code == 3


def test_a_plan_is_shown_with_every_tbs_or_as_a_script(tamga) -> None:
    assert len(tamga("ca", "ceremony", "plan", "authentication-and-tls")["to_be_signed"]) == 4
    assert "ХӨТӨЛБӨР" in tamga("ca", "ceremony", "plan", "--language", "mn")["script"]
