"""Until which day an algorithm may be relied on: the one table of end dates (ETSI TS 119 312)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

# ETSI's tables are reviewed yearly; the date for RSA below 3000 bits is to be compared with the edition in force.
# Last day on which a signature made with it is still accepted as strong. TS 119 312 gives "until the end of" years;
# None means that no end is known. What is not listed is not accepted.
KEY_ALGORITHMS: Mapping[str, date | None] = {
    "P-256": None,
    "P-384": None,
    "P-521": None,
    "RSA-2048": date(2028, 12, 31),
    "RSA-3072": None,
    "RSA-4096": None,
}
DIGESTS: Mapping[str, date | None] = {"sha256": None, "sha384": None, "sha512": None}


def key_algorithm_good_until(name: str, day: date) -> bool:
    """Whether keys of this kind may still sign on ``day``. An RSA key counts as the largest listed size it reaches."""
    listed = _listed(name)
    if listed is None:
        return False
    end = KEY_ALGORITHMS[listed]
    return end is None or day <= end


def digest_good_until(name: str, day: date) -> bool:
    """Whether a digest of this name (``sha256``) may still be used on ``day``."""
    if name not in DIGESTS:
        return False
    end = DIGESTS[name]
    return end is None or day <= end


def _listed(name: str) -> str | None:
    if not name.startswith("RSA-"):
        return name if name in KEY_ALGORITHMS else None
    bits = int(name.removeprefix("RSA-"))
    sizes = [int(known.removeprefix("RSA-")) for known in KEY_ALGORITHMS if known.startswith("RSA-")]
    reached = [size for size in sizes if size <= bits]
    return f"RSA-{max(reached)}" if reached else None
