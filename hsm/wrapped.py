"""Citizens' signing keys: made and used in the token, kept outside it, wrapped.

A token holds thousands of keys, a country has millions of signers. So a signer's key is made in the token as a session
object, wrapped there with AES key wrap with padding (RFC 5649) under a key that never leaves, and destroyed. What is
stored is useless without the token. To sign, it is unwrapped into the token again, for one block of code.

Key wrap knows no context: a blob of another person would unwrap as well. Therefore each blob carries an HMAC, made in
the token, over the owner's context, the public key and the blob; and every signature is verified with the public key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import KeyType, Mechanism, MechanismFlag, ObjectClass

from hsm.errors import HsmMisused, WrappedKeyRefused
from hsm.keys import PrivateKey, public_key_of, token_key
from hsm.keystore import Keystore, binding_label
from hsm.module import Anchor
from hsm.objects import generated_pair, prove_alive, spki
from hsm.sessions import Held
from hsm.templates import CURVES, STAYS_IN_TOKEN, WRAPPABLE, KeyAlgorithm, KeyPurpose

MAX_BLOB_OCTETS = 512  # a wrapped P-384 key has about 100
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


class WrappedKeys:
    """Makes and opens wrapped keys under one wrapping key of the token."""

    def __init__(self, keystore: Keystore, wrapping_label: str = "wrapping-1") -> None:
        self._keystore = keystore
        self._wrapping_label = wrapping_label

    def prepare(self) -> None:
        """Make the wrapping key and its MAC key when the token has neither; part of setting an instance up."""
        if not self._keystore.has(self._wrapping_label):
            self._keystore.generate_secret(self._wrapping_label, KeyPurpose.WRAPPING)

    def generate(self, algorithm: KeyAlgorithm | str, context: bytes) -> WrappedKey:
        """A fresh key pair on P-256 or P-384, wrapped and bound to ``context`` (say, whose key it is and what for).

        Raises KeyNotFound before ``prepare``, HsmMisused for another algorithm or an over-long context.
        """
        kind = _checked_algorithm(algorithm)
        wrapping = self._keystore.secret(self._wrapping_label, KeyPurpose.WRAPPING)

        def make(anchor: Anchor) -> tuple[bytes, bytes]:
            return _made_and_wrapped(anchor.session, wrapping.within(anchor), kind)

        public_key, blob = self._keystore.sessions.run(make)
        unbound = WrappedKey(blob, b"", public_key, self._wrapping_label, kind.value)
        return WrappedKey(blob, self._binding(unbound, context), public_key, self._wrapping_label, kind.value)

    @contextlib.contextmanager
    def opened(self, wrapped: WrappedKey, context: bytes) -> Iterator[PrivateKey]:
        """The private key inside the token, until the block ends; it signs and does nothing else.

        Raises WrappedKeyRefused when any part of ``wrapped`` was changed or ``context`` is not the one it was made for.
        """
        public_key = self._checked(wrapped, context)
        wrapping = self._keystore.secret(wrapped.wrapping_key, KeyPurpose.WRAPPING)
        held = Held(self._keystore.sessions, lambda anchor: unwrapped(wrapping.within(anchor), wrapped.blob))
        try:
            held.use(lambda _: None)
            yield token_key(f"wrapped {hashlib.sha256(wrapped.public_key).hexdigest()[:16]}", public_key, held)
        finally:
            held.release()

    def _checked(self, wrapped: WrappedKey, context: bytes) -> ec.EllipticCurvePublicKey:
        """The public key of ``wrapped``, after its binding was verified; nothing else of it is believed before."""
        if len(wrapped.blob) > MAX_BLOB_OCTETS:
            raise WrappedKeyRefused("the wrapped key is too long")
        if not hmac.compare_digest(self._binding(wrapped, context), wrapped.mac):
            raise WrappedKeyRefused("the wrapped key was changed or belongs elsewhere")
        public_key = serialization.load_der_public_key(wrapped.public_key)
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise WrappedKeyRefused("the wrapped key is of an unknown kind")
        return public_key

    def _binding(self, wrapped: WrappedKey, context: bytes) -> bytes:
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
        encoded = b"".join(len(part).to_bytes(4, "big") + part for part in (_BINDING_DOMAIN, *bound))
        return self._keystore.mac(binding_label(wrapped.wrapping_key), encoded)


def _checked_algorithm(algorithm: KeyAlgorithm | str) -> KeyAlgorithm:
    if algorithm not in CURVES:
        raise HsmMisused("wrapped keys are on P-256 or P-384")
    return KeyAlgorithm(algorithm)


def _made_and_wrapped(session: pkcs11.Session, wrapping: Any, algorithm: KeyAlgorithm) -> tuple[bytes, bytes]:
    """SubjectPublicKeyInfo and blob of a key pair that is gone when this returns."""
    public, private = generated_pair(session, algorithm, store=False, label="", private=WRAPPABLE)
    try:
        return spki(public_key_of(public)), wrapping.wrap_key(private, mechanism=Mechanism.AES_KEY_WRAP_PAD)
    finally:
        private.destroy()
        public.destroy()


def unwrapped(wrapping: Any, blob: bytes) -> Any:
    """The wrapped private key as a session object that only signs. Raises WrappedKeyRefused."""
    try:
        return wrapping.unwrap_key(
            ObjectClass.PRIVATE_KEY,
            KeyType.EC,
            blob,
            mechanism=Mechanism.AES_KEY_WRAP_PAD,
            store=False,
            capabilities=MechanismFlag.SIGN,
            template=STAYS_IN_TOKEN,
        )
    except (pkcs11.WrappedKeyInvalid, pkcs11.WrappedKeyLenRange, pkcs11.GeneralError) as error:
        prove_alive(wrapping.session)  # SoftHSM reports a damaged blob as it reports a broken device
        raise WrappedKeyRefused("the wrapped key does not unwrap") from error
