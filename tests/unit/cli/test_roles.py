"""Role by command: an officer is admitted to what is for his role, and to nothing else (through the context)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from ca.officers import errors
from ca.officers.register import Officer
from ca.officers.roles import AUDITOR, ROLES, SECURITY_OFFICER
from ca.settings import CaSettings
from cli.context import FOUNDING, UNATTENDED, Context, account_name
from cli.roles import ROLES as MATRIX
from core.database import Database
from core.errors import UsageError
from tests.support.officers import Clock, House

PASSPHRASE = "a passphrase for tests"


class Terminal:
    """One instance with an officer for each role, all at this account, and the contexts of their commands."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        database = Database(f"sqlite:///{folder / 'officers.sqlite3'}")
        database.create_all()
        self.house = House(database, Clock(), CaSettings(officers_share_accounts=True, **settings))  # type: ignore[arg-type]
        (folder / "passphrase").write_text(f"{PASSPHRASE}\n")

    def enrol(self) -> None:
        house = self.house
        house.changes.bootstrap([self.here("bold"), self.here("saran")], actor="operator:root")
        for role in ROLES:
            house.change(self.here(f"the-{role}", role))

    def here(self, name: str, *roles: str) -> Officer:
        """An officer who works from the account that runs this test."""
        made = self.house.candidate(name, *roles)
        here = {"os_uid": os.getuid(), "os_user": account_name(os.getuid())}
        return Officer(**{**{field: getattr(made, field) for field in made.__dataclass_fields__}, **here})

    def write_key(self, key: object, *, encrypted: bool = True, mode: int = 0o600) -> Path:
        file = self.folder / "officer.pem"
        encryption = BestAvailableEncryption(PASSPHRASE.encode()) if encrypted else NoEncryption()
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))  # type: ignore[attr-defined]
        file.chmod(mode)
        return file

    def context(self, name: str | None = None, *, file: Path | None = None) -> Context:
        if name is not None:
            file = self.write_key(self.house.keys[name])
        made = Context(officer_key=file, officer_passphrase_fd=os.open(self.folder / "passphrase", os.O_RDONLY))
        house = self.house
        parts = SimpleNamespace(
            settings=house.settings, officers=house.officers, authentication=house.authentication
        )  # fmt: skip
        made.services = SimpleNamespace(ca=parts)  # type: ignore[assignment]
        return made


@pytest.fixture
def make_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(**settings: object) -> Terminal:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Terminal(folder, **settings))
        return made[-1]

    yield make
    for terminal in made:
        terminal.house.database.close()


@pytest.fixture
def terminal(make_terminal: Callable[..., Terminal]) -> Terminal:
    made = make_terminal()
    made.enrol()
    return made


@pytest.mark.parametrize("role", ROLES)
def test_each_role_runs_the_commands_that_are_for_it(terminal: Terminal, role: str) -> None:
    context = terminal.context(f"the-{role}")
    admitted = set()
    for path, roles in MATRIX.items():
        if not roles or set(roles) == {UNATTENDED}:
            continue
        with contextlib.suppress(errors.RoleMissing):
            assert context.acting(*roles) == f"officer:the-{role}"
            admitted.add(path)
    assert admitted == {path for path, roles in MATRIX.items() if role in roles}
    assert (role == AUDITOR) == (admitted == set())


def test_the_key_is_asked_for_once_in_a_command(terminal: Terminal) -> None:
    context = terminal.context("bold")
    for _ in range(3):
        assert context.acting(SECURITY_OFFICER) == "officer:bold"
    assert terminal.house.events().count("ca:officer:authenticated") == 1


def test_the_log_says_which_command_it_was(terminal: Terminal) -> None:
    @click.group()
    def root() -> None:
        """As ``tamga``."""

    @root.group()
    def officer() -> None:
        """A noun."""

    @officer.command()
    def propose() -> None:
        terminal.context("bold").acting(SECURITY_OFFICER)

    root.main(["officer", "propose"], standalone_mode=False)
    with terminal.house.database.reading() as session:
        from core.audit import export

        assert list(export(session))[-1]["facts"]["command"] == "officer propose"


def test_where_there_are_officers_an_account_alone_does_not_act(terminal: Terminal) -> None:
    with pytest.raises(errors.SecondFactorMissing):
        terminal.context().acting(SECURITY_OFFICER)
    with pytest.raises(errors.SecondFactorMissing):
        terminal.context().acting(SECURITY_OFFICER, FOUNDING)


def test_what_a_timer_runs_acts_as_the_machine_until_a_key_is_named(terminal: Terminal) -> None:
    assert terminal.context().acting("ca-administrator", UNATTENDED) == f"operator:{account_name(os.getuid())}"
    assert terminal.context("bold").acting(UNATTENDED).startswith("operator:")
    with pytest.raises(errors.RoleMissing):
        terminal.context("bold").acting("ca-administrator", UNATTENDED)


def test_nothing_the_caller_sets_says_who_he_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "SUDO_USER", "SUDO_UID"):
        monkeypatch.setenv(name, "the-auditor")
    assert terminal.context("bold").acting(SECURITY_OFFICER) == "officer:bold"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(errors.OfficerUnknown):
        terminal.context("bold").acting(SECURITY_OFFICER)


def test_the_keys_file_may_be_named_by_a_variable(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    context = terminal.context("bold")
    monkeypatch.setenv("TAMGA_OFFICER_KEY", str(context._officer_key_file))
    context._officer_key_file = None
    assert context.acting(SECURITY_OFFICER) == "officer:bold"


@pytest.mark.parametrize("base_url", ["http://localhost:8080", "http://pki.example.mn"])
def test_without_officers_only_development_acts(make_terminal: Callable[..., Terminal], base_url: str) -> None:
    context = make_terminal(base_url=base_url).context()
    assert context.acting(UNATTENDED).startswith("operator:")
    assert context.acting("ca-administrator", FOUNDING).startswith("operator:")
    if "localhost" in base_url:
        assert context.acting(SECURITY_OFFICER).startswith("operator:")
    else:
        with pytest.raises(errors.OfficersMissing) as caught:
            context.acting(SECURITY_OFFICER)
        assert (caught.value.code, caught.value.exit_code) == ("officers_missing", 3)
    with pytest.raises(errors.OfficersMissing):
        context.officer(SECURITY_OFFICER)


# The key's file --------------------------------------------------------------------------------------------------


def test_a_plain_key_is_taken_on_a_development_instance_only(make_terminal: Callable[..., Terminal]) -> None:
    for base_url in ("http://localhost:8080", "http://pki.example.mn"):
        terminal = make_terminal(base_url=base_url)
        terminal.enrol()
        context = terminal.context(file=terminal.write_key(terminal.house.keys["bold"], encrypted=False))
        if "localhost" in base_url:
            assert context.acting(SECURITY_OFFICER) == "officer:bold"
        else:
            with pytest.raises(errors.OfficerKeyUnprotected):
                context.acting(SECURITY_OFFICER)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(terminal: Terminal, mode: int) -> None:
    context = terminal.context(file=terminal.write_key(terminal.house.keys["bold"], mode=mode))
    with pytest.raises(errors.OfficerKeyUnprotected) as caught:
        context.acting(SECURITY_OFFICER)
    assert (caught.value.code, caught.value.exit_code) == ("officer_key_unprotected", 3)


def test_a_wrong_passphrase_opens_nothing_and_is_not_shown(terminal: Terminal) -> None:
    (terminal.folder / "passphrase").write_text("wrong horse\n")
    with pytest.raises(errors.SecondFactorRefused) as caught:
        terminal.context("bold").acting(SECURITY_OFFICER)
    assert "horse" not in str(caught.value)
    assert "horse" not in "".join(terminal.house.events())


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["RSA", "P-384"],
)
def test_a_key_of_another_kind_is_refused(terminal: Terminal, key: object) -> None:
    with pytest.raises(errors.SecondFactorRefused):
        terminal.context(file=terminal.write_key(key)).acting(SECURITY_OFFICER)


def test_a_file_that_is_no_key_is_refused(terminal: Terminal) -> None:
    file = terminal.write_key(ed25519.Ed25519PrivateKey.generate())
    file.write_bytes(b"no key")
    with pytest.raises(errors.SecondFactorRefused):
        terminal.context(file=file).acting(SECURITY_OFFICER)
    file.unlink()
    with pytest.raises(UsageError):
        terminal.context(file=file).acting(SECURITY_OFFICER)
