"""The key that signs tokens: its public half for everybody (RFC 7517 5), its private half inside the token."""

from __future__ import annotations

import json
import threading
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from joserfc.jwk import ECKey, KeySet

from hsm.jwk import token_jwk

ALGORITHM = "ES256"
# Relying parties may keep the keys this long; a new key is published earlier than it is used.
MAX_AGE_SECONDS = 3600


class Keys(Protocol):
    """What this module asks of the keystore."""

    def key(self, label: str) -> Any:
        """The private key of that label, in the shape of cryptography's class."""


class SigningKey:
    """The ES256 key, found on first use and kept: the key set is served even when the token does not answer."""

    def __init__(self, keystore: Keys, label: str) -> None:
        self._keystore = keystore
        self._label = label
        self._lock = threading.Lock()
        self._private: ECKey | None = None
        self._public: ECKey | None = None

    @property
    def kid(self) -> str:
        """The key's RFC 7638 thumbprint."""
        return str(self.public().kid)

    def private(self) -> ECKey:
        """The key in joserfc's shape; signing happens in the token."""
        if self._private is None:
            self._load()
        assert self._private is not None  # noqa: S101 - _load sets it or raises
        return self._private

    def public(self) -> ECKey:
        """The public half, with ``kid``, ``use`` and ``alg``."""
        if self._public is None:
            self._load()
        assert self._public is not None  # noqa: S101 - _load sets it or raises
        return self._public

    def key_set(self) -> KeySet:
        """What our own signatures are verified against."""
        return KeySet([self.public()])

    def published(self) -> bytes:
        """The document at ``jwks_uri``."""
        return json.dumps({"keys": [self.public().as_dict(private=False)]}, separators=(",", ":")).encode()

    def _load(self) -> None:
        with self._lock:
            if self._private is not None:
                return
            key = self._keystore.key(self._label)
            public = key.public_key()
            if not isinstance(public, EllipticCurvePublicKey) or public.curve.name != "secp256r1":
                raise ValueError(f"{self._label} must be a P-256 key")  # RFC 7518 3.4
            kid = ECKey.import_key(public).thumbprint()
            self._public = ECKey.import_key(public, {"kid": kid, "use": "sig", "alg": ALGORITHM})
            self._private = token_jwk(key, kid=kid, alg=ALGORITHM)
