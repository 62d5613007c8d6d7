"""The metadata: both documents agree, and nothing is promised that is not kept."""

from __future__ import annotations

import pytest
from authlib.oauth2 import rfc8414
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc.jwk import KeySet

from tests.unit.sso.conftest import House, json_of


def test_both_documents_are_the_same_and_pass_an_outside_validator(house: House) -> None:
    client = house.app.test_client()
    openid = client.get("/.well-known/openid-configuration")
    oauth = client.get("/.well-known/oauth-authorization-server")
    assert openid.data == oauth.data and openid.mimetype == "application/json"
    document = json_of(openid)
    assert document["issuer"] == house.issuer
    https = {
        name: value.replace("http://localhost:8080", "https://id.example.test") if isinstance(value, str) else value
        for name, value in document.items()
    }
    # Authlib insists on RS256, which Discovery 3 asks of dynamic providers; ours registers clients by hand.
    https["id_token_signing_alg_values_supported"] = ["RS256"]
    OpenIDProviderMetadata(https).validate()
    rfc8414.AuthorizationServerMetadata(https).validate()


def test_every_advertised_address_answers(house: House) -> None:
    client, document = (
        house.app.test_client(),
        json_of(house.app.test_client().get("/.well-known/openid-configuration")),
    )
    addresses = [value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) == 5
    for address in addresses:
        assert client.get(address.removeprefix(house.issuer)).status_code in (200, 400, 401, 405), address


def test_what_is_not_there_is_not_advertised(house: House) -> None:
    document = json_of(house.app.test_client().get("/.well-known/openid-configuration"))
    for absent in ("registration_endpoint", "introspection_endpoint", "revocation_endpoint", "check_session_iframe"):
        assert absent not in document
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/oauth2/jwks"])
def test_public_documents_are_cached_for_an_hour_and_revalidated(house: House, path: str) -> None:
    client = house.app.test_client()
    first = client.get(path)
    assert first.headers["Cache-Control"] == "public, max-age=3600"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.post(path).status_code == 405
    assert client.post(path).mimetype == "application/json"


def test_the_key_set_holds_the_public_half_only(house: House) -> None:
    document = json_of(house.app.test_client().get("/oauth2/jwks"))
    (key,) = document["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["alg"], key["use"], key["crv"]) == ("ES256", "sig", "P-256")
    (read,) = KeySet.import_key_set(document).keys
    assert read.thumbprint() == key["kid"]
