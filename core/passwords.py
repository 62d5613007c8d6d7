"""Passwords and PINs: Argon2id in a bounded number of slots, so that hashing never starves everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import Unavailable

# OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB of memory, two passes, one lane.
TIME_COST = 2
MEMORY_COST_KIB = 19 * 1024
PARALLELISM = 1
# A hash of today's parameters that no secret has: the zeros stand where 16 octets of salt and 32 of hash would.
NOBODY = f"$argon2id$v=19$m={MEMORY_COST_KIB},t={TIME_COST},p={PARALLELISM}${'A' * 22}${'A' * 43}"

T = TypeVar("T")


class Passwords:
    """Hashes and checks secrets that people remember.

    ``slots`` hashes run at a time; a caller waits ``patience`` seconds for a slot, then Unavailable is raised.
    """

    def __init__(self, *, slots: int = 2, patience: float = 10.0) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST_KIB, parallelism=PARALLELISM)
        self._slots = threading.BoundedSemaphore(slots)
        self._patience = patience

    def hash(self, secret: str) -> str:
        """The encoded Argon2id hash of ``secret``, with its salt and parameters."""
        return self._slotted(lambda: self._hasher.hash(_octets(secret)))

    def verify(self, encoded: str, secret: str) -> bool:
        """Whether ``secret`` is what ``encoded`` was made from."""

        def check() -> bool:
            try:
                return self._hasher.verify(encoded, _octets(secret))
            except (VerificationError, InvalidHashError):
                return False

        return self._slotted(check)

    def spend(self, secret: str) -> None:
        """Do the work of a check that cannot succeed: an unknown person costs the same time as a wrong secret."""
        self.verify(NOBODY, secret)

    def outdated(self, encoded: str) -> bool:
        """Whether ``encoded`` was made with other parameters than today's and should be made anew."""
        return self._hasher.check_needs_rehash(encoded)

    def _slotted(self, work: Callable[[], T]) -> T:
        if not self._slots.acquire(timeout=self._patience):
            raise Unavailable("too many sign-ins at once, try again shortly")
        try:
            return work()
        finally:
            self._slots.release()


def _octets(secret: str) -> bytes:
    # A lone surrogate, which JSON can carry, is a wrong password and no failure of ours.
    return secret.encode("utf-8", "surrogatepass")
