"""What can go wrong with a token, as the callers above may know it.

Every PKCS#11 error ends in one of these; ``translated`` is the only place that decides which.
"""

from __future__ import annotations

from enum import IntEnum

import pkcs11

from core.errors import CodedError, Conflict, NotFound, Unavailable, UsageError


class HsmUnavailable(Unavailable):
    """The token or its module does not answer; nothing was signed."""

    code = "hsm_unavailable"
    title = "Key custody is unavailable"


class HsmBusy(Unavailable):
    """Too many calls are waiting for the token."""

    code = "hsm_busy"
    title = "Key custody is busy"


class PinIncorrect(UsageError):
    """The token refused the PIN. No further attempt is made until an operator restarts the process."""

    code = "hsm_pin_incorrect"
    status = 503
    title = "Key custody is locked"


class PinFileUnsafe(UsageError):
    """The PIN file is missing, empty, or readable by others."""

    code = "hsm_pin_file_unsafe"
    status = 503
    title = "Key custody is misconfigured"


class KeyNotAllowed(CodedError):
    """The broker does not let this user do this with that key."""

    code = "key_not_allowed"
    status = 403
    exit_code = 3
    title = "This key is not for this program"


class BrokerRunning(Conflict):
    """Another broker has this token: a token has one owner."""

    code = "broker_running"


class BrokerMisconfigured(UsageError):
    """The broker's socket, its folder or its list of clients is not as it must be."""

    code = "broker_misconfigured"
    status = 503
    title = "Key custody is misconfigured"


class HsmMisused(CodedError):
    """The token refused the request as such: our bug or our configuration, never worth a retry."""

    code = "hsm_request_refused"
    title = "Key custody refused the request"


class KeyNotFound(NotFound):
    """No key of that label was ever seen in this token."""

    code = "key_not_found"
    status = 500
    title = "A key is missing"


class KeyExists(Conflict):
    """The label is taken; keys are never overwritten."""

    code = "key_exists"


class TokenExists(Conflict):
    """A token of that label is already there; it is never initialised twice."""

    code = "token_exists"


class KeyExtractable(CodedError):
    """A key could leave the token, or once could; the service does not start with it."""

    code = "key_extractable"
    exit_code = 3
    title = "A key is not protected"


class KeyDamaged(CodedError):
    """A key's halves or its identifier do not belong together."""

    code = "key_damaged"
    title = "A key is damaged"


class SignatureMismatch(CodedError):
    """The token returned a signature that its public key does not verify; the key is not used again."""

    code = "signature_mismatch"
    title = "A signature failed its check"


class KeyStaysInToken(CodedError, TypeError):
    """Somebody asked a token key for what it never gives: its private part."""

    code = "key_stays_in_token"


class SealBroken(CodedError):
    """Sealed data was changed, or is opened under another context or key than it was sealed for."""

    code = "seal_broken"


class WrappedKeyRefused(CodedError):
    """A wrapped key was changed or swapped, or is used in another context than it was made for."""

    code = "wrapped_key_refused"


# A handle or the session it lives in has gone: open again, find again, try once more.
HANDLE_LOST: tuple[type[pkcs11.PKCS11Error], ...] = (
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.UserNotLoggedIn,
    pkcs11.WrappingKeyHandleInvalid,
    pkcs11.UnwrappingKeyHandleInvalid,
)
# What is surely there cannot be found, or the module forgot who is logged in: the module's own state is lost.
MODULE_LOST: tuple[type[pkcs11.PKCS11Error], ...] = (
    pkcs11.NoSuchKey,
    pkcs11.NoSuchToken,
    pkcs11.UserAlreadyLoggedIn,
)
DEVICE_TROUBLE: tuple[type[pkcs11.PKCS11Error], ...] = (
    pkcs11.DeviceError,
    pkcs11.DeviceRemoved,
    pkcs11.DeviceMemory,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
    pkcs11.HostMemory,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.SlotIDInvalid,
)
WRONG_PIN: tuple[type[pkcs11.PKCS11Error], ...] = (
    pkcs11.PinIncorrect,
    pkcs11.PinLocked,
    pkcs11.PinExpired,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.UserPinNotInitialized,
)
AT_CAPACITY: tuple[type[pkcs11.PKCS11Error], ...] = (pkcs11.SessionCount, pkcs11.OperationActive)


class Condition(IntEnum):
    """What an error says about the token, and so what is to be done."""

    HANDLE_LOST = 1
    """Open again, find again, once; then start the module's process anew."""
    MODULE_LOST = 2
    """Start the module's process anew."""
    DEVICE_TROUBLE = 3
    """Fail fast, raise one alarm, probe with growing pauses."""
    WRONG_PIN = 4
    """Never try again before an operator acts."""
    AT_CAPACITY = 5
    """Wait within the deadline, then refuse."""
    REFUSED = 6
    """Our bug or our configuration: fail this request, do not repeat it."""


def condition_of(error: pkcs11.PKCS11Error) -> Condition:
    """What ``error`` says about the token.

    A bare ``PKCS11Error`` is what the binding raises for codes it has no class for, and after ``C_Finalize``.
    """
    for kinds, condition in (
        (HANDLE_LOST, Condition.HANDLE_LOST),
        (MODULE_LOST, Condition.MODULE_LOST),
        (DEVICE_TROUBLE, Condition.DEVICE_TROUBLE),
        (WRONG_PIN, Condition.WRONG_PIN),
        (AT_CAPACITY, Condition.AT_CAPACITY),
    ):
        if isinstance(error, kinds):
            return condition
    return Condition.MODULE_LOST if type(error) is pkcs11.PKCS11Error else Condition.REFUSED


def is_state_lost(error: pkcs11.PKCS11Error) -> bool:
    """True when loading the module anew may heal ``error``.

    That includes ``OperationActive``: nobody else uses the session, so a call that failed left an operation behind, and
    only a new session is rid of it.
    """
    lost = condition_of(error) in (Condition.HANDLE_LOST, Condition.MODULE_LOST)
    return lost or isinstance(error, pkcs11.OperationActive)


def translated(error: pkcs11.PKCS11Error) -> CodedError:
    """The error of this room that says what ``error`` means. PKCS#11 error texts hold names, never secrets."""
    kind, condition = type(error).__name__, condition_of(error)
    if condition is Condition.WRONG_PIN:
        return PinIncorrect("the token refused the PIN; correct the PIN file and restart")
    if condition is Condition.AT_CAPACITY:
        return HsmBusy("the token has no free session", reason=kind)
    if condition is Condition.REFUSED:
        return HsmMisused(f"the token refused the request ({kind})", reason=kind)
    return HsmUnavailable(f"the token does not answer ({kind})", reason=kind)
