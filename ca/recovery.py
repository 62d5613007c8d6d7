"""Settles issuances that a crash left open, so that every intent ends issued, abandoned or withdrawn.

An intent still ``prepared`` was never signed: it is abandoned. One in ``signing`` may have been signed, but its
certificate was not released, since release follows the register's entry: it is withdrawn, and its serial number counts
as revoked for the status service and the CRL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from ca import events, serial_number
from ca.issuance import moved
from ca.settings import CaSettings
from ca.tables import IntentRow
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.logs import get_logger

log = get_logger("ca.recovery")

ACTOR = "service:ca-recovery"
_OUTCOMES = {
    "prepared": ("abandoned", events.INTENT_ABANDONED),
    "signing": ("withdrawn", events.INTENT_WITHDRAWN),
}


@dataclass(frozen=True)
class Settled:
    """How many open intents were closed: never signed, and perhaps signed but never released."""

    abandoned: int
    withdrawn: int


class Recovery:
    """Closes intents that nobody will finish."""

    def __init__(self, *, settings: CaSettings, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock

    def settle(self, *, min_age: timedelta | None = None) -> Settled:
        """Close open intents older than ``min_age`` (default: the settings' 60 s).

        A start that knows no other process issues may pass zero. An issuance that is still running when its intent is
        closed fails with IntentSpent and releases nothing.
        """
        age = timedelta(seconds=self._settings.intent_expiry_seconds) if min_age is None else min_age
        with self._database.transaction() as session:
            query = select(IntentRow).where(IntentRow.state.in_(_OUTCOMES), IntentRow.changed_at <= self._clock() - age)
            counts = {"abandoned": 0, "withdrawn": 0}
            for row in list(session.scalars(query)):
                outcome = self._close(session, row)
                if outcome:
                    counts[outcome] += 1
        if any(counts.values()):
            log.warning("open_intents_settled", **counts)
        return Settled(**counts)

    def _close(self, session: Session, row: IntentRow) -> str | None:
        outcome, event = _OUTCOMES[row.state]
        if not moved(session, row.id, row.state, outcome, self._clock()):
            return None
        serial = serial_number.text(serial_number.from_octets(row.serial))
        facts = {"issuer": row.issuer, "serial": serial, "profile": row.profile, "holder": row.holder}
        self._audit.append(session, event, actor=ACTOR, subject=row.id, facts=facts)
        return outcome
