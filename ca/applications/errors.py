"""What the registration authority's doors refuse, one class for each wire code."""

from __future__ import annotations

from ca.errors import RefusedByPolicy
from core.errors import CodedError, Conflict, NotFound, Unavailable


class CallerUnknown(CodedError):
    """No access token of a client was shown."""

    code = "caller_unknown"
    status = 401
    exit_code = 3


class ScopeMissing(CodedError):
    """The token is not for this; ``scope`` names what it lacks."""

    code = "scope_missing"
    status = 403
    exit_code = 3


class RequestMalformed(CodedError):
    """The body is not a JSON object."""

    code = "request_malformed"
    status = 400
    exit_code = 2


class RequestInvalid(CodedError):
    """A member of the body is missing, unknown or of the wrong form; ``field`` names it."""

    code = "request_invalid"
    status = 422
    exit_code = 2


class MediaTypeUnsupported(CodedError):
    """The body is application/json."""

    code = "unsupported_media_type"
    status = 415
    exit_code = 2


class IdempotencyKeyInvalid(CodedError):
    """``Idempotency-Key`` is missing, or is not 16-64 printable ASCII characters."""

    code = "idempotency_key_invalid"
    status = 400
    exit_code = 2


class IdempotencyKeyReused(Conflict):
    """The same ``Idempotency-Key`` came before with another application."""

    code = "idempotency_key_reused"
    status = 422


class ApplicationNotFound(NotFound):
    """There is no such application, or it is not this caller's."""

    code = "application_not_found"


class ApplicationDecided(Conflict):
    """The application was approved or rejected before; ``state`` says which."""

    code = "application_decided"


class ApplicationPending(Unavailable):
    """The application is approved and stays so; its certificate could not be issued just now."""

    code = "application_pending"


class OwnApplication(RefusedByPolicy):
    """Nobody approves what he applied for himself."""

    code = "own_application"
    status = 403


class PersonalProfile(RefusedByPolicy):
    """Certificates of people are applied for by registration officers, who saw them."""

    code = "profile_personal"
    status = 403


class ReasonMissing(RefusedByPolicy):
    """A rejection says why, in one line."""

    code = "reason_missing"
