"""The broker's place on this machine: its socket, who can reach it, and that there is one broker for a token only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from hsm.broker.admission import group_id
from hsm.errors import BrokerMisconfigured, BrokerRunning
from hsm.settings import HsmSettings

BACKLOG = 128
OWNER_ONLY, OWNER_AND_GROUP = 0o600, 0o660
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def only_broker(settings: HsmSettings) -> Iterator[None]:
    """The one broker of this token, until the block ends. Raises BrokerRunning."""
    path = settings.start_lock.with_name(settings.start_lock.name + ".broker")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BrokerMisconfigured(f"the lock file {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BrokerRunning(f"another broker has the token {settings.token_label!r}") from None
    finally:
        os.close(descriptor)


def listening_socket(path: Path, group: str) -> socket.socket:
    """A socket at ``path`` that its owner can connect to, and members of ``group`` when one is named.

    Raises BrokerMisconfigured when others could put a socket of their own in its place, or BrokerRunning.
    """
    _check_folder(path.parent)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody else can connect before owner and mode are what they must be.
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
        if group:
            os.chown(path, -1, group_id(group))
        path.chmod(OWNER_AND_GROUP if group else OWNER_ONLY)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BrokerMisconfigured(f"the socket {path} cannot be made: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


def _check_folder(folder: Path) -> None:
    try:
        found = folder.stat()
    except OSError as error:
        raise BrokerMisconfigured(f"the socket's folder {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        raise BrokerMisconfigured(f"the socket's folder {folder} must belong to the broker's user or to root")
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise BrokerMisconfigured(f"the socket's folder {folder} must not be writable by others")


def _clear(path: Path) -> None:
    """Remove what an earlier broker left. Raises BrokerRunning when somebody answers there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise BrokerMisconfigured(f"{path} is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(os.fspath(path)) == 0:
            raise BrokerRunning(f"somebody answers at {path}")
    path.unlink()
