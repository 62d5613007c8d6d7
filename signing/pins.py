"""Which signing PINs may be chosen."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise

from signing.errors import PinMismatch, PinWeak

MIN_DIGITS = 6
MAX_DIGITS = 12
_SHAPE = re.compile(rf"[0-9]{{{MIN_DIGITS},{MAX_DIGITS}}}")
# Birthdays and the like, in the orders people write them.
_DATES = {6: ("%d%m%y", "%y%m%d"), 8: ("%d%m%Y", "%Y%m%d")}


def check_new_pin(pin: str, repeated: str) -> None:
    """Refuse a PIN that is misshapen, easily guessed or typed differently the second time.

    Raises PinWeak, PinMismatch; neither says the digits.
    """
    if not _SHAPE.fullmatch(pin):
        raise PinWeak(f"a PIN has {MIN_DIGITS} to {MAX_DIGITS} digits")
    if pin != repeated:
        raise PinMismatch("the two PINs differ")
    if _repeats(pin) or _runs(pin) or _is_date(pin):
        raise PinWeak("this PIN is among the first that strangers try")


def _repeats(pin: str) -> bool:
    """One block over and over: 000000, 121212, 123123, also with a cut last block."""
    return any(pin == (pin[:size] * len(pin))[: len(pin)] for size in range(1, len(pin) // 2 + 1))


def _runs(pin: str) -> bool:
    """Up or down by one throughout, past 9 as well: 234567, 987654, 789012."""
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    return steps in ({1}, {9})


def _is_date(pin: str) -> bool:
    return any(_parses(pin, form) for form in _DATES.get(len(pin), ()))


def _parses(pin: str, form: str) -> bool:
    try:
        year = datetime.strptime(pin, form).year  # noqa: DTZ007 - only whether it is a day
    except ValueError:
        return False
    return 1900 <= year <= 2099
