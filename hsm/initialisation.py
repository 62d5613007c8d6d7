"""Making a new token: directories, SoftHSM's configuration, the PIN file, and the token itself.

The binding has no ``C_InitToken``, and SoftHSM's own command takes PINs as arguments that every user of the machine can
read in the process list. So the one missing function is called directly.

The security officer's PIN is drawn at random and not kept. The officer of an embedded token could do two things only:
set a new user PIN and so reach every key, or wipe the token. Nobody needs either; whoever loses the PIN file makes a
new token and new keys. A production HSM is initialised by its own ceremony, with officers, and never by this file.
"""

from __future__ import annotations

import ctypes
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11
from pkcs11 import TokenFlag

from core.logs import get_logger
from hsm.errors import HsmMisused, HsmUnavailable, PinIncorrect, TokenExists, translated
from hsm.module import Module, module_at, start_lock
from hsm.pin import check_pin, read_pin, write_pin
from hsm.settings import HsmSettings
from hsm.start import function_list

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the binding's class, in its own spelling

LABEL_OCTETS = 32  # PKCS#11 C_InitToken: padded with blanks, not terminated
SO_PIN_OCTETS = 16
_C_INIT_TOKEN = 9  # its place in CK_FUNCTION_LIST, behind the version

log = get_logger("hsm.initialisation")


def initialise_token(settings: HsmSettings, pin: str) -> None:
    """Make the token ``settings`` describes, with ``pin`` as its user PIN, kept in the PIN file (0600).

    A PIN file that is already there must hold the same PIN. Raises TokenExists, PinFileUnsafe, PinIncorrect,
    HsmMisused for a label that does not fit, or HsmUnavailable.
    """
    _check_label(settings.token_label)
    _keep_pin(settings.pin_file, check_pin(pin))
    if settings.softhsm_conf is not None:
        _write_softhsm_conf(settings.softhsm_conf)
    module = module_at(settings.module)
    with module.entered(settings.wait_seconds), start_lock(settings.start_lock):
        module.unload()  # other processes may have made tokens since it was loaded
        try:
            _make_token(module.load(settings.softhsm_conf, settings.module_parameters), settings, pin)
        except pkcs11.PKCS11Error as error:
            raise translated(error) from error
        finally:
            module.unload()  # a token gets its final slot when the module starts again
    log.info("hsm_initialised", label=settings.token_label)


def has_token(settings: HsmSettings) -> bool:
    """True when the token is there and has a user PIN. Needs no PIN."""
    if settings.softhsm_conf is not None and not settings.softhsm_conf.exists():
        return False
    module = module_at(settings.module)
    with module.entered(settings.wait_seconds), start_lock(settings.start_lock):
        try:
            if not _finished(module, settings):
                module.unload()  # another process may have made the token since
            return bool(_finished(module, settings))
        except pkcs11.PKCS11Error as error:
            raise translated(error) from error


def finished_tokens(library: Library, label: str) -> list[pkcs11.Token]:
    """Tokens of this label that have a user PIN; one that a crash left without holds no keys and is passed over."""
    return list(library.get_tokens(token_label=label, token_flags=TokenFlag.USER_PIN_INITIALIZED))


def _finished(module: Module, settings: HsmSettings) -> list[pkcs11.Token]:
    return finished_tokens(module.load(settings.softhsm_conf, settings.module_parameters), settings.token_label)


def _make_token(library: Library, settings: HsmSettings, pin: str) -> None:
    if finished_tokens(library, settings.token_label):
        raise TokenExists(f"there is a token {settings.token_label!r} already")
    so_pin = secrets.token_hex(SO_PIN_OCTETS)
    slot = _free_slot(library)
    _init_token(settings.module, slot.slot_id, so_pin, settings.token_label)
    session = slot.get_token().open(rw=True, so_pin=so_pin)
    session.init_pin(pin)
    session.close()


def _free_slot(library: Library) -> pkcs11.Slot:
    for slot in library.get_slots(token_present=True):
        if not slot.get_token().flags & TokenFlag.TOKEN_INITIALIZED:
            return slot
    raise HsmUnavailable("the module offers no slot for a new token")


def _init_token(module: str, slot_id: int, so_pin: str, label: str) -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    init_token = prototype(function_list(module).functions[_C_INIT_TOKEN])
    result = init_token(slot_id, so_pin.encode(), len(so_pin), label.encode().ljust(LABEL_OCTETS))
    if result != 0:
        raise HsmUnavailable(f"the token was not made (CKR 0x{result:08x})")


def _check_label(label: str) -> None:
    if not 1 <= len(label.encode()) <= LABEL_OCTETS or label != label.strip():
        raise HsmMisused(f"a token's label has 1 to {LABEL_OCTETS} octets")


def _keep_pin(path: Path, pin: str) -> None:
    """The PIN is on disk before the token knows it: a crash in between costs nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        write_pin(path, pin)
    elif not hmac.compare_digest(read_pin(path).encode(), pin.encode()):
        raise PinIncorrect(f"the PIN file {path} holds another PIN")


def _write_softhsm_conf(conf: Path) -> None:
    """SoftHSM's configuration with a token directory beside it; one that is there already is left alone."""
    conf.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if conf.exists():
        return
    tokens = conf.parent.resolve() / "tokens"
    tokens.mkdir(mode=0o700, exist_ok=True)
    lines = (
        f"directories.tokendir = {tokens}",
        "objectstore.backend = file",
        "objectstore.umask = 0077",
        "log.level = ERROR",
        "slots.removable = false",
        "slots.mechanisms = ALL",
        "library.reset_on_fork = false",
    )
    descriptor = os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("\n".join(lines) + "\n")
