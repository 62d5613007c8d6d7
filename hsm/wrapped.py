"""Citizens' signing keys: made and used in the token, kept outside it, wrapped.

A token holds thousands of keys, a country has millions of signers. So a signer's key is made in the token as a session
object, wrapped there with AES key wrap with padding (RFC 5649) under a key that never leaves, and destroyed. What is
stored is useless without the token. For each signature it is unwrapped into the token again, signs, and is destroyed,
within one call into the keystore.

Key wrap knows no context: a blob of another person would unwrap as well. Therefore each blob carries an HMAC, made in
the token, over the owner's context, the public key and the blob; and every signature is verified with the public key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm.errors import HsmMisused, WrappedKeyRefused
from hsm.keys import PrivateKey, SignTask, token_key
from hsm.keystore import Keystore
from hsm.templates import KeyAlgorithm, KeyPurpose
from hsm.wrapping import MAX_CONTEXT_OCTETS, WrappedKey, wrapped_name

__all__ = ["MAX_CONTEXT_OCTETS", "WrappedKey", "WrappedKeys"]


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
        """A fresh key pair, wrapped and bound to ``context`` (say, whose key it is and what for).

        ``algorithm`` is P-256, P-384 or RSA-3072. Raises KeyNotFound before ``prepare``, HsmMisused for another
        algorithm or an over-long context.
        """
        return self._keystore.generate_wrapped(self._wrapping_label, algorithm, context)

    @contextlib.contextmanager
    def opened(self, wrapped: WrappedKey, context: bytes) -> Iterator[PrivateKey]:
        """The private key, until the block ends; it signs and does nothing else.

        The key is inside the token only while it makes a signature. Raises WrappedKeyRefused when any part of
        ``wrapped`` was changed or ``context`` is not the one it was made for.
        """
        self._keystore.check_wrapped(wrapped, context)
        public_key = serialization.load_der_public_key(wrapped.public_key)
        if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise WrappedKeyRefused("the wrapped key is of an unknown kind")
        custody = _Outside(self._keystore, wrapped, context)
        try:
            yield token_key(wrapped_name(wrapped), public_key, custody)
        finally:
            custody.close()

    def rewrap(self, wrapped: WrappedKey, context: bytes, new_wrapping_label: str) -> WrappedKey:
        """The same key under another wrapping key, bound to the same context; ``wrapped`` stays usable, too.

        It is unwrapped and wrapped again inside the token. Raises WrappedKeyRefused, and KeyNotFound for a wrapping key
        that is not there.
        """
        return self._keystore.rewrap(wrapped, context, new_wrapping_label)

    def rebound(self, wrapped: WrappedKey, context: bytes, new_context: bytes) -> WrappedKey:
        """The same key bound to ``new_context``; the key itself is not touched. Raises WrappedKeyRefused."""
        return self._keystore.rebind(wrapped, context, new_context)


class _Outside:
    """Custody of a key that is kept outside the token."""

    def __init__(self, keystore: Keystore, wrapped: WrappedKey, context: bytes) -> None:
        self._keystore = keystore
        self._wrapped = wrapped
        self._context = context
        self._closed = False

    def sign(self, task: SignTask) -> bytes:
        if self._closed:
            raise HsmMisused("this key was closed")
        return self._keystore.sign_wrapped(self._wrapped, self._context, task)

    def quarantined(self) -> bool:
        """The keystore has told of it already: it verifies such signatures, too."""
        return False

    def close(self) -> None:
        self._closed = True
