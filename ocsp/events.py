"""Names of what this room writes to the log. It changes nothing, so it has no entry in the audit log."""

from __future__ import annotations

NEVER_ISSUED_ASKED = "ocsp_never_issued_asked"
RESPONDER_LOADED = "ocsp_responder_loaded"
RESPONDER_REFUSED = "ocsp_responder_refused"
REGISTER_UNREADABLE = "ocsp_register_unreadable"
SIGNING_FAILED = "ocsp_signing_failed"
INTERNAL_FAULT = "ocsp_internal_fault"
