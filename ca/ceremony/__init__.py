"""Key ceremonies: one declarative file names every key and certificate that is to be, and is carried out once."""

from __future__ import annotations

from ca.ceremony.conduct import Ceremony
from ca.ceremony.plan import DEFAULT_PLAN, Plan, read_plan

__all__ = ["DEFAULT_PLAN", "Ceremony", "Plan", "read_plan"]
