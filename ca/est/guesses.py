"""The brake on guessing secrets, for each permit's name and for each address."""

from __future__ import annotations

from ca.est.errors import TooManyGuesses
from core.one_time import OneTimeStore

MAX_WRONG = 10
MAX_WRONG_OF_ADDRESS = 30
WINDOW_SECONDS = 900


class Guesses:
    """Counts wrong secrets; after too many a name or address is refused until the window ends, right secret or not."""

    def __init__(self, one_time: OneTimeStore) -> None:
        self._one_time = one_time

    def check(self, name: str, address: str) -> None:
        """Raise TooManyGuesses when the name or the address has to wait."""
        if any(self._one_time.peek("est-braked", key) is not None for key in _keys(name, address)):
            raise TooManyGuesses(f"too many wrong secrets; wait up to {WINDOW_SECONDS // 60} minutes")

    def wrong(self, name: str, address: str) -> None:
        """Note a wrong secret."""
        for key, most in zip(_keys(name, address), (MAX_WRONG, MAX_WRONG_OF_ADDRESS), strict=True):
            if self._one_time.count("est-guesses", key, ttl=WINDOW_SECONDS) >= most:
                self._one_time.put("est-braked", key, {}, ttl=WINDOW_SECONDS)


def _keys(name: str, address: str) -> tuple[str, str]:
    # A stranger chooses the name: its length must not become the store's.
    return f"name:{name[:64]}", f"address:{address}"
