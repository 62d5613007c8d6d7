"""What the ACME server refuses: one class for each error type of RFC 8555 6.7, and those of the operator's commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import CodedError, Conflict, NotFound

ERROR_NAMESPACE = "urn:ietf:params:acme:error:"


class AcmeError(CodedError):
    """A problem document of ACME. ``code`` is the type without its namespace; ``headers`` go with the answer."""

    code = "malformed"
    status = 400
    exit_code = 3

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **facts: object) -> None:
        super().__init__(detail, **facts)
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """As RFC 7807 writes it; ``subproblems`` and other facts beside the standard members."""
        return {**self.facts, "type": ERROR_NAMESPACE + self.code, "detail": self.detail, "status": self.status}


class Malformed(AcmeError):
    """The request is not what RFC 8555 says it should be."""


class WrongMethod(AcmeError):
    """Resources are read by POST-as-GET (RFC 8555 6.3)."""

    status = 405


class WrongMediaType(AcmeError):
    """The body is not application/jose+json (RFC 8555 6.2)."""

    status = 415


class TooLarge(AcmeError):
    """The request is larger than any request is."""

    status = 413


class NoSuchResource(AcmeError):
    """Nothing is at this address."""

    status = 404


class KeyInUse(AcmeError):
    """Another account has this key (RFC 8555 7.3.5)."""

    status = 409


class AccountDoesNotExist(AcmeError):
    """The key or address belongs to no account."""

    code = "accountDoesNotExist"


class AlreadyRevoked(AcmeError):
    """The certificate is revoked."""

    code = "alreadyRevoked"


class AlreadyReplaced(AcmeError):
    """Another order replaced this certificate (RFC 9773 5)."""

    code = "alreadyReplaced"
    status = 409


class BadCSR(AcmeError):
    """The certification request does not fit the order."""

    code = "badCSR"


class BadNonce(AcmeError):
    """The nonce is unknown, too old or was used."""

    code = "badNonce"


class BadPublicKey(AcmeError):
    """The key is not good enough."""

    code = "badPublicKey"


class BadRevocationReason(AcmeError):
    """The reason cannot be given here."""

    code = "badRevocationReason"


class BadSignatureAlgorithm(AcmeError):
    """The signature's algorithm is not taken; ``algorithms`` lists those that are."""

    code = "badSignatureAlgorithm"


class Caa(AcmeError):
    """CAA records forbid it (RFC 8659)."""

    code = "caa"
    status = 403


class ConnectionFailed(AcmeError):
    """The client's server could not be reached."""

    code = "connection"


class DnsFailed(AcmeError):
    """A name could not be looked up."""

    code = "dns"


class ExternalAccountRequired(AcmeError):
    """An account is bound to an organisation by a key given out beforehand (RFC 8555 7.3.4)."""

    code = "externalAccountRequired"
    status = 403


class IncorrectResponse(AcmeError):
    """What was found is not the challenge's answer."""

    code = "incorrectResponse"
    status = 403


class InvalidContact(AcmeError):
    """A contact cannot be read."""

    code = "invalidContact"


class UnsupportedContact(AcmeError):
    """Contacts are mail addresses."""

    code = "unsupportedContact"


class OrderNotReady(AcmeError):
    """The order is not, or no longer, to be finalised."""

    code = "orderNotReady"
    status = 403


class RateLimited(AcmeError):
    """Too many requests of this account; Retry-After says when to come back."""

    code = "rateLimited"
    status = 429


class RejectedIdentifier(AcmeError):
    """Names that this account gets no certificates for."""

    code = "rejectedIdentifier"
    status = 403


class ServerInternal(AcmeError):
    """Something on our side; trying again later may help."""

    code = "serverInternal"
    status = 500


class TemporarilyUnavailable(ServerInternal):
    """The token or the database does not answer just now."""

    status = 503


class TlsFailed(AcmeError):
    """The TLS handshake of a validation failed."""

    code = "tls"


class Unauthorized(AcmeError):
    """The account may not do this, or the thing belongs to somebody else. Which of them is not told."""

    code = "unauthorized"
    status = 403


class AccountClosed(Unauthorized):
    """The account was deactivated (RFC 8555 7.3.6) or revoked."""

    status = 401


class UnsupportedIdentifier(AcmeError):
    """The kind of identifier is unknown here."""

    code = "unsupportedIdentifier"


class UserActionRequired(AcmeError):
    """The terms of service must be agreed to."""

    code = "userActionRequired"
    status = 403


# The operator's commands ---------------------------------------------------------------------------------------------


class EntitlementRefused(CodedError):
    """What an external account key should allow cannot be allowed."""

    code = "acme_entitlement_refused"
    status = 422
    exit_code = 3


class ExternalKeyNotFound(NotFound):
    """There is no such external account key."""

    code = "acme_key_not_found"


class ExternalKeyRevoked(Conflict):
    """The external account key was revoked before."""

    code = "acme_key_revoked"


class AccountNotFound(NotFound):
    """There is no such ACME account."""

    code = "acme_account_not_found"


class AccountNotValid(Conflict):
    """The ACME account was closed before."""

    code = "acme_account_not_valid"


class ReplacementRefused(CodedError):
    """The window of an announced replacement cannot be so."""

    code = "acme_replacement_refused"
    status = 422
    exit_code = 3


class ReplacementNotFound(NotFound):
    """No such replacement is announced."""

    code = "acme_replacement_not_found"
