"""What the certificate authority refuses, one class for each wire code."""

from __future__ import annotations

from core.errors import CodedError, Conflict, NotFound, Unavailable


class RefusedByPolicy(CodedError):
    """A rule forbids it; nothing was done."""

    code = "refused"
    status = 422
    exit_code = 3


class CsrMalformed(RefusedByPolicy):
    """The octets are no certification request."""

    code = "csr_malformed"
    status = 400


class ProofOfPossessionFailed(RefusedByPolicy):
    """The request is not signed by the key it shows (RFC 2986 3)."""

    code = "proof_of_possession_failed"


class KeyNotAccepted(RefusedByPolicy):
    """The public key is not good enough; ``reason`` is the code of ``policies.keys``."""

    code = "key_not_accepted"


class SubjectRefused(RefusedByPolicy):
    """The name does not fit the profile; ``reason`` is the code of ``policies.names``."""

    code = "subject_refused"


class EvidenceMissing(RefusedByPolicy):
    """An application refers to the evidence of identity it rests on."""

    code = "evidence_missing"


class ProfileNotOpen(RefusedByPolicy):
    """Certificates of this profile are not given to applicants."""

    code = "profile_not_open"


class ProfileNotFound(NotFound):
    """There is no such profile."""

    code = "profile_not_found"


class ProfileChanged(Conflict):
    """A profile file differs from what was used under the same version; give it a new version."""

    code = "profile_changed"


class ValidityRefused(RefusedByPolicy):
    """The certificate would outlive its issuer or its profile's limit."""

    code = "validity_refused"


class LintRefused(RefusedByPolicy):
    """A linter found an error in what would have been signed; ``findings`` lists them."""

    code = "lint_refused"


class LinterUnavailable(Unavailable):
    """The linter does not answer; what is not linted is not signed."""

    code = "linter_unavailable"


class BatchRefused(RefusedByPolicy):
    """More applications at once than are certified in one go, or none."""

    code = "batch_refused"


class SerialTaken(Conflict):
    """The issuer has used this serial number before."""

    code = "serial_taken"


class IntentSpent(Conflict):
    """The intent was used, closed or never recorded."""

    code = "intent_spent"


class IntentAltered(Conflict):
    """What is to be signed is not what was linted and recorded."""

    code = "intent_altered"


class SignatureRefused(CodedError):
    """The token's signature does not verify under the issuer's key; nothing was released."""

    code = "signature_refused"


class AuthorityNotFound(NotFound):
    """There is no such issuing authority."""

    code = "authority_not_found"


class AuthorityNotInForce(RefusedByPolicy):
    """The authority is revoked or its certificate has ended: it signs nothing more."""

    code = "authority_not_in_force"


class RekeyAfterRevocation(RefusedByPolicy):
    """What was revoked is not replaced as a matter of routine (RFC 3647 3.3.2)."""

    code = "rekey_after_revocation"


class CertificateNotFound(NotFound):
    """The register knows no such certificate."""

    code = "certificate_not_found"


class SerialAmbiguous(Conflict):
    """Two issuers used this serial number: name the issuer."""

    code = "serial_ambiguous"


class ReasonNotAllowed(RefusedByPolicy):
    """The revocation reason is not one of RFC 5280 5.3.1 that may be given here."""

    code = "reason_not_allowed"


class SuspensionNotAllowed(RefusedByPolicy):
    """Certificates of this profile are revoked, never suspended."""

    code = "suspension_not_allowed"


class AlreadyRevoked(Conflict):
    """Revoked is final; only the reason may be raised to keyCompromise."""

    code = "already_revoked"


class NotSuspended(Conflict):
    """Only a suspended certificate can be resumed."""

    code = "not_suspended"


class SelectionRefused(RefusedByPolicy):
    """A selection of certificates says nothing, or what cannot be."""

    code = "selection_refused"


class NothingSelected(NotFound):
    """No certificate fits the selection."""

    code = "nothing_selected"


class MassRevocationNotFound(NotFound):
    """There is no such plan of a mass revocation."""

    code = "mass_revocation_not_found"


class MassRevocationDone(Conflict):
    """The plan was carried out; it is not carried out again."""

    code = "mass_revocation_done"


class MassRevocationAltered(Conflict):
    """The recorded list is not the one that was planned and approved."""

    code = "mass_revocation_altered"


class MassRevocationUnfinished(CodedError):
    """Some of it was done; ``facts`` hold the token to go on with and how much is done."""

    code = "mass_revocation_unfinished"
    exit_code = 7


class ExportRefused(RefusedByPolicy):
    """An audit export is not one that this instance's log can be reconciled with."""

    code = "export_refused"


class CrlConflict(Conflict):
    """Somebody else published this CRL meanwhile."""

    code = "crl_conflict"


class CrlRefused(RefusedByPolicy):
    """The new CRL must not follow the one before it; the old one stays."""

    code = "crl_refused"


class CrlNotFound(NotFound):
    """No CRL was published there yet."""

    code = "crl_not_found"


class CeremonyPlanRefused(RefusedByPolicy):
    """The ceremony file says something that cannot be done."""

    code = "ceremony_plan_refused"


class CeremonyHeld(Conflict):
    """This ceremony was held already, or another one is under way."""

    code = "ceremony_held"


class QuorumRequired(RefusedByPolicy):
    """Outside of development a ceremony has custodians who approve it."""

    code = "ceremony_quorum_required"


class NoQuorum(RefusedByPolicy):
    """Fewer custodians approved the plan than it asks for."""

    code = "ceremony_no_quorum"


class PlanEdited(RefusedByPolicy):
    """A custodian approved another text of this plan."""

    code = "ceremony_plan_edited"


class ForeignCustodian(RefusedByPolicy):
    """The plan lists no such custodian."""

    code = "ceremony_foreign_custodian"


class DuplicateCustodian(RefusedByPolicy):
    """One custodian's signature counts once."""

    code = "ceremony_duplicate_custodian"


class ApprovalForged(RefusedByPolicy):
    """A signature in a custodian's name does not verify."""

    code = "ceremony_approval_forged"


class CustodianKeyRefused(RefusedByPolicy):
    """The key file cannot be read, or holds another kind of key."""

    code = "ceremony_key_refused"


class KeyInUse(RefusedByPolicy):
    """The key to be destroyed still speaks for something."""

    code = "ceremony_key_in_use"


class CeremonyInterrupted(CodedError):
    """Somebody said no to a step: what was done before stands, and the same command goes on."""

    code = "ceremony_interrupted"
    status = 409
    exit_code = 7


class TranscriptBroken(CodedError):
    """The transcript is not what the ceremony wrote; ``line`` is the first that does not fit."""

    code = "ceremony_transcript_broken"
    status = 422
    exit_code = 1


class AuthorityRevoked(AuthorityNotInForce):
    """The authority, or one above it, is revoked: it signs nothing more."""

    code = "authority_revoked"


class AuthorityExpired(AuthorityNotInForce):
    """The authority's certificate, or one above it, has ended."""

    code = "authority_expired"


class AuthorityNotYetValid(AuthorityNotInForce):
    """The authority's certificate has not begun."""

    code = "authority_not_yet_valid"


class AuthorityRetired(AuthorityNotInForce):
    """The authority was retired: it answers for what it signed and signs nothing new."""

    code = "authority_retired"


class AuthorityLive(Conflict):
    """The authority still has certificates in force, or is the only one of its purpose."""

    code = "authority_live"


class OutsideCertificateRefused(RefusedByPolicy):
    """An outside root's answer does not fit our authority; ``reason`` says which check failed."""

    code = "outside_certificate_refused"
