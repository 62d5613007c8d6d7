"""The questions of ``hsm.self_test``: each asks the token one thing, and tells what it saw or raises.

Most work with session objects. Where only an object of the token will do, its label begins ``hsm-test-`` and it is
destroyed again; what an interrupted test left is destroyed by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass

from core.errors import CodedError
from hsm.errors import Condition, KeyExists, KeyNotFound, WrappedKeyRefused, condition_of
from hsm.keys import (
    PrivateKey,
    PublicKey,
    Scheme,
    SignTask,
    TokenEllipticCurveKey,
    public_key_of,
    token_key,
)
from hsm.module import Anchor
from hsm.objects import generated_pair, sign_with
from hsm.templates import (
    SECRET_BITS,
    SECRET_CAPABILITIES,
    SECRET_KEY_TYPES,
    STAYS_IN_TOKEN,
    WRAPPABLE,
    KeyAlgorithm,
    KeyPurpose,
)
from hsm.token_keystore import TokenKeystore
from hsm.wrapping import WRAP_MECHANISM, unwrapped

LABELS = "hsm-test-"
CHILDREN = 2
CHILD_SECONDS = 30.0
CHILD_SIGNATURES = 10
THREADS = 4
PSS_SALT_OCTETS = 32
_DIGEST = hashlib.sha256(b"probe").digest()


class ProbeFailed(Exception):
    """The token does not do what was asked; the text says what it did."""


# Mechanisms ---------------------------------------------------------------------------------------------------------


def signs(algorithm: KeyAlgorithm, *schemes: Scheme) -> Callable[[TokenKeystore], str]:
    """A fresh key of this kind signs in each of these ways, and the signatures verify."""

    def sign(anchor: Anchor) -> str:
        with _pair(anchor, algorithm) as (private, public):
            key = token_key(f"probe {algorithm}", public, _Direct(private))
            for scheme in schemes:
                key.sign_task(SignTask(scheme, "sha256", _DIGEST, PSS_SALT_OCTETS))
        return "signed and verified"

    return lambda keystore: keystore.sessions.run(sign)


def offers(mechanism: Mechanism, flag: MechanismFlag) -> Callable[[TokenKeystore], str]:
    """The module lists the mechanism for this use; nothing is tried."""

    def ask(keystore: TokenKeystore) -> str:
        def look(anchor: Anchor) -> Any:
            slot = anchor.session.token.slot
            return slot.get_mechanism_info(mechanism) if mechanism in slot.get_mechanisms() else None

        found = keystore.sessions.run(look)
        _expect(found is not None and bool(found.flags & flag), "the module does not offer it")
        return "offered"

    return ask


def authenticates(keystore: TokenKeystore) -> str:
    """HMAC-SHA-256."""

    def ask(anchor: Anchor) -> str:
        with _secret(anchor, KeyPurpose.MAC) as key:
            first, again, other = (key.sign(data, mechanism=Mechanism.SHA256_HMAC) for data in (b"1", b"1", b"2"))
        _expect(len(first) == 32 and first == again != other, "the MAC is not a function of the data")
        return "32 octets"

    return keystore.sessions.run(ask)


def seals(keystore: TokenKeystore) -> str:
    """AES-256-GCM with associated data."""

    def ask(anchor: Anchor) -> str:
        parameters = GCMParams(os.urandom(12), b"context", 128)
        with _secret(anchor, KeyPurpose.ENCRYPTION) as key:
            sealed = bytes(key.encrypt(b"probe", mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
            opened = key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
            _expect(bytes(opened) == b"probe", "what was sealed does not open")
            changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
            _expect(refuses(key, changed, parameters), "a changed tag was accepted")
        return "opened, and refused when changed"

    return keystore.sessions.run(ask)


def refuses(key: Any, sealed: bytes, parameters: GCMParams) -> bool:
    """True when the token does not open ``sealed``."""
    try:
        key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    except pkcs11.PKCS11Error:
        return True
    return False


def wraps(algorithm: KeyAlgorithm) -> Callable[[TokenKeystore], str]:
    """A fresh key is wrapped, unwrapped as one that only signs, and signs."""

    def ask(keystore: TokenKeystore) -> str:
        def unwrap(anchor: Anchor) -> str:
            with _wrapped(anchor, algorithm) as (wrapping, public, blob):
                again = unwrapped(wrapping, blob, algorithm)
                try:
                    sign_once(token_key("probe unwrapped", public, _Direct(again)))
                finally:
                    again.destroy()
                return f"{len(blob)} octets"

        return keystore.sessions.run(unwrap)

    return ask


# What keys may do ---------------------------------------------------------------------------------------------------


def resident_keys_are_locked_in(keystore: TokenKeystore) -> str:
    """Keys kept in the token say that they were made there and never could leave."""
    with _resident(keystore) as label:
        listed = keystore.keys()
        (found,) = (key for key in listed if key.label == label)
    for name, good in (
        ("sensitive", True), ("always_sensitive", True), ("extractable", False), ("never_extractable", True),
        ("local", True),
    ):  # fmt: skip
        _expect(getattr(found.attributes, name) is good, f"CKA_{name.upper()} is {str(not good).lower()}")
    return "sensitive and local, not extractable, and never were otherwise"


def locks_hold(keystore: TokenKeystore) -> str:
    """A key neither shows its value nor lets its locks be opened."""

    def ask(anchor: Anchor) -> str:
        with _secret(anchor, KeyPurpose.ENCRYPTION) as key:
            _expect(_raises(lambda: key[Attribute.VALUE]), "a sensitive key showed its value")
            for lock, opened in ((Attribute.SENSITIVE, False), (Attribute.EXTRACTABLE, True)):
                _expect(_raises(lambda: key.__setitem__(lock, opened)), f"CKA_{lock.name} was changed")  # noqa: B023
        return "values stay hidden, locks stay shut"

    return keystore.sessions.run(ask)


def resident_keys_are_not_wrapped(keystore: TokenKeystore) -> str:
    """No wrapping key takes out a key that is not extractable."""

    def ask(anchor: Anchor) -> str:
        with _pair(anchor, KeyAlgorithm.P256) as (private, _), _secret(anchor, KeyPurpose.WRAPPING) as wrapping:
            refused = _raises(lambda: wrapping.wrap_key(private, mechanism=WRAP_MECHANISM))
        _expect(refused, "a key that is not extractable was wrapped")
        return "refused"

    return keystore.sessions.run(ask)


def unwrapped_keys_only_sign(keystore: TokenKeystore) -> str:
    """An unwrapped key is a sensitive session object that signs, does nothing else, and cannot be wrapped again."""
    wanted = {
        Attribute.TOKEN: False, Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True, Attribute.DECRYPT: False, Attribute.UNWRAP: False, Attribute.DERIVE: False,
    }  # fmt: skip

    def ask(anchor: Anchor) -> str:
        with _wrapped(anchor, KeyAlgorithm.P256) as (wrapping, _, blob):
            key = unwrapped(wrapping, blob)
            try:
                wrong = [f"CKA_{name.name}" for name, good in wanted.items() if key[name] is not good]
                _expect(not wrong, f"{', '.join(wrong)} is not as asked for")
                refused = _raises(lambda: wrapping.wrap_key(key, mechanism=WRAP_MECHANISM))
                _expect(refused, "it was wrapped again although it is not extractable")
            finally:
                key.destroy()
        return "signs, and nothing else"

    return keystore.sessions.run(ask)


def wrapping_keys_only_wrap(keystore: TokenKeystore) -> str:
    """A wrapping key that could decrypt would open the keys it wraps."""

    def ask(anchor: Anchor) -> str:
        with _secret(anchor, KeyPurpose.WRAPPING) as key:
            able = [ability for ability in (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN) if key[ability]]
            _expect(not able, f"it has {', '.join(f'CKA_{each.name}' for each in able)}")
        return "wraps and unwraps, and nothing else"

    return keystore.sessions.run(ask)


def trusted_mark_is_the_officers(keystore: TokenKeystore) -> str:
    """Only the security officer can mark a wrapping key CKA_TRUSTED."""

    def ask(anchor: Anchor) -> str:
        template = {**STAYS_IN_TOKEN, Attribute.TRUSTED: True}
        try:
            key: Any = anchor.session.generate_key(KeyType.AES, SECRET_BITS, store=False, template=template)
        except pkcs11.PKCS11Error as error:
            return f"a user cannot set it ({type(error).__name__})"
        try:
            _expect(not key[Attribute.TRUSTED], "a user can set it")
        finally:
            key.destroy()
        return "a user cannot set it (ignored)"

    return keystore.sessions.run(ask)


def wrap_with_trusted_holds(keystore: TokenKeystore) -> str:
    """A key with CKA_WRAP_WITH_TRUSTED is wrapped by marked keys only."""

    def ask(anchor: Anchor) -> str:
        only_trusted = {**WRAPPABLE, Attribute.WRAP_WITH_TRUSTED: True}
        with (
            _pair(anchor, KeyAlgorithm.P256, only_trusted) as (private, _),
            _secret(anchor, KeyPurpose.WRAPPING) as wrapping,
        ):
            refused = _raises(lambda: wrapping.wrap_key(private, mechanism=WRAP_MECHANISM))
        _expect(refused, "a wrapping key without the mark took it")
        return "refused"

    return keystore.sessions.run(ask)


def names_are_given_once(keystore: TokenKeystore) -> str:
    """Keys are found again by name in a new session, a name is refused the second time, and a destroyed key is gone."""
    with _resident(keystore) as label:
        keystore.close()  # and so opened anew
        _expect(keystore.has(label), "a key was not found again in a new session")
        _expect(_is_taken(keystore, label), "a name was given twice")
    _expect(not keystore.has(label), "a destroyed key was found")
    return "found in a new session, refused a second time, gone when destroyed"


# Errors -------------------------------------------------------------------------------------------------------------


def unknown_key_is_not_found(keystore: TokenKeystore) -> str:
    """Asking for a key that never was is told from an outage."""
    try:
        keystore.key(LABELS + secrets.token_hex(8))
    except KeyNotFound:
        return "not found, and told from an outage"
    raise ProbeFailed("a key was found that never was")


def damaged_blob_is_refused(keystore: TokenKeystore) -> str:
    """A wrapped key with one bit changed does not unwrap."""

    def ask(anchor: Anchor) -> str:
        with _wrapped(anchor, KeyAlgorithm.P256) as (wrapping, _, blob):
            damaged = blob[:20] + bytes([blob[20] ^ 1]) + blob[21:]
            try:
                unwrapped(wrapping, damaged).destroy()
            except WrappedKeyRefused as refusal:
                return f"refused ({type(refusal.__cause__).__name__})"
        raise ProbeFailed("it unwrapped")

    return keystore.sessions.run(ask)


def told(expected: Condition, provoke: Callable[[Anchor], object]) -> Callable[[TokenKeystore], str]:
    """What ``provoke`` makes the module say is understood as ``expected``."""

    def ask(keystore: TokenKeystore) -> str:
        def provoked(anchor: Anchor) -> pkcs11.PKCS11Error | None:
            try:
                provoke(anchor)
            except pkcs11.PKCS11Error as error:
                return error
            return None

        error = keystore.sessions.run(provoked)
        keystore.close()  # whatever the module left open in that session
        if error is None:
            raise ProbeFailed("it was accepted")
        seen = condition_of(error)
        _expect(seen is expected, f"the answer {type(error).__name__} reads as {_words(seen)}, not {_words(expected)}")
        return f"{type(error).__name__}, which reads as {_words(seen)}"

    return ask


def unwrap_too_little(anchor: Anchor) -> object:
    """A wrapped key has at least 16 octets (RFC 5649 4.1)."""
    with _secret(anchor, KeyPurpose.WRAPPING) as wrapping:
        return wrapping.unwrap_key(ObjectClass.PRIVATE_KEY, KeyType.EC, bytes(7), mechanism=WRAP_MECHANISM)


def sign_with_foreign_mechanism(anchor: Anchor) -> object:
    """A mechanism that is not for such a key, if the module knows it at all."""
    with _pair(anchor, KeyAlgorithm.P256) as (private, _):
        return private.sign(bytes(32), mechanism=Mechanism.ML_DSA)


def sign_with_destroyed(anchor: Anchor) -> object:
    """A handle whose object has gone."""
    public, private = generated_pair(anchor.session, KeyAlgorithm.P256, store=False, label="", private=STAYS_IN_TOKEN)
    handle: Any = private
    private.destroy()
    public.destroy()
    return handle.sign(bytes(32), mechanism=Mechanism.ECDSA)


def lost_session_heals(keystore: TokenKeystore) -> str:
    """A session that was closed under us is opened again unseen, and a handle found again."""
    with _resident(keystore) as label:
        key = keystore.key(label)
        sign_once(key)
        keystore.sessions.run(lambda anchor: anchor.session.close())
        sign_once(key)
    return "opened again unseen"


def restarted_module_heals(keystore: TokenKeystore) -> str:
    """So is a module that was finalised."""
    with _resident(keystore) as label:
        key = keystore.key(label)
        sign_once(key)
        keystore.sessions.run(lambda anchor: pkcs11.lib(anchor.library_path).finalize())
        sign_once(key)
    return "started again unseen"


# Processes and threads ----------------------------------------------------------------------------------------------


def threads_take_turns(keystore: TokenKeystore) -> str:
    """Several threads of one process sign; they enter the module one after the other."""
    failures: list[str] = []

    def work(key: PrivateKey) -> None:
        try:
            for _ in range(CHILD_SIGNATURES):
                sign_once(key)
        except CodedError as error:
            failures.append(str(error))

    with _resident(keystore) as label:
        key = keystore.key(label)
        threads = [threading.Thread(target=work, args=(key,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    _expect(not failures, "; ".join(failures[:1]))
    return f"{THREADS} threads, {THREADS * CHILD_SIGNATURES} signatures"


def processes_work_side_by_side(keystore: TokenKeystore) -> str:
    """Several processes, forked from one that uses the token, open it for themselves and sign at the same time."""
    with _resident(keystore) as label:
        sign_once(keystore.key(label))
        children = [_forked(keystore, label) for _ in range(CHILDREN)]
        statuses = [_awaited(child) for child in children]
        sign_once(keystore.key(label))
    _expect(not any(statuses), f"they ended with {', '.join(map(str, statuses))}")
    return f"{CHILDREN} processes, {CHILDREN * CHILD_SIGNATURES} signatures"


def _forked(keystore: TokenKeystore, label: str) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(CHILD_SIGNATURES):
                sign_once(keystore.key(label))
            status = 0
        finally:
            os._exit(status)
    return child


def _awaited(child: int) -> int:
    """The exit status of a child, or the negative signal that ended it: one that hangs is killed."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Rates --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def signing(keystore: TokenKeystore, algorithm: KeyAlgorithm) -> Iterator[Callable[[], object]]:
    """One verified signature of a resident key."""
    with _resident(keystore, algorithm) as label:
        key = keystore.key(label)
        yield lambda: sign_once(key)


@contextlib.contextmanager
def authenticating(keystore: TokenKeystore) -> Iterator[Callable[[], object]]:
    """One HMAC."""
    with _resident_secret(keystore, KeyPurpose.MAC) as label:
        yield lambda: keystore.mac(label, b"probe")


@contextlib.contextmanager
def sealing(keystore: TokenKeystore) -> Iterator[Callable[[], object]]:
    """One sealing of 64 octets and its opening."""
    with _resident_secret(keystore, KeyPurpose.ENCRYPTION) as label:
        yield lambda: keystore.unseal(label, keystore.seal(label, bytes(64), b"probe"), b"probe")


@contextlib.contextmanager
def wrapped_signing(keystore: TokenKeystore) -> Iterator[Callable[[], object]]:
    """One signature of a wrapped key: its MAC checked, unwrapped, used, verified, destroyed."""
    with _resident_secret(keystore, KeyPurpose.WRAPPING) as label:
        wrapped = keystore.generate_wrapped(label, KeyAlgorithm.P256, b"probe")
        task = SignTask(Scheme.ECDSA, "sha256", _DIGEST)
        yield lambda: keystore.sign_wrapped(wrapped, b"probe", task)


# Keys for the occasion ----------------------------------------------------------------------------------------------


class _Direct:
    """Custody of a handle inside a running operation."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def sign(self, task: SignTask) -> bytes:
        return sign_with(self._handle, task)

    def quarantined(self) -> bool:
        """Nothing more: the probe ends here."""
        return False


def sign_once(key: PrivateKey) -> None:
    """One signature; a token key verifies each itself."""
    if isinstance(key, TokenEllipticCurveKey):
        key.sign(b"probe", ec.ECDSA(hashes.SHA256()))
    else:
        key.sign(b"probe", padding.PKCS1v15(), hashes.SHA256())


def sweep(keystore: TokenKeystore) -> int:
    """Destroy what tests left in the token; how many keys that were."""
    listed = keystore.keys()
    left = sorted({key.label for key in listed if key.label.startswith(LABELS)})
    for label in left:
        with contextlib.suppress(KeyNotFound):  # a wrapping key takes its MAC key along
            keystore.destroy(label)
    return len(left)


@contextlib.contextmanager
def _pair(
    anchor: Anchor, algorithm: KeyAlgorithm, private: dict[Attribute, Any] = STAYS_IN_TOKEN
) -> Iterator[tuple[Any, PublicKey]]:
    """A private key's handle and its public key, as session objects."""
    public, handle = generated_pair(anchor.session, algorithm, store=False, label="", private=private)
    try:
        yield handle, public_key_of(public)
    finally:
        handle.destroy()
        public.destroy()


@contextlib.contextmanager
def _secret(anchor: Anchor, purpose: KeyPurpose) -> Iterator[Any]:
    """A secret key's handle, as a session object."""
    key: Any = anchor.session.generate_key(
        SECRET_KEY_TYPES[purpose],
        SECRET_BITS,
        store=False,
        capabilities=SECRET_CAPABILITIES[purpose],
        template=STAYS_IN_TOKEN,
    )
    try:
        yield key
    finally:
        key.destroy()


@contextlib.contextmanager
def _wrapped(anchor: Anchor, algorithm: KeyAlgorithm) -> Iterator[tuple[Any, PublicKey, bytes]]:
    """A wrapping key's handle, and the public key and blob of a key wrapped under it."""
    with _secret(anchor, KeyPurpose.WRAPPING) as wrapping:
        with _pair(anchor, algorithm, WRAPPABLE) as (private, public):
            blob = bytes(wrapping.wrap_key(private, mechanism=WRAP_MECHANISM))
        yield wrapping, public, blob


@contextlib.contextmanager
def _resident(keystore: TokenKeystore, algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> Iterator[str]:
    """The label of a key pair that the token keeps meanwhile."""
    label = LABELS + secrets.token_hex(8)
    keystore.generate(label, KeyPurpose.DOCUMENT_SIGNING, algorithm)
    try:
        yield label
    finally:
        keystore.destroy(label)


@contextlib.contextmanager
def _resident_secret(keystore: TokenKeystore, purpose: KeyPurpose) -> Iterator[str]:
    """The label of a secret that the token keeps meanwhile."""
    label = LABELS + secrets.token_hex(8)
    keystore.generate_secret(label, purpose)
    try:
        yield label
    finally:
        keystore.destroy(label)


def _is_taken(keystore: TokenKeystore, label: str) -> bool:
    try:
        keystore.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256)
    except KeyExists:
        return True
    return False


def _raises(act: Callable[[], object]) -> bool:
    try:
        act()
    except pkcs11.PKCS11Error:
        return True
    return False


def _words(condition: Condition) -> str:
    return condition.name.lower().replace("_", " ")


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ProbeFailed(otherwise)
