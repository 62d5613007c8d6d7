"""What a crash left behind is settled, so that no request is stuck and no permission comes back (S45)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.logs import get_logger
from signing import events
from signing.approval import NOT_SIGNED, OPEN, close_intent
from signing.credentials import Credentials
from signing.errors import StateConflict
from signing.sign_requests import SignRequest, SignRequests, SignRequestState
from signing.tables import IntentRow

log = get_logger("signing.recovery")

INTERRUPTED = "SIGNING_INTERRUPTED"


@dataclass(frozen=True)
class Settled:
    """How much there was to settle."""

    intents: int
    credentials: int
    expired: int


class Recovery:
    """Closes intents whose process died, abandons half-made credentials, ends requests past their deadline."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        sign_requests: SignRequests,
        credentials: Credentials,
        time_limit: timedelta,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._requests = sign_requests
        self._credentials = credentials
        self._time_limit = time_limit

    def settle(self, *, alone: bool = False) -> Settled:
        """Settle everything left open. ``alone``: no other process of this instance is running, so whatever is open
        has nobody working on it; otherwise only what is older than the time a signature may take.
        """
        older_than = timedelta(0) if alone else self._time_limit
        with self._database.reading() as session:
            left = session.execute(
                select(IntentRow.id, IntentRow.request_id).where(
                    IntentRow.outcome == OPEN, IntentRow.opened_at <= self._clock() - older_than
                )
            ).all()
        intents = sum(self._give_up(intent_id, request_id) for intent_id, request_id in left)
        credentials = self._credentials.settle_interrupted(older_than)
        settled = Settled(intents, credentials, self._requests.settle_expired())
        if intents or credentials:
            log.warning("signing_recovered", intents=intents, credentials=credentials)
        return settled

    def settle_request(self, request: SignRequest) -> SignRequest:
        """The request as it stands, with an approval that took too long given up first."""
        if request.state is not SignRequestState.APPROVED:
            return request
        with self._database.reading() as session:
            intent_id = session.scalar(
                select(IntentRow.id).where(
                    IntentRow.request_id == request.id,
                    IntentRow.outcome == OPEN,
                    IntentRow.opened_at <= self._clock() - self._time_limit,
                )
            )
        if intent_id is None:
            return request
        self._give_up(intent_id, request.id)
        return self._requests.get(request.id)

    def _give_up(self, intent_id: str, request_id: str) -> bool:
        """The key may have been used, but no file left: the record says "not signed", the permission stays spent."""
        request = self._requests.get(request_id)
        try:
            with self._database.transaction() as session:
                if not close_intent(session, intent_id, NOT_SIGNED, self._clock()):
                    return False
                self._audit.append(
                    session,
                    events.INTENT_CLOSED,
                    actor="recovery",
                    subject=request_id,
                    facts={"outcome": NOT_SIGNED, "code": INTERRUPTED},
                )
                self._requests.move(
                    session,
                    request,
                    SignRequestState.FAILED,
                    actor="recovery",
                    facts={"code": INTERRUPTED},
                    code=INTERRUPTED,
                )
        except StateConflict:  # finished in the same moment
            return False
        return True
