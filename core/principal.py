"""Who is calling, in words every room understands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """A person with a session, or a client with a token.

    ``subject`` is the person's id (a UUID) or the client id; ``acr`` and ``amr`` say how a person was recognised.
    """

    kind: Literal["person", "client"]
    subject: str
    client_id: str | None = None
    scopes: frozenset[str] = frozenset()
    acr: str | None = None
    amr: tuple[str, ...] = ()
    authenticated_at: datetime | None = None
    session_id: str | None = None
