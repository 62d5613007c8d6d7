from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner
from pkcs11 import Attribute, KeyType

from cli.context import Context
from cli.hsm import hsm
from hsm.errors import KeyExtractable
from hsm.keystore import Keystore, open_keystore
from hsm.settings import HsmSettings


def run(settings: HsmSettings, *arguments: str) -> Any:
    context = Context()
    context.__dict__["settings"] = SimpleNamespace(hsm=settings)
    return CliRunner().invoke(hsm, arguments, obj=context)


def test_status_tells_that_the_token_answers_and_locks_its_keys_in(
    keystore: Keystore, shared_settings: HsmSettings
) -> None:
    done = run(shared_settings, "status", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)["result"]
    assert result["keys_locked_in"] is True
    assert result["label"] == "tests"
    assert "tests" in run(shared_settings, "status").stdout


def test_status_fails_for_a_key_that_could_leave(settings: HsmSettings) -> None:
    loose = {Attribute.EXTRACTABLE: True}
    open_keystore(settings).sessions.run(
        lambda anchor: anchor.session.generate_key(KeyType.AES, 256, label="loose", id=b"1", store=True, template=loose)
    )
    assert isinstance(run(settings, "status").exception, KeyExtractable)


def test_keys_are_listed_with_their_attributes(keystore: Keystore, shared_settings: HsmSettings) -> None:
    rows = {row["label"]: row for row in json.loads(run(shared_settings, "keys", "--json").stdout)["result"]}
    assert rows["root"]["purpose"] == "certificate-signing"
    assert rows["root"]["algorithm"] == "P-384"
    assert all(row["locked_in"] and row["never_extractable"] for row in rows.values())
    assert "responder" in run(shared_settings, "keys").stdout
