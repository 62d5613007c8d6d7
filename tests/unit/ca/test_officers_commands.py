"""``tamga officer``, ``approval``, ``profile`` and ``application``: what they print, do and refuse."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat

from ca.applications.errors import ApplicationDecided, OwnApplication
from ca.officers import errors, keys
from ca.officers.roles import SECURITY_OFFICER
from ca.settings import CaSettings
from cli.application import application
from cli.approval import approval
from cli.cert import cert
from cli.context import Context, account_name
from cli.officer import officer
from cli.profile import profile
from core.database import Database
from core.errors import CodedError, Conflict, UsageError
from tests.support.officers import Clock, House

NOUNS = {"officer": officer, "approval": approval, "profile": profile, "application": application, "cert": cert}
PASSPHRASE = "a passphrase for tests"
HERE = account_name(os.getuid())


def outcome(context: Context, noun: str, *arguments: str, stdin: str = "") -> Any:
    ran = CliRunner().invoke(NOUNS[noun], [*arguments, "--json"], obj=context, input=stdin)
    if isinstance(ran.exception, CodedError):
        raise ran.exception
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)["result"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'officers.sqlite3'}")
    database.create_all()
    yield House(database, Clock(), CaSettings(officers_share_accounts=True))
    database.close()


@pytest.fixture
def tamga(house: House, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command as the officer whose key is named, or as nobody in particular."""
    (tmp_path / "tamga.toml").write_text("")
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")

    def run(noun: str, *arguments: str, by: str | None = None, stdin: str = "") -> Any:
        file = None
        if by is not None:
            file = tmp_path / "officer.pem"
            encryption = BestAvailableEncryption(PASSPHRASE.encode())
            file.write_bytes(house.keys[by].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
            file.chmod(0o600)
        descriptor = os.open(tmp_path / "passphrase", os.O_RDONLY)
        context = Context(
            configuration=tmp_path / "tamga.toml", officer_key=file, officer_passphrase_fd=descriptor
        )  # fmt: skip
        parts = SimpleNamespace(
            settings=house.settings,
            officers=house.officers,
            approvals=house.approvals,
            role_changes=house.changes,
            approved_profiles=house.profiles,
            authentication=house.authentication,
        )
        context.services = SimpleNamespace(  # type: ignore[assignment]
            ca=parts, keystore=SimpleNamespace(status=lambda: None)
        )
        try:
            return outcome(context, noun, *arguments, stdin=stdin)
        finally:
            os.close(descriptor)

    return run


@pytest.fixture
def public_key(house: House, tmp_path: Path) -> Callable[[str], str]:
    """The file with the public key of somebody, who gets a key."""

    def write(name: str) -> str:
        house.candidate(name, SECURITY_OFFICER)
        path = tmp_path / f"{name}.pub"
        pem = house.keys[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(pem)
        return str(path)

    return write


@pytest.fixture
def staffed(tamga: Callable[..., Any], public_key: Callable[[str], str]) -> Callable[..., Any]:
    first = [f"{name}:{HERE}:{public_key(name)}" for name in ("bold", "saran")]
    tamga("officer", "bootstrap", "--officer", first[0], "--officer", first[1])
    return tamga


# tamga officer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["Ed25519", "P-256"])
def test_a_new_key_is_encrypted_and_only_its_owners(tamga, tmp_path: Path, algorithm: str) -> None:
    out = tmp_path / "new.pem"
    arguments = ("officer", "keygen", "--out", str(out), "--algorithm", algorithm, "--passphrase-stdin")
    made = tamga(*arguments, stdin="twelve signs!\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    spki = keys.read_public_key(Path(made["public_key"]).read_bytes())
    assert made["key_sha256"] == keys.fingerprint(spki).hex()
    with pytest.raises(Conflict):
        tamga(*arguments, stdin="twelve signs!\n")


def test_a_short_passphrase_is_refused(tamga, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        tamga("officer", "keygen", "--out", str(tmp_path / "new.pem"), "--passphrase-stdin", stdin="short\n")
    assert not (tmp_path / "new.pem").exists()


def test_the_first_officers_are_listed_and_shown(staffed) -> None:
    listed = staffed("officer", "list")
    assert [(row["name"], row["roles"], row["account"]) for row in listed] == [
        ("bold", SECURITY_OFFICER, HERE), ("saran", SECURITY_OFFICER, HERE),
    ]  # fmt: skip
    [version] = staffed("officer", "show", "bold")
    assert (version["version"], version["actor"]) == (1, f"operator:{HERE}")
    with pytest.raises(errors.OfficerNotFound):
        staffed("officer", "show", "nobody")


def test_only_the_owner_enrols_the_first_officers(tamga, house, public_key, monkeypatch) -> None:
    first = [f"{name}:{HERE}:{public_key(name)}" for name in ("bold", "saran")]
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(errors.NotTheOwner) as caught:
        tamga("officer", "bootstrap", "--officer", first[0], "--officer", first[1])
    assert (caught.value.code, caught.value.exit_code) == ("not_the_owner", 3)
    assert not house.officers.enrolled()


@pytest.mark.parametrize(
    ("item", "refusal"),
    [
        ("bold", UsageError),
        ("bold:root", UsageError),
        ("bold:nobody-has-this-account:{key}", errors.AccountUnknown),
        ("bold:{here}:/nonexistent", UsageError),
        ("bold:{here}:{rubbish}", errors.OfficerKeyRefused),
    ],
)
def test_a_first_officer_without_a_good_key_or_account_is_refused(
    tamga, house, public_key, tmp_path: Path, item: str, refusal: type
) -> None:
    (tmp_path / "rubbish").write_text("rubbish")
    saran = f"saran:{HERE}:{public_key('saran')}"
    bold = item.format(here=HERE, key=public_key("bold"), rubbish=tmp_path / "rubbish")
    with pytest.raises(refusal):
        tamga("officer", "bootstrap", "--officer", bold, "--officer", saran)
    assert not house.officers.enrolled()


def test_a_change_is_proposed_approved_and_applied(staffed, house, public_key) -> None:
    arguments = ("--role", "ra-officer", "--account", HERE, "--public-key", public_key("dorj"))
    request = staffed("officer", "propose", "dorj", *arguments, by="bold")["request"]
    shown = staffed("approval", "show", request)
    assert (shown["facts"]["roles"], shown["needed"], shown["valid"]) == ("ra-officer", 1, 0)
    with pytest.raises(errors.ApprovalMissing):
        staffed("officer", "apply", request, by="bold")
    assert staffed("approval", "approve", request, by="saran")["valid"] == 1
    assert staffed("officer", "apply", request, by="bold")["roles"] == "ra-officer"
    # Only what is named changes.
    request = staffed("officer", "propose", "dorj", "--retire", by="saran")["request"]
    staffed("approval", "approve", request, by="bold")
    retired = staffed("officer", "apply", request, by="saran")
    assert (retired["state"], retired["roles"], retired["account"]) == ("retired", "ra-officer", HERE)
    assert len(staffed("officer", "show", "dorj")) == 2


def test_a_new_officer_needs_an_account_and_a_key(staffed) -> None:
    with pytest.raises(UsageError):
        staffed("officer", "propose", "dorj", "--role", "ra-officer", by="bold")


# tamga approval ----------------------------------------------------------------------------------------------------


def test_requests_are_listed_and_rejected(staffed) -> None:
    request = staffed("profile", "propose", "tls-client", by="bold")[0]["request"]
    assert [row["id"] for row in staffed("approval", "list", "--state", "open")] == [request]
    assert staffed("approval", "list", "--kind", "ceremony") == []
    rejected = staffed("approval", "reject", request, "--reason", "not now", by="saran")
    assert (rejected["state"], rejected["reason"]) == ("rejected", "not now")


def test_a_signature_made_elsewhere_is_taken_raw_and_in_base64(staffed, house, tmp_path: Path) -> None:
    text, signature = tmp_path / "text", tmp_path / "signature"
    for encode in (bytes, base64.encodebytes):
        request = staffed("profile", "propose", "tls-client", by="bold")[0]["request"]
        staffed("approval", "show", request, "--text-out", str(text))
        asked = ("approval", "approve", request, "--officer", "saran", "--signature", str(signature))
        signature.write_bytes(encode(keys.sign(house.keys["bold"], text.read_bytes())))
        with pytest.raises(errors.ApprovalSignatureRefused):
            staffed(*asked)
        signature.write_bytes(encode(keys.sign(house.keys["saran"], text.read_bytes())))
        assert staffed(*asked)["valid"] == 1
    with pytest.raises(UsageError):
        staffed("approval", "approve", request, "--officer", "saran")
    with pytest.raises(UsageError):
        staffed("approval", "approve", request, "--officer", "saran", "--signature", str(tmp_path / "none"))


# tamga profile -----------------------------------------------------------------------------------------------------


def test_profiles_are_listed_with_their_standing(staffed) -> None:
    rows = {row["name"]: row for row in staffed("profile", "list")}
    assert rows["tls-client"]["approved"] is True and rows["tls-client"]["used"] is False


def test_nothing_is_proposed_when_one_name_is_wrong(staffed, house) -> None:
    with pytest.raises(CodedError) as caught:
        staffed("profile", "propose", "tls-client", "nothing", by="bold")
    assert caught.value.exit_code == 4
    assert house.approvals.all(kind="profile-change") == ()


# tamga application ---------------------------------------------------------------------------------------------------


@pytest.fixture
def registration(room) -> Callable[..., Any]:
    """Runs a command on a development instance without officers."""

    def run(noun: str, *arguments: str) -> Any:
        context = Context()
        context.services = SimpleNamespace(ca=room.parts)  # type: ignore[assignment]
        return outcome(context, noun, *arguments)

    return run


@pytest.fixture
def asked(make_csr, tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "request.der"
    path.write_bytes(make_csr(ec.generate_private_key(ec.SECP256R1())))
    subject = {"SN": "Жамъян", "GN": "Өлзийхүү", "CN": "Ж.Өлзийхүү", "serialNumber": "PNOMN-000000000017"}
    named = [part for label, value in subject.items() for part in ("--subject", f"{label}={value}")]
    return ("--profile", "citizen-signature", "--csr", str(path), "--evidence", "visit:1", "--holder", "p-17", *named)


def test_an_application_is_submitted_shown_and_rejected(registration, asked) -> None:
    made = registration("application", "submit", *asked)
    assert (made["state"], made["applicant"]) == ("submitted", f"operator:{HERE}")
    shown = registration("application", "show", made["id"])
    assert (shown["subject"]["GN"], shown["evidence"], len(shown["key_sha256"])) == ("Өлзийхүү", "visit:1", 64)
    assert [row["id"] for row in registration("application", "list", "--state", "submitted")] == [made["id"]]
    with pytest.raises(OwnApplication):
        registration("application", "approve", made["id"])
    rejected = registration("application", "reject", made["id"], "--reason", "the visit was another's")
    assert (rejected["state"], rejected["reason"]) == ("rejected", "the visit was another's")
    with pytest.raises(ApplicationDecided):
        registration("application", "reject", made["id"], "--reason", "again")


def test_an_application_of_another_is_approved_and_its_certificate_written(registration, room, asked, tmp_path) -> None:
    made = registration("application", "submit", *asked)
    found = room.parts.applications.get(made["id"])
    other = room.parts.applications.submit(replace(found.asked, evidence="visit:2"), applicant="officer:oyun")
    issued = registration("application", "approve", other.id, "--out", str(tmp_path / "out.pem"))
    certificate = x509.load_pem_x509_certificate((tmp_path / "out.pem").read_bytes())
    assert f"{certificate.serial_number:036x}" == issued["serial"]
    assert registration("application", "issue") == []


def test_one_step_issuance_is_for_instances_without_officers(registration, room, asked) -> None:
    assert registration("cert", "issue", *asked)["serial"]
    with room.database.transaction() as session:
        house = House(room.database, room.clock, CaSettings())  # type: ignore[arg-type]
        room.parts.officers.enter(
            session, house.candidate("bold", SECURITY_OFFICER), since=room.clock(), actor="test", approval_id=None
        )
    with pytest.raises(errors.OfficerUnknown):
        registration("cert", "issue", *asked)
