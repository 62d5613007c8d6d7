"""The fourteen places where Authlib's own behaviour is not ours; each test carries its number."""

from __future__ import annotations

import ast
import inspect
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from authlib.oauth2.rfc6749.authenticate_client import ClientAuthentication as AuthlibClientAuthentication
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from sqlalchemy import select, update

import sso
from sso import server
from sso.authorization_codes import Redeemed
from sso.opaque import digest
from sso.tables import AccessTokenRow, AuthorizationCodeRow, RelyingPartyRow
from tests.unit.sso.conftest import PASSWORD, REDIRECT, House, RelyingParty, Somebody, answer_of, json_of


def test_t01_fifty_parallel_redemptions_of_one_code_give_exactly_one_success(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    start, outcomes = threading.Barrier(50), []
    forms = [bank.proof() for _ in range(50)]

    def redeem(form: dict[str, str]) -> None:
        start.wait()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": asked.verifier,
        }
        answer = house.app.test_client().post("/oauth2/token", data={**form, **fields})
        outcomes.append((answer.status_code, json_of(answer).get("error")))

    threads = [threading.Thread(target=redeem, args=(form,)) for form, _ in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {(200, None): 1, (400, "invalid_grant"): 49}
    with house.database.reading() as session:
        assert len(session.scalars(select(AccessTokenRow)).all()) == 1


def test_t02_a_spent_code_is_kept_and_its_replay_revokes_the_tokens(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    tokens = json_of(bank.redeem(code, asked))
    assert bank.userinfo(tokens["access_token"]).status_code == 200
    replayed = bank.redeem(code, asked)
    assert (replayed.status_code, json_of(replayed)["error"]) == (400, "invalid_grant")
    assert bank.userinfo(tokens["access_token"]).status_code == 401
    with house.database.reading() as session:
        row = session.get(AuthorizationCodeRow, digest(code))
    assert row is not None and row.redeemed_at is not None and row.revoked_at is not None
    assert "sso:code:replayed" in house.events()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"code_challenge": None}, "code_challenge is required"),
        ({"code_challenge": None, "code_challenge_method": None}, "code_challenge is required"),
        ({"code_challenge_method": None}, "code_challenge_method must be S256"),
        ({"code_challenge_method": "plain"}, "code_challenge_method must be S256"),
        ({"code_challenge": "x" * 42}, "code_challenge must be 43 base64url characters"),
        ({"code_challenge": "~" * 43}, "code_challenge must be 43 base64url characters"),
    ],
)
@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_basic"])
def test_t03_pkce_with_s256_is_demanded_of_confidential_clients_at_authorize(
    house: House, changes: dict[str, str | None], says: str, method: str
) -> None:
    client = house.new_client(auth_method=method)
    answer = answer_of(house.browser().open(client.ask(**changes).url))
    assert (answer["error"], answer["error_description"]) == ("invalid_request", says)


def test_t04_tokens_live_ten_minutes_and_not_ten_days(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    assert BearerTokenGenerator.GRANT_TYPES_EXPIRES_IN["client_credentials"] == 864000  # why this test is here
    asked = bank.ask()
    person = json_of(bank.redeem(house.browser().code(asked, citizen), asked))
    client = json_of(bank.token(grant_type="client_credentials"))
    assert person["expires_in"] == client["expires_in"] == 600
    with house.database.reading() as session:
        for row in session.scalars(select(AccessTokenRow)):
            assert (row.expires_at - row.issued_at).total_seconds() == 600
    house.clock.turn(600)
    assert bank.userinfo(person["access_token"]).status_code == 401


def test_t05_there_is_no_refresh_token_to_race_for(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked = bank.ask(scope="openid profile offline_access")
    tokens = json_of(bank.redeem(house.browser().code(asked, citizen), asked))
    assert "refresh_token" not in tokens
    answer = bank.token(grant_type="refresh_token", refresh_token="anything")
    assert (answer.status_code, json_of(answer)["error"]) == (400, "unsupported_grant_type")


def test_t06_state_returns_as_it_came_and_other_response_modes_are_refused(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    state = "a+b c%20&<\"'>=ө/\\#?"
    assert house.browser().authorize(bank.ask(state=state), citizen)["state"] == state
    for mode in ("form_post", "fragment", "query.jwt"):
        answer = answer_of(house.browser().open(bank.ask(response_mode=mode, state=state).url))
        assert (answer["error"], answer["state"]) == ("invalid_request", state)
    assert "code" in house.browser().authorize(bank.ask(response_mode="query"), citizen)


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"request_uri": "https://bank.example.test/request.jwt"}, "request_uri_not_supported"),
    ],
)
def test_t07_request_objects_are_refused_signed_or_not(
    house: House, bank: RelyingParty, parameter: dict[str, str], error: str
) -> None:
    assert answer_of(house.browser().open(bank.ask(**parameter).url))["error"] == error


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 4102444800},
        {"exp": None},
        {"iat": 4102444800},
        {"nbf": 4102444800},
        {"jti": None},
    ],
)
def test_t08_assertions_have_a_ceiling_an_issue_time_and_an_identity(
    bank: RelyingParty, changes: dict[str, Any]
) -> None:
    answer = bank.token(grant_type="client_credentials", client_assertion=bank.assertion(**changes))
    assert (answer.status_code, json_of(answer)["error"]) == (401, "invalid_client")


def test_t08_an_assertion_used_fifty_times_at_once_is_accepted_once(house: House, bank: RelyingParty) -> None:
    form, _ = bank.proof()
    start, statuses = threading.Barrier(50), []

    def use() -> None:
        start.wait()
        answer = house.app.test_client().post("/oauth2/token", data={**form, "grant_type": "client_credentials"})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=use) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {200: 1, 401: 49}


def test_t09_unknown_client_and_wrong_secret_are_one_answer(house: House) -> None:
    agency = house.new_client(auth_method="client_secret_basic")
    answers = []
    for pair in ((agency.client_id, "wrong"), ("nobody", "wrong"), ("nobody", agency.registered.client_secret or "")):
        client = house.app.test_client()
        answers.append(client.post("/oauth2/token", auth=pair, data={"grant_type": "client_credentials"}))
    seen = {
        (
            answer.status_code,
            answer.text,
            tuple((name, value) for name, value in answer.headers if name != "X-Request-Id"),
        )
        for answer in answers
    }
    assert len(seen) == 1
    assert answers[0].status_code == 401


def test_t09_an_unknown_client_at_authorize_is_a_page(house: House, bank: RelyingParty) -> None:
    page = house.browser().open(bank.ask(client_id="nobody").url)
    assert page.status_code == 400 and "unknown_client" in page.text and "Location" not in page.headers


@pytest.mark.parametrize("registered", ["private_key_jwt", "client_secret_basic", "none"])
def test_t10_a_client_is_known_by_its_registered_method_only(house: House, registered: str) -> None:
    native = {"kind": "native", "redirect_uris": ("http://127.0.0.1/cb",), "scopes": ("openid",)}
    native["post_logout_redirect_uris"] = ()
    client = house.new_client(auth_method=registered, **(native if registered == "none" else {}))
    other = house.new_client()
    proofs: dict[str, dict[str, Any]] = {
        "private_key_jwt": {
            "data": {
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": client.assertion(key=other.key),
            }
        },
        "client_secret_basic": {"auth": (client.client_id, client.registered.client_secret or "none")},
        "client_secret_post": {
            "data": {"client_id": client.client_id, "client_secret": client.registered.client_secret or "none"}
        },
        "none": {"data": {"client_id": client.client_id}},
    }
    del proofs[registered]
    for proof in proofs.values():
        fields = {**proof.get("data", {}), "grant_type": "authorization_code"}
        answer = house.app.test_client().post("/oauth2/token", data=fields, auth=proof.get("auth"))
        assert (answer.status_code, json_of(answer)["error"]) == (401, "invalid_client")


def test_t10_a_secret_is_stored_as_its_digest_only(house: House) -> None:
    agency = house.new_client(auth_method="client_secret_basic")
    secret = agency.registered.client_secret or ""
    assert len(secret) == 43
    with house.database.reading() as session:
        row = session.get(RelyingPartyRow, agency.client_id)
    assert row is not None and row.secret_digest == digest(secret)
    assert secret not in repr(agency.registered) and secret not in str(vars(row))


def test_t11_the_redirect_uri_is_required_even_when_only_one_is_registered(house: House, bank: RelyingParty) -> None:
    page = house.browser().open(bank.ask(redirect_uri=None).url)
    assert page.status_code == 400 and "redirect_uri_mismatch" in page.text


def test_t11_the_redirect_uri_is_required_at_the_token_endpoint(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    answer = bank.redeem(code, asked, redirect_uri=None)
    assert (answer.status_code, json_of(answer)["error"]) == (400, "invalid_request")
    assert bank.redeem(code, asked).status_code == 200


@pytest.mark.parametrize("name", ["scope", "nonce", "prompt", "max_age", "code_challenge", "ui_locales", "unheard_of"])
def test_t12_any_doubled_parameter_is_refused(house: House, bank: RelyingParty, name: str) -> None:
    asked = bank.ask()
    value = asked.parameters.get(name, "1")
    url = f"{asked.url}&{name}={value}" + ("" if name in asked.parameters else f"&{name}={value}")
    answer = answer_of(house.browser().open(url))
    assert (answer["error"], answer["state"]) == ("invalid_request", asked.parameters["state"])


def test_t12_a_doubled_state_is_refused_and_neither_returned(house: House, bank: RelyingParty) -> None:
    answer = answer_of(house.browser().open(bank.ask().url + "&state=other"))
    assert answer["error"] == "invalid_request" and "state" not in answer


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_t12_a_doubled_way_back_is_a_page(house: House, bank: RelyingParty, name: str) -> None:
    asked = bank.ask()
    page = house.browser().open(f"{asked.url}&{name}={asked.parameters[name]}")
    assert page.status_code == 400 and "invalid_request" in page.text


def test_t12_a_doubled_parameter_at_the_token_endpoint_is_refused(house: House, bank: RelyingParty) -> None:
    form, _ = bank.proof()
    fields = [
        *form.items(),
        ("grant_type", "client_credentials"),
        ("scope", "sign.request"),
        ("scope", "sign.validate"),
    ]
    body = "&".join(f"{name}={value}" for name, value in fields)
    answer = house.app.test_client().post("/oauth2/token", data=body, content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, json_of(answer)["error"]) == (400, "invalid_request")


def test_t13_the_validated_grant_is_always_passed() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(server)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "create_authorization_response"
    ]
    assert calls and all("grant" in {keyword.arg for keyword in call.keywords} for call in calls)


def test_t13_what_the_browser_changes_after_the_check_changes_nothing(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked, browser = bank.ask(scope="openid"), house.browser()
    page = browser.log_in(browser.open(asked.url), citizen)
    page = browser.press(
        page, "consent-allow", scope="openid profile", redirect_uri="https://evil.test/", client_id="other", state="x"
    )
    assert page.headers["Location"].startswith(REDIRECT)
    answer = answer_of(page)
    assert answer["state"] == asked.parameters["state"]
    tokens = json_of(bank.redeem(answer["code"], asked))
    assert tokens["scope"] == "openid"
    assert set(json_of(bank.userinfo(tokens["access_token"]))) == {"sub"}


def test_t14_claims_about_a_person_replace_no_protocol_claim(house: House) -> None:
    code = Redeemed(
        client_id="bank",
        person_id="p",
        session_id="s",
        redirect_uri=REDIRECT,
        code_challenge="c",
        scope="openid",
        nonce=None,
        sub="right",
        sid="right",
        acr="right",
        amr=("pwd",),
        authenticated_at=house.clock.now,
        family="f",
    )
    evil = dict.fromkeys(("iss", "sub", "aud", "exp", "nonce", "acr", "amr", "sid", "azp", "auth_time"), "evil")
    token = house.parts.id_tokens.issue(code, "token", about={**evil, "given_name": "Болд"})
    claims = house.parts.id_tokens.read_hint(token)
    assert claims is not None and "evil" not in claims.values() and "nonce" not in claims
    assert claims["given_name"] == "Болд"


def test_only_the_server_module_knows_authlib() -> None:
    room = Path(sso.__file__).parent
    known = [
        path.name for path in room.rglob("*.py") if re.search(r"^\s*(from|import) authlib", path.read_text(), re.M)
    ]
    assert known == ["server.py"]
    assert AuthlibClientAuthentication.__name__ not in (room / "server.py").read_text()


def test_no_secret_that_strangers_present_is_stored_in_clear(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked, browser = bank.ask(), house.browser()
    code = browser.code(asked, citizen)
    tokens = json_of(bank.redeem(code, asked))
    cookie = browser.client.get_cookie("tamga")
    assert cookie is not None
    with house.database.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = b"".join(path.read_bytes() for path in Path(house.database.url[10:]).parent.glob("sso.db*"))
    totp = citizen.enrolled.totp_secret or b""
    secrets = (code, tokens["access_token"], cookie.value, PASSWORD, "000000000001")
    assert all(secret.encode() not in stored for secret in secrets)
    assert totp not in stored and totp.hex().encode() not in stored


def test_a_spent_code_stays_spent_whatever_the_row_says_later(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    with house.database.transaction() as session:
        session.execute(update(AuthorizationCodeRow).values(revoked_at=house.clock.now))
    assert json_of(bank.redeem(code, asked))["error"] == "invalid_grant"
