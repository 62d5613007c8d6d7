"""Signed requests (RFC 8555 6.2): flattened JWS, the account's keys as JWK, algorithms by an allow list.

Nothing here knows accounts or addresses. A message is read as ``Unverified``; whoever uses it says which key it must
verify under.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.acme.errors import BadPublicKey, BadSignatureAlgorithm, Malformed, Unauthorized
from policies.keys import KeyRefused, check_public_key

CONTENT_TYPE = "application/jose+json"
ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256")
MAC_ALGORITHMS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
MAX_MESSAGE_OCTETS = 128 * 1024
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES: Mapping[str, tuple[ec.EllipticCurve, int]] = {"P-256": (ec.SECP256R1(), 32), "P-384": (ec.SECP384R1(), 48)}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class AccountKey:
    """A public key that signs requests. ``jwk`` holds the public members; it signs with ``algorithm`` and no other."""

    jwk: Mapping[str, str]
    algorithm: str
    public_key: PublicKey = field(repr=False)

    @cached_property
    def thumbprint(self) -> str:
        """RFC 7638 3: SHA-256 over the required members in lexicographic order, base64url."""
        canonical = json.dumps(dict(self.jwk), sort_keys=True, separators=(",", ":")).encode()
        return encode(hashlib.sha256(canonical).digest())

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, as a certificate would hold it."""
        return self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Unverified:
    """A message whose signature nobody has checked yet."""

    header: Mapping[str, Any]
    payload: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def url(self) -> str:
        """The address it claims to be meant for. Raises Malformed."""
        url = self.header.get("url")
        if not isinstance(url, str):
            raise Malformed("the protected header names no url")  # RFC 8555 6.4
        return url

    @property
    def algorithm(self) -> str:
        """What it claims to be signed with."""
        algorithm = self.header.get("alg")
        return algorithm if isinstance(algorithm, str) else ""

    def check_algorithm(self) -> None:
        """Refuse ``none``, MACs and everything unknown. Raises BadSignatureAlgorithm."""
        if self.algorithm not in ALGORITHMS:
            raise BadSignatureAlgorithm("requests are signed with one of these", algorithms=list(ALGORITHMS))

    def verify(self, key: AccountKey) -> bytes:
        """The payload, if ``key`` signed it. Raises BadSignatureAlgorithm, Unauthorized."""
        self.check_algorithm()
        if self.algorithm != key.algorithm:
            raise BadSignatureAlgorithm(
                f"this key signs with {key.algorithm}, nothing else", algorithms=[key.algorithm]
            )
        try:
            _verify(key.public_key, self.signature, self.signing_input)
        except (InvalidSignature, ValueError) as error:
            raise Unauthorized("the signature does not verify") from error
        return self.payload

    def verify_mac(self, key: bytes) -> bytes:
        """The payload, if it was made with this shared key (RFC 8555 7.3.4). Raises the same."""
        digest = MAC_ALGORITHMS.get(self.algorithm)
        if digest is None:
            raise BadSignatureAlgorithm("a binding is made with an HMAC", algorithms=list(MAC_ALGORITHMS))
        if not hmac.compare_digest(hmac.digest(key, self.signing_input, digest), self.signature):
            raise Unauthorized("the external account binding does not verify")
        return self.payload


def read_message(body: bytes) -> Unverified:
    """A flattened JWS (RFC 7515 7.2.2) with a protected header only. Raises Malformed."""
    if len(body) > MAX_MESSAGE_OCTETS:
        raise Malformed(f"a request has at most {MAX_MESSAGE_OCTETS} octets")
    return message_of(read_object(body, "the request"))


def message_of(document: object) -> Unverified:
    """The same, from JSON that was read already. Raises Malformed."""
    # RFC 8555 6.2: exactly these, so neither several signatures nor an unprotected header.
    if not isinstance(document, dict) or set(document) != {"protected", "payload", "signature"}:
        raise Malformed("a request is a JSON object of protected, payload and signature")
    protected, payload, signature = (document[name] for name in ("protected", "payload", "signature"))
    header = read_object(decode(protected, "protected"), "the protected header")
    if "crit" in header or "b64" in header:
        raise Malformed("no extension of JWS is understood here")  # RFC 7515 4.1.11
    content = decode(payload, "payload")
    return Unverified(header, content, f"{protected}.{payload}".encode("ascii"), decode(signature, "signature"))


def read_object(octets: bytes, what: str) -> dict[str, Any]:
    """A JSON object in which no name stands twice. Raises Malformed."""
    try:
        document = json.loads(octets.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} is not JSON of UTF-8 with distinct names") from error
    if not isinstance(document, dict):
        raise Malformed(f"{what} is not a JSON object")
    return document


def read_key(jwk: object) -> AccountKey:
    """A public key as JWK (RFC 7517, 8037). Raises Malformed, BadPublicKey."""
    if not isinstance(jwk, Mapping):
        raise Malformed("jwk is not an object")
    if _PRIVATE_MEMBERS & set(jwk):
        raise Malformed("jwk holds a private key; make a new one")
    try:
        key = _key(jwk)
        if not isinstance(key.public_key, ed25519.Ed25519PublicKey):
            check_public_key(key.public_key)
    except KeyRefused as refusal:
        raise BadPublicKey(str(refusal), reason=refusal.code) from refusal
    except ValueError as error:
        raise BadPublicKey("the key cannot be read, or is of a kind that is not taken") from error
    return key


def encode(octets: bytes) -> str:
    """base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode(text: object, what: str) -> bytes:
    """The octets of base64url; padding, other alphabets and loose bits at the end are refused. Raises Malformed."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Malformed(f"{what} is not base64url without padding")  # RFC 8555 6.1
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(octets) != text:
        raise Malformed(f"{what} is not base64url in its only form")
    return octets


def _key(jwk: Mapping[str, Any]) -> AccountKey:
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", "P-256" | "P-384" as name:
            return _elliptic(jwk, name)
        case "OKP", "Ed25519":
            members = {"crv": "Ed25519", "kty": "OKP", "x": _text(jwk, "x")}
            x = decode(members["x"], "x")
            return AccountKey(members, "EdDSA", ed25519.Ed25519PublicKey.from_public_bytes(x))
        case "RSA", _:
            members = {"e": _text(jwk, "e"), "kty": "RSA", "n": _text(jwk, "n")}
            numbers = rsa.RSAPublicNumbers(_positive(members["e"], "e"), _positive(members["n"], "n"))
            return AccountKey(members, "RS256", numbers.public_key())
    raise BadPublicKey("account keys are P-256, P-384, Ed25519 or RSA")


def _elliptic(jwk: Mapping[str, Any], name: str) -> AccountKey:
    curve, octets = _CURVES[name]
    members = {"crv": name, "kty": "EC", "x": _text(jwk, "x"), "y": _text(jwk, "y")}
    x, y = decode(members["x"], "x"), decode(members["y"], "y")
    if (len(x), len(y)) != (octets, octets):
        raise BadPublicKey(f"a coordinate of {name} has {octets} octets")  # RFC 7518 6.2.1.2
    key = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    return AccountKey(members, "ES256" if name == "P-256" else "ES384", key)


def _text(jwk: Mapping[str, Any], name: str) -> str:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise Malformed(f"jwk has no {name}")
    return value


def _positive(text: str, what: str) -> int:
    octets = decode(text, what)
    # RFC 7518 2: the shortest form, so that one key has one thumbprint.
    if not octets or octets[0] == 0 or len(octets) > 1024:
        raise Malformed(f"{what} is not a Base64urlUInt")
    return int.from_bytes(octets, "big")


def _verify(key: PublicKey, signature: bytes, data: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data)
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    else:
        size = (key.key_size + 7) // 8
        if len(signature) != 2 * size:  # RFC 7518 3.4
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        digest = hashes.SHA256() if size == 32 else hashes.SHA384()
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
