"""What this room writes into the audit log."""

from __future__ import annotations

PERSON_CREATED = "sso:person:created"
PERSON_DISABLED = "sso:person:disabled"
PASSWORD_REHASHED = "sso:password:rehashed"  # noqa: S105 - the name of an event

CLIENT_CREATED = "sso:client:created"
CLIENT_DISABLED = "sso:client:disabled"

SESSION_STARTED = "sso:session:started"
SESSION_RENEWED = "sso:session:renewed"
SESSION_ENDED = "sso:session:ended"

CONSENT_GRANTED = "sso:consent:granted"
CONSENT_REFUSED = "sso:consent:refused"

CODE_ISSUED = "sso:code:issued"
CODE_REPLAYED = "sso:code:replayed"
TOKEN_ISSUED = "sso:token:issued"  # noqa: S105 - the name of an event
