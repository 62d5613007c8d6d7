"""Claims about people: which scope gives which, in words a person can read before agreeing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.text import N_
from sso.people import Person
from sso.scopes import OPENID, PROFILE

# A new claim or purpose raises this, and everybody is asked again.
VERSION = 1
# What the protocol itself says; no source of claims about a person may say it in its place.
RESERVED = frozenset(
    (
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "nonce", "cnf", "events"),
        *("auth_time", "acr", "amr", "sid", "at_hash", "c_hash", "s_hash"),
    )
)


@dataclass(frozen=True)
class ConsentItem:
    """One line of the consent page: what is given, its masked value, and what for."""

    what: str
    value: str
    why: str


def claims_for(person: Person, scopes: Iterable[str]) -> dict[str, Any]:
    """What userinfo says about ``person`` beside ``sub`` (OpenID Connect Core 5.4)."""
    if PROFILE not in scopes:
        return {}
    claims = {"name": person.name, "given_name": person.given_name, "mn_display_name": person.display_name}
    if person.family_name:  # Core 5.3.2: a claim without a value is left out
        claims["family_name"] = person.family_name
    return claims


def without_reserved(claims: Mapping[str, Any]) -> dict[str, Any]:
    """``claims`` without anything that only the protocol may say."""
    return {name: value for name, value in claims.items() if name not in RESERVED}


def consent_items(person: Person, scopes: Iterable[str]) -> tuple[ConsentItem, ...]:
    """What the consent page lists; sentences are catalogue keys."""
    items = {
        OPENID: ConsentItem(
            N_("A code that only this service knows you by"), "", N_("So that it recognises you next time")
        ),
        PROFILE: ConsentItem(N_("Your name"), person.display_name, N_("So that it can address you")),
    }
    return tuple(items[scope] for scope in scopes if scope in items)
