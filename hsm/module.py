"""The PKCS#11 library of this process: loaded once, entered by one thread at a time.

The binding starts a module with ``C_Initialize(NULL)``, which promises that no two threads will ever be inside it
together, and then releases the interpreter lock around each call. SoftHSM takes the promise at its word and switches
its mutexes off. So this file keeps the promise: one lock for the whole library, whatever token or session is meant.

A library is also state of the process, not of an object: its configuration is read when it starts, and a child made by
``fork`` must start it for itself. Each start is a new *generation*; sessions and handles of an older one are dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11

from hsm.errors import HsmBusy, HsmUnavailable
from hsm.start import started_with

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the binding's class, in its own spelling

SOFTHSM_CONF_VARIABLE = "SOFTHSM2_CONF"


@dataclass(frozen=True)
class Anchor:
    """The one session that logged in to a token, and the generation of the library it belongs to.

    Closing it would log the whole process out, so it lives as long as the library stays loaded.
    """

    session: pkcs11.Session
    generation: int
    library_path: str
    pin_digest: bytes = field(repr=False)


class Module:
    """One PKCS#11 library in this process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.anchors: dict[str, Anchor] = {}
        self.generation = 0
        self._library: Library | None = None
        self._loaded_for: tuple[int, str | None, str | None] | None = None
        self._lock = threading.RLock()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._renew)

    @contextlib.contextmanager
    def entered(self, wait_seconds: float) -> Iterator[None]:
        """Alone in the library until the block ends; raises HsmBusy when that takes longer than ``wait_seconds``."""
        lock = self._lock
        if not lock.acquire(timeout=wait_seconds):
            raise HsmBusy(f"waited {wait_seconds:g} s for the token")
        try:
            yield
        finally:
            lock.release()

    def is_loaded_for(self, conf: Path | None, parameters: str | None = None) -> bool:
        """True when this very process loaded the library with this configuration and these parameters."""
        return self._library is not None and self._loaded_for == (os.getpid(), _name(conf), parameters)

    def load(self, conf: Path | None, parameters: str | None = None) -> Library:
        """The library, started for ``conf`` in this process. Call it inside ``entered`` and ``start_lock``."""
        if self._library is None or not self.is_loaded_for(conf, parameters):
            self.unload()
            if conf is not None:
                os.environ[SOFTHSM_CONF_VARIABLE] = str(conf.absolute())
            self._library = _loaded(self.path, parameters)
            self._loaded_for = (os.getpid(), _name(conf), parameters)
        return self._library

    def unload(self) -> None:
        """Finalise and forget the library; every session and handle of this generation is dead afterwards.

        Unloading and loading also heals what a child inherits from its parent, where finalising alone does not.
        """
        self.generation += 1
        self.anchors.clear()
        self._library = None
        pkcs11.unload(self.path)

    # A fork copies the library's memory: it must not happen while another thread is inside.
    def _hold(self) -> None:
        self._lock.acquire()

    def _release(self) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


_modules: dict[str, Module] = {}
_modules_guard = threading.Lock()


def module_at(path: str) -> Module:
    """This process's only ``Module`` for the library at ``path``: the library's state is the process's, so is ours."""
    with _modules_guard:
        if path not in _modules:
            _modules[path] = Module(path)
        return _modules[path]


@contextlib.contextmanager
def start_lock(path: Path) -> Iterator[None]:
    """Alone among processes. Some modules misread their token while another process starts or writes a key."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HsmUnavailable(f"the lock file {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _loaded(path: str, parameters: str | None) -> Library:
    try:
        return pkcs11.lib(path) if parameters is None else started_with(path, parameters)
    except pkcs11.PKCS11Error as error:
        pkcs11.unload(path)
        raise HsmUnavailable(f"the PKCS#11 module {path} does not load ({type(error).__name__})") from error


def _name(conf: Path | None) -> str | None:
    return str(conf.absolute()) if conf is not None else os.environ.get(SOFTHSM_CONF_VARIABLE)
