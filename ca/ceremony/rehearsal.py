"""A rehearsal: the same plan, by the same code, on a throw-away SoftHSM token and an empty database in a folder that
is gone afterwards. The authorities that the plan builds on are stood in for by others of the same name.

One process loads a PKCS#11 module for one configuration: rehearse in a process that does not use its own token.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ca.parts
from ca.ceremony.plan import AcceptanceStep, DestructionStep, Plan
from ca.ceremony.transcript import Transcript
from ca.ceremony.writing import ceremony_file
from ca.errors import CeremonyPlanRefused
from ca.hierarchy import Hierarchy
from ca.linting import Linter
from ca.register import Register
from ca.settings import CaSettings
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from hsm.keystore import initialise_token, open_keystore
from hsm.settings import HsmSettings
from policies import names
from policies.keys import algorithm_name

ACTOR = "rehearsal"
STAND_INS = "stand-ins"


def stand_ins(plan: Plan, hierarchy: Hierarchy, register: Register) -> str | None:
    """A ceremony file that makes authorities in place of those the plan builds on; None when it builds on none."""
    rows: dict[str, Mapping[str, Any]] = {}
    for slug in sorted(plan.standing()):
        for authority in reversed(hierarchy.chain(slug)):
            rows[authority.slug] = {
                "slug": authority.slug,
                "purpose": authority.purpose,
                "issuer": authority.issuer,
                "profile": register.get(authority.certificate_id).profile,
                "key": algorithm_name(authority.public_key),
                "subject": dict(names.read_name(authority.name)),
            }
    if not rows:
        return None
    head = {"name": STAND_INS, "kind": "hierarchy", "policy_url": plan.policy_url}
    return ceremony_file({**head, "authority": list(rows.values())})


def rehearse(
    text: str, settings: CaSettings, clock: Clock, *, standing_in: str | None, token: str, transcript: Transcript
) -> Plan:
    """Hold the plan where nothing can be lost. ``standing_in`` is what ``stand_ins`` gave, ``token`` the label.

    Raises CeremonyPlanRefused for a plan that needs the very keys it speaks of, and whatever a ceremony raises.
    """
    with tempfile.TemporaryDirectory(prefix="tamga-rehearsal-") as name:
        folder = Path(name)
        hsm = HsmSettings(pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf", token_label=token)
        initialise_token(hsm, secrets.token_urlsafe(18))
        keystore, database = open_keystore(hsm), Database(f"sqlite:///{folder / 'rehearsal.sqlite3'}")
        try:
            database.create_all()
            parts = ca.parts.assemble(
                settings=settings,
                database=database,
                audit=AuditLog(clock),
                clock=clock,
                keystore=keystore,
                linter=Linter(on_loopback=settings.on_loopback, full_lint_one_in=1),
            )
            if standing_in is not None:
                parts.ceremony.hold(parts.ceremony.read(standing_in), actor=ACTOR, rehearsal=True)
            plan = parts.ceremony.read(text)
            if any(isinstance(step, AcceptanceStep | DestructionStep) for step in plan.steps):
                raise CeremonyPlanRefused("this ceremony needs the very key it speaks of and cannot be rehearsed")
            parts.ceremony.hold(plan, actor=ACTOR, transcript=transcript, rehearsal=True)
        finally:
            keystore.close()
            database.close()
    return plan
