"""The register number (регистрийн дугаар): two Cyrillic letters and eight digits YYMMDDSS.

Only shape and calendar are checked; no public checksum is known. Birth date and sex read from it are hints. The number
changes in a lifetime: it is never a key, never an authenticator, and never stands in a certificate, URL or log.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date

# Latin letters with exactly one Cyrillic twin, and letter forms met in old files.
_TWINS = dict(zip("ABCEHKMOPTXЄѲЇ", "АВСЕНКМОРТХӨӨҮ", strict=True))
_AMBIGUOUS = frozenset("YV")  # У or Ү: ask, never guess
_LETTERS = re.compile("[А-ЯЁӨҮ]{2}")  # [А-Я] alone holds none of Ё, Ө, Ү
_DIGITS = re.compile("[0-9]{8}")  # \d would take Mongolian and full-width digits too


class RegisterNumberRefused(ValueError):
    """The text is no register number; ``code`` begins with ``regnum.``; the text itself is not repeated."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class Replacement:
    """A letter that was typed and the Cyrillic one taken for it."""

    typed: str
    taken: str


@dataclass(frozen=True)
class RegisterNumber:
    """A well-formed register number with its hints."""

    value: str = field(repr=False)
    birth_date: date = field(repr=False)
    sex: str
    replacements: tuple[Replacement, ...] = ()

    @property
    def masked(self) -> str:
        """The form shown on pages: two letters, six dots, the last two digits."""
        return mask(self.value)


def parse(text: str, *, today: date) -> RegisterNumber:
    """Read a register number as people type it. ``today`` is the date in Asia/Ulaanbaatar.

    Raises RegisterNumberRefused with one of the codes ``regnum.empty``, ``.length``, ``.ambiguous_letter``,
    ``.letters``, ``.digits``, ``.month``, ``.day``, ``.future``.
    """
    compact = re.sub(r"[\s-]", "", unicodedata.normalize("NFC", text)).upper()
    compact = unicodedata.normalize("NFC", compact)
    if not compact:
        raise RegisterNumberRefused("regnum.empty", "a register number is needed")
    if len(compact) != 10:
        raise RegisterNumberRefused("regnum.length", "a register number has two letters and eight digits")
    letters, replacements = _letters(compact[:2])
    digits = compact[2:]
    if not _DIGITS.fullmatch(digits):
        raise RegisterNumberRefused("regnum.digits", "eight digits follow the two letters")
    born = _birth_date(digits, today)
    # The tens digit of the last pair: odd for male, even for female.
    sex = "male" if int(digits[6]) % 2 else "female"
    return RegisterNumber(letters + digits, born, sex, replacements)


def mask(value: str) -> str:
    """Two letters, six dots, the last two digits: the middle is the birth date."""
    return f"{value[:2]}••••••{value[-2:]}"


def _letters(typed: str) -> tuple[str, tuple[Replacement, ...]]:
    if _AMBIGUOUS & set(typed):
        raise RegisterNumberRefused("regnum.ambiguous_letter", "is the Latin letter a Cyrillic У or a Ү?")
    taken = "".join(_TWINS.get(letter, letter) for letter in typed)
    if not _LETTERS.fullmatch(taken):
        raise RegisterNumberRefused("regnum.letters", "the first two characters are Mongolian Cyrillic letters")
    return taken, tuple(Replacement(a, b) for a, b in zip(typed, taken, strict=True) if a != b)


def _birth_date(digits: str, today: date) -> date:
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    if 1 <= month <= 12:
        year += 1900
    elif 21 <= month <= 32:
        year, month = year + 2000, month - 20
    else:
        raise RegisterNumberRefused("regnum.month", "the month is 01-12, or 21-32 for births since 2000")
    try:
        born = date(year, month, day)
    except ValueError as error:
        raise RegisterNumberRefused("regnum.day", "there is no such day in the calendar") from error
    if born > today:
        raise RegisterNumberRefused("regnum.future", "the date of birth lies in the future")
    return born
