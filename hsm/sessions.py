"""Calls into one token: logged in once a process, one at a time, healed once when the token forgot us."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import pkcs11
from pkcs11 import TokenFlag

from core.logs import get_logger
from hsm.errors import WRONG_PIN, HsmMisused, HsmUnavailable, PinIncorrect, is_state_lost, translated
from hsm.module import Anchor, Module, module_at, start_lock
from hsm.pin import read_pin
from hsm.settings import HsmSettings
from hsm.softhsm import guard_tokens
from hsm.templates import TamgaAttributes

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the binding's class, in its own spelling

T = TypeVar("T")
K = TypeVar("K", bound=pkcs11.Object)

PROBE_AFTER_SECONDS = 1.0
CAPACITY_PAUSE_SECONDS = 0.02
FOREVER = -1
_PIN_DIGEST_KEY = os.urandom(32)

log = get_logger("hsm.sessions")


class Sessions:
    """How this process uses one token."""

    def __init__(self, settings: HsmSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._module = module_at(settings.module)
        self._opened: Anchor | None = None
        self._wrong_pin: PinIncorrect | None = None
        self._probe_at = monotonic()

    @property
    def module(self) -> Module:
        """The library this token is reached through."""
        return self._module

    def run(self, operation: Callable[[Anchor], T], *, patient: bool = False) -> T:
        """The result of ``operation`` inside the token, alone in the library.

        A lost session or handle is reopened and the operation run once more, so it must find its handles through the
        anchor it is given; it must not call ``run`` itself. Raises HsmUnavailable, HsmBusy (never when ``patient``),
        PinIncorrect (each later call too) or HsmMisused; errors of this room that ``operation`` raises pass through.
        """
        wait = FOREVER if patient else self._settings.wait_seconds
        give_up = time.monotonic() + self._settings.wait_seconds
        while True:
            try:
                return self._entered(operation, wait, give_up)
            except pkcs11.SessionCount:
                # The token refused before it did anything: once somebody else is done, there may be room.
                time.sleep(CAPACITY_PAUSE_SECONDS)

    def _entered(self, operation: Callable[[Anchor], T], wait: float, give_up: float) -> T:
        """``run`` without patience for a token that is full: the binding's error passes until ``give_up``."""
        with self._module.entered(wait):
            self._refuse_early()
            try:
                return operation(self._anchor())
            except pkcs11.PKCS11Error as error:
                if isinstance(error, pkcs11.SessionCount) and time.monotonic() < give_up:
                    raise
                if not is_state_lost(error):
                    raise self._failed(error) from error
                log.warning("hsm_state_lost", reason=type(error).__name__)
            return self._once_more(operation)

    def alone(self, operation: Callable[[Anchor], T]) -> T:
        """Like ``run``, and no other process starts or writes keys meanwhile."""

        def locked(anchor: Anchor) -> T:
            with start_lock(self._settings.start_lock):
                return operation(anchor)

        return self.run(locked)

    def close(self) -> None:
        """Log out. The next call logs in again."""
        with self._module.entered(self._settings.wait_seconds):
            if self._module.is_loaded_for(self._settings.softhsm_conf, self._settings.module_parameters):
                self._module.unload()

    def _once_more(self, operation: Callable[[Anchor], T]) -> T:
        self._module.unload()
        try:
            return operation(self._anchor())
        except pkcs11.PKCS11Error as error:
            raise self._failed(error) from error

    def _refuse_early(self) -> None:
        if self._wrong_pin is not None:
            raise PinIncorrect(self._wrong_pin.detail)
        if self._monotonic() < self._probe_at:
            raise HsmUnavailable("the token did not answer a moment ago")

    def _failed(self, error: pkcs11.PKCS11Error) -> Exception:
        failure = translated(error)
        if isinstance(failure, HsmUnavailable):
            log.error("hsm_unavailable", reason=type(error).__name__)
            self._probe_at = self._monotonic() + PROBE_AFTER_SECONDS
            self._module.unload()  # the next probe starts afresh
        return failure

    def _anchor(self) -> Anchor:
        """This token's logged-in session, opened now when this process has none."""
        label, conf = self._settings.token_label, self._settings.softhsm_conf
        if self._module.is_loaded_for(conf, self._settings.module_parameters) and label in self._module.anchors:
            return self._known(self._module.anchors[label])
        pin = read_pin(self._settings.pin_file)
        with start_lock(self._settings.start_lock):
            session = self._logged_in(pin)
        anchor = Anchor(session, self._module.generation, self._module.path, _digest(pin))
        self._module.anchors[label] = anchor
        self._opened = anchor
        return anchor

    def _logged_in(self, pin: str) -> pkcs11.Session:
        if self._settings.softhsm_conf is not None:
            guard_tokens(self._settings.softhsm_conf)
        library = self._module.load(self._settings.softhsm_conf, self._settings.module_parameters)
        token = _token(library, self._settings.token_label)
        try:
            return token.open(rw=True, user_pin=pin, attribute_mapper=TamgaAttributes())
        except WRONG_PIN as error:
            log.error("hsm_pin_refused", reason=type(error).__name__)
            self._wrong_pin = PinIncorrect(translated(error).args[0])
            raise

    def _known(self, anchor: Anchor) -> Anchor:
        """``anchor``, when we opened it or know the PIN it was opened with: a login is not lent out in one process."""
        if self._opened is not anchor:
            if not hmac.compare_digest(anchor.pin_digest, _digest(read_pin(self._settings.pin_file))):
                self._wrong_pin = PinIncorrect("the PIN file does not hold the PIN this token was opened with")
                raise self._wrong_pin
            self._opened = anchor
        return anchor


class Held(Generic[K]):
    """An object in the token, found again when the session its handle belongs to has gone."""

    def __init__(self, sessions: Sessions, find: Callable[[Anchor], K]) -> None:
        self._sessions = sessions
        self._find = find
        self._found: tuple[int, K] | None = None
        self._released = False

    def use(self, operation: Callable[[K], T]) -> T:
        """The result of ``operation`` on the object; errors as ``Sessions.run``."""
        return self._sessions.run(lambda anchor: operation(self.within(anchor)))

    def within(self, anchor: Anchor) -> K:
        """The object, inside a running operation. Raises HsmMisused once it was released."""
        if self._released:
            raise HsmMisused("this key was closed")
        if self._found is None or self._found[0] != anchor.generation:
            self._found = (anchor.generation, self._find(anchor))
        return self._found[1]

    def release(self) -> None:
        """Destroy a session object for good; one that went with its session is gone already."""
        self._released = True
        if self._found is not None and self._found[0] == self._sessions.module.generation:
            self._sessions.run(self._destroy, patient=True)

    def _destroy(self, anchor: Anchor) -> None:
        if self._found is not None and self._found[0] == anchor.generation:
            self._found[1].destroy()
        self._found = None


def _token(library: Library, label: str) -> pkcs11.Token:
    """The token of this label. A token without a user PIN was never finished and is passed over."""
    found = list(library.get_tokens(token_label=label, token_flags=TokenFlag.USER_PIN_INITIALIZED))
    if len(found) > 1:
        raise HsmMisused(f"the module holds {len(found)} tokens {label!r}")
    if not found:
        raise pkcs11.NoSuchToken(f"the module holds no token {label!r}")
    return found[0]


def _digest(pin: str) -> bytes:
    """Tells two PINs apart without keeping either; the key dies with the process."""
    return hmac.digest(_PIN_DIGEST_KEY, pin.encode(), hashlib.sha256)
