"""Names of resources: 22 random characters that a stranger does not guess and a command line takes as they are."""

from __future__ import annotations

import re
import secrets

_FORM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}")


def fresh() -> str:
    """A new name with more than 120 random bits; a hyphen in front would look like an option to a command."""
    while (name := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return name


def is_resource_id(text: str) -> bool:
    """Whether this could name a resource."""
    return bool(_FORM.fullmatch(text))
