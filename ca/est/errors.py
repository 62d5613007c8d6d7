"""What EST refuses, one class for each code. Over HTTP the code is in ``X-Error-Code``, the sentence in the body."""

from __future__ import annotations

from ca.errors import RefusedByPolicy
from core.errors import CodedError, Conflict, NotFound


class LabelUnknown(NotFound):
    """No certificates are enrolled for under this label (RFC 7030 3.2.2)."""

    code = "est_label_unknown"


class LabelUnfit(CodedError):
    """The settings open a label whose certificates are not for machines."""

    code = "est_label_unfit"
    exit_code = 2


class AuthenticationRequired(CodedError):
    """Neither a one-time secret nor a client certificate was shown (RFC 7030 3.2.3)."""

    code = "est_authentication_required"
    status = 401
    exit_code = 3


class SecretRefused(CodedError):
    """There is no such permit, or the secret is not its own; which of the two is not told."""

    code = "est_secret_refused"
    status = 401
    exit_code = 3


class TooManyGuesses(CodedError):
    """Wrong secrets came too often, for this permit or from this address."""

    code = "est_too_many_guesses"
    status = 429
    exit_code = 6


class Refused(RefusedByPolicy):
    """Who asks is known, and may not have this."""

    code = "est_refused"
    status = 403


class SecretSpent(Refused):
    """The one-time secret was used."""

    code = "est_secret_spent"


class PermitExpired(Refused):
    """The permit was not used in its time."""

    code = "est_permit_expired"


class PermitWithdrawn(Refused):
    """An officer withdrew the permit, or rejected the request made with it."""

    code = "est_permit_withdrawn"


class LabelRefused(Refused):
    """The permit or the certificate is for another label."""

    code = "est_label_refused"


class KeyChanged(Refused):
    """The request that an officer decides on was made with another key."""

    code = "est_key_changed"


class NameNotPermitted(Refused):
    """The request names something that the permit does not."""

    code = "est_name_not_permitted"


class NotPermitted(Refused):
    """The certificate shown permits no first enrolment under this label."""

    code = "est_not_permitted"


class CertificateRequired(Refused):
    """A renewal is asked for with the certificate that is renewed (RFC 7030 4.2.2)."""

    code = "est_certificate_required"


class CertificateExpired(Refused):
    """The client certificate has ended, or has not begun."""

    code = "certificate_expired"


class CertificateRevoked(Refused):
    """The client certificate is revoked."""

    code = "certificate_revoked"


class CertificateSuspended(Refused):
    """The client certificate is suspended."""

    code = "certificate_suspended"


class SubjectChanged(Refused):
    """A renewal keeps subject and subjectAltName as they are (RFC 7030 4.2.2)."""

    code = "est_subject_changed"


class TooManyRenewals(CodedError):
    """This certificate was renewed too often today."""

    code = "est_too_many_renewals"
    status = 429
    exit_code = 6


class BodyRefused(RefusedByPolicy):
    """The body is no base64 of the right size (RFC 7030 4.2.1, RFC 8951 3.2.1)."""

    code = "est_body_refused"
    status = 400


class MediaTypeRefused(RefusedByPolicy):
    """A request for a certificate is application/pkcs10 (RFC 7030 4.2.1)."""

    code = "est_media_type_refused"
    status = 415


class PermitNotFound(NotFound):
    """There is no such permit."""

    code = "est_permit_not_found"


class PermitDecided(Conflict):
    """The permit is not in the state that this step needs."""

    code = "est_permit_decided"


class SelfApproval(RefusedByPolicy):
    """Who made a permit does not approve the request made with it."""

    code = "est_self_approval"
