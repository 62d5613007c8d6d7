"""Nothing of a machine, an index or a secret is in the repository."""

from __future__ import annotations

import re

import pytest

from tests.support.tree import ROOT, text_files

# Written in two halves, so that this file is clean too.
INDEX_ADDRESSES = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "npmjs" + ".org",
    "yarnpkg" + ".com",
    "deb.debian" + ".org",
)
SECRETS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\\?n?\s*[A-Za-z0-9+/]{40}"),
    "an access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a token": re.compile(r"\b(?:ghp|gho|glpat|npm)_[A-Za-z0-9]{30,}\b"),
}


def test_no_file_names_a_package_index() -> None:
    named = [f"{name}: {address}" for name, text in text_files() for address in INDEX_ADDRESSES if address in text]
    assert not named


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    here = re.compile("|".join([re.escape(f"{ROOT}") + r"\b", r"(?<![\w.:/-])/(?:root|home/\w+|work|Users/\w+)/"]))
    found = [f"{name}: {match.group()}" for name, text in text_files() if (match := here.search(text))]
    assert not found


@pytest.mark.parametrize("what", SECRETS)
def test_no_file_holds(what: str) -> None:
    found = [str(name) for name, text in text_files() if SECRETS[what].search(text)]
    assert not found


def test_no_promise_is_left_for_later() -> None:
    later = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    sources = [(name, text) for name, text in text_files() if name.suffix in {".py", ".html", ".toml", ".sh", ".mjs"}]
    assert not [str(name) for name, text in sources if later.search(text)]


def test_every_module_postpones_annotations_and_says_what_it_is_for() -> None:
    silent = []
    for name, text in text_files():
        if name.suffix != ".py" or not text.strip():
            continue
        # A test's names are its promises; the packages and the tests' own tools explain themselves.
        if name.parts[:2] != ("tests", "unit") and not re.match(r'(?:#!.*\n)?(?:#.*\n)*r?"""', text):
            silent.append(f"{name}: no docstring")
        elif name.name != "__init__.py" and "from __future__ import annotations" not in text:
            silent.append(f"{name}: no postponed annotations")
    assert not silent
