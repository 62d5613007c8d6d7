"""Signature activation data (EN 419 241-1, SCAL2): permission for one signature, bound to its purpose, taken once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from core.audit import AuditLog
from core.clock import Clock
from signing import events
from signing.errors import ActivationSpent
from signing.tables import ActivationRow

# From the right PIN to the key's use; S16 allows an hour, this path needs seconds.
LIFETIME = timedelta(seconds=60)


@dataclass(frozen=True)
class Binding:
    """What one permission is for: this request, this digest to be signed, this credential."""

    request_id: str
    sdr: str  # hexadecimal
    credential_id: str


class Activations:
    """Issues permissions after a right PIN and takes them, each exactly once."""

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock

    def issue(self, session: Session, binding: Binding) -> str:
        """A permission for exactly ``binding``; returns its id."""
        now = self._clock()
        row = ActivationRow(id=str(uuid.uuid4()), **vars(binding), issued_at=now, expires_at=now + LIFETIME)
        session.add(row)
        session.flush()
        return row.id

    def take(self, session: Session, activation_id: str, binding: Binding, *, actor: str) -> None:
        """Use the permission up. Raises ActivationSpent when it was used, has expired or is bound to something else.

        One conditional UPDATE decides, so of any number of parallel takers exactly one goes on.
        """
        now = self._clock()
        taken = cast(
            "CursorResult[Any]",
            session.execute(
                update(ActivationRow)
                .where(
                    ActivationRow.id == activation_id,
                    ActivationRow.request_id == binding.request_id,
                    ActivationRow.sdr == binding.sdr,
                    ActivationRow.credential_id == binding.credential_id,
                    ActivationRow.taken_at.is_(None),
                    ActivationRow.expires_at > now,
                )
                .values(taken_at=now)
                .execution_options(synchronize_session=False)
            ),
        )
        if taken.rowcount != 1:
            raise ActivationSpent("the permission was used, has expired or is for something else")
        self._audit.append(
            session,
            events.ACTIVATION_TAKEN,
            actor=actor,
            subject=binding.request_id,
            facts={"credential": binding.credential_id, "sdr": binding.sdr},
        )
