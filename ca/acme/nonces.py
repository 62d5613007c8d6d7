"""Replay nonces (RFC 8555 6.5): good for an hour, once.

Strangers may ask for nonces without end, so a nonce is not kept when it is given out: it carries its moment and a MAC.
What is kept is that it was used. Should that memory be lost, the nonces go with it: they hold for one epoch, and the
epoch's name is kept in the same store.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from ca.acme.errors import BadNonce, Malformed
from ca.acme.jws import decode, encode
from core.clock import Clock
from core.one_time import OneTimeStore

LIFETIME_SECONDS = 3600
EPOCH_SECONDS = 30 * 86_400
_RANDOM_OCTETS = 12
_MOMENT_OCTETS = 5
_MAC_OCTETS = 16
_KIND = "acme-nonce"
_EPOCH_KIND = "acme-nonce-epoch"


class Nonces:
    """Gives out nonces and takes them back once. ``secret`` gives the MAC key when it is first needed."""

    def __init__(self, *, store: OneTimeStore, clock: Clock, secret: Callable[[], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._secret = secret
        self._key: bytes | None = None

    def fresh(self) -> str:
        """A new nonce, 44 characters of base64url."""
        moment = int(self._clock().timestamp()).to_bytes(_MOMENT_OCTETS, "big")
        content = secrets.token_bytes(_RANDOM_OCTETS) + moment
        return encode(content + self._mac(content))

    def check(self, nonce: object) -> str:
        """The nonce, if we gave it out lately; it is not used yet. Raises Malformed, BadNonce."""
        if not isinstance(nonce, str):
            raise Malformed("the protected header has no nonce")
        try:
            octets = decode(nonce, "the nonce")
        except Malformed as error:
            raise BadNonce("the nonce is none of ours") from error  # RFC 8555 6.5.1
        content, mac = octets[:-_MAC_OCTETS], octets[-_MAC_OCTETS:]
        if len(content) != _RANDOM_OCTETS + _MOMENT_OCTETS or not hmac.compare_digest(mac, self._mac(content)):
            raise BadNonce("the nonce is none of ours")
        age = self._clock().timestamp() - int.from_bytes(content[_RANDOM_OCTETS:], "big")
        if age > LIFETIME_SECONDS:
            raise BadNonce("the nonce is too old")
        return nonce

    def use(self, nonce: str) -> None:
        """Take a checked nonce; a second caller is refused. Raises BadNonce."""
        # Remembered a little longer than it is good.
        if not self._store.claim(_KIND, nonce, ttl=LIFETIME_SECONDS + 60):
            raise BadNonce("the nonce was used")

    def _mac(self, content: bytes) -> bytes:
        if self._key is None:
            self._key = self._secret()
        epoch = self._epoch().encode("ascii")
        return hmac.digest(hashlib.sha256(self._key + epoch).digest(), content, "sha256")[:_MAC_OCTETS]

    def _epoch(self) -> str:
        held = self._store.peek(_EPOCH_KIND, "")
        if held is None:
            # Of two processes that begin an epoch at once, both go on with the one that was written last.
            self._store.put(_EPOCH_KIND, "", {"epoch": secrets.token_hex(16)}, ttl=EPOCH_SECONDS)
            held = self._store.peek(_EPOCH_KIND, "") or {}
        return str(held.get("epoch", ""))
