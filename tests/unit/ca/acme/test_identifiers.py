from __future__ import annotations

from typing import Any

import pytest

from ca.acme.identifiers import Entitlement, Identifier, checked_entitlement
from tests.support.acme import problem

NAME = "www.agency.example"


@pytest.fixture(scope="module")
def client(module_room: Any, make_module_server: Any) -> Any:
    """One account for all of these tests: its orders are refused."""
    return make_module_server(module_room).client()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("other.example", "rejectedIdentifier"),
        ("agency.example", "rejectedIdentifier"),
        ("xagency.example", "rejectedIdentifier"),
        ("*.example", "malformed"),
        ("*.*.agency.example", "malformed"),
        ("a.*.agency.example", "malformed"),
        ("a_b.agency.example", "malformed"),
        ("-a.agency.example", "malformed"),
        ("a..agency.example", "malformed"),
        ("www.agency.example.", "malformed"),
        ("өө.agency.example", "malformed"),
        ("www.agency.example\x00", "malformed"),
        ("a" * 64 + ".agency.example", "malformed"),
        (".".join(["a" * 50] * 5) + ".agency.example", "malformed"),
        ("192.0.2.1", "rejectedIdentifier"),
        ("::1", "rejectedIdentifier"),
    ],
)
def test_a_name_outside_the_key_is_refused(client: Any, asked: str, why: str) -> None:
    answer = client.order(NAME, asked)
    assert problem(answer) == why
    if why == "rejectedIdentifier":
        assert [each["identifier"]["value"] for each in answer.json["subproblems"]] == [asked]


@pytest.mark.parametrize(
    "identifiers",
    [
        None,
        [],
        "x",
        [1],
        [{"type": "dns"}],
        [{"type": "dns", "value": 7}],
        [{"type": "ip", "value": "127.0.0.01"}],
        [{"type": "ip", "value": "127.1"}],
        [{"type": "ip", "value": "::FFFF:127.0.0.1"}],
        [{"type": "dns", "value": f"a{n}.agency.example"} for n in range(101)],
    ],
)
def test_identifiers_that_cannot_be_read_are_refused(client: Any, identifiers: Any) -> None:
    assert problem(client.post(client.url("new-order"), {"identifiers": identifiers})) == "malformed"


def test_an_unknown_kind_of_identifier_is_refused(client: Any) -> None:
    given = [{"type": "email", "value": "a@agency.example"}]
    assert problem(client.post(client.url("new-order"), {"identifiers": given})) == "unsupportedIdentifier"


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("a.example", ["a.example"], ["b.a.example", "*.a.example", "xa.example", "example"]),
        ("*.a.example", ["b.a.example", "c.b.a.example", "*.a.example", "*.b.a.example"], ["a.example", "xa.example"]),
        ("*.A.Example", ["b.a.example"], ["a.example"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "::ffff:10.0.0.1", "a.example"]),
        ("10.0.0.7", ["10.0.0.7"], ["10.0.0.8"]),
        ("2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
    ],
)
def test_a_pattern_covers_what_it_says(pattern: str, covered: list[str], others: list[str]) -> None:
    entitlement = checked_entitlement(Entitlement("Agency", "tls-server", (pattern,)))
    found = {name: entitlement.allows(_identifier(name)) for name in (*covered, *others)}
    assert found == {**dict.fromkeys(covered, True), **dict.fromkeys(others, False)}
    assert Entitlement.of(entitlement.text()) == entitlement


def test_addresses_are_for_servers() -> None:
    entitlement = Entitlement("Bank", "tls-client", ("10.0.0.0/8",), "NTRMN-1234567", "x")
    assert not entitlement.allows(Identifier("ip", "10.0.0.1"))


def _identifier(name: str) -> Identifier:
    is_address = ":" in name or name.replace(".", "").isdigit()
    return Identifier("ip" if is_address else "dns", name)
