"""Who may use which key: the kernel says which user is at the other end of a socket, the settings say what it may."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NewType, get_args

from hsm.broker.wire import RULES, Operation
from hsm.errors import BrokerMisconfigured, KeyNotAllowed
from hsm.settings import HsmClient, KeyRight

UserId = NewType("UserId", int)

MAX_REMEMBERED = 4096
_PEER_CREDENTIALS = struct.Struct("=iII")  # struct ucred of unix(7): process, user, group


@dataclass(frozen=True)
class _Grant:
    room: str
    keys: tuple[str, ...]
    rights: frozenset[KeyRight]

    def covers(self, label: str) -> bool:
        return any(fnmatchcase(label, pattern) for pattern in self.keys)


class Admission:
    """The list of clients. The broker's own user, who could read the PIN file anyway, may everything unless named."""

    def __init__(self, clients: Sequence[HsmClient], *, own_user: int) -> None:
        self._grants: dict[int, tuple[_Grant, ...]] = {}
        for client in clients:
            user = user_id(client.user)
            grant = _Grant(client.room, client.keys, frozenset(client.operations))
            self._grants[user] = (*self._grants.get(user, ()), grant)
        everything = _Grant("broker", ("*",), frozenset(get_args(KeyRight)))
        self._grants.setdefault(own_user, (everything,))
        self._allowed: set[tuple[int, Operation, tuple[str, ...]]] = set()

    def room(self, user: int) -> str:
        """What logs and counters call this user's requests. Raises KeyNotAllowed for a user who is not listed."""
        if user not in self._grants:
            raise KeyNotAllowed(f"the user {user} is no client of this broker", user=user)
        return self._grants[user][0].room

    def check(self, user: int, operation: Operation, labels: tuple[str, ...]) -> None:
        """Raises KeyNotAllowed unless one entry of this user has both the right and all of these keys."""
        asked = (user, operation, labels)
        if asked in self._allowed:
            return
        if not self._grants_allow(*asked):
            what = f"{operation.name.lower().replace('_', ' ')} {' and '.join(map(repr, labels))}".strip()
            raise KeyNotAllowed(f"the user {user} may not {what}", user=user)
        if len(self._allowed) < MAX_REMEMBERED:
            self._allowed.add(asked)

    def _grants_allow(self, user: int, operation: Operation, labels: tuple[str, ...]) -> bool:
        right = RULES[operation].right
        return any(
            (right is None or right in grant.rights) and all(grant.covers(label) for label in labels)
            for grant in self._grants.get(user, ())
        )

    def listed(self, user: int, labels: Sequence[str]) -> frozenset[str]:
        """Those of ``labels`` that this user may see in a listing."""
        grants = [grant for grant in self._grants.get(user, ()) if "list" in grant.rights]
        return frozenset(label for label in labels if any(grant.covers(label) for grant in grants))


def peer_user(connection: socket.socket) -> UserId:
    """The user of the process that connected, as the kernel saw it then (SO_PEERCRED)."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return UserId(_PEER_CREDENTIALS.unpack(told)[1])


def user_id(name: str) -> int:
    """The number of a user. Raises BrokerMisconfigured when there is none of that name."""
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise BrokerMisconfigured(f"there is no user {name!r} on this machine") from None


def group_id(name: str) -> int:
    """The number of a group; this process's own for an empty name. Raises BrokerMisconfigured."""
    if not name:
        return os.getegid()
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise BrokerMisconfigured(f"there is no group {name!r} on this machine") from None
