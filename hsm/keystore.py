"""Keys by name: made, found, used and listed in one token."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, NewType

import pkcs11
from pkcs11 import Attribute, GCMParams, Mechanism, ObjectClass

from core.logs import get_logger
from hsm.errors import (
    HsmMisused,
    KeyExists,
    KeyExtractable,
    KeyNotFound,
    SealBroken,
)
from hsm.initialisation import has_token, initialise_token
from hsm.keys import PrivateKey, token_key
from hsm.module import Anchor
from hsm.objects import (
    UNFINISHED,
    KeyAttributes,
    KeyInformation,
    find,
    information,
    key_identifier,
    key_pair,
    known_object,
    make_pair,
    make_secret,
    one_object,
    private_objects,
    prove_alive,
)
from hsm.sessions import Held, Sessions
from hsm.settings import HsmSettings
from hsm.templates import KeyAlgorithm, KeyPurpose

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
]

KeyLabel = NewType("KeyLabel", str)

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

SEAL_VERSION = b"\x01"
GCM_NONCE_OCTETS = 12  # NIST SP 800-38D 5.2.1.1
GCM_TAG_BITS = 128

log = get_logger("hsm.keystore")


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


class Keystore:
    """The keys of one token.

    Every method may raise HsmUnavailable, HsmBusy (both 503, exit 6), PinIncorrect or PinFileUnsafe (exit 2). Opening
    waits for the first use, so a keystore can be made before a server forks; each process then logs in for itself.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self._keys: dict[str, PrivateKey] = {}
        self._secrets: dict[tuple[str, KeyPurpose], Held[Any]] = {}

    def generate(self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> PrivateKey:
        """Make a key pair in the token. Raises KeyExists: a name is given once."""
        name = checked_label(label)

        def make(anchor: Anchor) -> None:
            self._refuse_taken(anchor, name)
            make_pair(anchor.session, name, purpose, KeyAlgorithm(algorithm))

        self.sessions.alone(make)
        log.info("hsm_key_made", label=name, purpose=str(purpose), algorithm=str(algorithm))
        return self.key(name)

    def key(self, label: str) -> PrivateKey:
        """The private key of this name. Raises KeyNotFound, or KeyDamaged when its halves do not match."""
        if label not in self._keys:
            self._keys[label] = self._found(label)
        return self._keys[label]

    def has(self, label: str) -> bool:
        """True when a private or secret key of this name is in the token."""
        return self.sessions.run(lambda anchor: bool(private_objects(anchor.session, label=label)))

    def keys(self) -> tuple[KeyInformation, ...]:
        """All private and secret keys, by name."""
        found = self.sessions.run(lambda anchor: [information(key) for key in private_objects(anchor.session)])
        return tuple(sorted(found, key=lambda key: (key.label, key.key_id)))

    def destroy(self, label: str) -> None:
        """Destroy the keys of this name for good, a wrapping key's MAC key too. Raises KeyNotFound."""

        def remove(anchor: Anchor) -> None:
            for each in _doomed(anchor, label):
                each.destroy()

        self.sessions.alone(remove)
        self._keys.pop(label, None)
        self._secrets.clear()
        log.warning("hsm_key_destroyed", label=label)

    def generate_secret(self, label: str, purpose: KeyPurpose) -> None:
        """Make a 256-bit secret: AES for WRAPPING and ENCRYPTION, HMAC for MAC. Raises KeyExists.

        A wrapping key comes with a second secret, ``<label>-mac``, that binds what is wrapped to its owner.
        """
        name = checked_label(label)
        wanted: dict[str, KeyPurpose] = {name: purpose}
        if purpose is KeyPurpose.WRAPPING:
            wanted = {binding_label(name): KeyPurpose.MAC, **wanted}

        def make(anchor: Anchor) -> None:
            self._refuse_taken(anchor, *wanted)
            for each, its_purpose in wanted.items():
                make_secret(anchor.session, each, its_purpose)

        self.sessions.alone(make)
        log.info("hsm_key_made", label=name, purpose=str(purpose))

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of ``data`` (32 octets) under a secret that stays in the token. Raises KeyNotFound."""
        return self.secret(label, KeyPurpose.MAC).use(
            lambda key: bytes(key.sign(data, mechanism=Mechanism.SHA256_HMAC))
        )

    def seal(self, label: str, plaintext: bytes, context: bytes) -> bytes:
        """``plaintext`` encrypted in the token with AES-256-GCM, bound to ``context``: 29 octets longer.

        Laid out as version, nonce, ciphertext and tag. Raises KeyNotFound.
        """
        nonce = os.urandom(GCM_NONCE_OCTETS)
        parameters = GCMParams(nonce, context, GCM_TAG_BITS)
        key = self.secret(label, KeyPurpose.ENCRYPTION)
        sealed = key.use(lambda held: held.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
        return SEAL_VERSION + nonce + bytes(sealed)

    def unseal(self, label: str, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises SealBroken for any other label, context or octet, and KeyNotFound."""
        head = len(SEAL_VERSION) + GCM_NONCE_OCTETS
        if len(sealed) < head + GCM_TAG_BITS // 8 or not sealed.startswith(SEAL_VERSION):
            raise SealBroken("this is nothing that was sealed here")
        parameters = GCMParams(sealed[len(SEAL_VERSION) : head], context, GCM_TAG_BITS)
        held = self.secret(label, KeyPurpose.ENCRYPTION)
        return self.sessions.run(lambda anchor: _opened(anchor, held.within(anchor), sealed[head:], parameters))

    def secret(self, label: str, purpose: KeyPurpose) -> Held[Any]:
        """The handle of a secret key. Raises KeyNotFound, or HsmMisused when the key is for another purpose."""
        if (label, purpose) not in self._secrets:
            self._secrets[label, purpose] = self._found_secret(label, purpose)
        return self._secrets[label, purpose]

    def status(self) -> TokenStatus:
        """What the token says about itself; this also proves that it answers."""
        return self.sessions.run(_status)

    def check(self) -> None:
        """Refuse to start with a key that could leave the token. Raises KeyExtractable (exit 3) or KeyDamaged.

        Every private and secret key must be sensitive and local, now and always; a key pair's identifier must fit.
        """
        self.sessions.run(_check_all)

    def close(self) -> None:
        """Log out and unload; a later call opens again."""
        self.sessions.close()

    def _found(self, label: str) -> PrivateKey:
        public_key, key_id = self.sessions.run(lambda anchor: _public_and_identifier(anchor, label))
        return token_key(label, public_key, self._held(ObjectClass.PRIVATE_KEY, key_id))

    def _found_secret(self, label: str, purpose: KeyPurpose) -> Held[Any]:
        key_id = self.sessions.run(lambda anchor: _secret_identifier(anchor, label, purpose))
        return self._held(ObjectClass.SECRET_KEY, key_id)

    def _held(self, kind: ObjectClass, key_id: bytes) -> Held[Any]:
        return Held(self.sessions, lambda anchor: known_object(anchor.session, kind, key_id))

    def _refuse_taken(self, anchor: Anchor, *labels: str) -> None:
        for label in labels:
            if private_objects(anchor.session, label=label):
                raise KeyExists(f"the token already holds a key {label!r}")


def open_keystore(settings: HsmSettings) -> Keystore:
    """The keystore of this token. Nothing is loaded until it is used."""
    return Keystore(Sessions(settings))


def binding_label(wrapping_label: str) -> str:
    """The name of the MAC key that comes with a wrapping key."""
    return wrapping_label + "-mac"


def checked_label(label: str) -> KeyLabel:
    """``label`` when it can name a key: up to 64 letters, digits, dots, hyphens and underscores. Else HsmMisused."""
    if not _LABEL.fullmatch(label) or label.startswith(UNFINISHED):
        raise HsmMisused("a key's label has 1 to 64 letters, digits, dots, hyphens and underscores")
    return KeyLabel(label)


def _public_and_identifier(anchor: Anchor, label: str) -> tuple[Any, bytes]:
    public_key, _ = key_pair(anchor.session, label)
    return public_key, key_identifier(public_key)


def _secret_identifier(anchor: Anchor, label: str, purpose: KeyPurpose) -> bytes:
    key = one_object(anchor.session, ObjectClass.SECRET_KEY, label)
    if information(key).purpose is not purpose:
        raise HsmMisused(f"the key {label!r} is not for {purpose}")
    return bytes(key[Attribute.ID])


def _opened(anchor: Anchor, key: Any, ciphertext: bytes, parameters: GCMParams) -> bytes:
    try:
        return bytes(key.decrypt(ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
    except (pkcs11.GeneralError, pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange) as error:
        prove_alive(anchor.session)  # SoftHSM reports a wrong tag as it reports a broken device
        raise SealBroken("the sealed data was changed or belongs elsewhere") from error


def _doomed(anchor: Anchor, label: str) -> list[Any]:
    named = find(anchor.session, {Attribute.LABEL: label, Attribute.TOKEN: True})
    if not named:
        raise KeyNotFound(f"the token holds no key {label!r}")
    if any(information(key).purpose is KeyPurpose.WRAPPING for key in private_objects(anchor.session, label=label)):
        named += private_objects(anchor.session, label=binding_label(label))
    return named


def _status(anchor: Anchor) -> TokenStatus:
    token = anchor.session.token
    labels = [key[Attribute.LABEL] for key in private_objects(anchor.session)]
    library = pkcs11.lib(anchor.library_path)
    return TokenStatus(
        module=anchor.library_path,
        library=library.library_description,
        library_version=".".join(str(part) for part in library.library_version),
        label=token.label,
        serial=token.serial.decode("ascii", "replace"),
        model=token.model,
        mechanisms=tuple(sorted(_name(mechanism) for mechanism in token.slot.get_mechanisms())),
        keys=len(labels),
        unfinished=sum(label.startswith(UNFINISHED) for label in labels),
    )


def _name(mechanism: Mechanism | int) -> str:
    return mechanism.name.lstrip("_") if isinstance(mechanism, Mechanism) else f"0x{mechanism:08x}"


def _check_all(anchor: Anchor) -> None:
    for key in private_objects(anchor.session):
        _check_locked_in(information(key))
        if key.object_class is ObjectClass.PRIVATE_KEY and not key[Attribute.LABEL].startswith(UNFINISHED):
            key_pair(anchor.session, key[Attribute.LABEL])


def _check_locked_in(found: KeyInformation) -> None:
    if not found.attributes.locked_in:
        log.error("hsm_key_extractable", label=found.label, key_id=found.key_id)
        raise KeyExtractable(f"the key {found.label!r} is not, or was not always, locked in its token")
