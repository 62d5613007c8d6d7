"""Wrapped keys inside the token: made, unwrapped for one signature, wrapped anew. Handles never outlive a call."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from hsm.errors import HsmMisused, WrappedKeyRefused
from hsm.keys import SignTask, public_key_of
from hsm.objects import generated_pair, prove_alive, sign_with, spki
from hsm.templates import RSA_BITS, STAYS_IN_TOKEN, WRAPPABLE, KeyAlgorithm

WRAP_MECHANISM = Mechanism.AES_KEY_WRAP_PAD  # RFC 5649
MAX_BLOB_OCTETS = 2048  # a wrapped P-384 key has about 100, a wrapped RSA-3072 key about 1,800
MAX_CONTEXT_OCTETS = 1024
_BINDING_DOMAIN = b"tamga wrapped key 1"


@dataclass(frozen=True)
class WrappedKey:
    """A private key as it is stored: useless without its token, its wrapping key and its owner's context."""

    blob: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    public_key: bytes
    """SubjectPublicKeyInfo in DER."""
    wrapping_key: str
    """Label of the wrapping key, so that two generations can be in use."""
    algorithm: str


def wrapped_name(wrapped: WrappedKey) -> str:
    """What logs call a wrapped key: it has no label."""
    return f"wrapped {hashlib.sha256(wrapped.public_key).hexdigest()[:16]}"


def bound_octets(wrapped: WrappedKey, context: bytes) -> bytes:
    """What the MAC of a wrapped key is made over. Raises HsmMisused for an empty or over-long context."""
    if not 0 < len(context) <= MAX_CONTEXT_OCTETS:
        raise HsmMisused(f"a wrapped key's context has 1 to {MAX_CONTEXT_OCTETS} octets")
    bound = (
        wrapped.wrapping_key.encode(),
        wrapped.algorithm.encode(),
        context,
        hashlib.sha256(wrapped.public_key).digest(),
        wrapped.blob,
    )
    # Lengths first: no two different sets of fields give the same octets.
    return b"".join(len(part).to_bytes(4, "big") + part for part in (_BINDING_DOMAIN, *bound))


def made_and_wrapped(session: pkcs11.Session, wrapping: Any, algorithm: KeyAlgorithm) -> tuple[bytes, bytes]:
    """SubjectPublicKeyInfo and blob of a key pair that is gone when this returns."""
    template = {**WRAPPABLE, **_only_with_trusted(wrapping)}
    public, private = generated_pair(session, algorithm, store=False, label="", private=template)
    try:
        return spki(public_key_of(public)), wrapping.wrap_key(private, mechanism=WRAP_MECHANISM)
    finally:
        private.destroy()
        public.destroy()


def signed_once(wrapping: Any, blob: bytes, algorithm: KeyAlgorithm, task: SignTask) -> bytes:
    """A signature of the wrapped key, which is in the token for as long as this takes. Raises WrappedKeyRefused."""
    with _in_token(unwrapped(wrapping, blob, algorithm)) as key:
        return sign_with(key, task)


def wrapped_anew(old: Any, new: Any, blob: bytes, algorithm: KeyAlgorithm) -> bytes:
    """The blob of the same key under another wrapping key. Raises WrappedKeyRefused."""
    # Whoever came from a marked wrapping key goes under a marked one only.
    template = {**WRAPPABLE, **_only_with_trusted(old), **_only_with_trusted(new)}
    with _in_token(unwrapped(old, blob, algorithm, template)) as key:
        return bytes(new.wrap_key(key, mechanism=WRAP_MECHANISM))


def unwrapped(
    wrapping: Any,
    blob: bytes,
    algorithm: KeyAlgorithm = KeyAlgorithm.P256,
    template: dict[Attribute, Any] = STAYS_IN_TOKEN,
) -> Any:
    """The wrapped private key as a session object that only signs. Raises WrappedKeyRefused."""
    try:
        return wrapping.unwrap_key(
            ObjectClass.PRIVATE_KEY,
            KeyType.RSA if algorithm in RSA_BITS else KeyType.EC,
            blob,
            mechanism=WRAP_MECHANISM,
            store=False,
            capabilities=MechanismFlag.SIGN,
            template=template,
        )
    except (pkcs11.WrappedKeyInvalid, pkcs11.WrappedKeyLenRange, pkcs11.GeneralError) as error:
        prove_alive(wrapping.session)  # SoftHSM reports a damaged blob as it reports a broken device
        raise WrappedKeyRefused("the wrapped key does not unwrap") from error


def _only_with_trusted(wrapping: Any) -> dict[Attribute, Any]:
    """Under a wrapping key that the security officer marked, keys that no unmarked one can take out again."""
    try:
        return {Attribute.WRAP_WITH_TRUSTED: True} if wrapping[Attribute.TRUSTED] else {}
    except pkcs11.AttributeTypeInvalid:
        return {}  # a module that knows no such mark


@contextlib.contextmanager
def _in_token(key: Any) -> Iterator[Any]:
    try:
        yield key
    finally:
        key.destroy()
