"""What does not look like a request of RFC 8555 6 is refused with a problem document, whatever it is."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from core.one_time import ProcessLocalStore
from tests.support.acme import Client, b64, csr, flattened, jwk, problem, signature

NAME = "www.agency.example"

MOUNTED = (
    "new-account",
    "key-change",
    "new-order",
    "revoke-certificate",
    "account/{account}",
    "account/{account}/orders",
    "order/{order}",
    "order/{order}/finalize",
    "authorization/{authorization}",
    "challenge/{challenge}",
    "certificate/{order}",
    "certificate/{order}/with-root",
)


# Those that take a payload; the others refuse any as malformed before they look whose they are.
CHANGED = ("account/{account}", "challenge/{challenge}")


@pytest.fixture(scope="module")
def server(module_room: Any, make_module_server: Any) -> Any:
    """One server for all of these tests: nothing here changes it."""
    return make_module_server(module_room)


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    return server.client()


@pytest.fixture(scope="module")
def things(server: Any, client: Any) -> dict[str, str]:
    """The names of one account's resources."""
    done, _ = server.issued(client)
    open_order = client.order("open.agency.example")
    authorization = client.post(open_order.json["authorizations"][0]).json
    last = {
        "account": client.kid,
        "order": done["certificate"],
        "authorization": open_order.json["authorizations"][0],
        "challenge": authorization["challenges"][0]["url"],
    }
    return {name: url.rpartition("/")[2] for name, url in last.items()}


def test_every_resource_is_here(server: Any) -> None:
    rules = {rule.rule for rule in server.http.application.url_map.iter_rules() if "POST" in rule.methods}
    shapes = {"/acme/" + path.split("{")[0] for path in MOUNTED}
    assert {rule.split("<")[0] for rule in rules} == shapes
    assert len(rules) == len(MOUNTED)


@pytest.mark.parametrize("path", [path for path in MOUNTED if "{" in path])
def test_a_foreign_account_is_refused(server: Any, things: dict[str, str], path: str) -> None:
    stranger = server.client()
    url = stranger.url(path.format(**things))
    request = {"csr": b64(csr(ec.generate_private_key(ec.SECP256R1())))}
    expected: Any = {"unauthorized"} if path in CHANGED else {"unauthorized", "malformed"}
    assert problem(stranger.post(url, request if path.endswith("finalize") else None)) == "unauthorized"
    for payload in ({}, {"status": "deactivated"}, request):
        assert problem(stranger.post(url, payload)) in expected, payload
    given_up = stranger.post(stranger.url("authorization", things["authorization"]), {"status": "deactivated"})
    assert problem(given_up) == "unauthorized"
    assert server.parts.accounts.by_id(things["account"]).status == "valid"


@pytest.mark.parametrize("path", [path for path in MOUNTED if "{" in path])
@pytest.mark.parametrize("name", ["x" * 22, "-" * 22, "%00" * 22, "x", "%F0%9F%98%80", "x" * 5000])
def test_what_is_not_there_is_refused_like_what_is_anothers(client: Any, path: str, name: str) -> None:
    url = client.url(path.format(account=name, order=name, authorization=name, challenge=name))
    payload = {"csr": b64(csr(ec.generate_private_key(ec.SECP256R1())))} if path.endswith("finalize") else None
    assert problem(client.post(url, payload)) == "unauthorized"


@pytest.mark.parametrize("path", MOUNTED)
def test_a_request_is_for_its_url_alone(server: Any, client: Any, things: dict[str, str], path: str) -> None:
    url = client.url(path.format(**things))
    for claimed in (client.url("elsewhere"), url + "/", url + "?x=1", url.replace("localhost", "evil.example"), ""):
        assert problem(client.send(url, client.message(claimed, None))) == "unauthorized"
    assert problem(client.send(url, client.message(url, None, url=None))) == "malformed"
    assert problem(client.send(url, client.message(url, None, url=7))) == "malformed"


@pytest.mark.parametrize("path", MOUNTED)
def test_a_request_is_jose_json(client: Any, things: dict[str, str], path: str) -> None:
    url = client.url(path.format(**things))
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.send(url, client.message(url, None), content_type=kind)
        assert (answer.status_code, problem(answer)) == (415, "malformed")


@pytest.mark.parametrize("path", MOUNTED)
def test_a_forged_signature_is_refused(client: Any, things: dict[str, str], path: str) -> None:
    url = client.url(path.format(**things))
    other = ec.generate_private_key(ec.SECP256R1())
    assert problem(client.post(url, None, key=other, **({} if path == "new-account" else {"kid": client.kid}))) in (
        "unauthorized", "externalAccountRequired", "malformed",
    )  # fmt: skip
    message = client.message(url, None)
    assert problem(client.send(url, {**message, "signature": b64(bytes(64))})) in ("unauthorized", "malformed")
    assert problem(client.send(url, {**message, "payload": b64(b"{}")})) in ("unauthorized", "malformed")


def test_a_foreign_kid_does_not_open_an_account(server: Any, client: Any) -> None:
    stranger = server.client()
    answer = stranger.post(client.kid, None, kid=client.kid)
    assert problem(answer) == "unauthorized"
    for kid in ("", "x", client.url("account", ""), client.url("account", "x" * 22), client.kid + "/", 7, [],
                client.kid.replace("localhost", "other.example"), "\0"):  # fmt: skip
        assert problem(client.post(client.kid, None, kid=kid)) == "accountDoesNotExist"


def test_jwk_and_kid_have_their_places(client: Any) -> None:
    url = client.url("new-order")
    assert problem(client.post(url, {}, jwk=jwk(client.key), kid=None)) == "accountDoesNotExist"
    assert problem(client.post(url, {}, jwk=jwk(client.key), kid=client.kid)) == "malformed"
    assert problem(client.post(url, {}, kid=None)) == "malformed"
    assert problem(client.post(client.url("new-account"), {})) == "malformed"


@pytest.mark.parametrize("name", ["none", "HS256", "HS512", "ES512", "PS256", "RS1", "es256", "", None, 7, ["ES256"]])
def test_other_algorithms_are_refused(client: Any, name: Any) -> None:
    answer = client.post(client.kid, None, alg=name)
    assert problem(answer) == "badSignatureAlgorithm"
    assert answer.json["algorithms"] == ["ES256", "ES384", "EdDSA", "RS256"]


def test_a_key_signs_with_its_own_algorithm(client: Any) -> None:
    for name in ("ES384", "EdDSA", "RS256"):
        assert problem(client.post(client.kid, None, alg=name)) == "badSignatureAlgorithm"


@pytest.mark.parametrize(
    "broken",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))},
        {"kty": "EC", "crv": "P-256", "x": b64(bytes(31)), "y": b64(bytes(33))},
        {"kty": "EC", "crv": "P-256", "x": 7, "y": []},
        {"kty": "OKP", "crv": "Ed448", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "n": b64(bytes(256)), "e": "AQAB"},
        {"kty": "RSA", "n": b64(b"\xff" * 2000), "e": "AQAB"},
        {"kty": "RSA", "n": b64(b"\xff" * 256), "e": "Ag"},
        {"kty": ["EC"]},
        {},
        7,
        "x",
        None,
        [],
    ],
    ids=str,
)
def test_a_key_that_is_none_is_refused(server: Any, broken: Any) -> None:
    client = Client(server.http)
    message = client.message(client.url("new-account"), {}, jwk=broken if broken is not None else [])
    assert problem(client.send(client.url("new-account"), message)) in ("badPublicKey", "malformed")


def test_a_weak_or_private_key_is_refused(server: Any) -> None:
    client = Client(server.http, key=rsa.generate_private_key(65537, 1024))  # noqa: S505
    assert problem(client.post(client.url("new-account"), {})) == "badPublicKey"
    client = Client(server.http)
    d = client.key.private_numbers().private_value  # type: ignore[union-attr]
    shown = {**jwk(client.key), "d": b64(d.to_bytes(32, "big"))}
    assert problem(client.post(client.url("new-account"), {}, jwk=shown)) == "malformed"


# Nonces --------------------------------------------------------------------------------------------------------------


def test_a_nonce_works_once(client: Any) -> None:
    message = client.message(client.kid, None)
    assert client.send(client.kid, message).status_code == 200
    again = client.send(client.kid, message)
    assert (again.status_code, problem(again)) == (400, "badNonce")
    # The refusal brings a nonce with which the request works (RFC 8555 6.5).
    assert client.post(client.kid, None, nonce=again.headers["Replay-Nonce"]).status_code == 200


def test_a_nonce_is_ours_and_fresh(server: Any, client: Any) -> None:
    good = client.nonce()
    flipped = ("B" if good[0] == "A" else "A") + good[1:]
    for nonce in ("", "x", "AAAA", flipped, good[:-1], good + "A", "===", "ө"):
        assert problem(client.post(client.kid, None, nonce=nonce)) == "badNonce"
    for nonce in (None, 7, [good]):
        assert problem(client.post(client.kid, None, nonce=nonce)) == "malformed"
    server.room.clock.advance(timedelta(hours=1, seconds=2))
    assert problem(client.post(client.kid, None, nonce=good)) == "badNonce"


def test_nonces_go_with_the_memory_of_used_ones(server: Any, client: Any) -> None:
    message = client.message(client.kid, None)
    assert client.send(client.kid, message).status_code == 200
    server.parts.nonces._store = ProcessLocalStore(server.room.clock)  # the process was started anew
    assert problem(client.send(client.kid, message)) == "badNonce"


def test_who_cannot_sign_uses_up_no_nonce(client: Any) -> None:
    message = client.message(client.kid, None)
    assert problem(client.send(client.kid, {**message, "signature": b64(bytes(64))})) == "unauthorized"
    assert client.send(client.kid, message).status_code == 200


def test_every_answer_brings_a_nonce_of_its_own(server: Any, client: Any) -> None:
    answers = [server.http.get("/acme/directory"), server.http.get("/acme/new-nonce"), client.order(NAME),
               client.order("evil.example"), server.http.post("/acme/new-order"),
               server.http.get("/acme/renewal-information/x.y")]  # fmt: skip
    nonces = [answer.headers["Replay-Nonce"] for answer in answers]
    assert len(set(nonces)) == len(nonces)
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert all('/acme/directory>;rel="index"' in answer.headers["Link"] for answer in answers[1:])
    assert [server.http.head("/acme/new-nonce").status_code, answers[1].status_code] == [200, 204]


# Fuzz ----------------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (None, True, 0, -1, 1e308, "", "x", "\0", "\ud800", "ө" * 99, [], [[]], {"a": {}}, "A" * 70_000)


@pytest.mark.parametrize("path", MOUNTED)
def test_no_payload_breaks_a_resource(client: Any, things: dict[str, str], path: str) -> None:
    url = client.url(path.format(**things))
    members = ("identifiers", "notBefore", "notAfter", "replaces", "csr", "certificate", "reason", "status", "contact",
               "termsOfServiceAgreed", "onlyReturnExisting", "externalAccountBinding", "account", "oldKey",
               "protected", "payload", "signature")  # fmt: skip
    more = {"jwk": jwk(client.key), "kid": None} if path == "new-account" else {}
    for value in ODD:
        answer = client.post(url, {name: value for name in members if name != "status"}, **more)
        assert answer.status_code < 500, (value, answer.text)
        assert client.post(url, value if value is not None else b"null", **more).status_code < 500
    for raw in (b"null", b"[", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000, b"NaN", b'{"a":NaN}', b"1" * 5000):
        answer = client.post(url, raw, **more)
        assert answer.status_code < 500, (raw[:20], answer.text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"\xff\xfe",
        b"[" * 200_000,
        b"{" * 200_000,
        b'{"protected":"","payload":"","signature":""}',
        b'{"protected":"e30","payload":"","signature":""}',
        b'{"protected":"e30=","payload":"","signature":""}',
        b'{"protected":"e31","payload":"","signature":""}',
        b'{"protected":"e30","payload":"","signature":"","header":{}}',
        b'{"payload":"","signatures":[{"protected":"e30","signature":""}]}',
        b'{"protected":"e30","protected":"e30","payload":"","signature":""}',
        b'{"protected":1,"payload":null,"signature":{}}',
        b"x" * 200_000,
        json.dumps({"protected": b64(b"\xff"), "payload": "", "signature": ""}).encode(),
        json.dumps({"protected": b64(b"[]"), "payload": "", "signature": ""}).encode(),
        json.dumps({"protected": b64(b'{"alg":"ES256","alg":"none"}'), "payload": "", "signature": ""}).encode(),
    ],
    ids=lambda body: str(body[:40]),
)
@pytest.mark.parametrize("path", ["new-account", "new-order", "revoke-certificate"])
def test_no_body_breaks_a_resource(client: Any, path: str, body: bytes) -> None:
    answer = client.send(client.url(path), body)
    assert answer.status_code == 400
    assert problem(answer) in ("malformed", "badSignatureAlgorithm")


def test_extensions_of_jws_are_refused(client: Any) -> None:
    for more in ({"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}, {"b64": True}):
        assert problem(client.post(client.kid, None, **more)) == "malformed"


def test_no_header_breaks_a_resource(client: Any) -> None:
    for member in ("alg", "kid", "nonce", "url", "jwk", "crit", "typ", "cty"):
        for value in ODD:
            header = {"alg": "ES256", "kid": client.kid, "url": client.kid, "nonce": client.nonce(), member: value}
            message = flattened(header, b"", lambda data: signature(client.key, data))
            answer = client.send(client.kid, message)
            assert answer.status_code < 500, (member, value, answer.text)


def test_no_flipped_octet_breaks_a_resource(client: Any) -> None:
    chance = random.Random(7)
    for _ in range(150):
        octets = bytearray(json.dumps(client.message(client.url("new-order"), {"identifiers": []})).encode())
        for _ in range(chance.randint(1, 4)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        answer = client.send(client.url("new-order"), bytes(octets))
        assert answer.status_code < 500, (octets, answer.text)


def test_a_signature_of_another_form_is_refused(server: Any) -> None:
    for key, sizes in ((ec.generate_private_key(ec.SECP256R1()), (0, 63, 65, 64)),
                       (ed25519.Ed25519PrivateKey.generate(), (0, 63, 65, 64)),
                       (rsa.generate_private_key(65537, 2048), (0, 255, 257, 256))):  # fmt: skip
        client = server.client(key=key)
        for size in sizes:
            for octet in (b"\x00", b"\xff"):
                message = {**client.message(client.kid, None), "signature": b64(octet * size)}
                assert problem(client.send(client.kid, message)) == "unauthorized"
