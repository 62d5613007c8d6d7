"""Modules that start with parameters only.

PKCS#11 leaves ``pReserved`` of CK_C_INITIALIZE_ARGS to the module (2.40, 5.4), and the binding always passes NULL. The
softoken of NSS reads there where its database is, and does not start without. For such a module the binding's library
object gets another start and end; everything between is the binding's own.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pkcs11

from hsm.errors import HsmUnavailable

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the binding's class, in its own spelling

_C_INITIALIZE, _C_FINALIZE = 0, 1  # their places in CK_FUNCTION_LIST, behind the version
_CKR_OK = 0


class FunctionList(ctypes.Structure):
    """CK_FUNCTION_LIST (PKCS#11 2.40): a version, then pointers in a fixed order."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * 68))


class _InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS; no mutexes and no flags: the caller promises to enter with one thread at a time.

    softoken expects one more pointer at the end, which is NULL.
    """

    _fields_ = (
        ("mutexes", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
        ("end", ctypes.c_void_p),
    )


def function_list(path: str) -> FunctionList:
    """The functions of the module at ``path``, which need not have been started. Raises HsmUnavailable."""
    functions = ctypes.POINTER(FunctionList)()
    try:
        result = ctypes.CDLL(path).C_GetFunctionList(ctypes.byref(functions))
    except (OSError, AttributeError) as error:
        raise HsmUnavailable(f"{path} is no PKCS#11 module") from error
    if result != _CKR_OK:
        raise HsmUnavailable("the module does not list its functions")
    return functions.contents


def started_with(path: str, parameters: str) -> Library:
    """The binding's library object for ``path``, started with ``parameters`` in ``pReserved``. Raises HsmUnavailable.

    ``pkcs11.lib`` and ``pkcs11.unload`` know it afterwards, as if they had started it.
    """
    from pkcs11 import _pkcs11  # a process that asks a broker never loads the binding itself

    functions = function_list(path).functions
    starts = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.POINTER(_InitializeArguments))(functions[_C_INITIALIZE])
    ends = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(functions[_C_FINALIZE])

    class Started(_pkcs11.lib):
        """The binding calls ``initialize`` whenever it believes that nobody did, so it must be harmless twice."""

        started_in = 0

        def initialize(self) -> None:
            if self.started_in == os.getpid():
                return
            result = starts(_InitializeArguments(reserved=parameters.encode()))
            if result != _CKR_OK:
                raise HsmUnavailable(f"the PKCS#11 module {path} does not start (CKR 0x{result:08x})")
            self.started_in = os.getpid()

        def finalize(self) -> None:
            if self.started_in:
                self.started_in = 0
                ends(None)

        def unload(self) -> None:
            self.finalize()
            super().unload()

    library = Started(path)
    pkcs11._loaded[path] = library
    return library
