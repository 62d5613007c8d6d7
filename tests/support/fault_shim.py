"""Driver of ``fault_shim.c``: a PKCS#11 module that fails when a test says so.

The module in front and its orders are two files in one folder, so a path is all that a process needs to be under it, be
it the test's own, a broker's worker or a whole instance.
"""

from __future__ import annotations

import mmap
import re
import shutil
import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from tests.support.tools import require_tool, run

SOURCE = Path(__file__).with_suffix(".c")

# The layout of ``struct control`` in the source.
PATH_OCTETS = 1024
RECORDS = 8192
ORDER = struct.Struct("=QQQQQ")
RECORD = struct.Struct("=Q64s")
ALWAYS = (1 << 64) - 1


class Ckr(IntEnum):
    """CK_RV of PKCS#11 2.40 (base specification, 5.1), without CKR_OK."""

    CANCEL = 0x001
    HOST_MEMORY = 0x002
    SLOT_ID_INVALID = 0x003
    GENERAL_ERROR = 0x005
    FUNCTION_FAILED = 0x006
    ARGUMENTS_BAD = 0x007
    NO_EVENT = 0x008
    NEED_TO_CREATE_THREADS = 0x009
    CANT_LOCK = 0x00A
    ATTRIBUTE_READ_ONLY = 0x010
    ATTRIBUTE_SENSITIVE = 0x011
    ATTRIBUTE_TYPE_INVALID = 0x012
    ATTRIBUTE_VALUE_INVALID = 0x013
    ACTION_PROHIBITED = 0x01B
    DATA_INVALID = 0x020
    DATA_LEN_RANGE = 0x021
    DEVICE_ERROR = 0x030
    DEVICE_MEMORY = 0x031
    DEVICE_REMOVED = 0x032
    ENCRYPTED_DATA_INVALID = 0x040
    ENCRYPTED_DATA_LEN_RANGE = 0x041
    FUNCTION_CANCELED = 0x050
    FUNCTION_NOT_PARALLEL = 0x051
    FUNCTION_NOT_SUPPORTED = 0x054
    KEY_HANDLE_INVALID = 0x060
    KEY_SIZE_RANGE = 0x062
    KEY_TYPE_INCONSISTENT = 0x063
    KEY_NOT_NEEDED = 0x064
    KEY_CHANGED = 0x065
    KEY_NEEDED = 0x066
    KEY_INDIGESTIBLE = 0x067
    KEY_FUNCTION_NOT_PERMITTED = 0x068
    KEY_NOT_WRAPPABLE = 0x069
    KEY_UNEXTRACTABLE = 0x06A
    MECHANISM_INVALID = 0x070
    MECHANISM_PARAM_INVALID = 0x071
    OBJECT_HANDLE_INVALID = 0x082
    OPERATION_ACTIVE = 0x090
    OPERATION_NOT_INITIALIZED = 0x091
    PIN_INCORRECT = 0x0A0
    PIN_INVALID = 0x0A1
    PIN_LEN_RANGE = 0x0A2
    PIN_EXPIRED = 0x0A3
    PIN_LOCKED = 0x0A4
    SESSION_CLOSED = 0x0B0
    SESSION_COUNT = 0x0B1
    SESSION_HANDLE_INVALID = 0x0B3
    SESSION_PARALLEL_NOT_SUPPORTED = 0x0B4
    SESSION_READ_ONLY = 0x0B5
    SESSION_EXISTS = 0x0B6
    SESSION_READ_ONLY_EXISTS = 0x0B7
    SESSION_READ_WRITE_SO_EXISTS = 0x0B8
    SIGNATURE_INVALID = 0x0C0
    SIGNATURE_LEN_RANGE = 0x0C1
    TEMPLATE_INCOMPLETE = 0x0D0
    TEMPLATE_INCONSISTENT = 0x0D1
    TOKEN_NOT_PRESENT = 0x0E0
    TOKEN_NOT_RECOGNIZED = 0x0E1
    TOKEN_WRITE_PROTECTED = 0x0E2
    UNWRAPPING_KEY_HANDLE_INVALID = 0x0F0
    UNWRAPPING_KEY_SIZE_RANGE = 0x0F1
    UNWRAPPING_KEY_TYPE_INCONSISTENT = 0x0F2
    USER_ALREADY_LOGGED_IN = 0x100
    USER_NOT_LOGGED_IN = 0x101
    USER_PIN_NOT_INITIALIZED = 0x102
    USER_TYPE_INVALID = 0x103
    USER_ANOTHER_ALREADY_LOGGED_IN = 0x104
    USER_TOO_MANY_TYPES = 0x105
    WRAPPED_KEY_INVALID = 0x110
    WRAPPED_KEY_LEN_RANGE = 0x112
    WRAPPING_KEY_HANDLE_INVALID = 0x113
    WRAPPING_KEY_SIZE_RANGE = 0x114
    WRAPPING_KEY_TYPE_INCONSISTENT = 0x115
    RANDOM_SEED_NOT_SUPPORTED = 0x120
    RANDOM_NO_RNG = 0x121
    DOMAIN_PARAMS_INVALID = 0x130
    CURVE_NOT_SUPPORTED = 0x140
    BUFFER_TOO_SMALL = 0x150
    SAVED_STATE_INVALID = 0x160
    INFORMATION_SENSITIVE = 0x170
    STATE_UNSAVEABLE = 0x180
    CRYPTOKI_NOT_INITIALIZED = 0x190
    CRYPTOKI_ALREADY_INITIALIZED = 0x191
    MUTEX_BAD = 0x1A0
    MUTEX_NOT_LOCKED = 0x1A1
    NEW_PIN_MODE = 0x1B0
    NEXT_OTP = 0x1B1
    EXCEEDED_MAX_ITERATIONS = 0x1B5
    FIPS_SELF_TEST_FAILED = 0x1B6
    LIBRARY_LOAD_FAILED = 0x1B7
    PIN_TOO_WEAK = 0x1B8
    PUBLIC_KEY_INVALID = 0x1B9
    FUNCTION_REJECTED = 0x200
    VENDOR_DEFINED = 0x80000000


class _Action(IntEnum):
    """``enum action`` in the source."""

    NOTHING = 0
    REFUSE = 1
    REFUSE_AFTER = 2
    HANG = 3
    CRASH = 4
    FLIP = 5


def names_of_functions() -> tuple[str, ...]:
    """The functions of CK_FUNCTION_LIST in its order, as the source forwards them."""
    table = SOURCE.read_text().partition("#define FUNCTIONS(F, O)")[2].partition("#define INDEX")[0]
    return tuple(re.findall(r"\b[FO]\((C_\w+),", table))


FUNCTIONS = names_of_functions()
_SIGNED_COUNT = PATH_OCTETS + len(FUNCTIONS) * ORDER.size
_RECORDS = _SIGNED_COUNT + 8
_SIZE = _RECORDS + RECORDS * RECORD.size


def build(folder: Path) -> Path:
    """The shim, compiled once into ``folder``; skips the test where there is no compiler."""
    library = folder / "fault_shim.so"
    if not library.exists():
        compiler = require_tool("gcc", "gcc libc6-dev")
        command = (compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared")
        done = run(*command, "-fvisibility=hidden", "-o", library, SOURCE, "-ldl")
        assert done.status == 0, done.output
    return library


class FaultShim:
    """One copy of the shim (``path`` is its module) in front of ``module``, and its orders.

    An order names a function and holds from the call after the next ``skip`` calls on, for ``times`` calls (all further
    ones by default), in whatever process they are made. There is one order for each function; a new one replaces it.
    Calls that only ask for the length of an output are neither counted nor hit.
    """

    def __init__(self, library: Path, folder: Path, module: str) -> None:
        self.path = folder / "shim.so"
        shutil.copy(library, self.path)
        # A copy of the module has a state of its own, also in a process that uses the module without the shim.
        behind = shutil.copy(module, folder / "behind.so")
        control = folder / "shim.so.control"
        control.write_bytes(str(behind).encode().ljust(PATH_OCTETS, b"\0") + bytes(_SIZE - PATH_OCTETS))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _SIZE)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: PATH_OCTETS + index * ORDER.size for index, name in enumerate(FUNCTIONS)}

    def refuse(self, function: str, code: int, *, skip: int = 0, times: int = ALWAYS) -> None:
        """Return ``code`` instead of calling the module."""
        self._order(function, _Action.REFUSE, code, skip, times)

    def refuse_after(self, function: str, code: int, *, skip: int = 0, times: int = ALWAYS) -> None:
        """Call the module and, when it succeeded, return ``code`` all the same: done, but told otherwise."""
        self._order(function, _Action.REFUSE_AFTER, code, skip, times)

    def hang(self, function: str, seconds: float, *, skip: int = 0, times: int = ALWAYS) -> None:
        """Wait before calling the module; ``clear`` ends the wait."""
        self._order(function, _Action.HANG, int(seconds * 1000), skip, times)

    def crash(self, function: str, *, skip: int = 0, times: int = ALWAYS) -> None:
        """Die with SIGSEGV instead of calling the module."""
        self._order(function, _Action.CRASH, 0, skip, times)

    def flip(self, function: str, *, skip: int = 0, times: int = ALWAYS) -> None:
        """Flip one bit in the middle of what the module returned."""
        self._order(function, _Action.FLIP, 0, skip, times)

    def take_away(self, code: int, *, but: Iterable[str] = ("C_Initialize", "C_Finalize", "C_GetInfo")) -> None:
        """Every function but these returns ``code``: the token was pulled out."""
        for function in set(FUNCTIONS) - {*but, "C_GetFunctionList"}:
            self.refuse(function, code)

    def clear(self, *functions: str) -> None:
        """Withdraw the orders for these functions, or all."""
        for function in functions or FUNCTIONS:
            self._order(function, _Action.NOTHING, 0, 0, 0)

    def calls(self, function: str) -> int:
        """How often ``function`` was called so far, refused calls included."""
        return int(ORDER.unpack_from(self._control, self._places[function])[0])

    def is_spent(self, function: str) -> bool:
        """True when the order for ``function`` has hit as often as it should."""
        return bool(ORDER.unpack_from(self._control, self._places[function])[2] == 0)

    def signed(self) -> list[bytes]:
        """What the module signed in one piece, in order: each input cut to 64 octets, whatever became of the result."""
        (count,) = struct.unpack_from("=Q", self._control, _SIGNED_COUNT)
        assert count <= RECORDS, "more signatures than the shim remembers"
        records = (RECORD.unpack_from(self._control, _RECORDS + index * RECORD.size) for index in range(count))
        return [data[:length] for length, data in records]

    def forget(self) -> None:
        """Start the record of ``signed`` anew."""
        struct.pack_into("=Q", self._control, _SIGNED_COUNT, 0)

    def _order(self, function: str, action: _Action, argument: int, skip: int, times: int) -> None:
        place = self._places[function]
        # The action goes last: a process in the middle of a call must not see it with the numbers of the order before.
        struct.pack_into("=Q", self._control, place + 24, _Action.NOTHING)
        struct.pack_into("=QQ", self._control, place + 8, skip, times)
        struct.pack_into("=Q", self._control, place + 32, argument)
        struct.pack_into("=Q", self._control, place + 24, action)
