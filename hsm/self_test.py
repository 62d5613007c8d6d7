"""Does this token do everything Tamga asks of one? Vendors differ; operators find out before the ceremony does.

Works with session objects only: nothing is left in the token.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from pkcs11 import Attribute, GCMParams, Mechanism

from core.errors import CodedError
from hsm.keys import PrivateKey, TokenEllipticCurveKey, public_key_of, token_key
from hsm.keystore import Keystore
from hsm.module import Anchor
from hsm.objects import generated_pair
from hsm.templates import (
    SECRET_BITS,
    SECRET_CAPABILITIES,
    SECRET_KEY_TYPES,
    STAYS_IN_TOKEN,
    WRAPPABLE,
    KeyAlgorithm,
    KeyPurpose,
)
from hsm.wrapped import unwrapped

RATE_SIGNATURES = 200


@dataclass(frozen=True)
class Probe:
    """One thing asked of the token: ``detail`` is the reason of a failure or a measure."""

    name: str
    passed: bool
    detail: str


def probe(keystore: Keystore) -> tuple[Probe, ...]:
    """Ask the token for everything, one probe after the other; failures are reported, not raised."""
    named: tuple[tuple[str, Callable[[Anchor], str]], ...] = (
        ("ecdsa-p256", lambda anchor: _signs(anchor, KeyAlgorithm.P256)),
        ("ecdsa-p384", lambda anchor: _signs(anchor, KeyAlgorithm.P384)),
        ("rsa-3072", lambda anchor: _signs(anchor, KeyAlgorithm.RSA3072)),
        ("hmac-sha-256", _authenticates),
        ("aes-256-gcm", _seals),
        ("aes-key-wrap-pad", _wraps),
        ("rate-p256", _rate),
    )
    return tuple(_probed(keystore, name, ask) for name, ask in named)


class _Direct:
    """A handle used inside a running operation."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def use(self, operation: Callable[[Any], bytes]) -> bytes:
        return operation(self._handle)


def _probed(keystore: Keystore, name: str, ask: Callable[[Anchor], str]) -> Probe:
    try:
        return Probe(name, True, keystore.sessions.run(ask))
    except (CodedError, AssertionError, InvalidSignature) as error:
        return Probe(name, False, str(error))


def _pair(anchor: Anchor, algorithm: KeyAlgorithm, private: dict[Attribute, Any]) -> tuple[Any, Any, PrivateKey]:
    public, handle = generated_pair(anchor.session, algorithm, store=False, label="", private=private)
    return public, handle, token_key(f"probe {algorithm}", public_key_of(public), _Direct(handle))


def _secret(anchor: Anchor, purpose: KeyPurpose) -> Any:
    return anchor.session.generate_key(
        SECRET_KEY_TYPES[purpose],
        SECRET_BITS,
        store=False,
        capabilities=SECRET_CAPABILITIES[purpose],
        template=STAYS_IN_TOKEN,
    )


def _signs(anchor: Anchor, algorithm: KeyAlgorithm) -> str:
    public, handle, key = _pair(anchor, algorithm, STAYS_IN_TOKEN)
    try:
        _signed(key)
        _expect(handle[Attribute.NEVER_EXTRACTABLE], "the token does not say that the key was never extractable")
        _expect(handle[Attribute.LOCAL], "the token does not say that it made the key")
    finally:
        handle.destroy()
        public.destroy()
    return "signed and verified"


def _signed(key: PrivateKey) -> None:
    """A token key verifies each signature itself."""
    if isinstance(key, TokenEllipticCurveKey):
        key.sign(b"probe", ec.ECDSA(hashes.SHA256()))
    else:
        key.sign(b"probe", padding.PKCS1v15(), hashes.SHA256())
        key.sign(b"probe", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def _authenticates(anchor: Anchor) -> str:
    key = _secret(anchor, KeyPurpose.MAC)
    try:
        first, again, other = (key.sign(data, mechanism=Mechanism.SHA256_HMAC) for data in (b"1", b"1", b"2"))
    finally:
        key.destroy()
    _expect(len(first) == 32 and first == again != other, "the MAC is not a function of the data")
    return "32 octets"


def _seals(anchor: Anchor) -> str:
    key = _secret(anchor, KeyPurpose.ENCRYPTION)
    parameters = GCMParams(os.urandom(12), b"context", 128)
    try:
        sealed = bytes(key.encrypt(b"probe", mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        opened = key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
        _expect(bytes(opened) == b"probe", "what was sealed does not open")
        _expect(_refuses(key, changed, parameters), "a changed tag was accepted")
    finally:
        key.destroy()
    return "opened, and refused when changed"


def _refuses(key: Any, sealed: bytes, parameters: GCMParams) -> bool:
    try:
        key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    except pkcs11.PKCS11Error:
        return True
    return False


def _wraps(anchor: Anchor) -> str:
    wrapping = _secret(anchor, KeyPurpose.WRAPPING)
    public, handle, _ = _pair(anchor, KeyAlgorithm.P256, WRAPPABLE)
    try:
        blob = wrapping.wrap_key(handle, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        again = unwrapped(wrapping, blob)
        _signed(token_key("probe unwrapped", public_key_of(public), _Direct(again)))
        _expect(not again[Attribute.EXTRACTABLE] and again[Attribute.SENSITIVE], "an unwrapped key can leave the token")
        again.destroy()
    finally:
        for made in (handle, public, wrapping):
            made.destroy()
    return f"{len(blob)} octets"


def _rate(anchor: Anchor) -> str:
    public, handle, key = _pair(anchor, KeyAlgorithm.P256, STAYS_IN_TOKEN)
    try:
        begun = time.perf_counter()
        for _ in range(RATE_SIGNATURES):
            _signed(key)
        return (
            f"{RATE_SIGNATURES / (time.perf_counter() - begun):.0f} verified signatures a second, one after the other"
        )
    finally:
        handle.destroy()
        public.destroy()


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
