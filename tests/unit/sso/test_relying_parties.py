"""The register of relying parties: what may be registered, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from sso.errors import ClientNotFound, InvalidClientMetadata
from sso.redirect_uris import matches, with_parameters
from tests.unit.sso.conftest import House, RelyingParty


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "myapp:/callback",
        "myapp://callback",
        "http://bank.example.test/cb",
        "https://bank.example.test/cb#fragment",
        "https://user:pw@bank.example.test/cb",
        "https://bank.example.test\\@evil.test/cb",
        "https://bank.example.test/c b",
        "https://bank.example.test/\ncb",
        "https://bаnk.example.test/cb",
        "https:///cb",
        "https://:443/cb",
        "https://bank.example.test:99999/cb",
        "https://bank.example.test:x/cb",
        "https://*.example.test/cb",
        "//bank.example.test/cb",
        "/cb",
        "",
        "https://bank.example.test/" + "x" * 2048,
    ],
)
@pytest.mark.parametrize("what", ["redirect_uris", "post_logout_redirect_uris", "webhook_uris", "return_urls"])
def test_a03_unsafe_addresses_cannot_be_registered(house: House, uri: str, what: str) -> None:
    with pytest.raises(InvalidClientMetadata):
        house.new_client(**{what: (uri,)})


@pytest.mark.parametrize("uri", ["myapp:/cb", "mn.example.app://cb", "http://localhost/cb", "http://10.0.0.1/cb"])
def test_a03_an_app_registers_a_scheme_of_its_own_domain_or_a_loopback_address(house: House, uri: str) -> None:
    common: dict[str, Any] = {
        "kind": "native",
        "auth_method": "none",
        "scopes": ("openid",),
        "post_logout_redirect_uris": (),
    }
    with pytest.raises(InvalidClientMetadata):
        house.new_client(redirect_uris=(uri,), **common)
    good = ("mn.example.app:/cb", "http://127.0.0.1/cb", "http://[::1]/cb", "https://app.example.test/cb")
    assert house.new_client(redirect_uris=good, **common).registered.client_secret is None


def test_plain_http_on_a_loopback_host_is_for_instances_that_are_so_themselves(house: House) -> None:
    assert house.new_client(redirect_uris=("http://localhost:9090/callback",))
    production = type(house.parts.relying_parties)(
        house.database, house.parts.relying_parties._audit, house.clock, development=False
    )
    from sso.relying_parties import Registration

    with pytest.raises(InvalidClientMetadata):
        production.create(
            Registration("Б", "B", auth_method="client_secret_basic", redirect_uris=("http://localhost/cb",)), actor="t"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"name_mn": ""},
        {"name_en": "x" * 101},
        {"name_en": "two\nlines"},
        {"name_en": "turned \u202e round"},
        {"kind": "spa"},
        {"auth_method": "client_secret_jwt"},
        {"auth_method": "none"},
        {"kind": "native"},
        {"kind": "machine"},
        {"scopes": ("openid", "admin")},
        {"scopes": ()},
        {"redirect_uris": ()},
        {"redirect_uris": ("https://a.test/", "https://a.test/")},
        {"redirect_uris": ("https://a.test/", "https://b.test/")},
        {"sector": "not a host"},
        {"client_id": "a b"},
        {"client_id": "x" * 65},
        {"minimum_acr": "urn:somebody:else"},
        {"jwks": None},
        {"jwks": {}},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": ["x"]}},
        {"jwks": {"keys": [{"kty": "EC"}]}},
        {"auth_algorithm": "HS256"},
        {"auth_algorithm": "none"},
        {"auth_algorithm": "PS256"},
    ],
)
def test_a_registration_that_does_not_fit_is_refused(house: House, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidClientMetadata):
        house.new_client(**changes)


def test_a26_weak_and_private_keys_are_refused(house: House) -> None:
    good = ECKey.generate_key("P-256").as_dict(private=False)
    rsa = RSAKey.generate_key(2048).as_dict(private=False)
    bad: dict[str, dict[str, Any]] = {
        "private": dict(ECKey.generate_key("P-256").as_dict(private=True)),
        "symmetric": dict(OctKey.generate_key(256).as_dict(private=True)),
        "P-384": dict(ECKey.generate_key("P-384").as_dict(private=False)),
        "agreement only": dict(OKPKey.generate_key("X25519").as_dict(private=False)),
        "off the curve": {**good, "x": good["y"]},
        "exponent 1": {**rsa, "e": "AQ"},
        "exponent 3": {**rsa, "e": "Aw"},
        "short modulus": {**rsa, "n": str(rsa["n"])[:172]},
    }
    for what, key in bad.items():
        assert not registers(house, key), what


def registers(house: House, key: dict[str, Any]) -> bool:
    try:
        return bool(house.new_client(jwks={"keys": [key]}))
    except InvalidClientMetadata:
        return False


def test_the_algorithm_follows_from_the_keys_unless_said(house: House) -> None:
    def algorithm(key: Any, **said: str) -> str | None:
        client = house.new_client(jwks={"keys": [key.as_dict(private=False)]}, **said)
        return client.registered.relying_party.auth_algorithm

    rsa = RSAKey.generate_key(2048)
    assert algorithm(ECKey.generate_key("P-256")) == "ES256"
    assert algorithm(OKPKey.generate_key("Ed25519")) == "EdDSA"
    assert (algorithm(rsa), algorithm(rsa, auth_algorithm="RS256")) == ("PS256", "RS256")


def test_a_client_id_is_given_once(house: House, bank: RelyingParty) -> None:
    with pytest.raises(InvalidClientMetadata):
        house.new_client(client_id=bank.client_id)


def test_the_sector_is_the_host_people_return_to(house: House, bank: RelyingParty) -> None:
    assert bank.registered.relying_party.sector == "bank.example.test"
    local = house.new_client(redirect_uris=("http://localhost:1/cb",), client_id="local-1")
    assert local.registered.relying_party.sector == "local-1"


def test_disabling_twice_is_one_act(house: House, bank: RelyingParty) -> None:
    for _ in range(2):
        house.parts.relying_parties.disable(bank.client_id, actor="test")
    assert house.events().count("sso:client:disabled") == 1
    assert not house.parts.relying_parties.get(bank.client_id).enabled
    assert house.parts.relying_parties.enabled(bank.client_id) is None
    with pytest.raises(ClientNotFound):
        house.parts.relying_parties.disable("nobody", actor="test")


def test_parameters_are_added_behind_what_is_there() -> None:
    assert with_parameters("https://a.test/cb", [("a", "x y&=é")]) == "https://a.test/cb?a=x+y%26%3D%C3%A9"
    assert with_parameters("https://a.test/cb?x=%20", [("a", "1")]) == "https://a.test/cb?x=%20&a=1"


def test_a_web_client_has_no_loopback_rule() -> None:
    assert not matches("http://127.0.0.1:2/cb", ["http://127.0.0.1:1/cb"], native=False)
    assert matches("http://127.0.0.1:2/cb", ["http://127.0.0.1:1/cb"], native=True)
