"""Refusals and failures of the signing service, one class for each wire code."""

from __future__ import annotations

from typing import ClassVar

from core.errors import CodedError, Conflict, NotFound
from core.text import N_


class SigningError(CodedError):
    """A refusal of this room. ``sentence`` is what a citizen reads when it happens on a page."""

    sentence: ClassVar[str] = N_("Something went wrong on our side. Nothing was signed.")


# The partner API -------------------------------------------------------------------------------------------------


class CallerUnknown(SigningError):
    """No credentials, or none that we know."""

    code = "CALLER_UNKNOWN"
    status = 401
    exit_code = 3


class ScopeMissing(SigningError):
    """The caller is known and may not do this."""

    code = "SCOPE_MISSING"
    status = 403
    exit_code = 3


class RequestJwtInvalid(SigningError):
    """The request JWT is malformed, not signed by the client's key, not for us or out of its time."""

    code = "REQUEST_JWT_INVALID"
    status = 401
    exit_code = 3


class RequestJwtReplayed(SigningError):
    """A request JWT with this `jti` was taken before."""

    code = "REQUEST_JWT_REPLAYED"
    status = 401
    exit_code = 3


class BodyDigestMismatch(SigningError):
    """The body is not the one the request JWT was signed for."""

    code = "BODY_DIGEST_MISMATCH"
    status = 400
    exit_code = 3


class MediaTypeUnsupported(SigningError):
    """The body's Content-Type is none of those taken here."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    exit_code = 2


class RequestInvalid(SigningError):
    """A field is unknown, missing or out of its range; ``facts["field"]`` names it."""

    code = "REQUEST_INVALID"
    status = 422
    exit_code = 2


class RequestMalformed(SigningError):
    """The request cannot be read at all: no JSON object, no document part."""

    code = "REQUEST_MALFORMED"
    status = 400
    exit_code = 2


class WebhookNotRegistered(SigningError):
    """The webhook address is not among those registered for the client."""

    code = "WEBHOOK_NOT_REGISTERED"
    status = 422
    exit_code = 2


class ReturnUrlNotRegistered(SigningError):
    """The return address is not among those registered for the client."""

    code = "RETURN_URL_NOT_REGISTERED"
    status = 422
    exit_code = 2


class SignerUnknown(SigningError):
    """No active person is known to this client under that `sub`."""

    code = "SIGNER_UNKNOWN"
    status = 422
    exit_code = 4


class IdempotencyKeyInvalid(SigningError):
    """`Idempotency-Key` is missing, or is not 16-64 printable ASCII characters."""

    code = "IDEMPOTENCY_KEY_INVALID"
    status = 400
    exit_code = 2


class IdempotencyKeyReused(SigningError):
    """The same `Idempotency-Key` came before with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422
    exit_code = 5


class IdempotentRequestInProgress(SigningError):
    """The first call with this `Idempotency-Key` is still running."""

    code = "IDEMPOTENT_REQUEST_IN_PROGRESS"
    status = 409
    exit_code = 5


class SignRequestNotFound(SigningError):
    """No such request, or not this caller's."""

    code = "SIGN_REQUEST_NOT_FOUND"
    status = 404
    exit_code = 4
    sentence = N_("This link leads to no request. Check that you copied all of it.")


class NotSignedYet(SigningError):
    """The document is asked for before it is signed; ``facts["state"]`` says where the request stands."""

    code = "NOT_SIGNED_YET"
    status = 409
    exit_code = 5


class RetentionEnded(SigningError):
    """The document was kept as long as was asked and is deleted."""

    code = "RETENTION_ENDED"
    status = 410
    exit_code = 4
    sentence = N_("The document is no longer kept here.")


class StateConflict(SigningError):
    """The request has moved on; what was asked is not possible in its present state."""

    code = "STATE_CONFLICT"
    status = 409
    exit_code = 5
    sentence = N_("This request has changed meanwhile. Look at its present state below.")


class LevelNotReached(SigningError):
    """The signed file does not validate at the level asked for, so it does not leave."""

    code = "LEVEL_NOT_REACHED"
    status = 500
    sentence = N_("The signed file did not pass our own check, so it was thrown away.")


# The ceremony ----------------------------------------------------------------------------------------------------


class WrongPerson(SigningError):
    """The link was made for somebody else."""

    code = "WRONG_PERSON"
    status = 403
    exit_code = 3
    sentence = N_("This request is for someone else.")


class AssuranceTooLow(SigningError):
    """The person is recognised below the assurance that signing demands."""

    code = "ASSURANCE_TOO_LOW"
    status = 403
    exit_code = 3
    sentence = N_("Signing needs a stronger log-in: a password together with a one-time code.")


class PagesNotShown(SigningError):
    """Not every page that must be shown was shown; ``facts["page"]`` is the first that was not."""

    code = "PAGES_NOT_SHOWN"
    status = 409
    exit_code = 5
    sentence = N_("Look at every page before you sign.")


class SdrChanged(SigningError):
    """The form shows another prepared revision than the one on record."""

    code = "SDR_CHANGED"
    status = 409
    exit_code = 5
    sentence = N_("The document was prepared again since you opened this page. Look at the summary once more.")


class CredentialMissing(SigningError):
    """The person has no usable signing credential."""

    code = "CREDENTIAL_MISSING"
    status = 409
    exit_code = 4
    sentence = N_("You have no digital signature yet.")


class ActivationSpent(SigningError):
    """The permission for this signature was taken before, has expired or is for something else."""

    code = "ACTIVATION_SPENT"
    status = 409
    exit_code = 5
    sentence = N_("This confirmation was already used.")


class PinInvalid(SigningError):
    """The PIN is wrong, or there is no such person or credential: which of them is not told."""

    code = "PIN_INVALID"
    status = 403
    exit_code = 3
    sentence = N_("The signing PIN is not right. Type it again.")


class PinLocked(SigningError):
    """Too many wrong PINs; ``facts["locked_until"]`` says when the next try is taken."""

    code = "PIN_LOCKED"
    status = 403
    exit_code = 3
    sentence = N_("Too many wrong PINs. Your digital signature is locked for a while.")


class PinWeak(SigningError):
    """The PIN chosen is not 6-12 digits, or is one that strangers try first."""

    code = "PIN_WEAK"
    status = 422
    exit_code = 2
    sentence = N_("Choose 6 to 12 digits that are not a row, not one repeated pattern and not a date.")


class PinMismatch(SigningError):
    """The two entries of a new PIN differ."""

    code = "PIN_MISMATCH"
    status = 422
    exit_code = 2
    sentence = N_("The two PINs are not the same. Type the same digits twice.")


class CredentialExists(SigningError):
    """The person has a usable credential already."""

    code = "CREDENTIAL_EXISTS"
    status = 409
    exit_code = 5
    sentence = N_("You have a working digital signature already.")


class CertificateRefused(SigningError):
    """The signer's certificate may not be signed with (S21); nothing was signed."""

    status = 409
    exit_code = 3


class CertificateRevoked(CertificateRefused):
    """The signer's certificate is revoked."""

    code = "CERTIFICATE_REVOKED"
    sentence = N_("Your certificate was revoked, so nothing was signed. Create a new digital signature to continue.")


class CertificateSuspended(CertificateRefused):
    """The signer's certificate is suspended."""

    code = "CERTIFICATE_SUSPENDED"
    sentence = N_("Your certificate is suspended, so nothing was signed. Try again when it is restored.")


class CertificateExpired(CertificateRefused):
    """The signer's certificate is outside its validity period."""

    code = "CERTIFICATE_EXPIRED"
    sentence = N_("Your certificate has expired, so nothing was signed. Create a new digital signature to continue.")


class CertificateUnknown(CertificateRefused):
    """The authority does not know the signer's certificate."""

    code = "CERTIFICATE_UNKNOWN"
    sentence = N_("Your certificate is not in the register, so nothing was signed. Ask the operator for help.")


class DependencyUnavailable(SigningError):
    """Time-stamps, certificate status or certification cannot be reached; no key was used."""

    code = "DEPENDENCY_UNAVAILABLE"
    status = 503
    exit_code = 6
    sentence = N_("A service that signing needs does not answer just now. Nothing was signed. Try again in a minute.")


# Custody ---------------------------------------------------------------------------------------------------------


class WrappingKeyUnknown(NotFound):
    """There is no such generation of the wrapping key."""

    code = "WRAPPING_KEY_UNKNOWN"


class WrappingKeyInUse(Conflict):
    """A wrapping key that is current, or that holds keys, is not destroyed: they would be lost."""

    code = "WRAPPING_KEY_IN_USE"
