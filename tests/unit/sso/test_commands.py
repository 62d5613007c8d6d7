"""``tamga client`` and ``tamga person`` on the real registers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from joserfc.jwk import ECKey

from cli.client import client
from cli.context import Context
from cli.person import person
from core.errors import CodedError
from sso.authentication import otp
from tests.unit.sso.conftest import House


@pytest.fixture
def context(house: House) -> Context:
    made = Context()
    made.__dict__["services"] = SimpleNamespace(
        sso=house.parts,
        signing=SimpleNamespace(credentials=SimpleNamespace(of_person=lambda _: ())),
        # A development instance without officers.
        ca=SimpleNamespace(
            settings=SimpleNamespace(development=True), officers=SimpleNamespace(enrolled=lambda: False)
        ),
    )
    made.__dict__["settings"] = SimpleNamespace(name_en="Tamga")
    return made


def run(context: Context, command: Any, *arguments: str, stdin: str | None = None) -> Any:
    outcome = CliRunner().invoke(command, [*arguments, "--json"], obj=context, input=stdin, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(outcome.stdout)
    assert document["schema"] == "tamga/1" and document["ok"] is True
    return document["result"]


BANK = ("--name-mn", "Банк", "--name-en", "Bank", "--redirect-uri", "https://bank.example.test/cb")


def test_a_client_with_keys_is_created_shown_listed_and_disabled(context: Context, tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}))
    made = run(context, client, "create", *BANK, "--jwks", str(jwks), "--scope", "openid", "--scope", "sign.request")
    assert (made["auth_method"], made["auth_algorithm"]) == ("private_key_jwt", "ES256")
    assert made["scopes"] == ["openid", "sign.request"] and "client_secret" not in made
    assert run(context, client, "show", made["client_id"]) == made
    assert run(context, client, "list") == [made]
    run(context, client, "disable", made["client_id"])
    assert run(context, client, "show", made["client_id"])["enabled"] is False


def test_a_secret_is_printed_once(context: Context) -> None:
    made = run(context, client, "create", *BANK, "--auth-method", "client_secret_basic")
    assert len(made["client_secret"]) == 43
    assert "client_secret" not in run(context, client, "show", made["client_id"])


def test_an_app_needs_no_method(context: Context) -> None:
    made = run(
        context, client, "create", "--name-mn", "Апп", "--name-en", "App", "--kind", "native",
        "--redirect-uri", "mn.example.app:/cb",
    )  # fmt: skip
    assert made["auth_method"] == "none"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"keys": []}', '{"kty": "oct", "k": "AAAA"}'])
def test_a_file_that_holds_no_keys_is_refused(context: Context, tmp_path: Path, content: str) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(content)
    with pytest.raises(CodedError) as refused:
        run(context, client, "create", *BANK, "--jwks", str(jwks))
    assert (refused.value.code, refused.value.exit_code) == ("invalid_client_metadata", 2)


def test_an_unknown_client_has_its_own_status(context: Context) -> None:
    for command in ("show", "disable"):
        with pytest.raises(CodedError) as refused:
            run(context, client, command, "nobody")
        assert refused.value.exit_code == 4


PERSON = (
    "create", "--username", "bold", "--given-name", "Болд", "--family-name", "Загвар", "--civil-id", "000000000101",
    "--password-stdin",
)  # fmt: skip


def test_a_person_is_created_with_a_phone_and_found_again(context: Context, house: House) -> None:
    made = run(context, person, *PERSON, stdin="a long enough one\n")
    assert made["otpauth_uri"].startswith("otpauth://totp/Tamga:bold?secret=" + made["totp_secret"])
    assert otp.secret_text(otp.new_secret()).isalnum()
    shown = run(context, person, "show", "bold")
    listed = {**run(context, person, "list")[0], "credentials": []}
    assert shown == run(context, person, "show", made["id"]) == listed
    assert "000000000101" not in json.dumps([made, shown]) and "totp_secret" not in shown
    assert house.parts.people.check_password("bold", "a long enough one") is not None


def test_a_person_may_be_created_without_a_phone(context: Context) -> None:
    made = run(context, person, *PERSON, "--no-totp", stdin="a long enough one\n")
    assert made["has_totp"] is False and "totp_secret" not in made


def test_the_password_is_no_argument_and_is_not_printed(context: Context) -> None:
    assert CliRunner().invoke(person, [*PERSON, "--password", "x"], obj=context).exit_code == 2
    outcome = CliRunner().invoke(person, [*PERSON], obj=context, input="a long enough one\n")
    assert outcome.exit_code == 0 and "a long enough one" not in outcome.output
    assert "otpauth://totp/" in outcome.output


def test_somebody_unknown_has_their_own_status(context: Context) -> None:
    with pytest.raises(CodedError) as refused:
        run(context, person, "show", "nobody")
    assert refused.value.exit_code == 4
