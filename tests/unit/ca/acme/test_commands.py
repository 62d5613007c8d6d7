from __future__ import annotations

import pytest

from tests.support.instance import Instance, Refused

GIVEN = ("acme", "key", "add", "--organisation", "Example Agency", "--allow", "*.agency.example")

ANNOUNCE = ("acme", "replacement", "announce")


def test_a_key_is_made_listed_and_revoked(instance: Instance) -> None:
    made = instance.cli(*GIVEN, "--allow", "10.20.0.0/16", "--valid-days", "7", "--reusable")
    assert (made["allowed"], made["state"], made["accounts"]) == (["*.agency.example", "10.20.0.0/16"], "open", 0)
    assert made["directory"] == f"{instance.base_url}/acme/directory"
    assert not made["mac_key"].startswith("-")
    assert not made["id"].startswith("-")
    (listed,) = [each for each in instance.cli("acme", "key", "list") if each["id"] == made["id"]]
    assert listed == {name: value for name, value in made.items() if name not in ("mac_key", "directory")}
    assert instance.cli("acme", "key", "revoke", made["id"]) == {"id": made["id"], "accounts_closed": 0}
    with pytest.raises(Refused) as again:
        instance.cli("acme", "key", "revoke", made["id"])
    assert (again.value.status, again.value.code) == (5, "acme_key_revoked")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("acme", "key", "revoke", "x" * 22), 4, "acme_key_not_found"),
        (("acme", "account", "deactivate", "x" * 22), 4, "acme_account_not_found"),
        (("acme", "replacement", "withdraw", "x" * 22), 4, "acme_replacement_not_found"),
        ((*GIVEN, "--allow", "*"), 3, "acme_entitlement_refused"),
        ((*GIVEN, "--profile", "tls-client"), 3, "acme_entitlement_refused"),
        ((*GIVEN, "--profile", "citizen-signature"), 2, "usage"),
        ((*ANNOUNCE, "--issuer", "nope", "--to", "2030-01-01"), 4, "authority_not_found"),
        ((*ANNOUNCE, "--issuer", "tls-g1", "--to", "soon"), 2, "usage"),
        ((*ANNOUNCE, "--issuer", "tls-g1", "--to", "2020-01-01"), 3, "acme_replacement_refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_command_that_cannot_be_is_refused(
    instance: Instance, arguments: tuple[str, ...], status: int, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        instance.cli(*arguments)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_replacement_is_announced_and_withdrawn(instance: Instance) -> None:
    made = instance.cli("acme", "replacement", "announce", "--issuer", "seal-g1", "--to", "2030-01-01T00:00:00+00:00")
    assert made["ends_at"] == "2030-01-01T00:00:00Z"
    assert made["id"] in [each["id"] for each in instance.cli("acme", "replacement", "list")]
    assert instance.cli("acme", "replacement", "withdraw", made["id"])["withdrawn_at"] is not None


def test_nothing_is_due_where_nothing_was_asked(instance: Instance) -> None:
    assert instance.cli("acme", "validate") == {"answered": 0, "not_answered": 0}
    assert isinstance(instance.cli("acme", "account", "list"), list)
