"""``tamga cert list``, ``export``, ``mass-revoke`` and ``check``: what they print, and their exit status."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from sqlalchemy import update

import ocsp.parts
from app.adapters.register_status import RegisterResponders, RegisterStatus
from ca import errors
from ca.register import IssuedCertificate
from ca.tables import CertificateRow
from cli.ca import ca
from cli.cert import cert
from cli.context import Context
from core.errors import CodedError, UsageError
from ocsp.settings import OcspSettings
from tests.support.simulated_register import fill

ISSUER = "citizen-sign-g1"


@pytest.fixture
def run(room) -> Callable[..., Result]:
    """Runs ``tamga cert …``; coded errors come out as they are."""
    statuses = RegisterStatus(room.parts.hierarchy, room.parts.register)
    responders = RegisterResponders(room.parts.hierarchy, room.keystore)
    status = ocsp.parts.assemble(settings=OcspSettings(), clock=room.clock, statuses=statuses, responders=responders)

    def invoke(*arguments: str, exit_code: int = 0, group: Any = cert) -> Result:
        context = Context()
        context.services = SimpleNamespace(ca=room.parts, ocsp=status)  # type: ignore[assignment]
        outcome = CliRunner().invoke(group, arguments, obj=context)
        if isinstance(outcome.exception, CodedError):
            raise outcome.exception
        assert outcome.exit_code == exit_code, outcome.output
        return outcome

    return invoke


@pytest.fixture
def tamga(run) -> Callable[..., Any]:
    """The same with ``--json``; gives the result."""
    return lambda *arguments, **named: json.loads(run(*arguments, "--json", **named).stdout)["result"]


@pytest.fixture
def made(room, citizen) -> list[IssuedCertificate]:
    """Three certificates of two people, a day apart; the second is revoked, the third suspended."""
    issued = []
    for holder in ("anna", "bold", "bold"):
        room.clock.advance(timedelta(days=1))
        application = room.parts.registration.apply(**citizen(holder=holder))
        issued.append(room.parts.issuance.certify(application, actor="test"))
    room.parts.revocation.revoke(issued[1].id, actor="test")
    room.parts.revocation.suspend(issued[2].id, actor="test")
    return issued


def serials(rows: list[dict[str, Any]]) -> list[str]:
    return [row["serial"] for row in rows]


def test_a_list_is_filtered_by_everything_that_is_known(tamga, made) -> None:
    first, second, third = (each.serial_text for each in made)
    sign = ("list", "--profile", "citizen-signature")
    assert serials(tamga(*sign)) == [third, second, first]
    assert serials(tamga("list", "--holder", "bold")) == [third, second]
    assert serials(tamga(*sign, "--state", "good")) == [first]
    assert serials(tamga(*sign, "--with-reason", "certificateHold")) == [third]
    assert serials(tamga("list", "--issuer", ISSUER, "--serial-prefix", first[:20].upper())) == [first]
    assert serials(tamga("list", "--serial-prefix", first[:19])) == [first]
    day = (made[1].issued_at).strftime("%Y-%m-%d")
    after = (made[1].issued_at + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    assert serials(tamga(*sign, "--issued-from", day, "--issued-until", after)) == [second]
    assert serials(tamga(*sign, "--expires-until", made[1].not_after.isoformat())) == [first]
    assert serials(tamga(*sign, "--expires-from", made[1].not_after.isoformat())) == [third, second]
    assert serials(tamga(*sign, "--limit", "1")) == [third]


def test_a_list_that_cannot_be_meant_is_a_usage_error(run) -> None:
    for arguments in (["--issued-from", "yesterday"], ["--serial-prefix", "xyz"], ["--subject-hash", "12"]):
        with pytest.raises(UsageError):
            run("list", *arguments)


def test_a_list_is_as_long_as_it_is_asked_for(run, tamga, room, made) -> None:
    fill(room.database, 250, issuer=ISSUER, now=room.clock(), der=made[0].der)
    assert len(tamga("list", "--issuer", ISSUER)) == 100
    # The responder of the issuer is a certificate of its own.
    assert len(tamga("list", "--issuer", ISSUER, "--all")) == 254
    assert len(run("list", "--issuer", ISSUER, "--all", "--format", "jsonl").stdout.splitlines()) == 254


def test_a_list_has_four_forms_with_the_same_facts(run, tamga, made) -> None:
    as_json = tamga("list", "--holder", "bold")
    assert json.loads(run("list", "--holder", "bold", "--format", "json").stdout)["result"] == as_json
    lines = run("list", "--holder", "bold", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == as_json
    as_csv = list(csv.DictReader(io.StringIO(run("list", "--holder", "bold", "--format", "csv").stdout)))
    assert as_csv == [{name: value or "" for name, value in row.items()} for row in as_json]
    header, *lines = run("list", "--holder", "bold").stdout.splitlines()
    assert header.split() == ["serial", "issuer", "profile", "state", "reason", "not_after", "holder"]
    assert [line.split()[0] for line in lines] == serials(as_json)
    assert run("list", "--holder", "nobody", "--format", "csv").stdout == ""
    assert tamga("list", "--holder", "nobody") == []


def test_certificates_are_found_by_subject_and_by_fingerprint(tamga, made) -> None:
    import hashlib

    from policies.names import subject_of

    digest = hashlib.sha256(subject_of(made[0].der)).hexdigest()
    assert serials(tamga("list", "--subject-hash", digest)) == [each.serial_text for each in reversed(made)]
    assert tamga("list", "--subject-hash", "00" * 32) == []
    assert tamga("show", made[1].sha256)["serial"] == made[1].serial_text
    with pytest.raises(errors.CertificateNotFound):
        tamga("show", "00" * 32)


def test_an_export_holds_everything_for_an_auditor(run, tamga, made, tmp_path: Path) -> None:
    out = tmp_path / "register.jsonl"
    told = tamga("export", "--holder", "bold", "--certificates", "der", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert told["certificates"] == len(rows) == 2
    third, second = rows
    assert base64.b64decode(second["certificate"]) == made[1].der and second["suspensions"] == []
    assert third["suspensions"][0]["ended_at"] is None and third["evidence"] == "visit:1"
    assert (third["sha256"], third["subject"]) == (made[2].sha256, made[2].subject_text)
    as_csv = list(csv.DictReader(io.StringIO(run("export", "--format", "csv", "--certificates", "pem").stdout)))
    assert len(as_csv) > 10
    by_serial = {row["serial"]: row for row in as_csv}
    assert x509.load_pem_x509_certificate(by_serial[made[0].serial_text]["certificate"].encode())
    assert json.loads(by_serial[made[2].serial_text]["suspensions"])[0]["ended_at"] is None
    with pytest.raises(UsageError):
        run("export", "--json")


def test_a_mass_revocation_is_planned_then_carried_out(tamga, run, room, made) -> None:
    fill(room.database, 5, issuer=ISSUER, now=room.clock(), der=made[0].der)
    plan = tamga("mass-revoke", "--issuer", ISSUER, "--reason", "superseded")
    assert (plan["certificates"], plan["executed"], plan["state"]) == (7, False, "planned")
    assert tamga("mass-revoke", "--plan", plan["id"])["digest"] == plan["digest"]
    assert "nothing was done" in run("mass-revoke", "--plan", plan["id"]).stdout
    report = tamga("mass-revoke", "--plan", plan["id"], "--execute")
    assert (report["state"], report["changed"], report["resume"]) == ("done", 7, None)
    assert report["crls"][0]["entries"] == 8
    assert len(tamga("list", "--issuer", ISSUER, "--with-reason", "superseded")) == 7
    with pytest.raises(errors.MassRevocationDone) as caught:
        tamga("mass-revoke", "--plan", plan["id"], "--execute")
    assert caught.value.exit_code == 5


def test_a_mass_revocation_that_stops_says_with_which_token_it_goes_on(tamga, run, room, made) -> None:
    fill(room.database, 5, issuer=ISSUER, now=room.clock(), der=made[0].der)
    room.parts.mass_revocation._batch = 2
    stopped = tamga("mass-revoke", "--issuer", ISSUER, "--execute", "--batches", "1", exit_code=7)
    assert (stopped["changed"], stopped["batches_done"], stopped["batches"]) == (2, 1, 4)
    assert "done" in run("mass-revoke", "--resume", stopped["resume"]).stdout


def test_lists_from_files_select(tamga, room, made, tmp_path: Path) -> None:
    listed = tmp_path / "serials.txt"
    listed.write_text(f"# by phone\n{made[0].serial_text}\n{made[1].serial_text}\n")
    assert tamga("mass-revoke", "--serials", str(listed))["certificates"] == 1
    with pytest.raises(errors.NothingSelected) as caught:
        tamga("mass-revoke", "--holder", "nobody")
    assert caught.value.exit_code == 4
    for arguments in ([], ["--plan", "x", "--issuer", ISSUER], ["--serials", str(tmp_path / "none")]):
        with pytest.raises(UsageError):
            tamga("mass-revoke", *arguments)
    with pytest.raises(errors.SelectionRefused):
        tamga("mass-revoke", "--profile", "no-such")


@pytest.mark.parametrize("group", [ca, cert])
def test_the_check_says_yes_or_names_the_first_difference(tamga, run, room, made, group) -> None:
    room.clock.advance(timedelta(minutes=5))
    room.parts.crls.publish_all(actor="test")
    clean = tamga("check", "--sample", "1", group=group)
    assert clean["differences"] == [] and clean["linted"] == clean["asked"] == 1 and clean["certificates"] > 3
    assert run("check", "--sample", "0", group=group).stdout.startswith("no difference: ")
    with room.database.transaction() as session:
        changed = update(CertificateRow).where(CertificateRow.id == made[0].id)
        session.execute(changed.values(holder="eve", state="revoked"))
    found = tamga("check", "--sample", "0", group=group, exit_code=1)["differences"]
    assert [(each["kind"], each["subject"]) for each in found] == [("register_altered", made[0].serial_text)]
    everything = tamga("check", "--sample", "0", "--all-differences", "--all", group=group, exit_code=1)["differences"]
    assert {each["kind"] for each in everything} >= {"register_altered", "state"}
