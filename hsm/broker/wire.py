"""What goes over the broker's socket: frames of typed, length-prefixed fields. Nothing in them is ever evaluated.

    frame    length of the body (4 octets), version (1), kind (1), condition (2), number (4), body
    body     fields, each with its length (4 octets) in front

``kind`` is an operation in a request and an outcome in a reply; a reply has its request's number. ``condition`` is what
a worker's reply says about the token, and zero otherwise. A connection carries one request at a time.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, cast

from core.errors import CodedError
from hsm import errors
from hsm.errors import HsmMisused, HsmUnavailable
from hsm.keys import Scheme, SignTask
from hsm.objects import KeyAttributes, KeyInformation
from hsm.settings import KeyRight
from hsm.templates import KeyAlgorithm, KeyPurpose
from hsm.wrapping import WrappedKey

VERSION = 1
HEADER = struct.Struct("!IBBHI")
_LENGTH = struct.Struct("!I")

MAX_REQUEST_OCTETS = 64 * 1024
MAX_REPLY_OCTETS = 16 * 1024 * 1024  # a listing of some ten thousand keys
MAX_FIELDS = 16
RECEIVE_OCTETS = 64 * 1024


class Operation(IntEnum):
    """What a request asks for."""

    PUBLIC_KEY = 1
    HAS = 2
    KEYS = 3
    CHECK = 4
    STATUS = 5
    SIGN = 6
    MAC = 7
    SEAL = 8
    UNSEAL = 9
    GENERATE = 10
    GENERATE_SECRET = 11
    DESTROY = 12
    GENERATE_WRAPPED = 13
    CHECK_WRAPPED = 14
    SIGN_WRAPPED = 15
    REWRAP = 16
    REBIND = 17
    METRICS = 18
    """Answered by the broker itself."""
    QUARANTINE = 19
    """A client saw a signature that does not verify; answered by the broker itself."""
    OPEN = 64
    """From the broker to its workers only: start the module and log in."""


OPERATION_NAMES = {operation: operation.name.lower() for operation in Operation}


class Outcome(IntEnum):
    """How a request ended."""

    DONE = 0
    FAILED = 1


@dataclass(frozen=True)
class Rule:
    """What the broker must know of an operation without reading it whole."""

    right: KeyRight | None = None
    """None: any client may, as far as the labels are its own."""
    labels: int = 0
    """How many of the first fields are labels of keys."""
    repeatable: bool = False
    """Asking twice changes nothing and signs nothing: a client may repeat it after a lost connection."""
    long: bool = False
    """May take longer than the deadline: keys are made, or all keys are looked at."""


RULES: dict[Operation, Rule] = {
    Operation.PUBLIC_KEY: Rule(labels=1, repeatable=True),
    Operation.HAS: Rule(labels=1, repeatable=True),
    Operation.KEYS: Rule("list", repeatable=True, long=True),
    Operation.CHECK: Rule(repeatable=True, long=True),
    Operation.STATUS: Rule(repeatable=True, long=True),
    Operation.SIGN: Rule("sign", labels=1),
    Operation.MAC: Rule("mac", labels=1, repeatable=True),
    Operation.SEAL: Rule("seal", labels=1),
    Operation.UNSEAL: Rule("seal", labels=1, repeatable=True),
    Operation.GENERATE: Rule("make", labels=1, long=True),
    Operation.GENERATE_SECRET: Rule("make", labels=1, long=True),
    Operation.DESTROY: Rule("destroy", labels=1, long=True),
    Operation.GENERATE_WRAPPED: Rule("wrap", labels=1, long=True),
    Operation.CHECK_WRAPPED: Rule("wrap", labels=1, repeatable=True),
    Operation.SIGN_WRAPPED: Rule("wrap", labels=1),
    Operation.REWRAP: Rule("wrap", labels=2),
    Operation.REBIND: Rule("wrap", labels=1),
    Operation.METRICS: Rule(repeatable=True),
    Operation.QUARANTINE: Rule("sign", labels=1, repeatable=True),
}


class WireError(Exception):
    """The other side does not speak this protocol; the connection is of no more use."""


@dataclass(frozen=True)
class Frame:
    """One request or reply."""

    kind: int
    number: int
    condition: int
    fields: tuple[bytes, ...]


def frame(kind: int, number: int, fields: Sequence[bytes] = (), condition: int = 0) -> bytes:
    """The octets of a frame."""
    body = b"".join([part for field in fields for part in (_LENGTH.pack(len(field)), field)])
    return HEADER.pack(len(body), VERSION, kind, condition, number) + body


def body_length(header: bytes | bytearray, limit: int) -> int:
    """How many octets follow this header. Raises WireError for another version or a body above ``limit``."""
    length, version, _, _, _ = cast(tuple[int, ...], HEADER.unpack_from(header))
    if version != VERSION:
        raise WireError(f"version {version} is not spoken here")
    if length > limit:
        raise WireError(f"a body of {length} octets")
    return length


def parsed(octets: bytes | bytearray) -> Frame:
    """The frame these octets are. Raises WireError."""
    _, _, kind, condition, number = HEADER.unpack_from(octets)
    return Frame(kind, number, condition, fields_of(octets, HEADER.size))


def fields_of(octets: bytes | bytearray, offset: int = 0, most: int = MAX_FIELDS) -> tuple[bytes, ...]:
    """The first ``most`` fields from ``offset`` on. Raises WireError when they do not add up."""
    found: list[bytes] = []
    while offset < len(octets) and len(found) < most:
        begin = offset + _LENGTH.size
        if begin > len(octets):
            raise WireError("a field without a length")
        end = begin + _LENGTH.unpack_from(octets, offset)[0]
        if end > len(octets):
            raise WireError("a field longer than its frame")
        found.append(bytes(octets[begin:end]))
        offset = end
    if most == MAX_FIELDS and offset < len(octets):
        raise WireError("too many fields")
    return tuple(found)


def receive(connection: socket.socket, limit: int) -> bytes | None:
    """The next whole frame from a blocking socket, None when the other side has closed. Raises WireError, OSError."""
    received = connection.recv(RECEIVE_OCTETS)
    if not received:
        return None
    while len(received) < HEADER.size:
        received += _more(connection)
    wanted = HEADER.size + body_length(received, limit)
    if len(received) < wanted:
        pieces, have = [received], len(received)
        while have < wanted:
            pieces.append(_more(connection))
            have += len(pieces[-1])
        received = b"".join(pieces)
    if len(received) > wanted:
        raise WireError("more than one frame")
    return received


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVE_OCTETS)
    if not received:
        raise WireError("the connection ended inside a frame")
    return received


# Errors --------------------------------------------------------------------------------------------------------------

_ERRORS: dict[str, type[CodedError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, CodedError) and kind.__module__ == errors.__name__
}


def error_fields(error: CodedError) -> tuple[bytes, ...]:
    """An error of this room as fields; facts that are not plain stay behind."""
    facts = {name: fact for name, fact in error.facts.items() if isinstance(fact, str | int | float | bool)}
    return (error.code.encode(), error.detail.encode(), json.dumps(facts).encode())


def error_of(fields: Sequence[bytes]) -> CodedError:
    """The error that these fields tell of; one that is not known here counts as an outage."""
    if len(fields) != 3:
        return HsmUnavailable("the broker's answer cannot be read")
    code, detail, facts = fields[0].decode(), fields[1].decode(), json.loads(fields[2])
    return _ERRORS.get(code, HsmUnavailable)(detail, **facts)


# Values --------------------------------------------------------------------------------------------------------------


_SCHEMES = {scheme.encode(): scheme for scheme in Scheme}


def task_fields(task: SignTask) -> tuple[bytes, ...]:
    """A task for a private key as fields."""
    return (task.scheme.encode(), task.hash_name.encode(), str(task.salt_octets).encode(), task.digest)


def task_of(fields: Sequence[bytes]) -> SignTask:
    """The task in exactly four fields. Raises HsmMisused."""
    try:
        scheme, hash_name, salt, digest = fields
        return SignTask(_SCHEMES[scheme], hash_name.decode("ascii"), digest, int(salt))
    except (KeyError, ValueError) as error:
        raise HsmMisused("this is no task for a key") from error


def wrapped_fields(wrapped: WrappedKey) -> tuple[bytes, ...]:
    """A wrapped key as fields; the wrapping key's label comes first."""
    label, algorithm = wrapped.wrapping_key.encode(), wrapped.algorithm.encode()
    return (label, algorithm, wrapped.public_key, wrapped.blob, wrapped.mac)


WRAPPED_FIELDS = 5
WRAPPED_PUBLIC_KEY = 2  # which of them


def wrapped_of(fields: Sequence[bytes]) -> WrappedKey:
    """The wrapped key in exactly five fields. Raises HsmMisused."""
    try:
        label, algorithm, public_key, blob, mac = fields
        return WrappedKey(blob, mac, public_key, label.decode(), algorithm.decode())
    except ValueError as error:
        raise HsmMisused("this is no wrapped key") from error


def listing_field(keys: Sequence[KeyInformation]) -> bytes:
    """Keys as a field."""
    return json.dumps([asdict(key) for key in keys]).encode()


def listing_of(field: bytes) -> tuple[KeyInformation, ...]:
    """The keys in a field."""
    return tuple(_information(row) for row in json.loads(field))


def _information(row: dict[str, Any]) -> KeyInformation:
    return KeyInformation(
        label=row["label"],
        purpose=KeyPurpose(row["purpose"]) if row["purpose"] else None,
        algorithm=KeyAlgorithm(row["algorithm"]) if row["algorithm"] else None,
        key_id=row["key_id"],
        attributes=KeyAttributes(**row["attributes"]),
    )
