"""What EST writes into the audit log."""

from __future__ import annotations

PERMIT_MADE = "ca:est_permit:made"
PERMIT_WITHDRAWN = "ca:est_permit:withdrawn"
PERMIT_ASKED = "ca:est_permit:asked"
PERMIT_APPROVED = "ca:est_permit:approved"
PERMIT_REJECTED = "ca:est_permit:rejected"
ENROLLED = "ca:est:enrolled"
RENEWED = "ca:est:renewed"
