"""``tamga est``: what the commands print, whom they ask, and their exit status."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from ca.est.enrolment import Caller, Pending
from cli.context import Context
from cli.est import est
from core.errors import CodedError
from core.one_time import ProcessLocalStore
from tests.support.est import new_key, request

SERVER = ["--subject", "O=Example Bank", "--subject", "CN=www.bank.example.mn", "--san", "DNS=www.bank.example.mn"]
PERMIT = ["permit", "--label", "tls-server", "--holder", "bank-1", "--evidence", "file 7"]


@pytest.fixture
def tamga(room: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command as one officer or another; gives its JSON result, or raises the coded error."""
    acting = ["officer:a"]

    def officer(_: Context, *roles: str) -> str:
        assert roles == ("ra-officer",)
        return acting[0]

    monkeypatch.setattr(Context, "acting", officer)

    def run(*arguments: str, by: str = "officer:a", status: int = 0) -> Any:
        acting[0] = by
        context = Context()
        context.services = SimpleNamespace(ca=room.parts)  # type: ignore[assignment]
        outcome = CliRunner().invoke(est, [*arguments, "--json"], obj=context)
        if isinstance(outcome.exception, CodedError):
            raise outcome.exception
        assert outcome.exit_code == status, outcome.output
        return json.loads(outcome.stdout)["result"] if status == 0 else None

    return run


def ask(room: Any, made: dict[str, Any], csr: bytes) -> Any:
    caller = Caller(secret=(made["user"], made["secret"]))
    return room.parts.est.enrolment.enrol("tls-server", csr, caller, one_time=ProcessLocalStore(room.clock))


def test_a_permit_is_made_used_and_listed_without_its_secret(tamga: Any, room: Any) -> None:
    made = tamga(*PERMIT, *SERVER, "--hours", "2")
    issued = ask(room, made, request(new_key()))
    assert issued.subject_text == "C=MN, O=Example Bank, CN=www.bank.example.mn"
    (row,) = tamga("list", "--state", "spent", "--label", "tls-server")
    assert (row["id"], row["made_by"], row["names"]) == (made["user"], "officer:a", "DNS=www.bank.example.mn")
    assert made["secret"] not in json.dumps(row) and tamga("list", "--state", "open") == []


def test_a_permit_can_name_a_certificate(tamga: Any, room: Any) -> None:
    bearer = ask(room, tamga(*PERMIT, *SERVER), request(new_key()))
    made = tamga(*PERMIT, *SERVER, "--certificate", bearer.serial_text)
    assert (made["secret"], made["certificate"]) == (None, bearer.id)


def test_a_waiting_request_is_approved_by_another_officer(tamga: Any, room: Any) -> None:
    made, csr = tamga(*PERMIT, *SERVER, "--approval"), request(new_key())
    assert isinstance(ask(room, made, csr), Pending)
    with pytest.raises(CodedError) as caught:
        tamga("approve", made["id"])
    assert (caught.value.code, caught.value.exit_code) == ("est_self_approval", 3)
    approved = tamga("approve", made["id"], by="officer:b")
    assert (approved["state"], approved["decided_by"]) == ("approved", "officer:b")
    assert ask(room, made, csr).profile == "tls-server"


def test_a_waiting_request_is_rejected(tamga: Any, room: Any) -> None:
    made = tamga(*PERMIT, *SERVER, "--approval")
    ask(room, made, request(new_key()))
    assert tamga("reject", made["id"])["state"] == "withdrawn"
    with pytest.raises(CodedError) as caught:
        tamga("reject", made["id"])
    assert caught.value.exit_code == 5


def test_a_permit_is_ended_once(tamga: Any) -> None:
    made = tamga(*PERMIT, *SERVER)
    assert tamga("revoke", made["id"])["state"] == "withdrawn"
    with pytest.raises(CodedError) as caught:
        tamga("revoke", made["id"])
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["revoke", "none"], 4),
        (["approve", "none"], 4),
        ([*PERMIT, "--label", "none"], 4),
        ([*PERMIT], 3),
        ([*PERMIT, *SERVER, "--evidence", " "], 3),
        ([*PERMIT, "--subject", "none"], 2),
        ([*PERMIT, *SERVER, "--certificate", "zz"], 2),
        ([*PERMIT, *SERVER, "--certificate", "01"], 4),
    ],
)
def test_what_is_wrong_is_said_by_the_status(tamga: Any, arguments: list[str], exit_code: int) -> None:
    with pytest.raises(CodedError) as caught:
        tamga(*arguments)
    assert caught.value.exit_code == exit_code
