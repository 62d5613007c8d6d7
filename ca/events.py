"""What the certificate authority writes into the audit log."""

from __future__ import annotations

INTENT_RECORDED = "ca:intent:recorded"
INTENT_ABANDONED = "ca:intent:abandoned"
INTENT_WITHDRAWN = "ca:intent:withdrawn"
CERTIFICATE_ISSUED = "ca:certificate:issued"
CERTIFICATE_REVOKED = "ca:certificate:revoked"
CERTIFICATE_SUSPENDED = "ca:certificate:suspended"
CERTIFICATE_RESUMED = "ca:certificate:resumed"
KEY_BLOCKED = "ca:key:blocked"
CRL_PUBLISHED = "ca:crl:published"
PROFILE_FIRST_USED = "ca:profile:first_used"
AUTHORITY_ESTABLISHED = "ca:authority:established"
CEREMONY_BEGUN = "ca:ceremony:begun"
CEREMONY_HELD = "ca:ceremony:held"
