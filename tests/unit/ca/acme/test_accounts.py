from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ca.acme.errors import EntitlementRefused, ExternalKeyNotFound, ExternalKeyRevoked
from ca.acme.identifiers import Entitlement
from tests.support.acme import Client, b64, binding, flattened, jwk, problem, signature, thumbprint, unb64

KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "RS256": rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_an_account_signs_with(server: Any, algorithm: str) -> None:
    client = server.client(key=KEYS[algorithm])
    assert client.post(client.kid).json["status"] == "valid"
    assert server.account(client).thumbprint == thumbprint(KEYS[algorithm])


def test_an_account_is_found_by_its_key(server: Any, client: Any) -> None:
    again = Client(server.http, key=client.key)
    found = again.post(again.url("new-account"), {"onlyReturnExisting": True})
    assert (found.status_code, found.headers["Location"]) == (200, client.kid)
    # Creating it again gives the same account, and needs no further external key.
    assert again.post(again.url("new-account"), {}).headers["Location"] == client.kid
    stranger = Client(server.http)
    assert problem(stranger.post(stranger.url("new-account"), {"onlyReturnExisting": True})) == "accountDoesNotExist"


def test_contacts_are_kept_and_changed(server: Any) -> None:
    made, client = server.external_key(), Client(server.http)
    answer = client.register(made.key.id, made.mac_key, contact=["mailto:ops@agency.example"])
    assert answer.json["contact"] == ["mailto:ops@agency.example"]
    changed = client.post(client.kid, {"contact": ["mailto:a@agency.example", "mailto:b@agency.example"]})
    assert changed.json["contact"] == ["mailto:a@agency.example", "mailto:b@agency.example"]
    assert client.post(client.kid, {"contact": []}).json["contact"] == []


@pytest.mark.parametrize(
    ("contact", "why"),
    [
        (["tel:+97611"], "unsupportedContact"),
        (["mailto:nobody"], "invalidContact"),
        (["mailto:a@agency.example,b@agency.example"], "invalidContact"),
        (["mailto:a@agency.example?subject=x"], "invalidContact"),
        (["mailto:\ud800@agency.example"], "invalidContact"),
        (["mailto:" + "a" * 300 + "@agency.example"], "invalidContact"),
        ("mailto:a@agency.example", "malformed"),
        ([7], "malformed"),
        (["mailto:a@agency.example"] * 11, "malformed"),
    ],
)
def test_a_contact_that_is_none_is_refused(client: Any, contact: Any, why: str) -> None:
    assert problem(client.post(client.kid, {"contact": contact})) == why


def test_a_closed_account_is_closed_for_good(server: Any, client: Any) -> None:
    order = server.ready(client)
    assert client.post(client.kid, {"status": "deactivated"}).json["status"] == "deactivated"
    for url, payload in ((client.kid, None), (order["url"], None), (client.url("new-order"), {})):
        answer = client.post(url, payload)
        assert (answer.status_code, problem(answer)) == (401, "unauthorized")
    again = Client(server.http, key=client.key)
    made = server.external_key()
    assert problem(again.register(made.key.id, made.mac_key)) == "unauthorized"


@pytest.mark.parametrize("status", ["valid", "revoked", None, 7])
def test_an_account_takes_no_other_status(client: Any, status: Any) -> None:
    assert problem(client.post(client.kid, {"status": status})) == "malformed"


# External account binding --------------------------------------------------------------------------------------------


def test_no_account_without_an_external_key(server: Any) -> None:
    client = Client(server.http)
    answer = client.post(client.url("new-account"), {"termsOfServiceAgreed": True})
    assert (answer.status_code, problem(answer)) == (403, "externalAccountRequired")


def test_an_external_key_opens_one_account(server: Any) -> None:
    made = server.external_key()
    assert Client(server.http).register(made.key.id, made.mac_key).status_code == 201
    second = Client(server.http).register(made.key.id, made.mac_key)
    assert (second.status_code, problem(second)) == (403, "unauthorized")


def test_a_reusable_key_opens_several(server: Any) -> None:
    made = server.external_key(reusable=True)
    assert [Client(server.http).register(made.key.id, made.mac_key).status_code for _ in range(3)] == [201] * 3
    assert [key.accounts for key in server.parts.external_keys.all() if key.id == made.key.id] == [3]


def test_an_external_key_ends(server: Any) -> None:
    late, revoked = server.external_key(valid_days=1), server.external_key()
    server.parts.external_keys.revoke(revoked.key.id, actor="test")
    assert problem(Client(server.http).register(revoked.key.id, revoked.mac_key)) == "unauthorized"
    server.room.clock.advance(timedelta(days=1))
    assert problem(Client(server.http).register(late.key.id, late.mac_key)) == "unauthorized"


def test_revoking_an_external_key_closes_its_accounts(server: Any, client: Any) -> None:
    other = server.client()
    identifier = server.account(client).external_key_id
    assert server.parts.external_keys.revoke(identifier, actor="test") == 1
    assert client.post(client.kid).status_code == 401
    assert other.post(other.kid).status_code == 200
    with pytest.raises(ExternalKeyRevoked):
        server.parts.external_keys.revoke(identifier, actor="test")
    with pytest.raises(ExternalKeyNotFound):
        server.parts.external_keys.revoke("x" * 22, actor="test")


def test_a_forged_binding_is_refused(server: Any) -> None:
    made = server.external_key()
    kid, mac, client = made.key.id, unb64(made.mac_key), Client(server.http)
    url = client.url("new-account")
    other = server.external_key()

    def tried(bound: Any) -> str:
        return problem(client.post(url, {"externalAccountBinding": bound}))

    good = binding(kid, mac, url, client.key)
    assert tried(binding(kid, b"\0" * 32, url, client.key)) == "unauthorized"
    assert tried(binding("x" * 22, mac, url, client.key)) == "unauthorized"
    assert tried(binding(other.key.id, mac, url, client.key)) == "unauthorized"
    assert tried(binding(kid, mac, url, KEYS["ES256"])) == "unauthorized"  # for somebody else's key
    assert tried(binding(kid, mac, client.url("new-order"), client.key)) == "malformed"
    assert tried(binding(kid, mac, url, client.key, nonce="x")) == "malformed"
    assert tried(binding(kid, mac, url, client.key, kid=None)) == "malformed"
    assert tried(binding("\0", mac, url, client.key)) == "unauthorized"
    assert tried({**good, "payload": b64(b"{}")}) == "unauthorized"
    assert tried({**good, "header": {}}) == "malformed"
    for broken in (7, "x", [], {}, {"protected": 1, "payload": 2, "signature": 3}):
        assert tried(broken) == "malformed"
    for name in ("none", "ES256", "HS1", ""):
        assert tried(binding(kid, mac, url, client.key, alg=name)) == "badSignatureAlgorithm"
    # The account's own signature is no binding.
    signed = flattened({"alg": "ES256", "kid": kid, "url": url}, b"{}", lambda data: signature(client.key, data))
    assert tried(signed) == "badSignatureAlgorithm"
    assert client.post(url, {"externalAccountBinding": good}).status_code == 201


@pytest.mark.parametrize("name", ["HS384", "HS512"])
def test_longer_macs_bind_too(server: Any, name: str) -> None:
    import hashlib
    import hmac as stdlib_hmac
    import json

    made, client = server.external_key(), Client(server.http)
    url, digest = client.url("new-account"), {"HS384": hashlib.sha384, "HS512": hashlib.sha512}[name]
    bound = flattened(
        {"alg": name, "kid": made.key.id, "url": url},
        json.dumps(jwk(client.key)).encode(),
        lambda data: stdlib_hmac.new(unb64(made.mac_key), data, digest).digest(),
    )
    assert client.post(url, {"externalAccountBinding": bound}).status_code == 201


def test_the_database_holds_no_usable_key(server: Any) -> None:
    made = server.external_key()
    content = b"".join(path.read_bytes() for path in server.room.folder.glob("tamga.sqlite*"))
    assert made.key.id.encode() in content
    assert unb64(made.mac_key) not in content
    assert made.mac_key.encode() not in content
    assert made.mac_key not in repr(made)


@pytest.mark.parametrize(
    "entitlement",
    [
        Entitlement("Agency", "citizen-signature", ("a.example",)),
        Entitlement("Agency", "root", ("a.example",)),
        Entitlement("Agency", "tls-server", ()),
        Entitlement("", "tls-server", ("a.example",)),
        Entitlement("Agency", "tls-server", ("*",)),
        Entitlement("Agency", "tls-server", ("*.mn",)),
        Entitlement("Agency", "tls-server", ("a b.example",)),
        Entitlement("Agency", "tls-server", ("10.0.0.1/8",)),
        Entitlement("Agency", "tls-server", ("a.example",), "1234567"),
        Entitlement("Agency", "tls-client", ("a.example",)),
        Entitlement("Agency", "tls-client", ("a.example",), "NTRMN-1234567", "a client"),
    ],
    ids=str,
)
def test_an_external_key_allows_machines_certificates_only(server: Any, entitlement: Entitlement) -> None:
    with pytest.raises(EntitlementRefused):
        server.external_key(entitlement)


def test_terms_must_be_agreed_to(room: Any, make_server: Any) -> None:
    server = make_server(room, terms_url="https://example.mn/terms")
    meta = server.http.get("/acme/directory").json["meta"]
    assert meta == {"externalAccountRequired": True, "termsOfService": "https://example.mn/terms"}
    made, client = server.external_key(), Client(server.http)
    assert problem(client.register(made.key.id, made.mac_key)) == "userActionRequired"
    assert problem(client.register(made.key.id, made.mac_key, termsOfServiceAgreed="yes")) == "malformed"
    assert client.register(made.key.id, made.mac_key, termsOfServiceAgreed=True).status_code == 201


# Key change ----------------------------------------------------------------------------------------------------------


def change(client: Any, new: Any, **changes: Any) -> Any:
    """A key change (RFC 8555 7.3.5), of which parts may be replaced."""
    import json

    url = client.url("key-change")
    payload = {"account": client.kid, "oldKey": jwk(client.key), **changes.pop("payload", {})}
    header = {"alg": changes.pop("alg", "ES256"), "jwk": jwk(new), "url": url, **changes.pop("header", {})}
    signer = changes.pop("signer", new)
    content = json.dumps({name: value for name, value in payload.items() if value is not None}).encode()
    kept = {name: value for name, value in header.items() if value is not None}
    inner = flattened(kept, content, lambda data: signature(signer, data))
    return client.post(url, inner, **changes)


def test_the_key_of_an_account_changes(server: Any, client: Any) -> None:
    order, new = server.ready(client), ec.generate_private_key(ec.SECP256R1())
    assert change(client, new).status_code == 200
    assert problem(client.post(client.kid)) == "unauthorized"
    client.key = new
    assert client.post(order["url"]).json["status"] == "ready"
    assert "ca:acme_account:key_changed" in server.room.events()


def test_a_key_change_must_be_wanted_by_both_keys(server: Any, client: Any) -> None:
    new, other = ec.generate_private_key(ec.SECP256R1()), server.client()
    assert problem(change(client, new, signer=client.key)) == "unauthorized"
    assert problem(change(client, new, payload={"account": other.kid})) == "malformed"
    assert problem(change(client, new, payload={"account": None})) == "malformed"
    assert problem(change(client, new, payload={"oldKey": jwk(other.key)})) == "malformed"
    assert problem(change(client, new, payload={"oldKey": None})) == "malformed"
    assert problem(change(client, new, header={"url": client.url("new-order")})) == "malformed"
    assert problem(change(client, new, header={"nonce": client.nonce()})) == "malformed"
    assert problem(change(client, new, header={"kid": client.kid})) == "malformed"
    assert problem(change(client, new, header={"jwk": None})) == "malformed"
    assert problem(change(client, new, alg="none")) == "badSignatureAlgorithm"
    assert problem(change(client, new, kid=other.kid)) == "unauthorized"
    assert client.post(client.kid).status_code == 200


def test_a_key_that_another_account_has_is_refused(server: Any, client: Any) -> None:
    other = server.client()
    answer = change(client, other.key)
    assert (answer.status_code, answer.headers["Location"]) == (409, other.kid)
    assert change(client, client.key).status_code == 409


# Races ---------------------------------------------------------------------------------------------------------------


def test_one_external_key_and_many_at_once_open_one_account(server: Any) -> None:
    made = server.external_key()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: Client(server.http.application.test_client()).register(
            made.key.id, made.mac_key).status_code, range(6)))  # fmt: skip
    assert sorted(answers) == [201, 403, 403, 403, 403, 403]


def test_one_key_that_comes_twice_at_once_has_one_account(server: Any) -> None:
    made, mine = server.external_key(reusable=True), ec.generate_private_key(ec.SECP256R1())

    def register(_: int) -> str:
        client = Client(server.http.application.test_client(), key=mine)
        return str(client.register(made.key.id, made.mac_key).headers["Location"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(register, range(4)))) == 1
