"""Lists of keys that everybody can know: what Debian's OpenSSL made from 2006 to 2008 (CVE-2008-0166, BR 6.1.1.3).

A list has the form of Debian's package openssl-blacklist (openssl-vulnkey(1)): lines of twenty hexadecimal digits, the
last 80 bits of SHA-1 over ``Modulus=<upper-case hexadecimal>`` and a line end; comments begin with ``#``. No list comes
with this program: the operator names files.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

_OCTETS = 10
_LINE = re.compile(r"[0-9a-f]{20}")


class WeakKeyListMalformed(ValueError):
    """A line of a list is neither a fingerprint nor a comment."""


class WeakKeys:
    """Moduli that are never certified. Kept as sorted octets: ten for each key, whatever their number."""

    def __init__(self, fingerprints: Iterable[bytes] = ()) -> None:
        self._sorted = tuple(sorted(set(fingerprints)))

    def __len__(self) -> int:
        return len(self._sorted)

    def holds(self, modulus: int) -> bool:
        """Whether the modulus is on a list."""
        sought = fingerprint(modulus)
        position = bisect_left(self._sorted, sought)
        return position < len(self._sorted) and self._sorted[position] == sought


def fingerprint(modulus: int) -> bytes:
    """How the lists name a modulus: the last ten octets of SHA-1 over the line that ``openssl -modulus`` prints."""
    return hashlib.sha1(f"Modulus={modulus:X}\n".encode(), usedforsecurity=False).digest()[-_OCTETS:]


def read_weak_keys(paths: Iterable[Path]) -> WeakKeys:
    """The lists in these files together. Raises OSError, and WeakKeyListMalformed with the line that is wrong."""
    return WeakKeys(found for path in paths for found in _read(path))


def _read(path: Path) -> Iterable[bytes]:
    with path.open(encoding="ascii") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if text.startswith("#") or not text:
                continue
            if not _LINE.fullmatch(text):
                raise WeakKeyListMalformed(f"{path.name}, line {number}: not twenty hexadecimal digits")
            yield bytes.fromhex(text)
