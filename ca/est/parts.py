"""EST's parts, put together from those of the certificate authority."""

from __future__ import annotations

from dataclasses import dataclass

from ca.est.enrolment import Enrolment
from ca.est.labels import Labels
from ca.est.permits import Permits
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance
from ca.register import Register
from ca.registration import Registration
from ca.settings import CaSettings
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database


@dataclass(frozen=True)
class Est:
    """What the roof and the commands use."""

    labels: Labels
    permits: Permits
    enrolment: Enrolment


def assemble(
    *, settings: CaSettings, database: Database, audit: AuditLog, clock: Clock, hierarchy: Hierarchy,
    register: Register, registration: Registration, issuance: Issuance,
) -> Est:  # fmt: skip
    """Put EST together. Raises LabelUnfit when the settings open a label that is not for machines."""
    labels = Labels(settings.est)
    permits = Permits(
        settings=settings.est, country=settings.country, labels=labels, database=database, audit=audit, clock=clock,
        register=register,
    )  # fmt: skip
    enrolment = Enrolment(
        settings=settings.est, labels=labels, permits=permits, registration=registration, issuance=issuance,
        register=register, hierarchy=hierarchy, audit=audit, clock=clock,
    )  # fmt: skip
    return Est(labels, permits, enrolment)
