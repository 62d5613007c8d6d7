"""Officers' keys: Ed25519, or ECDSA with P-256 and SHA-256. They sign texts that begin with what they are for."""

from __future__ import annotations

import hashlib
from typing import TypeGuard

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from ca.officers.errors import OfficerKeyRefused
from policies.keys import KeyRefused, check_public_key

OfficerPublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
OfficerPrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
MAX_KEY_OCTETS = 4096
MAX_SIGNATURE_OCTETS = 80  # ECDSA-Sig-Value with P-256 has at most 72


def read_public_key(data: bytes) -> bytes:
    """The SubjectPublicKeyInfo in DER of a key in PEM or DER. Raises OfficerKeyRefused."""
    if len(data) > MAX_KEY_OCTETS:
        raise OfficerKeyRefused(f"a public key has at most {MAX_KEY_OCTETS} octets")
    try:
        key = load_pem_public_key(data) if data.lstrip()[:5] == b"-----" else load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OfficerKeyRefused("the octets are no public key") from error
    if not _of_an_officer(key):
        raise OfficerKeyRefused("an officer's key is Ed25519 or P-256")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(spki: bytes) -> bytes:
    """SHA-256 over the SubjectPublicKeyInfo."""
    return hashlib.sha256(spki).digest()


def sign(key: OfficerPrivateKey, text: bytes) -> bytes:
    """The key's signature over the text."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(text)
    return key.sign(text, ec.ECDSA(hashes.SHA256()))


def verify(spki: bytes, text: bytes, signature: bytes) -> None:
    """Check that the key behind this SubjectPublicKeyInfo signed the text. Raises InvalidSignature."""
    if len(signature) > MAX_SIGNATURE_OCTETS:
        raise InvalidSignature(f"a signature has at most {MAX_SIGNATURE_OCTETS} octets")
    key = load_der_public_key(spki)
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, text)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
    else:
        raise InvalidSignature("this is no officer's key")


def signed_text(purpose: str, lines: tuple[tuple[str, str], ...]) -> bytes:
    """What an officer signs: the purpose, then one ``name: value`` a line. No value can pretend to be a line."""
    return "\n".join([purpose, *(f"{name}: {_one_line(value)}" for name, value in lines), ""]).encode()


def _one_line(value: str) -> str:
    escaped = value.replace("\\", "\\\\")
    return "".join(c if c.isprintable() else f"\\u{ord(c):06x}" for c in escaped)


def _of_an_officer(key: object) -> TypeGuard[OfficerPublicKey]:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return True
    try:
        return isinstance(key, ec.EllipticCurvePublicKey) and check_public_key(key, ("P-256",)) == "P-256"
    except KeyRefused:
        return False
