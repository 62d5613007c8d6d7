"""Register numbers: the shape, the calendar, and every trap of Mongolian Cyrillic."""

from __future__ import annotations

import unicodedata
from datetime import date

import pytest

from policies.register_number import RegisterNumberRefused, Replacement, mask, parse

TODAY = date(2026, 9, 20)


@pytest.mark.parametrize(
    ("text", "value", "born", "sex"),
    [
        ("ЪА85041512", "ЪА85041512", date(1985, 4, 15), "male"),
        ("ЪӨ92113024", "ЪӨ92113024", date(1992, 11, 30), "female"),
        ("ЪҮ99123130", "ЪҮ99123130", date(1999, 12, 31), "male"),
        ("ЪЁ00210141", "ЪЁ00210141", date(2000, 1, 1), "female"),
        ("ЪЙ04222915", "ЪЙ04222915", date(2004, 2, 29), "male"),
        ("ЪА00222912", "ЪА00222912", date(2000, 2, 29), "male"),
        (" ъа-8504 1512 ", "ЪА85041512", date(1985, 4, 15), "male"),
    ],
)
def test_a_register_number_is_read(text: str, value: str, born: date, sex: str) -> None:
    number = parse(text, today=TODAY)
    assert (number.value, number.birth_date, number.sex, number.replacements) == (value, born, sex, ())


@pytest.mark.parametrize("letters", ["ЪЙ", "ЪЁ"])
def test_decomposed_letters_are_composed_first(letters: str) -> None:
    typed = unicodedata.normalize("NFD", letters) + "04222915"
    assert len(typed) == 11
    assert parse(typed, today=TODAY).value == letters + "04222915"


@pytest.mark.parametrize(
    ("text", "value", "replacement"),
    [
        ("ъo 83022826", "ЪО83022826", Replacement("O", "О")),
        ("ЪЄ92113024", "ЪӨ92113024", Replacement("Є", "Ө")),
        ("ЪѲ92113024", "ЪӨ92113024", Replacement("Ѳ", "Ө")),
        ("ЪЇ92113024", "ЪҮ92113024", Replacement("Ї", "Ү")),
    ],
)
def test_a_replaced_letter_is_told(text: str, value: str, replacement: Replacement) -> None:
    number = parse(text, today=TODAY)
    assert (number.value, number.replacements) == (value, (replacement,))


@pytest.mark.parametrize(("typed", "taken"), list(zip("ABCEHKMOPTX", "АВСЕНКМОРТХ", strict=True)))
def test_every_latin_twin_is_taken_for_its_cyrillic_letter(typed: str, taken: str) -> None:
    assert parse(f"Ъ{typed}85041512", today=TODAY).value == f"Ъ{taken}85041512"


@pytest.mark.parametrize("letter", "АБВГДЕЁЖЗИЙКЛМНОӨПРСТУҮФХЦЧШЩЪЫЬЭЮЯ")
def test_all_35_letters_are_letters(letter: str) -> None:
    assert parse(f"Ъ{letter}85041512", today=TODAY).value == f"Ъ{letter}85041512"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ЪY92113024", "regnum.ambiguous_letter"),
        ("ЪV92113024", "regnum.ambiguous_letter"),
        ("UA85041512", "regnum.letters"),
        ("Ъ185041512", "regnum.letters"),
        ("ЪІ85041512", "regnum.letters"),
        ("ЪА85O41512", "regnum.digits"),
        ("ЪА850415᠑᠒", "regnum.digits"),
        ("ЪА850415１２", "regnum.digits"),
        ("ЪА85131512", "regnum.month"),
        ("ЪА85331512", "regnum.month"),
        ("ЪА85001512", "regnum.month"),
        ("ЪА85201512", "regnum.month"),
        ("ЪА00022912", "regnum.day"),
        ("ЪА85043112", "regnum.day"),
        ("ЪА85040012", "regnum.day"),
        ("ЪА26322118", "regnum.future"),
        ("ЪА8504151", "regnum.length"),
        ("ЪА850415123", "regnum.length"),
        ("", "regnum.empty"),
        (" - ", "regnum.empty"),
    ],
)
def test_what_is_no_register_number_is_refused_with_its_code(text: str, code: str) -> None:
    with pytest.raises(RegisterNumberRefused) as caught:
        parse(text, today=TODAY)
    assert caught.value.code == code
    assert not text.strip(" -") or text not in str(caught.value)


def test_a_trailing_line_feed_is_a_space_and_no_eleventh_character() -> None:
    assert parse("ЪА85041512\n", today=TODAY).value == "ЪА85041512"


def test_today_is_not_the_future() -> None:
    assert parse("ЪА26322118", today=date(2026, 12, 21)).birth_date == date(2026, 12, 21)
    with pytest.raises(RegisterNumberRefused):
        parse("ЪА26322118", today=date(2026, 12, 20))


def test_the_number_is_masked_on_pages_and_absent_from_its_repr() -> None:
    number = parse("ЪА85041512", today=TODAY)
    assert number.masked == mask("ЪА85041512") == "ЪА••••••12"
    assert "85041512" not in repr(number) and "1985" not in repr(number)
