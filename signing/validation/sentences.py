"""The sentences of reports, in Mongolian and English, from the data file beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("mn", "en")


@cache
def catalogue() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Everything the file holds: section, name, then language or ``next``."""
    data = (resources.files("signing.validation") / "sentences.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(data)
    return loaded


def sentence(section: str, name: str, language: str) -> str:
    """One sentence; an unknown language reads Mongolian. Raises KeyError for a name without sentences."""
    entry = catalogue()[section][name]
    return entry[language if language in LANGUAGES else "mn"]


def next_step(section: str, name: str, language: str, *, time: str = "") -> str:
    """What the reader may do now."""
    return sentence("next_step", catalogue()[section][name]["next"], language).format(time=time)
