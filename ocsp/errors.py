"""One class for each OCSPResponseStatus that is not `successful` (RFC 6960 4.2.1)."""

from __future__ import annotations

from typing import ClassVar

from core.errors import CodedError


class OcspError(CodedError):
    """A question that gets an error status instead of an answer; errors are unsigned (RFC 6960 2.3)."""

    response_status: ClassVar[int]
    # Stock clients read the status only under HTTP 200; a malformed request alone earns a 400, as in Boulder.
    status = 200


class MalformedRequest(OcspError):
    """The bytes are not an OCSPRequest, or one this responder must not guess about."""

    code = "malformedRequest"
    response_status = 1
    status = 400
    exit_code = 2


class InternalError(OcspError):
    """A fault on our side."""

    code = "internalError"
    response_status = 2


class TryLater(OcspError):
    """Nothing fresh can be said just now: the register, the key or its certificate cannot be used."""

    code = "tryLater"
    response_status = 3
    exit_code = 6


class Unauthorized(OcspError):
    """The question is about an issuer this responder does not speak for."""

    code = "unauthorized"
    response_status = 6
    exit_code = 3
