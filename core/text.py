"""Sentences people read: English in the code, Mongolian in the catalogues, picked by the reader's language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from babel.messages.pofile import read_po

LANGUAGES = ("mn", "en")
DEFAULT_LANGUAGE = "mn"


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for "translate later"
    """Mark a sentence for the catalogue without translating it yet."""
    return message


class Catalogue:
    """Every room's sentences, read once from ``<folder>/<language>/*.po``."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._messages: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
        for folder in folders:
            for language in LANGUAGES:
                for path in sorted((folder / language).glob("*.po")):
                    self._messages[language].update(_read(path))

    def translate(self, message: str, language: str, values: Mapping[str, object] | None = None) -> str:
        """``message`` in ``language``; a sentence the catalogue lacks stays English. ``%(name)s`` are filled in."""
        found = self._messages.get(language, {}).get(message) or message
        return found % dict(values) if values else found

    def has(self, message: str, language: str) -> bool:
        """Whether the catalogue of ``language`` holds ``message``."""
        return message in self._messages[language]


def choose_language(*wishes: str | None) -> str:
    """The language of ours that the first wish with one prefers.

    A wish is an ``Accept-Language`` (``en-GB, mn;q=0.8``; the larger weight wins, then the earlier), or a list in order
    of preference without weights (``mn en``), as OpenID Connect's ``ui_locales``.
    """
    for wish in wishes:
        weighed = [found for part in _WISH.finditer(wish or "") if (found := _weighed(part))]
        if weighed:
            return max(weighed, key=lambda found: found[1])[0]
    return DEFAULT_LANGUAGE


# RFC 9110 12.5.4: a language range with an optional weight.
_WISH = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?(?:[ \t]*;[ \t]*[qQ]=([01](?:\.[0-9]{0,3})?))?")


def _weighed(wish: re.Match[str]) -> tuple[str, float] | None:
    language, weight = wish[1].lower(), float(wish[2] or 1)
    # RFC 9110 12.4.2: a weight of zero is "not acceptable".
    return (language, weight) if language in LANGUAGES and weight > 0 else None


def _read(path: Path) -> dict[str, str]:
    # A fuzzy entry is a guess of a tool's that nobody has read yet.
    with path.open("rb") as file:
        entries = [entry for entry in read_po(file) if entry.id and entry.string and not entry.fuzzy]
    return {str(entry.id): str(entry.string) for entry in entries}
