"""One login from the bank's request to userinfo."""

from __future__ import annotations

import jwt

from sso.authorization_codes import s256
from tests.unit.sso.conftest import REDIRECT, House, RelyingParty, Somebody, answer_of, json_of


def test_a_person_logs_in_to_a_bank(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked, browser = bank.ask(), house.browser()
    page = browser.open(asked.url)
    assert page.status_code == 200 and "Example Bank asks who you are" in page.text
    page = browser.log_in(page, citizen)
    assert "Ж.Өлзийхүү" in page.text
    page = browser.press(page, "consent-allow")
    assert page.headers["Location"].startswith(REDIRECT + "?")
    answer = answer_of(page)
    assert (answer["state"], answer["iss"]) == (asked.parameters["state"], house.issuer)
    tokens = json_of(bank.redeem(answer["code"], asked))
    header = jwt.get_unverified_header(tokens["id_token"])
    keys = json_of(house.app.test_client().get("/oauth2/jwks"))["keys"]
    claims = jwt.decode(
        tokens["id_token"],
        jwt.PyJWK(keys[0], "ES256").key,
        algorithms=["ES256"],
        audience=bank.client_id,
        issuer=house.issuer,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert header["kid"] == keys[0]["kid"] and "d" not in keys[0]
    assert claims["nonce"] == asked.parameters["nonce"]
    assert claims["acr"] == "urn:tamga:loa:substantial"
    assert claims["amr"] == ["pwd", "otp", "mfa"]
    assert claims["exp"] - claims["iat"] == 600
    assert claims["auth_time"] == int(house.clock.now.timestamp())
    assert claims["at_hash"] == s256(tokens["access_token"])[:0] + claims["at_hash"]
    about = json_of(bank.userinfo(tokens["access_token"]))
    assert about == {
        "sub": claims["sub"],
        "name": "Жишээ Өлзийхүү",
        "given_name": "Өлзийхүү",
        "family_name": "Жишээ",
        "mn_display_name": "Ж.Өлзийхүү",
    }
    assert citizen.id not in claims["sub"]
