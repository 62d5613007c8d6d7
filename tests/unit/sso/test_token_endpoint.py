"""``/oauth2/token``: which codes are taken, who is believed, and how refusals look."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from sso.authorization_codes import s256
from tests.unit.sso.conftest import (
    ASSERTION_TYPE,
    REDIRECT,
    House,
    RelyingParty,
    Somebody,
    json_of,
)


def refusal(answer: Any) -> tuple[int, str]:
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, json_of(answer)["error"]


# Codes ---------------------------------------------------------------------------------------------------------------


def test_a22_a_code_of_one_client_is_worth_nothing_to_another(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    other, asked = house.new_client(), bank.ask()
    code = house.browser().code(asked, citizen)
    assert refusal(other.redeem(code, asked)) == (400, "invalid_grant")
    assert bank.redeem(code, asked).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": REDIRECT + "/"},
        {"code_verifier": "x" * 43},
        {"code_verifier": "x" * 42},
        {"code_verifier": "x" * 129},
        {"code_verifier": "x" * 42 + "+"},
        {"code_verifier": "x" * 42 + "\n"},
        {"code_verifier": "ө" * 43},
        {"code": "wrong"},
    ],
)
def test_a22_a23_a_code_is_bound_and_a_wrong_guess_does_not_spend_it(
    house: House, bank: RelyingParty, citizen: Somebody, changes: dict[str, str]
) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    assert refusal(bank.redeem(code, asked, **changes)) == (400, "invalid_grant")
    assert bank.redeem(code, asked).status_code == 200


@pytest.mark.parametrize("missing", ["grant_type", "code", "redirect_uri", "code_verifier"])
def test_a_missing_member_is_invalid_request(house: House, bank: RelyingParty, citizen: Somebody, missing: str) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    assert refusal(bank.redeem(code, asked, **{missing: None})) == (400, "invalid_request")
    assert bank.redeem(code, asked).status_code == 200


def test_a23_a_verifier_may_use_the_whole_unreserved_alphabet(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    verifier = "AZaz09-._~" * 5
    asked = bank.ask(code_challenge=s256(verifier))
    code = house.browser().code(asked, citizen)
    assert bank.redeem(code, asked, code_verifier=verifier).status_code == 200


def test_the_challenge_of_rfc_7636_appendix_b() -> None:
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a22_a_code_is_worth_nothing_after_a_minute(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    house.clock.turn(60)
    assert refusal(bank.redeem(code, asked)) == (400, "invalid_grant")


def test_a22_a_code_is_worth_nothing_after_logout(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked, browser = bank.ask(), house.browser()
    code = browser.code(asked, citizen)
    browser.press(browser.open("/oauth2/logout"), "logout-confirm")
    assert refusal(bank.redeem(code, asked)) == (400, "invalid_grant")


# Disabling -----------------------------------------------------------------------------------------------------------


def test_a43_disabling_a_client_ends_its_codes_and_tokens(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser, first, second = house.browser(), bank.ask(), bank.ask()
    token = json_of(bank.redeem(browser.code(first, citizen), first))["access_token"]
    machine = json_of(bank.token(grant_type="client_credentials"))["access_token"]
    code = browser.code(second, citizen)
    house.parts.relying_parties.disable(bank.client_id, actor="test")
    assert bank.userinfo(token).status_code == 401
    assert bank.userinfo(machine).status_code == 401
    assert refusal(bank.redeem(code, second)) == (401, "invalid_client")
    assert "unknown_client" in browser.open(bank.ask().url).text
    assert "sso:client:disabled" in house.events()


def test_a43_disabling_a_person_ends_everything_of_theirs(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser, first, second = house.browser(), bank.ask(), bank.ask()
    token = json_of(bank.redeem(browser.code(first, citizen), first))["access_token"]
    code = browser.code(second, citizen)
    house.parts.people.disable(citizen.id, actor="test")
    assert bank.userinfo(token).status_code == 401
    assert refusal(bank.redeem(code, second)) == (400, "invalid_grant")
    assert 'id="login-submit"' in browser.open(bank.ask().url).text
    page = browser.log_in(browser.open(bank.ask().url), citizen)
    assert page.status_code == 400 and "not right" in page.text


# Client credentials --------------------------------------------------------------------------------------------------


def test_a_partner_gets_a_token_in_its_own_name(house: House, bank: RelyingParty) -> None:
    tokens = json_of(bank.token(grant_type="client_credentials"))
    assert (tokens["scope"], tokens["token_type"]) == ("sign.request sign.validate", "Bearer")
    assert "id_token" not in tokens
    principal = house.parts.access_tokens.principal(tokens["access_token"])
    assert (principal.kind, principal.subject, principal.client_id) == ("client", bank.client_id, bank.client_id)
    assert principal.scopes == {"sign.request", "sign.validate"}
    assert json_of(bank.token(grant_type="client_credentials", scope="sign.validate"))["scope"] == "sign.validate"


@pytest.mark.parametrize("scope", ["openid", "sign.request openid", "admin", "sign.request  sign.validate"])
def test_a_partner_gets_no_scope_about_people(bank: RelyingParty, scope: str) -> None:
    assert refusal(bank.token(grant_type="client_credentials", scope=scope)) == (400, "invalid_scope")


def test_a_client_without_partner_scopes_may_not_use_client_credentials(house: House) -> None:
    shop = house.new_client(scopes=("openid",))
    assert refusal(shop.token(grant_type="client_credentials")) == (400, "unauthorized_client")


def test_a_machine_client_has_no_login(house: House) -> None:
    machine = house.new_client(
        kind="machine", redirect_uris=(), post_logout_redirect_uris=(), scopes=("sign.validate",)
    )
    assert machine.token(grant_type="client_credentials").status_code == 200
    assert refusal(machine.token(grant_type="authorization_code", code="x", redirect_uri="x", code_verifier="x")) == (
        400,
        "unauthorized_client",
    )


@pytest.mark.parametrize("grant", ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "x y"])
def test_other_grants_do_not_exist(bank: RelyingParty, grant: str) -> None:
    assert refusal(bank.token(grant_type=grant)) == (400, "unsupported_grant_type")


# The request's form --------------------------------------------------------------------------------------------------


def test_a32_only_posted_forms_are_read(house: House, bank: RelyingParty) -> None:
    client = house.app.test_client()
    form, _ = bank.proof()
    fields = {**form, "grant_type": "client_credentials"}
    assert refusal(client.get("/oauth2/token", query_string=fields)) == (405, "invalid_request")
    assert refusal(client.post("/oauth2/token", json=fields)) == (415, "invalid_request")
    assert refusal(client.post("/oauth2/token", data={"a": (b"", "f")}, content_type="multipart/form-data")) == (
        415,
        "invalid_request",
    )
    assert refusal(client.post("/oauth2/token?grant_type=client_credentials", data=form)) == (400, "invalid_request")
    assert refusal(client.post("/oauth2/token")) == (415, "invalid_request")
    assert refusal(client.post("/oauth2/token", data={"x": "y" * 100_000})) == (413, "invalid_request")
    assert refusal(client.post("/oauth2/token", data={"x": "y" * 20_000})) == (400, "invalid_request")
    huge = client.post("/oauth2/token", data=b"x" * 2_000_000, content_type="application/x-www-form-urlencoded")
    assert refusal(huge) == (413, "invalid_request")
    binary = client.post("/oauth2/token", data=b"\x00\xff=1", content_type="application/x-www-form-urlencoded")
    assert refusal(binary) == (400, "invalid_request")


def test_a32_two_methods_at_once_are_refused(house: House, bank: RelyingParty) -> None:
    form, _ = bank.proof()
    fields = {**form, "grant_type": "client_credentials"}
    client = house.app.test_client()
    assert refusal(client.post("/oauth2/token", data=fields, auth=("x", "y"))) == (400, "invalid_request")
    assert refusal(client.post("/oauth2/token", data={**fields, "client_secret": "x"})) == (400, "invalid_request")


def test_a_refused_client_is_challenged(house: House) -> None:
    answer = house.app.test_client().post("/oauth2/token", data={"grant_type": "client_credentials"})
    assert refusal(answer) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic eA==", "Bearer x", "Basic " + "A" * 20000, "x"])
def test_a_broken_authorization_header_is_a_refusal(house: House, header: str) -> None:
    answer = house.app.test_client().post(
        "/oauth2/token", data={"grant_type": "client_credentials"}, headers={"Authorization": header}
    )
    assert refusal(answer) == (401, "invalid_client")


def test_a_basic_header_is_form_encoded_inside(house: House) -> None:
    agency = house.new_client(auth_method="client_secret_basic", client_id="agency.1-x_y")
    pair = f"agency%2E1-x_y:{agency.registered.client_secret}".encode()
    answer = house.app.test_client().post(
        "/oauth2/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"basic {base64.b64encode(pair).decode()}"},
    )
    assert answer.status_code == 200


# Assertions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audience", ["", "/oauth2/token", ["https://other.test", ""]])
def test_an_assertion_is_for_the_issuer_or_the_token_endpoint(
    house: House, bank: RelyingParty, audience: str | list[str]
) -> None:
    given = [house.issuer if one == "" else one for one in audience] if isinstance(audience, list) else (
        house.issuer + audience
    )  # fmt: skip
    assertion = bank.assertion(aud=given)
    assert bank.token(grant_type="client_credentials", client_assertion=assertion).status_code == 200


def test_a28_a_wrong_assertion_is_invalid_client(house: House, bank: RelyingParty) -> None:
    other = house.new_client()
    now = int(house.clock.now.timestamp())
    wrong: dict[str, str] = {
        "foreign key": bank.assertion(key=other.key),
        "another client's subject": bank.assertion(sub=other.client_id),
        "another client's issuer": bank.assertion(iss=other.client_id),
        "no subject": bank.assertion(sub=None),
        "subject is no text": bank.assertion(sub=["x"]),
        "no audience": bank.assertion(aud=None),
        "foreign audience": bank.assertion(aud="https://other.test"),
        "audience is a number": bank.assertion(aud=7),
        "no end": bank.assertion(exp=None),
        "ended": bank.assertion(exp=now),
        "end too far": bank.assertion(exp=now + 311),
        "end is text": bank.assertion(exp=str(now + 60)),
        "end is true": bank.assertion(exp=True),
        "issued in the future": bank.assertion(iat=now + 61),
        "valid later": bank.assertion(nbf=now + 61),
        "no jti": bank.assertion(jti=None),
        "jti is long": bank.assertion(jti="x" * 300),
        "access token": bank.assertion(header={"typ": "at+jwt"}),
        "changed after signing": bank.assertion().replace(".", ".A", 1),
        "garbage": "a.b.c",
        "brackets": "eyJhbGciOiJFUzI1NiJ9." + base64.b64encode(b"[" * 5998).decode().rstrip("=") + ".AAAA",
        "end is infinite": bank.assertion(exp=float("inf")),
        "empty parts": "..",
        "too long": "x" * 8000,
    }
    for what, assertion in wrong.items():
        answer = bank.token(grant_type="client_credentials", client_assertion=assertion)
        assert refusal(answer) == (401, "invalid_client"), what


def test_an_assertion_of_a_slightly_fast_clock_is_accepted(house: House, bank: RelyingParty) -> None:
    now = int(house.clock.now.timestamp())
    assertion = bank.assertion(iat=now + 8, nbf=now + 8, exp=now + 300)
    assert bank.token(grant_type="client_credentials", client_assertion=assertion).status_code == 200


def test_a28_an_assertion_is_used_once(house: House, bank: RelyingParty) -> None:
    assertion = bank.assertion()
    assert bank.token(grant_type="client_credentials", client_assertion=assertion).status_code == 200
    assert refusal(bank.token(grant_type="client_credentials", client_assertion=assertion)) == (401, "invalid_client")
    house.clock.turn(59)
    assert refusal(bank.token(grant_type="client_credentials", client_assertion=assertion)) == (401, "invalid_client")


def test_two_clients_may_use_one_jti(house: House, bank: RelyingParty) -> None:
    other = house.new_client()
    for client in (bank, other):
        assertion = client.assertion(jti="the same")
        assert client.token(grant_type="client_credentials", client_assertion=assertion).status_code == 200


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("registered", ["ES256", "EdDSA", "PS256", "RS256"])
def test_the_registered_algorithm_and_no_other_is_accepted(house: House, registered: str) -> None:
    keys = {
        "ES256": ECKey.generate_key("P-256"),
        "EdDSA": OKPKey.generate_key("Ed25519"),
        "PS256": RSAKey.generate_key(2048),
    }
    keys["RS256"] = keys["PS256"]
    key = keys[registered]
    client = house.new_client(jwks={"keys": [{**key.as_dict(private=False), "kid": "one"}]}, auth_algorithm=registered)
    for alg, signer in keys.items():
        assertion = client.assertion(key=signer, alg=alg, header={"kid": "one"})
        answer = client.token(grant_type="client_credentials", client_assertion=assertion)
        assert answer.status_code == (200 if alg == registered else 401), alg


def test_a25_forged_headers_are_refused(house: House, bank: RelyingParty) -> None:
    now = int(house.clock.now.timestamp())
    claims = {
        "iss": bank.client_id,
        "sub": bank.client_id,
        "aud": house.issuer,
        "exp": now + 60,
        "jti": secrets.token_hex(4),
    }
    public = json.dumps(bank.key.as_dict(private=False)).encode()
    attacker = ECKey.generate_key("P-256")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    def bare(header: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode() + f".{body}."

    forged = {
        "none": bare({"alg": "none"}),
        "nOnE": bare({"alg": "nOnE"}),
        "no alg": bare({}),
        "HS256 with the public key": jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(public), ["HS256"]),
        "embedded key": jwt.encode(
            {"alg": "ES256", "jwk": attacker.as_dict(private=False)}, claims, attacker, ["ES256"]
        ),
        "key address": jws.serialize_compact(
            {"alg": "ES256", "jku": "https://evil.test/jwks"}, json.dumps(claims), attacker, ["ES256"]
        ),
        "kid as path": jwt.encode({"alg": "ES256", "kid": "../../etc/passwd"}, claims, attacker, ["ES256"]),
    }
    critical = bare({"alg": "ES256", "crit": ["b64x"], "b64x": True}).rstrip(".")
    key = bank.key.private_key
    assert key is not None
    r, s = decode_dss_signature(key.sign(critical.encode(), ec.ECDSA(hashes.SHA256())))
    raw = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
    forged["unknown critical header"] = f"{critical}.{raw}"
    forged["signature of zeros"] = bare({"alg": "ES256"}) + "A" * 86
    for what, assertion in forged.items():
        answer = bank.token(grant_type="client_credentials", client_assertion=assertion)
        assert refusal(answer) == (401, "invalid_client"), what


def test_keys_are_found_with_and_without_a_kid(house: House) -> None:
    one, two = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    public = [{**one.as_dict(private=False), "kid": "one"}, dict(two.as_dict(private=False))]
    client = house.new_client(jwks={"keys": public})
    good = [(one, {"kid": "one"}), (one, {}), (two, {}), (two, {"kid": "anything"})]
    bad = [(one, {"kid": "two"}), (one, {"kid": ""})]
    for key, header in good + bad:
        assertion = client.assertion(key=key, header=header)
        answer = client.token(grant_type="client_credentials", client_assertion=assertion)
        assert (answer.status_code == 200) == ((key, header) in good), header


def test_a_wrong_assertion_type_is_refused(bank: RelyingParty) -> None:
    answer = bank.token(grant_type="client_credentials", client_assertion_type=ASSERTION_TYPE + "x")
    assert refusal(answer) == (401, "invalid_client")


def test_a_client_id_beside_the_proof_must_be_the_same(house: House, bank: RelyingParty) -> None:
    assert bank.token(grant_type="client_credentials", client_id=bank.client_id).status_code == 200
    assert refusal(bank.token(grant_type="client_credentials", client_id="other")) == (401, "invalid_client")
