"""What officers and approvals write into the audit log."""

from __future__ import annotations

OFFICERS_BOOTSTRAPPED = "ca:officers:bootstrapped"
OFFICER_CHANGED = "ca:officer:changed"
OFFICER_AUTHENTICATED = "ca:officer:authenticated"
OFFICER_REFUSED = "ca:officer:refused"
APPROVAL_REQUESTED = "ca:approval:requested"
APPROVAL_GIVEN = "ca:approval:given"
APPROVAL_REJECTED = "ca:approval:rejected"
APPROVAL_TAKEN = "ca:approval:taken"
PROFILE_APPROVED = "ca:profile:approved"
