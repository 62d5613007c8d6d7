"""The status service's knobs."""

from __future__ import annotations

from dataclasses import dataclass

# CA/Browser Forum Baseline Requirements 4.9.9: an answer is valid for 8 hours at least and 10 days at most.
MIN_VALIDITY_SECONDS = 8 * 3600
MAX_VALIDITY_SECONDS = 10 * 24 * 3600
# The baseline's 8 hours count from thisUpdate, so a margin of many minutes would quietly eat into them.
MAX_BACKDATE_SECONDS = 3600


@dataclass(frozen=True)
class OcspSettings:
    """How long answers stand, and how they are kept."""

    # nextUpdate - thisUpdate, exactly; relying parties plan their next question by it.
    validity_seconds: int = 12 * 3600
    # How long one signature serves while the register says the same; below 16 h of validity the baseline wants a new
    # answer before half of it has passed.
    reuse_seconds: int = 5 * 3600
    # thisUpdate lies this far back: validators fix their moment before they fetch (pyHanko tolerates one second) and
    # clocks differ. Never before the status itself began.
    backdate_seconds: int = 300
    # The longest time a shared HTTP cache may repeat an answer: a revocation shows everywhere within this.
    max_age_seconds: int = 10
    # Signed answers kept in each process, about 1.2 kB each.
    cache_entries: int = 20_000
    # How long a responder's certificate and the list of issuers are used before their source is asked again.
    refresh_seconds: int = 30
    # Issuers (slug without generation) whose never-issued serials are answered `revoked` with the extended-revoke
    # extension (RFC 6960 2.2); every other issuer answers `unknown`. Neither ever answers `good`.
    extended_revoke: tuple[str, ...] = ("citizen-sign", "seal")

    def __post_init__(self) -> None:
        """Refuse what the baseline forbids, at the start and not in an answer. Raises ValueError."""
        if not MIN_VALIDITY_SECONDS <= self.validity_seconds <= MAX_VALIDITY_SECONDS:
            raise ValueError("validity_seconds must be between 8 hours and 10 days")
        if not 0 <= self.backdate_seconds <= MAX_BACKDATE_SECONDS:
            raise ValueError("backdate_seconds must be between 0 and 3600")
        if not 0 <= self.reuse_seconds <= self.validity_seconds // 2 - self.backdate_seconds:
            raise ValueError("reuse_seconds must end before half of validity_seconds has passed")
        if min(self.max_age_seconds, self.cache_entries, self.refresh_seconds) < 0:
            raise ValueError("max_age_seconds, cache_entries and refresh_seconds cannot be negative")
