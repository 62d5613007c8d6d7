"""Errors of the provider, one class per wire code; where each standard lists its codes is cited at the class."""

from __future__ import annotations

import re

from core.errors import CodedError, Conflict, NotFound, UsageError

# RFC 6749 4.1.2.1: error_description is printable ASCII without quotation mark and backslash.
_NOT_DESCRIBABLE = re.compile(r"[^\x20\x21\x23-\x5B\x5D-\x7E]")


class OAuthError(CodedError):
    """What an OAuth endpoint answers with: ``error`` is ``code``, ``error_description`` is ``description``."""

    status = 400

    @property
    def description(self) -> str:
        """The detail in the characters the protocol allows."""
        return _NOT_DESCRIBABLE.sub("?", self.detail)


class InvalidRequest(OAuthError):
    """A parameter is missing, doubled, malformed or out of place (RFC 6749 4.1.2.1, 5.2)."""

    code = "invalid_request"


class UnsupportedContentType(InvalidRequest):
    """The body is not in the form this endpoint reads."""

    status = 415


class RequestTooLarge(InvalidRequest):
    """The request is larger than anything this endpoint can mean."""

    status = 413


class InvalidClient(OAuthError):
    """Client authentication failed; one answer for every reason, so that nothing is learnt (RFC 6749 5.2)."""

    code = "invalid_client"
    status = 401

    def __init__(self, reason: str = "") -> None:
        super().__init__("client authentication failed")
        self.reason = reason  # for the log only


class InvalidGrant(OAuthError):
    """The code is unknown, spent, expired, revoked or bound to something else (RFC 6749 5.2)."""

    code = "invalid_grant"


class UnauthorizedClient(OAuthError):
    """This client may not use this grant or response type (RFC 6749 4.1.2.1, 5.2)."""

    code = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    """A grant type that is not offered (RFC 6749 5.2)."""

    code = "unsupported_grant_type"


class UnsupportedResponseType(OAuthError):
    """Anything but ``code`` (RFC 6749 4.1.2.1)."""

    code = "unsupported_response_type"


class InvalidScope(OAuthError):
    """The scope is malformed, or nothing of it may be given (RFC 6749 4.1.2.1, 5.2)."""

    code = "invalid_scope"


class AccessDenied(OAuthError):
    """The person said no (RFC 6749 4.1.2.1)."""

    code = "access_denied"


class LoginRequired(OAuthError):
    """``prompt=none`` and nobody is logged in (OpenID Connect Core 3.1.2.6)."""

    code = "login_required"


class ConsentRequired(OAuthError):
    """``prompt=none`` and consent is missing (OpenID Connect Core 3.1.2.6)."""

    code = "consent_required"


class RequestNotSupported(OAuthError):
    """The ``request`` parameter (OpenID Connect Core 3.1.2.6)."""

    code = "request_not_supported"


class RequestUriNotSupported(OAuthError):
    """The ``request_uri`` parameter (OpenID Connect Core 3.1.2.6)."""

    code = "request_uri_not_supported"


class UnmetAuthenticationRequirements(OAuthError):
    """The level of assurance demanded was not reached (OpenID Connect Unmet Authentication Requirements 1.0)."""

    code = "unmet_authentication_requirements"


class InvalidToken(OAuthError):
    """The access token is unknown, expired or revoked (RFC 6750 3.1)."""

    code = "invalid_token"
    status = 401


class MissingToken(InvalidToken):
    """No access token at all: the challenge then carries no error (RFC 6750 3.1)."""


class InsufficientScope(OAuthError):
    """The access token was not given for this (RFC 6750 3.1)."""

    code = "insufficient_scope"
    status = 403


class PageError(CodedError):
    """An error a person sees on a page because there is nowhere safe to send the browser."""

    status = 400


class UnknownClient(PageError):
    """No such relying party, or it is disabled."""

    code = "unknown_client"


class RedirectUriMismatch(PageError):
    """The redirect URI is missing or not one of the registered ones, byte for byte."""

    code = "redirect_uri_mismatch"


class InteractionGone(PageError):
    """The login or consent that this page belongs to has ended or never existed."""

    code = "interaction_gone"


class ForeignInteraction(PageError):
    """The page belongs to somebody else's login."""

    code = "foreign_interaction"
    status = 403


class InvalidReturnAddress(PageError):
    """``return_to`` is not a path of this site."""

    code = "invalid_return_to"


class PageRequestInvalid(PageError):
    """A page's request is malformed in a way no page of ours produces."""

    code = "invalid_request"


class WrongCredentials(CodedError):
    """User name, password or code is wrong; which of them is not told."""

    code = "wrong_credentials"
    status = 401


class TooManyAttempts(CodedError):
    """The next try must wait ``seconds``."""

    code = "too_many_attempts"
    status = 429

    def __init__(self, seconds: int) -> None:
        super().__init__("too many failed attempts", retry_after=seconds)
        self.seconds = seconds


class PersonNotFound(NotFound):
    """No person of that id or name."""

    code = "person_not_found"


class UsernameTaken(Conflict):
    """Another person has this user name."""

    code = "username_taken"


class CivilIdTaken(Conflict):
    """This civil id already belongs to a person here."""

    code = "civil_id_taken"


class InvalidPerson(UsageError):
    """A fact about a person is missing or malformed."""

    code = "invalid_person"


class ClientNotFound(NotFound):
    """No relying party of that id."""

    code = "client_not_found"


class InvalidClientMetadata(UsageError):
    """A registration value is missing, malformed or unsafe (RFC 7591 3.2.2)."""

    code = "invalid_client_metadata"
