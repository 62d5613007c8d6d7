"""What the trust list refuses; an unlisted issuer is never called an invalid certificate."""

from __future__ import annotations

from ca.errors import RefusedByPolicy
from core.errors import Conflict, NotFound


class IssuerNotAccepted(RefusedByPolicy):
    """The certificate's issuer is not on the list, was rejected, or is accepted for other purposes only."""

    code = "issuer_not_accepted"
    status = 403


class CertificateExpired(RefusedByPolicy):
    """The issuer is accepted, but a certificate of the path had not begun or has ended."""

    code = "certificate_expired"


class SignatureInvalid(RefusedByPolicy):
    """The certificate names an accepted issuer that did not sign it."""

    code = "signature_invalid"


class PathRefused(RefusedByPolicy):
    """The issuer is accepted, but the path breaks a rule of RFC 5280 6.1."""

    code = "certification_path_refused"


class CertificateUnreadable(RefusedByPolicy):
    """The octets are no X.509 certificate."""

    code = "certificate_unreadable"
    status = 400


class PurposeUnknown(RefusedByPolicy):
    """The list knows no such purpose."""

    code = "trust_purpose_unknown"


class ReasonMissing(RefusedByPolicy):
    """Every change of the list says why."""

    code = "trust_reason_missing"


class ImportRefused(RefusedByPolicy):
    """The chain cannot be listed; ``reason`` says what is wrong with which certificate."""

    code = "trust_import_refused"


class EntryNotFound(NotFound):
    """The list holds no such authority."""

    code = "trust_entry_not_found"


class EntryOurs(RefusedByPolicy):
    """Our own authorities are listed as long as they exist; revoke an authority instead."""

    code = "trust_entry_ours"


class VersionConflict(Conflict):
    """Somebody else changed the list meanwhile; look at it and try again."""

    code = "trust_list_changed"


class NotPublished(NotFound):
    """No version of the list was made yet."""

    code = "trust_list_not_published"
