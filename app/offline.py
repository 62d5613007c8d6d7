"""The certificate authority alone: no web code, no other room. What a key ceremony on an offline machine needs."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

import ca.parts
from app.settings import Settings
from ca.linting import Linter
from ca.settings import CaSettings
from core.audit import AuditLog
from core.clock import Clock, utc_now
from core.database import Database
from hsm.keystore import Keystore, open_keystore


def build_authority(
    settings: Settings, *, keystore: Keystore | None = None, database: Database | None = None, clock: Clock = utc_now
) -> ca.parts.Parts:
    """The authority's parts. Nothing is opened yet: database and token are reached when first used."""
    settings = with_addresses(settings)
    # A ceremony issues a handful of certificates: the linters run in this process, all of them on each.
    linter = Linter(on_loopback=settings.ca.on_loopback, full_lint_one_in=1)
    return ca.parts.assemble(
        settings=settings.ca,
        database=database or Database(settings.floor.database_url),
        audit=AuditLog(clock),
        clock=clock,
        keystore=keystore or open_keystore(settings.hsm),
        linter=linter,
    )


def with_addresses(settings: Settings) -> Settings:
    """``settings`` with the public origin given to the rooms that write it into links and certificates."""
    origin = urlsplit(settings.base_url)
    # A TLS port is no port to ask in plain http.
    host = origin.netloc if origin.scheme == "http" else origin.hostname
    # RFC 5280 8: what a verifier fetches to check certificates comes over plain http.
    plain = settings.ca.base_url if settings.ca.base_url != CaSettings.base_url else f"http://{host}"
    return dataclasses.replace(
        settings,
        ca=dataclasses.replace(settings.ca, base_url=plain, service_url=settings.ca.service_url or settings.base_url),
    )
