"""The reader's language is found, and every sentence has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.text import N_, Catalogue, choose_language


@pytest.mark.parametrize(
    ("wishes", "language"),
    [
        ((), "mn"),
        ((None, ""), "mn"),
        (("fr, de;q=0.5",), "mn"),
        (("en",), "en"),
        (("EN-gb",), "en"),
        (("mn-Cyrl-MN, en;q=0.8",), "mn"),
        (("en-GB,en;q=0.9,mn;q=0.8",), "en"),
        (("en;q=0.1, mn;q=0.9",), "mn"),
        (("en;q=0.1 , mn ; q=0.9",), "mn"),
        (("en;q=0, mn;q=0.1",), "mn"),
        (("mn;q=0, en",), "en"),
        (("fr, en;q=0.3",), "en"),
        (("mn en",), "mn"),
        (("fr en mn",), "en"),
        ((None, "en", "mn"), "en"),
        (("fr", "en"), "en"),
        (("*",), "mn"),
        (("english",), "mn"),
        (("\x00;;;q=,,, q=1",), "mn"),
    ],
)
def test_the_reader_gets_the_language_asked_for(wishes: tuple[str | None, ...], language: str) -> None:
    assert choose_language(*wishes) == language


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    header = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    for room, text in {
        "sso": 'msgid "Welcome, %(name)s"\nmsgstr "Тавтай морил, %(name)s"\n\nmsgid "Empty"\nmsgstr ""\n',
        "signing": 'msgid "Sign"\nmsgstr "Гарын үсэг"\n\n#, fuzzy\nmsgid "Seal"\nmsgstr "Гарын үсэг"\n\n'
        'msgid "100% sure"\nmsgstr "100% итгэлтэй"\n',
    }.items():
        path = tmp_path / "mn" / f"{room}.po"
        path.parent.mkdir(exist_ok=True)
        path.write_text(header + text, "utf-8")
    return Catalogue([tmp_path, tmp_path / "absent"])


def test_a_sentence_is_said_in_the_readers_language_with_its_values(catalogue: Catalogue) -> None:
    assert catalogue.translate("Welcome, %(name)s", "mn", {"name": "Өнөр"}) == "Тавтай морил, Өнөр"
    assert catalogue.translate("Welcome, %(name)s", "en", {"name": "Önör"}) == "Welcome, Önör"


def test_every_rooms_catalogue_is_read(catalogue: Catalogue) -> None:
    assert catalogue.translate(N_("Sign"), "mn") == "Гарын үсэг"
    assert catalogue.has("Sign", "mn")


@pytest.mark.parametrize("message", ["Empty", "Seal", "Never heard of"])
def test_what_is_not_translated_or_only_guessed_stays_english(catalogue: Catalogue, message: str) -> None:
    assert catalogue.translate(message, "mn") == message
    assert not catalogue.has(message, "mn")


def test_a_percent_sign_without_values_is_a_percent_sign(catalogue: Catalogue) -> None:
    assert catalogue.translate("100% sure", "mn") == "100% итгэлтэй"


def test_an_unknown_language_is_english(catalogue: Catalogue) -> None:
    assert catalogue.translate("Sign", "xx") == "Sign"
