"""Every sentence a person can meet is there in Mongolian."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from tests.support.tree import ROOT, files, packages

MONGOLIAN = ROOT / "app" / "translations" / "mn"
# `_` in templates, `N_` where Python hands a sentence to a template.
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
SAME_IN_BOTH = re.compile(r"[A-Za-zА-Яа-яӨөҮүЁё]")


def _extracted(name: Path) -> Iterator[tuple[int, str]]:
    method = "jinja2.ext:babel_extract" if name.suffix == ".html" else "python"
    options = {"silent": "false"}
    for line, message, _comments, _context in extract_from_file(method, ROOT / name, KEYWORDS, (), options):
        for sentence in message if isinstance(message, tuple) else (message,):
            if sentence:
                yield line, sentence


def sentences() -> dict[str, list[str]]:
    """Each English sentence in the packages with the places that say it."""
    said: dict[str, list[str]] = {}
    for name in files():
        if name.parts[0] in packages() and name.suffix in (".py", ".html"):
            for line, sentence in _extracted(name):
                said.setdefault(sentence, []).append(f"{name}:{line}")
    return said


def catalogues() -> dict[str, Catalog]:
    found = {}
    for path in sorted(MONGOLIAN.rglob("*.po")):
        with path.open("rb") as opened:
            found[path.name] = read_po(opened, locale="mn", abort_invalid=True)
    return found


def _entries(catalogue: Catalog) -> Iterator[tuple[str, str, bool]]:
    for entry in catalogue:
        if entry.id:
            identity = entry.id if isinstance(entry.id, str) else entry.id[0]
            translated = entry.string if isinstance(entry.string, str) else " ".join(entry.string)
            yield identity, translated, entry.fuzzy


def test_every_sentence_has_a_mongolian_entry() -> None:
    known = {
        identity for catalogue in catalogues().values() for identity, translated, _ in _entries(catalogue) if translated
    }
    missing = [f"{places[0]}: {sentence}" for sentence, places in sentences().items() if sentence not in known]
    assert not missing


@pytest.mark.parametrize("name", sorted(path.name for path in MONGOLIAN.rglob("*.po")))
def test_a_catalogue_is_complete(name: str) -> None:
    wrong = []
    for identity, translated, fuzzy in _entries(catalogues()[name]):
        if not translated.strip() or fuzzy:
            wrong.append(f"not translated: {identity}")
        elif placeholders(identity) != placeholders(translated):
            wrong.append(f"other placeholders: {identity} / {translated}")
    assert not wrong


def placeholders(sentence: str) -> set[str]:
    percent = set(re.findall(r"%\((\w+)\)[sd]", sentence))
    return percent | {
        field for _, field, _, _ in string.Formatter().parse(re.sub(r"%\(\w+\)[sd]", "", sentence)) if field
    }


def test_one_sentence_has_one_translation() -> None:
    heard: dict[str, dict[str, str]] = {}
    for name, catalogue in catalogues().items():
        for identity, translated, _ in _entries(catalogue):
            heard.setdefault(identity, {})[translated] = name
    assert not {identity: answers for identity, answers in heard.items() if len(answers) > 1}


def test_no_entry_is_left_over() -> None:
    said = set(sentences())
    stale = [
        f"{name}: {identity}"
        for name, c in catalogues().items()
        for identity, _, _ in _entries(c)
        if identity not in said
    ]
    assert not stale
