"""A checksum for revisions no signature covers, kept where the format asks for one: the second file identifier.

ISO 32000-2 14.4 wants that identifier to be computed from the file's contents at its last update. Ours is the first
half of a SHA-256 over the appended revision, written twice, so that a checker sees damage to either copy. It finds
accidents and careless edits; against a forger only signatures and document time-stamps help, and nobody relies on it
for more.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum

IDENTIFIER_OCTETS = 32
_HALF = IDENTIFIER_OCTETS  # hexadecimal digits of one copy
_IDENTIFIER = re.compile(rb"/ID\s*\[\s*<([^<>\[\]]*)>\s*<([^<>\[\]]*)>\s*\]")


class Checksum(Enum):
    """What the second identifier of a revision says about it."""

    HOLDS = "holds"
    BROKEN = "broken"
    FOREIGN = "foreign"  # another producer's identifier, no checksum


def sealed(revision: bytes) -> bytes:
    """The appended revision with its checksum in place of the identifier of 32 octets that it was written with."""
    found = _last(revision)
    if found is None or found.end(2) - found.start(2) != 2 * IDENTIFIER_OCTETS:
        return revision
    return revision[: found.start(2)] + _checksum(revision, found) * 2 + revision[found.end(2) :]


def check(revision: bytes) -> Checksum:
    """Compare an appended revision with its checksum."""
    found = _last(revision)
    if found is None:
        return Checksum.FOREIGN
    stated = found.group(2).lower()
    if len(stated) != 2 * IDENTIFIER_OCTETS:
        return Checksum.FOREIGN
    expected = _checksum(revision, found)
    if found.group(2) == expected * 2:
        return Checksum.HOLDS
    ours = expected in (stated[:_HALF], stated[_HALF:]) or stated[:_HALF] == stated[_HALF:]
    return Checksum.BROKEN if ours else Checksum.FOREIGN


def _last(revision: bytes) -> re.Match[bytes] | None:
    found = None
    for found in _IDENTIFIER.finditer(revision):  # noqa: B007 - the last one is wanted
        pass
    return found


def _checksum(revision: bytes, found: re.Match[bytes]) -> bytes:
    hasher = hashlib.sha256(revision[: found.start(2)])
    hasher.update(revision[found.end(2) :])
    return hasher.hexdigest()[:_HALF].encode("ascii")
