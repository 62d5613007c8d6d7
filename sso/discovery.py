"""What this provider can do, told to relying parties: only what the code does (OpenID Discovery 3, RFC 8414 2)."""

from __future__ import annotations

from typing import Any

from policies import authentication
from sso.jwks import ALGORITHM
from sso.relying_parties import ASSERTION_ALGORITHMS, AUTH_METHODS
from sso.scopes import SUPPORTED

# Where each endpoint lives below the issuer.
JWKS = "/oauth2/jwks"
AUTHORIZATION = "/oauth2/authorize"
TOKEN = "/oauth2/token"  # noqa: S105 - a path
USERINFO = "/oauth2/userinfo"
END_SESSION = "/oauth2/logout"

CLAIMS = (
    *("iss", "sub", "aud", "iat", "exp", "auth_time", "nonce", "acr", "amr", "sid", "at_hash"),
    *("name", "given_name", "family_name", "mn_display_name"),
)


def metadata(issuer: str) -> dict[str, Any]:
    """The one document behind both well-known addresses."""
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZATION,
        "token_endpoint": issuer + TOKEN,
        "userinfo_endpoint": issuer + USERINFO,
        "jwks_uri": issuer + JWKS,
        "end_session_endpoint": issuer + END_SESSION,
        "scopes_supported": list(SUPPORTED),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "acr_values_supported": [authentication.LOW, authentication.SUBSTANTIAL],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "claim_types_supported": ["normal"],
        "claims_supported": list(CLAIMS),
        "prompt_values_supported": ["none", "login", "consent"],
        "code_challenge_methods_supported": ["S256"],
        "ui_locales_supported": ["mn", "en"],
        # The three below default to true or to something we do not do, so they are said aloud (Discovery 3).
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,  # RFC 9207 3
    }
