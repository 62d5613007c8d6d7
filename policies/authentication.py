"""How sure we are of who somebody is: the ladder of acr values, and what each rung demands (OIDC Core 2, RFC 8176)."""

from __future__ import annotations

from collections.abc import Iterable

LOW = "urn:tamga:loa:low"
SUBSTANTIAL = "urn:tamga:loa:substantial"
HIGH = "urn:tamga:loa:high"

# From weak to strong; the metadata document lists them in this order.
LADDER = (LOW, SUBSTANTIAL, HIGH)

# RFC 8176 values by what they prove: something known, something held, a held key in hardware.
_KNOWLEDGE = frozenset({"pwd", "pin", "kba"})
_POSSESSION = frozenset({"otp", "sms", "swk", "hwk", "pop", "sc"})
_HARDWARE_KEY = frozenset({"hwk", "sc"})


def acr_for(amr: Iterable[str]) -> str | None:
    """The acr reached by these amr values: two factors are SUBSTANTIAL, with a key in hardware HIGH, one is LOW.

    None when nothing was proven.
    """
    methods = frozenset(amr)
    known = methods & _KNOWLEDGE or methods & {"user", "fpt", "face"}
    held = methods & _POSSESSION
    if known and methods & _HARDWARE_KEY:
        return HIGH
    if known and held:
        return SUBSTANTIAL
    return LOW if known or held else None


def satisfies(reached: str | None, demanded: str) -> bool:
    """Whether ``reached`` stands at ``demanded`` or above; an acr not on the ladder satisfies and demands nothing."""
    if reached not in LADDER or demanded not in LADDER:
        return False
    return LADDER.index(reached) >= LADDER.index(demanded)
