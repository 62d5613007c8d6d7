"""The keystore of a process that never touches the token: every call is a request to the broker.

Messages are hashed here and only digests are sent; signatures are verified here before they are given away. A request
that may have been carried out is never repeated, unless asking twice changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from core.errors import CodedError
from core.logs import get_logger
from hsm.broker.wire import (
    HEADER,
    MAX_REPLY_OCTETS,
    MAX_REQUEST_OCTETS,
    RULES,
    Operation,
    Outcome,
    WireError,
    error_of,
    frame,
    listing_of,
    parsed,
    receive,
    task_fields,
    wrapped_fields,
    wrapped_of,
)
from hsm.errors import HsmMisused, HsmUnavailable
from hsm.keys import PrivateKey, SignTask, token_key
from hsm.keystore import TokenStatus, checked_label
from hsm.objects import KeyInformation, key_identifier
from hsm.templates import KeyAlgorithm, KeyPurpose
from hsm.wrapping import WrappedKey

GRACE_SECONDS = 1.0
PATIENCE = 1.5
"""The broker answers within one and a half deadlines, if only with a refusal; a client waits a second longer."""
LONG_SECONDS = 120.0
"""For operations that make keys or look at all of them."""
MAX_IDLE = 16
_TIMEVAL = struct.Struct("@ll")  # struct timeval

log = get_logger("hsm.client")


class BrokerKeystore:
    """``hsm.keystore.Keystore`` over the broker's socket; the methods are described there.

    May be used by any number of threads, and by a child after a fork: each call has a connection to itself, and a
    connection is used by the process that made it only.
    """

    def __init__(self, path: Path, *, deadline_seconds: float = 2.0) -> None:
        self._connections = _Connections(path, deadline_seconds * PATIENCE + GRACE_SECONDS)
        self._keys: dict[str, PrivateKey] = {}

    def generate(self, label: str, purpose: KeyPurpose, algorithm: KeyAlgorithm) -> PrivateKey:
        name = checked_label(label)
        self._ask(Operation.GENERATE, name.encode(), purpose.encode(), KeyAlgorithm(algorithm).encode())
        return self.key(name)

    def key(self, label: str) -> PrivateKey:
        if label not in self._keys:
            (der,) = self._ask(Operation.PUBLIC_KEY, label.encode())
            public_key = serialization.load_der_public_key(der)
            if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
                raise HsmMisused("the token holds a kind of key that is not used here")
            self._keys[label] = token_key(label, public_key, _Remote(self, label, key_identifier(public_key)))
        return self._keys[label]

    def has(self, label: str) -> bool:
        return self._ask(Operation.HAS, label.encode()) == (b"\x01",)

    def keys(self) -> tuple[KeyInformation, ...]:
        (listing,) = self._ask(Operation.KEYS)
        return listing_of(listing)

    def destroy(self, label: str) -> None:
        self._ask(Operation.DESTROY, label.encode())
        self._keys.pop(label, None)

    def generate_secret(self, label: str, purpose: KeyPurpose) -> None:
        self._ask(Operation.GENERATE_SECRET, checked_label(label).encode(), purpose.encode())

    def mac(self, label: str, data: bytes) -> bytes:
        (mac,) = self._ask(Operation.MAC, label.encode(), data)
        return mac

    def seal(self, label: str, plaintext: bytes, context: bytes) -> bytes:
        (sealed,) = self._ask(Operation.SEAL, label.encode(), plaintext, context)
        return sealed

    def unseal(self, label: str, sealed: bytes, context: bytes) -> bytes:
        (plaintext,) = self._ask(Operation.UNSEAL, label.encode(), sealed, context)
        return plaintext

    def generate_wrapped(self, label: str, algorithm: KeyAlgorithm | str, context: bytes) -> WrappedKey:
        return wrapped_of(self._ask(Operation.GENERATE_WRAPPED, label.encode(), str(algorithm).encode(), context))

    def check_wrapped(self, wrapped: WrappedKey, context: bytes) -> None:
        self._ask(Operation.CHECK_WRAPPED, *wrapped_fields(wrapped), context)

    def sign_wrapped(self, wrapped: WrappedKey, context: bytes, task: SignTask) -> bytes:
        (signature,) = self._ask(Operation.SIGN_WRAPPED, *wrapped_fields(wrapped), context, *task_fields(task))
        return signature

    def rewrap(self, wrapped: WrappedKey, context: bytes, new_wrapping_label: str) -> WrappedKey:
        old, *rest = wrapped_fields(wrapped)
        return wrapped_of(self._ask(Operation.REWRAP, old, new_wrapping_label.encode(), *rest, context))

    def rebind(self, wrapped: WrappedKey, context: bytes, new_context: bytes) -> WrappedKey:
        return wrapped_of(self._ask(Operation.REBIND, *wrapped_fields(wrapped), context, new_context))

    def status(self) -> TokenStatus:
        (told,) = self._ask(Operation.STATUS)
        facts = json.loads(told)
        return TokenStatus(**{**facts, "mechanisms": tuple(facts["mechanisms"])})

    def check(self) -> None:
        self._ask(Operation.CHECK)

    def close(self) -> None:
        self._connections.close()

    def metrics(self) -> dict[str, Any]:
        """What the broker counts about itself, also while the token is away; docs/custody.md names the members."""
        (told,) = self._ask(Operation.METRICS)
        counted: dict[str, Any] = json.loads(told)
        return counted

    def sign_by_name(self, label: str, key_id: bytes, task: SignTask) -> bytes:
        """A signature, not yet verified, of the key that has this name and CKA_ID."""
        (signature,) = self._ask(Operation.SIGN, label.encode(), key_id, *task_fields(task))
        return signature

    def report_mismatch(self, label: str) -> None:
        """Tell the broker that a signature of this key does not verify, so that nobody uses it any more."""
        self._ask(Operation.QUARANTINE, label.encode())

    def _ask(self, operation: Operation, *fields: bytes) -> tuple[bytes, ...]:
        return self._connections.ask(operation, fields)


class _Remote:
    """Custody of a key in the broker's token."""

    def __init__(self, keystore: BrokerKeystore, label: str, key_id: bytes) -> None:
        self._keystore = keystore
        self._label = label
        self._key_id = key_id

    def sign(self, task: SignTask) -> bytes:
        return self._keystore.sign_by_name(self._label, self._key_id, task)

    def quarantined(self) -> bool:
        try:
            self._keystore.report_mismatch(self._label)
        except CodedError as error:
            log.error("hsm_mismatch_not_reported", label=self._label, code=error.code)
            return False
        return True


class _NotSent(Exception):
    """The broker had closed this connection before the whole request was in it: nothing was carried out."""


class _Connection:
    """One connection, used by one thread at a time and by one process only."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.process = os.getpid()
        # The kernel keeps the time: Python's own time-outs cost a system call more, and overrule MSG_DONTWAIT.
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.number = 0
        self.fresh = True  # has not carried a request yet, or carries its first
        self._normal = seconds
        self._patience = 0.0
        try:
            self._wait_at_most(seconds)
            self.socket.connect(os.fspath(path))
        except OSError as error:
            self.socket.close()
            raise HsmUnavailable(f"the broker cannot be reached: {error.strerror or error}") from error

    def exchange(self, operation: Operation, fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The reply's fields. Raises the error it tells of; _NotSent, WireError or OSError when there is none."""
        self.fresh = self.number == 0
        self.number = (self.number + 1) & 0xFFFFFFFF
        self._wait_at_most(LONG_SECONDS if RULES[operation].long else self._normal)
        octets = _request(operation, self.number, fields)
        try:
            self.socket.sendall(octets)
        except ConnectionError as error:
            raise _NotSent from error
        answer = receive(self.socket, MAX_REPLY_OCTETS)
        if answer is None:
            raise WireError("the broker closed the connection")
        reply = parsed(answer)
        if reply.number != self.number:
            raise WireError("this answers another request")
        if reply.kind == Outcome.DONE:
            return reply.fields
        raise error_of(reply.fields)

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._patience:
            value = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._patience = seconds


class _Connections:
    """Connections that are not in use just now. A deque's ends are safe to use from any thread."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._idle: deque[_Connection] = deque()

    def ask(self, operation: Operation, fields: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """One request and its answer. Raises HsmUnavailable when there is none, and what the answer tells of."""
        lost = 0
        while True:
            connection = self._taken()
            try:
                answer = connection.exchange(operation, fields)
            except CodedError:
                self._given_back(connection)
                raise
            except _NotSent as error:
                connection.socket.close()
                if connection.fresh:
                    raise HsmUnavailable("the broker went away", reason="lost") from error
            except BlockingIOError as error:  # SO_RCVTIMEO, socket(7)
                connection.socket.close()
                raise HsmUnavailable("the broker did not answer in time", reason="timeout") from error
            except (OSError, WireError) as error:
                connection.socket.close()
                lost += 1
                if lost > RULES[operation].repeatable:
                    raise HsmUnavailable(f"the broker went away: {error}", reason="lost") from error
            except BaseException:
                connection.socket.close()  # what comes next on it would be this call's answer
                raise
            else:
                self._given_back(connection)
                return answer

    def close(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().socket.close()

    def _taken(self) -> _Connection:
        for connection in self._popped():
            if connection.process == os.getpid():
                return connection
            connection.socket.close()  # closes this process's copy only
        return _Connection(self._path, self._seconds)

    def _popped(self) -> Iterator[_Connection]:
        while True:
            try:
                yield self._idle.pop()
            except IndexError:
                return

    def _given_back(self, connection: _Connection) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.socket.close()


def _request(operation: Operation, number: int, fields: tuple[bytes, ...]) -> bytes:
    octets = frame(operation, number, fields)
    if len(octets) > HEADER.size + MAX_REQUEST_OCTETS:
        raise HsmMisused(f"a request to the broker has at most {MAX_REQUEST_OCTETS} octets")
    return octets
