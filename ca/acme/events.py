"""What the ACME server writes into the audit log, beside the certificate's own entries."""

from __future__ import annotations

EXTERNAL_KEY_CREATED = "ca:acme_key:created"
EXTERNAL_KEY_REVOKED = "ca:acme_key:revoked"
ACCOUNT_CREATED = "ca:acme_account:created"
ACCOUNT_UPDATED = "ca:acme_account:updated"
ACCOUNT_DEACTIVATED = "ca:acme_account:deactivated"
ACCOUNT_REVOKED = "ca:acme_account:revoked"
ACCOUNT_KEY_CHANGED = "ca:acme_account:key_changed"
ORDER_CREATED = "ca:acme_order:created"
ORDER_FULFILLED = "ca:acme_order:fulfilled"
ORDER_FAILED = "ca:acme_order:failed"
AUTHORIZATION_VALIDATED = "ca:acme_authorization:validated"
AUTHORIZATION_FAILED = "ca:acme_authorization:failed"
AUTHORIZATION_DEACTIVATED = "ca:acme_authorization:deactivated"
REPLACEMENT_ANNOUNCED = "ca:acme_replacement:announced"
REPLACEMENT_WITHDRAWN = "ca:acme_replacement:withdrawn"
