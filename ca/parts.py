"""The certificate authority's parts, put together once for the roof and the commands."""

from __future__ import annotations

from dataclasses import dataclass

from ca.ceremony import Ceremony
from ca.crl import Crls
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance
from ca.linting import Linter
from ca.recovery import Recovery
from ca.register import Register
from ca.registration import Registration
from ca.renewal import Renewals
from ca.revocation import Revocation
from ca.settings import CaSettings
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from hsm.keystore import Keystore


@dataclass(frozen=True)
class Parts:
    """What others use of this room."""

    settings: CaSettings
    clock: Clock
    linter: Linter
    register: Register
    hierarchy: Hierarchy
    registration: Registration
    issuance: Issuance
    recovery: Recovery
    revocation: Revocation
    crls: Crls
    renewals: Renewals
    ceremony: Ceremony


def assemble(
    *,
    settings: CaSettings,
    database: Database,
    audit: AuditLog,
    clock: Clock,
    keystore: Keystore,
    linter: Linter | None = None,
) -> Parts:
    """Put the room together. Nothing is read or opened yet. A linter that is warm already may be handed in."""
    linter = linter or Linter(on_loopback=settings.on_loopback)
    hierarchy = Hierarchy(database, clock)
    register = Register(database)
    registration = Registration(settings, database)
    issuance = Issuance(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        hierarchy=hierarchy,
        register=register,
        linter=linter,
    )
    crls = Crls(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        hierarchy=hierarchy,
        linter=linter,
    )
    return Parts(
        settings=settings,
        clock=clock,
        linter=linter,
        register=register,
        hierarchy=hierarchy,
        registration=registration,
        issuance=issuance,
        recovery=Recovery(settings=settings, database=database, audit=audit, clock=clock),
        revocation=Revocation(database=database, audit=audit, clock=clock),
        crls=crls,
        renewals=Renewals(
            clock=clock,
            keystore=keystore,
            hierarchy=hierarchy,
            register=register,
            registration=registration,
            issuance=issuance,
        ),
        ceremony=Ceremony(
            settings=settings,
            database=database,
            audit=audit,
            clock=clock,
            keystore=keystore,
            hierarchy=hierarchy,
            registration=registration,
            issuance=issuance,
            register=register,
            crls=crls,
            linter=linter,
        ),
    )
