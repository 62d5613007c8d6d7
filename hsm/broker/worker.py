"""One worker of the broker: a process with one logged-in session that carries out one request after the other.

It is forked before anything of PKCS#11 is loaded, and it ends when its socket does. Everything that may hang or crash
happens here and nowhere else; the supervisor kills what hangs and replaces what died.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict, replace

import pkcs11

from core.errors import CodedError
from core.logs import get_logger
from hsm.broker import wire
from hsm.broker.wire import WRAPPED_FIELDS, Frame, Operation, Outcome, WireError
from hsm.errors import Condition, HsmBusy, HsmMisused, HsmUnavailable, KeyNotFound, PinIncorrect, condition_of
from hsm.keys import PrivateKey, TokenRsaKey
from hsm.keystore import open_token
from hsm.module import module_at
from hsm.objects import key_identifier, spki
from hsm.settings import HsmSettings
from hsm.templates import KeyAlgorithm, KeyPurpose
from hsm.token_keystore import TokenKeystore

Fields = tuple[bytes, ...]

NO_CONDITION = 0
ROOM_SHARE = 0.4  # of the deadline: below the least time the supervisor gives any call
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_DUMPABLE = 4

log = get_logger("hsm.broker.worker")


class KnownKeyMissing(HsmUnavailable):
    """A client has the public key, so the key was there: an outage, never a reason to make another."""


class Worker:
    """Answers the requests that arrive on ``connection``."""

    def __init__(self, settings: HsmSettings, connection: socket.socket) -> None:
        # A worker has nobody to wait for in its own process: this is how long it waits for room in the token.
        self._settings = replace(settings, broker=None, wait_seconds=settings.broker_deadline * ROOM_SHARE)
        self._connection = connection
        self._opened: TokenKeystore | None = None
        self._identifiers: dict[str, bytes] = {}
        self._answers: dict[int, Callable[[Fields], Fields]] = {
            Operation.OPEN: self._open,
            Operation.PUBLIC_KEY: self._public_key,
            Operation.HAS: lambda fields: (b"\x01" if self._keystore.has(*_texts(fields)) else b"",),
            Operation.KEYS: lambda fields: (wire.listing_field(self._keystore.keys()),),
            Operation.CHECK: self._check,
            Operation.STATUS: self._status,
            Operation.SIGN: self._sign,
            Operation.MAC: lambda fields: (self._keystore.mac(fields[0].decode(), *fields[1:]),),
            Operation.SEAL: lambda fields: (self._keystore.seal(fields[0].decode(), *fields[1:]),),
            Operation.UNSEAL: lambda fields: (self._keystore.unseal(fields[0].decode(), *fields[1:]),),
            Operation.GENERATE: self._generate,
            Operation.GENERATE_SECRET: self._generate_secret,
            Operation.DESTROY: self._destroy,
            Operation.GENERATE_WRAPPED: self._generate_wrapped,
            Operation.CHECK_WRAPPED: self._check_wrapped,
            Operation.SIGN_WRAPPED: self._sign_wrapped,
            Operation.REWRAP: self._rewrap,
            Operation.REBIND: self._rebind,
        }

    def run(self) -> None:
        """Answer until the supervisor closes the connection."""
        while (octets := wire.receive(self._connection, wire.MAX_REQUEST_OCTETS)) is not None:
            self._connection.sendall(self.answer(wire.parsed(octets)))

    def answer(self, request: Frame) -> bytes:
        """The reply to one request; its condition says what the supervisor has to know about the token."""
        try:
            fields = self._answers[request.kind](request.fields)
            return wire.frame(Outcome.DONE, request.number, fields)
        except CodedError as error:
            return wire.frame(Outcome.FAILED, request.number, wire.error_fields(error), condition_behind(error))
        except Exception as error:
            # A request of another form than the client makes, or a bug of ours. The text may hold what was asked for.
            log.error("hsm_request_failed", operation=request.kind, reason=type(error).__name__)
            refusal = HsmMisused("the broker cannot carry this request out", reason=type(error).__name__)
            return wire.frame(Outcome.FAILED, request.number, wire.error_fields(refusal))

    @property
    def _keystore(self) -> TokenKeystore:
        if self._opened is None:
            raise HsmBusy("this worker has not opened the token yet")
        return self._opened

    def _open(self, fields: Fields) -> Fields:
        """Start the module afresh and log in, once; with ``check``, look at every key, too."""
        self._opened = None
        self._identifiers.clear()
        module_at(self._settings.module).unload()
        keystore = open_token(self._settings)
        keystore.has("*")  # a token that has gone still lets a session be opened; only looking for something tells
        if fields == (b"check",):
            keystore.check()
        self._opened = keystore
        return ()

    def _public_key(self, fields: Fields) -> Fields:
        (label,) = _texts(fields)
        self._forget(label)
        return (spki(self._keystore.key(label).public_key()),)

    def _status(self, fields: Fields) -> Fields:
        return (json.dumps(asdict(self._keystore.status())).encode(),)

    def _check(self, _: Fields) -> Fields:
        self._keystore.check()
        return ()

    def _destroy(self, fields: Fields) -> Fields:
        self._keystore.destroy(*_texts(fields))
        return ()

    def _sign(self, fields: Fields) -> Fields:
        label, key_id, *rest = fields
        key, task = self._known_key(label.decode(), key_id), wire.task_of(rest)
        # Every client verifies before it gives a signature away (hsm.client). A faulty RSA signature gives the key
        # away to whoever sees it (Boneh, DeMillo, Lipton 1997) and is quickly checked, so it is checked here, too.
        return (key.sign_task(task) if isinstance(key, TokenRsaKey) else key.unverified(task),)

    def _known_key(self, label: str, key_id: bytes) -> PrivateKey:
        """The key of this name and identifier; looked for in a module started afresh before it is given up."""
        if self._identifiers.get(label) != key_id:
            self._forget(label)
            try:
                key = self._keystore.key(label)
            except KeyNotFound:
                self._keystore.close()
                key = self._key_or_outage(label)
            self._identifiers[label] = key_identifier(key.public_key())
        if self._identifiers[label] != key_id:
            raise KnownKeyMissing(f"the key {label!r} is another one now", reason="another_key")
        return self._keystore.key(label)

    def _key_or_outage(self, label: str) -> PrivateKey:
        try:
            return self._keystore.key(label)
        except KeyNotFound as error:
            raise KnownKeyMissing(f"the key {label!r} was there and is not found", reason="key_missing") from error

    def _forget(self, label: str) -> None:
        self._keystore.forget(label)
        self._identifiers.pop(label, None)

    def _generate(self, fields: Fields) -> Fields:
        label, purpose, algorithm = _texts(fields)
        key = self._keystore.generate(label, KeyPurpose(purpose), KeyAlgorithm(algorithm))
        return (spki(key.public_key()),)

    def _generate_secret(self, fields: Fields) -> Fields:
        label, purpose = _texts(fields)
        self._keystore.generate_secret(label, KeyPurpose(purpose))
        return ()

    def _generate_wrapped(self, fields: Fields) -> Fields:
        label, algorithm, context = fields
        return wire.wrapped_fields(self._keystore.generate_wrapped(label.decode(), algorithm.decode(), context))

    def _check_wrapped(self, fields: Fields) -> Fields:
        *wrapped, context = fields
        self._keystore.check_wrapped(wire.wrapped_of(wrapped), context)
        return ()

    def _sign_wrapped(self, fields: Fields) -> Fields:
        wrapped, (context, *task) = wire.wrapped_of(fields[:WRAPPED_FIELDS]), fields[WRAPPED_FIELDS:]
        return (self._keystore.sign_wrapped(wrapped, context, wire.task_of(task)),)

    def _rewrap(self, fields: Fields) -> Fields:
        old, new, *rest, context = fields
        return wire.wrapped_fields(self._keystore.rewrap(wire.wrapped_of((old, *rest)), context, new.decode()))

    def _rebind(self, fields: Fields) -> Fields:
        *wrapped, context, new_context = fields
        return wire.wrapped_fields(self._keystore.rebind(wire.wrapped_of(wrapped), context, new_context))


def condition_behind(error: CodedError) -> int:
    """What ``error`` says about the token, if anything."""
    if isinstance(error, PinIncorrect):
        return Condition.WRONG_PIN
    if isinstance(error, KnownKeyMissing) or not isinstance(error, HsmUnavailable):
        return NO_CONDITION
    cause = error.__cause__
    return condition_of(cause) if isinstance(cause, pkcs11.PKCS11Error) else Condition.DEVICE_TROUBLE


def be_worker(settings: HsmSettings, connection: socket.socket, supervisor: int) -> None:
    """Turn this freshly forked process into a worker of the process ``supervisor``; returns when its work is over."""
    _shut_in(supervisor)
    connection.setblocking(True)
    # The supervisor alone decides when a worker ends, also when a terminal or systemd signals the whole group.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Worker(settings, connection).run()
    except (OSError, WireError):
        log.warning("hsm_worker_cut_off")
    finally:
        module_at(settings.module).unload()


def _shut_in(supervisor: int) -> None:
    """No core dump, no debugger of the same user, and no life after the supervisor's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(0)  # the supervisor died before this process could be tied to it


def _texts(fields: Fields) -> tuple[str, ...]:
    return tuple(field.decode() for field in fields)
