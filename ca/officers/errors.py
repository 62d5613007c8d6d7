"""What officers and approvals refuse, one class for each wire code."""

from __future__ import annotations

from ca.errors import RefusedByPolicy
from core.errors import Conflict, NotFound


class Forbidden(RefusedByPolicy):
    """Not for this person; nothing was done."""

    code = "forbidden"
    status = 403


class OfficersMissing(Forbidden):
    """No officers are enrolled, and this is no development instance: nobody may act."""

    code = "officers_missing"


class OfficerUnknown(Forbidden):
    """The account at the terminal is no active officer's."""

    code = "officer_unknown"


class RoleMissing(Forbidden):
    """The officer holds none of the roles that this act needs."""

    code = "role_missing"


class SecondFactorMissing(Forbidden):
    """An officer acts with a key, not with the account alone."""

    code = "second_factor_missing"


class SecondFactorRefused(Forbidden):
    """The key that was shown is not the key of an officer of this account."""

    code = "second_factor_refused"


class OfficerKeyUnprotected(Forbidden):
    """The key's file can be read by others, or is not encrypted."""

    code = "officer_key_unprotected"


class OfficerNotFound(NotFound):
    """No officer has this name."""

    code = "officer_not_found"


class OfficersEnrolled(Conflict):
    """The first officers were enrolled before; every further change is proposed and approved."""

    code = "officers_enrolled"


class NotTheOwner(Forbidden):
    """The first officers are enrolled by whoever owns the instance's files and can open its token."""

    code = "not_the_owner"


class OfficerNameRefused(RefusedByPolicy):
    """The name is not of the form that the audit log uses."""

    code = "officer_name_refused"


class OfficerKeyRefused(RefusedByPolicy):
    """The public key is neither Ed25519 nor P-256, or it belongs to another officer."""

    code = "officer_key_refused"


class AccountTaken(RefusedByPolicy):
    """Another active officer is known by this account."""

    code = "officer_account_taken"


class AccountUnknown(RefusedByPolicy):
    """This machine knows no such account."""

    code = "officer_account_unknown"


class RoleUnknown(RefusedByPolicy):
    """There is no such role."""

    code = "role_unknown"


class RolesConflict(RefusedByPolicy):
    """These roles are held by different people."""

    code = "roles_conflict"


class TooFewSecurityOfficers(RefusedByPolicy):
    """Nobody could approve the next change of roles any more."""

    code = "too_few_security_officers"


class OfficerUnchanged(Conflict):
    """The officer is already what the change would make of him."""

    code = "officer_unchanged"


class OfficerChanged(Conflict):
    """The officer changed after the change was proposed: propose it anew."""

    code = "officer_changed"


class ApprovalNotFound(NotFound):
    """There is no such request for approval."""

    code = "approval_not_found"


class ApprovalMissing(Forbidden):
    """Too few officers other than the one who asked have signed; ``needed`` and ``valid`` say how many."""

    code = "approval_missing"


class ApprovalMismatch(RefusedByPolicy):
    """What is to be done is not what was approved."""

    code = "approval_mismatch"


class ApprovalExpired(RefusedByPolicy):
    """The request was not used in time: ask anew."""

    code = "approval_expired"


class ApprovalSpent(Conflict):
    """The request was used: each permits one act."""

    code = "approval_spent"


class ApprovalRejected(RefusedByPolicy):
    """An officer rejected the request."""

    code = "approval_rejected"


class ApprovalSigned(Conflict):
    """This officer has approved the request already; he counts once."""

    code = "approval_signed"


class OwnRequest(Forbidden):
    """Nobody approves what he asked for himself."""

    code = "own_request"


class ApprovalSignatureRefused(RefusedByPolicy):
    """The signature over the request is not this officer's."""

    code = "approval_signature_refused"


class ApprovalTextRefused(RefusedByPolicy):
    """What is to be approved cannot be put into a text that is signed."""

    code = "approval_text_refused"


class ProfileNotApproved(Forbidden):
    """No approval was given for the first use of this version of a profile."""

    code = "profile_not_approved"
