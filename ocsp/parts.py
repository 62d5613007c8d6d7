"""The room put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core.clock import Clock
from ocsp.cache import AnswerCache
from ocsp.credentials import CredentialBook
from ocsp.issuers import IssuerIndex
from ocsp.ports import Responders, StatusSource
from ocsp.responder import OcspResponder
from ocsp.settings import OcspSettings


@dataclass(frozen=True)
class Parts:
    """What the roof and the commands use of this room."""

    settings: OcspSettings
    clock: Clock
    responder: OcspResponder


def assemble(*, settings: OcspSettings, clock: Clock, statuses: StatusSource, responders: Responders) -> Parts:
    """The status service over a register to read and keys to sign with; nothing is asked of either yet."""
    refresh = timedelta(seconds=settings.refresh_seconds)
    responder = OcspResponder(
        settings=settings,
        clock=clock,
        statuses=statuses,
        issuers=IssuerIndex(statuses, clock, refresh),
        credentials=CredentialBook(responders, clock, refresh),
        cache=AnswerCache(settings.cache_entries),
    )
    return Parts(settings, clock, responder)
