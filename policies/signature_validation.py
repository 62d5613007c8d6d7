"""Signature validation policies: what a finding means, which algorithms hold until when, how fresh evidence must be.

Each policy is a data file with an id and a version; its digest stands in every report, so that a verdict can be
repeated years later. A published version never changes. EN 319 102-1 5.1.4 (validation constraints).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

_FOLDER = Path(__file__).parent / "validation"
_KEYS = frozenset({"id", "version", "valid_from", "minimum_level", "revocation", "algorithms", "checks"})
LEVELS = ("B-B", "B-T", "B-LT", "B-LTA")


class PolicyNotFound(LookupError):
    """No policy of this id is shipped."""


class PolicyMalformed(ValueError):
    """A policy file says something no policy can say."""


class Severity(StrEnum):
    """What becomes of a finding: it decides the verdict, warns, is told, or is not mentioned."""

    FAIL = "FAIL"
    WARN = "WARN"
    INFORM = "INFORM"
    IGNORE = "IGNORE"


@dataclass(frozen=True)
class SignatureValidationPolicy:
    """One version of one policy. ``digest`` is the hexadecimal SHA-256 of its file."""

    id: str
    version: str
    valid_from: date
    digest: str
    minimum_level: str
    maximum_age: timedelta | None  # of revocation evidence; None: the issuer's next update decides
    time_stamp_evidence_at_token: bool  # evidence about a time-stamping authority is judged at the token's time
    checks: Mapping[str, Severity]
    hashes: Mapping[str, date | None]  # last day a hash is accepted; None: no end is set
    rsa_bits: tuple[tuple[int, date | None], ...]  # (smallest size, last day), weakest first
    curve_bits: tuple[tuple[int, date | None], ...]

    def severity(self, finding: str) -> Severity:
        """What this policy makes of a finding; one it does not know fails."""
        return self.checks.get(finding, Severity.FAIL)

    def hash_accepted(self, name: str, at: datetime) -> bool:
        """Whether a hash (hashlib's name) is accepted at that moment."""
        return name in self.hashes and _not_over(self.hashes[name], at)

    def key_accepted(self, kind: str, bits: int, at: datetime) -> bool:
        """Whether a key (``rsa`` or ``ec``) of that size is accepted at that moment; other kinds have one size."""
        steps = {"rsa": self.rsa_bits, "ec": self.curve_bits}.get(kind)
        return steps is None or any(bits >= smallest and _not_over(last, at) for smallest, last in steps)


@cache
def load_policy(policy_id: str) -> SignatureValidationPolicy:
    """The shipped policy of that id. Raises PolicyNotFound, PolicyMalformed."""
    if policy_id not in policy_ids():
        raise PolicyNotFound(policy_id)
    return parse_policy((_FOLDER / f"{policy_id}.toml").read_bytes())


@cache
def policy_ids() -> frozenset[str]:
    """Ids of the policies that are shipped."""
    return frozenset(path.stem for path in _FOLDER.glob("*.toml"))


def parse_policy(data: bytes) -> SignatureValidationPolicy:
    """Read a policy file. Raises PolicyMalformed."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
        return _policy(table, hashlib.sha256(data).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyMalformed(str(error)) from error


def _policy(table: Mapping[str, Any], digest: str) -> SignatureValidationPolicy:
    if unknown := set(table) - _KEYS:
        raise PolicyMalformed(f"unknown keys: {', '.join(sorted(unknown))}")
    revocation, algorithms = table["revocation"], table["algorithms"]
    if table["minimum_level"] not in LEVELS:
        raise PolicyMalformed("minimum_level is not a level")
    hours = revocation["maximum_age_hours"]
    return SignatureValidationPolicy(
        id=table["id"],
        version=table["version"],
        valid_from=table["valid_from"],
        digest=digest,
        minimum_level=table["minimum_level"],
        maximum_age=None if hours == "next-update" else timedelta(hours=hours),
        time_stamp_evidence_at_token={"token": True, "now": False}[revocation["time_stamp_evidence_at"]],
        checks=MappingProxyType({name: Severity(value) for name, value in table["checks"].items()}),
        hashes=MappingProxyType({name: _last_day(value) for name, value in algorithms["hashes"].items()}),
        rsa_bits=tuple((step["bits"], _last_day(step["until"])) for step in algorithms["rsa"]),
        curve_bits=tuple((step["bits"], _last_day(step["until"])) for step in algorithms["ec"]),
    )


def _last_day(value: date | str) -> date | None:
    if value == "open":
        return None
    if not isinstance(value, date):
        raise PolicyMalformed(f"{value!r} is neither a date nor 'open'")
    return value


def _not_over(last: date | None, at: datetime) -> bool:
    return last is None or at.astimezone(UTC).date() <= last
