"""The keystore of a process that has the token to itself: every call goes into the module of this very process."""

from __future__ import annotations

import hmac
import os
from dataclasses import replace
from typing import Any

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import Attribute, GCMParams, Mechanism, ObjectClass

from core.logs import get_logger
from hsm.errors import (
    HsmMisused,
    KeyExists,
    KeyExtractable,
    KeyNotFound,
    SealBroken,
    SignatureMismatch,
    WrappedKeyRefused,
)
from hsm.keys import PrivateKey, PublicKey, SignTask, check_scheme, token_key, verify_task
from hsm.keystore import TokenStatus, binding_label, checked_label
from hsm.module import Anchor
from hsm.objects import (
    UNFINISHED,
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
    sign_with,
)
from hsm.sessions import Held, Sessions
from hsm.templates import CURVES, KeyAlgorithm, KeyPurpose
from hsm.wrapping import (
    MAX_BLOB_OCTETS,
    WrappedKey,
    bound_octets,
    made_and_wrapped,
    signed_once,
    wrapped_anew,
    wrapped_name,
)

SEAL_VERSION = b"\x01"
GCM_NONCE_OCTETS = 12  # NIST SP 800-38D 5.2.1.1
GCM_TAG_BITS = 128
WRAPPABLE_ALGORITHMS = (*CURVES, KeyAlgorithm.RSA3072)

log = get_logger("hsm.keystore")


class _Resident:
    """Custody of a key that lives in the token."""

    def __init__(self, held: Held[Any]) -> None:
        self._held = held

    def sign(self, task: SignTask) -> bytes:
        return self._held.use(lambda handle: sign_with(handle, task))

    def quarantined(self) -> bool:
        """The key object remembers; every caller of this process has the same one."""
        return False


class TokenKeystore:
    """``hsm.keystore.Keystore`` over this process's own session; the methods are described there.

    Opening waits for the first use, so a keystore can be made before a server forks; each process then logs in for
    itself.
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

    def forget(self, label: str) -> None:
        """Look for this key anew when it is asked for next: another process may have made another one."""
        self._keys.pop(label, None)

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
        held = self.secret(label, KeyPurpose.MAC)
        if self._binds(label):
            raise HsmMisused(f"the key {label!r} binds wrapped keys to their owners and nothing else")
        return self.sessions.run(lambda anchor: _mac(held.within(anchor), data))

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

    def generate_wrapped(self, label: str, algorithm: KeyAlgorithm | str, context: bytes) -> WrappedKey:
        """A fresh key pair, wrapped under the key ``label`` and bound to ``context``."""
        if algorithm not in WRAPPABLE_ALGORITHMS:
            raise HsmMisused("wrapped keys are on P-256 or P-384, or RSA-3072")
        kind = KeyAlgorithm(algorithm)
        wrapping = self.secret(label, KeyPurpose.WRAPPING)
        public_key, blob = self.sessions.run(
            lambda anchor: made_and_wrapped(anchor.session, wrapping.within(anchor), kind)
        )
        return self._bound(WrappedKey(blob, b"", public_key, label, kind.value), context)

    def check_wrapped(self, wrapped: WrappedKey, context: bytes) -> None:
        """Raises WrappedKeyRefused when ``wrapped`` was changed or is not bound to ``context``."""
        self._checked(wrapped, context)

    def sign_wrapped(self, wrapped: WrappedKey, context: bytes, task: SignTask) -> bytes:
        """One signature: the key is unwrapped for it, and destroyed before this returns."""
        public_key = self._checked(wrapped, context)
        check_scheme(public_key, task)
        wrapping = self.secret(wrapped.wrapping_key, KeyPurpose.WRAPPING)
        algorithm = KeyAlgorithm(wrapped.algorithm)
        signature = self.sessions.run(
            lambda anchor: signed_once(wrapping.within(anchor), wrapped.blob, algorithm, task)
        )
        try:
            verify_task(public_key, task, signature)
        except InvalidSignature:
            name = wrapped_name(wrapped)
            log.error("hsm_signature_mismatch", label=name)
            raise SignatureMismatch(f"the token's signature for {name!r} does not verify", key=name) from None
        return signature

    def rewrap(self, wrapped: WrappedKey, context: bytes, new_wrapping_label: str) -> WrappedKey:
        """The same key under another wrapping key, bound to the same context; it never leaves the token meanwhile."""
        self._checked(wrapped, context)
        old = self.secret(wrapped.wrapping_key, KeyPurpose.WRAPPING)
        new = self.secret(new_wrapping_label, KeyPurpose.WRAPPING)
        algorithm = KeyAlgorithm(wrapped.algorithm)
        blob = self.sessions.run(
            lambda anchor: wrapped_anew(old.within(anchor), new.within(anchor), wrapped.blob, algorithm)
        )
        return self._bound(replace(wrapped, blob=blob, wrapping_key=new_wrapping_label), context)

    def rebind(self, wrapped: WrappedKey, context: bytes, new_context: bytes) -> WrappedKey:
        """The same key bound to another context; the key itself is not touched."""
        self._checked(wrapped, context)
        return self._bound(wrapped, new_context)

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
        return token_key(label, public_key, _Resident(self._held(ObjectClass.PRIVATE_KEY, key_id)))

    def _found_secret(self, label: str, purpose: KeyPurpose) -> Held[Any]:
        key_id = self.sessions.run(lambda anchor: _secret_identifier(anchor, label, purpose))
        return self._held(ObjectClass.SECRET_KEY, key_id)

    def _checked(self, wrapped: WrappedKey, context: bytes) -> PublicKey:
        """The public key of ``wrapped``, after its binding was verified; nothing else of it is believed before."""
        if len(wrapped.blob) > MAX_BLOB_OCTETS:
            raise WrappedKeyRefused("the wrapped key is too long")
        if not hmac.compare_digest(self._bound(wrapped, context).mac, wrapped.mac):
            raise WrappedKeyRefused("the wrapped key was changed or belongs elsewhere")
        public_key = serialization.load_der_public_key(wrapped.public_key)
        if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise WrappedKeyRefused("the wrapped key is of an unknown kind")
        return public_key

    def _bound(self, wrapped: WrappedKey, context: bytes) -> WrappedKey:
        octets = bound_octets(wrapped, context)
        held = self.secret(binding_label(wrapped.wrapping_key), KeyPurpose.MAC)
        return replace(wrapped, mac=self.sessions.run(lambda anchor: _mac(held.within(anchor), octets)))

    def _binds(self, label: str) -> bool:
        """True for the MAC key of a wrapping key: whoever could use it freely could forge owners."""
        stem = label.removesuffix(binding_label(""))
        # Asked each time: such a pair of keys is made one after the other.
        return stem != label and self.has(stem)

    def _held(self, kind: ObjectClass, key_id: bytes) -> Held[Any]:
        return Held(self.sessions, lambda anchor: known_object(anchor.session, kind, key_id))

    def _refuse_taken(self, anchor: Anchor, *labels: str) -> None:
        for label in labels:
            if private_objects(anchor.session, label=label):
                raise KeyExists(f"the token already holds a key {label!r}")


def _public_and_identifier(anchor: Anchor, label: str) -> tuple[Any, bytes]:
    public_key, _ = key_pair(anchor.session, label)
    return public_key, key_identifier(public_key)


def _secret_identifier(anchor: Anchor, label: str, purpose: KeyPurpose) -> bytes:
    key = one_object(anchor.session, ObjectClass.SECRET_KEY, label)
    if information(key).purpose is not purpose:
        raise HsmMisused(f"the key {label!r} is not for {purpose}")
    return bytes(key[Attribute.ID])


def _mac(key: Any, data: bytes) -> bytes:
    return bytes(key.sign(data, mechanism=Mechanism.SHA256_HMAC))


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
