"""Keys by name: made, found, used and listed in one token.

Two implementations answer alike: a process that opens the token for itself (``hsm.token_keystore``), and a client of
the broker, which never loads the module (``hsm.client``). Callers cannot tell which one they have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Protocol

from hsm.errors import HsmMisused
from hsm.initialisation import has_token, initialise_token
from hsm.keys import PrivateKey, SignTask
from hsm.objects import UNFINISHED, KeyAttributes, KeyInformation
from hsm.settings import HsmSettings
from hsm.templates import KeyAlgorithm, KeyPurpose
from hsm.wrapping import WrappedKey

if TYPE_CHECKING:
    from hsm.token_keystore import TokenKeystore

__all__ = [
    "KeyAlgorithm",
    "KeyAttributes",
    "KeyInformation",
    "KeyLabel",
    "KeyPurpose",
    "Keystore",
    "PrivateKey",
    "TokenStatus",
    "has_token",
    "initialise_token",
    "open_keystore",
    "open_token",
]

KeyLabel = NewType("KeyLabel", str)

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class TokenStatus:
    """What a working token says about itself."""

    module: str
    library: str
    library_version: str
    label: str
    serial: str
    model: str
    mechanisms: tuple[str, ...]
    keys: int
    unfinished: int
    """Keys that a crash left without a name; nothing uses them."""


class Keystore(Protocol):
    """The keys of one token.

    Every method may raise HsmUnavailable, HsmBusy (both 503, exit 6), PinIncorrect or PinFileUnsafe (exit 2), and
    KeyNotAllowed (exit 3) where a broker keeps the keys of rooms apart.
    """

    def generate(self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> PrivateKey:
        """Make a key pair in the token. Raises KeyExists: a name is given once."""
        ...

    def key(self, label: str) -> PrivateKey:
        """The private key of this name. Raises KeyNotFound, or KeyDamaged when its halves do not match."""
        ...

    def has(self, label: str) -> bool:
        """True when a private or secret key of this name is in the token."""
        ...

    def keys(self) -> tuple[KeyInformation, ...]:
        """All private and secret keys, by name."""
        ...

    def destroy(self, label: str) -> None:
        """Destroy the keys of this name for good, a wrapping key's MAC key too. Raises KeyNotFound."""
        ...

    def generate_secret(self, label: str, purpose: KeyPurpose) -> None:
        """Make a 256-bit secret: AES for WRAPPING and ENCRYPTION, HMAC for MAC. Raises KeyExists.

        A wrapping key comes with a second secret, ``<label>-mac``, that binds what is wrapped to its owner.
        """
        ...

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of ``data`` (32 octets) under a secret that stays in the token. Raises KeyNotFound.

        Raises HsmMisused for the secret that binds wrapped keys.
        """
        ...

    def seal(self, label: str, plaintext: bytes, context: bytes) -> bytes:
        """``plaintext`` encrypted in the token with AES-256-GCM, bound to ``context``: 29 octets longer.

        Laid out as version, nonce, ciphertext and tag. Raises KeyNotFound.
        """
        ...

    def unseal(self, label: str, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises SealBroken for any other label, context or octet, and KeyNotFound."""
        ...

    def generate_wrapped(self, label: str, algorithm: KeyAlgorithm | str, context: bytes) -> WrappedKey:
        """A fresh key pair, wrapped under the key ``label``; see ``hsm.wrapped``, which callers use instead."""
        ...

    def check_wrapped(self, wrapped: WrappedKey, context: bytes) -> None:
        """Raises WrappedKeyRefused when ``wrapped`` was changed or is not bound to ``context``."""
        ...

    def sign_wrapped(self, wrapped: WrappedKey, context: bytes, task: SignTask) -> bytes:
        """One signature of a wrapped key: unwrapped, used, verified and destroyed within this call."""
        ...

    def rewrap(self, wrapped: WrappedKey, context: bytes, new_wrapping_label: str) -> WrappedKey:
        """The same key under another wrapping key, bound to the same context; it stays inside the token meanwhile."""
        ...

    def rebind(self, wrapped: WrappedKey, context: bytes, new_context: bytes) -> WrappedKey:
        """The same key bound to another context; the key itself is not touched."""
        ...

    def status(self) -> TokenStatus:
        """What the token says about itself; this also proves that it answers."""
        ...

    def check(self) -> None:
        """Refuse to start with a key that could leave the token. Raises KeyExtractable (exit 3) or KeyDamaged.

        Every private and secret key must be sensitive and local, now and always; a key pair's identifier must fit.
        """
        ...

    def close(self) -> None:
        """Let go of token or broker; a later call opens again."""
        ...


def open_keystore(settings: HsmSettings) -> Keystore:
    """The keystore of this token: through the broker where there is one. Nothing is opened until it is used."""
    if settings.broker is None:
        return open_token(settings)
    from hsm.client import BrokerKeystore

    return BrokerKeystore(settings.broker, deadline_seconds=settings.broker_deadline)


def open_token(settings: HsmSettings) -> TokenKeystore:
    """The token itself, opened by this very process: for the broker's workers, and where there is no broker."""
    from hsm.sessions import Sessions
    from hsm.token_keystore import TokenKeystore

    return TokenKeystore(Sessions(settings))


def binding_label(wrapping_label: str) -> str:
    """The name of the MAC key that comes with a wrapping key."""
    return wrapping_label + "-mac"


def checked_label(label: str) -> KeyLabel:
    """``label`` when it can name a key: up to 64 letters, digits, dots, hyphens and underscores. Else HsmMisused."""
    if not _LABEL.fullmatch(label) or label.startswith(UNFINISHED):
        raise HsmMisused("a key's label has 1 to 64 letters, digits, dots, hyphens and underscores")
    return KeyLabel(label)
