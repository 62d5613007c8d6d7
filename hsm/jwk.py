"""Token keys in joserfc's shape, so that JWTs are signed in the token."""

from __future__ import annotations

from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey
from joserfc.util import int_to_base64

from hsm.errors import HsmMisused
from hsm.keys import PrivateKey, TokenEllipticCurveKey

# RFC 7518 6.2.1.1 and 3.4: each curve has one algorithm.
_CURVES = {"secp256r1": ("P-256", "ES256"), "secp384r1": ("P-384", "ES384")}


def token_jwk(key: PrivateKey, *, kid: str, alg: str) -> ECKey:
    """``key`` as a JWK that signs through the token; ``as_dict(private=False)`` is what a JWKS publishes.

    Raises HsmMisused when ``alg`` is not the one of the key's curve.
    """
    if not isinstance(key, TokenEllipticCurveKey) or key.curve.name not in _CURVES:
        raise HsmMisused("tokens are signed with an EC key on P-256 or P-384")
    curve_name, algorithm = _CURVES[key.curve.name]
    if alg != algorithm:
        raise HsmMisused(f"a key on {curve_name} signs {algorithm}, not {alg}")
    # Given the public members, joserfc never asks the key for its private numbers.
    members = {"kty": "EC", "crv": curve_name, **_point(key)}
    return ECKey(cast(ec.EllipticCurvePrivateKey, key), members, {"kid": kid, "alg": alg, "use": "sig"})


def _point(key: TokenEllipticCurveKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    octets = (key.key_size + 7) // 8  # RFC 7518 6.2.1.2: leading zeros are kept
    return {"x": int_to_base64(numbers.x, octets), "y": int_to_base64(numbers.y, octets)}
