"""The certificate authority's parts, put together once for the roof and the commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ca.applications.service import Applications
from ca.ceremony import Ceremony
from ca.ceremony.drafting import Drafting
from ca.ceremony.preview import Previews
from ca.check import Check
from ca.crl import Crls
from ca.dual_control import DualControl
from ca.est.parts import Est
from ca.est.parts import assemble as assemble_est
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance
from ca.linting import Linter
from ca.mass_revocation import MassRevocation
from ca.officers.approvals import Approvals
from ca.officers.approved_profiles import ApprovedProfiles
from ca.officers.authentication import Authentication
from ca.officers.register import Officers
from ca.officers.role_changes import RoleChanges
from ca.reconciliation import Reconciliation
from ca.recovery import Recovery
from ca.register import Register
from ca.registration import Registration
from ca.renewal import Renewals
from ca.retirement import Retirement
from ca.revocation import Revocation
from ca.settings import CaSettings
from ca.status_changes import StatusChanges
from ca.subordination import Subordination
from ca.trust_list.service import TrustLists
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.outbox import Outbox
from hsm.keystore import Keystore
from policies.weak_keys import read_weak_keys


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
    reconciliation: Reconciliation
    check: Check
    revocation: Revocation
    mass_revocation: MassRevocation
    status_changes: StatusChanges
    crls: Crls
    renewals: Renewals
    ceremony: Ceremony
    est: Est
    trust_lists: TrustLists
    drafting: Drafting
    previews: Previews
    subordination: Subordination
    retirement: Retirement
    dual_control: DualControl
    applications: Applications
    officers: Officers
    approvals: Approvals
    role_changes: RoleChanges
    approved_profiles: ApprovedProfiles
    authentication: Authentication


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
    linter = linter or Linter(
        on_loopback=settings.on_loopback,
        workers=settings.lint_workers,
        full_lint_one_in=settings.full_lint_one_in,
    )
    hierarchy = Hierarchy(database, clock)
    register = Register(database)
    registration = Registration(settings, database, read_weak_keys(Path(name) for name in settings.weak_key_lists))
    officers = Officers(database, share_accounts=settings.officers_share_accounts)
    approvals = Approvals(settings=settings, database=database, audit=audit, clock=clock, officers=officers)
    approved_profiles = ApprovedProfiles(
        database=database, audit=audit, clock=clock, officers=officers, approvals=approvals
    )
    issuance = Issuance(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        hierarchy=hierarchy,
        linter=linter,
        profile_approved=approved_profiles.check,
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
    outbox = Outbox(clock)
    subordination = Subordination(
        database=database, audit=audit, clock=clock, keystore=keystore, hierarchy=hierarchy
    )
    est = assemble_est(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        hierarchy=hierarchy,
        register=register,
        registration=registration,
        issuance=issuance,
    )
    trust_lists = TrustLists(
        settings=settings,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        hierarchy=hierarchy,
        register=register,
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
        check=Check(
            database=database,
            clock=clock,
            register=register,
            hierarchy=hierarchy,
            crls=crls,
            linter=linter,
            intent_expiry=timedelta(seconds=settings.intent_expiry_seconds),
        ),
        reconciliation=Reconciliation(
            database=database, audit=audit, outbox=outbox, clock=clock, hierarchy=hierarchy
        ),
        revocation=Revocation(database=database, audit=audit, outbox=outbox, clock=clock),
        mass_revocation=MassRevocation(
            database=database, audit=audit, outbox=outbox, clock=clock, crls=crls, approvals=approvals
        ),
        status_changes=StatusChanges(
            database=database, outbox=outbox, clock=clock, crls=crls, hierarchy=hierarchy
        ),
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
            subordination=subordination,
        ),
        drafting=Drafting(settings=settings, database=database, hierarchy=hierarchy, register=register),
        previews=Previews(settings=settings, clock=clock, hierarchy=hierarchy, linter=linter),
        subordination=subordination,
        retirement=Retirement(database=database, audit=audit, clock=clock, hierarchy=hierarchy, crls=crls),
        dual_control=DualControl(approvals),
        est=est,
        trust_lists=trust_lists,
        applications=Applications(
            database=database,
            audit=audit,
            clock=clock,
            registration=registration,
            issuance=issuance,
            register=register,
        ),
        officers=officers,
        approvals=approvals,
        role_changes=RoleChanges(
            database=database,
            audit=audit,
            clock=clock,
            officers=officers,
            approvals=approvals,
            profiles=approved_profiles,
        ),
        approved_profiles=approved_profiles,
        authentication=Authentication(
            settings=settings, database=database, audit=audit, clock=clock, officers=officers
        ),
    )
